"""Workers: one loop for every step.

A `Step` says what one kind of work is; a `Worker` claims what is due, handles it side by side, keeps the leases alive
and lets go when a lease is lost or the service stops. `run_once` is the program, `run` only adds waiting. Waking is a
courtesy: a missed wake costs one idle tick, never a job, because everything that matters is in the rows.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

from structlog.typing import FilteringBoundLogger

from service.clock import Clock, SystemClock
from service.errors import InterruptedWorkError, ReelkeeperError
from service.model import FINAL, State
from service.observer import Handled, Observer, Observers

Pause = Callable[[float], Awaitable[object]]

Name = Literal[
    # submissions, and those in doubt
    "accepted", "refused", "turned away", "in doubt", "resubmitted",
    # polls: what the provider said, in our words
    "running", "completed", "failed", "cancelled", "expired", "unknown word",
    # polls and lists of models
    "unanswered", "listed",
    # deliveries, files, storage and old numbers
    "delivered", "erased", "swept", "forgotten",
    # all of them
    "later", "gave up", "lease lost", "interrupted", "not stored",
]  # fmt: skip
"""What can become of an item. The names are few, because numbers are kept of each; `Outcome.reason` has the details."""

_TELLING = frozenset[Name]({"in doubt", "gave up", "lease lost", "unknown word"})  # somebody may want to look at it
_LAST_WORDS = 2.0  # s, to store what was cut off


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an item, and why: the reason may quote a stranger, and is for the log alone."""

    name: Name
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class About:
    """What the log and the observers are told of an item.

    `attempt` counts from 1; `overdue_ms` is how long it was due when it was taken up, where that is known.
    """

    job: str | None = None
    provider: str | None = None
    delivery: str | None = None
    attempt: int | None = None
    overdue_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How often workers look for what they were not woken for, and renew their leases, in seconds of the machine."""

    idle: float = 1.0
    renew_every: float = 20.0


class Item(Protocol):
    """What can be claimed: a row with a name."""

    @property
    def id(self) -> str:
        """The row's id."""
        ...


T = TypeVar("T", bound=Item)


class Step(Protocol[T]):
    """One kind of work on rows that wait in a table."""

    name: str

    async def claim(self, limit: int) -> Sequence[T]:
        """Lease at most `limit` rows that are due."""
        ...

    async def renew(self, item: T) -> bool:
        """Keep the lease; False when it was lost."""
        ...

    def about(self, item: T) -> About:
        """Say what the item is about."""
        ...

    async def handle(self, item: T) -> Outcome:
        """Do the work and store its outcome; return that."""
        ...

    async def failed(self, item: T, error: Exception) -> Outcome:
        """Reschedule or give up after `handle` raised, or (InterruptedWorkError) was cut short by our own stopping."""
        ...


