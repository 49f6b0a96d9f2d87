"""The web with everything real around it but the providers' servers, which no test here calls."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import structlog
from starlette.applications import Starlette
from starlette.types import ASGIApp, Message
from structlog.testing import CapturingLogger
from structlog.typing import FilteringBoundLogger

from service import signing
from service.assembly import http_server, listen
from service.clock import ManualClock, SystemClock
from service.db.sqlite import SQLiteDatabase
from service.ids import Ids
from service.metrics import Metrics
from service.model import Artifact, Job, State, VideoRequest
from service.providers import Provider
from service.providers.llmgateway import LLMGateway
from service.providers.openrouter import OpenRouter
from service.storage import Storage
from service.store import (
    Catalogue,
    Claims,
    Created,
    Deliveries,
    KeyStore,
    Ledger,
    NewJob,
    Rejections,
    Sessions,
    Statistics,
    Store,
)
from service.vault import Vault
from service.web.app import build_app
from service.web.content import Posters
from service.web.tally import Tally
from service.web.turnstile import Turnstile
from tests.turns import until

PUBLIC_URL = "https://videos.example.com"
OPENROUTER_SECRET = "openrouter-webhook-secret"
ALLOWED = frozenset({"backend.internal:8080"})  # private hosts that callers may be told at
VIDEO = b"not a real video, but the bytes that were kept " * 1000


@dataclass
class House:
    """A service without workers. `app` is served in this process, or over a socket by `serving`."""

    folder: Path
    clock: ManualClock
    db: SQLiteDatabase
    store: Store
    claims: Claims
    keys: KeyStore
    deliveries: Deliveries
    catalogue: Catalogue
    rejections: Rejections
    statistics: Statistics
    sessions: Sessions
    tally: Tally
    turnstile: Turnstile
    wrong_keys: Turnstile
    vault: Vault
    storage: Storage
    providers: dict[str, Provider]
    wakes: list[State]
    key: str = ""
    logged: CapturingLogger = field(default_factory=CapturingLogger)
    metrics: Metrics = field(default_factory=lambda: Metrics("1.2.3", ["openrouter", "llmgateway"]))
    troubles: dict[str, str | None] = field(default_factory=lambda: {"submit": None, "poll": None, "mirror": None})

    def app(
        self,
        *,
        storage: Storage | None = None,
        posters: Posters | None = None,
        link_seconds: int = 0,
        scrape_seconds: float = 30.0,  # a loaded machine is no database that hangs
        public_url: str = PUBLIC_URL,
    ) -> Starlette:
        log: FilteringBoundLogger = structlog.wrap_logger(
            self.logged, processors=[], wrapper_class=structlog.make_filtering_bound_logger(20)
        )
        return build_app(
            store=self.store,
            keys=self.keys,
            providers=self.providers,
            default_provider="openrouter",
            vault=self.vault,
            storage=storage or self.storage,
            clock=self.clock,
            public_url=public_url,
            log=log,
            workers=lambda: self.troubles,
            deliveries=self.deliveries,
            catalogue=self.catalogue,
            rejections=self.rejections,
            statistics=self.statistics,
            metrics=self.metrics,
            observer=self.metrics,
            sessions=self.sessions,
            tally=self.tally,
            turnstile=self.turnstile,
            wrong_keys=self.wrong_keys,
            posters=posters,
            link_seconds=link_seconds,
            scrape_seconds=scrape_seconds,
            allowed_private_hosts=ALLOWED,
        )

    def client(self, app: ASGIApp | None = None, key: str | None = None) -> httpx.AsyncClient:
        """Return a client with the key of the tenant "acme", or with another, or with none when it is ""."""
        secret = self.key if key is None else key
        headers = {"authorization": f"Bearer {secret}"} if secret else {}
        transport = httpx.ASGITransport(app or self.app())
        return httpx.AsyncClient(transport=transport, base_url=PUBLIC_URL, headers=headers)

    def lines(self, event: str = "web.request") -> list[dict[str, Any]]:
        return [call.kwargs for call in self.logged.calls if call.kwargs["event"] == event]

    def faults(self) -> list[dict[str, Any]]:
        """Return the lines of what somebody must look at now."""
        return [call.kwargs for call in self.logged.calls if call.method_name == "error"]

    async def queued(self, provider: str = "openrouter", tenant: str = "acme", model: str = "google/veo-3.1") -> Job:
        request = VideoRequest(model=model, prompt="a cat", duration=5)
        created = await self.store.create_job(NewJob(tenant, provider, request))
        assert isinstance(created, Created)
        return created.job

    async def submitting(self, provider: str = "openrouter") -> Job:
        job = await self.queued(provider)
        claimed = {each.id: each for each in await self.claims.claim_queued(provider, 100)}
        return claimed[job.id]

    async def running(self, provider: str = "openrouter", provider_job_id: str = "gen-1") -> Job:
        job = await self.submitting(provider)
        found = await self.store.submitted(job.id, provider_job_id, "pending", first_poll_ms=60_000)
        assert found is not None
        return found

    async def completed(self, provider_job_id: str = "gen-1", contents: Sequence[bytes] = (VIDEO,)) -> Job:
        """Return a job whose artifacts hold `contents`."""
        job = await self.running(provider_job_id=provider_job_id)
        answer = await self.call_back(job, outputs=len(contents))
        assert answer.status_code == 204
        [job] = await self.claims.claim_mirrors("openrouter", 1)
        for index, content in enumerate(contents):
            key = f"acme/2026/11/{job.id}/{index}.mp4"
            await self.storage.put(key, _once(content), content_type="video/mp4")
            await self.claims.keep_artifact(job, Artifact(index, key, len(content), "ab" * 32, "video/mp4"))
        done = await self.claims.mirrored(job)
        assert done is not None
        return done

    def address(self, job: Job) -> str:
        return f"/callbacks/{job.provider}/{job.id}/{self.vault.callback_token(job.id)}"

    async def call_back(self, job: Job, word: str = "completed", outputs: int = 1) -> httpx.Response:
        """Report as OpenRouter does, rightly signed."""
        body = openrouter_body(job.provider_job_id or "gen-1", word, outputs)
        async with self.client(key="") as client:
            return await client.post(self.address(job), content=body, headers=self.openrouter_headers(body))

    def openrouter_headers(self, body: bytes, secret: str = OPENROUTER_SECRET) -> dict[str, str]:
        signature = signing.sign_openrouter(signing.key_of(secret), body, self.clock.now())
        return {"content-type": "application/json", signing.OPENROUTER_SIGNATURE: signature}

    def llmgateway_headers(self, job: Job, body: bytes, event_id: str = "evt_1") -> dict[str, str]:
        key = signing.key_of(self.vault.callback_secret(job.id))
        return {"content-type": "application/json", **signing.sign_standard(key, event_id, body, self.clock.now())}

    async def count(self, table: str) -> int:
        """Look into the file itself."""
        async with self.db._reader.execute(f"SELECT count(*) FROM {table}") as cursor:  # noqa: S608 - our own names
            row = await cursor.fetchone()
        assert row is not None
        return int(row[0])

    async def history(self, job: Job) -> list[str]:
        return [event.type for event in await self.store.events(job.id)]


@asynccontextmanager
async def open_house(folder: Path) -> AsyncIterator[House]:
    clock = ManualClock()
    db = await SQLiteDatabase.open(folder / "reelkeeper.db", clock)
    try:
        async with httpx.AsyncClient() as unused:
            vault = Vault([b"a" * 16 + b"z" * 16])
            ids = Ids(clock)
            wakes: list[State] = []
            ledger = Ledger(db, clock, wakes.append)
            openrouter = OpenRouter(
                unused,
                base_url="http://127.0.0.1:9",
                api_key="sk-or-test",
                webhook_secrets=[OPENROUTER_SECRET],
                clock=clock,
            )
            llmgateway = LLMGateway(
                unused, base_url="http://127.0.0.1:9", api_key="llmgtwy_test", vault=vault, clock=clock
            )
            rejections = Rejections(ledger)
            house = House(
                folder=folder,
                clock=clock,
                db=db,
                store=Store(ledger, ids),
                claims=Claims(ledger, ids),
                keys=KeyStore(db, clock, ids),
                deliveries=Deliveries(ledger, ids),
                catalogue=Catalogue(db),
                rejections=rejections,
                statistics=Statistics(ledger),
                sessions=Sessions(db, clock, ids),
                tally=Tally(rejections, clock),
                turnstile=Turnstile(SystemClock()),
                wrong_keys=Turnstile(SystemClock()),
                vault=vault,
                storage=Storage.open(str(folder / "videos")),
                providers={"openrouter": openrouter, "llmgateway": llmgateway},
                wakes=wakes,
            )
            ledger.observe = house.metrics.entered
            _, house.key = await house.keys.create("backend", "acme")
            yield house
            await house.tally.close()
    finally:
        await db.close()


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[int]:
    """Serve `app` as it is served in earnest, in this loop, on a free port of loopback."""
    listener = listen("127.0.0.1", 0)
    server = http_server(app)
    running = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await until(lambda: server.started)
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await running
        listener.close()


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect without any HTTP library, to send what none would."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def ask(
    app: ASGIApp, method: str, path: str, headers: Sequence[tuple[bytes, bytes]], body: bytes, *, more: bool = False
) -> int:
    """Hand a request to the app past every library that would refuse to send it; return the status.

    With `more` there is more to come of the body, and never does.
    """
    messages: list[Message] = []
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": b"",
        "query_string": b"",
        "root_path": "",
        "headers": headers,
    }
    incoming = [{"type": "http.request", "body": body, "more_body": more}]

    async def receive() -> dict[str, Any]:
        if more and not incoming:
            await asyncio.Event().wait()
        return incoming.pop() if incoming else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        messages.append(message)

    await app(scope, receive, send)
    return int(messages[0]["status"])


def openrouter_body(provider_job_id: str, word: str = "completed", outputs: int = 1, **more: object) -> bytes:
    data = {
        "id": provider_job_id,
        "status": word,
        "urls": [f"https://cdn.example.net/{index}.mp4?sig=canary" for index in range(outputs)],
        "usage": {"cost": 0.25},
    }
    return json.dumps({"type": f"video.generation.{word}", "data": data | more}).encode()


def llmgateway_body(provider_job_id: str, word: str = "completed", event_id: str = "evt_1") -> bytes:
    event_type = "video.completed" if word == "completed" else "video.failed"
    return json.dumps({"id": event_id, "type": event_type, "data": {"id": provider_job_id, "status": word}}).encode()


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content
