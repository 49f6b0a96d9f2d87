"""The program that decodes one video, apart from the service, because FFmpeg parses the bytes of strangers here.

It is handed nothing but the video's size, and asks its parent, the `Examiner`, for the bytes: it has no credentials, no
storage and no network, and imports nothing of this project. What it says on standard output, in lines:

    read OFFSET LENGTH    the parent writes exactly those bytes to standard input
    footage JSON          what the video shows: duration_ms, width, height, codec
    poster LENGTH         a JPEG of so many bytes follows
    nothing REASON        it could not find out more
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import pkgutil
import resource
import sys
from contextlib import suppress
from fractions import Fraction
from typing import TYPE_CHECKING, BinaryIO, cast

if TYPE_CHECKING:
    from av import VideoFrame  # at run time imported under the limits only
    from av.container import InputContainer
    from av.video.stream import VideoStream

_MEMORY_BYTES = 1024 * 1024 * 1024
_CPU_SECONDS = 20
_NICENESS = 10
_READ_BYTES = 1024 * 1024
_FORMATS = "mov,matroska"  # what a copy can be; above all no playlist, which names other files to open
_POSTER_AT = Fraction(1)  # s, and not after a tenth of the video: many begin with black
_POSTER_FRAMES = 150  # the last of so many will do
_POSTER_WIDTH = 1280  # pixels, at most
_POSTER_QUALITY = 3  # from 2, the best, to 31
_TURNS = {90: ("cclock",), 180: ("clock", "clock"), 270: ("clock",)}  # by degrees, counterclockwise


class Parent:
    """The video as a file, as far as PyAV asks for one; the parent hands over its bytes."""

    def __init__(self, size: int, questions: BinaryIO, answers: BinaryIO) -> None:
        self._size = size
        self._at = 0
        self._questions = questions
        self._answers = answers

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to `offset`, counted from the beginning, from here or from the end."""
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        """Return where the next byte is."""
        return self._at

    def read(self, size: int) -> bytes:
        """Return at most `size` of the next bytes, none at the end; end the program when the parent has gone."""
        length = min(size, self._size - self._at)
        if length <= 0:
            return b""
        found = b""
        with suppress(ConnectionError):  # it has not even heard of this
            self.say(f"read {self._at} {length}")
            found = self._answers.read(length)
        if len(found) < length:
            os._exit(1)  # an exception would have to find its way through FFmpeg
        self._at += length
        return found

    def say(self, line: str, data: bytes = b"") -> None:
        """Tell the parent a line, and data after it."""
        self._questions.write(line.encode() + b"\n" + data)
        self._questions.flush()


def main() -> None:
    """Tell about the video of as many bytes as the first argument says."""
    parent = Parent(int(sys.argv[1]), sys.stdout.buffer, sys.stdin.buffer)
    try:
        os.nice(_NICENESS)
        if sys.platform == "linux":  # macOS refuses this limit
            _limit(resource.RLIMIT_AS, _MEMORY_BYTES)
        _limit(resource.RLIMIT_CPU, _CPU_SECONDS, spare=1)  # SIGXCPU says more than SIGKILL
        _limit(resource.RLIMIT_CORE, 0)
        _examine(parent)
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent is to hear of it
        parent.say(" ".join(f"nothing {type(error).__name__}: {error}"[:500].split()))


def _limit(what: int, most: int, *, spare: int = 0) -> None:
    """Set a limit for good, unless a lower one is set already; `spare` is from its warning to its end."""
    _, hard = resource.getrlimit(what)
    last = most + spare if hard == resource.RLIM_INFINITY else min(most + spare, hard)
    resource.setrlimit(what, (min(most, last), last))


