"""Help, settings, the database and keys."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.main.shell import ROOT, Shell
from tests.test_docs import commands

# Help


@pytest.mark.parametrize("words", [(), ("keys",), ("jobs",), *(name.split() for name in commands())])
def test_every_command_explains_itself(words: tuple[str, ...], shell: Shell) -> None:
    result = shell.run(*words, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.stdout


def test_who_asks_for_help_or_lists_jobs_does_not_wait_for_what_serves() -> None:
    program = "import sys, service.__main__; print(*sys.modules)"
    loaded = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert {"service.commands.jobs", "service.commands.local"} <= {*loaded}
    heavy = {"av", "jinja2", "obstore", "prometheus_client", "uvicorn", "service.assembly", "service.sandbox"}
    assert not heavy & {*loaded}


def test_the_version_is_told(shell: Shell) -> None:
    result = shell.run("--version")
    assert result.exit_code == 0
    assert re.fullmatch(r"reelkeeper \S+\n", result.stdout)


def test_help_names_what_an_option_takes_in_its_own_words(shell: Shell) -> None:
    said = shell.run("jobs", "list", "--help").stdout + shell.run("demo", "--help").stdout
    assert "--state STATE " in said
    assert "--port PORT " in said
    assert "<" not in re.sub(r"\d<=x<=\d", "", said)


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


@pytest.mark.parametrize("words", [("serve",), ("check",), ("keys", "delivery-secret")])
def test_a_command_names_what_it_cannot_be_without(words: tuple[str, ...], shell: Shell) -> None:
    assert "REELKEEPER_SECRET_KEY must be set" in shell.fails(*words, code=2, REELKEEPER_SECRET_KEY=None)


@pytest.mark.parametrize(
    "words",
    [
        ("migrate",),
        ("backup", "copy.db"),
        ("keys", "list"),
        ("keys", "create", "x"),
        ("jobs", "list"),
        ("jobs", "show", "x"),
        ("callbacks", "rejected"),
        ("receivers", "list"),
    ],
)
def test_a_command_that_needs_the_database_alone_asks_for_nothing_else_and_names_mistakes(
    words: tuple[str, ...], shell: Shell
) -> None:
    nothing: dict[str, str | None] = dict.fromkeys(shell.settings)
    wrong = {"REELKEEPER_DATABASE": "postgres://x", "REELKEEPER_TYPO": "1"}
    said = shell.fails(*words, code=2, **{**nothing, **wrong}).splitlines()
    assert [line.split()[1] for line in said] == ["REELKEEPER_TYPO", "REELKEEPER_DATABASE"]


def test_the_secret_of_deliveries_needs_no_more_than_its_key_and_the_database(shell: Shell) -> None:
    needed = ("REELKEEPER_SECRET_KEY", "REELKEEPER_DATABASE")
    others: dict[str, str | None] = dict.fromkeys(set(shell.settings) - set(needed))
    shell.run("migrate")
    assert shell.run("keys", "delivery-secret", **others).exit_code == 0


# The database


@pytest.mark.parametrize(
    "words",
    [
        ("backup", "copy.db"),
        ("keys", "list"),
        ("keys", "revoke", "key_x"),
        ("keys", "delivery-secret"),
        ("jobs", "list"),
        ("jobs", "show", "job_x"),
        ("callbacks", "rejected"),
        ("receivers", "list"),
    ],
)
def test_a_database_that_is_not_there_is_told_and_not_made(
    words: tuple[str, ...], shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shell.folder)
    said = shell.fails(*words, REELKEEPER_DATABASE=None)
    where = shell.folder / "var" / "reelkeeper.db"
    assert said.startswith(f"reelkeeper: there is no database {where}: name the service's own in REELKEEPER_DATABASE, ")
    assert list(shell.folder.iterdir()) == []


def test_a_database_that_left_its_log_behind_is_to_be_put_back(shell: Shell) -> None:
    (shell.folder / "reelkeeper.db-wal").write_bytes(b"what was written last")
    assert "put the file back beside them" in shell.fails("jobs", "list")


def test_a_check_makes_no_database_either(shell: Shell) -> None:
    said = shell.run("check", REELKEEPER_PUBLIC_URL="http://127.0.0.1:9")
    assert (said.exit_code, "FAIL database: there is no database" in said.stdout) == (1, True)
    assert not (shell.folder / "reelkeeper.db").exists()


def test_the_first_key_makes_the_database(shell: Shell) -> None:
    assert shell.run("keys", "create", "my-backend").exit_code == 0
    assert (shell.folder / "reelkeeper.db").is_file()


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
    assert f"a key for my-backend, tenant default, in {shell.folder / 'reelkeeper.db'}. " in result.stderr


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

    said = shell.run("keys", "revoke", rows[0][0]).stdout
    assert re.fullmatch(rf"{rows[0][0]} is revoked, since \S+Z\n", said)
    assert [bool(line.split("\t")[5]) for line in shell.run("keys", "list").stdout.splitlines()] == [True, False]
    again = shell.run("keys", "revoke", rows[0][0])
    assert (again.exit_code, again.stdout) == (0, said)
    where = shell.folder / "reelkeeper.db"
    said = shell.fails("keys", "revoke", "key_x")
    assert said == f"reelkeeper: there is no key key_x in {where}; `reelkeeper keys list` shows them\n"


@pytest.mark.parametrize("tenant", ["", "Studio", "a/b", "..", "-a", "a" * 64, "ä", "reelkeeper-check"])
def test_a_tenant_that_could_not_be_part_of_a_path_of_its_own_is_refused(tenant: str, shell: Shell) -> None:
    assert "for example studio" in shell.fails("keys", "create", "x", f"--tenant={tenant}", code=2)
    assert "for example studio" in shell.fails("keys", "delivery-secret", "--", tenant, code=2)


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "\x1b[31m"])
def test_a_name_that_nobody_could_read_is_refused(name: str, shell: Shell) -> None:
    assert "NAME must be text on one line" in shell.fails("keys", "create", name, code=2)


def test_a_key_can_be_made_strict(shell: Shell) -> None:
    shell.run("keys", "create", "strict", "--dedupe-window", "3600", "--per-minute", "30")
    [key] = shell.with_records(lambda records: records.keys.all())
    assert (key.dedupe_window_ms, key.creates_per_minute) == (3_600_000, 30)


def test_the_secret_of_a_tenants_deliveries_is_all_of_standard_output(shell: Shell) -> None:
    shell.run("migrate")
    answer = shell.run("keys", "delivery-secret", "studio")
    assert re.fullmatch(r"whsec_[A-Za-z0-9+/]{43}=\n", answer.stdout)
    assert answer.stdout == shell.run("keys", "delivery-secret", "studio").stdout
    assert answer.stdout != shell.run("keys", "delivery-secret").stdout
