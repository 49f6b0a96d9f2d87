"""Small films with a known picture, encoded with PyAV, and a look at what was made of them."""

from __future__ import annotations

import io
import os
from collections.abc import AsyncIterator, Iterator
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
from av.video.reformatter import Colorspace
from av.video.stream import VideoStream

from service.model import Artifact
from service.storage import Storage

Colour = tuple[int, int, int]

RED, GREEN, BLUE, BLACK = (200, 30, 30), (30, 200, 30), (30, 30, 200), (0, 0, 0)
KEY = "acme/2026/11/job_01ab/0.mp4"
POSTER = "acme/2026/11/job_01ab/0.jpg"


def film(
    *,
    codec: str = "libx264",
    container: str = "mp4",
    width: int = 320,
    height: int = 180,
    frames: int = 30,
    dark: int = 0,
    turned: int = 0,
    dots: Fraction | None = None,
    colours: Colorspace = Colorspace.ITU601,
    options: dict[str, str] | None = None,
) -> bytes:
    """Return a film of 25 frames a second, green above, and below red on the left and blue on the right.

    It begins with so many `dark` frames, is shown `turned` by degrees counterclockwise, `dots` says how much
    wider than high its pixels are, and `colours` how they are written.
    """
    file = io.BytesIO()
    with av.open(file, "w", format=container, container_options=options or {}) as out:
        stream = cast("VideoStream", out.add_stream(codec, rate=25))
        stream.codec_context.width, stream.codec_context.height = width, height
        stream.codec_context.colorspace = colours
        stream.codec_context.pix_fmt = "rgba" if codec == "png" else "yuv420p"
        if turned:
            stream.set_display_rotation(turned)
        if dots:
            stream.codec_context.sample_aspect_ratio = dots
        red, green, blue, black = (bytes((*colour, 255)) for colour in (RED, GREEN, BLUE, BLACK))
        below = red * (width // 2) + blue * (width - width // 2)
        picture = green * width * (height // 3) + below * (height - height // 3)
        for number in range(frames):
            shown = black * (width * height) if number < dark else picture
            frame = av.VideoFrame.from_bytes(shown, width, height, format="rgba")
            out.mux(stream.encode(frame.reformat(format=stream.codec_context.pix_fmt, dst_colorspace=colours)))
        out.mux(stream.encode(None))
    return file.getvalue()


def sound() -> bytes:
    """Return an MP4 with sound alone."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        stream = out.add_stream("aac", rate=48_000)
        frame = av.AudioFrame(format="fltp", layout="stereo", samples=1024)
        frame.sample_rate = 48_000
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return file.getvalue()


def look(picture: bytes | Path) -> tuple[int, int, list[Colour]]:
    """Return the width and height of a JPEG, and its colours above left and right, and below left and right."""
    data = picture.read_bytes() if isinstance(picture, Path) else picture
    with av.open(io.BytesIO(data), "r", format="jpeg_pipe") as container:
        frame = next(container.decode(video=0)).reformat(format="rgb24")
    plane = frame.planes[0]
    dots, line = bytes(plane), plane.line_size

    def colour(x: int, y: int) -> Colour:
        at = y * line + 3 * x
        return dots[at], dots[at + 1], dots[at + 2]

    near, right, low = 4, frame.width - 5, frame.height - 5
    return frame.width, frame.height, [colour(near, near), colour(right, near), colour(near, low), colour(right, low)]


def alike(found: list[Colour], meant: list[Colour]) -> bool:
    """Tell whether the colours are those that were meant, as far as two lossy codecs leave them."""
    pairs = zip(found, meant, strict=True)
    return all(abs(one - other) < 25 for left, right in pairs for one, other in zip(left, right, strict=True))


async def keep(storage: Storage, film_: bytes, key: str = KEY) -> Artifact:
    """Store a film as the mirror does."""

    async def whole() -> AsyncIterator[bytes]:
        yield film_

    await storage.put(key, whole(), content_type="video/mp4")
    return Artifact(0, key, len(film_), "ab" * 32, "video/mp4")


def children() -> set[int]:
    """Return the processes that this one has started and not yet reaped."""
    return set(_children())


def _children() -> Iterator[int]:
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = path.read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue  # it has just ended
        if int(parent) == os.getpid():
            yield int(path.parent.name)
