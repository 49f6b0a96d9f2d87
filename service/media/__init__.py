"""What a stored video shows: its length, size and codec, and one picture of it. Needs PyAV (`reelkeeper[media]`).

FFmpeg parses what strangers made, so it never runs in this process: a crash in it, or a bomb, would end the service,
and the job would be claimed again after the restart, for ever. Each video has a process of its own, `child.py`, with
limits on its memory and time. It is started with an environment of its own and asks for the bytes over a socket that
leads nowhere else, because a program that can open the storage holds credentials that a flaw in a decoder would give
away.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from structlog.typing import FilteringBoundLogger

from service.clock import Clock, SystemClock
from service.media.process import Process
from service.model import Artifact, Footage, Job
from service.storage import Storage

Keep = Callable[[str, int, Footage], Awaitable[bool]]
"""Notes what the artifact of a job, by its index, shows; False when it is not there any more."""

_MOST_READ_BYTES = 1024 * 1024
_MOST_LINES = 512  # most are reads
_MOST_POSTER_BYTES = 4 * 1024 * 1024
_MOST_PIXELS = 65_535  # of one side
_LONGEST_MS = 2**53
_JPEG = b"\xff\xd8\xff"
_CODEC = re.compile(r"[a-z0-9_]{1,32}")
_REMEMBERED_MS = 10 * 60_000
_MOST_REMEMBERED = 1_000


class Examiner:
    """Finds out what artifacts show; without PyAV it is not `available` and finds nothing."""

    def __init__(
        self,
        storage: Storage,
        *,
        seconds: float = 30.0,
        at_once: int = 2,
        log: FilteringBoundLogger | None = None,
        command: Sequence[str] = (sys.executable, "-P", str(Path(__file__).with_name("child.py"))),
    ) -> None:
        self.available = find_spec("av") is not None and find_spec("resource") is not None  # the latter is on POSIX
        self._storage = storage
        self._seconds = seconds
        self._places = asyncio.Semaphore(at_once)
        self._log = log
        self._command = command

    async def examine(self, artifact: Artifact) -> Footage | None:
        """Return what the artifact shows, its poster stored beside it: `a/job_1/0.jpg` for `a/job_1/0.mp4`.

        None: nothing was understood, or PyAV is not there. It takes at most `seconds` from when it has its turn, and
        as many again to store the poster, and raises nothing: the log says why less was found than there should be.
        """
        if not self.available:
            return None
        seen = _Seen()
        async with self._places:
            trouble = await self._within_time(self._watch(artifact, seen))
        footage = seen.footage
        if footage is not None and seen.poster is not None:
            key = str(PurePosixPath(artifact.key).with_suffix(".jpg"))
            store = self._storage.put(key, _once(seen.poster), content_type="image/jpeg")
            trouble = await self._within_time(store)
            if trouble is None:
                footage = replace(footage, poster=key)
        if trouble is not None and self._log is not None:
            self._log.warning(
                "media.trouble",
                job=PurePosixPath(artifact.key).parent.name,
                key=artifact.key,
                understood=footage is not None,
                reason=trouble,
            )
        return footage

    async def discard(self, footage: Footage) -> None:
        """Remove the poster of an artifact that is not there any more. Raises StorageError."""
        if footage.poster is not None:
            await self._storage.delete(footage.poster)

    async def _within_time(self, work: Awaitable[None]) -> str | None:
        """Do the work; return what went wrong."""
        try:
            async with asyncio.timeout(self._seconds):
                await work
        except TimeoutError:
            return f"it took longer than {self._seconds:g} s"
        except Exception as error:  # noqa: BLE001 - no picture is worth failing the job of a video that is kept
            return str(error) or type(error).__name__
        return None

    async def _watch(self, artifact: Artifact, seen: _Seen) -> None:
        """Note what a child says about the artifact, as far as it can be true. Raises ValueError when it breaks off."""
        async with self._child(artifact) as (child, questions, answers):
            for _ in range(_MOST_LINES):
                verb, _, rest = (await _line(questions)).partition(" ")
                if verb == "read":
                    await self._hand_over(artifact, rest, answers)
                elif verb == "footage":
                    seen.footage = _footage(rest)
                elif verb == "poster":
                    seen.poster = await _poster(rest, questions)
                    return
                elif verb == "nothing":
                    raise ValueError(rest)
                elif verb:
                    raise ValueError(f"the decoder said {verb[:20]!r}, which means nothing")
                else:
                    raise ValueError(_cause(await child.wait()))
            raise ValueError("the decoder asks for ever more")

    async def _hand_over(self, artifact: Artifact, asked: str, answers: asyncio.StreamWriter) -> None:
        start, length = map(int, asked.split())
        if not (0 < length <= _MOST_READ_BYTES and 0 <= start <= artifact.bytes - length):
            raise ValueError(f"the decoder asked for {length} bytes at {start} of {artifact.bytes}")
        sent = 0
        async for chunk in self._storage.read(artifact.key, start, start + length):
            sent += len(chunk)
            if not answers.is_closing():  # or else it has died, and says no more
                answers.write(chunk)
                with suppress(ConnectionError):
                    await answers.drain()
        if sent != length:
            raise ValueError(f"the storage gave {sent} of {length} bytes at {start}")

    @asynccontextmanager
    async def _child(
        self, artifact: Artifact
    ) -> AsyncIterator[tuple[Process, asyncio.StreamReader, asyncio.StreamWriter]]:
        """Run a child and listen to it; it is gone when the block is left, however that is."""
        ours, theirs = socket.socketpair()
        env = {"PYTHONPATH": os.pathsep.join(sys.path)}
        child = Process((*self._command, str(artifact.bytes)), theirs, env=env)
        try:
            questions, answers = await asyncio.open_unix_connection(sock=ours)
            try:
                yield child, questions, answers
            finally:
                answers.transport.abort()
        finally:
            await child.end()


class Posters:
    """Posters on demand, also of what was kept before PyAV was there."""

    def __init__(self, examiner: Examiner, keep: Keep, *, clock: Clock | None = None) -> None:
        self.available = examiner.available
        self._examiner = examiner
        self._keep = keep
        self._clock = clock or SystemClock()
        self._making: dict[str, asyncio.Task[str | None]] = {}
        self._failed_until: dict[str, int] = {}  # unix ms, so that a hostile file is not decoded at every request

    async def poster(self, job: Job, artifact: Artifact) -> str | None:
        """Return the key of the artifact's poster, which is made now if there is none; None when it cannot be made.

        Requests for the same one share the work, which goes on when they are given up. Raises what `keep` raises.
        """
        if artifact.footage is not None and artifact.footage.poster is not None:
            return artifact.footage.poster
        key = artifact.key
        if not self.available or self._clock.now() < self._failed_until.get(key, 0):
            return None
        if key not in self._making:
            self._making[key] = asyncio.create_task(self._make(job, artifact))
            self._making[key].add_done_callback(lambda task: self._made(key, task))
        return await asyncio.shield(self._making[key])

    async def _make(self, job: Job, artifact: Artifact) -> str | None:
        footage = await self._examiner.examine(artifact)
        if footage is not None and not await self._keep(job.id, artifact.index, footage):
            await self._examiner.discard(footage)  # the job was deleted meanwhile
            return None
        return footage.poster if footage is not None else None

    def _made(self, key: str, task: asyncio.Task[str | None]) -> None:
        del self._making[key]
        if not task.cancelled() and task.exception() is None and task.result() is None:
            self._failed_until.pop(key, None)
            self._failed_until[key] = self._clock.now() + _REMEMBERED_MS
            if len(self._failed_until) > _MOST_REMEMBERED:
                del self._failed_until[next(iter(self._failed_until))]


@dataclass(slots=True)
class _Seen:
    """What a child has told so far: it stays when the child dies later."""

    footage: Footage | None = None
    poster: bytes | None = None


async def _line(questions: asyncio.StreamReader) -> str:
    """Return what the child says next, nothing when it has gone."""
    try:
        return (await questions.readline()).decode().strip()
    except ConnectionError:  # it went without reading what it had asked for
        return ""


def _footage(text: str) -> Footage:
    told = json.loads(text)
    footage = Footage(told["duration_ms"], told["width"], told["height"], told["codec"], None)
    sizes = (footage.width, footage.height, footage.duration_ms or 0)
    if not all(isinstance(size, int) for size in sizes) or not _CODEC.fullmatch(footage.codec):
        raise ValueError("the decoder described no video")
    if not (0 < footage.width <= _MOST_PIXELS and 0 < footage.height <= _MOST_PIXELS and 0 <= sizes[2] <= _LONGEST_MS):
        raise ValueError("the decoder described an impossible video")
    return footage


async def _poster(length: str, answers: asyncio.StreamReader) -> bytes:
    if not 0 < int(length) <= _MOST_POSTER_BYTES:
        raise ValueError(f"the poster has {length} bytes")
    poster = await answers.readexactly(int(length))
    if not poster.startswith(_JPEG):
        raise ValueError("the poster is no JPEG")
    return poster


def _cause(status: int) -> str:
    """Say how a child ended that said nothing."""
    if status < 0:
        return f"the decoder died of {signal.Signals(-status).name}"
    return f"the decoder ended with status {status}"


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
