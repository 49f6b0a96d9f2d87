"""Small pictures of numbers, as SVG paths, and what they show in words."""

from __future__ import annotations

from collections.abc import Sequence

from service.web.status.numbers import HOUR

STEP = 2  # of the 192 units of a day's width, for a quarter of an hour
HEIGHT = 32


def stacked(courses: Sequence[Sequence[int]]) -> list[str]:
    """Return a path for each course; they stand on each other and share a scale."""
    most = max((sum(each) for each in zip(*courses, strict=True)), default=0)
    below = [0] * len(courses[0])
    paths = []
    for course in courses:
        paths.append(_path(course, below, most))
        below = [sum(each) for each in zip(below, course, strict=True)]
    return paths


def in_words(course: Sequence[int]) -> str:
    """Return what a course shows: "120 in the last 24 h, 4 in the last hour"."""
    return f"{sum(course)} in the last 24 h, {sum(course[-HOUR:])} in the last hour"


def _path(course: Sequence[int], below: Sequence[int], most: int) -> str:
    scale = HEIGHT / most if most else 0
    return "".join(
        f"M{at * STEP} {HEIGHT - under * scale:.1f}v{-count * scale:.1f}h{STEP}v{count * scale:.1f}z"
        for at, (count, under) in enumerate(zip(course, below, strict=True))
        if count
    )
