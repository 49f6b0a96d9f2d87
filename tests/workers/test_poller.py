"""When a provider is asked about a job, and what its answers and its silence do."""

from __future__ import annotations

import pytest

from service.errors import InterruptedWorkError, StoreUnavailableError
from service.model import ErrorCode, Job, Output, Report, Status
from service.providers import Manners, Unanswered
from tests.store.world import TIMING, report
from tests.workers.stage import MANNERS, Scripted, Stage, told

EVERY = MANNERS.poll_every_ms
MINUTE = 60_000
DAY = 24 * 60 * MINUTE


async def expired(stage: Stage) -> Job:
    """Return a job that stayed silent until its deadline."""
    job = await stage.running()
    stage.clock.advance(TIMING.job_deadline)
    await stage.step(stage.poller)
    job = await stage.world.now(job)
    assert job.state == "expired"
    return job


async def test_a_job_that_runs_is_asked_about_again_at_the_providers_interval(stage: Stage) -> None:
    job = await stage.running()
    assert await stage.step(stage.poller) == ["running: in_progress"]
    assert stage.alpha.calls == [f"at-{job.id}"]
    assert 0.9 * EVERY <= await stage.wait(job) <= 1.1 * EVERY
    now = await stage.world.now(job)
    assert (now.state, now.provider_status, now.lease) == ("running", "in_progress", None)


@pytest.mark.parametrize(
    ("age", "meant"),
    [(0, EVERY), (3 * MINUTE, EVERY), (20 * MINUTE, MINUTE), (60 * MINUTE, 3 * MINUTE), (110 * MINUTE, 330_000)],
)
async def test_an_old_job_is_asked_about_more_rarely(stage: Stage, age: int, meant: int) -> None:
    job = await stage.running()
    stage.clock.advance(age)
    await stage.step(stage.poller)
    assert 0.9 * meant <= await stage.wait(job) <= 1.1 * meant


async def test_the_slowest_pace_is_ten_minutes(stage: Stage) -> None:
    job = await expired(stage)
    for _ in range(30):
        wait = await stage.wait(job)
        assert wait <= 660_000
        stage.clock.advance(wait)
        assert await stage.step(stage.poller) == ["running: in_progress"]
    assert wait >= 540_000


async def test_intervals_are_spread_and_the_same_chance_spreads_them_alike(stage: Stage) -> None:
    waits = []
    for _ in range(2):
        stage.wire(seed=3)
        jobs = [await stage.running() for _ in range(8)]
        await stage.step(stage.poller)
        waits.append({await stage.wait(job) for job in jobs})
    assert len(waits[0]) == 8
    assert waits[0] == waits[1]


async def test_the_last_question_comes_at_the_deadline(stage: Stage) -> None:
    job = await stage.running()
    stage.clock.advance(TIMING.job_deadline - 1_000)
    await stage.step(stage.poller)
    assert await stage.wait(job) == 1_000


async def test_a_finished_job_is_mirrored(stage: Stage) -> None:
    job = await stage.running()
    stage.alpha.answers = [report(Status.COMPLETED, f"at-{job.id}")]
    assert await stage.step(stage.poller) == ["completed"]
    now = await stage.world.now(job)
    assert now.state == "mirroring"
    assert now.mirror_until == stage.clock.now() + MANNERS.retention_ms


async def test_an_answer_that_is_about_another_job_is_no_answer(stage: Stage) -> None:
    other = await stage.running()
    await stage.step(stage.poller)
    job = await stage.running()
    stage.alpha.answers = [report(Status.COMPLETED, f"at-{other.id}")]
    assert await stage.step(stage.poller) == ["unanswered: the answer is about another job"]
    assert (await stage.world.now(job)).state == "running"
    assert (await stage.world.now(other)).state == "running"


