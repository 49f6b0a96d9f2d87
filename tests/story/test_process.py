"""The service as a process of its own, on the real clock: it stops in time, and nothing is lost by that."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

import service
from service.clock import SystemClock
from service.config import Config
from service.records import open_records
from service.sandbox import BEHAVIOURS, Sandbox, serving
from service.sandbox.downloads import VIDEOS
from service.sandbox.jobs import ProviderJob
from tests.servers import held_ports
from tests.turns import until

ROOT = Path(service.__file__).parent.parent
PATIENCE = 20  # s, for what takes a moment on an idle machine
GRACE = 10  # s, within which process managers want a process to have ended


class Process:
    """A running `reelkeeper serve`, followed by its log."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[dict[str, Any]] = []

    async def logs(self, event: str, **fields: str) -> None:
        """Read the log until it has a line with that event and these fields."""
        wanted = {"event": event, **fields}
        if any(wanted.items() <= line.items() for line in self.lines):
            return
        assert self.process.stderr is not None
        try:
            async with asyncio.timeout(PATIENCE):
                async for text in self.process.stderr:
                    self.lines.append(json.loads(text))
                    if wanted.items() <= self.lines[-1].items():
                        return
        except TimeoutError:
            pass
        pytest.fail(f"the log never said {wanted}:\n" + "\n".join(map(str, self.lines)))

    async def stops(self) -> None:
        """Ask it to stop as process managers do; it must end well and in time."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        await self.logs("serve.stopped")
        async with asyncio.timeout(GRACE):
            assert await self.process.wait() == 0
        assert time.monotonic() - began < GRACE


@asynccontextmanager
async def running(environment: Mapping[str, str], folder: Path) -> AsyncIterator[Process]:
    """Run the service until the block is left."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "service", "serve"), cwd=folder, env=environment, stderr=asyncio.subprocess.PIPE
    )
    followed = Process(process)
    try:
        await followed.logs("serve.started")
        yield followed
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


def environment(**settings: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("REELKEEPER_", "PORT"))}
    return inherited | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"} | settings


@pytest.fixture
def port() -> Iterator[int]:
    with held_ports(1) as [port]:
        yield port


async def test_a_stop_in_the_middle_of_a_call_and_of_a_copy_loses_neither(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, port: int
) -> None:
    at_once = ((0, "completed"),)
    slow = replace(BEHAVIOURS["sandbox/slow"], timeline=at_once, servings=1)
    hangs = replace(BEHAVIOURS["sandbox/accepted-then-hangs"], timeline=at_once)
    monkeypatch.setitem(BEHAVIOURS, "sandbox/slow", slow)
    monkeypatch.setitem(BEHAVIOURS, "sandbox/accepted-then-hangs", hangs)
    url = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as client:
        sandbox = Sandbox(
            clock=SystemClock(),
            chance=random.Random(3),  # noqa: S311 - the same names in every run
            webhook_secret="workspace",
            client=client,
            speed=0.1,  # the slow copy takes 20 s, longer than any grace
        )
        async with serving(sandbox) as sandbox_url:
            settings = environment(
                PORT=str(port),
                REELKEEPER_PUBLIC_URL=url,
                REELKEEPER_SECRET_KEY="00112233445566778899aabbccddeeff" * 2,
                REELKEEPER_LOG_FORMAT="json",
                OPENROUTER_BASE_URL=f"{sandbox_url}/api/v1",
                OPENROUTER_API_KEY="any",
                OPENROUTER_WEBHOOK_SECRET="workspace",
            )
            monkeypatch.chdir(tmp_path)  # the paths of database and storage are relative by default
            async with open_records(Config.read(settings)) as records:
                _, key = await records.keys.create("backend", "studio")
            caller = httpx.AsyncClient(base_url=url, headers={"authorization": f"Bearer {key}"}, trust_env=False)
            async with caller, running(settings, tmp_path) as first:
                copied = await ask(caller, "slow")
                await first.logs("worker.handled", job=copied, outcome="accepted")
                assert await sandbox.run_once() == 1
                [made] = sandbox.ledger.jobs()
                await until(lambda: made.downloads and made.downloads[0].bytes)
                called = await ask(caller, "accepted-then-hangs")
                await until(lambda: len(sandbox.ledger.jobs()) == 2)
                await first.stops()

            async with open_records(Config.read(settings)) as records:
                states = {job.id: (job.state.value, job.doubts) for job in await records.store.jobs()}
            assert states == {copied: ("mirroring", 0), called: ("submitting", 1)}

            async with running(settings, tmp_path) as second:
                await second.logs("worker.handled", job=copied, outcome="completed")
                assert await sandbox.run_once() == 1
                await second.logs("worker.handled", job=called, outcome="completed")
                await second.stops()

            made_for_both = sandbox.ledger.jobs()
            assert [job_id_of(made) for made in made_for_both] == [copied, called]
            async with open_records(Config.read(settings)) as records:
                for made in made_for_both:
                    job = await records.store.job(job_id_of(made))
                    assert job is not None
                    assert job.state == "completed"
                    [artifact] = job.artifacts
                    content = (tmp_path / "var/videos" / artifact.key).read_bytes()
                    assert content == VIDEOS[made.number % len(VIDEOS)]
                    assert artifact.sha256 == hashlib.sha256(content).hexdigest()


async def ask(caller: httpx.AsyncClient, behaviour: str) -> str:
    answer = await caller.post("/v1/jobs", json={"model": f"sandbox/{behaviour}", "prompt": "a red kite"})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def job_id_of(made: ProviderJob) -> str:
    assert made.callback_url is not None
    return made.callback_url.split("/")[-2]
