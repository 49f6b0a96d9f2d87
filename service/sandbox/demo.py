"""The demonstration: sixteen jobs over HTTP, each treated badly in its own way, watched and then audited from outside.

It knows the service as any backend does, by its address and a key, and the sandbox by its ledger. What it prints at the
end is counted from the ledger, from the service's answers and from the files themselves.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from textwrap import wrap
from typing import Any, Final

import httpx
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from service.clock import Clock
from service.sandbox.behaviours import BEHAVIOURS, PREFIX

_USUAL_SECONDS = 20
_TAKEN = 204  # the answer to a callback that is believed
_ROW = "{:<19} {:<10} {} {:<10} {:>4} {:>5}"
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
    """A scene with what became of it: the job as the service last showed it, and what the audit found."""

    scene: Scene
    job: Mapping[str, Any]
    story: Sequence[Mapping[str, Any]] = ()
    paid: int = 0
    callbacks: Counter[str] = field(default_factory=Counter)
    forged_believed: int = 0
    key_leaked: bool = False
    files: list[tuple[Path, int, str]] = field(default_factory=list)  # path, bytes, SHA-256 as read from the disk

    @property
    def state(self) -> str:
        return str(self.job["state"])

    @property
    def ended(self) -> str:
        error = self.job["error"]
        return f"{self.state}: {error['code']}" if error else self.state

    @property
    def seconds(self) -> str:
        created, finished = self.job["created_at"], self.job["finished_at"]
        took = datetime.fromisoformat(finished) - datetime.fromisoformat(created) if finished else None
        return f"{took.total_seconds():.1f}" if took else "-"

    @property
    def told_by(self) -> str:
        """How the last word about the job reached the service."""
        sources = (event["data"].get("source") for event in reversed(self.story))
        otherwise = {"failed": "refusal", "expired": "deadline"}.get(self.state, "-")
        return next((str(source) for source in sources if source), otherwise)

    @property
    def untold(self) -> bool:
        """Whether there was a provider job, and no genuine callback about it."""
        return self.paid > 0 and not self.callbacks["genuine"]

    @property
    def complaints(self) -> list[str]:
        """What is not as it should be."""
        expected = self.scene
        found = []
        if self.state != expected.ends:
            found.append(f"it should have ended as {expected.ends}")
        if self.paid != expected.paid:
            found.append(f"it should have cost {expected.paid} provider jobs, and cost {self.paid}")
        if len(self.files) != expected.files:
            found.append(f"{expected.files} whole files should have been kept, {len(self.files)} were")
        if self.forged_believed:
            found.append("a forged callback was believed")
        if self.key_leaked:
            found.append("the provider's API key was sent to another origin")
        return found


class Demo:
    """Plays every scene against a service at `url` with `key`, the sandbox at `sandbox_url` being its provider."""

    def __init__(self, *, url: str, key: str, sandbox_url: str, videos: Path, clock: Clock, console: Console) -> None:
        self._url = url
        self._key = key
        self._sandbox_url = sandbox_url
        self._videos = videos
        self._clock = clock
        self._console = console
        self._shown = "job_…"

    async def play(self) -> bool:
        """Submit, watch, audit and print; True if every job ended as it should."""
        self._print(
            f"{len(SCENES)} jobs go through trouble, which takes about {_USUAL_SECONDS} seconds.\n"
            f"Service {self._url}, stand-in provider {self._sandbox_url}, files in {self._videos.parent}\n"
            f"{self._where_to_look}\n"
        )
        run = self._clock.now()
        headers = {"Authorization": f"Bearer {self._key}"}
        async with httpx.AsyncClient(base_url=self._url, headers=headers, trust_env=False, timeout=30) as client:
            acts = [await self._submit(client, scene, run) for scene in SCENES]
            with self._progress(acts) as show:
                await self._watch(client, acts, show)
            for act in acts:
                act.story = (await client.get(f"/v1/jobs/{act.job['id']}/events")).json()["data"]
            ledger = (await client.get(f"{self._sandbox_url}/sandbox/ledger", headers={"Authorization": ""})).json()
        audit(acts, ledger, self._videos)
        for line in report(acts):
            self._print(line)
        self._shown = acts[0].job["id"]
        return not any(act.complaints for act in acts)

    def show_what_to_try(self) -> None:
        """Print how to go on: where to look, and how to ask for a video."""
        bearer = '-H "Authorization: Bearer $KEY"'
        body = '{"provider": "openrouter", "model": "sandbox/ok", "prompt": "a red kite", "duration": 4}'
        self._print(
            "\nStill serving, until Ctrl-C.\n"
            f"{self._where_to_look}\n"
            f"What the stand-in provider can do: {self._sandbox_url}/\n\n"
            "Make a video in another shell, then look at one and fetch it:\n\n"
            f"export KEY={self._key}\n"
            f"curl -s {self._url}/v1/jobs {bearer} -H 'Content-Type: application/json' "
            f"-H 'Idempotency-Key: my-first-video' -d '{body}'\n"
            f"curl -s {self._url}/v1/jobs/{self._shown} {bearer}\n"
            f"curl -sSf {self._url}/v1/jobs/{self._shown}/content {bearer} -o video.mp4\n"
        )

    @property
    def _where_to_look(self) -> str:
        return f"Look at {self._url}/status in a browser, and sign in with {self._key}"

    def _print(self, line: str) -> None:
        # The terminal breaks long lines, not we: a path or a hash that was cut cannot be copied.
        self._console.print(line, highlight=False, soft_wrap=True)

    async def _submit(self, client: httpx.AsyncClient, scene: Scene, run: int) -> _Act:
        answer = await client.post(
            "/v1/jobs",
            json={
                "provider": scene.provider,
                "model": PREFIX + scene.behaviour,
                "prompt": f"a red kite over the sea ({scene.behaviour})",
                "duration": 4,
            },
            headers={"Idempotency-Key": f"demo-{run}-{scene.provider}-{scene.behaviour}"},
        )
        answer.raise_for_status()
        return _Act(scene, answer.json())

    @contextmanager
    def _progress(self, acts: Sequence[_Act]) -> Iterator[Callable[[], None]]:
        """Show how every job goes while the block runs, on a terminal alone; yields what brings it up to date."""
        if not self._console.is_terminal:
            yield lambda: None
            return
        with Live(_table(acts), console=self._console, refresh_per_second=8, transient=True) as live:
            yield lambda: live.update(_table(acts))

    async def _watch(self, client: httpx.AsyncClient, acts: Sequence[_Act], show: Callable[[], None]) -> None:
        until = self._clock.now() + _PATIENCE_MS
        while any(act.state not in _FINAL for act in acts) and self._clock.now() < until:
            await asyncio.sleep(_LOOK_EVERY)
            jobs = (await client.get("/v1/jobs", params={"limit": 100})).json()["data"]
            found = {job["id"]: job for job in jobs}
            for act in acts:
                act.job = found.get(act.job["id"], act.job)
            show()


def audit(acts: Sequence[_Act], ledger: Mapping[str, Any], videos: Path) -> None:
    """Count for each job what the provider made and sent, and hash the files that were kept for it."""
    by_job = {act.job["id"]: act for act in acts}
    for made in ledger["jobs"]:
        # Our own job's id stands in the address that the provider was told to call back.
        act = by_job.get(made["request"]["callback_url"].split("/")[-2])
        if act is None:
            continue  # asked for by somebody else while we looked on
        act.paid += 1
        act.callbacks.update(sent["kind"] for sent in made["callbacks"])
        act.forged_believed += sum(sent["kind"] == "forged" and sent["status"] == _TAKEN for sent in made["callbacks"])
        act.key_leaked |= any(each["authorization"] for each in made["downloads"] if each["via"] == "elsewhere")
    for act in acts:
        for artifact in act.job["artifacts"]:
            for path in videos.rglob(f"{act.job['id']}/{artifact['index']}.*"):
                content = path.read_bytes()
                found = len(content), hashlib.sha256(content).hexdigest()
                if found == (artifact["bytes"], artifact["sha256"]):
                    act.files.append((path, *found))


def report(acts: Sequence[_Act]) -> Iterator[str]:
    """Yield the lines of the summary, in rich's markup; only those with an id or a path are longer than 80 columns."""
    head = _ROW.format("what was done", "provider", f"{'how it ended':<24}", "told by", "jobs", "s")
    yield f"[bold]  {head}[/]"
    for act in acts:
        scene = act.scene
        mark = "[red]✗[/]" if act.complaints else "[green]✓[/]"
        ended = f"[{_COLOURS.get(act.state, 'cyan')}]{act.ended:<24}[/]"
        yield f"{mark} {_ROW.format(scene.behaviour, scene.provider, ended, act.told_by, act.paid, act.seconds)}"
        for line in wrap(BEHAVIOURS[PREFIX + scene.behaviour].sentence, 78):
            yield f"  [dim]{line}[/]"
        if act.complaints:
            yield f"  [red]{act.job['id']}: {'; '.join(act.complaints)}[/]"
    yield from _files([each for act in acts for each in act.files])
    yield ""
    yield from _totals(acts)


