from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx
import pytest
import structlog
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route

from service.db.sqlite import SQLiteDatabase
from service.ids import Ids
from service.model import ErrorCode, Event, Job, JobError, Report, Source, State, Status
from service.observer import Observers
from service.store import Ledger, Store
from service.web.callers import Callers
from service.web.events import Events
from service.web.gate import Gate
from service.web.streams import Streams
from service.web.views import Views
from tests.turns import until
from tests.web.house import PUBLIC_URL, House, serving

STREAM = {"accept": "text/event-stream"}


@dataclass
class Told:
    """A message, or (`id` None) a comment."""

    id: str | None
    type: str | None
    data: dict[str, Any] | None


@dataclass
class Stage:
    """Events over a socket, whose looks a test lets happen one by one."""

    house: House
    client: httpx.AsyncClient
    events: Events = field(init=False)
    pauses: list[asyncio.Future[None]] = field(default_factory=list)
    seconds: set[float] = field(default_factory=set)
    stopping: bool = False

    async def pause(self, seconds: float) -> None:
        self.seconds.add(seconds)
        look = asyncio.get_running_loop().create_future()
        self.pauses.append(look)
        try:
            await look
        finally:
            self.pauses.remove(look)

    async def look(self, times: int = 1) -> None:
        """Let the only stream that waits look again."""
        for _ in range(times):
            await until(lambda: self.pauses)
            [pause] = self.pauses
            pause.set_result(None)
            await until(partial(self._is_over, pause))

    def _is_over(self, pause: asyncio.Future[None]) -> bool:
        return pause not in self.pauses

    @asynccontextmanager
    async def listening(
        self, job: Job, query: str = "", headers: dict[str, str] | None = None
    ) -> AsyncIterator[tuple[httpx.Response, AsyncIterator[Told]]]:
        path = f"/v1/jobs/{job.id}/events{query}"
        async with self.client.stream("GET", path, headers=STREAM | (headers or {})) as response:
            yield response, messages(response)

    @property
    def streams(self) -> int:
        return self.events._streams.open


@pytest.fixture
async def stage(house: House) -> AsyncIterator[Stage]:
    callers = Callers(house.keys, house.store)
    headers = {"authorization": f"Bearer {house.key}"}
    async with httpx.AsyncClient(headers=headers) as client:
        made = Stage(house, client)
        made.events = Events(
            store=house.store,
            callers=callers,
            views=Views(PUBLIC_URL),
            pause=made.pause,
            streams=Streams(3, 2),
            stopping=lambda: made.stopping,
        )
        app = Starlette(
            routes=[Route("/v1/jobs/{job_id}/events", made.events.read)],
            middleware=[
                Middleware(
                    Gate,
                    log=structlog.wrap_logger(house.logged),
                    ids=Ids(house.clock),
                    clock=house.clock,
                    observer=Observers(),
                )
            ],
        )
        async with serving(app) as port:
            client.base_url = httpx.URL(f"http://127.0.0.1:{port}")
            yield made
            await until(lambda: not made.streams)


async def messages(response: httpx.Response) -> AsyncIterator[Told]:
    """Read a stream as the standard says: fields until a blank line."""
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        if line:
            name, _, value = line.partition(":")
            assert name in {"", "id", "event", "data"}
            assert name not in fields
            fields[name] = value.removeprefix(" ")
        else:
            data = fields.get("data")
            yield Told(fields.get("id"), fields.get("event"), None if data is None else json.loads(data))
            fields = {}
    assert not fields


async def next_of(told: AsyncIterator[Told]) -> Told:
    async with asyncio.timeout(20):
        return await anext(told)


async def rest_of(told: AsyncIterator[Told]) -> list[str | None]:
    async with asyncio.timeout(20):
        return [each.type async for each in told]


# As JSON


