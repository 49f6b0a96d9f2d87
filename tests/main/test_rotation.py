"""The secret key is rotated under the command itself: what it says at its start, and whose callbacks it takes."""

from __future__ import annotations

import json
import signal
import time

import httpx
import pytest

from service import signing
from service.model import VideoRequest
from service.records import Records
from service.store import Created, NewJob
from service.vault import Vault
from tests.main.shell import Shell

OLD, NEW = bytes(range(32)), bytes(range(32, 64))


async def submitted(records: Records) -> None:
    made = await records.store.create_job(NewJob("default", "openrouter", VideoRequest(model="m", prompt="a kite")))
    assert isinstance(made, Created)
    await records.claims.claim_queued("openrouter", 1)
    await records.store.submitted(made.job.id, "gen-1", "pending", first_poll_ms=3_600_000)


def served(shell: Shell, *keys: bytes) -> tuple[list[int], int]:
    """Serve with these keys; return how many jobs a key is missing for, and the answer to a callback of the old one."""
    shell.settings["REELKEEPER_SECRET_KEY"] = ",".join(key.hex() for key in keys)
    missing: list[int] = []
    with shell.started("serve", PORT="0") as process:
        assert process.stderr is not None
        for line in process.stderr:
            entry = json.loads(line)
            if entry["event"] == "serve.key_missing":
                missing.append(entry["jobs"])
            if entry["event"] == "serve.started":
                break
        else:
            pytest.fail("it did not start")
        vault, name = Vault([OLD]), "check-1"
        headers = signing.sign_standard(
            signing.key_of(vault.callback_secret(name)), name, b"{}", int(time.time() * 1000)
        )
        answer = httpx.post(
            f"{entry['address']}/callbacks/check/{name}/{vault.callback_token(name)}",
            content=b"{}",
            headers={"content-type": "application/json", **headers},
            trust_env=False,
            timeout=10,
        )
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=10)
    return missing, answer.status_code


def test_the_old_keys_callbacks_are_taken_until_it_is_dropped_and_that_is_said_if_it_was_too_early(
    shell: Shell,
) -> None:
    assert served(shell, OLD) == ([], 204)
    shell.with_records(submitted)
    assert served(shell, NEW, OLD) == ([], 204)
    assert served(shell, NEW) == ([1], 404)
    assert served(shell, OLD, NEW) == ([], 204)