def _files(files: Sequence[tuple[Path, int, str]]) -> Iterator[str]:
    if not files:
        return
    # Each job has a folder of its own in it.
    folder = Path(os.path.commonpath([path.parent.parent for path, _, _ in files]))
    yield "\n[bold]The kept files, read again: bytes, SHA-256, path[/]"
    yield "[dim]The stand-in serves the same three short videos over and over, so that hashes repeat.[/]"
    yield f"In {escape(str(folder))}:"
    for path, size, sha256 in files:
        yield f"{size:>6}  {sha256}  {path.relative_to(folder)}"


def _totals(acts: Sequence[_Act]) -> Iterator[str]:
    sent = sum((act.callbacks for act in acts), Counter[str]())
    untold = [act.scene.behaviour for act in acts if act.untold]
    well = sum(not act.complaints for act in acts)
    yield (
        f"{len(acts)} jobs asked for, {sum(act.paid for act in acts)} provider jobs created, "
        f"never more than {max(act.paid for act in acts)} for one."
    )
    yield (
        f"Callbacks: {sent['genuine']} genuine, {sent['duplicate']} doubled, {sent['forged']} forged "
        f"({sum(act.forged_believed for act in acts)} believed)."
    )
    if untold:
        yield f"No genuine one came for {len(untold)} jobs: {', '.join(untold)}."
    yield f"{sum(len(act.files) for act in acts)} files kept, all whole by their length and SHA-256."
    yield f"[{'green' if well == len(acts) else 'red'}]{well} of {len(acts)} jobs ended as they should.[/]"


def _table(acts: Sequence[_Act]) -> Table:
    table = Table("provider", "what is done to it", "state", box=None, header_style="bold", pad_edge=False)
    for act in acts:
        table.add_row(act.scene.provider, act.scene.behaviour, f"[{_COLOURS.get(act.state, 'cyan')}]{act.state}[/]")
    return table
