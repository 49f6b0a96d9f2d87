"""A job's history: as JSON, or told as it happens in server-sent events."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from service.model import Event, Problem
from service.store import Store
from service.web.answers import JSONResponse
from service.web.callers import Callers
from service.web.refusals import RefusalError, invalid_request, not_a_name, shown
from service.web.streams import BY_ACCEPT, Streams, wants_stream
from service.web.views import Views

_LOOK_SECONDS = 1.0  # several processes may share the database, so nobody tells us what another one wrote
_LOOKS_A_HEARTBEAT = 15
_NUMBER = re.compile(r"[0-9]{1,9}", re.ASCII)


class Events:
    """Tells callers what happens to their jobs.

    `pause` waits between two looks; a stream needs one of the places of `streams`; once `stopping` says so, all end.
    """

    def __init__(
        self,
        *,
        store: Store,
        callers: Callers,
        views: Views,
        streams: Streams,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._store = store
        self._callers = callers
        self._views = views
        self._pause = pause
        self._streams = streams
        self._stopping = stopping

    async def read(self, request: Request) -> Response:
        """Show a job's history after event `?after=`, oldest first; to `Accept: text/event-stream` as a stream.

        A stream goes on after `Last-Event-ID`, ends when the job has ended, and is 204 when all was told before.
        """
        job = await self._callers.job(request)
        streamed = wants_stream(request)
        after = _after(request, streamed=streamed)
        if not streamed:
            events = await self._store.events(job.id, after)
            data = [self._views.event(event) for event in events]
            return JSONResponse({"object": "list", "data": data}, headers=BY_ACCEPT)
        if job.state.final and not await self._store.events(job.id, after):
            return Response(status_code=204, headers=BY_ACCEPT)  # an EventSource stops for good
        caller = await self._callers.caller(request)  # an operator's look takes no place of the job's owner
        return self._streams.stream(request, caller, self._tell(request, after))

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
