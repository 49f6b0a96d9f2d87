"""What runs until it is told to stop: serve, sandbox and demo; and check, which looks at it."""

from __future__ import annotations

import hashlib
import io
import json
import re
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from service.assembly import listen
from service.commands import serving
from service.config import Config
from tests.main.shell import Shell

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
        assert started["database"] == str(shell.folder / "reelkeeper.db")
        assert started["storage"] == f"the folder {shell.folder / 'videos'}"
        assert "OPENROUTER_WEBHOOK_SECRET is unset" in log_line(process, "serve.unsigned")["advice"]
        for path in ("/healthz", "/readyz"):
            answer = httpx.get(started["address"] + path, trust_env=False, timeout=10)
            assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
        process.send_signal(number)
        rest, said = process.communicate(timeout=10)
        assert process.returncode == 0
    assert rest == ""
    assert [json.loads(line)["event"] for line in said.splitlines()][-1] == "serve.stopped"
    assert "canary" not in said


def test_serve_ends_in_time_although_the_disk_of_the_videos_hangs(shell: Shell) -> None:
    hangs = "import time, service.storage as s; s.discard = s.Folder.find = lambda _: time.sleep(600)"
    with shell.started("serve", PORT="0", before=hangs) as process:
        address = log_line(process, "serve.started")["address"]
        answer = httpx.get(f"{address}/readyz", trust_env=False, timeout=10)
        assert "did not answer within 4 s" in answer.json()["troubles"]["storage"]
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=10)
        assert process.returncode == 0


def test_a_taken_port_is_a_sentence(shell: Shell) -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        said = shell.fails("serve", PORT=str(port))
        assert said == (
            f"reelkeeper: cannot listen on 127.0.0.1, port {port}: Address already in use; "
            "choose another one with --port, PORT or --host\n"
        )
        assert shell.fails("serve", "--port", str(port), PORT="0") == said
        said = shell.fails("demo", "--port", str(port))
        assert said.endswith("Address already in use; choose another one with --port\n")
        said = shell.fails("sandbox", "--port", str(port))
        assert said.endswith("Address already in use; choose another one with --port or --host\n")


@pytest.mark.parametrize("host", ["nonsense.invalid", "::zz", "1.2.3.4.5", "a" * 64, "a..b", "192.0.2.1"])
def test_a_host_that_is_not_this_machine_is_a_sentence(host: str, shell: Shell) -> None:
    said = shell.fails("serve", "--host", host, PORT="0")
    assert said.startswith(f"reelkeeper: cannot listen on {host}, port 0: ")
    assert said.endswith("; choose another one with --port, PORT or --host\n")
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
    shell.run("migrate")
    result = shell.run("check", REELKEEPER_PUBLIC_URL=url)
    assert result.exit_code == 1
    marks = [(line[:4].strip(), line[5:].partition(":")[0]) for line in result.stdout.splitlines()]
    assert marks == [
        ("ok", "settings"),
        ("note", "providers"),
        ("ok", "database"),
        ("ok", "storage"),
        ("FAIL", "public URL"),
        ("ok", "jobs"),
        ("ok", "callbacks"),
    ]


def test_check_ends_with_0_when_the_service_is_well(shell: Shell) -> None:
    with listen("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    settings = {"PORT": str(port), "REELKEEPER_PUBLIC_URL": f"http://127.0.0.1:{port}"}
    with shell.started("serve", **settings) as process:
        log_line(process, "serve.started")
        result = shell.run("check", **settings)
    assert result.exit_code == 0
    assert [line[:4] for line in result.stdout.splitlines()] == ["ok  ", "note", *["ok  "] * 5]


@pytest.mark.parametrize(
    ("options", "key"), [((), "sk-sandbox-any-key-will-do"), (("--api-key", "key$HOME"), "key$HOME")]
)
def test_the_lines_of_the_sandbox_point_a_service_at_it(shell: Shell, options: tuple[str, ...], key: str) -> None:
    options = ("--port", "0", "--webhook-secret", "it's-a-secret", *options)
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
        assert env["REELKEEPER_PUBLIC_URL"] == "http://127.0.0.1:8080"
        config = Config.read(env)
        assert config.allowed_private_hosts == {env["OPENROUTER_BASE_URL"][7:-7].replace("127.0.0.1", "localhost")}
        assert env["OPENROUTER_WEBHOOK_SECRET"] == "it's-a-secret"
        assert env["OPENROUTER_API_KEY"] == env["LLMGATEWAY_API_KEY"] == key
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
    kept = re.findall(r"^ *(\d+)  ([0-9a-f]{64})  (job_.*)$", said, re.MULTILINE)
    assert len(kept) == 14
    [folder] = map(Path, re.findall("^In (/.*):$", said, re.MULTILINE))
    for size, sha256, path in kept:
        content = (folder / path).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (int(size), sha256)
    assert shell.folder / "show" / "videos" in folder.parents
    assert f"The files stay in {shell.folder / 'show'}\n" in said


def test_the_demonstration_shows_its_status_to_who_has_its_key_and_can_be_stopped_before_its_end(shell: Shell) -> None:
    with shell.started("demo", "--port", "0", "--folder", str(shell.folder / "show")) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("16 jobs go through trouble")
        assert process.stdout.readline().startswith("Service http://127.0.0.1:")
        url, key = re.findall(r"Look at (\S+) in a browser, and sign in with (\S+)", process.stdout.readline())[0]
        status = [
            httpx.get(url, headers={"x-api-key": each}, trust_env=False).status_code for each in (key, "rk_other")
        ]
        process.send_signal(signal.SIGINT)
        said, complaints = process.communicate(timeout=20)
    assert (process.returncode, complaints) == (1, "")
    assert status == [200, 401]
    assert "Stopped before every job had ended." in said
    assert said.endswith(f"The files stay in {shell.folder / 'show'}\n")


def test_the_demonstration_stands_beside_what_has_its_usual_port(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(serving, "out", Console(file=screen))
    with listen("127.0.0.1", 0) as taken:
        usual = taken.getsockname()[1]
        monkeypatch.setattr(serving, "USUAL_PORT", usual)
        with serving._listen_beside_others() as free:
            port = free.getsockname()[1]
    assert screen.getvalue() == f"{usual} is taken, so the service is on {port}.\n"
