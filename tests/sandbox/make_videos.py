"""Make the small videos that the sandbox serves: `python -m tests.sandbox.make_videos`.

Needs PyAV (`pip install av`), which brings the encoders; the service and its tests do not. The files were made once
and are part of the package, so run this only to change what they show.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

av: Any = importlib.import_module("av")

WIDTH, HEIGHT = 320, 180
FRAMES_A_SECOND = 25
FRAMES = 2 * FRAMES_A_SECOND

Colour = tuple[int, int, int]

BARS: tuple[Colour, ...] = (
    (235, 235, 235),
    (235, 235, 16),
    (16, 235, 235),
    (16, 235, 16),
    (235, 16, 235),
    (235, 16, 16),
    (16, 16, 235),
)
# Three columns by five rows of dots for each digit, a row per group.
DIGITS = (
    "111 101 101 101 111",
    "010 110 010 010 111",
    "111 001 111 100 111",
    "111 001 111 001 111",
    "101 101 111 001 001",
    "111 100 111 001 111",
    "111 100 111 101 111",
    "111 001 010 010 010",
    "111 101 111 101 111",
    "111 101 111 001 111",
)


class Picture:
    """A picture of WIDTH x HEIGHT dots, four bytes each: red, green, blue and opaque."""

    def __init__(self, background: Colour) -> None:
        self.dots = bytearray(bytes((*background, 255)) * (WIDTH * HEIGHT))

    def box(self, left: int, top: int, width: int, height: int, colour: Colour) -> None:
        """Fill a rectangle; what lies outside of the picture is left out."""
        left, right = max(left, 0), min(left + width, WIDTH)
        for row in range(max(top, 0), min(top + height, HEIGHT)):
            start = (row * WIDTH + left) * 4
            self.dots[start : start + (right - left) * 4] = bytes((*colour, 255)) * (right - left)

    def number(self, value: int, left: int, top: int, dot: int, colour: Colour) -> None:
        """Write two digits, each dot a square of `dot` pixels."""
        for place, digit in enumerate(f"{value:02d}"):
            for row, columns in enumerate(DIGITS[int(digit)].split()):
                for column, lit in enumerate(columns):
                    if lit == "1":
                        self.box(left + (place * 4 + column) * dot, top + row * dot, dot, dot, colour)


def colour_bars(frame: int) -> Picture:
    """Seven bars with a counter below."""
    picture = Picture((16, 16, 16))
    for index, colour in enumerate(BARS):
        picture.box(index * WIDTH // 7, 0, WIDTH // 7 + 1, 130, colour)
    picture.number(frame, 132, 140, 7, (235, 235, 235))
    return picture


def moving_box(frame: int) -> Picture:
    """A white box that crosses a blue field and carries the frame's number."""
    picture = Picture((20, 40, 110))
    left = frame * (WIDTH - 80) // (FRAMES - 1)
    picture.box(left, 50, 80, 80, (235, 235, 235))
    picture.number(frame, left + 12, 70, 8, (200, 30, 30))
    return picture


def countdown(frame: int) -> Picture:
    """Large digits that count down over a bar that grows."""
    picture = Picture((30, 90, 50))
    picture.number(FRAMES - 1 - frame, 90, 20, 20, (240, 220, 80))
    picture.box(0, 150, (frame + 1) * WIDTH // FRAMES, 20, (235, 235, 235))
    return picture


def encode(path: Path, draw: Callable[[int], Picture], codec: str, options: dict[str, str]) -> None:
    """Write one video; an MP4 has its index in front, so that a browser plays it while it loads."""
    container_options = {"movflags": "+faststart"} if path.suffix == ".mp4" else {}
    with av.open(str(path), "w", options=container_options) as container:
        stream = container.add_stream(codec, rate=FRAMES_A_SECOND, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(FRAMES):
            frame = av.VideoFrame.from_bytes(bytes(draw(number).dots), WIDTH, HEIGHT, format="rgba")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def decode(path: Path) -> int:
    """Return how many frames a decoder finds in the file."""
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def main() -> None:
    """Write every video into the package and decode it again."""
    folder = Path(__file__).parents[2] / "service" / "sandbox" / "videos"
    x264 = {"crf": "26", "preset": "slow", "profile": "main"}
    encode(folder / "colour-bars.mp4", colour_bars, "libx264", x264)
    encode(folder / "moving-box.mp4", moving_box, "libx264", x264)
    encode(folder / "countdown.mp4", countdown, "libx264", x264)
    encode(folder / "moving-box.webm", moving_box, "libvpx-vp9", {"crf": "36", "b": "0"})
    for path in sorted(folder.glob("*.*")):
        if path.suffix in {".mp4", ".webm"}:
            sys.stdout.write(f"{path.name}: {path.stat().st_size} bytes, {decode(path)} frames\n")


if __name__ == "__main__":
    main()
