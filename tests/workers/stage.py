"""A store on SQLite and a clock that stands still, with providers that say what a test wants."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from structlog.testing import CapturingLogger
from structlog.typing import FilteringBoundLogger

from service.clock import ManualClock
from service.model import Job, Output, Problem, Report, Status, VideoRequest
from service.providers import Accepted, Callback, Hint, Location, Manners, Submission, Unanswered, Unrelated
from service.workers import Outcome, Step
from service.workers.asking import PacedProviders
from service.workers.poller import Poller
from service.workers.submitter import DoubtResolver, Submitter
from tests.store.world import World

MANNERS = Manners(first_poll_ms=60_000, poll_every_ms=10_000, retention_ms=3_600_000)


@dataclass
class Scripted:
    """A provider that gives its `answers` in turn, raising those that are exceptions, then the usual one."""

    name: str
    manners: Manners = MANNERS
    signing_advice: str = ""
    answers: list[Submission | Report | Unanswered | Exception] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)  # what it was asked
    places: Sequence[Location] = ()

    def problems(self, request: VideoRequest) -> Sequence[Problem]:
        raise AssertionError(request)

    def receive(self, callback: Callback) -> Report | Hint | Unrelated:
        raise AssertionError(callback)

    def locations(self, job: Job, output: Output) -> Sequence[Location]:
        assert job.provider == self.name
        places = [*self.places, Location(output.url)] if output.url else self.places
        return [Location(place.url.format(index=output.index), place.headers) for place in places]

    async def submit(self, job: Job, callback_url: str) -> Submission:
        self.calls.append(callback_url)
        answer = self._answer() or accepted(f"at-{job.id}")
        assert not isinstance(answer, Report | Unanswered)
        return answer

    async def poll(self, provider_job_id: str) -> Report | Unanswered:
        self.calls.append(provider_job_id)
        answer = self._answer() or Report(Status.RUNNING, "in_progress", provider_job_id)
        assert isinstance(answer, Report | Unanswered)
        return answer

    def _answer(self) -> Submission | Report | Unanswered | None:
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer


def told(outcome: Outcome) -> str:
    """Return an outcome as one text: "in doubt: the connection broke"."""
    return outcome.name if outcome.reason is None else f"{outcome.name}: {outcome.reason}"


def accepted(provider_job_id: str, status: Status = Status.RUNNING) -> Accepted:
    outputs = (Output(0),) if status is Status.COMPLETED else ()
    return Accepted(provider_job_id, Report(status, status, provider_job_id, outputs))


class Stage:
    """The steps of all workers on one store; `step` does for one what its worker does."""

    def __init__(self, world: World, log: FilteringBoundLogger, logged: CapturingLogger, seed: int = 5) -> None:
        self.world = world
        self.clock: ManualClock = world.clock
        self.logged = logged
        self.pauses: list[float] = []  # s, as the submitter asked for them
        self.providers = {name: Scripted(name) for name in ("alpha", "beta")}
        self._log = log
        self.wire(seed)

    @property
    def alpha(self) -> Scripted:
        return self.providers["alpha"]

    @property
    def beta(self) -> Scripted:
        return self.providers["beta"]

    def wire(self, seed: int = 5) -> None:
        """Build the steps from the providers as they are."""
        chance = random.Random(seed)  # noqa: S311 - the same jitter in every run
        store, claims = self.world.store, self.world.claims
        self.paced = PacedProviders(self.providers.values(), self.clock)
        self.submitter = Submitter(
            store,
            claims,
            self.paced,
            lambda provider, job_id: f"https://us.example/{provider}/{job_id}",
            self.clock,
            chance,
            self._log,
            pause=self._pause,
        )
        self.resolver = DoubtResolver(claims, tuple(self.providers))
        self.poller = Poller(store, claims, self.paced, self.clock, chance)

    async def step(self, step: Step[Job], limit: int = 100) -> list[str]:
        """Claim and handle what is due, one after another; return the outcomes."""
        outcomes = []
        for job in await step.claim(limit):
            try:
                outcomes.append(told(await step.handle(job)))
            except Exception as error:  # noqa: BLE001 - as the worker does
                outcomes.append(told(await step.failed(job, error)))
        return outcomes

    async def running(self, provider: str = "alpha") -> Job:
        """Return a running job that nobody holds, due now."""
        job = await self.world.submitting(provider)
        await self.world.submitted(job, f"at-{job.id}", first_poll_ms=0)
        return await self.world.now(job)

    async def wait(self, job: Job) -> int:
        """Return how long from now the job is to wait, in ms."""
        due_at = (await self.world.now(job)).due_at
        assert due_at is not None
        return due_at - self.clock.now()

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
