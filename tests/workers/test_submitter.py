"""What becomes of a queued job for each outcome of the paid call, and of one whose outcome nobody knows."""

from __future__ import annotations

import pytest

from service.errors import InterruptedWorkError, StoreUnavailableError
from service.model import Billable, ErrorCode, Job, JobError, OnUnknown, Status
from service.providers import InDoubt, Manners, Refused, TurnedAway
from tests.store.world import TIMING, held
from tests.workers.stage import MANNERS, Scripted, Stage, accepted, told


async def test_an_accepted_job_runs_and_is_polled_when_the_provider_says(stage: Stage) -> None:
    job = await stage.world.queued()
    assert await stage.step(stage.submitter) == ["accepted"]
    now = await stage.world.now(job)
    assert (now.state, now.provider_job_id, now.provider_status) == ("running", f"at-{job.id}", "running")
    assert await stage.wait(job) == MANNERS.first_poll_ms


async def test_the_provider_is_told_where_to_report_about_this_job(stage: Stage) -> None:
    job = await stage.world.queued("beta")
    await stage.step(stage.submitter)
    assert stage.beta.calls == [f"https://us.example/beta/{job.id}"]
    assert stage.alpha.calls == []


async def test_the_claim_is_on_disk_before_the_paid_call_is_made(stage: Stage) -> None:
    job = await stage.world.queued()
    [claimed] = await stage.submitter.claim(10)
    assert stage.alpha.calls == []
    on_disk = stage.world.sql("SELECT state, attempt FROM jobs WHERE id = :id", id=job.id)
    assert on_disk == [{"state": "submitting", "attempt": 1}]
    await stage.submitter.handle(claimed)
    assert len(stage.alpha.calls) == 1


async def test_an_answer_that_brings_the_finished_video_needs_no_poll(stage: Stage) -> None:
    job = await stage.world.queued()
    stage.alpha.answers = [accepted("p1", Status.COMPLETED)]
    await stage.step(stage.submitter)
    assert await stage.world.history(job) == ["queued", "submitting", "running", "mirroring"]
    assert await stage.world.reports() == {"alpha": {"submission": 1}}
    assert await stage.wait(job) == 0


async def test_an_answer_that_brings_the_failure_ends_the_job(stage: Stage) -> None:
    job = await stage.world.queued()
    stage.alpha.answers = [accepted("p1", Status.FAILED)]
    await stage.step(stage.submitter)
    now = await stage.world.now(job)
    assert (now.state, now.provider_job_id) == ("failed", "p1")
    assert now.error is not None
    assert now.error.code is ErrorCode.PROVIDER_FAILED


async def test_a_refused_job_fails_with_the_providers_words(stage: Stage) -> None:
    job = await stage.world.queued()
    error = JobError(ErrorCode.CONTENT_POLICY, "no", billable=Billable.NO, provider_message="not this")
    stage.alpha.answers = [Refused(error)]
    assert await stage.step(stage.submitter) == ["refused: content_policy"]
    now = await stage.world.now(job)
    assert (now.state, now.error) == ("failed", error)


async def test_a_job_that_was_turned_away_again_and_again_waits_ever_longer(stage: Stage) -> None:
    job = await stage.world.queued()
    waits = []
    for _ in range(10):
        stage.alpha.answers = [TurnedAway("busy")]
        assert await stage.step(stage.submitter) == ["turned away: busy"]
        waits.append(await stage.wait(job))
        stage.clock.advance(waits[-1])
    for wait, meant in zip(waits, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300], strict=True):
        assert meant * 800 <= wait <= meant * 1_200
    assert await stage.step(stage.submitter) == ["accepted"]
    assert (await stage.world.now(job)).doubts == 0


