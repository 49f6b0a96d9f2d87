"""Copies one output into storage: what arrives is looked at, measured and hashed while it passes, and never held."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Iterator

from service.containers import HEAD_BYTES, Kind, Structure, sniff
from service.errors import BadOutputError, OutputTooLargeError
from service.model import Artifact
from service.outbound import Download
from service.storage import Storage

_STALL_SECONDS = 20.0  # after which a server may have lost its patience with us
_SLOW_SECONDS = 1800.0  # half of what a download may take


class Held:
    """Measures how long the storage keeps a download waiting, in seconds of the machine.

    A source that breaks off after a long wait was made to: that is no fault of its own.
    """

    def __init__(self) -> None:
        self._before = 0.0
        self._last = 0.0
        self._since: float | None = None

    @property
    def seconds(self) -> float:
        """How long the download had to wait in all, with the wait that is not over."""
        return self._before + self._latest

    @property
    def too_long(self) -> bool:
        """Whether a source had reason to break off."""
        return self._latest >= _STALL_SECONDS or self.seconds >= _SLOW_SECONDS

    @property
    def _latest(self) -> float:
        return self._last if self._since is None else asyncio.get_running_loop().time() - self._since

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Measure one wait."""
        self._before, self._since = self.seconds, asyncio.get_running_loop().time()
        yield
        self._last, self._since = self._latest, None


async def copy_output(
    download: Download, storage: Storage, key_stem: str, *, index: int, max_bytes: int, held: Held | None = None
) -> Artifact:
    """Copy an open download to `{key_stem}/{index}.{extension}` and return what was stored.

    The type of the artifact is what its bytes are, whatever the server called them. Nothing is published unless all of
    it came: the announced length, a whole container, at most `max_bytes`. `held` learns how long the storage took.
    Raises BadOutputError for bytes that are no whole video, OutputTooLargeError, OutputError when the download breaks
    off, and StorageError.
    """
    if download.length is not None and download.length > max_bytes:
        raise _too_large(f"{download.length:,} bytes", max_bytes)
    body = download.chunks()
    head = await _head(body)
    kind = sniff(head[:HEAD_BYTES])
    if kind is None:
        raise BadOutputError(_what_came(head, download))
    passage = _Passage(kind, download.length, max_bytes, held or Held())
    key = f"{key_stem}/{index}.{kind.extension}"
    await storage.put(key, passage.through(head, body), content_type=kind.content_type)
    return Artifact(index, key, passage.bytes, passage.sha256.hexdigest(), kind.content_type)


class _Passage:
    """Watches bytes pass, and stops them with an exception before the receiver could take them for the whole."""

    def __init__(self, kind: Kind, length: int | None, max_bytes: int, held: Held) -> None:
        self._structure = Structure(kind)
        self._length = length
        self._max_bytes = max_bytes
        self._held = held
        self.bytes = 0
        self.sha256 = hashlib.sha256()

    async def through(self, head: bytes, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        self._look_at(head)
        with self._held.waiting():
            yield head
        async for chunk in body:
            self._look_at(chunk)
            with self._held.waiting():
                yield chunk
        if self._length is not None and self.bytes != self._length:
            raise BadOutputError(f"the video is cut short: {self.bytes:,} of {self._length:,} bytes came")
        self._structure.finish()

    def _look_at(self, chunk: bytes) -> None:
        self.bytes += len(chunk)
        if self.bytes > self._max_bytes:
            raise _too_large("longer", self._max_bytes)
        self.sha256.update(chunk)  # 0.05 ms for 64 KiB; to hand them to a thread would take longer
        self._structure.feed(chunk)


async def _head(body: AsyncIterator[bytes]) -> bytes:
    head = bytearray()
    async for chunk in body:
        head += chunk
        if len(head) >= HEAD_BYTES:
            break
    return bytes(head)


def _too_large(size: str, max_bytes: int) -> OutputTooLargeError:
    return OutputTooLargeError(f"the video is {size}; REELKEEPER_MAX_VIDEO_BYTES allows {max_bytes:,} bytes")


def _what_came(head: bytes, download: Download) -> str:
    """Say what came instead of a video."""
    if not head:
        return "an empty body instead of a video"
    said = download.headers.get("content-type", "no content type").partition(";")[0].strip()[:60]
    length = f"{download.length:,} bytes" if download.length is not None else "no length"
    return f"{_name(head)} instead of a video ({said}, {length})"


def _name(head: bytes) -> str:
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    start = text[:200].lower()
    if start.startswith((b"<!doctype html", b"<html")) or b"<html" in start:
        return "HTML"
    if start.startswith(b"<"):
        return "XML"
    if text.startswith((b"{", b"[")):
        return "JSON"
    names = {
        b"\x89PNG": "a PNG picture",
        b"\xff\xd8\xff": "a JPEG picture",
        b"GIF8": "a GIF picture",
        b"ID3": "MP3 sound",
    }
    for magic, name in names.items():
        if head.startswith(magic):
            return name
    return "something else"
