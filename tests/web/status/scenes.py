"""Jobs in every situation that a page has to tell of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from service.model import Billable, DeliveryAttempt, ErrorCode, Job, JobError, OnUnknown, VideoRequest
from service.store import Created, NewJob
from tests.web.house import House

Scene = Callable[[House], Awaitable[Job]]

HOOK = "https://hooks.example.com/videos?token=canary"
REFUSED = JobError(ErrorCode.INVALID_REQUEST, "The provider refused it.", billable=Billable.NO)


async def made(house: House, *, tenant: str = "acme", **more: object) -> Job:
    """Return a queued job whose caller wants to be told; `more` are fields of its request."""
    request = VideoRequest(**{"model": "google/veo-3.1", "prompt": "a red kite", **more})  # type: ignore[arg-type] # fields of VideoRequest
    created = await house.store.create_job(NewJob(tenant, "openrouter", request, notify_url=HOOK))
    assert isinstance(created, Created)
    return created.job


async def _claimed(house: House, on_unknown: OnUnknown = OnUnknown.WAIT) -> Job:
    request = VideoRequest("google/veo-3.1", prompt="a red kite")
    await house.store.create_job(NewJob("acme", "openrouter", request, on_unknown=on_unknown))
    [job] = await house.claims.claim_queued("openrouter", 1)
    return job


async def turned_away(house: House) -> Job:
    return _there(await house.claims.turned_away(await _claimed(house), house.clock.now() + 30_000, "429"))


async def in_doubt(house: House) -> Job:
    return _there(await house.claims.in_doubt(await _claimed(house), "the connection was reset"))


async def to_be_resubmitted(house: House) -> Job:
    return _there(await house.claims.in_doubt(await _claimed(house, OnUnknown.RESUBMIT), "no answer"))


async def resubmitted(house: House) -> Job:
    await to_be_resubmitted(house)
    house.clock.advance(900_000)
    [job] = await house.claims.claim_doubtful(1)
    return _there(await house.claims.resubmit(job))


async def submission_unknown(house: House) -> Job:
    await in_doubt(house)
    house.clock.advance(7_200_000)
    [job] = await house.claims.claim_doubtful(1)
    lost = JobError(ErrorCode.SUBMISSION_UNKNOWN, "The provider's answer was lost.", billable=Billable.UNKNOWN)
    return _there(await house.claims.give_up_submission(job, lost))


async def bound(house: House) -> Job:
    return _there(await house.store.attach((await submission_unknown(house)).id, "gen-found"))


async def being_polled(house: House) -> Job:
    await house.running()
    house.clock.advance(60_000)
    [job] = await house.claims.claim_polls("openrouter", 1)
    return job


async def unanswered(house: House) -> Job:
    job = await being_polled(house)
    await house.claims.poll_again(job, house.clock.now() + 1, answered=False)
    house.clock.advance(1)
    [job] = await house.claims.claim_polls("openrouter", 1)
    await house.claims.poll_again(job, house.clock.now() + 12_000, answered=False)
    return _there(await house.store.job(job.id))


async def overdue(house: House) -> Job:
    job = await house.running()
    house.clock.advance(61_000)
    return job


async def finished(house: House) -> Job:
    return await _after(house, "completed")


async def being_copied(house: House) -> Job:
    await finished(house)
    [job] = await house.claims.claim_mirrors("openrouter", 1)
    return job


async def not_copied_yet(house: House) -> Job:
    job = await being_copied(house)
    await house.claims.mirror_again(job, house.clock.now() + 5_000)
    return _there(await house.store.job(job.id))


async def unavailable(house: House) -> Job:
    error = JobError(ErrorCode.OUTPUT_UNAVAILABLE, "https://cdn.example.net answered 403", billable=Billable.YES)
    return _there(await house.claims.give_up_mirror(await being_copied(house), error))


async def recovered(house: House) -> Job:
    return _there(await house.store.remirror((await unavailable(house)).id))


async def timed_out(house: House) -> Job:
    job = await being_polled(house)
    error = JobError(ErrorCode.TIMED_OUT, "The provider did not say how it ended.", retryable=True)
    return _there(await house.claims.expire(job, error, house.clock.now() + 600_000))


async def unserved(house: House) -> Job:
    job = await house.running("llmgateway")
    del house.providers["llmgateway"]
    return job


async def told(house: House) -> Job:
    """Return a cancelled job whose caller was told at the second attempt."""
    job = await made(house)
    await house.store.cancel(job.id)
    for status, answer in ((502, "Bad Gateway"), (204, "")):
        house.clock.advance(5_000)
        [delivery] = await house.deliveries.claim(1, each=1)
        attempt = DeliveryAttempt(house.clock.now(), 41, status, None, answer)
        if status == 502:
            await house.deliveries.try_again(delivery, attempt, house.clock.now())
        else:
            await house.deliveries.delivered(delivery, attempt)
    return _there(await house.store.job(job.id))


async def untold(house: House) -> Job:
    """Return a cancelled job of which its caller was never told."""
    job = await made(house)
    await house.store.cancel(job.id)
    [delivery] = await house.deliveries.claim(1, each=1)
    attempt = DeliveryAttempt(house.clock.now(), 10_000, None, "no answer within 10 s", None)
    await house.deliveries.gave_up(delivery, attempt)
    return _there(await house.store.job(job.id))


async def _after(house: House, word: str) -> Job:
    job = await house.running()
    assert (await house.call_back(job, word)).status_code == 204
    return _there(await house.store.job(job.id))


def _failed(code: ErrorCode) -> Scene:
    async def scene(house: House) -> Job:
        error = JobError(code, f"It ended with {code}.")
        return _there(await house.claims.refused(await _claimed(house), error))

    return scene


def _there(job: Job | None) -> Job:
    assert job is not None
    return job


SCENES: Mapping[str, Scene] = {
    "queued": made,
    "turned away": turned_away,
    "submitting": _claimed,
    "in doubt": in_doubt,
    "to be resubmitted": to_be_resubmitted,
    "resubmitted": resubmitted,
    "submission unknown": submission_unknown,
    "bound": bound,
    "running": lambda house: house.running(),
    "being polled": being_polled,
    "unanswered": unanswered,
    "overdue": overdue,
    "finished": finished,
    "being copied": being_copied,
    "not copied yet": not_copied_yet,
    "unavailable": unavailable,
    "recovered": recovered,
    "completed": lambda house: house.completed(contents=(b"one", b"another")),
    "provider failed": lambda house: _after(house, "failed"),
    "cancelled": lambda house: _after(house, "cancelled"),
    "expired": lambda house: _after(house, "expired"),
    "timed out": timed_out,
    "unserved": unserved,
    "told": told,
    "untold": untold,
    **{f"failed with {code}": _failed(code) for code in ErrorCode},
}
"""A job in each situation, by a name for it."""
