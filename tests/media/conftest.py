"""A storage in a folder, and an examiner on it whose log can be read."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest
import structlog
from structlog.testing import CapturingLogger
from structlog.typing import FilteringBoundLogger

from service.media import Examiner
from service.storage import Storage
from tests.media.films import children


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    return tmp_path / "videos"


@pytest.fixture
def storage(videos: Path) -> Storage:
    return Storage.open(str(videos))


@pytest.fixture
def logged() -> CapturingLogger:
    return CapturingLogger()


@pytest.fixture
def log(logged: CapturingLogger) -> FilteringBoundLogger:
    wrapper = structlog.make_filtering_bound_logger(20)
    return cast("FilteringBoundLogger", structlog.wrap_logger(logged, processors=[], wrapper_class=wrapper))


@pytest.fixture
def reasons(logged: CapturingLogger) -> Callable[[], list[str]]:
    """Return what the log gave as reasons."""
    return lambda: [call.kwargs["reason"] for call in logged.calls]


@pytest.fixture
def examiner(storage: Storage, log: FilteringBoundLogger) -> Examiner:
    return Examiner(storage, log=log)


@pytest.fixture
def scripted(storage: Storage, log: FilteringBoundLogger) -> Callable[..., Examiner]:
    """Return an examiner whose child runs a script instead of the decoder."""

    def make(script: str, *arguments: str, seconds: float = 20.0, at_once: int = 2) -> Examiner:
        command = (sys.executable, "-c", script, *arguments)
        return Examiner(storage, log=log, command=command, seconds=seconds, at_once=at_once)

    return make


@pytest.fixture(autouse=True)
def no_child_is_left() -> Iterator[None]:
    before = children()
    yield
    assert children() <= before
