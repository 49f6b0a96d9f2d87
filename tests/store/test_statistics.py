"""What operators are told of how everything goes, and tenants of what is theirs."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from service.model import DeliveryAttempt, DeliveryState, Source, State, Status, VideoRequest
from service.store import QUARTERS, NewJob, Spend, Stored
from service.store.buckets import BOUNDS, bucket_of, quantile
from tests.store.world import TIMED_OUT, World, artifact, held, report, sure

QUARTER = 900_000
HOUR = 3_600_000
DAY = 24 * HOUR
FOX = NewJob("acme", "alpha", VideoRequest(model="m", prompt="a fox"))
REFUSAL = DeliveryAttempt(1_000, 20, 500, None, "oh no")
THANKS = DeliveryAttempt(2_000, 30, 204, None, "")


async def finished(world: World, new: NewJob = FOX, *, cost: float | None = None, took: int = 0) -> None:
    """Have a job's video kept, `took` ms after its submission."""
    job = await world.create(new)
    job = held(job, await world.claims.claim_queued(new.provider, 1_000))
    await world.submitted(job, f"at-{job.id}")
    await world.apply(job, report(Status.COMPLETED, f"at-{job.id}", cost=cost))
    world.clock.advance(took)
    job = held(job, await world.claims.claim_mirrors(new.provider, 1_000))
    await world.claims.keep_artifact(job, artifact())
    sure(await world.claims.mirrored(job))


async def test_nothing_is_to_be_told_of_an_empty_store(world: World) -> None:
    for tenant in (None, "acme"):
        overview = await world.statistics.overview(tenant)
        assert overview.storage == Stored(0, 0)
        assert not any((overview.jobs, overview.entered, overview.reports, overview.waiting, overview.kept))
        assert not any((overview.spend, overview.deliveries, overview.unknown_words))


async def test_jobs_are_counted_where_they_are_now(world: World) -> None:
    await world.queued()
    await world.queued()
    await world.mirrored("beta")
    await world.completed("beta")
    await world.failed("gamma")
    await world.create(replace(FOX, tenant="umbrella"))
    everybody = {
        "alpha": {State.QUEUED: 3},
        "beta": {State.MIRRORING: 1, State.COMPLETED: 1},
        "gamma": {State.FAILED: 1},
    }
    assert (await world.statistics.overview()).jobs == everybody
    assert (await world.statistics.overview("acme")).jobs == {**everybody, "alpha": {State.QUEUED: 2}}
    assert (await world.statistics.overview("umbrella")).jobs == {"alpha": {State.QUEUED: 1}}
    assert (await world.statistics.overview("nobody")).jobs == {}


async def test_what_happened_is_told_by_the_quarter_of_an_hour(world: World) -> None:
    world.clock.advance(QUARTER - world.clock.now() % QUARTER)
    await world.queued()
    world.clock.advance(QUARTER - 1)
    await world.queued()
    world.clock.advance(1)
    sure(await world.store.cancel((await world.queued()).id))
    entered = (await world.statistics.overview()).entered["alpha"]
    assert set(entered) == {"job.queued", "job.cancelled"}
    assert {len(times) for times in entered.values()} == {QUARTERS}
    assert entered["job.queued"][-3:] == (0, 2, 1)
    assert entered["job.cancelled"][-3:] == (0, 0, 1)
    world.clock.advance(DAY - QUARTER)
    assert (await world.statistics.overview("acme")).entered["alpha"]["job.queued"] == (1, *(0,) * (QUARTERS - 1))
    world.clock.advance(QUARTER)
    assert (await world.statistics.overview()).entered == {}


async def test_the_last_word_about_a_job_is_counted_by_the_way_it_came(world: World) -> None:
    for source, times in ((Source.POLL, 2), (Source.SUBMISSION, 1)):
        for _ in range(times):
            job = await world.running()
            await world.apply(job, report(Status.RUNNING, f"at-{job.id}"), source)
            await world.apply(job, report(Status.FAILED, f"at-{job.id}"), source)
            await world.apply(job, report(Status.FAILED, f"at-{job.id}"), Source.CALLBACK)
    assert await world.reports() == {"alpha": {Source.POLL: 2, Source.SUBMISSION: 1}}
    assert sum((await world.statistics.overview("acme")).reports["alpha"][Source.POLL]) == 2
    assert (await world.statistics.overview("umbrella")).reports == {}


async def test_what_nobody_reported_is_nobodys_word(world: World) -> None:
    await world.failed()
    await world.cancelled()
    sure(await world.claims.expire(await world.running(), TIMED_OUT, None))
    sure(await world.store.remirror((await world.failed_unavailable()).id))
    assert await world.reports() == {"alpha": {Source.CALLBACK: 1}}  # that there was an output


# What waits


