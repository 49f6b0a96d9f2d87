"""The command line, as operators and their scripts meet it."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from service import __main__ as command_line
from service.assembly import Records, listen, open_records
from service.config import SETTINGS, Config
from service.model import Artifact, ErrorCode, Job, JobError, Output, Report, Source, State, Status, VideoRequest
from service.store import NewJob
from tests.test_docs import commands

ROOT = Path(__file__).parent.parent
JOB_ID = re.compile(r"job_[0-9a-z]{26}")


class Shell:
    """Runs `reelkeeper` with the settings of one service, in this process or as one of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = {
            "REELKEEPER_PUBLIC_URL": "http://127.0.0.1:8080",
            "REELKEEPER_SECRET_KEY": secrets.token_urlsafe(32),
            "REELKEEPER_DATABASE": f"sqlite:///{folder / 'reelkeeper.db'}",
            "REELKEEPER_STORAGE": str(folder / "videos"),
            "OPENROUTER_API_KEY": "sk-or-v1-canary",
        }

    def run(self, *words: str, **settings: str | None) -> Result:
        env: dict[str, str | None] = {**dict.fromkeys(SETTINGS), **self.settings, **settings}
        return CliRunner().invoke(command_line.app, words, env=env)

    def fails(self, *words: str, code: int = 1, **settings: str | None) -> str:
        """Run a command that must fail with `code`; return what it says on standard error."""
        result = self.run(*words, **settings)
        assert (result.exit_code, result.stdout) == (code, ""), result.output
        assert "Traceback" not in result.stderr
        return result.stderr

    def environment(self, **settings: str) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if name not in SETTINGS}
        return {**inherited, "PYTHONPATH": str(ROOT), **self.settings, **settings}

    @contextmanager
    def started(self, *words: str, **settings: str) -> Iterator[subprocess.Popen[str]]:
        """Run a command as a process of its own while the block lasts."""
        with subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-m", "service", *words],
            cwd=self.folder,
            env=self.environment(**settings),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def with_records(self, work: Callable[[Records], Awaitable[Job]]) -> Job:
        async def run() -> Job:
            async with open_records(Config.read(self.settings)) as records:
                return await work(records)

        return asyncio.run(run())


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


# Help