class Worker(Generic[T]):
    """Runs one step: at most `concurrency` items at once. `name` tells workers of the same step apart."""

    def __init__(
        self,
        step: Step[T],
        log: FilteringBoundLogger,
        *,
        concurrency: int,
        name: str | None = None,
        rhythm: Rhythm | None = None,
        pause: Pause = asyncio.sleep,
        clock: Clock | None = None,
        observer: Observer | None = None,
    ) -> None:
        self.name = name or step.name
        self.step = step.name
        self.trouble: str | None = None
        """What keeps this worker from working, in words; None when it is well."""
        self._step = step
        self._log = log.bind(step=step.name)
        self._concurrency = concurrency
        self._rhythm = rhythm or Rhythm()
        self._pause = pause
        self._clock = clock or SystemClock()
        self._observer = observer or Observers()
        self._awake = asyncio.Event()
        self._stopping = False
        self._claiming = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def wake(self) -> None:
        """Look for work now rather than at the next idle tick."""
        self._awake.set()

    async def run_once(self) -> int:
        """Claim what is due, handle it to its end, and return how many items that were."""
        tasks = await self._start()
        await asyncio.gather(*tasks)
        return len(tasks)

    async def run(self) -> None:
        """Work until `stop` is called."""
        while not self._stopping:
            self._awake.clear()
            try:
                started = await self._start()
                self.trouble = None
            except ReelkeeperError as error:
                self.trouble = str(error)
                self._log.error("worker.cannot_claim", error=str(error))
                started = []
            if not started:
                await self._wait()

    async def stop(self, grace: float) -> None:
        """Claim nothing more; give what is under way `grace` seconds to finish, and 2 s to store its interruption."""
        self._stopping = True
        self.wake()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                async with self._claiming:  # what is being claimed just now is under way, too
                    pass
                if self._tasks:
                    await asyncio.wait(self._tasks)
        left = set(self._tasks)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=_LAST_WORDS)

    async def _start(self) -> list[asyncio.Task[None]]:
        async with self._claiming:
            room = self._concurrency - len(self._tasks)
            if room <= 0 or self._stopping:
                return []
            started = [asyncio.create_task(self._work(item)) for item in await self._step.claim(room)]
            for task in started:
                self._tasks.add(task)
                task.add_done_callback(self._done)
        return started

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self.wake()  # there is room again

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._rhythm.idle):
                await self._awake.wait()
        except TimeoutError:
            pass

    async def _work(self, item: T) -> None:
        begun_at, begun = self._clock.now(), time.monotonic()
        handling = asyncio.ensure_future(self._step.handle(item))
        keeping = asyncio.create_task(self._keep(item, handling))
        try:
            outcome, error = await self._outcome(item, handling)
        finally:
            keeping.cancel()
        seconds = time.monotonic() - begun
        about = self._step.about(item)
        self._tell(about, outcome, error, seconds)
        kind = None if error is None else type(error).__name__
        self._observer.handled(Handled(self.step, outcome.name, begun_at, seconds, about.provider, about.job, kind))

    async def _outcome(self, item: T, handling: asyncio.Future[Outcome]) -> tuple[Outcome, Exception | None]:
        """Return what became of the item, and what was raised on the way."""
        error: Exception
        try:
            return await handling, None
        except asyncio.CancelledError:
            if not self._stopping:
                return Outcome("lease lost"), None
            handling.cancel()
            await asyncio.gather(handling, return_exceptions=True)
            error = InterruptedWorkError("the service is stopping")
        except Exception as raised:  # noqa: BLE001 - a fault of ours in one item must not stop the others
            error = raised
        try:
            return await self._step.failed(item, error), error
        except Exception as worse:  # noqa: BLE001 - the lease lapses and somebody takes the item up again
            ours = error if not isinstance(error, ReelkeeperError) else worse  # whose traceback is worth more
            return Outcome("not stored", f"{type(worse).__name__}: {worse}"), ours

    def _tell(self, about: About, outcome: Outcome, error: Exception | None, seconds: float) -> None:
        """Write the one line that is about this item."""
        known = error is None or isinstance(error, ReelkeeperError)
        tell = self._log.info
        if not known or outcome.name == "not stored":
            tell = self._log.error
        elif outcome.name in _TELLING or (error is not None and not isinstance(error, InterruptedWorkError)):
            tell = self._log.warning
        line = {
            "job": about.job,
            "provider": about.provider,
            "delivery": about.delivery,
            "attempt": about.attempt,
            "overdue_ms": about.overdue_ms,
            "outcome": outcome.name,
            "reason": outcome.reason,
            "kind": None if error is None else type(error).__name__,
            "error": None if error is None else str(error),
            "exc_info": None if known else error,
        }
        told = {key: value for key, value in line.items() if value is not None}
        tell("worker.handled", **told, ms=round(seconds * 1000))

    async def _keep(self, item: T, handling: asyncio.Future[Outcome]) -> None:
        while True:
            await self._pause(self._rhythm.renew_every)
            try:
                kept = await self._step.renew(item)
            except ReelkeeperError as error:
                self._log.warning("worker.cannot_renew", job=self._step.about(item).job, error=str(error))
                continue
            if not kept:
                handling.cancel()
                return


def waker(workers: Collection[Worker[Any]]) -> Callable[[State], None]:
    """Return what wakes the workers whose turn it is when a job has entered a state."""
    owners = {State.QUEUED: "submit", State.RUNNING: "poll", State.MIRRORING: "mirror"} | dict.fromkeys(FINAL, "notify")

    def announce(state: State) -> None:
        for worker in workers:
            if worker.step == owners.get(state):
                worker.wake()

    return announce


class Supervisor:
    """Runs workers side by side, starts one again that dies, and knows how each one is."""

    def __init__(
        self, workers: Sequence[Worker[Any]], log: FilteringBoundLogger, *, pause: Pause = asyncio.sleep
    ) -> None:
        self._workers = workers
        self._log = log
        self._pause = pause
        self._stopping = False

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stopping

    def trouble(self) -> Mapping[str, str | None]:
        """Return, for each worker, what is wrong with it; None when it is well."""
        return {worker.name: worker.trouble for worker in self._workers}

    async def run(self) -> None:
        """Run every worker until `stop` is called."""
        async with asyncio.TaskGroup() as group:
            for worker in self._workers:
                group.create_task(self._look_after(worker))

    async def stop(self, grace: float) -> None:
        """Stop every worker, giving what is under way `grace` seconds to finish."""
        self._stopping = True
        await asyncio.gather(*(worker.stop(grace) for worker in self._workers))

    async def _look_after(self, worker: Worker[Any]) -> None:
        while not self._stopping:
            try:
                await worker.run()
            except Exception as error:  # noqa: BLE001 - whatever killed it, it must live again
                worker.trouble = f"died of {type(error).__name__}, is being started again"
                self._log.exception("worker.died", step=worker.name)
                await self._pause(1.0)