async def test_what_waits_longest_is_told_for_each_step_and_provider(world: World) -> None:
    first = await world.queued()
    world.clock.advance(1_000)
    await world.queued()
    other = await world.queued("beta")
    running = sure(await world.submitted(await world.submitting("gamma"), "theirs"))
    mirroring = await world.mirroring("delta")
    waiting = {(each.step, each.provider): each for each in (await world.statistics.overview()).waiting}
    assert set(waiting) == {("submit", "alpha"), ("submit", "beta"), ("poll", "gamma"), ("mirror", "delta")}
    assert waiting["submit", "alpha"].job_id == waiting["submit", "alpha"].id == first.id
    assert waiting["submit", "alpha"].due_at == waiting["submit", "alpha"].since == first.created_at
    assert waiting["submit", "beta"].job_id == other.id
    assert waiting["poll", "gamma"].due_at == running.due_at
    assert waiting["mirror", "delta"].due_at == mirroring.leased_until


async def test_what_was_put_back_waits_since_then(world: World) -> None:
    world.clock.advance(5_000)
    job = await world.submitting()
    world.clock.advance(1_000)
    job = sure(await world.claims.turned_away(job, world.clock.now() + 9_000, "busy"))
    [waiting] = (await world.statistics.overview()).waiting
    assert (waiting.since, waiting.due_at) == (job.created_at + 1_000, job.created_at + 10_000)


async def test_of_a_tenant_only_its_own_jobs_wait(world: World) -> None:
    await world.create(FOX)
    world.clock.advance(1_000)
    theirs = await world.create(replace(FOX, tenant="umbrella"))
    [waiting] = (await world.statistics.overview("umbrella")).waiting
    assert (waiting.step, waiting.provider, waiting.job_id) == ("submit", "alpha", theirs.id)


async def test_a_message_that_waits_is_told_with_its_job(world: World) -> None:
    for tenant in ("acme", "umbrella"):
        new = replace(FOX, tenant=tenant, notify_url=f"https://{tenant}.example/hook")
        job = sure(await world.store.cancel((await world.create(new)).id))
        world.clock.advance(1_000)
    for whose in (None, "acme"):
        [waiting] = (await world.statistics.overview(whose)).waiting
        assert (waiting.step, waiting.provider) == ("notify", None)
        assert waiting.due_at == waiting.since == job.created_at - 1_000
        assert waiting.id == f"evt_{waiting.job_id}"
    [waiting] = (await world.statistics.overview("umbrella")).waiting
    assert waiting.job_id == job.id


# How long


def test_the_bounds_grow_by_no_more_than_15_of_100_from_half_a_second_to_two_days() -> None:
    assert (BOUNDS[0], BOUNDS[-2] < 2 * DAY <= BOUNDS[-1]) == (500, True)
    assert all(1 < after / before <= 1.15 for before, after in pairwise(BOUNDS))


@pytest.mark.parametrize(("took", "bucket"), [(-5, 0), (0, 0), (500, 0), (501, 1), (575, 1), (576, 2)])
def test_a_time_is_in_the_first_bucket_that_it_does_not_exceed(took: int, bucket: int) -> None:
    assert bucket_of(took) == bucket


def test_a_quantile_is_told_within_the_width_of_a_bucket() -> None:
    times = sorted(number**2 for number in range(30, 3_000))
    counts: dict[int, int] = {}
    for took in times:
        counts[bucket_of(took)] = counts.get(bucket_of(took), 0) + 1
    for share in (0.05, 0.5, 0.95, 0.99, 1.0):
        true = times[min(int(share * len(times)), len(times) - 1)]
        assert quantile(counts, share) == pytest.approx(true, rel=0.15)
    assert quantile({}, 0.5) is None
    assert quantile({bucket_of(9 * DAY): 1}, 0.5) == BOUNDS[-1]


async def test_the_time_from_submission_to_the_kept_video_is_told_for_the_last_day(world: World) -> None:
    for took in (10_000, 100_000, 100_000, 100_000):
        await finished(world, took=took)
    await finished(world, replace(FOX, tenant="umbrella"), took=50_000)
    [(provider, kept)] = (await world.statistics.overview("acme")).kept.items()
    assert (provider, kept.jobs) == ("alpha", 4)
    assert kept.p50_ms == pytest.approx(100_000, rel=0.15)
    assert kept.p95_ms == pytest.approx(100_000, rel=0.15)
    assert (await world.statistics.overview()).kept["alpha"].jobs == 5
    world.clock.advance(DAY)
    assert (await world.statistics.overview()).kept == {}


# What it costs, and what there is