def _examine(parent: Parent) -> None:
    import av  # noqa: PLC0415 - under the limits, like all that it does

    for module in pkgutil.walk_packages(av.__path__, "av."):  # it leaves some for when they are needed
        if "__" not in module.name and module.name != "av.datasets":  # which downloads
            importlib.import_module(module.name)
    _limit(resource.RLIMIT_NOFILE, 3)  # from here on no file and no connection can be opened
    options = {"format_whitelist": _FORMATS}
    with av.open(parent, "r", container_options=options, buffer_size=_READ_BYTES) as container:
        stream = cast("VideoStream | None", container.streams.best("video"))
        if stream is None:
            raise ValueError("it has no video stream")
        # One thread: each would be given address space as if memory were unlimited.
        stream.codec_context.thread_count = 1
        length = _length(container, stream)
        frame = _frame(container, stream, length)
        turn = round(frame.rotation / 90) * 90 % 360
        width = max(1, round(frame.width * (stream.sample_aspect_ratio or 1)))
        shown = (frame.height, width) if turn in {90, 270} else (width, frame.height)
        footage = {
            "duration_ms": None if length is None else round(length * 1000),
            "width": shown[0],
            "height": shown[1],
            "codec": stream.codec_context.codec.canonical_name,
        }
        parent.say(f"footage {json.dumps(footage)}")
        poster = _jpeg(_turned(_small(frame, width, turn), turn))
        parent.say(f"poster {len(poster)}", poster)


def _length(container: InputContainer, stream: VideoStream) -> Fraction | None:
    """Return how many seconds the video takes, as far as it says."""
    if container.duration is not None and container.duration > 0:
        return Fraction(container.duration, 1_000_000)
    if stream.duration is not None and stream.duration > 0 and stream.time_base is not None:
        return stream.duration * stream.time_base
    return None


def _frame(container: InputContainer, stream: VideoStream, length: Fraction | None) -> VideoFrame:
    """Return a picture from a little after the beginning, or the last before it that can be decoded."""
    from av import FFmpegError  # noqa: PLC0415 - as in `_examine`

    until = _POSTER_AT if length is None else min(_POSTER_AT, length / 10)
    begin: float | None = None
    best: VideoFrame | None = None
    try:
        for frame in itertools.islice(container.decode(stream), _POSTER_FRAMES):
            at = frame.time or 0.0
            begin = at if begin is None else begin
            if best is None or not frame.is_corrupt:
                best = frame
            if at - begin >= until:
                break
    except (FFmpegError, MemoryError):
        if best is None:
            raise
    if best is None:
        raise ValueError("it has no picture")
    return best


def _small(frame: VideoFrame, width: int, turn: int) -> VideoFrame:
    """Return the picture with square dots, in the colours of a JPEG, so that it is as wide as a poster once turned."""
    height = frame.height
    scale = min(Fraction(1), Fraction(_POSTER_WIDTH, height if turn in {90, 270} else width))
    return frame.reformat(
        width=max(1, round(width * scale)),
        height=max(1, round(height * scale)),
        format="yuvj420p",
        dst_colorspace="ITU601",
    )


def _turned(frame: VideoFrame, turn: int) -> VideoFrame:
    """Return the picture turned by as many degrees, counterclockwise."""
    if turn not in _TURNS:
        return frame
    from av.filter import Graph  # noqa: PLC0415 - as in `_examine`

    graph = Graph()
    with suppress(AttributeError):  # before PyAV 18
        graph.threads = 1
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1000))
    steps = [graph.add("transpose", direction) for direction in _TURNS[turn]]
    graph.link_nodes(source, *steps, graph.add("buffersink")).configure()
    graph.vpush(frame)
    return graph.vpull()


def _jpeg(frame: VideoFrame) -> bytes:
    from av import CodecContext  # noqa: PLC0415 - as in `_examine`

    encoder = CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt = frame.width, frame.height, "yuvj420p"
    encoder.time_base = Fraction(1, 1000)
    encoder.thread_count = 1
    encoder.qmin = encoder.qmax = _POSTER_QUALITY
    frame.pts = 0
    return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])


if __name__ == "__main__":
    main()
