"""Workers: one loop for every step.

A `Step` says what one kind of work is; a `Worker` claims what is due, handles it side by side, keeps the leases alive
and lets go when a lease is lost or the service stops. `run_once` is the program, `run` only adds waiting. Waking is a
courtesy: a missed wake costs one idle tick, never a job, because everything that matters is in the rows.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from structlog.typing import FilteringBoundLogger

from service.clock import Clock, SystemClock
from service.errors import InterruptedWorkError, ReelkeeperError
from service.observer import Handled, Observer, Observers

Pause = Callable[[float], Awaitable[object]]

_LAST_WORDS = 2.0  # s, to store what was cut off


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How often workers look for what they were not woken for, and renew their leases, in seconds of the machine."""

    idle: float = 1.0
    renew_every: float = 20.0


class Item(Protocol):
    """What can be claimed: a row with a name."""

    @property
    def id(self) -> str:
        """The row's id, for the log."""
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

    async def handle(self, item: T) -> str:
        """Do the work and store its outcome; return the outcome's name, for the log."""
        ...

    async def failed(self, item: T, error: Exception) -> str:
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
        late = set(self._tasks)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=_LAST_WORDS)

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
            outcome = await self._outcome(item, handling)
        except Exception as error:  # noqa: BLE001 - the lease lapses and somebody takes the item up again
            self._log.error("worker.outcome_not_stored", job=item.id, error=repr(error))
            return
        finally:
            keeping.cancel()
        seconds = time.monotonic() - begun
        self._log.info("worker.handled", job=item.id, outcome=outcome, ms=round(seconds * 1000))
        self._observer.handled(Handled(self.step, outcome.partition(":")[0], begun_at, seconds))

    async def _outcome(self, item: T, handling: asyncio.Future[str]) -> str:
        try:
            return await handling
        except asyncio.CancelledError:
            if not self._stopping:
                return "lease lost"
            handling.cancel()
            await asyncio.gather(handling, return_exceptions=True)
            return await self._step.failed(item, InterruptedWorkError("the service is stopping"))
        except ReelkeeperError as error:
            self._log.warning("worker.failed", job=item.id, error=str(error), kind=type(error).__name__)
            return await self._step.failed(item, error)
        except Exception as error:  # noqa: BLE001 - a fault of ours in one item must not stop the others
            self._log.exception("worker.broke", job=item.id)
            return await self._step.failed(item, error)

    async def _keep(self, item: T, handling: asyncio.Future[str]) -> None:
        while True:
            await self._pause(self._rhythm.renew_every)
            try:
                kept = await self._step.renew(item)
            except ReelkeeperError as error:
                self._log.warning("worker.cannot_renew", job=item.id, error=str(error))
                continue
            if not kept:
                handling.cancel()
                return


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