async def test_events_tell_the_history_oldest_first(house: House, client: httpx.AsyncClient) -> None:
    job = await house.submitting()
    house.clock.advance(1_234)
    await house.store.submitted(job.id, "gen-1", "pending", first_poll_ms=0)
    history = [
        {"id": 1, "type": "job.queued", "at": "2026-09-21T14:13:20.000Z", "data": {}},
        {"id": 2, "type": "job.submitting", "at": "2026-09-21T14:13:20.000Z", "data": {}},
        {"id": 3, "type": "job.running", "at": "2026-09-21T14:13:21.234Z", "data": {"provider_job_id": "gen-1"}},
    ]
    for accept in ("*/*", "application/json", "text/event-streams, text/html", "text/event-stream; q=0, */*"):
        answer = await client.get(f"/v1/jobs/{job.id}/events", headers={"accept": accept, "last-event-id": "?"})
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["vary"] == "Accept"
        assert answer.json() == {"object": "list", "data": history}
    for after, left in ((0, history), (2, history[2:]), (3, []), (999_999_999, [])):
        assert (await client.get(f"/v1/jobs/{job.id}/events?after={after}")).json()["data"] == left


@pytest.mark.parametrize("given", ["", "-1", "1.5", "x", "1e3", "9" * 10, "\u0661"])
@pytest.mark.parametrize("headers", [{}, STREAM])
async def test_an_event_that_cannot_be_one_is_refused(
    house: House, client: httpx.AsyncClient, given: str, headers: dict[str, str]
) -> None:
    job = await house.queued()
    answer = await client.get(f"/v1/jobs/{job.id}/events", params={"after": given}, headers=headers)
    assert answer.status_code == 400
    [problem] = answer.json()["error"]["problems"]
    assert problem["field"] == "after"
    assert "for example 3" in problem["message"]


async def test_everything_that_is_wrong_with_a_question_for_events_is_named(
    house: House, client: httpx.AsyncClient
) -> None:
    job = await house.queued()
    answer = await client.get(
        f"/v1/jobs/{job.id}/events?aftr=1&after=1&after=2", headers=STREAM | {"last-event-id": "evt_1"}
    )
    assert answer.status_code == 400
    found = {each["field"]: each["message"] for each in answer.json()["error"]["problems"]}
    assert set(found) == {"aftr", "after", "Last-Event-ID"}
    assert found["aftr"].endswith("did you mean after?")


# As a stream


async def test_a_stream_tells_what_was_and_then_what_happens_until_the_job_has_ended(stage: Stage) -> None:
    house = stage.house
    job = await house.submitting()
    async with stage.listening(job) as (response, told):
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/event-stream"
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["x-accel-buffering"] == "no"
        assert response.headers["vary"] == "Accept"
        assert response.headers["x-request-id"]
        first, second = await next_of(told), await next_of(told)
        assert (first.id, first.type) == ("1", "job.queued")
        assert second == Told(
            "2",
            "job.submitting",
            {"id": 2, "type": "job.submitting", "at": "2026-09-21T14:13:20.000Z", "data": {}},
        )
        await house.store.submitted(job.id, "gen-1", "pending", first_poll_ms=0)
        await stage.look()
        third = await next_of(told)
        assert (third.id, third.type) == ("3", "job.running")
        await stage.look()  # nothing new, and nothing said
        odd = "é\n\r\u2028🎬"
        report = Report(Status.FAILED, odd, "gen-1", error=JobError(ErrorCode.PROVIDER_FAILED, "no"))
        await house.store.apply(job.id, report, Source.POLL, poll_ms=0, retention_ms=0)
        await stage.look()
        last = await next_of(told)
        assert (last.id, last.type) == ("4", "job.failed")
        assert last.data is not None
        assert last.data["data"]["provider_status"] == odd
        assert await rest_of(told) == []
    assert stage.seconds == {1.0}
    assert stage.streams == 0


async def test_what_another_process_wrote_is_told(stage: Stage) -> None:
    house = stage.house
    job = await house.queued()
    db = await SQLiteDatabase.open(house.folder / "reelkeeper.db", house.clock)
    try:
        other = Store(Ledger(db, house.clock), Ids(house.clock))
        async with stage.listening(job) as (_, told):
            assert (await next_of(told)).type == "job.queued"
            assert await other.cancel(job.id)
            await stage.look()
            assert await rest_of(told) == ["job.cancelled"]
    finally:
        await db.close()


