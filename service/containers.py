"""What a video file looks like from outside: which kind it is, and whether it is whole.

Nothing is decoded and nothing is kept: both questions are answered from the file's own framing, in constant memory,
however large a size it claims. Sources: ISO/IEC 14496-12 (MP4), Apple's QuickTime File Format, RFC 8794 (EBML) and
RFC 9559 (Matroska; WebM is a subset of it).
"""

from __future__ import annotations

import abc
from dataclasses import dataclass

from service.errors import BadOutputError

HEAD_BYTES = 4096
"""How much of the beginning of a file `sniff` needs to see at most."""

_MOST_BOXES = 1_000_000  # bounds the work that a file of nothing but empty boxes can cause

_NOT_VIDEO = frozenset({b"M4A ", b"M4B ", b"M4P ", b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1", b"crx "})
_EBML = b"\x1a\x45\xdf\xa3"
_DOC_TYPE = b"\x42\x82"
_SEGMENT = b"\x18\x53\x80\x67"
_CLUSTER = b"\x1f\x43\xb6\x75"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of video file: its media type, and the extension of its name (without a dot)."""

    content_type: str
    extension: str


MP4 = Kind("video/mp4", "mp4")
QUICKTIME = Kind("video/quicktime", "mov")
WEBM = Kind("video/webm", "webm")
MATROSKA = Kind("video/x-matroska", "mkv")


def sniff(head: bytes) -> Kind | None:
    """Tell the kind of video from the first bytes of a file (`HEAD_BYTES`, or all of a shorter file).

    None: it is not a video that we know. Sound and still pictures in the same container are not videos either.
    """
    if head[4:8] == b"ftyp" and len(head) >= 12:  # noqa: PLR2004 - size, type and major brand, four bytes each
        brand = head[8:12]
        if brand in _NOT_VIDEO:
            return None
        return QUICKTIME if brand == b"qt  " else MP4
    if head.startswith(_EBML):
        return {b"webm": WEBM, b"matroska": MATROSKA}.get(_doc_type(head))
    return None


def _doc_type(head: bytes) -> bytes:
    """Return what the EBML header calls the document, or nothing when it does not say so within `head`."""
    _, at = _number(head, len(_EBML))
    while at < len(head):
        name = head[at : at + _length(head[at])]
        size, at = _number(head, at + len(name))
        if name == _DOC_TYPE:
            return head[at : at + (size or 0)].rstrip(b"\0")
        if size is None or name == _SEGMENT:
            break
        at += size
    return b""


def _length(first: int) -> int:
    """Return how many bytes an EBML number has, told by the leading zero bits of its first byte: 1 to 8, 9 if bad."""
    return 9 - first.bit_length()


def _number(data: bytes, at: int) -> tuple[int | None, int]:
    """Read the EBML size at `at`; return it and where it ended. None: the size is unknown, or cut off."""
    length = _length(data[at]) if at < len(data) else 9
    end = at + length
    if length > 8 or end > len(data):  # noqa: PLR2004 - RFC 8794: sizes have at most eight bytes
        return None, len(data)
    value = int.from_bytes(data[at:end], "big") - (1 << (7 * length))
    return (None if value == (1 << (7 * length)) - 1 else value), end


class Structure:
    """Watches a file of a known kind go by and tells whether it is whole.

    A file that was cut anywhere but exactly between two of its parts is found out by its own framing, even when nobody
    said how long it is.
    """

    def __init__(self, kind: Kind) -> None:
        self._walk: _Walk = _Boxes() if kind in (MP4, QUICKTIME) else _Elements()

    def feed(self, chunk: bytes) -> None:
        """Look at the next bytes. Raises BadOutputError as soon as they cannot be part of such a file."""
        self._walk.feed(chunk)

    def finish(self) -> None:
        """Say that nothing follows. Raises BadOutputError when the file is not whole."""
        self._walk.finish()


class _Walk(abc.ABC):
    """Goes from part to part across chunk borders: collects a part's header, then skips its body."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._skip = 0  # bytes left of the part's body
        self._open = False  # the part's body reaches to the end of the file
        self._at = 0  # bytes seen
        self._parts = 0

    def feed(self, chunk: bytes) -> None:
        rest = memoryview(chunk)
        while rest:
            if self._open:
                self._at += len(rest)
                return
            step = min(self._skip or self._wanted(), len(rest))
            self._at += step
            if self._skip:
                self._skip -= step
            else:
                self._head += rest[:step]
                if not self._wanted():
                    self._parts += 1
                    if self._parts > _MOST_BOXES:
                        raise BadOutputError(f"the video has more than {_MOST_BOXES:,} parts")
                    self._enter(bytes(self._head))
                    self._head.clear()
            rest = rest[step:]

    def finish(self) -> None:
        if self._head or self._skip:
            raise BadOutputError(f"the video is cut short after {self._at:,} bytes: its last part is not whole")
        self._complete()

    @abc.abstractmethod
    def _wanted(self) -> int:
        """Return how many more bytes the header needs; 0 when it is whole."""

    @abc.abstractmethod
    def _enter(self, head: bytes) -> None:
        """Read a whole header and set how much to skip."""

    @abc.abstractmethod
    def _complete(self) -> None:
        """Raise BadOutputError when something that a file of this kind must have did not come."""


class _Boxes(_Walk):
    """MP4 and QuickTime: boxes, each a 32-bit size, a type of four characters, and a 64-bit size if the first is 1."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: set[bytes] = set()

    def _wanted(self) -> int:
        return (16 if self._head[:4] == b"\0\0\0\1" else 8) - len(self._head)

    def _enter(self, head: bytes) -> None:
        size, name, at = int.from_bytes(head[:4], "big"), head[4:8], self._at - len(head)
        if self._parts == 1 and name != b"ftyp":
            raise BadOutputError("the video does not begin with an ftyp box")
        if not all(0x20 <= byte < 0x7F for byte in name):  # noqa: PLR2004 - printable ASCII
            raise BadOutputError(f"the video is damaged: there is no box where one must begin, at byte {at:,}")
        self._open = size == 0
        if size == 1:
            size = int.from_bytes(head[8:], "big")
        if size < len(head) and not self._open:
            raise BadOutputError(f"the video is damaged: the box at byte {at:,} says that it has {size} bytes")
        if name in (b"moov", b"mdat", b"moof") and size != len(head):
            self._seen.add(name)
        self._skip = max(0, size - len(head))

    def _complete(self) -> None:
        if b"moov" not in self._seen:
            raise BadOutputError("the video is not whole: it has no moov box, or an empty one, and nothing can play it")
        if not self._seen & {b"mdat", b"moof"}:
            raise BadOutputError("the video is not whole: it has no mdat box with pictures in it")


class _Elements(_Walk):
    """WebM and Matroska: an EBML header, then a Segment of elements, each an id and a size of variable length."""

    def __init__(self) -> None:
        super().__init__()
        self._end: int | None = None  # where the Segment ends, when it says so
        self._clusters = False

    def _wanted(self) -> int:
        head = self._head
        if not head:
            return 1
        name = _length(head[0])
        if name > 4:  # noqa: PLR2004 - RFC 8794: ids have at most four bytes in Matroska
            raise BadOutputError(f"the video is damaged: no element begins at byte {self._at - 1:,}")
        if len(head) <= name:
            return name + 1 - len(head)
        size = _length(head[name])
        if size > 8:  # noqa: PLR2004 - RFC 8794: sizes have at most eight bytes
            raise BadOutputError(f"the video is damaged: no size where an element needs one, at byte {self._at - 1:,}")
        return name + size - len(head)

    def _enter(self, head: bytes) -> None:
        name = head[: _length(head[0])]
        size, _ = _number(head, len(name))
        if self._parts <= 2 and name != (_EBML, _SEGMENT)[self._parts - 1]:  # noqa: PLR2004 - the first two elements
            raise BadOutputError("the video does not begin with an EBML header and a Segment")
        if self._parts == 2:  # noqa: PLR2004 - the Segment, which is entered and not skipped
            self._end = None if size is None else self._at + size
            return
        self._clusters |= name == _CLUSTER
        if size is None:
            self._open = name == _CLUSTER
            if not self._open:
                raise BadOutputError(f"the video is damaged: the element before byte {self._at:,} has no size")
            return
        if self._end is not None and self._at + size > self._end:
            raise BadOutputError(f"the video is damaged: the element before byte {self._at:,} goes past the end")
        self._skip = size

    def _complete(self) -> None:
        if self._end is not None and self._at != self._end:
            raise BadOutputError(f"the video is cut short: it has {self._at:,} bytes and says {self._end:,}")
        if not self._clusters:
            raise BadOutputError("the video is not whole: it has no Cluster, where the pictures are")
