"""The attacked service: a real process with jobs that wait for callbacks, and what can be seen of it from outside."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import httpx

from service import signing
from service.clock import SystemClock
from tests.places import Place, until

Headers = Sequence[tuple[str, bytes | str]]

JSON: Headers = (("Content-Type", "application/json"),)
_MOST_CREATES = 100  # of one batch
_NEVER_ENDS = "sandbox/never-ends"
_NUMBERS = ("job_counts", "activity", "kept_times", "spend", "stored", "delivery_counts")  # a row for many things each


@dataclass(frozen=True, slots=True)
class Finding:
    """What a probe did to existing receivers, and to ours; `kept` tells that our promise held."""

    probe: str
    theirs: str
    ours: str
    kept: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer as it came over the wire; status 0: the connection ended without one."""

    status: int
    head: str = ""
    body: bytes = b""
    seconds: float = 0.0

    @property
    def code(self) -> str:
        """The error's code, empty when the body is no error of ours."""
        with contextlib.suppress(ValueError, KeyError, TypeError):
            return str(json.loads(self.body)["error"]["code"])
        return ""


@dataclass(frozen=True, slots=True)
class Victim:
    """A running job: where its provider reports, under which name, and signed with which secret."""

    provider: str
    job_id: str
    path: str
    provider_job_id: str
    secret: str

    def body(self, word: str = "failed") -> bytes:
        """Return a genuine report; `failed` ends the job at once, and nothing has to be fetched."""
        data = {"id": self.provider_job_id, "status": word}
        if self.provider == "openrouter":
            return json.dumps({"type": f"video.generation.{word}", "data": data}).encode()
        return json.dumps({"id": "evt_1", "type": "video.failed", "data": data}).encode()

    def signed(self, body: bytes, now_ms: int | None = None) -> dict[str, str]:
        """Return the headers that make a body genuine, names in lower case."""
        now_ms = SystemClock().now() if now_ms is None else now_ms
        key = signing.key_of(self.secret)
        if self.provider == "openrouter":
            return {signing.OPENROUTER_SIGNATURE: signing.sign_openrouter(key, body, now_ms)}
        return signing.sign_standard(key, "evt_1", body, now_ms)


def request(
    path: str, headers: Iterable[tuple[str, bytes | str]] = (), body: bytes = b"", *, method: str = "POST"
) -> bytes:
    """Return a request byte by byte, with a Content-Length unless the headers say how long the body is."""
    lines = [f"{method} {path} HTTP/1.1".encode("latin-1"), b"Host: x"]
    given = list(headers)
    lines += [name.encode() + b": " + (value if isinstance(value, bytes) else value.encode()) for name, value in given]
    if not {"content-length", "transfer-encoding"} & {name.lower() for name, _ in given}:
        lines.append(f"Content-Length: {len(body)}".encode())
    return b"\r\n".join([*lines, b"", b""]) + body


