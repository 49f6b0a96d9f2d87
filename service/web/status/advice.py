"""What a job waits for, and what to do about one that failed, in sentences for whoever was woken up by it.

They are the same on the page and at the terminal, except for what is pressed or typed, which `Ways` says.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass

from service.model import ErrorCode, Job, OnUnknown, State


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence around a moment (unix ms): words, the moment, and words after it; without one, words alone."""

    before: str
    at: int | None = None
    after: str = ""


@dataclass(frozen=True, slots=True)
class Ways:
    """How one does what a sentence advises, in words that go on after "then": "press Retry"."""

    look: str
    retry: str
    attach: str
    remirror: str


ON_PAGES = Ways("look at the overview", "press Retry", "press Attach and give its id", "press Remirror")

_WAITS: Mapping[State, str] = {
    State.QUEUED: "It waits for its turn to be submitted to {provider}.",
    State.SUBMITTING: "It was submitted to {provider}; when no answer comes, a callback tells whether it has it.",
    State.RUNNING: "{provider} has it; a callback or a poll tells how it ends.",
    State.MIRRORING: "{provider} has finished it; the video is copied into storage.",
    State.COMPLETED: "The video is kept.",
}
_ADVICE: Mapping[ErrorCode, str] = {
    ErrorCode.INVALID_REQUEST: (
        "Its caller must act: {provider} does not take this request. Correct what its words name, and create a new "
        "job; a retry would send the same again."
    ),
    ErrorCode.UNSUPPORTED_MODEL: (
        "Its caller must act: {provider} does not offer this model, or not for this request. Look at GET /v1/models, "
        "and create a new job with a model that is there."
    ),
    ErrorCode.CONTENT_POLICY: (
        "Its caller must act: {provider} does not make videos of this prompt or these references. Create a new job "
        "with another prompt; a retry brings the same answer."
    ),
    ErrorCode.PROVIDER_AUTH: (
        "The operator must act: {provider} does not take our API key. Put a valid one into the settings, run "
        "`reelkeeper check`, restart the service, then {retry}."
    ),
    ErrorCode.PROVIDER_CREDITS: (
        "The operator must act: the account at {provider} is empty. Add credits there, then {retry}."
    ),
    ErrorCode.RATE_LIMITED: (
        "Nobody must act but by waiting: {provider} takes no more requests for now. Wait a few minutes, then {retry}; "
        "if it goes on, ask {provider} for a higher limit."
    ),
    ErrorCode.PROVIDER_UNAVAILABLE: (
        "The provider must act: {provider} is down or overloaded. Look at its own status page, and when it is well, "
        "{retry}."
    ),
    ErrorCode.PROVIDER_FAILED: (
        "{provider} could not make the video. Try it once more: {retry}. If it fails again, read the provider's own "
        "words and ask its support, with its id of this job."
    ),
    ErrorCode.TIMED_OUT: (
        "Nobody knows how it ended: {provider} said no last word in time. Look the job up there by its id before you "
        "{retry}, which may pay twice. A video that comes within a day is kept by itself."
    ),
    ErrorCode.EXPIRED: (
        "It waited longer than it may. To see what held it up (a provider that turns us away, a worker that stands "
        "still), {look}; then {retry}."
    ),
    ErrorCode.CANCELLED: "Nobody must act: somebody cancelled it. If the video is wanted after all, {retry}.",
    ErrorCode.SUBMISSION_UNKNOWN: (
        "The operator must act: look at {provider} for a job of this time and model. If it is there, {attach}; the "
        "video is fetched then. If it is surely not there, {retry}."
    ),
    ErrorCode.OUTPUT_UNAVAILABLE: (
        "The video was made and paid for, and could not be copied; what the error says is to be mended first. Then "
        "{remirror}, which copies it again while {provider} still has it. A retry pays for a new one."
    ),
    ErrorCode.INTERNAL: (
        "The operator must act: the service made a mistake, which is in its log beside this job's id. Report it, then "
        "{retry}."
    ),
}


def advice(code: ErrorCode, provider: str, ways: Ways) -> str:
    """Return who must act on a job that ended with a code, and how."""
    return _ADVICE[code].format(provider=provider, **asdict(ways))