async def test_what_providers_said_that_jobs_cost_is_told_by_model(world: World) -> None:
    dear = replace(FOX, request=VideoRequest(model="dear"))
    for new, cost in ((FOX, 0.25), (FOX, None), (FOX, 0.5), (dear, 7.0), (replace(FOX, tenant="umbrella"), 1.0)):
        await finished(world, new, cost=cost)
    assert (await world.statistics.overview()).spend == (
        Spend("alpha", "dear", jobs=1, priced=1, cost=7.0),
        Spend("alpha", "m", jobs=4, priced=3, cost=1.75),
    )
    assert (await world.statistics.overview("umbrella")).spend == (Spend("alpha", "m", 1, 1, 1.0),)
    world.clock.advance(30 * DAY)
    assert (await world.statistics.overview()).spend == ()


async def test_a_cost_that_is_said_anew_replaces_the_one_before(world: World) -> None:
    job = await world.running()
    await world.apply(job, report(Status.FAILED, f"at-{job.id}", cost=2.0))
    assert (await world.statistics.overview()).spend == (Spend("alpha", "m", 1, 1, 2.0),)
    job = await world.expired()
    await world.apply(job, report(Status.COMPLETED, f"at-{job.id}", cost=1.0))
    await world.claims.give_up_mirror(held(job, await world.claims.claim_mirrors("alpha", 9)), TIMED_OUT)
    assert (await world.statistics.overview()).spend == (Spend("alpha", "m", 2, 2, 3.0),)


async def test_at_most_fifty_models_are_told_of(world: World) -> None:
    for number in range(60):
        await finished(world, replace(FOX, request=VideoRequest(model=f"m{number}")), cost=float(number))
    spend = (await world.statistics.overview()).spend
    assert [each.cost for each in spend] == [float(number) for number in range(59, 9, -1)]


async def test_what_is_kept_in_storage_is_told_until_it_is_deleted(world: World) -> None:
    await finished(world)
    job = await world.completed()
    assert (await world.statistics.overview()).storage == Stored(2, 2_000)
    assert (await world.statistics.overview("umbrella")).storage == Stored(0, 0)
    await world.store.delete(job)
    assert (await world.statistics.overview("acme")).storage == Stored(1, 1_000)


async def test_what_is_owed_is_counted_by_what_became_of_it(world: World) -> None:
    for _ in range(3):
        job = await world.create(replace(FOX, notify_url="https://caller.example/hook"))
        sure(await world.store.cancel(job.id))
    given_up, delivered, _ = await world.deliveries.claim(100, each=100)
    await world.deliveries.gave_up(given_up, REFUSAL)
    await world.deliveries.delivered(delivered, THANKS)
    assert (await world.statistics.overview()).deliveries == dict.fromkeys(DeliveryState, 1)
    assert (await world.statistics.overview("umbrella")).deliveries == {}


async def test_words_that_no_adapter_knows_are_the_operators_business(world: World) -> None:
    job = await world.running()
    await world.apply(job, replace(report(Status.RUNNING, f"at-{job.id}"), word="dreaming", understood=False))
    assert (await world.statistics.overview()).unknown_words == {"alpha": {"dreaming": 1}}
    assert (await world.statistics.overview("acme")).unknown_words == {}


async def test_what_happened_is_forgotten_after_eight_days(world: World) -> None:
    await finished(world)
    world.clock.advance(4 * DAY)
    await finished(world)
    world.clock.advance(4 * DAY + HOUR)
    await world.statistics.forget()
    begun = world.clock.now() - 8 * DAY
    assert min(row["quarter"] for row in world.sql("SELECT quarter FROM activity")) >= begun // QUARTER
    assert [row["hour"] for row in world.sql("SELECT hour FROM kept_times WHERE tenant = ''")] == [
        (begun + 4 * DAY - HOUR) // HOUR
    ]
    world.clock.advance(20 * DAY)
    await world.statistics.forget()
    assert not world.sql("SELECT quarter FROM activity UNION ALL SELECT hour FROM kept_times")
    assert (await world.statistics.overview()).jobs == {"alpha": {State.COMPLETED: 2}}


async def test_what_was_spent_is_forgotten_after_thirty_days_and_a_cost_that_is_said_later_is_of_its_day(
    world: World,
) -> None:
    job = await world.running()
    await finished(world, cost=1.0)
    world.clock.advance(29 * DAY)
    await finished(world, replace(FOX, tenant="umbrella"), cost=2.0)
    await world.statistics.forget()
    assert [each.cost for each in (await world.statistics.overview()).spend] == [3.0]
    world.clock.advance(DAY)
    await world.statistics.forget()
    last = [{"day": world.clock.now() // DAY - 1, "tenant": tenant} for tenant in ("", "umbrella")]
    assert world.sql("SELECT day, tenant FROM spend") == last
    await world.apply(job, report(Status.FAILED, f"at-{job.id}", cost=4.0))
    assert [each.cost for each in (await world.statistics.overview()).spend] == [2.0]
    await world.statistics.forget()
    assert world.sql("SELECT day, tenant FROM spend") == last
