"""What a page tells while somebody looks: the parts that changed, that it is there, and when it is over."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import httpx
import pytest
import structlog
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.db import Tx
from service.errors import LookTooLongError
from service.ids import Ids
from service.observer import Observers
from service.store import Overview
from service.web.callers import Callers
from service.web.gate import Gate
from service.web.refusals import RefusalError
from service.web.status import live
from service.web.status.health import Health
from service.web.status.jobs import JobsPage
from service.web.status.overview import OverviewPage, Snapshots
from service.web.status.pages import Pages, Visitor
from service.web.status.rendering import Files, Templates
from service.web.streams import Streams
from tests.turns import until
from tests.web.house import PUBLIC_URL, House, serving
from tests.web.status.browsing import signed_in

STREAM = {"accept": "text/event-stream"}
T = TypeVar("T")
Message = tuple[str, dict[str, str]]


@dataclass
class Stage:
    """The overview over a socket, whose looks a test lets happen one by one."""

    house: House
    client: httpx.AsyncClient
    token: str
    streams: Streams
    pauses: list[asyncio.Future[None]] = field(default_factory=list)
    seconds: set[float] = field(default_factory=set)
    stopping: bool = False
    takes_ms: int = 0
    refused: RefusalError | LookTooLongError | None = None

    async def pause(self, seconds: float) -> None:
        self.seconds.add(seconds)
        look = asyncio.get_running_loop().create_future()
        self.pauses.append(look)
        try:
            await look
        finally:
            self.pauses.remove(look)

    async def look(self, times: int = 1, *, seconds: float = 1.0) -> None:
        """Let a second pass, and the stream look again."""
        for _ in range(times):
            await until(lambda: self.pauses)
            self.house.clock.advance(round(seconds * 1_000))
            [pause] = self.pauses
            pause.set_result(None)
            await until(partial(self._is_over, pause))

    def _is_over(self, pause: asyncio.Future[None]) -> bool:
        return pause not in self.pauses

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[AsyncIterator[Message]]:
        async with self.client.stream("GET", "/status", headers=STREAM) as response:
            assert response.status_code == 200
            assert response.headers["content-type"] == "text/event-stream"
            yield messages(response)


@pytest.fixture
async def stage(house: House) -> AsyncIterator[Stage]:
    record, _ = await house.keys.create("night shift", "acme", operator=True)
    token = await house.sessions.open(record)
    streams = Streams(3, 2)
    async with httpx.AsyncClient(headers={"cookie": f"__Host-reelkeeper={token}"}, timeout=20) as client:
        made = Stage(house, client, token, streams)
        pages = Pages(
            sessions=house.sessions,
            vault=house.vault,
            clock=house.clock,
            templates=Templates(Files()),
            public_url=PUBLIC_URL,
            streams=streams,
            stopping=lambda: made.stopping,
            pause=made.pause,
        )
        health = Health(store=house.store, storage=house.storage, clock=house.clock, workers=lambda: house.troubles)
        overview = OverviewPage(
            pages=pages,
            callers=Callers(house.keys, house.store),
            snapshots=Snapshots(house.statistics, house.rejections, house.deliveries, house.store, house.clock),
            health=health,
            providers=house.providers,
        )

        async def maybe(request: Request) -> Response:
            async def fill(visitor: Visitor) -> Mapping[str, Any]:
                house.clock.advance(made.takes_ms)
                if made.refused:
                    raise made.refused
                return {"visitor": visitor}

            return await pages.show(request, "trouble.html", fill)

        jobs = JobsPage(pages, house.store, house.providers)
        log = structlog.wrap_logger(house.logged, processors=[])
        app = Starlette(
            routes=[Route("/status", overview.page), Route("/status/maybe", maybe), Route("/status/jobs", jobs.page)],
            middleware=[Middleware(Gate, log=log, ids=Ids(house.clock), clock=house.clock, observer=Observers())],
        )
        async with serving(app) as port:
            client.base_url = httpx.URL(f"http://127.0.0.1:{port}")
            yield made
            await until(lambda: not made.streams.open)


async def messages(response: httpx.Response) -> AsyncIterator[Message]:
    name = ""
    async for line in response.aiter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line:
            yield name, json.loads(line.removeprefix("data: "))


async def next_of(told: AsyncIterator[Message]) -> Message:
    async with asyncio.timeout(20):
        return await anext(told)


async def test_a_stream_begins_with_every_live_part_and_goes_on_with_those_that_changed(stage: Stage) -> None:
    async with stage.listening() as told:
        name, parts = await next_of(told)
        assert name == "parts"
        assert {"tiles", "providers", "waiting", "parts", "concerns", "deliveries"} <= set(parts)
        assert all(f'id="{part}"' in html for part, html in parts.items())
        job = await stage.house.queued()
        await stage.look()
        _, parts = await next_of(told)
        assert set(parts) == {"tiles", "waiting"}
        assert job.id in parts["waiting"]
        await stage.house.claims.claim_queued("openrouter", 1)
        await stage.look()
        assert "tiles" in (await next_of(told))[1]
    assert stage.seconds == {1.0}


async def test_a_page_that_does_not_change_says_every_few_seconds_that_it_is_there_and_nothing_else(
    stage: Stage,
) -> None:
    await stage.house.queued()
    async with stage.listening() as told:
        assert (await next_of(told))[1]
        for _ in range(3):
            await stage.look(5)  # ages of some seconds, which the page counts by itself
            assert await next_of(told) == ("parts", {})


@pytest.mark.parametrize(
    ("took_ms", "rest", "looks"), [(0, 1.0, 5), (100, 1.0, 5), (250, 2.5, 2), (500, 5.0, 1), (8_000, 5.0, 1)]
)
async def test_a_page_that_is_slow_to_make_is_looked_at_less_often_and_is_heard_of_all_the_same(
    stage: Stage, took_ms: int, rest: float, looks: int
) -> None:
    stage.takes_ms = took_ms
    async with stage.client.stream("GET", "/status/maybe", headers=STREAM) as response:
        told = messages(response)
        assert await next_of(told) == ("parts", {})
        for _ in range(2):
            before = stage.house.clock.now()
            await stage.look(looks, seconds=rest)
            assert await next_of(told) == ("parts", {})
            assert stage.house.clock.now() - before < 15_000, "the page takes it for dead then"
    assert stage.seconds == {rest}


async def test_all_who_look_at_once_ask_the_database_once(stage: Stage) -> None:
    house = stage.house
    snapshots = Snapshots(house.statistics, house.rejections, house.deliveries, house.store, house.clock)
    first, second = await asyncio.gather(snapshots.of(None), snapshots.of(None))
    assert first is second
    assert await snapshots.of("acme") is not first
    stage.house.clock.advance(899)
    assert await snapshots.of(None) is first
    stage.house.clock.advance(1)
    assert await snapshots.of(None) is not first


async def test_programs_that_read_the_status_as_json_share_what_the_pages_show(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str | None] = []
    overview = house.statistics.overview

    async def counted(tenant: str | None) -> Overview:
        asked.append(tenant)
        return await overview(tenant)

    monkeypatch.setattr(house.statistics, "overview", counted)
    async with signed_in(house, operator=True) as browser:
        del browser.client.headers["accept"]
        for _ in range(2):
            await asyncio.gather(*(browser.client.get("/status.json") for _ in range(3)))
            await browser.see("/status")
        assert asked == [None]
        house.clock.advance(900)
        await browser.client.get("/status.json")
        assert asked == [None, None]


async def test_who_only_looks_on_at_what_was_found_by_words_writes_next_to_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await stage.house.queued()
    wrote: list[int] = []
    write = stage.house.db.run

    async def counted(work: Callable[[Tx], T]) -> T:
        wrote.append(stage.house.clock.now())
        return await write(work)

    async with stage.client.stream("GET", "/status/jobs?q=cat", headers=STREAM) as response:
        told = messages(response)
        assert first.id not in (await next_of(told))[1]["jobs"]
        page = (await stage.client.get("/status/jobs?q=cat")).text
        assert first.id in page, "who asks for the page has all words added"
        await stage.look()
        assert first.id in (await next_of(told))[1]["jobs"]
        monkeypatch.setattr(stage.house.db, "run", counted)
        second = await stage.house.queued()
        wrote.clear()
        await stage.look(27)
        assert wrote == []
        await stage.look()
        while second.id not in (parts := (await next_of(told))[1]).get("jobs", ""):
            assert parts == {}, "it says that it is there"
        assert len(wrote) == 1


@pytest.mark.parametrize("end", ["closed", "revoked", "expired"])
async def test_a_stream_ends_with_its_session_and_says_so(stage: Stage, end: str) -> None:
    async with stage.listening() as told:
        await next_of(told)
        await until(lambda: stage.pauses)
        if end == "closed":
            await stage.house.sessions.close(stage.token)
        elif end == "revoked":
            [key] = [each for each in await stage.house.keys.all() if each.name == "night shift"]
            await stage.house.keys.revoke(key.id)
        else:
            stage.house.clock.advance(12 * 3_600_000)
        await stage.look()
        assert await next_of(told) == ("signed-out", {})
        with pytest.raises(StopAsyncIteration):
            await next_of(told)
    async with stage.listening() as told:
        assert await next_of(told) == ("signed-out", {})


async def test_a_stream_ends_when_the_service_stops(stage: Stage) -> None:
    async with stage.listening() as told:
        await next_of(told)
        await until(lambda: stage.pauses)
        stage.stopping = True
        await stage.look()
        with pytest.raises(StopAsyncIteration):
            await next_of(told)


async def test_a_page_that_is_gone_says_so_and_ends(stage: Stage) -> None:
    async with stage.client.stream("GET", "/status/maybe", headers=STREAM) as response:
        told = messages(response)
        assert await next_of(told) == ("parts", {})
        stage.refused = RefusalError(404, "job_not_found", "It is gone.")
        await stage.look()
        assert await next_of(told) == ("gone", {})
        with pytest.raises(StopAsyncIteration):
            await next_of(told)


async def test_there_are_as_many_streams_as_there_are_places_and_who_leaves_makes_room(stage: Stage) -> None:
    async with stage.listening() as one, stage.listening() as two:
        await next_of(one)
        await next_of(two)
        assert (await stage.client.get("/status", headers=STREAM)).status_code == 429
    await until(lambda: not stage.streams.open)
    async with stage.listening() as told:
        await next_of(told)


async def test_a_head_of_a_stream_is_answered_without_one_although_all_places_are_taken(stage: Stage) -> None:
    async with stage.listening() as one, stage.listening() as two:
        await next_of(one)
        await next_of(two)
        async with asyncio.timeout(20):
            answer = await stage.client.head("/status", headers=STREAM)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream")
        assert stage.streams.open == 2


# Parts of a page


def test_a_live_part_is_told_whole_with_all_that_is_nested_in_it() -> None:
    page = """<main><div id="no">0</div><div class="a" data-live id="one"><div><div>1</div></div></div><br>
    <section id="two" data-live><p>2</p><div data-live id="inner">3</div></section>
    <i id="three" data-live-on="x">4</i></main>"""
    assert live.parts(page) == {
        "one": '<div class="a" data-live id="one"><div><div>1</div></div></div>',
        "two": '<section id="two" data-live><p>2</p><div data-live id="inner">3</div></section>',
    }


def test_words_that_look_like_parts_are_none() -> None:
    page = (
        '<p id="a" data-live>&lt;/p&gt; &lt;p id=&#34;b&#34; data-live&gt;</p><pre title="&lt;/p data-live&gt;">x</pre>'
    )
    assert list(live.parts(page)) == ["a"]


def test_a_time_that_only_counts_on_is_no_change() -> None:
    shown = live.Shown()
    page = '<p id="a" data-live>{0}<time datetime="x" data-ago>{1}</time></p>'
    assert list(shown.news(page.format("", "1 s ago"))) == ["a"]
    assert shown.news(page.format("", "2 s ago")) == {}
    assert shown.news(page.format("new", "3 s ago")) == {"a": page.format("new", "3 s ago")}


def test_a_message_is_one_line_whatever_is_in_it() -> None:
    said = live.message("parts", {"a": "one\r\ntwo\u2028é"})
    assert said == b'event: parts\ndata: {"a":"one\\r\\ntwo\\u2028\\u00e9"}\n\n'


async def test_a_look_that_takes_too_long_is_passed_over_and_the_stream_goes_on(stage: Stage) -> None:
    async with stage.client.stream("GET", "/status/maybe", headers=STREAM) as response:
        told = messages(response)
        assert (await next_of(told))[0] == "parts"
        stage.refused = LookTooLongError("a second is over")
        await stage.look()
        assert await next_of(told) == ("parts", {})
        await stage.look(seconds=5)
        assert await next_of(told) == ("parts", {})
        stage.refused = RefusalError(404, "job_not_found", "It is gone.")
        await stage.look(seconds=5)
        assert (await next_of(told))[0] == "gone"
