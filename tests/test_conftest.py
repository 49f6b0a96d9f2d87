"""What tests leave behind: found at the test that did it, and at no other."""

from __future__ import annotations

import pytest

from tests.conftest import left_behind

BEFORE = {"PATH": "/bin", "PORT": "80"}


@pytest.mark.parametrize(
    ("now", "left"),
    [
        (BEFORE, set()),
        (BEFORE | {"SET_BY_A_LIBRARY_THAT_WAS_LOADED_FIRST": "1", "PYTEST_CURRENT_TEST": "now"}, set()),
        (BEFORE | {"AWS_REGION": "moon", "REELKEEPER_STORAGE": "here"}, {"AWS_REGION", "REELKEEPER_STORAGE"}),
        (BEFORE | {"PATH": "/tmp"}, {"PATH"}),  # noqa: S108 - nothing is written there
        ({"PATH": "/bin"}, {"PORT"}),
    ],
)
def test_variables_that_others_would_meet_are_left_behind(now: dict[str, str], left: set[str]) -> None:
    assert left_behind(BEFORE, now) == left
