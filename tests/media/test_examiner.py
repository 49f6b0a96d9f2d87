"""What is found out about videos, and what their posters show."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from fractions import Fraction
from pathlib import Path

import pytest
import uvloop
from av.video.reformatter import Colorspace

from service.errors import StorageError
from service.media import Examiner
from service.model import Footage
from service.sandbox.downloads import VIDEOS, WEBM
from service.storage import Storage
from tests.media.films import BLACK, BLUE, GREEN, KEY, POSTER, RED, alike, film, keep, look, sound
from tests.servers import SeaweedFS, seaweedfs

MIB = 1024 * 1024
NOISE = random.Random(5).randbytes(10_000)  # noqa: S311 - the same noise in every run
Reasons = Callable[[], list[str]]


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server


@pytest.mark.parametrize(("video", "codec"), [*((video, "h264") for video in VIDEOS), (WEBM, "vp9")])
async def test_a_video_is_measured_and_has_a_poster(
    storage: Storage, videos: Path, examiner: Examiner, reasons: Reasons, video: bytes, codec: str
) -> None:
    footage = await examiner.examine(await keep(storage, video))
    assert footage == Footage(duration_ms=2000, width=320, height=180, codec=codec, poster=POSTER)
    assert look(videos / POSTER)[:2] == (320, 180)
    assert reasons() == []


@pytest.mark.parametrize(
    ("encoder", "container", "codec"),
    [
        ("libx265", "mp4", "hevc"),
        ("libsvtav1", "mp4", "av1"),
        ("libvpx", "webm", "vp8"),
        ("mpeg4", "matroska", "mpeg4"),
    ],
)
async def test_a_codec_is_called_as_ffmpeg_calls_it(
    storage: Storage, videos: Path, examiner: Examiner, encoder: str, container: str, codec: str
) -> None:
    footage = await examiner.examine(await keep(storage, film(codec=encoder, container=container)))
    assert footage is not None
    assert footage.codec == codec
    assert footage.duration_ms == pytest.approx(1200, abs=5)
    assert alike(look(videos / POSTER)[2], [GREEN, GREEN, RED, BLUE])


@pytest.mark.parametrize(
    ("turned", "size", "colours"),
    [
        (90, (180, 320), [GREEN, BLUE, GREEN, RED]),
        (180, (320, 180), [BLUE, RED, GREEN, GREEN]),
        (270, (180, 320), [RED, GREEN, BLUE, GREEN]),
    ],
)
async def test_a_video_that_is_to_be_turned_is_measured_and_pictured_as_it_is_shown(
    storage: Storage,
    videos: Path,
    examiner: Examiner,
    turned: int,
    size: tuple[int, int],
    colours: list[tuple[int, int, int]],
) -> None:
    footage = await examiner.examine(await keep(storage, film(turned=turned)))
    assert footage is not None
    assert (footage.width, footage.height) == size
    width, height, found = look(videos / POSTER)
    assert (width, height) == size
    assert alike(found, colours), found


@pytest.mark.parametrize(
    ("width", "height", "turned", "poster"),
    [(1920, 1080, 0, (1280, 720)), (1080, 1920, 0, (1080, 1920)), (1080, 1920, 90, (1280, 720)), (64, 48, 0, (64, 48))],
)
async def test_a_poster_is_at_most_1280_wide_and_never_larger_than_the_video(
    storage: Storage,
    videos: Path,
    examiner: Examiner,
    width: int,
    height: int,
    turned: int,
    poster: tuple[int, int],
) -> None:
    footage = await examiner.examine(await keep(storage, film(width=width, height=height, turned=turned, frames=2)))
    assert footage is not None
    assert (footage.width, footage.height) == ((height, width) if turned else (width, height))
    assert look(videos / POSTER)[:2] == poster


async def test_dots_that_are_not_square_are_shown_square(storage: Storage, videos: Path, examiner: Examiner) -> None:
    footage = await examiner.examine(await keep(storage, film(dots=Fraction(2))))
    assert footage is not None
    assert (footage.width, footage.height) == look(videos / POSTER)[:2] == (640, 180)


@pytest.mark.parametrize("colours", [Colorspace.ITU601, Colorspace.ITU709, Colorspace.FCC])
async def test_a_poster_has_the_colours_of_the_video(
    storage: Storage, videos: Path, examiner: Examiner, colours: Colorspace
) -> None:
    await examiner.examine(await keep(storage, film(colours=colours)))
    assert alike(look(videos / POSTER)[2], [GREEN, GREEN, RED, BLUE])


async def test_the_poster_of_a_video_that_begins_with_black_shows_what_follows(
    storage: Storage, videos: Path, examiner: Examiner
) -> None:
    await examiner.examine(await keep(storage, film(frames=250, dark=20)))
    assert alike(look(videos / POSTER)[2], [GREEN, GREEN, RED, BLUE])
    await examiner.examine(await keep(storage, film(frames=5, dark=4)))  # not even a fifth of a second
    assert alike(look(videos / POSTER)[2], [BLACK] * 4)


async def test_a_video_that_is_damaged_after_its_first_pictures_still_has_a_poster(
    storage: Storage, videos: Path, examiner: Examiner
) -> None:
    whole = VIDEOS[2]  # its index is in front
    damaged = whole[:4000] + NOISE[: len(whole) - 4000]
    footage = await examiner.examine(await keep(storage, damaged))
    assert footage == Footage(2000, 320, 180, "h264", POSTER)
    assert look(videos / POSTER)[:2] == (320, 180)


@pytest.mark.parametrize(
    "data",
    [b"", b"x", NOISE, VIDEOS[0][:100], VIDEOS[0][:900], film()[:-200], sound(), film(codec="mpeg4", container="avi")],
    ids=["empty", "a byte", "noise", "a head", "half an index", "no index", "sound", "no container that is kept"],
)
async def test_what_is_no_video_is_not_understood_and_the_log_says_why(
    storage: Storage, videos: Path, examiner: Examiner, reasons: Reasons, data: bytes
) -> None:
    assert await examiner.examine(await keep(storage, data)) is None
    assert len(reasons()) == 1
    assert "Error" in reasons()[0]
    assert not (videos / POSTER).exists()


async def test_a_playlist_opens_nothing(storage: Storage, tmp_path: Path, examiner: Examiner, reasons: Reasons) -> None:
    other = tmp_path / "other.mp4"
    other.write_bytes(VIDEOS[0])
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{other}\n#EXT-X-ENDLIST\n".encode()
    concat = f"ffconcat version 1.0\nfile {other}\n".encode()
    for data in (playlist, concat):
        assert await examiner.examine(await keep(storage, data)) is None
    assert len(reasons()) == 2


async def test_only_what_is_needed_of_a_large_video_is_read(videos: Path) -> None:
    class Counted(Storage):
        given = 0

        async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
            async for chunk in super().read(key, start, end):
                self.given += len(chunk)
                yield chunk

    storage = Counted.open(str(videos))
    whole = film(frames=100)
    free = (64 * MIB).to_bytes(4) + b"free" + bytes(64 * MIB - 8)
    index = whole.rindex(b"moov") - 4
    padded = whole[:index] + free + whole[index:]  # the index is at the end
    footage = await Examiner(storage).examine(await keep(storage, padded))
    assert footage == Footage(4000, 320, 180, "h264", POSTER)
    assert storage.given < 8 * MIB


async def test_a_video_in_a_bucket_is_examined(
    s3: SeaweedFS, monkeypatch: pytest.MonkeyPatch, reasons: Reasons
) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    storage = Storage.open(f"s3://{s3.bucket}/posters")
    footage = await Examiner(storage).examine(await keep(storage, film(turned=90)))
    assert footage == Footage(1200, 180, 320, "h264", POSTER)
    poster = b"".join([chunk async for chunk in storage.read(POSTER)])
    assert alike(look(poster)[2], [GREEN, BLUE, GREEN, RED])
    assert reasons() == []


def test_it_works_on_the_loop_that_the_service_runs_on(videos: Path) -> None:
    async def examine() -> Footage | None:
        storage = Storage.open(str(videos))
        return await Examiner(storage).examine(await keep(storage, VIDEOS[0]))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(examine()) == Footage(2000, 320, 180, "h264", POSTER)


async def test_a_video_that_is_not_there_is_not_understood(
    storage: Storage, examiner: Examiner, reasons: Reasons
) -> None:
    artifact = await keep(storage, VIDEOS[0])
    await storage.delete(KEY)
    assert await examiner.examine(artifact) is None
    assert len(reasons()) == 1
    assert "could not read" in reasons()[0]


async def test_a_poster_that_cannot_be_stored_costs_only_the_poster(
    storage: Storage, videos: Path, examiner: Examiner, reasons: Reasons
) -> None:
    artifact = await keep(storage, VIDEOS[0])
    (videos / POSTER).mkdir()
    assert await examiner.examine(artifact) == Footage(2000, 320, 180, "h264", None)
    assert len(reasons()) == 1
    assert "could not write" in reasons()[0]


async def test_a_discarded_poster_is_gone(storage: Storage, videos: Path, examiner: Examiner) -> None:
    footage = await examiner.examine(await keep(storage, VIDEOS[0]))
    assert footage is not None
    await examiner.discard(footage)
    assert not (videos / POSTER).exists()
    await examiner.discard(footage)
    with pytest.raises(StorageError):
        await examiner.discard(Footage(None, 1, 1, "h264", "/etc/passwd"))


async def test_without_pyav_nothing_is_started(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scripted: Callable[..., Examiner]
) -> None:
    script = "import pathlib, sys; pathlib.Path(sys.argv[1]).touch()"
    artifact = await keep(storage, VIDEOS[0])
    with_it = scripted(script, str(tmp_path / "started"))
    assert with_it.available
    assert await with_it.examine(artifact) is None
    (tmp_path / "started").unlink()
    monkeypatch.setattr("service.media.find_spec", lambda name: None if name == "av" else name)
    without = scripted(script, str(tmp_path / "started"))
    assert not without.available
    assert await without.examine(artifact) is None
    assert not (tmp_path / "started").exists()
