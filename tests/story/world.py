"""The whole service and a provider that misbehaves, on real sockets and files, under one clock that only tests move."""

from __future__ import annotations

import asyncio
import hashlib
import random
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
import structlog
import uvicorn
from starlette.types import ASGIApp
from structlog.testing import CapturingLogger
from structlog.typing import FilteringBoundLogger

from service.assembly import Service, Tuning, http_server, listen, open_service
from service.clock import ManualClock
from service.config import Config
from service.model import TRANSITIONS, Artifact, Event, Job, OnUnknown, State
from service.providers import Manners
from service.sandbox import Sandbox, serving
from service.sandbox.behaviours import PREFIX, Serve
from service.sandbox.downloads import VIDEOS, WEBM
from service.sandbox.jobs import ProviderJob

MINUTE = 60_000  # ms
MANNERS = Manners(first_poll_ms=10_000, poll_every_ms=10_000, retention_ms=60 * MINUTE)
DEADLINE = 5 * MINUTE
TENANT = "studio"
WEBHOOK_SECRET = "workspace-webhook-secret"

_KEY = "sk-sandbox"
_STEP = 500  # ms
_LONGEST_STEP = 30_000  # ms
_TRUST = ssl.create_default_context()  # made once: it takes longer than most stories


class World:
    """A sandbox and a service that are each other's only world. Time moves only by `clock`.

    `callbacks_arrive` set to False loses all callbacks on their way.
    """

    service: Service
    sandbox: Sandbox
    http: httpx.AsyncClient  # a caller with a key

    def __init__(
        self,
        folder: Path,
        *,
        clock: ManualClock,
        settings: Mapping[str, str],
        manners: Manners | None,
        look_inside: bool,
    ) -> None:
        self.clock = clock
        self.videos = folder / "videos"
        self.callbacks_arrive = True
        self.logged = CapturingLogger()
        self._folder = folder
        self._settings = settings
        self._manners = manners
        self._look_inside = look_inside
        self._chance = random.Random(11)  # noqa: S311 - the same story in every run
        self._port = self._provider_port = 0
        self._key = ""
        self._parts = AsyncExitStack()
        self._provider = AsyncExitStack()
        self._answering: tuple[uvicorn.Server, asyncio.Task[None]] | None = None

    # What callers and operators do

    async def ask(self, provider: str, behaviour: str, **fields: object) -> str:
        """Ask for a video as a caller does, and return the job's id."""
        body = {"provider": provider, "model": PREFIX + behaviour, "prompt": "a red kite", "duration": 4, **fields}
        answer = await self.http.post("/v1/jobs", json=body)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    async def job(self, job_id: str) -> Job:
        """Read a job as it is on disk."""
        found = await self.service.records.store.job(job_id)
        assert found is not None
        return found

    async def events(self, job_id: str) -> list[Event]:
        return await self.service.records.store.events(job_id)

    async def history(self, job_id: str) -> str:
        """Return what happened to a job, in words: "queued submitting running"."""
        return " ".join(event.type.removeprefix("job.") for event in await self.events(job_id))

    async def told_by(self, job_id: str) -> str | None:
        """Return how the last word about a job came."""
        return next((e.data["source"] for e in reversed(await self.events(job_id)) if "source" in e.data), None)

    def made(self, job_id: str) -> list[ProviderJob]:
        """Return the jobs that the provider made for ours, which it knows by the address to call back."""
        return [made for made in self.sandbox.ledger.jobs() if f"/{job_id}/" in (made.callback_url or "")]

    # How time goes on

    async def run(self, worker: str) -> int:
        """Let one step's workers do what is due."""
        return sum([await each.run_once() for each in self.service.workers.values() if each.step == worker])

    async def round(self) -> int:
        """Let everybody do once what is due; return how much that was."""
        done = 0
        for worker in ("submit", "resolve", "poll", "mirror", "notify", "erase"):
            done += await self.run(worker)
        if self.callbacks_arrive:
            done += await self.sandbox.run_once()
        return done

    async def pass_time(self, milliseconds: int, step: int = _STEP) -> None:
        """Let everybody work while time passes."""
        until = self.clock.now() + milliseconds
        while self.clock.now() < until:
            await self.round()
            self.clock.advance(min(step, until - self.clock.now()))
        await self.round()

    async def until(self, job_id: str, state: State, rounds: int = 400) -> Job:
        """Let everybody work until a job is in that state; where nothing happens, time goes faster."""
        step = _STEP
        for _ in range(rounds):
            job = await self.job(job_id)
            if job.state is state:
                return job
            step = _STEP if await self.round() else min(2 * step, _LONGEST_STEP)
            self.clock.advance(step)
        pytest.fail(f"{job_id} never became {state}\n{await self.tell(job_id)}")

    async def settle(self, *job_ids: str, rounds: int = 400) -> None:
        """Let everybody work until the jobs are final; where nothing happens, time goes faster."""
        step, waiting = _STEP, list(job_ids)
        for _ in range(rounds):
            while waiting and (await self.job(waiting[-1])).state.final:
                waiting.pop()
            if not waiting:
                return
            step = _STEP if await self.round() else min(2 * step, _LONGEST_STEP)
            self.clock.advance(step)
        pytest.fail("\n".join(["these never ended:", *[await self.tell(job_id) for job_id in waiting]]))

    async def tell(self, job_id: str) -> str:
        """Return all that is known of a job."""
        job = await self.job(job_id)
        lines = [f"{job}"]
        lines += [
            f"  {event.at - job.created_at:>9} ms  {event.type}  {event.data}" for event in await self.events(job_id)
        ]
        lines += [f"  at the provider: {asdict(made)}" for made in self.made(job_id)]
        lines += [f"  log: {call.kwargs}" for call in self.logged.calls[-20:]]
        return "\n".join(lines)

    # What breaks

    async def crash(self) -> None:
        """Throw the service away: nothing that is under way is finished, written down or told to anybody."""
        running = [task for worker in self.service.workers.values() for task in worker._tasks]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self._parts.aclose()

    async def start(self) -> None:
        """Open the service on the files and the address that it has, or had before."""
        listener = listen("127.0.0.1", self._port)
        self._port = listener.getsockname()[1]
        url = f"http://127.0.0.1:{self._port}"
        config = Config.read(
            {
                "REELKEEPER_PUBLIC_URL": url,
                "REELKEEPER_SECRET_KEY": "00112233445566778899aabbccddeeff" * 2,
                "REELKEEPER_DATABASE": f"sqlite:///{self._folder / 'reelkeeper.db'}",
                "REELKEEPER_STORAGE": str(self.videos),
                "REELKEEPER_JOB_DEADLINE": str(DEADLINE // 1000),
                "REELKEEPER_ALLOWED_PRIVATE_HOSTS": f"localhost:{self._provider_port}",
                "OPENROUTER_BASE_URL": f"{self.sandbox.base_url}/api/v1",
                "OPENROUTER_API_KEY": _KEY,
                "OPENROUTER_WEBHOOK_SECRET": WEBHOOK_SECRET,
                "LLMGATEWAY_BASE_URL": f"{self.sandbox.base_url}/v1",
                "LLMGATEWAY_API_KEY": _KEY,
                **self._settings,
            }
        )
        log: FilteringBoundLogger = structlog.wrap_logger(
            self.logged, processors=[], wrapper_class=structlog.make_filtering_bound_logger(20)
        )
        opening = open_service(
            config,
            log,
            clock=self.clock,
            chance=self._chance,
            # A loaded machine is neither a database nor a collector that hangs.
            tuning=Tuning(
                manners=self._manners, look_inside=self._look_inside, scrape_seconds=30.0, flush_seconds=30.0
            ),
        )
        self.service = await self._parts.enter_async_context(opening)
        server = http_server(self.service.app)
        answering = asyncio.create_task(server.serve(sockets=[listener]))
        self._parts.callback(listener.close)
        self._parts.push_async_callback(_cut, server, answering)
        if not self._key:
            _, self._key = await self.service.records.keys.create("backend", TENANT)
        headers = {"authorization": f"Bearer {self._key}"}
        self.http = await self._parts.enter_async_context(
            httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, verify=_TRUST, timeout=10)
        )

    async def provider_goes_away(self) -> None:
        """Close the provider's socket: whoever connects is refused."""
        await self._provider.aclose()

    async def provider_comes_back(self) -> None:
        """Open the provider's socket again, at the same address."""
        url = await self._provider.enter_async_context(serving(self.sandbox, port=self._provider_port))
        self._provider_port = httpx.URL(url).port or 0

    # What must be true of every story

    async def audit(self) -> None:
        """Check every job against its history, the provider's ledger and the files."""
        kept: set[str] = set()
        for job in await self.service.records.store.jobs(limit=1000):
            _check_history(await self.events(job.id))
            made = self.made(job.id)
            assert len(made) <= (2 if job.on_unknown is OnUnknown.RESUBMIT else 1), await self.tell(job.id)
            for artifact in job.artifacts:
                self._check_artifact(artifact, next(one for one in made if one.id == job.provider_job_id))
                kept.add(artifact.key)
                if artifact.footage and artifact.footage.poster:
                    kept.add(artifact.footage.poster)
            for download in (download for one in made for download in one.downloads):
                assert download.authorization is (download.via == "content")
        assert self.stored() == kept
        assert not [call.kwargs for call in self.logged.calls if call.method_name in ("error", "exception")]

    def stored(self) -> set[str]:
        """Return the path of every file in storage, whatever it is."""
        return {str(path.relative_to(self.videos)) for path in self.videos.rglob("*") if path.is_file()}

    def _check_artifact(self, artifact: Artifact, made: ProviderJob) -> None:
        webm = made.behaviour.serve is Serve.WEBM
        shipped = WEBM if webm else VIDEOS[(made.number + artifact.index) % len(VIDEOS)]
        assert (artifact.bytes, artifact.sha256) == (len(shipped), hashlib.sha256(shipped).hexdigest())
        assert artifact.content_type == ("video/webm" if webm else "video/mp4")
        assert (self.videos / artifact.key).read_bytes() == shipped