@pytest.mark.parametrize("words", [(), ("keys",), ("jobs",), *(name.split() for name in commands())])
def test_every_command_explains_itself(words: tuple[str, ...], shell: Shell) -> None:
    result = shell.run(*words, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.stdout


def test_a_mistyped_command_is_told(shell: Shell) -> None:
    assert "No such command 'serv'" in shell.fails("serv", code=2)


# Settings


def test_every_mistake_in_the_settings_is_told_at_once(shell: Shell) -> None:
    wrong = {"REELKEEPER_PUBLIC_URL": "http://videos.example.com", "REELKEEPER_SECRET_KEY": None, "PORT": "66000"}
    said = shell.fails("serve", code=2, **wrong, REELKEEPER_DATABSE="x", OPENROUTER_API_KEY=None).splitlines()
    assert all(line.startswith("reelkeeper: ") for line in said)
    named = [line.split()[1] for line in said]
    assert set(named) == {
        "REELKEEPER_PUBLIC_URL",
        "REELKEEPER_SECRET_KEY",
        "REELKEEPER_DATABSE",
        "OPENROUTER_API_KEY",
        "PORT",
    }
    assert "did you mean REELKEEPER_DATABASE?" in "\n".join(said)


@pytest.mark.parametrize(
    "words",
    [("check",), ("migrate",), ("keys", "list"), ("keys", "create", "x"), ("jobs", "list"), ("jobs", "show", "x")],
)
def test_no_command_works_with_wrong_settings(words: tuple[str, ...], shell: Shell) -> None:
    assert "REELKEEPER_SECRET_KEY must be set" in shell.fails(*words, code=2, REELKEEPER_SECRET_KEY=None)


# The database


def test_migrate_makes_the_database_and_its_folder_and_may_be_repeated(shell: Shell) -> None:
    path = shell.folder / "not" / "there" / "yet.db"
    for _ in range(2):
        result = shell.run("migrate", REELKEEPER_DATABASE=f"sqlite:///{path}")
        assert (result.exit_code, result.stdout) == (0, f"{path} is up to date\n")
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("words", [("migrate",), ("keys", "list"), ("jobs", "list"), ("serve",)])
def test_a_file_that_is_no_database_is_told_and_left_alone(words: tuple[str, ...], shell: Shell) -> None:
    path = shell.folder / "notes.txt"
    path.write_text("no database " * 1000)
    said = shell.fails(*words, code=2, REELKEEPER_DATABASE=f"sqlite:///{path}", PORT="0")
    assert str(path) in said
    assert "is not a database" in said
    assert path.read_text() == "no database " * 1000


def test_a_folder_where_a_database_should_be_is_told(shell: Shell) -> None:
    said = shell.fails("migrate", code=2, REELKEEPER_DATABASE=f"sqlite:///{shell.folder}")
    assert f"REELKEEPER_DATABASE: {shell.folder} " in said


# Keys


def test_the_key_is_all_of_standard_output(shell: Shell) -> None:
    result = shell.run("keys", "create", "my-backend")
    assert result.exit_code == 0
    assert re.fullmatch(r"rk_[A-Za-z0-9]{43}\n", result.stdout)
    assert "a key for my-backend, tenant default" in result.stderr


def test_a_shell_can_keep_the_key_in_a_variable(shell: Shell) -> None:
    script = f'KEY=$("{sys.executable}" -m service keys create x --tenant studio 2>/dev/null) && echo "[$KEY]"'
    said = subprocess.run(  # noqa: S603 - our own line
        ["/bin/sh", "-c", script], cwd=shell.folder, env=shell.environment(), capture_output=True, text=True, check=True
    )
    assert re.fullmatch(r"\[rk_[A-Za-z0-9]{43}\]\n", said.stdout)


def test_keys_are_listed_without_themselves_and_revoked(shell: Shell) -> None:
    keys = [
        shell.run("keys", "create", "Jane's [red]backend", "--tenant", "studio").stdout.strip(),
        shell.run("keys", "create", "ops", "--operator").stdout.strip(),
    ]
    listed = shell.run("keys", "list")
    rows = [line.split("\t") for line in listed.stdout.splitlines()]
    assert [row[1:4] for row in rows] == [
        ["Jane's [red]backend", "studio", "caller"],
        ["ops", "default", "operator"],
    ]
    assert not any(key[3:] in listed.output for key in keys)

    assert shell.run("keys", "revoke", rows[0][0]).stdout == f"{rows[0][0]} is revoked\n"
    assert [bool(line.split("\t")[5]) for line in shell.run("keys", "list").stdout.splitlines()] == [True, False]
    said = shell.fails("keys", "revoke", rows[0][0])
    assert said == f"reelkeeper: there is no valid key {rows[0][0]}; `reelkeeper keys list` shows them\n"


@pytest.mark.parametrize("tenant", ["", "Studio", "a/b", "..", "-a", "a" * 64, "ä"])
def test_a_tenant_that_could_not_be_part_of_a_path_is_refused(tenant: str, shell: Shell) -> None:
    assert "for example --tenant studio" in shell.fails("keys", "create", "x", f"--tenant={tenant}", code=2)


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "\x1b[31m"])
def test_a_name_that_nobody_could_read_is_refused(name: str, shell: Shell) -> None:
    assert "NAME must be text on one line" in shell.fails("keys", "create", name, code=2)


# Jobs


async def queued(records: Records, model: str = "google/veo-3.1") -> Job:
    created = await records.store.create_job(NewJob("studio", "openrouter", VideoRequest(model=model, prompt="a cat")))
    assert not hasattr(created, "job_id")
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