@dataclass(slots=True)
class Target:
    """A service in its own process, `folder` with its database, and the jobs that can be reported on."""

    place: Place
    victims: list[Victim] = field(default_factory=list)

    @property
    def port(self) -> int:
        """Where the service listens on loopback."""
        return httpx.URL(self.place.url).port or 80

    async def victim(self, provider: str = "openrouter") -> Victim:
        """Return a fresh running job."""
        return (await self.more(1, provider))[0]

    async def more(self, count: int, provider: str = "openrouter") -> list[Victim]:
        """Return fresh running jobs."""
        found: list[Victim] = []
        while len(found) < count:
            found += await self._made(count - len(found), provider)
        self.victims += found
        return found

    async def _made(self, count: int, provider: str) -> list[Victim]:
        """Have jobs made; return those that run: a busy machine may lose an answer, which leaves a job in doubt."""
        job = {"model": _NEVER_ENDS, "prompt": "a cat", "duration": 5, "provider": provider}
        wanted: set[object] = set()
        headers = {"authorization": f"Bearer {self.place.key}"}
        async with httpx.AsyncClient(trust_env=False, base_url=self.place.url, headers=headers, timeout=60) as client:
            while len(wanted) < count:
                batch = {"jobs": [job] * min(_MOST_CREATES, count - len(wanted))}
                made = (await client.post("/v1/jobs/batch", json=batch)).json()["data"]
                wanted |= {each["job"]["id"] for each in made}

        def settled(condition: str) -> set[object]:
            return wanted & {job_id for (job_id,) in self.sql(f"SELECT id FROM jobs WHERE {condition}")}  # noqa: S608 - ours

        await until(lambda: settled("state = 'running' OR doubted_at IS NOT NULL") == wanted, 120)
        running = settled("state = 'running'")
        secret = self.place.settings["OPENROUTER_WEBHOOK_SECRET"]
        return [
            Victim(provider, job_id, path, made.id, made.callback_secret or secret)
            for made in self.place.made
            for path in [httpx.URL(made.callback_url or "").path]
            for job_id in [path.split("/")[-2] if "/" in path[1:] else ""]
            if job_id in running
        ]

    def sql(self, query: str, *values: object) -> list[tuple[object, ...]]:
        """Look into the database file from outside."""
        with contextlib.closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=10)) as db:
            return db.execute(query, values).fetchall()

    @property
    def database(self) -> Path:
        """The file that holds everything."""
        return self.place.folder / "reelkeeper.db"

    def rows(self) -> Counter[str]:
        """Count the rows of every table, except those that the service writes by itself, and of its numbers."""
        names = [str(name) for (name,) in self.sql("SELECT name FROM sqlite_master WHERE type = 'table'")]
        own = ("sqlite_", "probes", "models", "search", *_NUMBERS)
        return Counter(
            {
                name: int(str(self.sql(f"SELECT count(*) FROM {name}")[0][0]))  # noqa: S608 - names from the file itself
                for name in names
                if not name.startswith(own)
            }
        )

    def state(self, victim: Victim) -> str:
        """Return what the job waits for."""
        return str(self.sql("SELECT state FROM jobs WHERE id = ?", victim.job_id)[0][0])

    def effects(self, victim: Victim) -> tuple[int, int]:
        """Return how many ends of the job and how many receipts were written."""
        [(events,)] = self.sql("SELECT count(*) FROM events WHERE job_id = ? AND type = 'job.failed'", victim.job_id)
        [(receipts,)] = self.sql("SELECT count(*) FROM receipts WHERE job_id = ?", victim.job_id)
        return int(str(events)), int(str(receipts))

    async def ask(self, data: bytes, *, seconds: float = 20) -> Answer:
        """Send bytes on a connection of their own and read the first answer."""
        return (await self.talk(data, seconds=seconds, most=1))[0]

    async def talk(self, data: bytes, *, seconds: float = 20, most: int = 8) -> list[Answer]:
        """Send bytes and read up to `most` answers, or what comes until it is quiet for `seconds` or the end."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        begun = time.monotonic()
        found: list[Answer] = []
        sending = asyncio.create_task(send(writer, data))
        try:
            async with asyncio.timeout(seconds):
                while len(found) < most:
                    found.append(await read_answer(reader, begun))
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            sending.cancel()
            await asyncio.wait({sending})
            writer.close()
        return found or [Answer(0, seconds=time.monotonic() - begun)]

    async def post(
        self, path: str, headers: Iterable[tuple[str, bytes | str]], body: bytes, *, seconds: float = 20
    ) -> Answer:
        """Post a JSON body with these headers."""
        return await self.ask(request(path, [*JSON, *headers], body), seconds=seconds)


async def send(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Write until the other side takes no more."""
    with contextlib.suppress(ConnectionError):
        for at in range(0, len(data), 65_536):
            writer.write(data[at : at + 65_536])
            await writer.drain()


async def read_answer(reader: asyncio.StreamReader, begun: float) -> Answer:
    """Read one answer with a Content-Length, or without a body."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    lengths = [line.partition(":")[2] for line in head.split("\r\n") if line.lower().startswith("content-length:")]
    body = await reader.readexactly(int(lengths[0]) if lengths else 0)
    return Answer(int(head.split()[1]), head, body, time.monotonic() - begun)


class Memory:
    """How much a process grew at most while a block ran, in MiB, by Linux's own account of its peak."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}")
        self.extra = 0.0

    def __enter__(self) -> Self:
        (self._folder / "clear_refs").write_text("5")  # the peak begins anew
        self._before = self._read("VmRSS")
        return self

    def __exit__(self, *_: object) -> None:
        self.extra = max(0.0, round((self._read("VmHWM") - self._before) / 1024, 2))

    def _read(self, name: str) -> int:
        status = (self._folder / "status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith(f"{name}:")).split()[1])
