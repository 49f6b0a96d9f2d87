"""Heads of requests within a size and a time: uvicorn's parser bounds neither, and anybody may send one.

The app sees a request when its head is complete; what comes before that only the server's protocol can refuse.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.web.refusals import RefusalError

_PIECE = 16_384  # bytes


class BoundedHeads(HttpToolsProtocol):
    """uvicorn's HTTP protocol, which takes `head_bytes` and `head_seconds` for a head and then ends the connection.

    Counted are the bytes since the parser last completed a head, a message, or gave a part of a body, so chunk
    extensions and trailers have the same limit. They are counted in pieces of 16 KiB at most, from the first one that
    completes nothing, so a head may be that much larger. Between requests uvicorn's `timeout_keep_alive` is in force.
    A head has `most_headers`: each takes a hundred bytes beyond its own. Trailers count as well, and nobody reads them:
    what a proxy takes out of a head must not come back behind the body. A client that sends on without waiting for
    answers may have `most_waiting` requests waiting, and some in a piece. What is left of a body when its answer was
    sent is thrown away for `linger_seconds`, so that an honest client gets to see the answer. What is no HTTP, or too
    much of it, is refused after `refusal_seconds`: who sends garbage without end waits, and nobody else does.
    """

    head_bytes = 65_536
    head_seconds = 10.0
    most_headers = 128
    most_waiting = 64
    linger_seconds = 30.0
    refusal_seconds = 1.0

    _unfinished = 0  # bytes that the parser took and that led to nothing yet
    _headers = 0
    _chunked = False
    _in_body = False
    _refused = False
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin to wait for the first head."""
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Hand the parser piece after piece, and see what comes of each."""
        for at in range(0, len(data), _PIECE):
            if self._refused or self.transport.is_closing():
                return
            piece = data[at : at + _PIECE]
            self._unfinished += len(piece)
            super().data_received(piece)
            if len(self.pipeline) > self.most_waiting:
                # Each answer makes uvicorn read on, however many requests wait: they would fill the memory.
                self.pipeline.clear()
                self.transport.close()
            if self._unfinished >= self.head_bytes and not self._refused:
                self._refuse(self._too_much(f"is larger than {self.head_bytes:,} bytes"))
        if self._refused:
            return
        if self._unfinished and not self._in_body and self._deadline is None:
            self._wait_for_head()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, or has too many headers."""
        if self._headers > self.most_headers:
            self._refuse(self._too_much(f"has more than {self.most_headers} headers"))
        else:
            self._refuse(RefusalError(400, "invalid_http", f"{msg} Send HTTP/1.1, which any client library writes."))

    def on_message_begin(self) -> None:
        """Begin a head."""
        self._headers, self._chunked = 0, False
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, and no trailer. Raises ValueError, after which the parser takes no more."""
        self._headers += 1
        if self._headers > self.most_headers:
            raise ValueError
        # Where a body ends, two servers must not read differently: nobody sends any other coding than this one.
        if name.lower() == b"transfer-encoding" and (value.lower() != b"chunked" or self._chunked):
            raise ValueError
        self._chunked |= name.lower() == b"transfer-encoding"
        if not self._in_body:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin a body."""
        super().on_headers_complete()  # raises for a path that is none
        self._unfinished, self._in_body = 0, True
        self._stop_waiting()

    def on_body(self, body: bytes) -> None:
        """Take a part of a body, whose size the app bounds."""
        self._unfinished = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        self._unfinished, self._in_body = 0, False
        self._stop_waiting()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request, and no longer than `linger_seconds` for what is left of this one."""
        super().on_response_complete()
        if self._in_body and self.cycle.response_complete and not self.transport.is_closing():
            self._stop_waiting()
            self._deadline = self.loop.call_later(self.linger_seconds, self.transport.close)

    def _wait_for_head(self) -> None:
        self._deadline = self.loop.call_later(self.head_seconds, self._too_slow)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        if self._answering():
            self._wait_for_head()  # while an answer is under way, uvicorn may not read what the client sends
        else:
            self.transport.close()

    def _too_much(self, why: str) -> RefusalError:
        return RefusalError(431, "head_too_large", f"The head of the request {why}; send fewer or shorter headers.")

    def _refuse(self, refusal: RefusalError) -> None:
        """Read no more; tell the client why, unless it would take that for the answer to something else."""
        self._refused = True
        self._stop_waiting()
        if self._in_body or self._answering():
            self.transport.close()
        else:
            self.flow.pause_reading()
            self._deadline = self.loop.call_later(self.refusal_seconds, self._tell, refusal)

    def _tell(self, refusal: RefusalError) -> None:
        response = refusal.response()
        lines = [name + b": " + value + b"\r\n" for name, value in response.raw_headers]
        close = b"connection: close\r\n\r\n"
        self.transport.write(b"".join([STATUS_LINE[response.status_code], *lines, close, response.body]))
        self.transport.close()

    def _answering(self) -> bool:
        # None until the first head, whatever its annotation says
        return self.cycle is not None and not self.cycle.response_complete  # type: ignore[redundant-expr]