def _check_history(events: list[Event]) -> None:
    words = [event.type.removeprefix("job.") for event in events]
    states = [State(word) for word in words if word in list(State)]
    assert states[0] is State.QUEUED
    for before, after in pairwise(states):
        assert after in TRANSITIONS[before], words
    assert [event.id for event in events] == list(range(1, len(events) + 1))
    assert [event.at for event in events] == sorted(event.at for event in events)


async def _cut(server: uvicorn.Server, answering: asyncio.Task[None]) -> None:
    """End a server as the death of its process does: without a word on any connection."""
    answering.cancel()
    await asyncio.wait({answering})
    for each in getattr(server, "servers", []):  # none if it had no time to start
        each.close()
    for connection in list(server.server_state.connections):
        connection.transport.abort()
    if server.server_state.tasks:
        await asyncio.wait(server.server_state.tasks, timeout=5)


@asynccontextmanager
async def open_world(
    folder: Path,
    *,
    clock: ManualClock | None = None,
    settings: Mapping[str, str] | None = None,
    speed: float = 1.0,
    manners: Manners | None = MANNERS,
    before: Callable[[ASGIApp], ASGIApp] | None = None,
    look_inside: bool = False,
) -> AsyncIterator[World]:
    """Open a world in an empty folder; at its end it is audited.

    `settings` are variables of the service's environment, `speed` is the sandbox's, `manners` replace the providers'
    own (None: they keep them), `before` wraps the sandbox's app in what shall see its requests first, `look_inside`
    has a process find out what each video shows, which takes its time.
    """
    clock = clock or ManualClock()
    world = World(folder, clock=clock, settings=settings or {}, manners=manners, look_inside=look_inside)
    async with httpx.AsyncClient(trust_env=False, verify=_TRUST, timeout=10) as client:
        world.sandbox = Sandbox(
            clock=world.clock,
            chance=random.Random(7),  # noqa: S311 - the same names in every run
            webhook_secret=WEBHOOK_SECRET,
            api_key=_KEY,
            client=client,
            speed=speed,
        )
        if before is not None:
            world.sandbox.app.add_middleware(before)
        try:
            await world.provider_comes_back()
            await world.start()
            yield world
            await world.audit()
        finally:
            await world.crash()
            await world.provider_goes_away()
