from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from service.errors import BadOutputError, OutputError, OutputTooLargeError, StorageError
from service.model import Artifact
from service.outbound import Download, open_download, public_client
from service.storage import Storage
from service.workers.copying import Held, copy_output
from tests.servers import Talk, answer, loopback

STEM = "acme/2026/11/job_01ab"


def box(name: bytes, body: bytes) -> bytes:
    return (len(body) + 8).to_bytes(4, "big") + name + body


FTYP = box(b"ftyp", b"isom\0\0\2\0isommp41")
MP4 = FTYP + box(b"moov", b"m" * 5000) + box(b"mdat", bytes(range(256)) * 4000)
QUICKTIME = box(b"ftyp", b"qt  \0\0\2\0") + box(b"moov", b"m" * 40) + box(b"mdat", b"d" * 40)
WEBM = (
    b"\x1a\x45\xdf\xa3\x87\x42\x82\x84webm"  # EBML header
    b"\x18\x53\x80\x67\x8a"  # Segment, 10 bytes
    b"\x1f\x43\xb6\x75\x85frame"  # Cluster, 5 bytes
)


def stored(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


async def copy(reply: Talk | bytes, folder: Path, *, index: int = 0, max_bytes: int = 10_000_000) -> Artifact:
    async with (
        loopback(reply) as server,
        public_client([server.host]) as client,
        open_download(client, server.url(), {}, idle_seconds=5, seconds=20) as download,
    ):
        return await copy_output(download, Storage.open(str(folder)), STEM, index=index, max_bytes=max_bytes)


@pytest.mark.parametrize(
    ("body", "key", "content_type"),
    [
        (MP4, f"{STEM}/0.mp4", "video/mp4"),
        (QUICKTIME, f"{STEM}/0.mov", "video/quicktime"),
        (WEBM, f"{STEM}/0.webm", "video/webm"),
    ],
)
@pytest.mark.parametrize("said", ["video/mp4", "application/json", "application/octet-stream"])
async def test_a_whole_video_is_stored_and_described_by_its_bytes(
    tmp_path: Path, body: bytes, key: str, content_type: str, said: str
) -> None:
    artifact = await copy(answer(body, f"Content-Type: {said}"), tmp_path)
    assert artifact == Artifact(0, key, len(body), hashlib.sha256(body).hexdigest(), content_type)
    assert stored(tmp_path) == [key]
    assert (tmp_path / key).read_bytes() == body


async def test_outputs_of_one_job_lie_side_by_side(tmp_path: Path) -> None:
    await copy(answer(MP4), tmp_path, index=0)
    await copy(answer(WEBM), tmp_path, index=1)
    assert stored(tmp_path) == [f"{STEM}/0.mp4", f"{STEM}/1.webm"]


async def test_a_repeated_copy_replaces_the_first(tmp_path: Path) -> None:
    first = await copy(answer(MP4), tmp_path)
    assert await copy(answer(MP4), tmp_path) == first
    assert stored(tmp_path) == [first.key]


async def test_a_video_without_a_length_is_stored_when_it_is_whole(tmp_path: Path) -> None:
    assert (await copy(answer(MP4, length=-1), tmp_path)).bytes == len(MP4)


async def test_a_video_that_comes_in_small_pieces_is_the_same_video(tmp_path: Path) -> None:
    async def crumbs(_: str, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(length=-1, body=b"") + WEBM[:3])
        for at in range(3, len(WEBM)):
            await writer.drain()
            await asyncio.sleep(0)
            writer.write(WEBM[at : at + 1])

    artifact = await copy(crumbs, tmp_path)
    assert (artifact.bytes, artifact.sha256) == (len(WEBM), hashlib.sha256(WEBM).hexdigest())


@pytest.mark.parametrize(
    ("body", "said", "reason"),
    [
        (b"<!DOCTYPE html>" + b"x" * 1219, "text/html; charset=utf-8",
         r"^HTML instead of a video \(text/html, 1,234 bytes\)$"),
        (b"\n <html>sign in", "video/mp4", r"^HTML instead of a video \(video/mp4"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "application/xml", "^XML instead"),
        (b'{"error": {"code": 404}}', "video/mp4", "^JSON instead"),
        (b"", "video/mp4", "^an empty body instead of a video$"),
        (b"\x89PNG\r\n\x1a\n" + b"x" * 100, "image/png", "^a PNG picture instead"),
        (b"plain words", "video/mp4", "^something else instead"),
        (box(b"ftyp", b"avif\0\0\0\0"), "image/avif", "^something else instead"),
        (FTYP, "video/mp4", "no moov box"),
        (FTYP + box(b"moov", b"m"), "video/mp4", "no mdat box"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("told", [True, False])
async def test_what_is_not_a_video_is_refused_by_what_it_is(
    tmp_path: Path, body: bytes, said: str, reason: str, *, told: bool
) -> None:
    reply = answer(body, f"Content-Type: {said}", length=None if told else -1)
    with pytest.raises(BadOutputError, match=reason if told else reason.replace("1,234 bytes", "no length")):
        await copy(reply, tmp_path)
    assert stored(tmp_path) == []


@pytest.mark.parametrize("cut", [1, 100, 1_000_000])
async def test_a_video_that_is_shorter_than_announced_is_refused(tmp_path: Path, cut: int) -> None:
    with pytest.raises(OutputError, match="broke off"):
        await copy(answer(MP4[:-cut], length=len(MP4)), tmp_path)
    assert stored(tmp_path) == []


async def test_a_whole_video_that_is_not_what_was_announced_is_refused(tmp_path: Path) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield MP4

    said = {"Content-Length": str(len(MP4) + 1)}  # the HTTP client sees to it too: this is the second lock
    download = Download(httpx.Response(200, headers=said, content=body()))
    with pytest.raises(BadOutputError, match=f"{len(MP4):,} of {len(MP4) + 1:,} bytes came"):
        await copy_output(download, Storage.open(str(tmp_path)), STEM, index=0, max_bytes=10_000_000)
    assert stored(tmp_path) == []


@pytest.mark.parametrize("cut", [1, 100, 1_000_000])
@pytest.mark.parametrize("told", [True, False])
async def test_a_video_that_was_cut_is_refused_although_its_length_agrees(
    tmp_path: Path, cut: int, *, told: bool
) -> None:
    with pytest.raises(BadOutputError, match="cut short"):
        await copy(answer(MP4[:-cut], length=None if told else -1), tmp_path)
    assert stored(tmp_path) == []


async def test_a_copy_that_fails_leaves_the_good_one_before_it(tmp_path: Path) -> None:
    good = await copy(answer(MP4), tmp_path)
    with pytest.raises(BadOutputError):
        await copy(answer(MP4[:-1]), tmp_path)
    assert (tmp_path / good.key).read_bytes() == MP4
    assert stored(tmp_path) == [good.key]


async def test_a_video_of_exactly_the_allowed_size_is_stored(tmp_path: Path) -> None:
    assert (await copy(answer(MP4), tmp_path, max_bytes=len(MP4))).bytes == len(MP4)
    assert (await copy(answer(MP4, length=-1), tmp_path, max_bytes=len(MP4))).bytes == len(MP4)


async def test_a_video_that_says_it_is_too_large_is_refused_before_its_first_byte(tmp_path: Path) -> None:
    async def only_a_head(_: str, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(length=10**15))
        await writer.drain()
        await asyncio.Event().wait()

    with pytest.raises(OutputTooLargeError, match=r"REELKEEPER_MAX_VIDEO_BYTES allows 10,000,000 bytes"):
        await copy(only_a_head, tmp_path)
    assert stored(tmp_path) == []


async def test_an_endless_video_is_cut_at_the_limit(tmp_path: Path) -> None:
    async def endless(_: str, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(length=-1) + FTYP + box(b"moov", b"m") + b"\0\0\0\0mdat")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    with pytest.raises(OutputTooLargeError):
        await copy(endless, tmp_path)
    assert stored(tmp_path) == []


async def test_a_fault_of_the_storage_is_told_apart_from_one_of_the_output(tmp_path: Path) -> None:
    (tmp_path / "acme").write_text("a file where a folder must be")
    with pytest.raises(StorageError):
        await copy(answer(MP4), tmp_path)


async def test_what_the_storage_takes_is_measured_as_long_as_it_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now)
    held = Held()
    for seconds in (5.0, 3.0, 21.0):
        with held.waiting():
            now += seconds
    assert (held.seconds, held.too_long) == (29.0, True)
    with held.waiting():
        now += 1.0
    assert (held.seconds, held.too_long) == (30.0, False)  # the source has lived through the long one
    with contextlib.suppress(asyncio.CancelledError), held.waiting():
        now += 15.0
        raise asyncio.CancelledError  # the time of the whole download is over
    now += 4.0
    assert not held.too_long
    now += 1.0
    assert (held.seconds, held.too_long) == (50.0, True)
    now += 1750.0
    with held.waiting():
        pass
    assert (held.seconds, held.too_long) == (1800.0, True)
