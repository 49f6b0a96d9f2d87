"""One row of the table of what can go wrong."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """What can go wrong, in one line; and the pytest node ids of what shows that it cannot, or why it does not apply.

    A row that has both says what part of it does not apply.
    """

    id: str
    what: str
    tests: tuple[str, ...]
    why_not: str


def row(name: str, what: str, *tests: str, why_not: str = "") -> Row:
    """Return a row; a test is written as `tests/FILE.py::NAME`, both without what all have in common.

    "story/crashes: a_job_survives_a_crash" is tests/story/test_crashes.py::test_a_job_survives_a_crash.
    """
    return Row(name, what, tuple(map(_node_id, tests)), why_not)


def _node_id(short: str) -> str:
    file, _, name = short.partition(": ")
    folder, _, module = file.rpartition("/")
    return f"tests/{folder}/test_{module}.py::test_{name}".replace("tests//", "tests/")
