"""What callers and operators see: idempotency, lists, numbers, keys, and when changes are announced."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from service.errors import StoreUnavailableError
from service.model import Job, OnUnknown, Source, State, Status, VideoRequest
from service.store import Created, Idempotency, KeptReceipt, KeyReused, NewJob, Receipt, Verdict
from tests.store.world import World, report, sure

FOX = NewJob("acme", "alpha", VideoRequest(model="m", prompt="a fox"))
KEY = Idempotency("key-1", "jobs.create", "aaaa")


async def test_a_job_reads_as_it_was_asked_for(world: World) -> None:
    request = VideoRequest(
        model="m", prompt='ein Fuchs \U0001f98a "quoted" \\ \x00', seed=0, provider_options={"deep": {"empty": {}}}
    )
    job = await world.create(NewJob("acme", "alpha", request, OnUnknown.RESUBMIT, {"order": [1, None, "x"]}))
    assert await world.store.job(job.id) == job
    assert (job.request, job.on_unknown, job.metadata) == (request, OnUnknown.RESUBMIT, {"order": [1, None, "x"]})


# Idempotency


async def test_concurrent_calls_with_one_key_are_one_job(world: World) -> None:
    answers = await asyncio.gather(*(world.store.create_job(FOX, KEY) for _ in range(50)))
    made = [answer for answer in answers if isinstance(answer, Created)]
    assert len(made) == 50
    assert len({answer.job.id for answer in made}) == 1
    assert sum(not answer.replayed for answer in made) == 1
    assert len(await world.store.jobs()) == 1
    assert await world.history(made[0].job) == ["queued"]


async def test_a_call_with_a_used_key_tells_the_job_as_it_is_now(world: World) -> None:
    job = await world.create(FOX, KEY)
    await world.store.cancel(job.id)
    again = await world.store.create_job(FOX, KEY)
    assert again == Created(await world.now(job), replayed=True)
    assert (await world.now(job)).state is State.CANCELLED


async def test_a_used_key_with_another_body_makes_nothing(world: World) -> None:
    job = await world.create(FOX, KEY)
    assert await world.store.create_job(FOX, replace(KEY, fingerprint="bbbb")) == KeyReused(job.id)
    assert len(await world.store.jobs()) == 1


@pytest.mark.parametrize(
    ("new", "idempotency"),
    [
        (replace(FOX, tenant="umbrella"), KEY),
        (FOX, replace(KEY, operation="jobs.retry")),
        (FOX, replace(KEY, key="key-2")),
        (FOX, None),
    ],
)
async def test_a_key_counts_for_one_tenant_and_one_operation(
    world: World, new: NewJob, idempotency: Idempotency | None
) -> None:
    first = await world.create(FOX, KEY)
    second = await world.store.create_job(new, idempotency)
    assert isinstance(second, Created)
    assert not second.replayed
    assert second.job.id != first.id
    assert await world.store.create_job(FOX, KEY) == Created(first, replayed=True)
    if idempotency is not None:
        assert await world.store.create_job(new, idempotency) == Created(second.job, replayed=True)


# Receipts


async def test_fifty_identical_callbacks_at_once_are_applied_once_and_kept_once(world: World) -> None:
    job = await world.running()
    said = report(Status.COMPLETED, f"at-{job.id}")
    verdicts = await asyncio.gather(*(world.receive(job, said, b"%d" % number) for number in range(50)))
    assert sorted(verdicts) == [Verdict.APPLIED] + [Verdict.DUPLICATE] * 49
    [receipt] = world.sql("SELECT * FROM receipts")
    assert (receipt["times"], receipt["verdict"], receipt["job_id"]) == (50, "applied", job.id)
    assert receipt["body"] == b"0"
    assert (await world.history(job)).count("mirroring") == 1
    assert await world.reports() == {"alpha": {"callback": 1}}


async def test_a_callback_that_says_something_else_is_kept_apart(world: World) -> None:
    job = await world.running()
    for status, provider_job_id in (
        (Status.RUNNING, f"at-{job.id}"),
        (Status.FAILED, "another"),
        (Status.FAILED, f"at-{job.id}"),
    ):
        await world.receive(job, report(status, provider_job_id))
    kept = world.sql("SELECT word, provider_job_id, verdict, times FROM receipts ORDER BY rowid")
    assert [tuple(row.values()) for row in kept] == [
        ("running", f"at-{job.id}", "applied", 1),
        ("failed", "another", "mismatched", 1),
        ("failed", f"at-{job.id}", "applied", 1),
    ]


async def test_what_was_received_about_a_job_is_told_in_the_order_in_which_it_came(world: World) -> None:
    job, begun = await world.running(), world.clock.now()
    await world.receive(job, report(Status.FAILED, "another"), b"\xff not text")
    world.clock.advance(5)
    for _ in range(2):
        await world.receive(job, report(Status.COMPLETED, f"at-{job.id}"), b"{}")
        world.clock.advance(5)
    headers = {"x-signature": "s"}
    assert await world.store.receipts(job.id) == [
        KeptReceipt("another", "failed", Verdict.MISMATCHED, 1, begun, begun, headers, b"\xff not text"),
        KeptReceipt(f"at-{job.id}", "completed", Verdict.APPLIED, 2, begun + 5, begun + 10, headers, b"{}"),
    ]
    assert await world.store.receipts((await world.queued()).id) == []


async def test_a_repeated_callback_that_is_applied_at_last_is_kept_as_applied(world: World) -> None:
    job = await world.queued()
    said = report(Status.RUNNING, "theirs")
    assert await world.receive(job, said, b"raw") is Verdict.DUPLICATE
    await world.claims.claim_queued("alpha", 1)
    world.clock.advance(1_000)
    assert await world.receive(job, said, b"later") is Verdict.APPLIED
    assert await world.receive(job, said, b"last") is Verdict.DUPLICATE
    [receipt] = world.sql("SELECT * FROM receipts")
    assert (receipt["verdict"], receipt["times"], receipt["body"]) == ("applied", 3, b"raw")
    assert receipt["last_at"] == receipt["first_at"] + 1_000 == world.clock.now()


async def test_a_callback_and_a_poll_that_finish_a_job_together_finish_it_once(world: World) -> None:
    job = await world.running()
    said = report(Status.COMPLETED, f"at-{job.id}")
    verdicts = await asyncio.gather(world.receive(job, said), world.apply(job, said, Source.POLL))
    assert sorted(verdicts) == [Verdict.APPLIED, Verdict.DUPLICATE]
    assert (await world.history(job)).count("mirroring") == 1


# Lists


async def fill(world: World, count: int, new: NewJob = FOX) -> list[Job]:
    jobs = []
    for _ in range(count):
        world.clock.advance(1)
        jobs.append(await world.create(new))
    return jobs


async def walk(world: World, tenant: str | None) -> list[str]:
    """Return the ids of all pages, while jobs are made between them."""
    seen: list[str] = []
    while len(seen) < 100 and (page := await world.store.jobs(tenant, before_id=seen[-1] if seen else None, limit=3)):
        seen += [job.id for job in page]
        await asyncio.gather(*(world.create(FOX) for _ in range(2)))
    return seen


@pytest.mark.parametrize("tenant", ["acme", None])
async def test_pages_show_every_job_once_although_jobs_are_made_meanwhile(world: World, tenant: str | None) -> None:
    jobs = await fill(world, 10)
    world.clock.advance(1)
    assert await walk(world, tenant) == [job.id for job in reversed(jobs)]


async def test_a_list_is_newest_first(world: World) -> None:
    await fill(world, 5)
    assert all(newer.created_at > older.created_at for newer, older in pairwise(await world.store.jobs()))


async def test_another_tenants_job_is_not_there(world: World) -> None:
    job = await world.create(FOX)
    theirs = await world.create(replace(FOX, tenant="umbrella"))
    assert await world.store.job(job.id, "acme") == job
    assert await world.store.job(job.id, "umbrella") is None
    assert await world.store.jobs("umbrella") == [theirs]
    assert await world.store.jobs("nobody") == []
    assert await world.store.job("job_none") is None


async def test_a_list_is_no_longer_than_it_was_asked_for(world: World) -> None:
    await fill(world, 4)
    assert [len(await world.store.jobs(limit=limit)) for limit in (1, 4, 5)] == [1, 4, 4]


async def test_a_job_tells_which_jobs_retried_it(world: World) -> None:
    job, other = await world.failed(), await world.failed()
    retried = [await retry(world, job) for _ in range(22)]
    again = await retry(world, sure(await world.store.cancel(retried[-1])))
    assert await world.store.retries(job.id) == retried[:1:-1]
    assert await world.store.retries(retried[-1]) == [again]
    assert await world.store.retries(other.id) == await world.store.retries("job_none") == []


async def retry(world: World, job: Job) -> str:
    world.clock.advance(1)
    created = await world.store.retry(job)
    assert isinstance(created, Created)
    return created.job.id


async def test_a_probe_writes(world: World) -> None:
    await world.store.probe()
    world.clock.advance(5)
    await world.store.probe()
    assert [dict(row) for row in world.sql("SELECT at FROM probes")] == [{"at": world.clock.now()}]


# Keys


async def test_a_key_opens_what_it_was_made_for_until_it_is_revoked(world: World) -> None:
    record, secret = await world.keys.create("ci", "acme")
    operator, operators_secret = await world.keys.create("ops", "acme", operator=True)
    assert (record.operator, operator.operator) == (False, True)
    assert await world.keys.authenticate(secret) == record
    assert await world.keys.authenticate(operators_secret) == operator
    assert await world.keys.authenticate(secret + "x") is None
    assert await world.keys.authenticate("") is None
    world.clock.advance(1)
    revoked = await world.keys.revoke(record.id)
    assert revoked is not None
    assert revoked.revoked_at == world.clock.now()
    assert await world.keys.authenticate(secret) is None
    assert await world.keys.revoke(record.id) is None
    assert {key.id for key in await world.keys.all()} == {record.id, operator.id}


# Announcements


async def test_what_was_committed_is_announced_after_the_commit(world: World) -> None:
    seen: list[int] = []
    announce = world.announced.append

    def look(state: State) -> None:
        seen.append(len(world.sql("SELECT 1 FROM jobs WHERE state = :state", state=state)))
        announce(state)

    world.ledger.announce = look
    job = await world.queued()
    sure(await world.store.cancel(job.id))
    assert world.announced == [State.QUEUED, State.CANCELLED]
    assert seen == [1, 1]


async def test_what_did_not_happen_is_not_announced(world: World) -> None:
    job = await world.running()
    world.announced.clear()
    headers: Any = {"x": object()}  # fails after the report was applied
    unkept = Receipt(headers, b"", 0)
    with pytest.raises(TypeError):
        await world.store.receive(job.id, report(Status.COMPLETED, f"at-{job.id}"), unkept, poll_ms=1, retention_ms=1)
    assert await world.now(job) == job
    assert await world.store.cancel(job.id) is None
    await world.database.close()
    with pytest.raises(StoreUnavailableError):
        await world.store.cancel(job.id)
    assert world.announced == []
