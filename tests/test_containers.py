from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.containers import HEAD_BYTES, MATROSKA, MP4, QUICKTIME, WEBM, Kind, Structure, sniff
from service.errors import BadOutputError


def box(name: bytes, body: bytes = b"", *, large: bool = False) -> bytes:
    if large:
        return b"\0\0\0\1" + name + (len(body) + 16).to_bytes(8, "big") + body
    return (len(body) + 8).to_bytes(4, "big") + name + body


def element(name: bytes, body: bytes = b"", *, width: int = 1) -> bytes:
    return name + ((1 << (7 * width)) | len(body)).to_bytes(width, "big") + body


EBML, SEGMENT, CLUSTER, VOID = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67", b"\x1f\x43\xb6\x75", b"\xec"


def ebml(doc_type: bytes) -> bytes:
    return element(EBML, element(b"\x42\x86", b"\1") + element(b"\x42\x82", doc_type))


FTYP = box(b"ftyp", b"isom\0\0\2\0isommp41")
MOOV_FIRST = FTYP + box(b"moov", b"m" * 40) + box(b"mdat", b"d" * 100)
MOOV_LAST = FTYP + box(b"free") + box(b"mdat", b"d" * 100, large=True) + box(b"moov", b"m" * 40)
FRAGMENTED = FTYP + box(b"moov", b"m" * 20) + box(b"moof", b"f" * 20) + box(b"mdat", b"d" * 50)
OPEN_MDAT = FTYP + box(b"moov", b"m" * 20) + b"\0\0\0\0mdat" + b"d" * 50
GOOD_MP4 = [MOOV_FIRST, MOOV_LAST, FRAGMENTED, OPEN_MDAT]

TRACKS = element(b"\x16\x54\xae\x6b", b"t" * 30)
SIZED = ebml(b"webm") + element(SEGMENT, TRACKS + element(CLUSTER, b"c" * 60, width=2), width=8)
UNSIZED = ebml(b"webm") + SEGMENT + b"\x01" + b"\xff" * 7 + TRACKS + element(CLUSTER, b"c" * 60)
LIVE = ebml(b"webm") + SEGMENT + b"\xff" + TRACKS + CLUSTER + b"\xff" + b"c" * 60
GOOD_WEBM = [SIZED, UNSIZED, LIVE]

GOOD = [(MP4, each) for each in GOOD_MP4] + [(WEBM, each) for each in GOOD_WEBM]


def verdict(kind: Kind, chunks: list[bytes]) -> str | None:
    structure = Structure(kind)
    try:
        for chunk in chunks:
            structure.feed(chunk)
        structure.finish()
    except BadOutputError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (FTYP, MP4),
        (box(b"ftyp", b"mp42\0\0\0\0"), MP4),
        (box(b"ftyp", b"qt  \0\0\0\0"), QUICKTIME),
        (ebml(b"webm"), WEBM),
        (ebml(b"matroska"), MATROSKA),
        (ebml(b"webm\0\0"), WEBM),
    ],
)
def test_a_video_is_known_by_its_first_bytes(head: bytes, kind: Kind) -> None:
    assert sniff(head) == kind
    assert sniff((head + b"x" * HEAD_BYTES)[:HEAD_BYTES]) == kind


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"<!doctype html><html>",
        b'{"error": "ftyp"}',
        b"GIF89a",
        b"\x89PNG\r\n\x1a\n",
        b"RIFF\0\0\0\0AVI ",
        b"\0\0\0\x18ftyp",
        box(b"ftyp", b"avif\0\0\0\0"),
        box(b"ftyp", b"M4A \0\0\0\0"),
        ebml(b"something"),
        EBML,
        EBML + b"\x81",
        EBML + b"\0" * 40,
    ],
)
def test_what_is_not_a_video_is_not_taken_for_one(head: bytes) -> None:
    assert sniff(head) is None


@pytest.mark.parametrize(("kind", "file"), GOOD)
def test_a_whole_file_is_accepted(kind: Kind, file: bytes) -> None:
    assert sniff(file) == kind
    assert verdict(kind, [file]) is None


