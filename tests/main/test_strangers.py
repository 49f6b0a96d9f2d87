"""A service that is none, or a hostile one: it is told in a sentence, and nothing that it says steers a terminal."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from service.commands import actions, callbacks, check, jobs, keys, places, receivers, remote
from tests.main.shell import RemoteDesk

JOB = "job_" + "0" * 26
AT = "2026-11-21T10:00:00.000Z"
EVIL = "\x1b]0;pwned\x07\x1b[2J\u202e\x9b2J"
STEERS = ("\x1b]", "\x1b[2J", "\x07", "\u202e", "\x9b")
RECEIVER = "https://backend.example.com:443"

WORDS = [
    ("jobs", "list"),
    ("jobs", "show", JOB),
    ("jobs", "watch", JOB),
    ("jobs", "cancel", JOB),
    ("jobs", "retry", JOB, "--yes"),
    ("jobs", "attach", JOB, "gen-1", "--yes"),
    ("jobs", "remirror", JOB),
    ("jobs", "redeliver", JOB),
    ("callbacks", "rejected"),
    ("receivers", "list"),
    ("receivers", "redeliver", RECEIVER, "--yes"),
    ("keys", "list"),
    ("keys", "create", "backend"),
    ("keys", "revoke", "key_1"),
    ("check",),
]
EVERY_COMMAND = pytest.mark.parametrize("words", WORDS, ids=[" ".join(each[:2]) for each in WORDS])

ERROR = {"code": EVIL, "message": EVIL, "billable": EVIL, "provider_code": EVIL, "provider_message": EVIL}
VIDEO = {"content_type": EVIL, "width": 1, "height": 1, "duration": 1e300, "url": EVIL}
A_JOB = {
    "id": JOB,
    "state": EVIL,
    "tenant": EVIL,
    "provider": EVIL,
    "provider_job_id": EVIL,
    "provider_status": EVIL,
    "model": EVIL,
    "request": {"prompt": EVIL, EVIL: EVIL},
    "created_at": "2026-11-21\x1b10:00:00",
    "finished_at": AT,
    "cost": 1.0,
    "artifacts": [{"index": 0, "bytes": 1, "sha256": EVIL, **VIDEO, "duration": 1}],
    "retry_of": EVIL,
    "notify_url": EVIL,
    "metadata": {EVIL: EVIL},
    "error": ERROR,
    "cancellation": {"message": EVIL},
}
EVENT = {"id": 1, "type": EVIL, "at": "2026-11-21\x1b10:00:00", "data": {EVIL: EVIL}}
ATTEMPT = {"number": 1, "at": AT, "duration_ms": 1, "status": None, "error": EVIL, "answer": EVIL}
DELIVERY = {"id": EVIL, "state": EVIL, "event": EVIL, "receiver": EVIL, "created_at": AT, "attempts": [ATTEMPT]}
REJECTED = {"job": EVIL, "provider": EVIL, "reason": EVIL, "message": EVIL, "times": 2, "last_at": AT}
KEY = {"id": EVIL, "name": EVIL, "tenant": EVIL, "operator": True, "created_at": AT, "revoked_at": AT, "key": EVIL}
FAILING = {"receiver": EVIL, "tenant": EVIL, "failed": 1, "pending": 1, "last_at": AT}
OWED = {"receiver": EVIL, "tenant": EVIL, "redelivered": 1, "given_up": 1, "waiting": 0}
WAITING = {"step": EVIL, "provider": EVIL, "job": EVIL, "due_at": "2020-01-01T00:00:00Z"}
ANSWERS = {
    ("GET", "/v1/jobs"): {"data": [A_JOB]},
    ("GET", f"/v1/jobs/{JOB}"): A_JOB,
    ("GET", f"/v1/jobs/{JOB}/events"): {"data": [EVENT]},
    ("GET", f"/v1/jobs/{JOB}/events?after=1"): {"data": []},
    ("GET", f"/v1/jobs/{JOB}/receipts"): {
        "data": [{"verdict": EVIL, "provider_status": EVIL, "times": 2, "first_at": AT}]
    },
    ("GET", f"/v1/jobs/{JOB}/deliveries"): {"data": [DELIVERY]},
    ("POST", f"/v1/jobs/{JOB}/redeliver"): DELIVERY,
    ("GET", "/v1/callbacks/rejected"): {"data": [REJECTED]},
    ("GET", "/v1/receivers"): {"data": [FAILING | {"last_status": None, "last_error": EVIL}]},
    ("POST", "/v1/receivers/redeliver"): OWED,
    ("GET", "/v1/keys"): {"data": [KEY | {"dedupe_window": 1, "per_minute": 1}]},
    ("POST", "/v1/keys"): KEY | {"dedupe_window": 0, "per_minute": None},
    ("POST", "/v1/keys/key_1/revoke"): KEY | {"dedupe_window": 0, "per_minute": None},
    ("GET", "/readyz"): {"status": EVIL, "troubles": {EVIL: EVIL}},
    ("GET", "/status.json"): {
        "version": EVIL,
        "now": AT,
        "uptime_seconds": 1,
        "tenant": EVIL,
        "waiting": [WAITING],
        "concerns": [{"kind": "failing", "message": EVIL}],
    },
}

Says = Callable[[str, str], tuple[int, bytes]]


class Stranger(RemoteDesk):
    """Runs commands whose service answers what `says` returns for a method and a path."""

    url = "https://videos.example.com"
    key = "rk_canary"
    says: Says

    def client(self) -> httpx.AsyncClient:
        def answer(request: httpx.Request) -> httpx.Response:
            streamed = request.headers["accept"] == "text/event-stream"
            status, body = self.says(request.method, request.url.raw_path.decode())
            told = b"data: " + json.dumps(EVENT).encode() + b"\n\n"
            return httpx.Response(status, stream=httpx.ByteStream(told if streamed else body))

        return httpx.AsyncClient(transport=httpx.MockTransport(answer))


def hostile(method: str, path: str) -> tuple[int, bytes]:
    path = path if "after=" in path else path.partition("?")[0]
    return 200, json.dumps(ANSWERS.get((method, path), A_JOB)).encode()


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stranger:
    shell = Stranger(tmp_path)
    for commands in (places, check):
        monkeypatch.setattr(commands, "configured_client", shell.client)
    monkeypatch.setattr(remote, "_RETRY_PAUSES", (0.0,))
    monkeypatch.setattr(remote, "_PAUSES", (0.0,))
    return shell


@EVERY_COMMAND
@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"null",
        b'{"data": 1, "id": {}}',
        b'{"data": [1, 2], "status": 1, "error": 1}',
        b'{"data": [{}], "status": "ok", "troubles": [1]}',
        b"[" * 100_000,
        b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
        b'{"error": {"code": "job_not_found", "message": "no"}}',
        b"\xff\x00",
    ],
    ids=range(9),
)
@pytest.mark.parametrize("status", [200, 404])
def test_an_answer_that_is_none_of_a_services_ends_in_a_sentence(
    words: tuple[str, ...], body: bytes, status: int, shell: Stranger
) -> None:
    shell.says = lambda *_: (status, body)
    result = shell.run(*words)
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    assert result.output.startswith(("reelkeeper: ", "FAIL service: ", "ok ", "clock"))
    assert "Traceback" not in result.output


@EVERY_COMMAND
@pytest.mark.parametrize("field", ["id", "error", "created_at", "data", "now", "receiver", "key", "attempts"])
def test_a_field_that_is_no_such_thing_ends_in_a_sentence(words: tuple[str, ...], field: str, shell: Stranger) -> None:
    def wrong(method: str, path: str) -> tuple[int, bytes]:
        value = json.loads(hostile(method, path)[1])
        for each in (value, *value.get("data", [])) if isinstance(value.get("data"), list) else (value,):
            if field in each:
                each[field] = {"no": "such thing"}
        return 200, json.dumps(value).encode()

    shell.says = wrong
    result = shell.run(*words)
    assert isinstance(result.exception, SystemExit | None), result.exception


@EVERY_COMMAND
@pytest.mark.parametrize("option", [[], ["--json"]])
@pytest.mark.parametrize("terminal", [False, True])
def test_nothing_that_a_service_says_steers_a_terminal(
    words: tuple[str, ...], option: list[str], *, terminal: bool, shell: Stranger, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.StringIO()
    if terminal:
        for commands in (actions, callbacks, check, jobs, keys, receivers):
            monkeypatch.setattr(commands, "out", Console(file=screen, force_terminal=True, width=200))
    shell.says = hostile
    result = shell.run(*words, *option)
    assert isinstance(result.exception, SystemExit | None), result.exception
    said = result.stdout + result.stderr + screen.getvalue()
    assert "pwned" in said or words[:2] in (("jobs", "watch"), ("jobs", "attach"))
    assert [each for each in STEERS if each in said] == []


@EVERY_COMMAND
def test_no_refusal_steers_a_terminal(words: tuple[str, ...], shell: Stranger) -> None:
    refusal = json.dumps({"error": {"code": EVIL, "message": EVIL}}).encode()
    shell.says = lambda *_: (400, refusal)
    result = shell.run(*words)
    assert (result.exit_code, "pwned" in result.output or words == ("check",)) == (1, True)
    assert [each for each in STEERS if each in result.output] == []


def test_no_id_becomes_a_command_that_people_copy(shell: Stranger) -> None:
    body = json.dumps(A_JOB | {"id": "job_1; rm -rf ~"}).encode()
    shell.says = lambda *_: (200, body)
    assert "none of Reelkeeper's" in shell.fails("jobs", "show", JOB)
