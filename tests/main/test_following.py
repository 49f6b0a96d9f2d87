"""A job that is followed over HTTP: streams that break off are gone on with, and others are not believed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import httpx
import pytest

from service.commands.desk import DeskError, Search
from service.commands.remote import RemoteDesk
from service.web.acting import BY_HAND

JOB = "job_" + "0" * 26
URL = "https://videos.example.com"
AT = "2026-11-21T10:00:00.000Z"
A_JOB: dict[str, object] = {
    "id": JOB,
    "object": "job",
    "tenant": "studio",
    "state": "failed",
    "provider": "openrouter",
    "provider_job_id": None,
    "provider_status": None,
    "model": "m",
    "request": {"prompt": "a cat"},
    "created_at": AT,
    "finished_at": AT,
    "cost": None,
    "artifacts": [],
    "retry_of": None,
    "notify_url": None,
    "metadata": {},
    "error": None,
}
Answers = Sequence[httpx.Response | httpx.HTTPError]


def told(*numbers: int) -> bytes:
    events = ({"id": n, "type": f"job.{n}", "at": AT, "data": {}} for n in numbers)
    return b": hello\n\n" + b"".join(f"id: {n['id']}\nevent: x\ndata: {json.dumps(n)}\n\n".encode() for n in events)


def job(*, ended: bool) -> httpx.Response:
    return httpx.Response(200, json={**A_JOB, "finished_at": AT if ended else None})


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


LOST = httpx.ReadTimeout("lost")
AWAY = httpx.ConnectError("refused")
GATEWAY = httpx.Response(502, text="<html>")
AGAIN = "run the same command again, which makes no second one"


@pytest.mark.parametrize("trouble", [LOST, AWAY, GATEWAY, refused(503, "unavailable"), httpx.Response(200, text="{")])
async def test_a_retry_whose_answer_was_lost_is_the_same_retry(trouble: httpx.Response | httpx.HTTPError) -> None:
    wire = Wire([], [trouble, trouble, httpx.Response(202, json=A_JOB)])
    async with desk(wire) as remote:
        assert await remote.retry(JOB) == (A_JOB, False)
    assert {each.headers["idempotency-key"] for each in wire.asked} == {BY_HAND}
    assert len(wire.pauses) == 2


@pytest.mark.parametrize("troubles", [[GATEWAY] * 3, [LOST, AWAY, AWAY], [refused(504, "x"), LOST, refused(429, "x")]])
async def test_a_retry_of_unknown_outcome_says_that_the_same_command_makes_no_second_job(troubles: Answers) -> None:
    async with desk(Wire([], troubles)) as remote:
        with pytest.raises(DeskError, match=AGAIN):
            await remote.retry(JOB)


@pytest.mark.parametrize(
    "troubles", [[AWAY] * 3, [refused(429, "rate_limited")] * 3, [LOST, refused(409, "cannot_retry")]]
)
async def test_a_retry_that_was_not_made_is_told_as_such(troubles: Answers) -> None:
    async with desk(Wire([], troubles)) as remote:
        with pytest.raises(DeskError) as caught:
            await remote.retry(JOB)
    assert AGAIN not in str(caught.value)


@pytest.mark.parametrize("body", [b"", b"[]", b'"x"', b"{", b'{"data": 1}', b'{"data": [1]}', b"\xff", b"[" * 100_000])
async def test_an_answer_of_somebody_else_is_told_as_one(body: bytes) -> None:
    async with desk(lambda _: httpx.Response(200, content=body)) as remote:
        with pytest.raises(DeskError):
            await remote.keys()
        with pytest.raises(DeskError):
            await remote.jobs(Search(), go_on=None, limit=1)