async def test_an_answer_that_comes_after_the_callback_changes_nothing(stage: Stage) -> None:
    job = await stage.running()
    [claimed] = await stage.poller.claim(1)
    await stage.world.apply(job, report(Status.COMPLETED, f"at-{job.id}"))
    before = await stage.world.now(job)
    stage.alpha.answers = [report(Status.FAILED, f"at-{job.id}")]
    await stage.poller.handle(claimed)
    assert await stage.world.now(job) == before


# No answer


async def test_unanswered_polls_come_ever_more_rarely_and_end_nothing(stage: Stage) -> None:
    job = await stage.running()
    waits = []
    for _ in range(9):
        stage.alpha.answers = [Unanswered("HTTP 500")]
        assert await stage.step(stage.poller) == ["unanswered: HTTP 500"]
        waits.append(await stage.wait(job))
        stage.clock.advance(waits[-1])
    for wait, meant in zip(waits, [10, 20, 40, 80, 160, 320, 600, 600, 600], strict=True):
        assert meant * 800 <= wait <= meant * 1_200
    assert await stage.world.history(job) == ["queued", "submitting", "running"]


async def test_an_answer_ends_the_slowing_down(stage: Stage) -> None:
    job = await stage.running()
    stage.alpha.answers = [Unanswered("HTTP 500")] * 3
    for _ in range(4):
        await stage.step(stage.poller)
        stage.clock.advance(await stage.wait(job))
    stage.alpha.answers = [Unanswered("HTTP 500")]
    await stage.step(stage.poller)
    assert await stage.wait(job) <= 1.2 * EVERY


async def test_retry_after_is_obeyed_by_this_job_and_by_all_of_its_provider(stage: Stage) -> None:
    job = await stage.running()
    stage.alpha.answers = [Unanswered("HTTP 429", retry_after_ms=90_000)]
    await stage.step(stage.poller)
    await stage.running()
    waiting = await stage.world.queued()
    other = await stage.running("beta")
    assert await stage.wait(job) == 90_000
    stage.clock.advance(89_999)
    assert await stage.step(stage.submitter) == []
    assert await stage.step(stage.poller) == ["running: in_progress"]
    assert stage.beta.calls == [f"at-{other.id}"]
    stage.clock.advance(1)
    assert await stage.step(stage.poller, limit=2) == ["running: in_progress"] * 2
    assert await stage.step(stage.submitter) == ["accepted"]
    assert (await stage.world.now(waiting)).state == "running"


async def test_a_fault_of_ours_is_no_verdict(stage: Stage) -> None:
    job = await stage.running()
    stage.alpha.answers = [StoreUnavailableError("the disk is full")]
    assert await stage.step(stage.poller) == ["later"]
    assert 0.8 * EVERY <= await stage.wait(job) <= 1.2 * EVERY


@pytest.mark.parametrize("age", [0, TIMING.job_deadline])
async def test_a_poll_that_our_stopping_cuts_short_is_made_again_at_once(stage: Stage, age: int) -> None:
    job = await stage.running()
    stage.clock.advance(age)
    [claimed] = await stage.poller.claim(1)
    assert told(await stage.poller.failed(claimed, InterruptedWorkError("stopping"))) == "interrupted"
    assert await stage.wait(job) == 0
    assert (await stage.world.now(job)).state == "running"


# The reserve


async def test_polls_come_before_submissions_and_after_downloads_when_the_pace_is_short(stage: Stage) -> None:
    stage.providers["alpha"] = Scripted("alpha", Manners(60_000, EVERY, 3_600_000, per_minute=60, burst=20))
    stage.wire()
    for _ in range(30):
        await stage.running()
    for _ in range(30):
        await stage.world.queued()
    assert len(await stage.step(stage.submitter)) == 15
    assert await stage.step(stage.submitter) == []
    assert len(await stage.step(stage.poller)) == 3
    assert await stage.step(stage.poller) == []
    assert len(await stage.paced.claim(stage.world.claims.claim_polls, 100)) == 2  # what downloads would find


# The deadline, and after it


