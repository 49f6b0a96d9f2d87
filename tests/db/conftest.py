from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.clock import ManualClock
from service.db.sqlite import SQLiteDatabase


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "reelkeeper.db"


@pytest.fixture
async def database(path: Path) -> AsyncIterator[SQLiteDatabase]:
    database = await SQLiteDatabase.open(path, ManualClock())
    yield database
    await database.close()
