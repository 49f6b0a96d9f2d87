"""Callbacks that were not believed are kept, within bounds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from service.model import Job, VideoRequest
from service.store import Mark, NewJob, Reason, Rejection, Rejections
from tests.store.world import World


@pytest.fixture
def rejections(world: World) -> Rejections:
    return Rejections(world.ledger)


def rejected(job: Job, at: int, reason: Reason = Reason.WRONG_SECRET, times: int = 1) -> Rejection:
    headers = {"user-agent": 'a "name" \x00 ü'}
    return Rejection(job.id, job.provider, reason, f"at {at}", times, at, at, headers, 7)


def mark(rejection: Rejection) -> Mark:
    return Mark(rejection.last_at, rejection.job_id, rejection.reason)


async def test_what_a_job_has_for_one_reason_is_one_and_the_newest_one_speaks(
    world: World, rejections: Rejections
) -> None:
    job = await world.queued()
    await rejections.keep([rejected(job, 5_000, times=3), rejected(job, 9_000, Reason.TOO_SLOW)])
    newest = replace(rejected(job, 8_000, times=2), headers={"via": "1.1 proxy"}, bytes=None)
    await rejections.keep([newest])
    assert await rejections.page() == [
        rejected(job, 9_000, Reason.TOO_SLOW),
        replace(newest, times=5, first_at=5_000),
    ]
    assert await rejections.totals() == {"alpha": {"wrong_secret": 5, "too_slow": 1}}


async def test_the_oldest_go_when_there_are_too_many(
    world: World, rejections: Rejections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Rejections, "most", 3)
    jobs = [await world.queued() for _ in range(5)]
    await rejections.keep([rejected(job, at) for at, job in enumerate(jobs[:4])])
    assert [each.last_at for each in await rejections.page()] == [3, 2, 1]
    await rejections.keep([rejected(jobs[1], 10)])
    await rejections.keep([rejected(jobs[4], 4)])
    assert [each.job_id for each in await rejections.page()] == [jobs[1].id, jobs[4].id, jobs[3].id]
    assert await rejections.totals() == {"alpha": {"wrong_secret": 4}}


async def test_there_are_a_thousand_at_most_of_equal_age_too(world: World, rejections: Rejections) -> None:
    jobs = [await world.queued() for _ in range(101)]
    await rejections.keep([rejected(job, 1, reason) for job in jobs for reason in Reason])
    assert world.sql("SELECT count(*) AS rows FROM rejections") == [{"rows": 1_000}]


async def test_nothing_is_kept_of_a_job_that_is_not_there_or_is_another_providers(
    world: World, rejections: Rejections
) -> None:
    job = await world.queued("alpha")
    nobodys = replace(job, id="job_" + "0" * 26)
    await rejections.keep([rejected(nobodys, 1), rejected(replace(job, provider="beta"), 1)])
    assert await rejections.page() == []


async def test_a_deleted_jobs_rejections_go_with_it_and_no_others(world: World, rejections: Rejections) -> None:
    one, other = await world.cancelled(), await world.cancelled()
    await rejections.keep([rejected(one, 1), rejected(one, 2, Reason.TOO_LARGE), rejected(other, 3)])
    assert await world.store.delete(one)
    assert await rejections.page() == [rejected(other, 3)]
    await rejections.keep([rejected(one, 4)])
    assert await rejections.page() == [rejected(other, 3)]


async def test_a_list_goes_on_where_it_ended_also_among_those_of_one_moment(
    world: World, rejections: Rejections
) -> None:
    jobs = [await world.queued() for _ in range(4)]
    reasons = (Reason.TOO_LARGE, Reason.WRONG_SECRET)
    await rejections.keep([rejected(job, 1, reason) for job in jobs for reason in reasons])
    seen: list[Rejection] = []
    while page := await rejections.page(before=mark(seen[-1]) if seen else None, limit=3):
        seen += page
    assert [(each.job_id, each.reason) for each in seen] == sorted(
        ((job.id, reason) for job in jobs for reason in reasons), reverse=True
    )
    assert [each.job_id for each in await rejections.page(job_id=jobs[2].id)] == [jobs[2].id] * 2
    [_, rest] = [mark(each) for each in await rejections.page(job_id=jobs[2].id)]
    assert await rejections.page(job_id=jobs[2].id, before=rest) == []


async def test_a_tenant_sees_its_own(world: World, rejections: Rejections) -> None:
    ours = await world.queued()
    theirs = await world.create(NewJob("umbrella", "alpha", VideoRequest(model="m", prompt="a fox")))
    await rejections.keep([rejected(ours, 1), rejected(theirs, 2)])
    assert await rejections.page("acme") == [rejected(ours, 1)]
    assert await rejections.page("umbrella") == [rejected(theirs, 2)]
    assert await rejections.page("acme", job_id=theirs.id) == []
    assert await rejections.page("nobody") == []
    assert len(await rejections.page()) == 2
