"""Measures how quick the pages are with many jobs: `python -m tests.bench.million` prints a Markdown table.

    python -m tests.bench.million [--jobs 1000000] [--folder FOLDER]

The database is seeded first, unless FOLDER holds one from before; then `reelkeeper serve` runs on it as a process of
its own, and an operator who signed in asks for each page fifty times. A time is from the request to the last byte of
the answer, or (first byte) to the first of its body; `processor` is how long the service was on one for an answer, on
average, which does not depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import secrets
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlencode

import httpx

from service.config import Config
from service.records import open_records
from tests.bench.seeding import Seeded, seed
from tests.places import environment, until
from tests.servers import held_ports

JOBS = 1_000_000
TIMES = 50
_PAGE = {"accept": "text/html"}


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked for, and how quick it shall be answered (ms)."""

    says: str
    path: str
    limit: int
    html: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """How a question was answered fifty times: ms."""

    question: Question
    first: Sequence[float]  # to the first byte of the body
    last: Sequence[float]
    processor: float  # for each answer, on average


def questions(seeded: Seeded, older: str) -> list[Question]:
    """Return what is asked; `older` is the address of the second page of all jobs."""

    def jobs(says: str, **filters: str) -> Question:
        return Question(f"jobs {says}", f"/status/jobs?{urlencode(filters)}", 100)

    return [
        Question("the overview, first byte", "/status", 200),
        Question("`/status.json`", "/status.json", 200, html=False),
        Question("`/metrics`", "/metrics", 50, html=False),
        jobs("without a filter"),
        Question("jobs, page 2", older, 100),
        jobs("by state, many", state="completed"),
        jobs("by state, few", state="submitting"),
        jobs("by provider", provider="llmgateway"),
        jobs("by model, a rare one", model="wan-2.5"),
        jobs("by tenant, a small one", tenant="school"),
        jobs("by error", error="submission_unknown"),
        jobs("by tenant, state and model", tenant="weather", state="failed", model="wan-2.5"),
        jobs("that cannot be: an error of completed ones", error="content_policy", state="completed"),
        jobs("by tenant and error", tenant="school", error="output_unavailable"),
        jobs("of a day a month ago", created_after=_days_ago(31), created_before=_days_ago(30)),
        jobs("by a rare word", q=seeded.rare),
        jobs("by the beginning of a rare word", q=seeded.rare[:5]),
        jobs("by two words of many", q=seeded.common),
        jobs("by the beginning of a word of many", q="cinem"),
        jobs("by a word of many, with a state of few", q="cinematic", state="submitting"),
        jobs("by a word, of one tenant", q="camera", tenant="school"),
        jobs("by a word that nobody wrote", q="zzyzx"),
        jobs("by id", q=seeded.job_id),
        jobs("by the provider's id", q=seeded.provider_job_id),
        Question("a job's page", f"/status/jobs/{seeded.job_id}", 100),
        Question("rejected callbacks", "/status/callbacks", 100),
        Question("failing deliveries", "/status/deliveries", 100),
    ]


def _days_ago(days: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - days * 86_400))


@contextlib.asynccontextmanager
async def serving(folder: Path, settings: dict[str, str]) -> AsyncIterator[int]:
    """Run `reelkeeper serve` while the block lasts, and tell its process id.

    Raises RuntimeError with its log when it does not start.
    """
    url = settings["REELKEEPER_PUBLIC_URL"]
    command = (sys.executable, "-m", "service", "serve", "--port", str(httpx.URL(url).port))
    with (folder / "log.jsonl").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *command, env=environment(settings), cwd=folder, stdout=log, stderr=log
        )
    try:
        async with httpx.AsyncClient(trust_env=False) as client:

            async def up() -> bool:
                if process.returncode is not None:
                    raise RuntimeError((folder / "log.jsonl").read_text("utf-8"))
                with contextlib.suppress(httpx.TransportError):
                    return (await client.get(f"{url}/readyz")).is_success
                return False

            await until(up)
        yield process.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        await process.wait()