@pytest.mark.parametrize("before", ["the job is read", "its events are read", "both were read"])
async def test_the_end_is_told_however_it_falls_between_two_looks(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    house = stage.house
    job = await house.queued()
    read_job, read_events = house.store.job, house.store.events
    armed: list[str] = []

    async def end() -> None:
        if armed:
            armed.clear()
            assert await house.store.cancel(job.id)

    async def job_read(job_id: str, tenant: str | None = None) -> Job | None:
        if before == "the job is read":
            await end()
        return await read_job(job_id, tenant)

    async def events_read(job_id: str, after: int = 0) -> list[Event]:
        if before == "its events are read":
            await end()
        events = await read_events(job_id, after)
        if before == "both were read":
            await end()
        return events

    async with stage.listening(job) as (_, told):
        assert (await next_of(told)).type == "job.queued"
        await until(lambda: stage.pauses)
        monkeypatch.setattr(house.store, "job", job_read)
        monkeypatch.setattr(house.store, "events", events_read)
        armed.append(before)
        await stage.look()
        if before != "the job is read":  # else it was seen to have ended
            await stage.look()
        assert await rest_of(told) == ["job.cancelled"]
        assert armed == []


async def test_a_silent_job_is_a_heartbeat_every_fifteen_seconds(stage: Stage) -> None:
    job = await stage.house.queued()
    async with stage.listening(job, "?after=1") as (_, told):
        heartbeat = Told(None, None, None)
        assert await next_of(told) == heartbeat  # at once: some proxies hold back a head until something follows
        following = asyncio.create_task(next_of(told))
        for _ in range(2):
            await stage.look(14)
            await until(lambda: stage.pauses)
            assert not following.done()
            await stage.look()
            assert await following == heartbeat
            following = asyncio.create_task(next_of(told))
        await stage.house.store.cancel(job.id)
        await stage.look()
        assert (await following).type == "job.cancelled"


async def test_a_stream_goes_on_where_its_client_was(stage: Stage) -> None:
    job = await stage.house.running()
    await stage.house.call_back(job, "failed")  # events 1 to 4
    for query, headers, left in (
        ("", {"last-event-id": "2"}, ["job.running", "job.failed"]),
        ("?after=3", {}, ["job.failed"]),
        ("?after=1", {"last-event-id": "3"}, ["job.failed"]),  # it reconnects with the address that it had
        ("", {"last-event-id": "0"}, ["job.queued", "job.submitting", "job.running", "job.failed"]),
    ):
        async with stage.listening(job, query, headers) as (response, told):
            assert response.status_code == 200
            assert await rest_of(told) == left
    assert stage.pauses == []


@pytest.mark.parametrize(("query", "headers"), [("", {"last-event-id": "2"}), ("?after=2", {})])
async def test_when_all_was_told_of_a_job_that_has_ended_its_client_is_told_to_stop(
    stage: Stage, query: str, headers: dict[str, str]
) -> None:
    job = await stage.house.queued()
    await stage.house.store.cancel(job.id)
    async with stage.listening(job, query, headers) as (response, _):
        assert response.status_code == 204
        assert await response.aread() == b""
        assert response.headers["cache-control"] == "no-store"


async def test_a_job_that_was_recovered_is_told_on(stage: Stage) -> None:
    house = stage.house
    job = await house.running()
    await house.call_back(job, "expired")
    await house.call_back(job, "completed")  # recovered
    async with stage.listening(job) as (_, told):
        types = [(await next_of(told)).type for _ in range(6)]
        assert types[-3:] == ["job.expired", "job.recovered", "job.mirroring"]
        [claimed] = await house.claims.claim_mirrors("openrouter", 1)
        await house.claims.mirror_again(claimed, house.clock.now())
        await until(lambda: stage.pauses)


async def test_a_client_that_leaves_gives_its_place_to_another_at_once(stage: Stage) -> None:
    job = await stage.house.queued()
    async with stage.listening(job) as (_, first):
        await next_of(first)
        async with stage.listening(job) as (_, second):
            await next_of(second)
            await until(lambda: len(stage.pauses) == 2)
            async with stage.listening(job) as (refused, _):
                assert refused.status_code == 429
                assert refused.headers["retry-after"] == "15"
                error = json.loads(await refused.aread())["error"]
                assert error["code"] == "too_many_streams"
                assert error["message"].startswith("2 streams of events are open with this tenant's API keys, ")
            assert stage.streams == 2
        await until(lambda: stage.streams == 1)  # nobody looked again meanwhile
        assert len(stage.pauses) == 1
        async with stage.listening(job) as (again, told):
            assert again.status_code == 200
            await next_of(told)
        await until(lambda: stage.streams == 1)


async def test_the_streams_of_one_tenant_leave_places_to_another_until_all_are_taken(stage: Stage) -> None:
    house = stage.house
    places = {"acme": 2, "globex": 1}
    kept = []  # a stream that nobody holds is closed
    async with AsyncExitStack() as stack:
        for tenant in ("acme", "globex", "initech"):
            job = await house.queued(tenant=tenant)
            _, secret = await house.keys.create(f"of {tenant}", tenant)
            stage.client.headers["authorization"] = f"Bearer {secret}"
            for _ in range(places.get(tenant, 0)):
                response, told = await stack.enter_async_context(stage.listening(job))
                assert response.status_code == 200
                await next_of(told)
                kept.append(told)
        async with stage.listening(job) as (refused, _):
            assert refused.status_code == 429
            error = json.loads(await refused.aread())["error"]
            assert error["message"].startswith("3 streams of events are open with all tenants' API keys, ")
    await until(lambda: not stage.streams)
    assert not stage.events._streams._open, "whoever has none is forgotten"


async def test_operators_who_look_on_take_places_of_their_own_and_none_of_the_jobs_tenant(stage: Stage) -> None:
    job = await stage.house.queued()
    _, secret = await stage.house.keys.create("night shift", "operators", operator=True)
    operator = {"authorization": f"Bearer {secret}"}
    async with stage.listening(job, headers=operator) as (_, one), stage.listening(job, headers=operator) as (_, two):
        await next_of(one)
        await next_of(two)
        async with stage.listening(job) as (response, told):
            assert response.status_code == 200
            await next_of(told)
    await until(lambda: not stage.streams)


async def test_operators_get_in_when_tenants_have_taken_every_place_and_have_no_more_than_one_tenant(
    stage: Stage,
) -> None:
    job = await stage.house.queued()
    _, other = await stage.house.keys.create("of globex", "globex")
    operators = [(await stage.house.keys.create(tenant, tenant, operator=True))[1] for tenant in ("acme", "globex")]
    job_of_other = await stage.house.queued(tenant="globex")
    kept = []
    async with AsyncExitStack() as stack:
        for wanted, key in ((job, ""), (job, ""), (job_of_other, other), *((job, key) for key in operators)):
            headers = {"authorization": f"Bearer {key}"} if key else {}
            response, told = await stack.enter_async_context(stage.listening(wanted, headers=headers))
            assert response.status_code == 200
            await next_of(told)
            kept.append(told)
        assert stage.streams == 5
        async with stage.listening(job, headers={"authorization": f"Bearer {operators[0]}"}) as (refused, _):
            assert refused.status_code == 429
            error = json.loads(await refused.aread())["error"]
            assert error["message"].startswith("2 streams of events are open with operators' API keys, ")
    await until(lambda: not stage.streams)


async def test_a_stream_ends_when_its_key_is_revoked_or_its_job_is_deleted_or_the_service_stops(stage: Stage) -> None:
    house = stage.house
    for end in ("revoke", "delete", "stop"):
        job = await house.queued()
        async with stage.listening(job) as (_, told):
            await next_of(told)
            await until(lambda: stage.pauses)
            if end == "delete":
                cancelled = await house.store.cancel(job.id)
                assert cancelled is not None
                assert await house.store.delete(cancelled)
            elif end == "stop":
                stage.stopping = True
            else:
                _, secret = await house.keys.create("next", "acme")
                [used] = [key for key in await house.keys.all() if key.name == "backend"]
                await house.keys.revoke(used.id)
                stage.client.headers["authorization"] = f"Bearer {secret}"
            await stage.look()
            assert await rest_of(told) == []


async def test_a_head_of_a_stream_is_answered_and_over(stage: Stage) -> None:
    job = await stage.house.queued()
    async with asyncio.timeout(20):
        answer = await stage.client.head(f"/v1/jobs/{job.id}/events", headers=STREAM)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/event-stream"
    assert stage.streams == 0


async def test_a_finished_job_is_streamed_by_the_service_as_it_is_built(
    house: House, client: httpx.AsyncClient
) -> None:
    job = await house.completed()
    assert job.state is State.COMPLETED
    for accept in ("text/event-stream", "Text/Event-Stream;q=0.9, */*"):
        answer = await client.get(f"/v1/jobs/{job.id}/events", headers={"accept": accept})
        assert answer.headers["content-type"] == "text/event-stream"
        assert answer.text.endswith("}\n\n")
        assert answer.text.count("\n\n") == len(await house.history(job))