@given(data=st.data())
def test_the_verdict_does_not_depend_on_how_the_bytes_arrive(data: st.DataObject) -> None:
    kind, whole = data.draw(st.sampled_from(GOOD))
    file = whole[: data.draw(st.integers(0, len(whole)))]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(file)), max_size=12)))
    chunks = [file[start:end] for start, end in zip([0, *cuts], [*cuts, len(file)], strict=True)]
    assert b"".join(chunks) == file
    assert verdict(kind, chunks) == verdict(kind, [file])


@pytest.mark.parametrize("file", [MOOV_FIRST, MOOV_LAST])
def test_every_cut_of_an_mp4_is_refused(file: bytes) -> None:
    assert [length for length in range(len(file)) if verdict(MP4, [file[:length]]) is None] == []


@pytest.mark.parametrize("file", [SIZED, UNSIZED])
def test_every_cut_of_a_webm_is_refused(file: bytes) -> None:
    assert [length for length in range(len(file)) if verdict(WEBM, [file[:length]]) is None] == []


@pytest.mark.parametrize(("kind", "file"), [(MP4, MOOV_FIRST), (MP4, MOOV_LAST), (WEBM, SIZED), (WEBM, UNSIZED)])
@given(more=st.binary(min_size=1, max_size=7))
def test_bytes_after_the_end_are_refused(kind: Kind, file: bytes, more: bytes) -> None:
    if kind == WEBM and file == UNSIZED and verdict(WEBM, [file + more]) is None:
        assert more[0] >= 0x10  # it was one more element of a Segment that does not say where it ends
    else:
        assert verdict(kind, [file + more]) is not None


@pytest.mark.parametrize(
    ("kind", "file", "reason"),
    [
        (MP4, b"", "no moov"),
        (MP4, FTYP, "no moov"),
        (MP4, FTYP + box(b"moov", b"m"), "no mdat"),
        (MP4, FTYP + box(b"mdat", b"d"), "no moov"),
        (MP4, FTYP + box(b"moov") + box(b"mdat", b"d"), "no moov box, or an empty one"),
        (MP4, FTYP + box(b"moov", b"m") + box(b"mdat"), "no mdat box with pictures"),
        (MP4, box(b"moov", b"m") + FTYP + box(b"mdat", b"d"), "does not begin with an ftyp"),
        (MP4, FTYP + b"\0\0\0\4moov", "says that it has 4 bytes"),
        (MP4, FTYP + b"\0\0\0\1moov" + b"\0" * 8, "says that it has 0 bytes"),
        (MP4, FTYP + b"\xff" * 8 + b"x" * 100, "no box where one must begin"),
        (MP4, FTYP + b"\0\0\0\1mdat" + b"\xff" * 8, "cut short"),
        (WEBM, b"", "no Cluster"),
        (WEBM, ebml(b"webm"), "no Cluster"),
        (WEBM, ebml(b"webm") + element(SEGMENT, TRACKS), "no Cluster"),
        (WEBM, ebml(b"webm") + element(CLUSTER, b"c"), "EBML header and a Segment"),
        (WEBM, ebml(b"webm") + element(SEGMENT, CLUSTER + b"\x90"), "goes past the end"),
        (WEBM, ebml(b"webm") + SEGMENT + b"\xff" + TRACKS[:4] + b"\xff", "has no size"),
        (WEBM, EBML + b"\0", "no size where an element needs one"),
    ],
)
def test_a_refusal_says_what_is_wrong(kind: Kind, file: bytes, reason: str) -> None:
    assert reason in (verdict(kind, [file]) or "accepted")


@given(
    kind=st.sampled_from([MP4, QUICKTIME, WEBM, MATROSKA]),
    start=st.sampled_from([b"", FTYP, SIZED[:40]]),
    data=st.binary(),
)
def test_no_bytes_cause_anything_but_a_refusal(kind: Kind, start: bytes, data: bytes) -> None:
    sniff(start + data)
    sniff(EBML + data)
    verdict(kind, [start + data])


def test_a_file_of_nothing_but_empty_boxes_is_refused_soon() -> None:
    reason = verdict(MP4, [FTYP, *[box(b"free") * 32_768] * 64])
    assert reason == "the video has more than 1,000,000 parts"
