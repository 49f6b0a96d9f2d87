"""A list that takes too long to find is a sentence in the terminal."""

from __future__ import annotations

import pytest

from service.db.sqlite import SQLiteDatabase
from service.errors import LookTooLongError
from tests.main.shell import LocalDesk


def test_a_list_that_takes_too_long_says_what_to_do(desk: LocalDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: object) -> None:
        raise LookTooLongError("it took too long: narrow it down")

    monkeypatch.setattr(SQLiteDatabase, "look", never)
    assert "it took too long: narrow it down" in desk.fails("jobs", "list")
