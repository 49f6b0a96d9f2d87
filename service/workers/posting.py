"""One try to deliver: a POST to a receiver that may be slow, dead, endless or hostile."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import httpx

from service.outbound import reason, retry_after_ms

_MOST_BYTES = 4096  # of an answer
_LONGEST_WAIT_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Reply:
    """What a receiver answered. `error` says what went wrong on the wire, perhaps after the status had come."""

    status: int | None = None  # None: no answer came
    beginning: bytes | None = b""  # of its body; None: not to be kept
    retry_after_ms: int | None = None
    error: str | None = None


async def post(
    client: httpx.AsyncClient, url: str, headers: Mapping[str, str], body: bytes, *, now_ms: int, seconds: float = 30
) -> Reply:
    """Send a message and read how its answer begins, within `seconds` in all. A redirect is an answer.

    Whatever goes wrong on the way is told in the reply, without the URL's path and query, which may be secrets.
    """
    status = wait_ms = error = None
    beginning = bytearray()
    timeout = httpx.Timeout(seconds, connect=10, pool=10)
    try:
        request = client.build_request("POST", url, headers=dict(headers), content=body, timeout=timeout)
        async with asyncio.timeout(seconds):
            response = await client.send(request, stream=True, follow_redirects=False)
            try:
                status = response.status_code
                wait_ms = retry_after_ms(response.headers, now_ms, most_ms=_LONGEST_WAIT_MS)
                async for chunk in cast(httpx.AsyncByteStream, response.stream):
                    beginning += chunk
                    if len(beginning) >= _MOST_BYTES:
                        break
            finally:
                await response.aclose()
    except TimeoutError:
        error = f"no whole answer within {seconds:g} s"
    except (httpx.InvalidURL, UnicodeError):  # UnicodeError: a host name that no encoding allows, `xn--a`
        error = "the address to notify is not a URL"
    except httpx.HTTPError as failure:
        error = reason(failure)
    return Reply(status, bytes(beginning[:_MOST_BYTES]), wait_ms, error)