async def test_retry_after_holds_back_everything_that_is_for_this_provider(stage: Stage) -> None:
    running = await stage.running()
    job, behind = await stage.world.queued(), await stage.world.queued()
    stage.alpha.answers = [TurnedAway("HTTP 429", retry_after_ms=45_000)]
    await stage.step(stage.submitter, limit=1)
    assert await stage.wait(job) == 45_000
    stage.clock.advance(44_999)
    assert await stage.step(stage.submitter) == []
    assert await stage.step(stage.poller) == []
    other = await stage.world.queued("beta")
    assert await stage.step(stage.submitter) == ["accepted"]
    stage.clock.advance(1)
    assert await stage.step(stage.submitter) == ["accepted", "accepted"]
    assert await stage.step(stage.poller) == ["running: in_progress"]
    for each in (job, behind, other, running):
        assert (await stage.world.now(each)).state == "running"


async def test_a_short_retry_after_does_not_shorten_the_wait(stage: Stage) -> None:
    job = await stage.world.queued()
    stage.alpha.answers = [TurnedAway("HTTP 429", retry_after_ms=1)]
    await stage.step(stage.submitter)
    assert await stage.wait(job) >= 1_600


async def test_no_more_is_submitted_than_the_provider_allows(stage: Stage) -> None:
    stage.providers["alpha"] = Scripted("alpha", Manners(60_000, 10_000, 3_600_000, per_minute=60, burst=3))
    stage.wire()
    for _ in range(10):
        await stage.world.queued()
    assert len(await stage.step(stage.submitter)) == 3
    assert (await stage.world.statistics.overview()).jobs == {"alpha": {"queued": 7, "running": 3}}


@pytest.mark.parametrize(
    "answer",
    [InDoubt("read timeout"), ValueError("a fault of ours"), StoreUnavailableError("the disk is full")],
)
async def test_an_unknown_outcome_is_waited_for_and_never_repeated(stage: Stage, answer: InDoubt | Exception) -> None:
    job = await stage.world.queued()
    stage.alpha.answers = [answer]
    [outcome] = await stage.step(stage.submitter)
    assert outcome.startswith("in doubt")
    now = await stage.world.now(job)
    assert (now.state, now.doubts, now.lease) == ("submitting", 1, None)
    assert now.due_at == now.deadline_at
    stage.clock.advance(TIMING.job_deadline - 1)
    assert await stage.step(stage.submitter) == []
    assert await stage.step(stage.resolver) == []
    assert len(stage.alpha.calls) == 1


async def test_a_submission_that_our_stopping_cuts_short_is_in_doubt(stage: Stage) -> None:
    job = await stage.world.queued()
    [claimed] = await stage.submitter.claim(1)
    assert told(await stage.submitter.failed(claimed, InterruptedWorkError("stopping"))).startswith("in doubt: ")
    assert (await stage.world.now(job)).doubts == 1


async def test_an_answer_that_comes_after_the_callback_changes_nothing(stage: Stage) -> None:
    job = await stage.world.queued()
    [claimed] = await stage.submitter.claim(1)
    await stage.world.apply(job, accepted(f"at-{job.id}", Status.COMPLETED).report)
    before = await stage.world.now(job)
    assert told(await stage.submitter.handle(claimed)) == "accepted"
    assert await stage.world.now(job) == before


async def test_a_lease_is_renewed_while_the_provider_thinks(stage: Stage) -> None:
    await stage.world.queued()
    [claimed] = await stage.submitter.claim(1)
    for _ in range(5):
        stage.clock.advance(TIMING.lease - 1)
        assert await stage.submitter.renew(claimed)
        assert await stage.step(stage.resolver) == []


