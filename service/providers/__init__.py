"""What a provider is: four questions, asked in one place each.

A provider file knows its wire format and nothing else: it never retries, sleeps, logs or touches the store. Expected
outcomes are return values; the worker that asked decides what follows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from service.model import Job, JobError, Model, Output, Problem, Report, VideoRequest


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider has the job and named it. `report` is what its answer says about the job."""

    provider_job_id: str
    report: Report


@dataclass(frozen=True, slots=True)
class Refused:
    """The provider said no, in its own error shape: the job has failed and nothing was spent."""

    error: JobError


@dataclass(frozen=True, slots=True)
class TurnedAway:
    """The provider provably did not accept it (no connection, or its own 429 or 503): it may be asked again."""

    reason: str
    retry_after_ms: int | None = None


@dataclass(frozen=True, slots=True)
class InDoubt:
    """Nobody knows whether the provider accepted it: never asked again unless the caller chose so."""

    reason: str


Submission = Accepted | Refused | TurnedAway | InDoubt


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A poll that brought no report. It says nothing about the job."""

    reason: str
    retry_after_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Callback:
    """An incoming message, untouched. Header names are lower case; a repeated header is joined with a comma."""

    job_id: str
    headers: Mapping[str, str]
    body: bytes
    received_at: int  # unix ms


@dataclass(frozen=True, slots=True)
class Hint:
    """A callback whose signature nobody can check, because no secret is configured: reason to poll, nothing more."""


@dataclass(frozen=True, slots=True)
class Unrelated:
    """A genuine message that is not about a video job; it is acknowledged and left alone."""

    type: str


@dataclass(frozen=True, slots=True)
class Location:
    """Where an output can be fetched. `headers` carry credentials and are sent to this URL's own origin only."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Manners:
    """How a provider wants to be asked. Times in milliseconds.

    `per_minute` and `burst` bound every call together (None: no limit known); polls start at `first_poll_ms` unless
    the service has seen how long the model usually takes, then come every `poll_every_ms`; `retention_ms` is how long
    outputs are expected to be served when the provider does not say.
    """

    first_poll_ms: int
    poll_every_ms: int
    retention_ms: int
    per_minute: int | None = None
    burst: int = 1


class Provider(Protocol):
    """A company that makes videos."""

    name: str
    manners: Manners
    signing_advice: str
    """What an operator is told whose callbacks are not believed: with which secret this provider signs, and what to
    compare with which setting. A sentence without its full stop."""

    def problems(self, request: VideoRequest) -> Sequence[Problem]:
        """Name everything in the request that this provider's wire form cannot say; empty when all of it can."""
        ...

    async def submit(self, job: Job, callback_url: str) -> Submission:
        """Make the paid call, once."""
        ...

    async def poll(self, provider_job_id: str) -> Report | Unanswered:
        """Ask how the job is doing."""
        ...

    def receive(self, callback: Callback) -> Report | Hint | Unrelated:
        """Verify a callback over its raw bytes, then parse it: one method, so that the unsafe order cannot be written.

        Raises BadSignatureError or BadCallbackError.
        """
        ...

    def locations(self, job: Job, output: Output) -> Sequence[Location]:
        """Return where the output can be fetched, best first."""
        ...


@runtime_checkable
class Cancels(Protocol):
    """A provider that can be asked to stop a job.

    Neither OpenRouter nor LLM Gateway is one: their APIs have no call that stops a job.
    """

    async def cancel(self, provider_job_id: str) -> bool | Unanswered:
        """Ask to stop a job; asking again does no harm.

        True: it took the wish, and a report will say how the job ended. False: it does not stop this job any more.
        Unanswered: nobody knows whether it took the wish.
        """
        ...


@runtime_checkable
class ListsModels(Protocol):
    """A provider that says which models it offers: an ability beyond the four questions."""

    async def models(self) -> Sequence[Model] | Unanswered:
        """Ask for every video model on offer, each once. It costs nothing and is no part of the provider's pace."""
        ...
