"""The videos that it serves are real: whole containers, playable while they load."""

from __future__ import annotations

import io
import struct

import av
import pytest

from service.sandbox.downloads import VIDEOS, WEBM


def boxes(data: bytes) -> list[tuple[str, bytes]]:
    """Split an MP4 into its boxes, as ISO/IEC 14496-12 says: a length of four bytes and a name of four."""
    found = []
    while data:
        length = int.from_bytes(data[:4], "big")
        assert 8 <= length <= len(data)
        found.append((data[4:8].decode("ascii"), data[8:length]))
        data = data[length:]
    return found


@pytest.mark.parametrize("data", VIDEOS)
def test_an_mp4_is_whole_small_and_has_its_index_in_front(data: bytes) -> None:
    found = boxes(data)
    names = [name for name, _ in found]
    assert names[0] == "ftyp"
    assert names.index("moov") < names.index("mdat")
    assert len(data) < 60_000


@pytest.mark.parametrize("data", VIDEOS)
def test_an_mp4_is_two_seconds_of_h264(data: bytes) -> None:
    movie = dict(boxes(dict(boxes(data))["moov"]))
    scale, duration = struct.unpack(">II", movie["mvhd"][12:20])
    assert duration / scale == 2
    assert b"avc1" in movie["trak"]


def test_the_videos_differ() -> None:
    assert len(set(VIDEOS)) == 3


def test_the_webm_is_one() -> None:
    assert WEBM.startswith(b"\x1a\x45\xdf\xa3")
    assert b"webm" in WEBM[:64]
    assert b"V_VP9" in WEBM
    assert len(WEBM) < 60_000


@pytest.mark.parametrize("data", [*VIDEOS, WEBM])
def test_a_decoder_finds_every_frame(data: bytes) -> None:
    with av.open(io.BytesIO(data), "r") as container:
        frames = [(frame.width, frame.height, frame.format.name) for frame in container.decode(video=0)]
    assert frames == [(320, 180, "yuv420p")] * 50