async def test_the_id_of_a_paid_job_is_offered_to_the_database_until_it_takes_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await stage.world.queued()
    submitted = stage.world.store.submitted
    times = 0

    async def at_last(job_id: str, provider_job_id: str, word: str, *, first_poll_ms: int) -> Job | None:
        nonlocal times
        times += 1
        if times <= 8:
            raise StoreUnavailableError("the disk is full")
        return await submitted(job_id, provider_job_id, word, first_poll_ms=first_poll_ms)

    monkeypatch.setattr(stage.world.store, "submitted", at_last)
    assert await stage.step(stage.submitter) == ["accepted"]
    assert (await stage.world.now(job)).provider_job_id == f"at-{job.id}"
    assert stage.pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    said = [call.kwargs for call in stage.logged.calls]
    assert [line["event"] for line in said] == ["submission.not_recorded_yet"] * 8
    # The id is in the log before all else: whatever happens now, somebody can find it.
    assert {line["provider_job_id"] for line in said} == {f"at-{job.id}"}
    assert len(stage.alpha.calls) == 1


@pytest.mark.parametrize(
    ("answer", "method", "state"),
    [
        (TurnedAway("HTTP 429"), "turned_away", "queued"),
        (Refused(JobError(ErrorCode.CONTENT_POLICY, "no")), "refused", "failed"),
        (InDoubt("read timeout"), "in_doubt", "submitting"),
    ],
)
async def test_what_the_provider_answered_is_not_forgotten_because_the_disk_is_full(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, answer: InDoubt | Refused | TurnedAway, method: str, state: str
) -> None:
    job = await stage.world.queued()
    stage.alpha.answers = [answer]
    store, times = getattr(stage.world.claims, method), 0

    async def at_last(*given: object) -> object:
        nonlocal times
        times += 1
        if times == 1:
            raise StoreUnavailableError("the disk is full")
        return await store(*given)

    monkeypatch.setattr(stage.world.claims, method, at_last)
    await stage.step(stage.submitter)
    now = await stage.world.now(job)
    assert (now.state, now.doubts) == (state, int(method == "in_doubt"))
    assert len(stage.alpha.calls) == 1


# Doubt


async def test_a_submission_whose_worker_died_is_found_when_its_lease_ends_and_then_waited_for(stage: Stage) -> None:
    job = await stage.world.submitting()
    stage.clock.advance(TIMING.lease - 1)
    assert await stage.step(stage.resolver) == []
    stage.clock.advance(1)
    assert await stage.step(stage.resolver) == ["in doubt: the service stopped during the submission"]
    assert await stage.step(stage.resolver) == []
    now = await stage.world.now(job)
    assert (now.state, now.doubts) == ("submitting", 1)


async def test_silence_until_the_deadline_ends_the_job_and_says_what_an_operator_can_do(stage: Stage) -> None:
    job = await stage.world.submitting()
    await stage.world.claims.in_doubt(job, "reset")
    stage.clock.advance(TIMING.job_deadline)
    assert await stage.step(stage.resolver) == ["gave up: submission_unknown"]
    error = (await stage.world.now(job)).error
    assert error is not None
    assert (error.code, error.billable, error.retryable) == (ErrorCode.SUBMISSION_UNKNOWN, Billable.UNKNOWN, False)
    assert "reelkeeper jobs attach" in error.message


async def test_a_silent_submission_is_repeated_once_when_its_caller_wants_it(stage: Stage) -> None:
    job = await stage.world.submitting(on_unknown=OnUnknown.RESUBMIT)
    await stage.world.claims.in_doubt(job, "reset")
    stage.clock.advance(TIMING.resubmit_after)
    assert await stage.step(stage.resolver) == ["resubmitted"]
    stage.alpha.answers = [InDoubt("reset again")]
    assert await stage.step(stage.submitter) == ["in doubt: reset again"]
    stage.clock.advance(TIMING.resubmit_after)
    assert await stage.step(stage.resolver) == []
    stage.clock.advance(TIMING.job_deadline)
    assert await stage.step(stage.resolver) == ["gave up: submission_unknown"]
    assert await stage.step(stage.submitter) == []


