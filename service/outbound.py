"""What leaves the house: one bounded exchange with a server."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import cast

import httpx


class AnswerTooLargeError(httpx.RequestError):
    """The answer was longer than the caller allows; the request was sent and may have had its effect."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One whole answer. `body` is as it came over the wire, never longer than the limit of the `ask`."""

    status: int
    headers: httpx.Headers
    body: bytes


async def ask(client: httpx.AsyncClient, request: httpx.Request, *, seconds: float, limit: int = 1_048_576) -> Answer:
    """Make one exchange that takes at most `seconds` in all and `limit` bytes of body; a redirect is an answer.

    Raises httpx's own errors, which say how far the request came: with `httpx.ConnectError`, `httpx.ConnectTimeout`
    and `httpx.PoolTimeout` nothing was sent, and with all others the server may have got everything. A passed
    deadline is `httpx.ReadTimeout`, a longer body `AnswerTooLargeError`.
    """
    try:
        async with asyncio.timeout(seconds):
            response = await client.send(request, stream=True, follow_redirects=False)
            try:
                body = bytearray()
                async for chunk in cast(httpx.AsyncByteStream, response.stream):
                    body += chunk
                    if len(body) > limit:
                        raise AnswerTooLargeError(f"the answer is longer than {limit:,} bytes", request=request)
            finally:
                await response.aclose()
    except TimeoutError as error:
        raise httpx.ReadTimeout(f"no whole answer within {seconds:g} s", request=request) from error
    return Answer(response.status_code, response.headers, bytes(body))