@pytest.mark.parametrize("silent", [True, False])
async def test_a_job_without_a_last_word_expires_at_its_deadline(stage: Stage, *, silent: bool) -> None:
    job = await stage.running()
    stage.clock.advance(TIMING.job_deadline)
    stage.alpha.answers = [Unanswered("HTTP 500")] if silent else []
    await stage.step(stage.poller)
    now = await stage.world.now(job)
    assert now.error is not None
    assert (now.state, now.error.code, now.error.billable) == ("expired", ErrorCode.TIMED_OUT, "unknown")
    assert await stage.wait(job) > 0  # it is looked at again


async def test_the_answer_at_the_deadline_counts(stage: Stage) -> None:
    job = await stage.running()
    stage.clock.advance(TIMING.job_deadline)
    stage.alpha.answers = [report(Status.COMPLETED, f"at-{job.id}")]
    await stage.step(stage.poller)
    assert (await stage.world.now(job)).state == "mirroring"


async def test_an_expired_job_whose_video_comes_after_all_is_recovered(stage: Stage) -> None:
    job = await expired(stage)
    stage.clock.advance(await stage.wait(job))
    stage.alpha.answers = [report(Status.COMPLETED, f"at-{job.id}")]
    assert await stage.step(stage.poller) == ["completed"]
    now = await stage.world.now(job)
    assert (now.state, now.error, now.finished_at) == ("mirroring", None, None)


@pytest.mark.parametrize("word", [Status.FAILED, Status.CANCELLED, Status.EXPIRED])
async def test_a_last_word_without_a_video_ends_the_asking(stage: Stage, word: Status) -> None:
    job = await expired(stage)
    stage.clock.advance(await stage.wait(job))
    stage.alpha.answers = [report(word, f"at-{job.id}")]
    await stage.step(stage.poller)
    now = await stage.world.now(job)
    assert (now.state, now.due_at) == ("expired", None)


@pytest.mark.parametrize("silent", [True, False])
async def test_a_job_that_was_given_up_is_asked_about_for_a_day_and_no_longer(stage: Stage, *, silent: bool) -> None:
    job = await expired(stage)
    stage.clock.advance(DAY - 1)
    stage.alpha.answers = [Unanswered("HTTP 404")] if silent else []
    assert len(await stage.step(stage.poller)) == 1
    stage.clock.advance(await stage.wait(job))
    stage.alpha.answers = [Unanswered("HTTP 404")] if silent else []
    assert len(await stage.step(stage.poller)) == 1
    assert (await stage.world.now(job)).due_at is None
    stage.clock.advance(10 * DAY)
    assert await stage.step(stage.poller) == []


async def test_a_job_that_was_attached_late_is_asked_about_for_a_day_whatever_goes_wrong_at_first(stage: Stage) -> None:
    job = await stage.world.failed_unknown()
    stage.clock.advance(10 * DAY)
    assert await stage.world.store.attach(job.id, "found") is not None
    stage.alpha.answers = [Unanswered("HTTP 503")]
    assert await stage.step(stage.poller) == ["unanswered: HTTP 503"]
    stage.clock.advance(await stage.wait(job))
    stage.alpha.answers = [Report(Status.COMPLETED, "completed", "found", (Output(0),))]
    assert await stage.step(stage.poller) == ["completed"]
    assert (await stage.world.now(job)).state == "mirroring"


async def test_a_status_word_that_nobody_knows_is_no_verdict_but_counted_and_named(stage: Stage) -> None:
    job = await stage.running()
    for _ in range(2):
        stage.alpha.answers = [Report(Status.RUNNING, "dreaming", job.provider_job_id, understood=False)]
        assert await stage.step(stage.poller) == ["unknown word: dreaming"]
        stage.clock.advance(await stage.wait(job))
    now = await stage.world.now(job)
    assert (now.state, now.provider_status) == ("running", "dreaming")
    assert (await stage.world.statistics.overview()).unknown_words == {"alpha": {"dreaming": 2}}
