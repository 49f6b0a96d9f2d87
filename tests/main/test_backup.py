"""`reelkeeper backup`: the command, and what `serve` makes of the copy."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

from service.model import Job, VideoRequest
from service.records import Records
from service.store import Created, NewJob
from tests.main.shell import Shell


async def make_job(records: Records) -> Job:
    made = await records.store.create_job(NewJob("default", "llmgateway", VideoRequest(model="m", prompt="a kite")))
    assert isinstance(made, Created)
    return made.job


def test_a_copy_is_made_named_and_not_replaced_unasked(shell: Shell) -> None:
    shell.with_records(make_job)
    copy = shell.folder / "copy.db"
    result = shell.run("backup", str(copy))
    assert result.exit_code == 0, result.output
    source = shell.folder / "reelkeeper.db"
    assert re.fullmatch(rf"{copy}, a copy of {source} with 1 job: \d+ kB, checked, in \d+\.\d s\n", result.stdout)
    assert result.stderr == ""
    said = shell.fails("backup", str(copy))
    assert said == f"reelkeeper: {copy} is there already; name another file, or replace it with --force\n"
    assert shell.run("backup", str(copy), "--force").exit_code == 0


def test_a_copy_of_nothing_says_that_there_are_no_jobs(shell: Shell) -> None:
    shell.run("migrate")
    assert " with 0 jobs: " in shell.run("backup", str(shell.folder / "copy.db")).stdout
    told = json.loads(shell.run("backup", str(shell.folder / "other.db"), "--json").stdout)
    assert (told["database"], told["jobs"]) == (str(shell.folder / "reelkeeper.db"), 0)


def test_without_a_database_nothing_is_made(shell: Shell) -> None:
    assert "there is no database" in shell.fails("backup", str(shell.folder / "copy.db"))
    assert list(shell.folder.iterdir()) == []


def test_what_the_system_does_not_allow_is_told_with_what_to_do(shell: Shell) -> None:
    shell.with_records(make_job)
    said = shell.fails("backup", str(shell.folder / ("x" * 250)))
    assert said.startswith("reelkeeper: [Errno ")
    assert said.endswith("; name a file where you may write, with as much free space as the database has\n")
    assert said.count("\n") == 1


def test_the_original_goes_on_as_before_and_the_copy_in_doubt_once_it_is_served(shell: Shell) -> None:
    job = shell.with_records(make_job)
    copy = shell.folder / "copy.db"
    shell.run("backup", str(copy))
    original = shell.settings["REELKEEPER_DATABASE"]
    for database, state, restored in ((original, "queued", []), (f"sqlite:///{copy}", "submitting", [1])):
        shell.settings["REELKEEPER_DATABASE"] = database
        assert f"{job.id}\tqueued" in shell.run("jobs", "list").stdout  # looking into it changes nothing
        with shell.started("serve", PORT="0") as process:
            assert process.stderr is not None
            seen = []
            for line in process.stderr:
                seen.append(json.loads(line))
                if seen[-1]["event"] == "serve.started":
                    break
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=10)
        told = [each for each in seen if each["event"] == "serve.restored"]
        assert [each["in_doubt"] for each in told] == restored
        assert f"{job.id}\t{state}" in shell.run("jobs", "list").stdout
    events = json.loads(shell.run("jobs", "show", job.id).stdout)["events"]
    assert [event["type"] for event in events] == ["job.queued", "job.submitting", "job.in_doubt"]
    assert "from a backup" in events[-1]["data"]["reason"]
    assert Path(copy).stat().st_mode & 0o077 == 0
