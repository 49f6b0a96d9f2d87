"""A job that is followed over HTTP: streams that break off are gone on with, and others are not believed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import httpx
import pytest

from service.commands.desk import DeskError, Search
from service.commands.remote import RemoteDesk

JOB = "job_" + "0" * 26
URL = "https://videos.example.com"
Answers = Sequence[httpx.Response | httpx.HTTPError]


def told(*numbers: int) -> bytes:
    return b": hello\n\n" + b"".join(
        f"id: {n}\nevent: x\ndata: {json.dumps({'id': n, 'type': f'job.{n}'})}\n\n".encode() for n in numbers
    )


def job(*, ended: bool) -> httpx.Response:
    return httpx.Response(200, json={"id": JOB, "finished_at": "2026-11-21T10:00:00.000Z" if ended else None})


def refused(status: int, code: str) -> httpx.Response:
    return httpx.Response(status, json={"error": {"code": code, "message": "no"}})


async def piecemeal(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 7):
        yield content[start : start + 7]


class Wire:
    """Answers streams and looks at the job from two lists, and remembers what was asked."""

    def __init__(self, streams: Answers, jobs: Answers = ()) -> None:
        self.asked: list[httpx.Request] = []
        self.pauses: list[float] = []
        self._streams = list(streams)
        self._jobs = list(jobs)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        if request.headers["accept"] == "text/event-stream":
            found = self._streams.pop(0)
        elif request.url.path.endswith("/events"):
            found = httpx.Response(200, json={"data": []})
        else:
            found = self._jobs.pop(0)
        if isinstance(found, httpx.HTTPError):
            raise found
        return httpx.Response(found.status_code, headers=found.headers, content=piecemeal(found.content))

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)


@asynccontextmanager
async def desk(wire: Callable[[httpx.Request], httpx.Response]) -> AsyncIterator[RemoteDesk]:
    async def nobody(_seconds: float) -> None:
        pytest.fail("there is nothing to wait for")

    async with httpx.AsyncClient(transport=httpx.MockTransport(wire)) as client:
        yield RemoteDesk(client, URL, "rk_canary", pause=wire.pause if isinstance(wire, Wire) else nobody)


async def followed(wire: Wire) -> list[int]:
    async with desk(wire) as remote:
        return [event["id"] async for event in remote.follow(JOB)]


async def test_a_stream_that_breaks_off_is_gone_on_with_where_it_ended() -> None:
    wire = Wire(
        [
            httpx.Response(200, content=told(1, 2)),
            httpx.ReadError("reset"),
            httpx.Response(502, text="<html>"),
            refused(429, "too_many_streams"),
            httpx.Response(200, content=told(3)),
        ],
        [job(ended=False), job(ended=True)],
    )
    assert await followed(wire) == [1, 2, 3]
    streams = [each for each in wire.asked if each.headers["accept"] == "text/event-stream"]
    assert [each.headers["last-event-id"] for each in streams] == ["0", "2", "2", "2", "2"]
    assert wire.pauses == [1.0, 2.0, 4.0, 8.0]


async def test_a_job_that_ended_before_is_not_asked_about_again() -> None:
    wire = Wire([httpx.Response(204)], [job(ended=True)])
    assert await followed(wire) == []
    assert wire.pauses == []


@pytest.mark.parametrize("code", ["unauthorized", "job_not_found"])
async def test_what_no_patience_helps_against_is_told_at_once(code: str) -> None:
    wire = Wire([refused(401 if code == "unauthorized" else 404, code)])
    with pytest.raises(DeskError):
        await followed(wire)
    assert wire.pauses == []


async def test_a_service_that_stays_away_is_given_up_after_six_minutes() -> None:
    wire = Wire([httpx.ConnectError("refused")] * 100)
    with pytest.raises(DeskError, match="could not be followed: connect error: refused"):
        await followed(wire)
    assert 300 <= sum(wire.pauses) <= 400


async def test_the_key_follows_no_redirect() -> None:
    wire = Wire([], [httpx.Response(302, headers={"location": "https://elsewhere.example.com/"})])
    async with desk(wire) as remote:
        with pytest.raises(DeskError, match="302 in a form that is not Reelkeeper's"):
            await remote.job(JOB)
    assert [each.url.host for each in wire.asked] == ["videos.example.com"]


async def test_a_retry_whose_answer_was_lost_is_the_same_retry() -> None:
    wire = Wire([], [httpx.ReadTimeout("lost"), httpx.Response(202, json={"id": JOB})])
    async with desk(wire) as remote:
        assert (await remote.retry(JOB))["id"] == JOB
    first, second = wire.asked
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]


@pytest.mark.parametrize("body", [b"", b"[]", b'"x"', b"{", b'{"data": 1}', b"\xff"])
async def test_an_answer_of_somebody_else_is_told_as_one(body: bytes) -> None:
    async with desk(lambda _: httpx.Response(200, content=body)) as remote:
        with pytest.raises(DeskError):
            await remote.keys()
        with pytest.raises(DeskError):
            await remote.jobs(Search(), go_on=None, limit=1)
