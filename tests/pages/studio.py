"""What there is to see on the pages: a running service, tenants who ask for videos, and a receiver who is told."""

from __future__ import annotations

import contextlib
import secrets
import signal
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import httpx

from service.assembly import Tuning
from service.config import Config
from service.providers import Manners
from service.records import open_records
from service.sandbox.behaviours import PREFIX
from tests.mortal import Life
from tests.pages.past import live_through
from tests.places import Door, Place, living, open_place, until
from tests.receiver import Receiver

_MANNERS = Manners(first_poll_ms=2_000, poll_every_ms=1_000, retention_ms=86_400_000, per_minute=6_000, burst=100)
_LIFE = Life(tuning=Tuning(manners=_MANNERS), again_ms=1_000)
_SPEED = 10.0  # of the sandbox, whose jobs take a fifth of a second
_PATIENCE = 60  # seconds; the processors may have other things to do
_TAKEN, _GONE = 204, 410  # what receivers answer


@dataclass(slots=True)
class Tenant:
    """Somebody who asks for videos with a key of their own."""

    name: str
    key: str
    http: httpx.AsyncClient

    async def ask(self, behaviour: str = "ok", *, provider: str = "openrouter", **fields: object) -> str:
        """Ask for a video, and return the job's id."""
        body = {"provider": provider, "model": PREFIX + behaviour, "prompt": "a red kite", "duration": 4, **fields}
        answer = await self.http.post("/v1/jobs", json=body)
        answer.raise_for_status()
        return str(answer.json()["id"])

    async def asked(self, behaviour: str = "ok", *, ends: str = "completed", **fields: object) -> str:
        """Ask for a video, wait for the end of the job, and return its id."""
        job_id = await self.ask(behaviour, **fields)  # type: ignore[arg-type] # a provider's name or a field
        await self.until(job_id, ends)
        return job_id

    async def job(self, job_id: str) -> dict[str, Any]:
        """Return a job as its owner reads it."""
        answer = await self.http.get(f"/v1/jobs/{job_id}")
        answer.raise_for_status()
        job: dict[str, Any] = answer.json()
        return job

    async def until(self, job_id: str, state: str) -> None:
        """Wait for a job to be in that state."""

        async def there() -> bool:
            job = await self.job(job_id)
            return bool(job["state"] == state)

        await until(there, _PATIENCE)

    async def until_event(self, job_id: str, event: str) -> None:
        """Wait for something to happen to a job."""

        async def there() -> bool:
            answer = await self.http.get(f"/v1/jobs/{job_id}/events")
            return event in [each["type"] for each in answer.json()["data"]]

        await until(there, _PATIENCE)

    async def deliveries(self, job_id: str) -> list[dict[str, Any]]:
        """Return what was told about a job."""
        answer = await self.http.get(f"/v1/jobs/{job_id}/deliveries")
        found: list[dict[str, Any]] = answer.json()["data"]
        return found

    async def until_given_up(self, job_id: str) -> None:
        """Wait until the receiver does not want to be told about a job any more."""

        async def given_up() -> bool:
            return [each["state"] for each in await self.deliveries(job_id)] == ["failed"]

        await until(given_up, _PATIENCE)


@dataclass(slots=True)
class Studio:
    """A service with its provider, and who deals with it."""

    place: Place
    receiver: Receiver
    operator_key: str = ""
    _door: Door = field(default_factory=Door)
    _loses_callbacks: bool = False
    _lost: set[str] = field(default_factory=set)
    _names: count[int] = field(default_factory=count)
    _clients: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)

    @property
    def url(self) -> str:
        """Where the service is."""
        return self.place.url

    async def tenant(self, name: str | None = None) -> Tenant:
        """Return a tenant who has no jobs yet."""
        name = name or f"tenant-{next(self._names)}"
        key = await self._new_key(name)
        client = httpx.AsyncClient(
            base_url=self.url, headers={"authorization": f"Bearer {key}"}, trust_env=False, timeout=30
        )
        return Tenant(name, key, await self._clients.enter_async_context(client))

    @contextlib.contextmanager
    def callbacks_lost(self) -> Iterator[None]:
        """Let no callback arrive while the block lasts, and none later about a job of which one got lost."""
        self._loses_callbacks = True
        try:
            yield
        finally:
            self._loses_callbacks = False

    @contextlib.contextmanager
    def receiver_gone(self) -> Iterator[None]:
        """Have the receiver say, while the block lasts, that it does not want to be told any more."""
        self.receiver.answer = lambda _: _GONE
        try:
            yield
        finally:
            self.receiver.answer = lambda _: _TAKEN

    @contextlib.asynccontextmanager
    async def provider_away(self) -> AsyncIterator[None]:
        """Take the provider away while the block lasts: whoever connects is refused."""
        await self._door.close()
        try:
            yield
        finally:
            await self._door.open(self.place.sandbox)

    async def stop(self) -> None:
        """End the service as a process manager does."""
        self.place.signal(signal.SIGTERM)

        async def gone() -> bool:
            async with httpx.AsyncClient(trust_env=False) as client:
                try:
                    await client.get(f"{self.url}/healthz")
                except httpx.TransportError:
                    return True
            return False

        await until(gone)

    @contextlib.asynccontextmanager
    async def started_again(self) -> AsyncIterator[None]:
        """Run the service while the block lasts, on the same port and files."""
        port = httpx.URL(self.url).port or 0
        async with living(replace(_LIFE, port=port), self.place.settings, self.place.folder):
            yield

    async def _new_key(self, tenant: str, *, operator: bool = False) -> str:
        async with open_records(Config.read(self.place.settings)) as records:
            _, key = await records.keys.create("pages", tenant, operator=operator)
        return key


@contextlib.asynccontextmanager
async def open_studio(folder: Path, *, past_jobs: int = 0) -> AsyncIterator[Studio]:
    """Run everything in `folder`; the service has a day with `past_jobs` jobs behind it."""

    async def lose(request: httpx.Request) -> None:
        if studio._loses_callbacks:
            studio._lost.add(request.url.path)
        if request.url.path in studio._lost:
            raise httpx.ConnectError("this callback is lost on its way")

    door, receiver = Door(), Receiver()
    if past_jobs:
        await live_through(_settings_of_past(folder), past_jobs)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(receiver.running())
        opening = open_place(folder, speed=_SPEED, life=_LIFE, door=door, overhear=[lose], receivers=[receiver.host])
        place = await stack.enter_async_context(opening)
        studio = Studio(place, receiver, _door=door)
        stack.push_async_exit(studio._clients)
        studio.operator_key = await studio._new_key("operators", operator=True)
        yield studio


def _settings_of_past(folder: Path) -> dict[str, str]:
    """Return settings with the database and the storage that `open_place` will use in this folder."""
    return {
        "REELKEEPER_PUBLIC_URL": "http://127.0.0.1:1",
        "REELKEEPER_SECRET_KEY": secrets.token_hex(32),
        "REELKEEPER_DATABASE": f"sqlite:///{folder / 'reelkeeper.db'}",
        "REELKEEPER_STORAGE": str(folder / "videos"),
        "OPENROUTER_API_KEY": "any",
        "LLMGATEWAY_API_KEY": "any",
    }
