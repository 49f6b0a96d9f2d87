"""What tests of several packages need."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import structlog


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