def test_jobs_are_listed_as_lines_for_programs(shell: Shell) -> None:
    first, second = shell.with_records(refused), shell.with_records(queued)
    result = shell.run("jobs", "list", COLUMNS="40")
    rows = [line.split("\t") for line in result.stdout.splitlines()]
    assert [row[:4] + row[5:] for row in rows] == [
        [second.id, "queued", "openrouter", "google/veo-3.1", ""],
        [first.id, "failed", "openrouter", "google/veo-3.1", "invalid_request"],
    ]
    assert shell.run("jobs", "list", "--state", "failed").stdout.count("\n") == 1
    assert shell.run("jobs", "list", "--limit", "1").stdout.count("\n") == 1
    assert shell.run("jobs", "list", "--tenant", "nobody").stdout == ""


def test_jobs_are_listed_by_every_state_and_by_no_other_word(shell: Shell) -> None:
    assert "'queued'" in shell.fails("jobs", "list", "--state", "nonsense", code=2)
    for each in State:
        assert shell.run("jobs", "list", "--state", each).exit_code == 0


@pytest.mark.parametrize("columns", [60, 80, 140])
def test_ids_are_whole_on_a_narrow_terminal(columns: int, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    job = shell.with_records(refused)
    terminal = io.StringIO()
    monkeypatch.setattr(command_line, "_out", Console(file=terminal, force_terminal=True, width=columns))
    assert shell.run("jobs", "list").exit_code == 0
    assert JOB_ID.findall(terminal.getvalue()) == [job.id]
    assert "…" not in terminal.getvalue()


def test_what_a_caller_named_cannot_steer_a_terminal(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.with_records(lambda records: queued(records, "[/]\x1b]0;title\x07\tmodel"))
    plain = shell.run("jobs", "list").stdout
    terminal = io.StringIO()
    monkeypatch.setattr(command_line, "_out", Console(file=terminal, force_terminal=True, width=140))
    assert shell.run("jobs", "list").exit_code == 0
    for shown in (plain, terminal.getvalue()):
        assert "[/]\ufffd]0;title\ufffd\ufffdmodel" in shown
        assert "\x1b]" not in shown


def test_a_job_is_shown_with_its_history_as_json(shell: Shell) -> None:
    job = shell.with_records(running)
    shown = json.loads(shell.run("jobs", "show", job.id, COLUMNS="40").stdout)
    assert (shown["id"], shown["state"], shown["provider_job_id"]) == (job.id, "running", "gen-1")
    assert [event["type"] for event in shown["events"]] == ["job.queued", "job.submitting", "job.running"]


@pytest.mark.parametrize("words", [("show",), ("cancel",), ("attach", "gen-1"), ("remirror",)])
def test_a_job_that_is_not_there_is_told(words: tuple[str, ...], shell: Shell) -> None:
    said = shell.fails("jobs", words[0], "job_[red]nope", *words[1:])
    assert said == "reelkeeper: there is no job job_[red]nope; `reelkeeper jobs list` shows the newest\n"


def test_a_queued_job_is_cancelled_once(shell: Shell) -> None:
    job = shell.with_records(queued)
    assert shell.run("jobs", "cancel", job.id).stdout == f"{job.id} is cancelled\n"
    said = shell.fails("jobs", "cancel", job.id)
    assert said.startswith(f"reelkeeper: {job.id} is cancelled (cancelled): only a queued job can be cancelled")


def test_a_submitted_job_is_not_cancelled(shell: Shell) -> None:
    job = shell.with_records(running)
    said = shell.fails("jobs", "cancel", job.id)
    assert f"{job.id} is running, and has the provider's id gen-1: only a queued job can be cancelled" in said
    assert state(shell, job) == "running"


def state(shell: Shell, job: Job) -> str:
    return str(json.loads(shell.run("jobs", "show", job.id).stdout)["state"])


def test_an_unknown_outcome_is_bound_to_the_id_that_an_operator_found(shell: Shell) -> None:
    job = shell.with_records(in_doubt)
    assert shell.run("jobs", "attach", job.id, "gen-found").stdout == f"{job.id} is running\n"
    shown = json.loads(shell.run("jobs", "show", job.id).stdout)
    assert shown["provider_job_id"] == "gen-found"
    said = shell.fails("jobs", "attach", job.id, "gen-other")
    assert f"{job.id} is running, and has the provider's id gen-found: only a submission with an unknown" in said


def test_an_id_of_another_job_is_not_bound(shell: Shell) -> None:
    shell.with_records(running)
    job = shell.with_records(in_doubt)
    said = shell.fails("jobs", "attach", job.id, "gen-1")
    assert f"{job.id} is submitting: " in said
    assert "only to an id that no other job has" in said


@pytest.mark.parametrize("made", [queued, refused])
def test_a_known_outcome_is_not_bound(made: Callable[[Records], Awaitable[Job]], shell: Shell) -> None:
    job = shell.with_records(made)
    assert "only a submission with an unknown outcome can be bound" in shell.fails("jobs", "attach", job.id, "gen-9")


@pytest.mark.parametrize("wrong", ["", " ", "gen 1", "gen-1\n", "ä", "x" * 201])
def test_an_id_that_no_provider_gives_is_not_bound(wrong: str, shell: Shell) -> None:
    job = shell.with_records(in_doubt)
    assert "1 to 200 visible ASCII characters" in shell.fails("jobs", "attach", job.id, wrong, code=2)
    assert state(shell, job) == "submitting"


def test_an_output_that_was_given_up_is_copied_again(shell: Shell) -> None:
    job = shell.with_records(unavailable)
    assert shell.run("jobs", "remirror", job.id).stdout == f"{job.id} is mirroring\n"
    said = shell.fails("jobs", "remirror", job.id)
    assert f"{job.id} is mirroring, and has the provider's id gen-1: only a job that failed with output_un" in said


@pytest.mark.parametrize("made", [queued, refused, completed])
def test_nothing_else_is_copied_again(made: Callable[[Records], Awaitable[Job]], shell: Shell) -> None:
    job = shell.with_records(made)
    assert "only a job that failed with output_unavailable" in shell.fails("jobs", "remirror", job.id)
    assert state(shell, job) == job.state


def test_a_reader_that_goes_away_is_no_error_to_speak_of(shell: Shell) -> None:
    shell.with_records(queued)
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "service", "jobs", "list"],
        cwd=shell.folder,
        env=shell.environment(),
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    assert done.stderr == ""


# Serving


def log_line(process: subprocess.Popen[str], event: str) -> Mapping[str, str]:
    """Read the log until an event comes."""
    assert process.stderr is not None
    for line in process.stderr:
        entry: Mapping[str, str] = json.loads(line)
        if entry["event"] == event:
            return entry
    pytest.fail(f"the process ended with {process.wait()} before {event}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_answers_on_port_and_ends_well_on_a_signal(number: signal.Signals, shell: Shell) -> None:
    with listen("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    with shell.started("serve", PORT=str(port)) as process:
        started = log_line(process, "serve.started")
        assert started["address"] == f"http://127.0.0.1:{port}"
        for path in ("/healthz", "/readyz"):
            answer = httpx.get(started["address"] + path, trust_env=False, timeout=10)
            assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
        process.send_signal(number)
        rest, said = process.communicate(timeout=10)
        assert process.returncode == 0
    assert rest == ""
    assert [json.loads(line)["event"] for line in said.splitlines()][-1] == "serve.stopped"
    assert "canary" not in said


def test_a_taken_port_is_a_sentence(shell: Shell) -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        said = shell.fails("serve", PORT=str(port))
        assert said == (
            f"reelkeeper: cannot listen on 127.0.0.1, port {port}: Address already in use; "
            "set PORT or --host to another one\n"
        )
        said = shell.fails("sandbox", "--port", str(port))
        assert said.endswith("Address already in use; choose another one with --port or --host\n")


@pytest.mark.parametrize("host", ["nonsense.invalid", "::zz", "1.2.3.4.5", "a" * 64, "a..b", "192.0.2.1"])
def test_a_host_that_is_not_this_machine_is_a_sentence(host: str, shell: Shell) -> None:
    said = shell.fails("serve", "--host", host, PORT="0")
    assert said.startswith(f"reelkeeper: cannot listen on {host}, port 0: ")
    assert said.endswith("; set PORT or --host to another one\n")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    "words", [("sandbox", "--port", "65536"), ("demo", "--port", "-1"), ("sandbox", "--speed", "0")]
)
def test_a_number_out_of_range_is_told(words: tuple[str, ...], shell: Shell) -> None:
    assert words[1] in shell.fails(*words, code=2)


# Check, sandbox, demo


def test_check_ends_with_1_when_something_is_ill(shell: Shell) -> None:
    with listen("127.0.0.1", 0) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    result = shell.run("check", REELKEEPER_PUBLIC_URL=url)
    assert result.exit_code == 1
    marks = [(line[:4].strip(), line[5:].partition(":")[0]) for line in result.stdout.splitlines()]
    assert marks == [("ok", "settings"), ("ok", "database"), ("ok", "storage"), ("FAIL", "public URL")]


def test_check_ends_with_0_when_the_service_is_well(shell: Shell) -> None:
    with listen("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    settings = {"PORT": str(port), "REELKEEPER_PUBLIC_URL": f"http://127.0.0.1:{port}"}
    with shell.started("serve", **settings) as process:
        log_line(process, "serve.started")
        result = shell.run("check", **settings)
    assert result.exit_code == 0
    assert [line[:4] for line in result.stdout.splitlines()] == ["ok  "] * 4


def test_the_lines_of_the_sandbox_point_a_service_at_it(shell: Shell) -> None:
    options = ("--port", "0", "--webhook-secret", "it's a secret", "--api-key", "key$HOME")
    with shell.started("sandbox", *options) as process:
        assert process.stdout is not None
        said = ""
        while "LLMGATEWAY_API_KEY" not in said:
            line = process.stdout.readline()
            assert line, "the sandbox ended"
            said += line
        exports = "".join(line for line in said.splitlines(keepends=True) if line.startswith("export "))
        shown = subprocess.run(  # noqa: S603 - our own lines
            ["/bin/sh", "-c", exports + "env"], env={}, capture_output=True, text=True, check=True
        ).stdout
        env = dict(line.split("=", 1) for line in shown.splitlines())
        assert env["OPENROUTER_WEBHOOK_SECRET"] == "it's a secret"
        assert env["OPENROUTER_API_KEY"] == env["LLMGATEWAY_API_KEY"] == "key$HOME"
        for base, path in (("OPENROUTER_BASE_URL", "/videos/models"), ("LLMGATEWAY_BASE_URL", "/models")):
            assert httpx.get(env[base] + path, trust_env=False).status_code == 200
        process.terminate()
        assert process.wait(timeout=10) == 0


def test_a_folder_that_cannot_be_is_told(shell: Shell) -> None:
    (shell.folder / "file").write_text("in the way")
    said = shell.fails("demo", "--once", "--folder", str(shell.folder / "file"))
    assert said == (
        f"reelkeeper: --folder {shell.folder / 'file'} cannot be used: File exists; choose one that may be written\n"
    )


def test_the_demonstration_ends_well_and_the_files_that_it_names_are_whole(shell: Shell) -> None:
    with shell.started("demo", "--once", "--port", "0", "--folder", str(shell.folder / "show")) as process:
        said, complaints = process.communicate(timeout=120)
    assert (process.returncode, complaints) == (0, "")
    assert "16 of 16 jobs ended as they should." in said
    assert "1 forged (0 believed)" in said
    assert "\x1b" not in said
    assert "…" not in said
    kept = re.findall(r"^ *(\d+)  ([0-9a-f]{64})  (/.*)$", said, re.MULTILINE)
    assert len(kept) == 14
    for size, sha256, path in kept:
        content = Path(path).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (int(size), sha256)
    assert shell.folder / "show" / "videos" in Path(kept[0][2]).parents


def test_the_demonstration_can_be_stopped_before_its_end(shell: Shell) -> None:
    with shell.started("demo", "--port", "0", "--folder", str(shell.folder / "show")) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("16 jobs go through trouble")
        process.send_signal(signal.SIGINT)
        said, complaints = process.communicate(timeout=20)
    assert (process.returncode, complaints) == (1, "")
    assert "Stopped before every job had ended." in said
