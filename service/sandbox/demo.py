"""The demonstration: a dozen jobs over HTTP, each treated badly in its own way, watched and then audited from outside.

It knows the service as any backend does, by its address and a key, and the sandbox by its ledger. What it prints at the
end is counted from the ledger, from the service's answers and from the files themselves.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import httpx
from rich.console import Console
from rich.live import Live
from rich.table import Table

from service.clock import Clock
from service.sandbox.behaviours import BEHAVIOURS, PREFIX, Tell

_LOOK_EVERY = 0.25  # s
_PATIENCE_MS = 90_000
_FINAL: Final = {"completed", "failed", "cancelled", "expired"}
_COLOURS: Final = {"completed": "green", "failed": "red", "cancelled": "red", "expired": "yellow"}


@dataclass(frozen=True, slots=True)
class Scene:
    """One job of the demonstration, and how it should end: its state, how many provider jobs and kept files it has."""

    provider: str
    behaviour: str
    ends: str = "completed"
    paid: int = 1
    files: int = 1


SCENES: Final = (
    Scene("openrouter", "ok"),
    Scene("llmgateway", "ok"),
    Scene("openrouter", "callback-lost"),
    Scene("llmgateway", "callback-twice"),
    Scene("llmgateway", "callback-early"),
    Scene("openrouter", "callback-forged", ends="failed", files=0),
    Scene("openrouter", "accepted-then-502"),
    Scene("llmgateway", "accepted-then-hangs"),
    Scene("llmgateway", "stale-get"),
    Scene("openrouter", "several-outputs", files=3),
    Scene("llmgateway", "rate-limited"),
    Scene("openrouter", "redirect"),
    Scene("llmgateway", "truncated"),
    Scene("openrouter", "refused-400", ends="failed", paid=0, files=0),
    Scene("llmgateway", "fails-moderation", ends="failed", files=0),
    Scene("openrouter", "never-ends", ends="expired", files=0),
)


@dataclass(slots=True)
class _Act:
    """A scene with what became of it: the job as the service last showed it."""

    scene: Scene
    job: Mapping[str, Any]
    story: Sequence[Mapping[str, Any]] = ()
    paid: int = 0
    callbacks: Counter[str] = field(default_factory=Counter)
    files: list[Path] = field(default_factory=list)

    @property
    def state(self) -> str:
        return str(self.job["state"])

    @property
    def seconds(self) -> str:
        created, finished = self.job["created_at"], self.job["finished_at"]
        took = datetime.fromisoformat(finished) - datetime.fromisoformat(created) if finished else None
        return f"{took.total_seconds():.1f}" if took else ""

    @property
    def told_by(self) -> str:
        """How the last word about the job reached the service."""
        return next((event["data"]["source"] for event in reversed(self.story) if "source" in event["data"]), "")

    @property
    def went_well(self) -> bool:
        expected = self.scene
        return (self.state, self.paid, len(self.files)) == (expected.ends, expected.paid, expected.files)


class Demo:
    """Plays every scene against a service at `url` with `key`, the sandbox at `sandbox_url` being its provider."""

    def __init__(self, *, url: str, key: str, sandbox_url: str, videos: Path, clock: Clock, console: Console) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {key}"}
        self._sandbox_url = sandbox_url
        self._videos = videos
        self._clock = clock
        self._console = console

    async def play(self) -> bool:
        """Submit, watch, audit and print; True if every job ended as it should."""
        async with httpx.AsyncClient(base_url=self._url, headers=self._headers, trust_env=False, timeout=30) as client:
            acts = [await self._submit(client, scene) for scene in SCENES]
            await self._watch(client, acts)
            for act in acts:
                act.story = (await client.get(f"/v1/jobs/{act.job['id']}/events")).json()["data"]
            ledger = (await client.get(f"{self._sandbox_url}/sandbox/ledger", headers={"Authorization": ""})).json()
        self._audit(acts, ledger)
        self._console.print(_verdicts(acts))
        self._console.print(_files(acts, self._videos))
        self._console.print(_totals(acts, ledger), highlight=False)
        return all(act.went_well for act in acts)

    async def _submit(self, client: httpx.AsyncClient, scene: Scene) -> _Act:
        answer = await client.post(
            "/v1/jobs",
            json={
                "provider": scene.provider,
                "model": PREFIX + scene.behaviour,
                "prompt": f"a red kite over the sea ({scene.behaviour})",
                "duration": 4,
            },
            headers={"Idempotency-Key": f"demo-{scene.provider}-{scene.behaviour}"},
        )
        answer.raise_for_status()
        return _Act(scene, answer.json())

    async def _watch(self, client: httpx.AsyncClient, acts: Sequence[_Act]) -> None:
        until = self._clock.now() + _PATIENCE_MS
        with Live(_progress(acts), console=self._console, refresh_per_second=8, transient=True) as live:
            while any(act.state not in _FINAL for act in acts) and self._clock.now() < until:
                await asyncio.sleep(_LOOK_EVERY)
                jobs = (await client.get("/v1/jobs", params={"limit": 100})).json()["data"]
                found = {job["id"]: job for job in jobs}
                for act in acts:
                    act.job = found.get(act.job["id"], act.job)
                live.update(_progress(acts))

    def _audit(self, acts: Sequence[_Act], ledger: Mapping[str, Any]) -> None:
        """Count for each job what the provider made and sent, and hash the files that were kept for it."""
        by_job = {act.job["id"]: act for act in acts}
        for made in ledger["jobs"]:
            # Our own job's id stands in the address that the provider was told to call back.
            act = by_job[made["request"]["callback_url"].split("/")[-2]]
            act.paid += 1
            act.callbacks.update(callback["kind"] for callback in made["callbacks"])
        for act in acts:
            for artifact in act.job["artifacts"]:
                for file in self._videos.rglob(f"{act.job['id']}/{artifact['index']}.*"):
                    if hashlib.sha256(file.read_bytes()).hexdigest() == artifact["sha256"]:
                        act.files.append(file)


def _progress(acts: Sequence[_Act]) -> Table:
    table = Table("provider", "what is done to it", "state", box=None, header_style="bold", pad_edge=False)
    for act in acts:
        table.add_row(act.scene.provider, _sentence(act.scene), _coloured(act.state))
    return table


def _verdicts(acts: Sequence[_Act]) -> Table:
    table = Table(
        "provider",
        "what was done to it",
        "ended",
        "told by",
        "paid",
        "s",
        "",
        box=None,
        header_style="bold",
        pad_edge=False,
    )
    for act in acts:
        error = act.job["error"]
        ended = _coloured(act.state) + (f" {error['code']}" if error else "")
        mark = "[green]✓[/]" if act.went_well else f"[red]✗ expected {act.scene.ends}, paid {act.scene.paid}[/]"
        table.add_row(act.scene.provider, _sentence(act.scene), ended, act.told_by, str(act.paid), act.seconds, mark)
    return table


def _files(acts: Sequence[_Act], videos: Path) -> Table:
    table = Table("kept in " + str(videos), "bytes", "SHA-256", box=None, header_style="bold", pad_edge=False)
    for act in acts:
        for file, artifact in zip(act.files, act.job["artifacts"], strict=False):
            table.add_row(str(file.relative_to(videos)), f"{artifact['bytes']:,}", artifact["sha256"])
    return table


def _totals(acts: Sequence[_Act], ledger: Mapping[str, Any]) -> str:
    sent = sum((act.callbacks for act in acts), Counter[str]())
    lost = sum(1 for act in acts if act.paid and BEHAVIOURS[PREFIX + act.scene.behaviour].tell is Tell.NEVER)
    well = sum(act.went_well for act in acts)
    return (
        f"{len(acts)} jobs asked for, {ledger['accepted']} provider jobs created, at most "
        f"{max(act.paid for act in acts)} for one job; {sum(len(act.files) for act in acts)} files kept, each hashed "
        "again and found whole.\n"
        f"Callbacks: {sent['genuine']} genuine, {lost} lost, {sent['duplicate']} doubled, {sent['forged']} forged and "
        f"not believed.\n{well} of {len(acts)} jobs ended as they should."
    )


def _sentence(scene: Scene) -> str:
    return f"[bold]{scene.behaviour}[/]  {BEHAVIOURS[PREFIX + scene.behaviour].sentence}"


def _coloured(state: str) -> str:
    return f"[{_COLOURS.get(state, 'cyan')}]{state}[/]"
