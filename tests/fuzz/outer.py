"""Targets beside HTTP: videos, the process that decodes them, and the log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from service.containers import HEAD_BYTES, MATROSKA, MP4, QUICKTIME, WEBM, Structure, sniff
from service.logs import redact
from service.media import Examiner
from service.media.process import Process
from service.model import Artifact
from service.storage import Storage
from tests.fuzz.running import LOOP

_KINDS = (MP4, QUICKTIME, WEBM, MATROSKA)


def video(data: bytes) -> None:
    """The first byte says which kind it claims to be, and in which pieces it comes."""
    if not data:
        return
    first, file = data[0], data[1:]
    structure = Structure(sniff(file[:HEAD_BYTES]) or _KINDS[first % 4])
    step = 1 + first // 4 * 7
    for at in range(0, len(file), step):
        structure.feed(file[at : at + step])
    structure.finish()


class _Storage:
    """Gives as many bytes as were asked for, and keeps nothing."""

    async def read(self, _: str, start: int, end: int) -> AsyncIterator[bytes]:
        yield b"x" * (end - start)

    async def put(self, *_: object, **__: object) -> None:
        pass


class _Answers:
    """The wire to the child, which reads nothing."""

    def is_closing(self) -> bool:
        return False

    def write(self, _: bytes) -> None:
        pass

    async def drain(self) -> None:
        pass


class _Child:
    async def wait(self) -> int:
        return -9


class _Watched(Examiner):
    """An examiner whose child says what it is told to say."""

    says = b""

    @asynccontextmanager
    async def _child(
        self,
        artifact: Artifact,  # noqa: ARG002 - as the true one has it
    ) -> AsyncIterator[tuple[Process, asyncio.StreamReader, asyncio.StreamWriter]]:
        said = asyncio.StreamReader()
        said.feed_data(self.says)
        said.feed_eof()
        yield cast(Process, _Child()), said, cast(asyncio.StreamWriter, _Answers())


_ARTIFACT = Artifact(0, "a/job_1/0.mp4", 1_000_000, "ab" * 32, "video/mp4")


def media_child(data: bytes) -> None:
    """Whatever the child says, the examiner raises nothing; without PyAV it says so itself."""

    async def examine() -> Any:  # noqa: ANN401 - footage or nothing
        examiner = _Watched(cast(Storage, _Storage()))
        examiner.available, examiner.says = True, data
        return await examiner.examine(_ARTIFACT)

    LOOP.run(examine())


def log(data: bytes) -> None:
    """Text, a header's pair and a mapping."""
    text = data.decode(errors="replace")
    redact(text)
    redact({"error": text, text: [text, (text, data)]})
