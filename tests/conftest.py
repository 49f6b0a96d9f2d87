"""What tests of several packages need."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping

import pytest
import structlog

from service.config import SETTINGS
from tests.servers import SeaweedFS, seaweedfs

_READ = ("REELKEEPER_", "OTEL_", "AWS_", "OPENROUTER_", "OPENAI_", "LLMGATEWAY_")


@pytest.fixture(autouse=True)
def _environment_is_left_as_it_was() -> Iterator[None]:
    """Have the test fail that leaves variables behind, rather than a later one which meets them.

    Libraries may set variables of their own when they are loaded first, whichever test that is in.
    """
    before = dict(os.environ)
    yield
    assert left_behind(before, dict(os.environ)) == set()


def left_behind(before: Mapping[str, str], now: Mapping[str, str]) -> set[str]:
    """Return the variables that changed, or that are new and read by what we test."""
    changed = {name for name in {*before, *now} if before.get(name) != now.get(name) and not name.startswith("PYTEST_")}
    return {name for name in changed if name in before or name in SETTINGS or name.startswith(_READ)}


@pytest.fixture
def logs_restored() -> Iterator[None]:
    """Undo what `logs.configure` does to the whole process, so that no other test is heard or silenced by it."""
    root, chatty = logging.getLogger(), [logging.getLogger(name) for name in ("httpx", "httpcore")]
    handlers, level, raising = root.handlers[:], root.level, logging.raiseExceptions
    levels = [each.level for each in chatty]
    root.handlers = []  # so that they are not closed
    yield
    root.handlers, root.level, logging.raiseExceptions = handlers, level, raising
    for each, was in zip(chatty, levels, strict=True):
        each.setLevel(was)
    logging.captureWarnings(capture=False)
    logging.getLogger("uvicorn.access").disabled = False
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    """One S3 server for all tests; each has a prefix of its own."""
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server
