"""What an operator sees of callbacks that were not believed."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from service.commands import callbacks
from service.model import VideoRequest
from service.records import Records
from service.store import Created, NewJob, Reason, Rejection
from tests.main.shell import LocalDesk

WRONG = "OPENROUTER_WEBHOOK_SECRET must be that secret [bold]to the letter[/bold]"


async def rejected(records: Records) -> list[Rejection]:
    """Return what was rejected of two jobs, newest first."""
    found = []
    for at in (1_790_000_000_000, 1_790_000_060_000):
        new = NewJob("studio", "openrouter", VideoRequest(model="m", prompt="a cat"))
        created = await records.store.create_job(new)
        assert isinstance(created, Created)
        found.append(
            Rejection(
                created.job.id, "openrouter", Reason.WRONG_SECRET, WRONG, 3, at, at, {"user-agent": "x\x1b[31m"}, 9
            )
        )
    skew = Rejection(found[0].job_id, "openrouter", Reason.CLOCK_SKEW, "400 s ahead", 1, 1, 1, {}, None)
    await records.rejections.keep([*found, skew])
    return [found[1], found[0], skew]


def test_rejected_callbacks_are_listed_as_lines_for_programs(desk: LocalDesk) -> None:
    newest, older, oldest = desk.with_records(rejected)
    result = desk.run("callbacks", "rejected", COLUMNS="40")
    assert result.exit_code == 0, result.output
    assert [line.split("\t") for line in result.stdout.splitlines()] == [
        [newest.job_id, "wrong_secret", "3", "2026-09-21T14:14:20Z", "openrouter"],
        [older.job_id, "wrong_secret", "3", "2026-09-21T14:13:20Z", "openrouter"],
        [oldest.job_id, "clock_skew", "1", "1970-01-01T00:00:00Z", "openrouter"],
    ]
    assert len(desk.run("callbacks", "rejected", "--limit", "2").stdout.splitlines()) == 2
    of_one = desk.run("callbacks", "rejected", "--job", newest.job_id).stdout.splitlines()
    assert [line.split("\t")[0] for line in of_one] == [newest.job_id]


def test_as_json_there_is_all_that_is_kept(desk: LocalDesk) -> None:
    newest, _, oldest = desk.with_records(rejected)
    found = json.loads(desk.run("callbacks", "rejected", "--json", COLUMNS="20").stdout)
    assert found[0] == {
        "object": "rejected_callbacks",
        "job": newest.job_id,
        "provider": "openrouter",
        "reason": "wrong_secret",
        "message": WRONG,
        "times": 3,
        "first_at": "2026-09-21T14:14:20.000Z",
        "last_at": "2026-09-21T14:14:20.000Z",
        "headers": {"user-agent": "x\x1b[31m"},
        "bytes": 9,
    }
    assert (found[2]["reason"], found[2]["bytes"]) == (oldest.reason, None)
    assert json.loads(desk.run("callbacks", "rejected", "--json", "--limit", "1").stdout) == found[:1]


def terminal(monkeypatch: pytest.MonkeyPatch, desk: LocalDesk, width: int) -> str:
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    monkeypatch.setattr(callbacks, "out", console)
    result = desk.run("callbacks", "rejected")
    assert result.exit_code == 0, result.output
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_on_a_terminal_it_says_what_to_do_once(monkeypatch: pytest.MonkeyPatch, desk: LocalDesk) -> None:
    newest, older, _ = desk.with_records(rejected)
    told = terminal(monkeypatch, desk, 120)
    table, *messages = told.split("\n\n")
    assert [line.split()[0] for line in table.splitlines()] == ["job", newest.job_id, older.job_id, older.job_id]
    assert [message.strip() for message in messages] == [f"wrong_secret: {WRONG}", "clock_skew: 400 s ahead"]
    narrow = terminal(monkeypatch, desk, 60)
    assert newest.job_id in narrow
    assert "2026-09-21" not in narrow


def test_when_there_are_none_a_terminal_says_so(monkeypatch: pytest.MonkeyPatch, desk: LocalDesk) -> None:
    result = desk.run("callbacks", "rejected")
    assert (result.exit_code, result.stdout) == (0, "")
    assert json.loads(desk.run("callbacks", "rejected", "--json").stdout) == []
    assert terminal(monkeypatch, desk, 80) == "no rejected callbacks\n"


def test_what_cannot_be_a_job_is_told(desk: LocalDesk) -> None:
    assert "must be its id, job_…" in desk.fails("callbacks", "rejected", "--job", "x", code=2)
    assert "rejected" in desk.run("callbacks").output
