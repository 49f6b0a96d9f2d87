"""A job as people read it at a terminal."""

from __future__ import annotations

import io
import json
from collections.abc import Awaitable, Callable

import pytest
from rich.console import Console

from service.commands import account, jobs
from service.commands.desk import View
from service.model import ErrorCode, Job, State
from service.records import Records
from service.web.status.advice import ON_PAGES, advice
from tests.main.shell import LocalDesk, RemoteDesk
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
        (queued, ["queued", "It waits for its turn to be submitted to openrouter."]),
        (in_doubt, ["submitting", "run `reelkeeper jobs attach {id} PROVIDER_JOB_ID`", "job.in_doubt"]),
        (running, ["running", "openrouter (gen-1, pending)", "a callback or a poll tells how it ends"]),
        (refused, ["failed", "invalid_request: no such size", "Its caller must act: openrouter does not take this"]),
        (unavailable, ["output_unavailable", "Then run `reelkeeper jobs remirror {id}`, which", "source=poll"]),
        (completed, ["completed", "The video is kept.", f"SHA-256 {'ab' * 32}", "job.completed"]),
        (told, ["cancelled", "What its caller was told", "https://backend.example.com:443"]),
    ],
)
def test_a_terminal_is_told_how_a_job_is_why_and_what_to_do(
    made: Callable[[Records], Awaitable[Job]], words: list[str], desk: LocalDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = desk.with_records(made)
    said = " ".join(shown(desk, monkeypatch, job).split())
    for each in (job.id, "tenant", "What happened", "job.queued", *words):
        assert each.format(id=job.id) in said
    assert "\x1b" not in said


def test_a_job_that_was_retried_names_its_retry_where_the_database_is(
    desk: LocalDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = desk.with_records(refused)
    retry = json.loads(desk.run("jobs", "retry", job.id, "--json").stdout)["id"]
    local = not isinstance(desk, RemoteDesk)
    assert (f"retried by {retry}" in " ".join(shown(desk, monkeypatch, job).split())) == local
    assert f"retry of {job.id}" in " ".join(shown(desk, monkeypatch, desk_job(desk, retry)).split())


def desk_job(desk: LocalDesk, job_id: str) -> Job:
    job = desk.with_records(lambda records: records.store.job(job_id))
    assert job is not None
    return job


def test_a_hostile_prompt_steers_no_terminal(desk: LocalDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    job = desk.with_records(lambda records: queued(records, "[red]\x1b]0;title\x07m"))
    said = shown(desk, monkeypatch, job)
    assert "[red]\ufffd]0;title\ufffdm" in said
    assert "\x1b" not in said


def test_states_have_colours_where_there_are_any(desk: LocalDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b[1;31mfailed" in shown(desk, monkeypatch, desk.with_records(refused), colours=True)


def ended(code: ErrorCode) -> View:
    return {"id": "job_1", "state": "failed", "provider": "p", "error": {"code": code}}


@pytest.mark.parametrize("code", ErrorCode)
def test_a_terminal_advises_what_the_page_does_with_commands_for_buttons(code: ErrorCode) -> None:
    there = advice(code, "p", ON_PAGES)
    for button, command in (
        ("press Retry", "run `reelkeeper jobs retry job_1`"),
        ("press Remirror", "run `reelkeeper jobs remirror job_1`"),
        ("press Attach and give its id", "run `reelkeeper jobs attach job_1 PROVIDER_JOB_ID`"),
        ("look at the overview", "run `reelkeeper check`"),
    ):
        there = there.replace(button, command)
    assert account.what_to_do(ended(code)) == there
    assert not {"press", "{", "}"} & set(there.replace("{", " { ").split())


def test_a_job_that_waits_is_told_what_for() -> None:
    for state in State:
        said = account.what_to_do({"id": "job_1", "state": state, "provider": "p", "error": None})
        assert bool(said) == (not state.final or state is State.COMPLETED)
