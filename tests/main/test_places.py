"""Which place a command works at, with which key, and what it asks first."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from service.commands import places
from tests.main.shell import RemoteDesk, Shell
from tests.main.test_jobs import in_doubt, queued, refused

COMMANDS = (("jobs", "list"), ("keys", "list"), ("callbacks", "rejected"), ("receivers", "list"), ("check",))


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[RemoteDesk]:
    desk = RemoteDesk(tmp_path)
    with desk.served():
        yield desk


def test_the_key_comes_from_a_file_from_standard_input_or_from_the_environment(remote: RemoteDesk) -> None:
    path = remote.folder / "key"
    path.write_text(f"{remote.key}\n")
    without: dict[str, str | None] = {"REELKEEPER_API_KEY": None, "REELKEEPER_URL": None}
    where = ("keys", "list", "--url", remote.url)
    for words in ((*where, "--key-file", str(path)), (*where, "--key-file", "-")):
        remote.typed = f"{remote.key}\n"
        assert remote.run(*words, **without).exit_code == 0
    assert remote.run(*where, REELKEEPER_URL=None).exit_code == 0
    assert remote.run("keys", "list", REELKEEPER_API_KEY="rk_wrong", REELKEEPER_URL=remote.url).exit_code == 1


@pytest.mark.parametrize("words", COMMANDS)
def test_a_key_that_is_none_is_told(words: tuple[str, ...], remote: RemoteDesk) -> None:
    assert "set REELKEEPER_API_KEY" in remote.fails(*words, code=2, REELKEEPER_API_KEY=None)
    remote.typed = "two words\n"
    assert "must hold an API key and nothing else" in remote.fails(*words, "--key-file", "-", code=2)
    assert "cannot be read: No such file" in remote.fails(*words, "--key-file", str(remote.folder / "no"), code=2)
    said = remote.run(*words, REELKEEPER_API_KEY="rk_canary")
    assert said.exit_code == 1
    assert "unknown or was revoked" in said.output
    assert "canary" not in said.output


def test_who_sits_at_a_terminal_is_asked_for_the_key(remote: RemoteDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "asked", lambda: True)
    monkeypatch.setattr(typer, "prompt", lambda *_, hide_input, err: remote.key if hide_input and err else "")
    assert remote.run("keys", "list", REELKEEPER_API_KEY=None).exit_code == 0


def test_a_url_that_others_could_listen_at_is_refused(shell: Shell) -> None:
    for url in ("http://videos.example.com", "nonsense"):
        assert "for example --url https://videos.example.com" in shell.fails("jobs", "list", "--url", url, code=2)
    said = shell.fails("jobs", "list", code=2, REELKEEPER_URL="http://videos.example.com")
    assert "REELKEEPER_URL must begin with https://" in said


def test_a_service_that_is_not_there_is_told(shell: Shell) -> None:
    said = shell.fails("jobs", "list", "--url", "http://127.0.0.1:9", REELKEEPER_API_KEY="rk_canary")
    assert said.startswith("reelkeeper: no answer came from http://127.0.0.1:9: connect error")
    assert said.count("\n") == 1


@pytest.mark.parametrize("words", [("backup", "copy.db"), ("migrate",), ("keys", "delivery-secret")])
def test_what_only_the_services_machine_can_do_says_so(words: tuple[str, ...], shell: Shell) -> None:
    said = shell.fails(*words, "--url", "https://videos.example.com", code=2)
    assert "works on the service's own machine alone; run it there, without --url" in said
    offered = shell.run(*words[:2] if words[0] == "keys" else words[:1], "--help").stdout
    assert "--url" not in offered
    assert "service's own machine" in " ".join(offered.split())
    here = shell.run("migrate", REELKEEPER_URL="https://videos.example.com")
    assert (here.exit_code, "REELKEEPER_URL is not asked" in here.stderr) == (0, True)


def test_a_tenants_key_sees_what_is_its_own(remote: RemoteDesk) -> None:
    job = remote.with_records(queued)
    keys = [json.loads(remote.run("keys", "create", "x", "--tenant", name, "--json").stdout)["key"] for name in "ab"]
    own = json.loads(remote.run("keys", "create", "x", "--tenant", "studio", "--json").stdout)["key"]
    assert remote.run("jobs", "list", REELKEEPER_API_KEY=own).stdout.startswith(job.id)
    assert remote.run("jobs", "list", REELKEEPER_API_KEY=keys[0]).stdout == ""
    assert "there is no job" in remote.fails("jobs", "show", job.id, REELKEEPER_API_KEY=keys[1])
    assert "operator" in remote.fails("jobs", "list", "--tenant", "studio", REELKEEPER_API_KEY=keys[0])
    assert "operator" in remote.fails("keys", "list", REELKEEPER_API_KEY=own)


def test_a_running_service_is_checked_from_outside(remote: RemoteDesk) -> None:
    found = json.loads(remote.run("check", "--json").stdout)
    assert [(each["part"], each["state"]) for each in found] == [
        ("service", "ok"),
        ("clock", "ok"),
        ("version", "ok"),
        ("API key", "ok"),
        ("jobs", "ok"),
        ("callbacks", "ok"),
    ]
    own = json.loads(remote.run("keys", "create", "x", "--tenant", "studio", "--json").stdout)["key"]
    assert "tenant studio" in remote.run("check", REELKEEPER_API_KEY=own).stdout
    wrong = remote.run("check", REELKEEPER_API_KEY="rk_canary")
    assert wrong.exit_code == 1
    assert "FAIL API key: This API key is unknown or was revoked" in wrong.stdout


def test_who_sits_at_a_terminal_is_asked_before_money_is_spent(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    job = shell.with_records(refused)
    monkeypatch.setattr("service.commands.asked", lambda: True)
    shell.typed = "n\n"
    said = shell.run("jobs", "retry", job.id)
    assert (said.exit_code, "may cost once more. Do it? [y/N]" in said.stderr) == (1, True)
    assert said.stderr.endswith("nothing was done\n")
    assert shell.run("jobs", "attach", job.id, "gen-1").exit_code == 1
    assert len(shell.run("jobs", "list").stdout.splitlines()) == 1
    shell.typed = "y\n"
    assert shell.run("jobs", "retry", job.id).exit_code == 0
    shell.typed = None
    assert shell.run("jobs", "retry", job.id, "--yes").exit_code == 0
    assert len(shell.run("jobs", "list").stdout.splitlines()) == 2


def test_a_script_must_say_yes_to_what_cannot_be_undone_and_to_nothing_else(shell: Shell) -> None:
    doubted, failed = shell.with_records(in_doubt), shell.with_records(refused)
    said = shell.fails("jobs", "attach", doubted.id, "gen-1", code=2)
    assert said.startswith(f"reelkeeper: {doubted.id} will be gen-1; once a report has confirmed that, it is for good.")
    assert said.endswith("write --yes to do it\n")
    assert json.loads(shell.run("jobs", "show", doubted.id).stdout)["provider_job_id"] is None
    assert shell.run("jobs", "attach", doubted.id, "gen-1", "--yes").exit_code == 0
    assert shell.run("jobs", "retry", failed.id).exit_code == 0


def test_shells_complete_states_and_error_codes(shell: Shell) -> None:
    for words, expected in (("--error sub", "submission_unknown"), ("--state run", "running")):
        line = f"reelkeeper jobs list {words}"
        count = str(len(line.split()) - 1)
        with shell.started(_REELKEEPER_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=count) as process:
            assert process.communicate(timeout=60)[0].split() == [expected]
