"""A place in which every secret has its canary, and all that came out of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import httpx
from starlette.datastructures import Headers
from starlette.responses import Response

from service.assembly import Tuning
from service.config import Config
from service.model import State
from service.providers import Manners
from service.sandbox import Sandbox
from service.sandbox.dialect import Dialect, Order
from service.store import Timing
from service.workers import Rhythm
from tests.mortal import Life
from tests.places import Place, environment, open_place
from tests.proofs.canaries import Canary, word
from tests.proofs.shelves import BucketShelf
from tests.receiver import Receiver
from tests.servers import SeaweedFS

LOG, DATABASE, STORAGE, ANSWERS, METRICS, TOLD, SAID, PROCESSES = (
    "log", "database", "storage", "HTTP answers", "metrics", "deliveries", "commands", "command lines"
)  # fmt: skip
PLACES: Final = (LOG, DATABASE, STORAGE, ANSWERS, METRICS, TOLD, SAID, PROCESSES)
_LIFE = Life(
    tuning=Tuning(
        manners=Manners(first_poll_ms=1_000, poll_every_ms=500, retention_ms=4_000),
        timing=Timing(job_deadline=6_000, lease=3_000),
        rhythm=Rhythm(idle=0.2, renew_every=1.0),
    ),
    submit_seconds=1.0,
)


class Secrets:
    """Every canary by name; those that are settings are made at once, others are noted when they come up."""

    def __init__(self) -> None:
        self.key_new, self.key_old = word(43), os.urandom(32).hex()
        self.openrouter, self.gateway = f"sk-or-v1-{word()}", f"{word(20)}/{word(20)}"
        self.webhook, self.webhook_old = word(), f"{word(12)}/{word(12)}"
        self.session = word()
        self.all: dict[str, Canary] = {}
        own = {ANSWERS: "its caller's own request", TOLD: "the same, to its caller"}
        free = "until the job is completed, and in pages that SQLite left free"
        caller = "to its own caller"
        for name, values, must, may in (
            ("secret keys", (self.key_new, self.key_old), {}, {}),
            ("callback tokens", (), {}, {}),
            ("callback secrets of jobs", (), {}, {}),
            ("delivery secrets", (), {}, {}),
            ("provider keys", (self.openrouter, self.gateway), {}, {}),
            ("webhook secrets", (self.webhook, self.webhook_old), {}, {}),
            ("storage credentials", (self.session,), {}, {}),
            ("API keys", (), {}, {}),
            ("API keys, mistyped", (), {}, {ANSWERS: "to its sender, who gave it as the name of a model"}),
            ("callback_secret of callers", (), {}, {}),
            ("receivers: path", (), {DATABASE: "to tell them", ANSWERS: caller}, own | {SAID: "to the operator"}),
            ("receivers: query", (), {DATABASE: "to tell them"}, {}),
            ("receivers: user", (), {}, {}),
            ("inputs: signed URL", (), {DATABASE: "to submit it", ANSWERS: caller}, own),
            ("inputs: data", (), {}, own | {DATABASE: free}),
            ("signed outputs", (), {DATABASE: "to copy them"}, {}),
            ("signed links to the bucket", (), {ANSWERS: "to whoever may read the job"}, {}),
            ("signatures and cookies of strangers", (), {}, {}),
        ):
            self.all[name] = Canary(name, must=must, may={k: v for k, v in may.items() if k not in must})
            self.all[name].add(*values)
        for text in (self.key_new, self.key_old):
            self.all["secret keys"].add(*Config.read({**_BARE, "REELKEEPER_SECRET_KEY": text}).secret_keys)

    def new(self, name: str, length: int = 32) -> str:
        """Return a new canary of that kind."""
        canary = word(length)
        self.all[name].add(canary)
        return canary


_BARE = {"REELKEEPER_PUBLIC_URL": "https://x.example", "OPENROUTER_API_KEY": "x"}


class Scene:
    """A place where everything has its canary, and all that came out of it, by place."""

    def __init__(self, place: Place, known: Secrets, receiver: Receiver, server: SeaweedFS) -> None:
        self.place = place
        self.known = known
        self.receiver = receiver
        self.server = server
        self.heard: dict[str, list[bytes]] = defaultdict(list)
        self.http = httpx.AsyncClient(
            base_url=place.url, trust_env=False, timeout=20, event_hooks={"response": [self._hear]}
        )
        self.own = {"authorization": f"Bearer {place.key}"}
        self.jobs: list[str] = []

    async def _hear(self, response: httpx.Response) -> None:
        body = await response.aread()
        location = response.headers.get("location", "")
        for value in parse_qs(urlsplit(location).query).get("X-Amz-Signature", []):
            self.known.all["signed links to the bucket"].add(value)
        numbers = response.request.url.path == "/metrics" and response.is_success
        heard = self.heard[METRICS if numbers else ANSWERS]
        heard.append(f"{response.status_code} {response.headers.raw}\n".encode() + body)

    async def ask(self, path: str, body: Mapping[str, Any]) -> httpx.Response:
        answer = await self.http.post(path, json=body, headers=self.own)
        if answer.is_success:
            self.jobs.append(answer.json()["id"])
        return answer

    async def submitted(self) -> bool:
        """Tell whether nothing waits to be submitted."""
        return not any(job.state is State.QUEUED for job in await self.place.jobs())

    async def command(self, *words: str, place: str = SAID, **settings: str) -> str:
        """Run a command as an operator does, and keep all that it says."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "service", *words),
            env=environment({"COLUMNS": "400", **self.place.settings, **settings}),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        self.heard[place].append(said)
        return said.decode()


