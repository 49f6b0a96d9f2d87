"""A running service for SDKs that know nothing of it but its address and a key."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.servers import SeaweedFS, seaweedfs
from tests.story.world import World, open_world
from tests.web.house import House, open_house


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let SDKs, which heed the environment, reach loopback directly."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1,localhost")


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """A service whose jobs are moved by the test."""
    async with open_house(tmp_path) as house:
        yield house


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A service whose jobs are moved by its workers and a stand-in provider, under a clock that the test moves."""
    async with open_world(tmp_path) as world:
        yield world


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    """A real object store."""
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server