async def measure(folder: Path, jobs: int, times: int = TIMES) -> list[Answer]:
    """Seed a database in `folder` unless one is there, serve it, and ask."""
    with held_ports(1) as [port]:
        settings = {
            "REELKEEPER_PUBLIC_URL": f"http://127.0.0.1:{port}",
            "REELKEEPER_SECRET_KEY": secrets.token_hex(32),
            "REELKEEPER_DATABASE": f"sqlite:///{folder / 'reelkeeper.db'}",
            "REELKEEPER_STORAGE": str(folder / "videos"),
            "OPENROUTER_BASE_URL": "http://127.0.0.1:9/api/v1",  # nothing is due, so nobody is asked
            "OPENROUTER_API_KEY": "any",
            "OPENROUTER_WEBHOOK_SECRET": "any",
            "LLMGATEWAY_BASE_URL": "http://127.0.0.1:9/v1",
            "LLMGATEWAY_API_KEY": "any",
        }
        (folder / "videos").mkdir(exist_ok=True)
        (folder / "videos" / "kept.txt").touch()  # an empty folder would be taken for one that was not mounted
        if not (folder / "seeded.json").exists():
            begun = time.monotonic()
            seeded = await seed(folder / "reelkeeper.db", jobs, _say)
            (folder / "seeded.json").write_text(json.dumps(asdict(seeded)), "utf-8")
            _say(f"seeded in {time.monotonic() - begun:.0f} s")
        seeded = Seeded(**json.loads((folder / "seeded.json").read_text("utf-8")))
        async with open_records(Config.read(settings)) as records:
            _, key = await records.keys.create("measuring", "studio", operator=True)
            second = (await records.store.jobs(limit=50))[-1].id
        async with (
            serving(folder, settings) as process,
            httpx.AsyncClient(base_url=settings["REELKEEPER_PUBLIC_URL"], trust_env=False, timeout=60) as client,
        ):
            origin = {"origin": settings["REELKEEPER_PUBLIC_URL"]}
            signed_in = await client.post("/status/sign-in", data={"key": key}, headers=origin)
            if signed_in.status_code != httpx.codes.SEE_OTHER:
                raise RuntimeError(f"nobody can sign in: {signed_in.status_code} {signed_in.text}")
            asked = questions(seeded, f"/status/jobs?before={second}")
            return [await _ask(client, key, question, times, process) for question in asked]


async def _ask(client: httpx.AsyncClient, key: str, question: Question, times: int, process: int) -> Answer:
    headers = _PAGE if question.html else {"authorization": f"Bearer {key}"}
    first, last, spent = [], [], _processor_ms(process)
    for _ in range(times):
        begun = time.perf_counter()
        async with client.stream("GET", question.path, headers=headers) as answer:
            came = [time.perf_counter() - begun async for _ in answer.aiter_raw()]
        last.append((time.perf_counter() - begun) * 1000)
        first.append(came[0] * 1000)
        if answer.status_code != httpx.codes.OK:
            raise RuntimeError(f"{question.path} was answered with {answer.status_code}")
    return Answer(question, first, last, (_processor_ms(process) - spent) / times)


def _processor_ms(process: int) -> float:
    """Return how long a process was on a processor so far."""
    spent = Path(f"/proc/{process}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(spent[11]) + int(spent[12])) * 1000 / os.sysconf("SC_CLK_TCK")


def table(answers: Sequence[Answer]) -> str:
    """Write the times as Markdown."""
    rows = [("What", "median", "p95", "processor", "limit"), ("---", "---:", "---:", "---:", "---:")]
    for answer in answers:
        times = answer.first if answer.question.says.endswith("first byte") else answer.last
        p95 = statistics.quantiles(times, n=20)[-1]
        limit = f"{answer.question.limit} ms" + ("" if p95 < answer.question.limit else ", missed")
        rows.append(
            (
                answer.question.says,
                f"{statistics.median(times):.1f} ms",
                f"{p95:.1f} ms",
                f"{answer.processor:.1f} ms",
                limit,
            )
        )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.million", description="How quick are the pages?")
    parser.add_argument("--jobs", type=int, default=JOBS, help="how many jobs (%(default)s)")
    parser.add_argument("--folder", type=Path, help="where the database is kept, to be measured again")
    given = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = given.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        answers = asyncio.run(measure(folder.absolute(), given.jobs))
    sys.stdout.write(f"{table(answers)}\n")


if __name__ == "__main__":
    main()
