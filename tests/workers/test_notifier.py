"""Callers are told, over real sockets: until they have it, never too fast, and nobody waits for somebody else."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook
from structlog.typing import FilteringBoundLogger

from service.backoff import DELIVERY_WAITS_MS, spread_ms
from service.clock import SystemClock
from service.errors import StoreUnavailableError
from service.model import Delivery, DeliveryAttempt, DeliveryState, Face, Job, VideoRequest
from service.outbound import public_client
from service.store import Deliveries, NewJob, Redelivery
from service.vault import Vault
from service.web.deliveries import Composer
from service.web.views import Views
from service.workers import Worker
from service.workers.notifier import _JITTER, Compose, Notifier
from tests.servers import answer, free_ports
from tests.store.world import TIMING, sure
from tests.turns import until
from tests.workers.stage import Stage, told

HOUR, DAY = 3_600_000, 86_400_000


def a_job(job: Job) -> dict[str, Any]:
    return {"id": job.id}


VAULT = Vault([b"k" * 32])
COMPOSER = Composer(VAULT, native=Views("https://us.example").job, openrouter=a_job, openai=a_job)


@dataclass
class Receiver:
    """Somebody who is told. Answers what it is given in turn, then 204; never, while `hanging`."""

    url: str
    answers: list[bytes] = field(default_factory=list)
    told: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    connections: int = 0
    hanging: bool = False
    closing: asyncio.Event = field(default_factory=asyncio.Event)  # when it hangs up, if it hangs

    def ids(self) -> list[str]:
        return [headers["webhook-id"] for headers, _ in self.told]


@asynccontextmanager
async def receiver(*answers: bytes, hanging: bool = False) -> AsyncIterator[Receiver]:
    running: set[asyncio.Task[None]] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        pairs = (line.partition(": ")[::2] for line in head.split("\r\n")[1:] if line)
        headers = {name.lower(): value for name, value in pairs}
        there.told.append((headers, await reader.readexactly(int(headers["content-length"]))))
        if there.hanging:
            await there.closing.wait()
            return
        writer.write(there.answers.pop(0) if there.answers else answer(status=204, length=-1))
        await writer.drain()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there.connections += 1
        task = asyncio.create_task(talk(reader, writer))
        running.add(task)
        task.add_done_callback(lambda _: writer.close())

    listener = await asyncio.start_server(connected, "127.0.0.1", 0)
    there = Receiver(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/hook?key=1", list(answers))
    there.hanging = hanging
    try:
        yield there
    finally:
        listener.close()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


class Even(random.Random):
    """Chance that is always the same: 0 is the shortest wait, 1 the longest."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def random(self) -> float:
        return self.share


