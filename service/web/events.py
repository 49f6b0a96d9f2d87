"""A job's history: as JSON, or told as it happens in server-sent events (the WHATWG's HTML standard, section 9.2).

What an SSE library would add is told in a few lines here, and its heart beats by a clock that no test can drive.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from service.model import Event, Problem
from service.store import Store
from service.web.answers import JSONResponse
from service.web.callers import Callers
from service.web.refusals import RefusalError, invalid_request, not_a_name, shown
from service.web.views import Views

_MEDIA_TYPE = "text/event-stream"
_NOT_THAT = re.compile(r"\s*q=0(\.0*)?\s*", re.IGNORECASE)
_LOOK_SECONDS = 1.0  # several processes may share the database, so nobody tells us what another one wrote
_LOOKS_A_HEARTBEAT = 15
_NUMBER = re.compile(r"[0-9]{1,9}", re.ASCII)
_BY_ACCEPT = {"vary": "Accept", "cache-control": "no-store"}
_STREAMED = {
    **_BY_ACCEPT,
    "content-type": _MEDIA_TYPE,
    "x-accel-buffering": "no",  # nginx would hold back what is small
}


class Events:
    """Tells callers what happens to their jobs.

    `pause` waits between two looks; at most `most_streams` are open at once, and `most_of_one` of one tenant; once
    `stopping` says so, all of them end.
    """

    def __init__(
        self,
        *,
        store: Store,
        callers: Callers,
        views: Views,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        most_streams: int = 200,
        most_of_one: int = 50,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._store = store
        self._callers = callers
        self._views = views
        self._pause = pause
        self._most_streams = most_streams
        self._most_of_one = most_of_one
        self._stopping = stopping
        self._streams = Counter[str]()  # of each tenant

    async def read(self, request: Request) -> Response:
        """Show a job's history after event `?after=`, oldest first; to `Accept: text/event-stream` as a stream.

        A stream goes on after `Last-Event-ID`, ends when the job has ended, and is 204 when all was told before.
        """
        job = await self._callers.job(request)
        streamed = _wants_stream(request)
        after = _after(request, streamed=streamed)
        if not streamed:
            events = await self._store.events(job.id, after)
            data = [self._views.event(event) for event in events]
            return JSONResponse({"object": "list", "data": data}, headers=_BY_ACCEPT)
        if job.state.final and not await self._store.events(job.id, after):
            return Response(status_code=204, headers=_BY_ACCEPT)  # an EventSource stops for good
        if request.method == "HEAD":
            return Response(headers=_STREAMED)
        return _Stream(self._tell(request, after), _STREAMED, lambda: self._place(job.tenant))

    async def _tell(self, request: Request, after: int) -> AsyncIterator[bytes]:
        quiet = _LOOKS_A_HEARTBEAT  # the first look says something in any case: some proxies wait for a first byte
        while not self._stopping():
            try:
                job = await self._callers.job(request)  # before its events, so that what ended it is among them
            except RefusalError:
                return  # the job was deleted or the key revoked: who asks again is told
            for event in await self._store.events(job.id, after):
                yield self._message(event)
                after, quiet = event.id, 0
            if job.state.final:
                return
            if quiet >= _LOOKS_A_HEARTBEAT:
                yield b":\n\n"
                quiet = 0
            quiet += 1
            await self._pause(_LOOK_SECONDS)

    def _message(self, event: Event) -> bytes:
        # In ASCII: httpx and others take U+2028 and its like for the end of a line.
        data = json.dumps(self._views.event(event), separators=(",", ":"))
        return f"id: {event.id}\nevent: {event.type}\ndata: {data}\n\n".encode()

    @contextmanager
    def _place(self, tenant: str) -> Iterator[None]:
        if self._streams[tenant] >= self._most_of_one:
            raise _full(f"{self._streams[tenant]} streams of events are open with this tenant's API keys")
        if self._streams.total() >= self._most_streams:
            raise _full(f"{self._streams.total()} streams of events are open in the whole service")
        self._streams[tenant] += 1
        try:
            yield
        finally:
            self._streams[tenant] -= 1
            self._streams += Counter()  # forgets whoever has none


class _Stream(StreamingResponse):
    """A stream that holds a place from its first byte until its end, or until its client leaves."""

    def __init__(
        self,
        content: AsyncIterator[bytes],
        headers: Mapping[str, str],
        place: Callable[[], AbstractContextManager[None]],
    ) -> None:
        super().__init__(content, headers=headers)
        self._place = place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream. Raises RefusalError (429) when no place is free."""
        with self._place():
            await super().__call__(scope, receive, send)


def _full(said: str) -> RefusalError:
    return RefusalError(
        429,
        "too_many_streams",
        f"{said}, which is all that there can be; try again in a while, or read the events as JSON.",
        headers={"retry-after": "15"},
    )


def _wants_stream(request: Request) -> bool:
    accepted = [each.split(";") for each in ",".join(request.headers.getlist("accept")).split(",")]
    return any(
        kind.strip().lower() == _MEDIA_TYPE and not any(map(_NOT_THAT.fullmatch, parameters))
        for kind, *parameters in accepted
    )


def _after(request: Request, *, streamed: bool) -> int:
    """Return after which event to go on. An EventSource that reconnects repeats the query; its header is newer."""
    query = request.query_params.multi_items()
    problems = [
        Problem(shown(name), not_a_name(name, ("after",), "a query parameter")) for name, _ in query if name != "after"
    ]
    found = 0
    for name, given in (
        ("after", [text for name, text in query if name == "after"]),
        ("Last-Event-ID", request.headers.getlist("last-event-id") if streamed else []),
    ):
        if not given:
            continue
        if len(given) == 1 and _NUMBER.fullmatch(given[0]):
            found = int(given[0])
        else:
            problems.append(Problem(name, "must be the id of an event, once, for example 3; 0 is before all of them"))
    if problems:
        raise invalid_request(problems)
    return found
