"""Copies one output into storage: what arrives is looked at, measured and hashed while it passes, and never held."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

from service.containers import HEAD_BYTES, Kind, Structure, sniff
from service.errors import BadOutputError, OutputTooLargeError
from service.model import Artifact
from service.outbound import Download
from service.storage import Storage


async def copy_output(download: Download, storage: Storage, key_stem: str, *, index: int, max_bytes: int) -> Artifact:
    """Copy an open download to `{key_stem}/{index}.{extension}` and return what was stored.

    The type of the artifact is what its bytes are, whatever the server called them. Nothing is published unless all of
    it came: the announced length, a whole container, at most `max_bytes`.
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
    passage = _Passage(kind, download.length, max_bytes)
    key = f"{key_stem}/{index}.{kind.extension}"
    await storage.put(key, passage.through(head, body), content_type=kind.content_type)
    return Artifact(index, key, passage.bytes, passage.sha256.hexdigest(), kind.content_type)


class _Passage:
    """Watches bytes pass, and stops them with an exception before the receiver could take them for the whole."""

    def __init__(self, kind: Kind, length: int | None, max_bytes: int) -> None:
        self._structure = Structure(kind)
        self._length = length
        self._max_bytes = max_bytes
        self.bytes = 0
        self.sha256 = hashlib.sha256()

    async def through(self, head: bytes, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        self._look_at(head)
        yield head
        async for chunk in body:
            self._look_at(chunk)
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
