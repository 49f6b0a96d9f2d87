"""A shell for every test, with the settings of a service of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.main.shell import Shell


@pytest.fixture(autouse=True)
def _restored(logs_restored: None) -> None:
    """Commands that run in this process set up its logs."""


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)