def awaited(state: State, provider: str) -> str:
    """Return what a job in a state waits for, or what became of it; "" for one that has ended without a video."""
    return _WAITS.get(state, "").format(provider=provider)


def waiting(job: Job, now: int, served: Collection[str]) -> list[Sentence]:
    """Return what a job waits for now, and until when; of one that has ended, whether anybody still looks at it.

    `now` is in unix ms; `served` are the providers that are configured.
    """
    if not job.state.final and job.provider not in served:
        return [
            Sentence(f"Nobody moves it on: {job.provider} is not configured here any more. Configure it again, or"),
            Sentence("it ends", job.deadline_at if job.state is not State.MIRRORING else job.mirror_until, "."),
        ]
    match job.state:
        case State.QUEUED:
            waits = _queued(job, now)
        case State.SUBMITTING:
            waits = _submitting(job)
        case State.RUNNING:
            waits = _running(job, now)
        case State.MIRRORING:
            waits = _mirroring(job, now)
        case State.COMPLETED:
            many = len(job.artifacts)
            waits = [Sentence(awaited(job.state, job.provider) if many == 1 else f"All {many} videos are kept.")]
        case _:
            waits = _ended(job)
    return waits


def _held(job: Job, now: int) -> bool:
    return job.lease is not None and (job.leased_until or 0) > now


def _queued(job: Job, now: int) -> list[Sentence]:
    spent = f"{job.provider} may have accepted an earlier submission." if job.doubts else "Nothing is spent yet."
    last = Sentence("If it cannot be submitted, it ends as expired", job.deadline_at, ".")
    if job.due_at is None or job.due_at <= now:
        return [Sentence(f"{awaited(job.state, job.provider)} {spent}"), last]
    again = "It will be submitted" if job.submitted_at is None else f"{job.provider} turned it away; it is sent again"
    return [Sentence(again, job.due_at, f". {spent}"), last]


def _submitting(job: Job) -> list[Sentence]:
    if job.doubted_at is None:
        return [Sentence(awaited(job.state, job.provider)), Sentence("It was sent", job.submitted_at, ".")]
    unknown = f", and nobody knows whether {job.provider} accepted it. It waits for a callback."
    doubt = Sentence("The answer to its submission was given up", job.doubted_at, unknown)
    if job.on_unknown is OnUnknown.RESUBMIT and job.doubts == 1:
        return [doubt, Sentence("Its caller wants it submitted again then, which may pay twice:", job.due_at, ".")]
    return [doubt, Sentence("Without one it ends as submission_unknown", job.deadline_at, ".")]


def _running(job: Job, now: int) -> list[Sentence]:
    first = Sentence(awaited(job.state, job.provider))
    last = Sentence("If nobody says how it ended, it ends as expired", job.deadline_at, ".")
    if _held(job, now):
        return [first, Sentence("It is being polled now."), last]
    poll = Sentence("The next poll was due" if (job.due_at or 0) <= now else "Next poll", job.due_at, ".")
    if not job.attempt:
        return [first, poll, last]
    polls = "poll" if job.attempt == 1 else f"{job.attempt} polls"
    return [first, poll, Sentence(f"The last {polls} brought no answer."), last]


def _mirroring(job: Job, now: int) -> list[Sentence]:
    kept = f" {len(job.artifacts)} of {len(job.outputs)} are kept." if len(job.outputs) > 1 else ""
    first = Sentence(f"{awaited(job.state, job.provider)}{kept}")
    until = Sentence("Copying is tried at least until", job.mirror_until, ".")
    if _held(job, now):
        return [first, Sentence("It is being copied now."), until]
    if job.attempt:
        times = "once" if job.attempt == 1 else f"{job.attempt} times"
        again = "The next attempt was due" if (job.due_at or 0) <= now else "Next attempt"
        return [first, Sentence(f"Copying failed {times}. {again}", job.due_at, "."), until]
    return [first, until]


def _ended(job: Job) -> list[Sentence]:
    if job.due_at is None:
        return []
    return [Sentence(f"We gave up, and still look whether {job.provider} has the video: next", job.due_at, ".")]