async def test_a_doubt_that_could_not_be_resolved_is_taken_up_again_when_its_lease_ends(stage: Stage) -> None:
    job = await stage.world.submitting()
    stage.clock.advance(TIMING.lease)
    [claimed] = await stage.resolver.claim(10)
    assert await stage.resolver.renew(claimed)
    assert told(await stage.resolver.failed(claimed, StoreUnavailableError("the disk is full"))) == "later"
    assert await stage.resolver.claim(10) == []
    stage.clock.advance(TIMING.lease)
    assert held(job, await stage.resolver.claim(10)).lease != claimed.lease
    assert not await stage.resolver.renew(claimed)


async def test_doubts_of_a_provider_that_is_gone_from_the_settings_are_resolved_too(stage: Stage) -> None:
    job = await stage.world.submitting("gamma")
    await stage.world.claims.in_doubt(job, "reset")
    stage.clock.advance(TIMING.job_deadline)
    assert await stage.step(stage.resolver) == ["gave up: submission_unknown"]


async def test_a_paid_call_goes_on_although_its_lease_was_lost_and_its_id_is_kept(stage: Stage) -> None:
    await stage.world.queued()
    [claimed] = await stage.submitter.claim(10)
    stage.clock.advance(TIMING.lease + 1)
    assert await stage.step(stage.resolver) == ["in doubt: the service stopped during the submission"]
    assert await stage.submitter.renew(claimed)
    assert told(await stage.submitter.handle(claimed)) == "accepted"
    now = await stage.world.now(claimed)
    assert (now.state, now.provider_job_id) == ("running", f"at-{claimed.id}")


async def test_jobs_of_a_provider_that_was_removed_end_at_their_deadline(stage: Stage) -> None:
    doubted = await stage.world.resubmitted("gone")
    await stage.world.claims.turned_away(doubted, stage.clock.now() + 1_000, "busy")
    running, mirroring = await stage.world.running("gone"), await stage.world.mirroring("gone")
    queued, elsewhere = await stage.world.queued("gone"), await stage.world.queued("beta")
    assert await stage.step(stage.resolver) == []
    assert [(await stage.world.now(job)).state for job in (queued, running, mirroring)] == [
        "queued",
        "running",
        "mirroring",
    ]
    stage.clock.advance(max(10 * TIMING.job_deadline, 10 * MANNERS.retention_ms))
    await stage.step(stage.resolver)
    ended = [await stage.world.now(job) for job in (queued, running, doubted, mirroring)]
    assert [(job.state, job.error and (job.error.code, job.error.billable)) for job in ended] == [
        ("expired", (ErrorCode.EXPIRED, Billable.NO)),
        ("expired", (ErrorCode.TIMED_OUT, Billable.UNKNOWN)),
        ("expired", (ErrorCode.EXPIRED, Billable.UNKNOWN)),
        ("failed", (ErrorCode.OUTPUT_UNAVAILABLE, Billable.YES)),
    ]
    assert all(job.error and "removed from the service's settings" in job.error.message for job in ended)
    assert (await stage.world.now(elsewhere)).state == "queued"
    assert [job.id for job in await stage.world.claims.claim_polls("gone", 10)] == [running.id]


@pytest.mark.parametrize(
    "answer",
    [InDoubt("reset"), TurnedAway("HTTP 503"), Refused(JobError(ErrorCode.PROVIDER_CREDITS, "no credits"))],
)
async def test_a_job_that_its_provider_does_not_take_goes_to_no_other(
    stage: Stage, answer: InDoubt | TurnedAway | Refused
) -> None:
    job = await stage.world.queued(on_unknown=OnUnknown.RESUBMIT)
    stage.alpha.answers = [answer] * 3
    for _ in range(3):
        await stage.step(stage.submitter)
        stage.clock.advance(TIMING.resubmit_after)
        await stage.step(stage.resolver)
    assert stage.beta.calls == []
    assert (await stage.world.now(job)).provider == "alpha"
    assert len(stage.alpha.calls) == {InDoubt: 2, TurnedAway: 3, Refused: 1}[type(answer)]