class Post:
    """A notifier on the stage's store that may reach whom it owes something, and ways to look at what it did."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.clock = stage.clock
        self.clock.advance(SystemClock().now() - self.clock.now())  # verifiers compare with the machine's own clock
        self.deliveries = Deliveries(stage.world.ledger, stage.world.ids)
        self.allowed: set[str] = set()
        self.private: set[str] = set()  # those of the allowed that are no receivers of everybody's
        self.clients: list[httpx.AsyncClient] = []
        self.compose: Compose = COMPOSER.compose
        self.chance: random.Random = Even(0.5)

    def notifier(self) -> Notifier:
        self.clients.append(public_client(self.allowed))
        world = self.stage.world
        return Notifier(
            world.store,
            self.deliveries,
            self.compose,
            self.clients[-1],
            self.clock,
            self.chance,
            private_hosts=self.private,
        )

    async def owe(self, url: str, face: Face = Face.NATIVE, secret: str | None = None, *, tenant: str = "acme") -> Job:
        """End a job that names `url` to be told at."""
        self.allowed.add(urlsplit(url).netloc)
        request = VideoRequest(model="m", prompt="a fox")
        new = NewJob(tenant, "alpha", request, face=face, notify_url=url, notify_secret=secret)
        job = await self.stage.world.create(new)
        return sure(await self.stage.world.store.cancel(job.id))

    async def step(self) -> list[str]:
        """Claim and handle what is due, one after another; return the outcomes."""
        notifier, outcomes = self.notifier(), []
        for delivery in await notifier.claim(100):
            try:
                outcomes.append(told(await notifier.handle(delivery)))
            except Exception as error:  # noqa: BLE001 - as the worker does
                outcomes.append(told(await notifier.failed(delivery, error)))
        return outcomes

    async def now(self, job: Job) -> tuple[Delivery, list[DeliveryAttempt]]:
        ((delivery, attempts),) = await self.deliveries.of(job.id)
        return delivery, attempts

    async def attempt(self, job: Job) -> DeliveryAttempt:
        _, (only,) = await self.now(job)
        return only

    async def wait(self, job: Job) -> int:
        """Return how long from now the message is to wait, in ms."""
        delivery, _ = await self.now(job)
        assert delivery.due_at is not None
        return delivery.due_at - self.clock.now()


@pytest.fixture
async def post(stage: Stage) -> AsyncIterator[Post]:
    post = Post(stage)
    yield post
    for client in post.clients:
        await client.aclose()


@pytest.fixture
def log() -> FilteringBoundLogger:
    wrapped: FilteringBoundLogger = structlog.wrap_logger(
        structlog.testing.CapturingLogger(), wrapper_class=structlog.make_filtering_bound_logger(20)
    )
    return wrapped


# What arrives


async def test_a_caller_is_told_and_can_verify_it(post: Post) -> None:
    async with receiver() as there:
        job = await post.owe(there.url)
        assert await post.step() == ["delivered"]
    ((headers, body),) = there.told
    told = Webhook(VAULT.delivery_secrets("acme")[0]).verify(body, headers)
    assert (told["type"], told["data"]["id"], headers["webhook-id"]) == ("job.cancelled", job.id, f"evt_{job.id}")
    delivery, (attempt,) = await post.now(job)
    assert (delivery.state, delivery.due_at, delivery.finished_at) == (DeliveryState.DELIVERED, None, post.clock.now())
    assert (attempt.number, attempt.at, attempt.status, attempt.error) == (1, post.clock.now(), 204, None)
    assert 0 <= attempt.duration_ms < 20_000
    post.clock.advance(DAY)
    assert await post.step() == []


@pytest.mark.parametrize("status", [200, 201, 202, 206, 299])
async def test_every_2xx_means_that_they_have_it(post: Post, status: int) -> None:
    async with receiver(answer(b"ok", status=status)) as there:
        job = await post.owe(there.url)
        assert await post.step() == ["delivered"]
        assert (await post.attempt(job)).status == status


@pytest.mark.parametrize("status", [300, 301, 304, 400, 401, 404, 408, 409, 429, 500, 502, 503, 599])
async def test_any_other_answer_is_followed_by_another_attempt(post: Post, status: int) -> None:
    async with receiver(answer(b"no", status=status, length=-1)) as there:
        job = await post.owe(there.url)
        assert await post.step() == [f"later: the answer was {status}"]
        assert await post.wait(job) == 5_000
        post.clock.advance(5_000)
        assert await post.step() == ["delivered"]
    delivery, attempts = await post.now(job)
    assert [(attempt.number, attempt.status) for attempt in attempts] == [(1, status), (2, 204)]
    assert attempts[1].at == attempts[0].at + 5_000
    assert delivery.state is DeliveryState.DELIVERED


async def test_the_next_attempt_has_the_same_id_and_a_fresh_timestamp(post: Post) -> None:
    async with receiver(answer(status=500)) as there:
        await post.owe(there.url)
        await post.step()
        post.clock.advance(5_000)
        await post.step()
    (first, body), (second, again) = there.told
    assert (first["webhook-id"], body) == (second["webhook-id"], again)
    assert int(second["webhook-timestamp"]) == int(first["webhook-timestamp"]) + 5
    assert Webhook(VAULT.delivery_secrets("acme")[0]).verify(again, second)


async def test_a_receiver_that_is_gone_is_never_told_again(post: Post) -> None:
    async with receiver(answer(b"gone", "Retry-After: 1", status=410)) as there:
        job = await post.owe(there.url)
        assert await post.step() == ["gave up: the answer was 410"]
        post.clock.advance(2 * DAY)
        assert await post.step() == []
    delivery, (attempt,) = await post.now(job)
    assert (delivery.state, attempt.status, attempt.answer) == (DeliveryState.FAILED, 410, "gone")


async def test_a_redirect_is_not_followed_and_says_what_to_do(post: Post) -> None:
    async with receiver() as elsewhere, receiver(answer(b"", f"Location: {elsewhere.url}", status=308)) as there:
        post.allowed.add(urlsplit(elsewhere.url).netloc)
        job = await post.owe(there.url)
        await post.step()
        assert elsewhere.connections == 0
    assert (await post.attempt(job)).error == (
        "redirects are not followed; give the address that they lead to as the address to notify"
    )


# When it is tried again


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
async def test_whoever_never_answers_is_told_nine_times_in_more_than_a_day(post: Post, share: float) -> None:
    post.chance = Even(share)
    begun = post.clock.now()
    async with receiver(*[answer(status=500)] * 50) as there:
        job = await post.owe(there.url)
        while (await post.now(job))[0].state is DeliveryState.PENDING:
            assert await post.step() == [
                "later: the answer was 500" if len(there.told) < 9 else "gave up: the answer was 500"
            ]
            if len(there.told) < 9:
                post.clock.advance(await post.wait(job) - 1)
                assert await post.step() == []
                post.clock.advance(1)
        post.clock.advance(30 * DAY)
        assert await post.step() == []
    delivery, attempts = await post.now(job)
    assert (delivery.state, len(attempts), len(there.told)) == (DeliveryState.FAILED, 9, 9)
    assert [attempt.number for attempt in attempts] == list(range(1, 10))
    assert attempts[-1].at - begun >= DAY
    assert len(set(there.ids())) == 1


@given(seed=st.integers())
def test_no_jitter_makes_the_attempts_fewer_than_eight_or_their_time_shorter_than_a_day(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - chance that repeats
    waits = [spread_ms(wait, _JITTER, chance) for wait in DELIVERY_WAITS_MS]
    assert len(waits) + 1 >= 8
    assert sum(waits) >= DAY
    assert sum(wait * (1 - _JITTER) for wait in DELIVERY_WAITS_MS) >= DAY
    assert waits == sorted(waits)


async def test_two_messages_that_failed_together_do_not_come_back_together(post: Post) -> None:
    post.chance = random.Random(3)  # noqa: S311 - chance that repeats
    async with receiver(*[answer(status=500)] * 2) as there:
        jobs = [await post.owe(there.url) for _ in range(2)]
        await post.step()
    first, second = [await post.wait(job) for job in jobs]
    assert first != second
    assert all(4_500 <= wait <= 5_500 for wait in (first, second))


@pytest.mark.parametrize(
    ("asked", "wait_ms"),
    [("3600", HOUR), ("2", 5_000), ("9999999", DAY), ("soon", 5_000)],
)
async def test_a_receiver_that_asks_for_time_gets_it(post: Post, asked: str, wait_ms: int) -> None:
    async with receiver(answer(b"", f"Retry-After: {asked}", status=503)) as there:
        job = await post.owe(there.url)
        await post.step()
    assert await post.wait(job) == wait_ms


# What is noted


async def test_nobody_at_home_is_noted_in_words(post: Post) -> None:
    (port,) = free_ports(1)
    job = await post.owe(f"http://127.0.0.1:{port}/hook?key=canary")
    (outcome,) = await post.step()
    attempt = await post.attempt(job)
    assert (attempt.status, attempt.answer) == (None, None)
    assert attempt.error is not None
    assert attempt.error.startswith("connect error: ")
    assert outcome == f"later: {attempt.error}"


async def test_the_first_bytes_of_an_answer_are_kept_as_text(post: Post) -> None:
    async with receiver(answer(("é" * 1000).encode(), status=500), answer(b"\xff\x00\n", status=500)) as there:
        jobs = [await post.owe(there.url) for _ in range(2)]
        await post.step()
    assert [(await post.attempt(job)).answer for job in jobs] == ["é" * 256, "\ufffd\\x00\n"]


@pytest.mark.parametrize("status", [200, 404, 500])
async def test_of_a_private_host_the_status_is_kept_and_nothing_that_it_says(post: Post, status: int) -> None:
    said = answer(b"the inside of a private network", "Retry-After: 60", status=status)
    async with receiver(said, said) as there, receiver(said) as elsewhere:
        post.private.add(urlsplit(there.url).netloc)
        job, other = await post.owe(there.url), await post.owe(elsewhere.url)
        outcomes = await post.step()
        attempt = await post.attempt(job)
        assert (attempt.status, attempt.answer, attempt.error) == (status, None, None)
        assert (await post.attempt(other)).answer == "the inside of a private network"
    assert outcomes[0] == ("delivered" if status < 300 else f"later: the answer was {status}")
    if status >= 300:
        assert await post.wait(job) == 60_000


async def test_an_answer_that_shows_a_secret_is_kept_without_it(post: Post) -> None:
    said = b'{"got": "Bearer canary-canary", "secret": "canary", "whsec": "whsec_canary", "at": "https://x/y?k=canary"}'
    async with receiver(answer(said, status=500)) as there:
        job = await post.owe(there.url)
        await post.step()
    kept = (await post.attempt(job)).answer
    assert kept is not None
    assert "https://x/y?" in kept
    assert "canary" not in kept


async def test_an_address_on_our_own_network_is_sent_nothing_and_says_why(post: Post) -> None:
    async with receiver() as there:
        job = await post.owe(there.url.replace("http", "https"))
        post.allowed.clear()
        await post.step()
        assert there.connections == 0
    assert "is not on the public internet; if it is yours, add it to REELKEEPER_ALLOWED_PRIVATE_HOSTS" in str(
        (await post.attempt(job)).error
    )
    assert await post.wait(job) == 5_000


async def test_a_secret_whose_key_is_missing_is_tried_again_until_the_key_is_back(post: Post) -> None:
    sealed = Vault([b"g" * 32]).seal("s3cret", "acme")
    async with receiver() as there:
        job = await post.owe(there.url, Face.OPENAI, sealed)
        (outcome,) = await post.step()
        assert there.told == []
        delivery, (attempt,) = await post.now(job)
        assert delivery.state is DeliveryState.PENDING
        assert outcome == f"later: {attempt.error}"
        assert "write that key at the end of the list again" in str(attempt.error)
        assert str(attempt.error).endswith("restart and try again")

        post.compose = Composer(Vault([b"k" * 32, b"g" * 32]), native=a_job, openrouter=a_job, openai=a_job).compose
        post.clock.advance(await post.wait(job))
        assert await post.step() == ["delivered"]


async def test_a_secret_that_nothing_brings_back_is_not_tried_again_in_vain(post: Post) -> None:
    async with receiver() as there:
        job = await post.owe(there.url, Face.OPENAI, "seal0.broken")
        await post.step()
        assert there.told == []
    told = str((await post.attempt(job)).error)
    assert "must give it anew" in told
    assert "again" not in told


async def test_a_job_that_names_nobody_any_more_is_given_up(post: Post) -> None:
    job = await post.owe("https://caller.example:443/")
    post.stage.world.sql("UPDATE jobs SET notify_url = NULL")
    assert await post.step() == ["gave up: the job was deleted, or names no address to notify any more"]
    assert (await post.now(job))[0].state is DeliveryState.FAILED


async def test_a_job_that_is_deleted_while_its_message_is_claimed_is_no_fault(post: Post) -> None:
    job = await post.owe("https://caller.example:443/")
    notifier = post.notifier()
    (delivery,) = await notifier.claim(1)
    assert await post.stage.world.store.delete(job)
    assert told(await notifier.handle(delivery)) == "lease lost"


async def test_a_fault_of_ours_is_noted_and_followed_by_another_attempt(post: Post) -> None:
    def broken(*_: object) -> tuple[dict[str, str], bytes]:
        raise RuntimeError("canary")

    post.compose = broken
    job = await post.owe("https://caller.example:443/")
    await post.step()
    attempt = await post.attempt(job)
    assert (attempt.status, attempt.error) == (
        None,
        "the service could not write or send the message; its log says why",
    )
    assert await post.wait(job) == 5_000


async def test_a_message_is_sent_again_on_demand_as_a_new_attempt(post: Post) -> None:
    async with receiver(answer(b"first", status=200)) as there:
        job = await post.owe(there.url)
        await post.step()
        assert await post.deliveries.redeliver(job.id)
        assert await post.step() == ["delivered"]
    assert there.ids() == [f"evt_{job.id}"] * 2
    _, attempts = await post.now(job)
    assert [(attempt.number, attempt.status, attempt.answer) for attempt in attempts] == [
        (1, 200, "first"),
        (2, 204, ""),
    ]


async def test_a_receiver_that_was_down_has_at_once_what_waited_hours_for_it_and_nothing_twice(post: Post) -> None:
    async with receiver(*[answer(status=503)] * 18) as there:
        jobs = [await post.owe(there.url) for _ in range(3)]
        for number in range(6):
            post.clock.advance(await post.wait(jobs[0]) if number else 0)
            assert await post.step() == ["later: the answer was 503"] * 3
        assert [await post.wait(job) for job in jobs] == [5 * 3_600_000] * 3
        where = "acme", f"http://{urlsplit(there.url).netloc}"
        assert await post.deliveries.redeliver_all(*where) == Redelivery(given_up=0, waiting=3)
        assert await post.step() == ["delivered"] * 3
        assert await post.deliveries.redeliver_all(*where) == Redelivery(given_up=0, waiting=0)
        assert await post.step() == []
    assert Counter(there.ids()) == {f"evt_{job.id}": 7 for job in jobs}


# Stops and crashes


async def test_a_crash_between_the_answer_and_its_note_costs_a_second_message_and_no_attempt(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with receiver() as there:
        job = await post.owe(there.url)

        async def died(*_: object) -> bool:
            raise StoreUnavailableError("the disk is full")

        with monkeypatch.context() as patched:
            patched.setattr(post.deliveries, "delivered", died)
            with pytest.raises(StoreUnavailableError):
                await post.step()
        post.clock.advance(TIMING.lease - 1)
        assert await post.step() == []
        post.clock.advance(1)
        assert await post.step() == ["delivered"]
    (first, _), (second, _) = there.told
    assert first["webhook-id"] == second["webhook-id"]
    assert int(second["webhook-timestamp"]) == int(first["webhook-timestamp"]) + TIMING.lease // 1000
    delivery, attempts = await post.now(job)
    assert (delivery.attempt, [attempt.number for attempt in attempts]) == (1, [1])


async def test_what_a_stop_cuts_off_is_sent_after_the_restart(post: Post, log: FilteringBoundLogger) -> None:
    async with receiver(hanging=True) as there:
        job = await post.owe(there.url)
        async with working(Worker(post.notifier(), log, concurrency=64)) as worker:
            await until(lambda: there.told)
            await worker.stop(0)
        delivery, attempts = await post.now(job)
        assert (delivery.state, delivery.lease, delivery.attempt, attempts) == (DeliveryState.PENDING, None, 0, [])
        there.hanging = False
        assert await post.step() == ["delivered"]
    assert there.ids() == [delivery.id] * 2


# Nobody waits for somebody else


@asynccontextmanager
async def working(worker: Worker[Delivery]) -> AsyncIterator[Worker[Delivery]]:
    """Run a worker until the block ends; what it has under way then is cut off."""
    running = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        await worker.stop(0)
        await running


def states(post: Post) -> dict[str, int]:
    rows = post.stage.world.sql("SELECT state, count(*) AS n FROM deliveries GROUP BY state")
    return {row["state"]: row["n"] for row in rows}


async def test_a_receiver_that_hangs_delays_nobody_however_much_it_is_owed(
    post: Post, log: FilteringBoundLogger
) -> None:
    async with receiver(hanging=True) as dead, receiver() as quick:
        for _ in range(200):
            await post.owe(dead.url)
        post.allowed.add(urlsplit(quick.url).netloc)
        async with working(Worker(post.notifier(), log, concurrency=64)) as worker:
            await until(lambda: len(dead.told) == 4)
            job = await post.owe(quick.url)
            worker.wake()
            await until(lambda: states(post).get("delivered"))
            assert quick.ids() == [f"evt_{job.id}"]
            assert (dead.connections, len(dead.told)) == (4, 4)
        assert states(post) == {"pending": 200, "delivered": 1}


async def test_many_receivers_that_hang_leave_the_next_place_to_whoever_has_none(
    post: Post, log: FilteringBoundLogger
) -> None:
    async with AsyncExitStack() as stack:
        dead = [await stack.enter_async_context(receiver(hanging=True)) for _ in range(5)]
        quick = await stack.enter_async_context(receiver())
        for each in dead:
            for _ in range(5):
                await post.owe(each.url)
        post.allowed.add(urlsplit(quick.url).netloc)
        async with working(Worker(post.notifier(), log, concurrency=64)) as worker:
            await until(lambda: sum(len(each.told) for each in dead) == 13)
            assert {each.connections for each in dead} == {2, 3}
            post.clock.advance(1)
            job = await post.owe(quick.url)
            worker.wake()
            await let_go(post, dead[0])
            await until(lambda: states(post).get("delivered"))
            assert quick.ids() == [f"evt_{job.id}"]


async def test_a_tenant_with_any_number_of_receivers_that_hang_delays_no_other(
    post: Post, log: FilteringBoundLogger
) -> None:
    async with AsyncExitStack() as stack:
        dead = [await stack.enter_async_context(receiver(hanging=True)) for _ in range(100)]
        quick = await stack.enter_async_context(receiver())
        for each in dead:
            for tenant in ("mallory", "marvin"):
                await post.owe(each.url, tenant=tenant)
        post.allowed.add(urlsplit(quick.url).netloc)
        async with working(Worker(post.notifier(), log, concurrency=64)) as worker:
            await until(lambda: sum(each.connections for each in dead) >= 20)
            post.clock.advance(1)
            jobs = [await post.owe(quick.url, tenant="globex") for _ in range(9)]
            worker.wake()
            await until(lambda: states(post).get("delivered") == 9)
            assert sorted(quick.ids()) == sorted(f"evt_{job.id}" for job in jobs)
            assert sum(each.connections for each in dead) < 32
        assert states(post) == {"pending": 200, "delivered": 9}


async def test_a_tenants_own_receivers_that_hang_do_not_delay_one_that_took_its_last_message(
    post: Post, log: FilteringBoundLogger
) -> None:
    async with AsyncExitStack() as stack:
        quick = await stack.enter_async_context(receiver())
        await post.owe(quick.url)
        assert await post.step() == ["delivered"]
        dead = [await stack.enter_async_context(receiver(hanging=True)) for _ in range(100)]
        for each in dead:
            await post.owe(each.url)
        async with working(Worker(post.notifier(), log, concurrency=64)) as worker:
            await until(lambda: sum(each.connections for each in dead) == 13)
            post.clock.advance(1)
            for _ in range(9):
                await post.owe(quick.url)
            worker.wake()
            await until(lambda: states(post).get("delivered") == 10)
        assert states(post) == {"pending": 100, "delivered": 10}


async def let_go(post: Post, dead: Receiver) -> None:
    """Let one receiver close a connection without an answer, as one does that restarts."""
    dead.closing.set()
    await until(lambda: post.stage.world.sql("SELECT * FROM delivery_attempts"))
