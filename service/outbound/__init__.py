"""What leaves the house: bounded exchanges with providers, and downloads from addresses that strangers gave.

The public client refuses every address that is not public, on every connection it makes, so that a URL, a redirect or
a name that resolves anew cannot reach into the operator's own network (server-side request forgery).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import cast

import httpx

from service.addresses import SETTING, hosts_and_ports, normal
from service.clock import Clock, SystemClock
from service.errors import OutputError, OutputGoneError, OutputNotReadyError
from service.outbound.connections import NotPublicError, transport

_IDENTITY = {"accept-encoding": "identity"}
_MOST_REDIRECTS = 5
_MOST_PORT = 65_535
_JUDGED_EVERY = 60.0  # s
_SLOWEST = 10_240  # bytes a second: a server that drips must not hold a place for an hour
_NUMBER = re.compile(r"\d{1,12}(\.\d{1,9})?", re.ASCII)

# Many servers close an idle connection after 5 s. A paid call that is sent into a connection at the moment when it
# closes has an unknown outcome, so we close earlier.
_LIMITS = httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=2)


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


def configured_client() -> httpx.AsyncClient:
    """Return a client for servers that the operator configured, such as providers and buckets.

    No redirects, proxies or cookies, TLS verified.
    """
    return httpx.AsyncClient(
        transport=transport(_LIMITS),
        follow_redirects=False,
        trust_env=False,
        timeout=httpx.Timeout(60, connect=10, pool=10),
        headers=_IDENTITY,
        cookies=_no_cookies(),
    )


def public_client(allowed_private_hosts: Collection[str]) -> httpx.AsyncClient:
    """Return a client for URLs that strangers gave: https to public addresses only.

    `allowed_private_hosts` are `host:port` as written in such URLs (`minio.internal:9000`, `[::1]:9000`): these may
    have any address and be asked over plain http. Anything else raises `httpx.UnsupportedProtocol` for plain http and
    NotPublicError for a name with an address that is not public, both before any connection is made.
    Raises ConfigurationError for an entry that is not `host:port`.
    """
    allowed = hosts_and_ports(allowed_private_hosts)

    async def refuse_early(request: httpx.Request) -> None:
        url = request.url
        port = _port(url)
        if (normal(url.host), port) in allowed:
            return
        if port > _MOST_PORT:
            raise httpx.UnsupportedProtocol(f"there is no port {port}", request=request)
        if url.scheme != "https":
            raise httpx.UnsupportedProtocol(
                f"only https URLs are fetched, or http ones of a host in {SETTING}", request=request
            )

    return httpx.AsyncClient(
        transport=transport(_LIMITS, allowed),
        follow_redirects=False,
        trust_env=False,
        timeout=httpx.Timeout(30, connect=10, pool=10),
        headers=_IDENTITY,
        cookies=_no_cookies(),
        event_hooks={"request": [refuse_early]},
    )


def is_private(url: str, allowed_private_hosts: Collection[str]) -> bool:
    """Tell whether `public_client` fetches a URL because its host is listed. Raises httpx.InvalidURL."""
    parsed = httpx.URL(url)
    return (normal(parsed.host), _port(parsed)) in hosts_and_ports(allowed_private_hosts)


def reason(error: httpx.HTTPError) -> str:
    """Say in words why an exchange failed, without its URL, which may be a secret."""
    if isinstance(error, NotPublicError):
        return (
            f"the host {error.host} is not on the public internet; if it is yours, "
            f"add it to {SETTING}, for example {error.host}:{error.port}"
        )
    kind = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(error).__name__).lower()
    return f"{kind}: {error}" if str(error) else kind


def retry_after_ms(
    headers: httpx.Headers, now_ms: int, reset: str | None = None, *, most_ms: int = 3_600_000
) -> int | None:
    """Return how long the server asks us to wait, at most `most_ms`: `retry-after-ms`, or either `Retry-After`.

    `reset` names a header that tells instead, as an absolute unix second, when a rate limit ends.
    """
    wait = _number(headers.get("retry-after-ms"))
    if wait is None:
        wait = _scaled(_number(headers.get("retry-after")))
    if wait is None:
        wait = _until(_date_ms(headers.get("retry-after")), now_ms)
    if wait is None and reset is not None:
        wait = _until(_scaled(_number(headers.get(reset))), now_ms)
    return None if wait is None else min(int(wait), most_ms)


class Download:
    """The body of an output that a server has begun to send."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self.status = response.status_code
        self.headers = response.headers
        length = response.headers.get("content-length")
        self.length = None if length is None else int(length)  # bytes; h11 has refused what is not a number

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes. Raises OutputError when it stops coming, or comes in drops for a minute."""
        now = asyncio.get_running_loop().time
        body = self._response.aiter_raw()
        came, waited = 0, 0.0  # bytes, and seconds of waiting for them: what our own storage takes does not count
        try:
            while True:
                begun = now()
                chunk = await anext(body, None)
                if chunk is None:
                    return
                came, waited = came + len(chunk), waited + now() - begun
                if waited >= _JUDGED_EVERY:
                    if came < _SLOWEST * waited:
                        raise OutputError(
                            f"the download from {self._from} was too slow: {came:,} bytes in {waited:.0f} s"
                        )
                    came, waited = 0, 0.0
                yield chunk
        except httpx.HTTPError as error:
            raise OutputError(f"the download from {self._from} broke off: {reason(error)}") from error

    @property
    def _from(self) -> str:
        return _origin(self._response.url)


@contextlib.asynccontextmanager
async def open_download(
    client: httpx.AsyncClient,
    url: str,
    headers: Mapping[str, str],
    *,
    idle_seconds: float = 30,
    seconds: float = 3600,
    clock: Clock | None = None,
) -> AsyncIterator[Download]:
    """Ask for an output and yield its body while the block lasts, which is `seconds` at most.

    Follows up to five redirects; `client` judges every hop. `headers` carry credentials: they are sent while scheme,
    host and port are those of `url`, and never again after a hop has left them. More than `idle_seconds` without a
    byte is an error. `clock`, the machine's own if left out, is for a `Retry-After` that is a date.

    Raises OutputGoneError (410), OutputNotReadyError (404, 409, 425) and OutputError for everything else that is not a
    200 with an unencoded body; the texts name the origin, never the path or the query, which may be secrets.
    """
    try:
        async with asyncio.timeout(seconds) as deadline:
            response = await _follow(client, url, headers, idle_seconds)
            try:
                _judge(response, (clock or SystemClock()).now())
                yield Download(response)
            finally:
                await response.aclose()
    except TimeoutError as error:
        if not deadline.expired():
            raise
        raise OutputError(f"the download took longer than {seconds:g} s") from error


async def _follow(
    client: httpx.AsyncClient, first: str, headers: Mapping[str, str], idle_seconds: float
) -> httpx.Response:
    timeout = httpx.Timeout(idle_seconds, connect=10, pool=10)
    try:
        url = httpx.URL(first)
        home = _origin(url)
        for _ in range(_MOST_REDIRECTS + 1):
            request = client.build_request("GET", url, headers={**headers, **_IDENTITY}, timeout=timeout)
            response = await client.send(request, stream=True, follow_redirects=False)
            if not response.is_redirect:
                return response
            await response.aclose()
            if not response.headers.get("location"):
                raise OutputError(f"{_origin(url)} answered {response.status_code} without saying where to go")
            url = url.join(response.headers["location"])
            if _origin(url) != home:
                headers = {}
    except (httpx.InvalidURL, UnicodeError) as error:  # UnicodeError: a host name that no encoding allows, `xn--a`
        raise OutputError("the provider's URL of the output, or a redirect from it, is not a URL") from error
    except httpx.HTTPError as error:
        raise OutputError(f"{_origin(url)} could not be asked for the output: {reason(error)}") from error
    raise OutputError(f"{home} redirected more than {_MOST_REDIRECTS} times")


def _judge(response: httpx.Response, now_ms: int) -> None:
    status, origin = response.status_code, _origin(response.url)
    said = f"{origin} answered {status} when asked for the output"
    match status:
        case httpx.codes.OK:
            encoding = response.headers.get("content-encoding", "identity").strip().lower()
            if encoding != "identity":
                raise OutputError(
                    f"{origin} sent the output encoded ({encoding[:20]}) although we asked for it as it is"
                )
        case httpx.codes.GONE:
            raise OutputGoneError(said)
        case httpx.codes.NOT_FOUND | httpx.codes.CONFLICT | httpx.codes.TOO_EARLY:
            raise OutputNotReadyError(said, retry_after_ms=retry_after_ms(response.headers, now_ms))
        case _:
            raise OutputError(said, retry_after_ms=retry_after_ms(response.headers, now_ms))


def _origin(url: httpx.URL) -> str:
    """Return scheme, host and port: all of a URL that may be written down."""
    return str(url.copy_with(userinfo=b"", path="/", query=None, fragment=None)).rstrip("/")


def _number(text: str | None) -> float | None:
    return float(text) if text is not None and _NUMBER.fullmatch(text) else None


def _scaled(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000


def _until(moment_ms: float | None, now_ms: int) -> float | None:
    return None if moment_ms is None else max(0.0, moment_ms - now_ms)


def _date_ms(text: str | None) -> float | None:
    try:
        moment = parsedate_to_datetime(text or "")
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000
    except (ValueError, TypeError, OverflowError):
        return None


def _port(url: httpx.URL) -> int:
    return url.port or {"http": 80, "https": 443}.get(url.scheme, 0)


def _no_cookies() -> CookieJar:
    """Return a jar that takes nothing: a cookie of one stranger is nobody else's, and a jar would grow for ever."""
    return CookieJar(DefaultCookiePolicy(allowed_domains=[]))
