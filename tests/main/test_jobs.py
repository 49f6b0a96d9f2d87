"""What an operator does with jobs."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable

import pytest
from rich.console import Console
from rich.text import Text

from service.commands import jobs, keys, receivers
from service.model import Artifact, ErrorCode, Job, JobError, Output, Report, Source, State, Status, VideoRequest
from service.records import Records
from service.store import Created, NewJob
from tests.main.shell import LocalDesk

JOB_ID = re.compile(r"job_[0-9a-z]{26}")


async def queued(records: Records, model: str = "google/veo-3.1") -> Job:
    created = await records.store.create_job(NewJob("studio", "openrouter", VideoRequest(model=model, prompt="a cat")))
    assert isinstance(created, Created)
    return created.job


async def submitting(records: Records) -> Job:
    job = await queued(records)
    return {each.id: each for each in await records.claims.claim_queued("openrouter", 10)}[job.id]


async def in_doubt(records: Records) -> Job:
    job = await records.claims.in_doubt(await submitting(records), "no answer")
    assert job is not None
    return job


async def running(records: Records) -> Job:
    job = await records.store.submitted((await submitting(records)).id, "gen-1", "pending", first_poll_ms=60_000)
    assert job is not None
    return job


async def refused(records: Records) -> Job:
    job = await records.claims.refused(await submitting(records), JobError(ErrorCode.INVALID_REQUEST, "no such size"))
    assert job is not None
    return job


async def unavailable(records: Records) -> Job:
    job = await running(records)
    report = Report(Status.COMPLETED, "completed", "gen-1", outputs=(Output(0),))
    await records.store.apply(job.id, report, Source.POLL, poll_ms=1, retention_ms=1)
    [job] = await records.claims.claim_mirrors("openrouter", 1)
    ended = await records.claims.give_up_mirror(job, JobError(ErrorCode.OUTPUT_UNAVAILABLE, "gone"))
    assert ended is not None
    return ended


async def completed(records: Records) -> Job:
    job = await running(records)
    report = Report(Status.COMPLETED, "completed", "gen-1", outputs=(Output(0),))
    await records.store.apply(job.id, report, Source.POLL, poll_ms=1, retention_ms=1)
    [job] = await records.claims.claim_mirrors("openrouter", 1)
    await records.claims.keep_artifact(job, Artifact(0, f"studio/{job.id}/0.mp4", 1, "ab" * 32, "video/mp4"))
    done = await records.claims.mirrored(job)
    assert done is not None
    return done


def test_jobs_are_listed_as_lines_for_programs(desk: LocalDesk) -> None:
    first, second = desk.with_records(refused), desk.with_records(queued)
    result = desk.run("jobs", "list", COLUMNS="40")
    rows = [line.split("\t") for line in result.stdout.splitlines()]
    assert [row[:4] + row[5:] for row in rows] == [
        [second.id, "queued", "openrouter", "google/veo-3.1", "", "studio"],
        [first.id, "failed", "openrouter", "google/veo-3.1", "invalid_request", "studio"],
    ]
    assert desk.run("jobs", "list", "--state", "failed").stdout.count("\n") == 1
    assert desk.run("jobs", "list", "--limit", "1").stdout.count("\n") == 1
    assert desk.run("jobs", "list", "--tenant", "nobody").stdout == ""


def test_jobs_are_listed_by_every_state_and_by_no_other_word(desk: LocalDesk) -> None:
    said = desk.fails("jobs", "list", "--state", "nonsense", code=2)
    assert "Invalid value for '--state': 'nonsense' is not one of 'queued', " in said
    for each in State:
        assert desk.run("jobs", "list", "--state", each).exit_code == 0


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--limit", "0"), "'--limit': must be greater than or equal to 1\n"),
        (("--limit", "many"), "'--limit': must be a valid integer\n"),
        (("--since", "1y"), "'--since': must be a span such as 30m, 2h, 3d or 1w, or a time such as"),
    ],
)
def test_a_wrong_value_is_told_in_our_own_words(words: tuple[str, ...], why: str, desk: LocalDesk) -> None:
    assert f"Error: Invalid value for {why}" in desk.fails("jobs", "list", *words, code=2)


@pytest.mark.parametrize("span", ["30s", "5m", "2h", "3d", "1w", "999999w"])
def test_jobs_are_listed_since_a_span_of_any_unit(span: str, desk: LocalDesk) -> None:
    job = desk.with_records(queued)
    assert desk.run("jobs", "list", "--since", span).stdout.startswith(job.id)


@pytest.mark.parametrize("columns", [60, 80, 140])
def test_ids_are_whole_on_a_narrow_terminal(columns: int, desk: LocalDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    job = desk.with_records(refused)
    terminal = io.StringIO()
    monkeypatch.setattr(jobs, "out", Console(file=terminal, force_terminal=True, width=columns))
    assert desk.run("jobs", "list").exit_code == 0
    assert JOB_ID.findall(terminal.getvalue()) == [job.id]
    assert "…" not in terminal.getvalue()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What a terminal of 80 columns shows."""
    screen = io.StringIO()
    for commands in (jobs, keys, receivers):
        monkeypatch.setattr(commands, "out", Console(file=screen, force_terminal=True, width=80))
    return screen