def _quoting(dialect: Dialect) -> None:
    """Have a provider quote what it was sent, when a prompt asks for it: plainly, escaped and in part."""
    order = dialect.order

    def quoted(headers: Headers, raw: bytes) -> Order | Response:
        request = json.loads(raw)
        if not str(request.get("prompt")).startswith("quote"):
            return order(headers, raw)
        sent = [headers.get("authorization", ""), request.get("callback_url"), request.get("callback_secret")]
        sent.append(urlsplit(request.get("callback_url") or "").path)
        sent.append(headers.get("authorization", "").partition(" ")[2])
        error = dialect.error(400, f"not with {' and '.join(filter(None, sent))}")
        if request["prompt"] == "quote escaped":
            body = bytes(error.body).replace(b"/", b"\\/")
            return Response(body, error.status_code, {"content-type": "application/json"})
        return error

    dialect.order = quoted  # type: ignore[method-assign]


def _overhear_links(sandbox: Sandbox, known: Canary) -> None:
    mint = sandbox._links._token

    def minted(subject: str, expires_at: int) -> str:
        token = mint(subject, expires_at)
        known.add(token.rpartition(".")[2])
        return token

    sandbox._links._token = minted  # type: ignore[method-assign]


@contextlib.asynccontextmanager
async def scene(folder: Path, server: SeaweedFS) -> AsyncIterator[Scene]:
    """Open the place."""
    known, receiver = Secrets(), Receiver()
    shelf = BucketShelf(server, folder.name)
    settings = {
        **shelf.settings,
        "REELKEEPER_SECRET_KEY": f"{known.key_new},{known.key_old}",
        "OPENROUTER_API_KEY": known.openrouter,
        "LLMGATEWAY_API_KEY": known.gateway,
        "OPENROUTER_WEBHOOK_SECRET": f"{known.webhook},workspace-webhook-secret,{known.webhook_old}",
    }
    known.all["webhook secrets"].add("workspace-webhook-secret")
    known.all["storage credentials"].add(server.environment["AWS_SECRET_ACCESS_KEY"])
    async with (
        receiver.running(),
        open_place(folder, speed=8, settings=settings, life=_LIFE, receivers=[receiver.host]) as place,
    ):
        for dialect in (place.sandbox._openrouter, place.sandbox._llmgateway):
            _quoting(dialect)
        _overhear_links(place.sandbox, known.all["signed outputs"])
        found = Scene(place, known, receiver, server)
        async with found.http:
            yield found
