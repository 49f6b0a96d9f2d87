"""A shell for every test, with the settings of a service of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.main.shell import LocalDesk, RemoteDesk, Shell


@pytest.fixture(autouse=True)
def _restored(logs_restored: None) -> None:
    """Commands that run in this process set up its logs."""


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture(params=["local", "remote"])
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LocalDesk]:
    """Both places that commands work at: the database on this machine, and a running service."""
    if request.param == "local":
        local = LocalDesk(tmp_path)
        local.run("migrate")
        yield local
        return
    remote = RemoteDesk(tmp_path)
    with remote.served():
        yield remote
