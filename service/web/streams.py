"""Streams of server-sent events (WHATWG HTML, section 9.2): each holds one of a bounded number of places.

What an SSE library would add is told in a few lines here, and its heart beats by a clock that no test can drive.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from service.model import ApiKey
from service.web.refusals import RefusalError

BY_ACCEPT = {"vary": "Accept", "cache-control": "no-store"}
STREAMED = {
    **BY_ACCEPT,
    "content-type": "text/event-stream",
    "x-accel-buffering": "no",  # nginx would hold back what is small
}
_NOT_THAT = re.compile(r"\s*q=0(\.0*)?\s*", re.IGNORECASE)


def wants_stream(request: Request) -> bool:
    """Tell whether a client asks for events as they happen, as every EventSource does."""
    accepted = [each.split(";") for each in ",".join(request.headers.getlist("accept")).split(",")]
    return any(
        kind.strip().lower() == STREAMED["content-type"] and not any(map(_NOT_THAT.fullmatch, parameters))
        for kind, *parameters in accepted
    )


_OPERATORS = ""  # no tenant has this name


class Streams:
    """Places for streams: `most` of all tenants, and `most_of_one` of each.

    Operators have `most_of_one` of their own, whatever tenant their keys are of: who looks after a service that is full
    must get in.
    """

    def __init__(self, most: int = 200, most_of_one: int = 50) -> None:
        self._most = most
        self._most_of_one = most_of_one
        self._open = Counter[str]()  # of each tenant, and of operators

    @property
    def open(self) -> int:
        """How many there are now."""
        return self._open.total()

    def stream(self, request: Request, key: ApiKey, content: AsyncIterator[bytes]) -> Response:
        """Answer whoever has `key` with a stream; a HEAD has none.

        It is refused (429) when no place is free as it begins.
        """
        if request.method == "HEAD":
            return Response(headers=STREAMED)
        return _Stream(content, STREAMED, self, key)

    @contextmanager
    def place(self, key: ApiKey) -> Iterator[None]:
        """Hold a place. Raises RefusalError (429)."""
        who, whose = (_OPERATORS, "operators'") if key.operator else (key.tenant, "this tenant's")
        if self._open[who] >= self._most_of_one:
            raise _full(f"{self._open[who]} streams of events are open with {whose} API keys")
        of_tenants = self.open - self._open[_OPERATORS]
        if who != _OPERATORS and of_tenants >= self._most:
            raise _full(f"{of_tenants} streams of events are open with all tenants' API keys")
        self._open[who] += 1
        try:
            yield
        finally:
            self._open[who] -= 1
            self._open += Counter()  # forgets whoever has none


class _Stream(StreamingResponse):
    """A stream that holds a place from its first byte until its end, or until its client leaves."""

    def __init__(
        self, content: AsyncIterator[bytes], headers: Mapping[str, str], streams: Streams, key: ApiKey
    ) -> None:
        super().__init__(content, headers=headers)
        self._streams = streams
        self._key = key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream. Raises RefusalError (429) when no place is free."""
        with self._streams.place(self._key):
            await super().__call__(scope, receive, send)


def _full(said: str) -> RefusalError:
    return RefusalError(
        429,
        "too_many_streams",
        f"{said}, which is all that there can be; try again in a while, or read the events as JSON.",
        headers={"retry-after": "15"},
    )
