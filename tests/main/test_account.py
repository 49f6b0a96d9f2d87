"""A job as people read it at a terminal."""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable

import pytest
from rich.console import Console

from service.assembly import Records
from service.commands import account, jobs
from service.commands.account import span
from service.model import ErrorCode, Job, State
from tests.main.shell import LocalDesk
from tests.main.test_jobs import completed, in_doubt, queued, refused, running, told, unavailable


def shown(desk: LocalDesk, monkeypatch: pytest.MonkeyPatch, job: Job, *, colours: bool = False) -> str:
    console = Console(file=io.StringIO(), force_terminal=True, width=200, color_system="standard" if colours else None)
    monkeypatch.setattr(jobs, "out", console)
    result = desk.run("jobs", "show", job.id)
    assert result.exit_code == 0, result.output
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (queued, ["queued", "it is submitted as soon as openrouter takes it"]),
        (in_doubt, ["submitting", "reelkeeper jobs attach {id} PROVIDER_JOB_ID", "job.in_doubt"]),
        (running, ["running", "openrouter (gen-1, pending)", "a callback or a poll tells how it ends"]),
        (refused, ["failed", "invalid_request: no such size", "its caller corrects the request"]),
        (unavailable, ["output_unavailable", "reelkeeper jobs remirror {id}", "source=poll"]),
        (completed, ["completed", "nothing: the video is kept", f"SHA-256 {'ab' * 32}", "job.completed"]),
        (told, ["cancelled", "What its caller was told", "https://backend.example.com:443"]),
    ],
)
def test_a_terminal_is_told_how_a_job_is_why_and_what_to_do(
    made: Callable[[Records], Awaitable[Job]], words: list[str], desk: LocalDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = desk.with_records(made)
    said = shown(desk, monkeypatch, job)
    for each in (job.id, "tenant", "What happened", "job.queued", *words):
        assert each.format(id=job.id) in said
    assert "\x1b" not in said


def test_a_hostile_prompt_steers_no_terminal(desk: LocalDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    job = desk.with_records(lambda records: queued(records, "[red]\x1b]0;title\x07m"))
    said = shown(desk, monkeypatch, job)
    assert "[red]\ufffd]0;title\ufffdm" in said
    assert "\x1b" not in said


def test_states_have_colours_where_there_are_any(desk: LocalDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b[1;31mfailed" in shown(desk, monkeypatch, desk.with_records(refused), colours=True)


def test_there_is_something_to_do_about_every_error_and_every_state() -> None:
    for code in ErrorCode:
        ended = {"id": "job_1", "state": "failed", "provider": "p", "error": {"code": code}}
        assert "{" not in account.what_to_do(ended)
    for state in State:
        assert account.what_to_do({"id": "job_1", "state": state, "provider": "p", "error": None})


@pytest.mark.parametrize(
    ("milliseconds", "said"),
    [(0, "0.0 s"), (59_900, "59.9 s"), (61_000, "1 min 1 s"), (7_500_000, "2 h 5 min"), (200_000_000, "2 d 7 h")],
)
def test_durations_are_said_as_people_do(milliseconds: int, said: str) -> None:
    assert span(milliseconds) == said
