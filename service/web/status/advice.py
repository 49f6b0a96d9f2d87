"""What a job waits for, and what to do about one that failed, in sentences for whoever was woken up by it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from service.model import ErrorCode, Job, OnUnknown, State


@dataclass(frozen=True, slots=True)
class Wait:
    """What a job waits for: words, a moment (unix ms), and words after it; without a moment, words alone."""

    before: str
    at: int | None = None
    after: str = ""


ADVICE: Mapping[ErrorCode, str] = {
    ErrorCode.INVALID_REQUEST: (
        "Its caller must act: the provider does not take this request. Correct what its words below name, and create a "
        "new job; Retry would send the same again."
    ),
    ErrorCode.UNSUPPORTED_MODEL: (
        "Its caller must act: the provider does not offer this model, or not for this request. Look at GET /v1/models, "
        "and create a new job with a model that is there."
    ),
    ErrorCode.CONTENT_POLICY: (
        "Its caller must act: the provider does not make videos of this prompt or these references. Create a new job "
        "with another prompt; Retry brings the same answer."
    ),
    ErrorCode.PROVIDER_AUTH: (
        "The operator must act: the provider does not take our API key. Put a valid one into the settings, run "
        "`reelkeeper check`, restart the service, then press Retry."
    ),
    ErrorCode.PROVIDER_CREDITS: (
        "The operator must act: the account at the provider is empty. Add credits there, then press Retry."
    ),
    ErrorCode.RATE_LIMITED: (
        "Nobody must act but by waiting: the provider takes no more requests for now. Press Retry in a few minutes; if "
        "it goes on, ask the provider for a higher limit."
    ),
    ErrorCode.PROVIDER_UNAVAILABLE: (
        "The provider must act: it is down or overloaded. Look at its status page, and press Retry when it is well."
    ),
    ErrorCode.PROVIDER_FAILED: (
        "The provider could not make the video. Press Retry once; if it fails again, read the provider's own words "
        "below and ask its support, with the provider's id of this job."
    ),
    ErrorCode.TIMED_OUT: (
        "Nobody knows how it ended: the provider said no last word in time. Look the job up at the provider by its id "
        "before you press Retry, which may pay twice. A video that comes within a day is kept by itself."
    ),
    ErrorCode.EXPIRED: (
        "It waited longer than it may. Look at the status page for what held it up (a provider that turns us away, a "
        "worker that stands still), then press Retry."
    ),
    ErrorCode.CANCELLED: "Nobody must act: somebody cancelled it. Press Retry if the video is wanted after all.",
    ErrorCode.SUBMISSION_UNKNOWN: (
        "The operator must act: look at the provider for a job of this time and model. If it is there, press Attach "
        "and give its id; the video is fetched then. If it is surely not there, press Retry."
    ),
    ErrorCode.OUTPUT_UNAVAILABLE: (
        "The video was made and paid for, and could not be copied. See above for why; when that is mended, press "
        "Remirror, which copies it again while the provider still has it. Retry pays for a new one."
    ),
    ErrorCode.INTERNAL: (
        "The operator must act: the service made a mistake, which is in its log beside this job's id. Report it, then "
        "press Retry."
    ),
}
"""Who must act on a job that ended with a code, and what to press."""


def waiting(job: Job, now: int, served: Collection[str]) -> list[Wait]:
    """Return what a job waits for now, and until when; of one that has ended, whether anybody still looks at it.

    `now` is in unix ms; `served` are the providers that are configured.
    """
    if not job.state.final and job.provider not in served:
        return [
            Wait(f"Nobody moves it on: {job.provider} is not configured here any more. Configure it again, or"),
            Wait("it ends", job.deadline_at if job.state is not State.MIRRORING else job.mirror_until, "."),
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
            waits = [Wait("The video is kept." if many == 1 else f"All {many} videos are kept.")]
        case _:
            waits = _ended(job)
    return waits


def _held(job: Job, now: int) -> bool:
    return job.lease is not None and (job.leased_until or 0) > now


def _queued(job: Job, now: int) -> list[Wait]:
    spent = f"{job.provider} may have accepted an earlier submission." if job.doubts else "Nothing is spent yet."
    if job.due_at is not None and job.due_at > now:
        again = (
            "It will be submitted" if job.submitted_at is None else f"{job.provider} turned it away; it is sent again"
        )
        first = Wait(again, job.due_at, f". {spent}")
    else:
        first = Wait(f"It waits for its turn to be submitted to {job.provider}. {spent}")
    return [first, Wait("If it cannot be submitted, it ends as expired", job.deadline_at, ".")]


def _submitting(job: Job) -> list[Wait]:
    if job.doubted_at is None:
        return [Wait(f"It was sent to {job.provider}", job.submitted_at, "; its answer is awaited.")]
    unknown = f", and nobody knows whether {job.provider} accepted it. It waits for a callback."
    doubt = Wait("The answer to its submission was given up", job.doubted_at, unknown)
    if job.on_unknown is OnUnknown.RESUBMIT and job.doubts == 1:
        return [doubt, Wait("Its caller wants it submitted again then, which may pay twice:", job.due_at, ".")]
    return [doubt, Wait("Without one it ends as submission_unknown", job.deadline_at, ".")]


def _running(job: Job, now: int) -> list[Wait]:
    last = Wait("If nobody says how it ended, it ends as expired", job.deadline_at, ".")
    if _held(job, now):
        return [Wait(f"{job.provider} has it, and is being asked about it now."), last]
    poll = "The next poll was due" if (job.due_at or 0) <= now else "Next poll"
    first = Wait(f"{job.provider} has it. {poll}", job.due_at, ", unless a callback comes first.")
    if not job.attempt:
        return [first, last]
    polls = "poll" if job.attempt == 1 else f"{job.attempt} polls"
    return [first, Wait(f"The last {polls} brought no answer."), last]


def _mirroring(job: Job, now: int) -> list[Wait]:
    kept = f" {len(job.artifacts)} of {len(job.outputs)} are kept." if len(job.outputs) > 1 else ""
    until = Wait("Copying is tried at least until", job.mirror_until, ".")
    if _held(job, now):
        return [Wait(f"The video is being copied from {job.provider} into storage.{kept}"), until]
    if job.attempt:
        times = "once" if job.attempt == 1 else f"{job.attempt} times"
        again = "The next try was due" if (job.due_at or 0) <= now else "Next try"
        return [Wait(f"Copying the video failed {times}.{kept} {again}", job.due_at, "."), until]
    return [Wait(f"{job.provider} has finished it; the video waits to be copied into storage.{kept}"), until]


def _ended(job: Job) -> list[Wait]:
    if job.due_at is None:
        return []
    return [Wait(f"We gave up, and still look whether {job.provider} has the video: next", job.due_at, ".")]