def lines(terminal: io.StringIO) -> list[str]:
    return Text.from_ansi(terminal.getvalue()).plain.splitlines()


def test_a_job_is_one_line_of_80_columns_and_tells_whole_seconds(desk: LocalDesk, terminal: io.StringIO) -> None:
    job = desk.with_records(unavailable)
    assert desk.run("jobs", "list").exit_code == 0
    head, row = (line.split() for line in lines(terminal))
    assert head == ["id", "state", "created", "error"]
    assert (row[0], row[1], row[3]) == (job.id, "failed", "output_unavailable")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", row[2])


def test_what_there_is_room_for_is_shown(desk: LocalDesk, terminal: io.StringIO) -> None:
    desk.with_records(lambda records: queued(records, "sora"))
    assert desk.run("jobs", "list").exit_code == 0
    assert lines(terminal)[0].split() == ["id", "state", "model", "created", "error"]


def test_a_wide_terminal_shows_how_the_prompt_begins(desk: LocalDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    async def made(records: Records, prompt: str) -> None:
        await records.store.create_job(NewJob("studio", "openrouter", VideoRequest(model="sora", prompt=prompt)))

    desk.with_records(lambda records: made(records, "A paper boat\n crosses\x1b[31m " + "a pond " * 900))
    desk.with_records(lambda records: made(records, "紙の船" * 40))
    for width, boat in ((200, "A paper boat crosses\\x1b[31m a pond"), (105, "A paper boat cr…"), (100, None)):
        screen = io.StringIO()
        monkeypatch.setattr(jobs, "out", Console(file=screen, force_terminal=True, width=width))
        assert desk.run("jobs", "list").exit_code == 0
        head, *rows = lines(screen)
        assert len(rows) == 2
        assert head.split()[-1] == ("tenant" if boat is None else "prompt")
        assert boat is None or boat in rows[1]
    monkeypatch.undo()
    assert [len(line.split("\t")) for line in desk.run("jobs", "list").stdout.splitlines()] == [7, 7]


def test_a_key_is_one_line_of_80_columns(desk: LocalDesk, terminal: io.StringIO) -> None:
    for name in ("my-backend", "ops"):
        assert desk.run("keys", "create", name).exit_code == 0
    assert desk.run("keys", "list").exit_code == 0
    head, *rows = (line.split() for line in lines(terminal))
    assert head == ["id", "name", "tenant", "role", "revoked"]
    assert [row[1:] for row in rows][-2:] == [["my-backend", "default", "caller"], ["ops", "default", "caller"]]


def test_an_empty_list_says_so_on_a_terminal_alone(desk: LocalDesk, terminal: io.StringIO) -> None:
    assert desk.run("jobs", "list").exit_code == desk.run("receivers", "list").exit_code == 0
    assert lines(terminal) == [f"no jobs {desk.where}", "every receiver takes what it is told"]
    assert desk.run("jobs", "list", "--json").exit_code == 0
    assert lines(terminal)[2:] == ["[]"]


def test_what_a_caller_named_cannot_steer_a_terminal(desk: LocalDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.with_records(lambda records: queued(records, "[/]\x1b]0;title\x07\tmodel"))
    plain = desk.run("jobs", "list").stdout
    terminal = io.StringIO()
    monkeypatch.setattr(jobs, "out", Console(file=terminal, force_terminal=True, width=140))
    assert desk.run("jobs", "list").exit_code == 0
    for shown in (plain, terminal.getvalue()):
        assert "[/]\ufffd]0;title\ufffd\ufffdmodel" in shown
        assert "\x1b]" not in shown


def test_a_job_is_shown_with_its_history_as_json(desk: LocalDesk) -> None:
    job = desk.with_records(running)
    shown = json.loads(desk.run("jobs", "show", job.id, COLUMNS="40").stdout)
    assert (shown["id"], shown["state"], shown["provider_job_id"]) == (job.id, "running", "gen-1")
    assert [event["type"] for event in shown["events"]] == ["job.queued", "job.submitting", "job.running"]


def test_what_a_caller_gave_in_confidence_is_not_shown(desk: LocalDesk) -> None:
    async def made(records: Records) -> Job:
        request = VideoRequest(
            model="m",
            first_frame="https://bucket.example/a.png?X-Amz-Signature=canary",
            last_frame="data:image/png;base64,canary",
        )
        notify = "https://hooks.example/told?token=canary"
        created = await records.store.create_job(NewJob("studio", "openrouter", request, notify_url=notify))
        assert isinstance(created, Created)
        return created.job

    said = desk.run("jobs", "show", desk.with_records(made).id).stdout
    assert json.loads(said)["request"]["first_frame"] == "https://bucket.example/a.png?…"
    assert "canary" not in said


@pytest.mark.parametrize("words", [("show",), ("cancel",), ("attach", "gen-1", "--yes"), ("remirror",)])
def test_a_job_that_is_not_there_is_told(words: tuple[str, ...], desk: LocalDesk) -> None:
    said = desk.fails("jobs", words[0], "job_[red]nope", *words[1:])
    said_of = f"there is no job job_[red]nope {desk.where}; `reelkeeper jobs list` shows the newest"
    assert said == f"reelkeeper: {said_of}\n"
    unknown = "job_" + "0" * 26
    assert f"there is no job {unknown} {desk.where}" in desk.fails("jobs", words[0], unknown, *words[1:])


def test_a_queued_job_is_cancelled_once(desk: LocalDesk) -> None:
    job = desk.with_records(queued)
    said = desk.run("jobs", "cancel", job.id).stdout
    assert said == f"{job.id} is cancelled: The job was cancelled before it was submitted; nothing is billed.\n"
    assert desk.run("jobs", "cancel", job.id).stdout == said


def test_a_submitted_job_is_not_cancelled(desk: LocalDesk) -> None:
    job = desk.with_records(running)
    said = desk.fails("jobs", "cancel", job.id)
    assert said.startswith(f"reelkeeper: {job.id}: openrouter has the job, has no way to cancel it and bills it")
    assert "gen-1" not in said
    assert state(desk, job) == "running"


def state(desk: LocalDesk, job: Job) -> str:
    return str(json.loads(desk.run("jobs", "show", job.id).stdout)["state"])


def test_an_unknown_outcome_is_bound_to_the_id_that_an_operator_found(desk: LocalDesk) -> None:
    job = desk.with_records(in_doubt)
    assert desk.run("jobs", "attach", job.id, "gen-found", "--yes").stdout == f"{job.id} is running\n"
    shown = json.loads(desk.run("jobs", "show", job.id).stdout)
    assert shown["provider_job_id"] == "gen-found"
    desk.run("jobs", "attach", job.id, "gen-right", "--yes")  # the other one was a mistake
    assert json.loads(desk.run("jobs", "show", job.id).stdout)["provider_job_id"] == "gen-right"
    known = desk.with_records(running)
    said = desk.fails("jobs", "attach", known.id, "gen-other", "--yes")
    assert f"{known.id}: The job is bound to gen-1, which is for good" in said


def test_an_id_of_another_job_is_not_bound(desk: LocalDesk) -> None:
    desk.with_records(running)
    job = desk.with_records(in_doubt)
    said = desk.fails("jobs", "attach", job.id, "gen-1", "--yes")
    assert f"{job.id}: Another job is bound to gen-1 already" in said
    assert state(desk, job) == "submitting"


@pytest.mark.parametrize(("made", "why"), [(queued, "was never submitted"), (refused, "an unknown outcome")])
def test_a_known_outcome_is_not_bound(made: Callable[[Records], Awaitable[Job]], why: str, desk: LocalDesk) -> None:
    job = desk.with_records(made)
    assert why in desk.fails("jobs", "attach", job.id, "gen-9", "--yes")


@pytest.mark.parametrize("wrong", ["", " ", "gen 1", "gen-1\n", "ä", "gen?1", "..", "x" * 513])
def test_an_id_that_no_provider_gives_is_not_bound(wrong: str, desk: LocalDesk) -> None:
    job = desk.with_records(in_doubt)
    assert "1 to 512 letters, digits or ._~:/-" in desk.fails("jobs", "attach", job.id, wrong, code=2)
    assert state(desk, job) == "submitting"


def test_an_output_that_was_given_up_is_copied_again(desk: LocalDesk) -> None:
    job = desk.with_records(unavailable)
    assert desk.run("jobs", "remirror", job.id).stdout == f"{job.id} is mirroring\n"
    said = desk.fails("jobs", "remirror", job.id)
    assert f"{job.id}: The job is mirroring; only the video of a job that is failed with output_un" in said


@pytest.mark.parametrize("made", [queued, refused, completed])
def test_nothing_else_is_copied_again(made: Callable[[Records], Awaitable[Job]], desk: LocalDesk) -> None:
    job = desk.with_records(made)
    assert "only the video of a job that is failed with output_unavailable" in desk.fails("jobs", "remirror", job.id)
    assert state(desk, job) == job.state


def test_a_reader_that_goes_away_is_no_error_to_speak_of(desk: LocalDesk) -> None:
    desk.with_records(queued)
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "service", "jobs", "list"],
        cwd=desk.folder,
        env=desk.environment(),
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    assert done.stderr == ""


def test_a_job_that_brought_no_video_is_made_again(desk: LocalDesk) -> None:
    job = desk.with_records(refused)
    said = desk.run("jobs", "retry", job.id).stdout
    new_id = JOB_ID.findall(said)[0]
    assert said == f"{new_id} is queued: a new job like {job.id}\n"
    again = desk.with_records(lambda records: records.store.job(new_id))
    assert again is not None
    assert (again.retry_of, again.request) == (job.id, job.request)


def test_a_job_is_made_again_once_however_often_it_is_asked_for(desk: LocalDesk) -> None:
    job = desk.with_records(refused)
    new_id = json.loads(desk.run("jobs", "retry", job.id, "--json").stdout)["id"]
    said = f"{job.id} was retried before, and no other job was made"
    assert desk.run("jobs", "retry", job.id).stdout == f"{new_id} is queued: {said}\n"
    desk.with_records(lambda records: records.store.cancel(new_id))
    more = f"`reelkeeper jobs retry {new_id}` repeats that one"
    assert desk.run("jobs", "retry", job.id).stdout == f"{new_id} is cancelled: {said}; {more}\n"
    assert JOB_ID.findall(desk.run("jobs", "retry", new_id).stdout)[0] not in (new_id, job.id)
    assert len(desk.run("jobs", "list").stdout.splitlines()) == 3


def test_a_job_whose_retry_was_deleted_says_how_another_one_is_made(desk: LocalDesk) -> None:
    job = desk.with_records(refused)
    new_id = json.loads(desk.run("jobs", "retry", job.id, "--json").stdout)["id"]

    async def delete(records: Records) -> bool:
        cancelled = await records.store.cancel(new_id)
        return cancelled is not None and await records.store.delete(cancelled)

    assert desk.with_records(delete)
    said = f"{job.id}: it was retried before, and that job was deleted since; POST /v1/jobs/{job.id}/retry with an "
    assert said in desk.fails("jobs", "retry", job.id)


def test_a_job_that_goes_on_is_not_made_again(desk: LocalDesk) -> None:
    job = desk.with_records(queued)
    assert "only a job that ended without one can be asked for again" in desk.fails("jobs", "retry", job.id)


def test_a_caller_who_named_no_address_is_told_nothing(desk: LocalDesk) -> None:
    job = desk.with_records(refused)
    assert "has no notify_url" in desk.fails("jobs", "redeliver", job.id)


async def told(records: Records) -> Job:
    request = VideoRequest(model="google/veo-3.1", prompt="a cat")
    created = await records.store.create_job(
        NewJob("studio", "openrouter", request, notify_url="https://backend.example.com/done")
    )
    assert isinstance(created, Created)
    ended = await records.store.cancel(created.job.id)
    assert ended is not None
    return ended


def test_a_message_is_sent_once_more(desk: LocalDesk) -> None:
    job = desk.with_records(told)
    said = desk.run("jobs", "redeliver", job.id).stdout
    assert said == f"evt_{job.id} is owed to https://backend.example.com:443 again\n"
    [(delivery, _)] = desk.with_records(lambda records: records.deliveries.of(job.id))
    assert delivery.state == "pending"
