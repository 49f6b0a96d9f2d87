"""Targets on the side of callers: requests on the wire, and all that the web reads of them."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote

import uvicorn
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Message
from uvicorn.server import ServerState

from service import vault
from service.assembly import http_server
from service.store import KeyStore, Store
from service.web import events as event_streams
from service.web import ranges as range_headers
from service.web.body import parse_object
from service.web.callers import Callers, is_job_id
from service.web.filters import read_filters, read_index, read_redirect
from service.web.forms import read_form
from service.web.heads import BoundedHeads
from service.web.mistakes import read
from service.web.notify import notify_problems
from service.web.openai_forms import VideoForm, read_video
from service.web.openrouter_forms import OpenRouterBody
from service.web.requests import NewJobs
from service.web.streams import wants_stream
from tests.fuzz import wires
from tests.fuzz.running import LOOP
from tests.turns import Turn
from tests.web.house import House, open_house

_SIZE = 1_000_000
_TAG = '"a"'
_VAULT = vault.Vault([b"a" * 16 + b"z" * 16])
_NEW_JOBS = NewJobs({"openrouter": wires._OFFLINE[0], "llmgateway": wires._OFFLINE[1]}, "openrouter", ())


def _request(query: bytes = b"", headers: list[tuple[bytes, bytes]] | None = None) -> Request:
    return Request({"type": "http", "query_string": query, "headers": headers or [], "path_params": {}, "state": {}})


def json_object(data: bytes) -> None:
    """A body."""
    parse_object(data)


def create(data: bytes) -> None:
    """A body, as each face reads it; what is wrong with it for one may be right for another."""
    body = parse_object(data)
    read(OpenRouterBody, body, {"model": "?"})
    read_video(body, VideoForm)
    _NEW_JOBS.read(body, "acme")


def form(data: bytes) -> None:
    """A form, whose first byte says in which pieces it comes."""
    step = 1 + (data[0] if data else 0) * 31
    rest = [data[at : at + step] for at in range(0, len(data), step)]

    async def receive() -> Message:
        return {"type": "http.request", "body": rest.pop(0) if rest else b"", "more_body": bool(rest)}

    headers = [(b"content-type", b"multipart/form-data; boundary=b")]
    request = Request({"type": "http", "headers": headers}, receive)
    LOOP.run(read_form(request, files=("image",), limit=100_000, seconds=60))


class _Transport(asyncio.Transport):
    """A connection that takes every answer."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = False

    def write(self, data: object) -> None:
        pass

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def get_extra_info(self, name: str, default: object = None) -> object:  # noqa: ARG002 - as asyncio has it
        return default


