"""Targets on the side of providers and receivers: their callbacks, their answers, their heads and redirects."""

from __future__ import annotations

import contextlib
import ssl

import httpcore
import httpx

from service import signing
from service.clock import ManualClock
from service.model import VideoRequest
from service.outbound import Answer, ask, open_download, public_client, retry_after_ms
from service.outbound.connections import _Stream
from service.providers import Callback
from service.providers.llmgateway import LLMGateway
from service.providers.openrouter import OpenRouter
from service.vault import Vault
from tests.fuzz.running import LOOP
from tests.providers.loopback import a_job

_CLOCK = ManualClock(1_795_248_512_000)
_NOW = _CLOCK.now()
_SECRET = "workspace-secret"
_VAULT = Vault([b"a" * 16 + b"z" * 16])
_JOB_ID = "job_01k8z6v9n4e8r2m5t7w0x3y6za"
_STATUSES = (200, 202, 204, 301, 400, 401, 402, 403, 404, 409, 410, 413, 422, 429, 500, 502, 503, 529)


def _openrouter(client: httpx.AsyncClient) -> OpenRouter:
    return OpenRouter(
        client, base_url="https://openrouter.ai/api/v1", api_key="sk-or-v1-x", webhook_secrets=[_SECRET], clock=_CLOCK
    )


def _llmgateway(client: httpx.AsyncClient) -> LLMGateway:
    return LLMGateway(client, base_url="https://api.llmgateway.io/v1", api_key="llm_x", vault=_VAULT, clock=_CLOCK)


_TLS = ssl.create_default_context()
_UNUSED = httpx.AsyncClient(trust_env=False, transport=httpx.MockTransport(lambda _: httpx.Response(500)))
_PUBLIC = public_client(["allowed.internal:80"])
_OFFLINE = _openrouter(_UNUSED), _llmgateway(_UNUSED)


def openrouter_callback(data: bytes) -> None:
    """A body that the provider signed, whatever it is."""
    signature = signing.sign_openrouter(_SECRET.encode(), data, _NOW)
    _OFFLINE[0].receive(Callback(_JOB_ID, {signing.OPENROUTER_SIGNATURE: signature}, data, _NOW))


def llmgateway_callback(data: bytes) -> None:
    """A body that the provider signed, whatever it is; its first line may be the id of the message."""
    message_id, _, rest = data.partition(b"\n")
    name = message_id.decode("latin-1") if rest and message_id.isalnum() else "evt_cJ2I0x24dYBymiJl53vn"
    body = rest if rest and message_id.isalnum() else data
    key = signing.key_of(_VAULT.callback_secret(_JOB_ID))
    headers = signing.sign_standard(key, name if name.isascii() else "evt_1", body, _NOW)
    _OFFLINE[1].receive(Callback(_JOB_ID, headers, body, _NOW))


def _answered(data: bytes) -> httpx.AsyncClient:
    """Return a client to which everything is answered with `data`, its first byte being the status."""
    status = _STATUSES[data[0] % len(_STATUSES)] if data else 200
    headers = [(b"retry-after", data[1:9]), (b"x-ratelimit-reset", data[1:12])]
    return httpx.AsyncClient(
        trust_env=False,
        transport=httpx.MockTransport(lambda _: httpx.Response(status, headers=headers, content=data[1:])),
    )


def openrouter_answers(data: bytes) -> None:
    """The same answer to a submission, a poll and a request for models."""
    LOOP.run(_everything(data, "openrouter"))


def llmgateway_answers(data: bytes) -> None:
    """The same answer to a submission, a poll and a request for models."""
    LOOP.run(_everything(data, "llmgateway"))


async def _everything(data: bytes, name: str) -> None:
    async with _answered(data) as client:
        provider = _openrouter(client) if name == "openrouter" else _llmgateway(client)
        job = a_job(VideoRequest(model="m", prompt="p", duration=5), name)
        await provider.submit(job, "https://us.example/callbacks/x/y/z")
        await provider.poll("gen-1")
        await provider.models()


class _Said(httpcore.AsyncNetworkStream):
    """A connection on which everything was said already, in pieces."""

    def __init__(self, data: bytes) -> None:
        self._step = 1 + data[0] * 13 if data else 1
        self._data = data[1:]

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002, ASYNC109 - as httpcore has it
        piece, self._data = self._data[: min(self._step, max_bytes)], self._data[min(self._step, max_bytes) :]
        return piece

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - as httpcore has it
        pass

    async def aclose(self) -> None:
        pass


class _Says(httpcore.AsyncNetworkBackend):
    def __init__(self, data: bytes) -> None:
        self._data = data

    async def connect_tcp(self, *_: object, **__: object) -> httpcore.AsyncNetworkStream:
        return _Stream(_Said(self._data))


def answer_head(data: bytes) -> None:
    """Whatever a server says, asking ends with an answer or with httpx's own errors."""

    async def exchange() -> Answer | None:
        transport = httpx.AsyncHTTPTransport(verify=_TLS, trust_env=False)
        transport._pool._network_backend = _Says(data)
        async with httpx.AsyncClient(transport=transport, trust_env=False) as client:
            with contextlib.suppress(httpx.HTTPError):
                return await ask(client, client.build_request("GET", "http://h/"), seconds=5)
        return None

    LOOP.run(exchange())


def retry_after(data: bytes) -> None:
    """Every header that says how long to wait, with the same text, is a time or nothing."""
    for name in (b"retry-after", b"retry-after-ms", b"x-reset"):
        wait = retry_after_ms(httpx.Headers([(name, data)]), _NOW, "x-reset")
        assert wait is None or 0 <= wait <= 3_600_000


def location(data: bytes) -> None:
    """A download is redirected there, and answered by whoever that is, if the client goes there at all."""

    async def follow() -> None:
        answers = iter([httpx.Response(302, headers=[(b"location", data)]), httpx.Response(200, content=b"x")])
        _PUBLIC._transport = httpx.MockTransport(lambda _: next(answers, httpx.Response(302)))
        async with open_download(_PUBLIC, "https://h/", {"authorization": "x"}, clock=_CLOCK):
            pass

    LOOP.run(follow())