async def _answering(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401, ARG001 - as ASGI has it
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


_CONFIG: uvicorn.Config = http_server(_answering).config


def request_on_the_wire(data: bytes) -> None:
    """Bytes on a connection, the first of which says in which pieces they come."""

    async def connection() -> None:
        protocol = BoundedHeads(_CONFIG, ServerState(), {})
        transport = _Transport()
        protocol.connection_made(transport)
        step = 1 + (data[0] if data else 0) * 97
        for at in range(1, len(data), step):
            if transport.closed:
                break
            protocol.data_received(data[at : at + step])
            await Turn()
        protocol.connection_lost(None)
        tasks = list(protocol.tasks)
        await asyncio.wait(tasks, timeout=5) if tasks else None
        assert all(task.done() for task in tasks)

    LOOP.run(connection())


class _App:
    """The whole service without workers, made once, with one job of each provider."""

    house: House | None = None
    app: Any = None
    places: dict[bytes, bytes]

    async def open(self) -> None:
        folder = LOOP.stack.enter_context(tempfile.TemporaryDirectory())
        self.house = await LOOP.stack.enter_async_context(open_house(Path(folder)))
        job = await self.house.running()
        self.app = self.house.app()
        self.places = {b"{job}": job.id.encode(), b"{path}": self.house.address(job).encode()}
        self.places[b"{key}"] = self.house.key.encode()


_APP = _App()
APP_SEEDS = [
    b"POST {path}\nContent-Type: application/json\nX-OpenRouter-Signature: t=1790000000,v1=00\n\n{}",
    b'POST /v1/jobs\nAuthorization: Bearer {key}\nContent-Type: application/json\nIdempotency-Key: a\n\n{"model": "m"}',
    b"GET /v1/jobs/{job}\nAuthorization: Bearer {key}\n\n",
    b"GET /v1/jobs?limit=1&state=failed\nAuthorization: Bearer {key}\n\n",
    b"GET /v1/jobs/{job}/events?after=1\nAuthorization: Bearer {key}\n\n",
    b"GET /v1/jobs/{job}/content?index=0\nAuthorization: Bearer {key}\nRange: bytes=0-1\n\n",
    b'POST /v1/jobs/batch\nAuthorization: Bearer {key}\nContent-Type: application/json\n\n{"jobs": [1]}',
    b"POST /v1/jobs/{job}/retry\nAuthorization: Bearer {key}\n\n",
    b'POST /api/v1/videos\nAuthorization: Bearer {key}\nContent-Type: application/json\n\n{"model": 1}',
    b"POST /v1/videos\nAuthorization: Bearer {key}\nContent-Type: multipart/form-data; boundary=b\n\n--b--\r\n",
    b"GET /v1/videos/{job}/content?variant=thumbnail\nX-Api-Key: {key}\n\n",
    b"DELETE /v1/videos/{job}\nAuthorization: Bearer {key}\n\n",
    b"GET /v1/models/a%2Fb\nAuthorization: Bearer {key}\n\n",
    b"GET /status\nAuthorization: Bearer {key}\nAccept: text/html\n\n",
]


def whole_app(data: bytes) -> None:
    """The first line is method, path and query; headers follow until an empty line; the rest is the body."""

    async def answered() -> None:
        if _APP.house is None:
            await _APP.open()
        head, _, body = data.partition(b"\n\n")
        for name, value in _APP.places.items():
            head = head.replace(name, value)
        line, *lines = head.split(b"\n")
        method, _, target = line.partition(b" ")
        path, _, query = target.partition(b"?")
        headers = [(name.strip().lower(), value.strip()) for name, _, value in (each.partition(b":") for each in lines)]
        incoming = [{"type": "http.request", "body": body, "more_body": False}]
        messages: list[Message] = []

        async def receive() -> Any:  # noqa: ANN401 - as ASGI has it
            return incoming.pop() if incoming else {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            messages.append(message)

        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method.decode("latin-1") or "GET",
            "path": unquote(path.decode("latin-1")),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": [(name, value) for name, value in headers if name],
        }
        async with asyncio.timeout(5):
            await _APP.app(scope, receive, send)
        status = messages[0]["status"] if messages else 499
        assert status < 500 or status == 501, (status, _APP.house.faults() if _APP.house else None)
        if _APP.house is not None:
            _APP.house.logged.calls.clear()

    LOOP.run(answered())


def ranges(data: bytes) -> None:
    """A Range, and conditions."""
    given, _, conditions = data.partition(b"\n")
    names = (b"if-range", b"if-match", b"if-none-match")
    headers = Headers(raw=[(b"range", given), *((name, conditions) for name in names[: 1 + len(data) % 3])])
    range_headers.forbidden(headers, _TAG)
    range_headers.known(headers, _TAG)
    range_headers.named(headers, _TAG)
    span = range_headers.read_range(headers, _SIZE, _TAG)
    assert span is None or 0 <= span.start < span.end <= _SIZE


def filters(data: bytes) -> None:
    """A query, read as each of those that there are."""
    reader = (read_filters, read_index, read_redirect)[len(data) % 3]
    reader(_request(data))


def events(data: bytes) -> None:
    """A query, a Last-Event-ID and an Accept."""
    query, last, accept = [*data.split(b"\n", 2), b"", b""][:3]
    request = _request(query, [(b"last-event-id", last), (b"accept", accept)])
    streamed = wants_stream(request)
    assert event_streams._after(request, streamed=streamed) >= 0


class _Keys:
    async def authenticate(self, secret: str) -> None:
        assert secret.isascii()


def credentials(data: bytes) -> None:
    """An Authorization, an x-api-key, and the parts of a callback's path."""
    authorization, key, name = [*data.split(b"\n", 2), b"", b""][:3]
    text = name.decode("latin-1")
    assert not (_VAULT.token_matches(text, text) and is_job_id(text))
    headers = [(b"authorization", authorization)] if authorization else [(b"x-api-key", key)]
    LOOP.run(Callers(cast(KeyStore, _Keys()), cast(Store, None)).caller(_request(headers=headers)))


def notify_url(data: bytes) -> None:
    """An address."""
    notify_problems("notify_url", data.decode(errors="replace"), ("backend.internal:8080",))
