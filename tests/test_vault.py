"""Derived keys: one per job and purpose, recognised through a rotation, and never raising on odd input."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.vault import Vault

OLD, NEW = b"o" * 32, b"n" * 40
JOB = "job_01k8z6v9n4e8r2m5t7w0x3y6za"


def test_a_token_opens_its_own_job_only() -> None:
    vault = Vault([NEW])
    token = vault.callback_token(JOB)
    assert re.fullmatch(r"[A-Za-z0-9_-]{32}", token)
    assert vault.token_matches(JOB, token)
    assert not vault.token_matches(JOB + "a", token)
    assert not vault.token_matches(JOB, vault.callback_token("job_2"))


def test_a_token_and_a_secret_are_the_same_after_a_restart() -> None:
    # Written down, because a change here would disown the callbacks of every job in flight.
    vault = Vault([b"k" * 32])
    assert vault.callback_token(JOB) == "PaUGP73lJzXdqIMSIldHbP6Lp78dcmKe"
    assert vault.callback_secret(JOB) == "Rs_tz58VFRykzMTIgKPEOKRIYYdmG1FKY9HhjYzdMSI"


@pytest.mark.parametrize(
    "change", [lambda t: t[:0], lambda t: t[:-1], lambda t: t + "A", lambda t: t + "=", str.swapcase]
)
def test_a_token_in_any_other_spelling_is_wrong(change: object) -> None:
    vault = Vault([NEW])
    assert callable(change)
    assert not vault.token_matches(JOB, change(vault.callback_token(JOB)))


@given(job_id=st.text(), token=st.text())
def test_odd_input_is_wrong_and_nothing_worse(job_id: str, token: str) -> None:
    assert not Vault([NEW]).token_matches(job_id, token)
    assert not Vault([NEW]).token_matches("\ud800", "\ud800é\x00")


def test_a_rotation_keeps_the_jobs_in_flight() -> None:
    before, during, after = Vault([OLD]), Vault([NEW, OLD]), Vault([NEW])
    assert during.token_matches(JOB, before.callback_token(JOB))
    assert during.callback_token(JOB) == after.callback_token(JOB)
    assert not after.token_matches(JOB, before.callback_token(JOB))
    assert during.callback_secrets(JOB) == (after.callback_secret(JOB), before.callback_secret(JOB))
    assert during.callback_secret(JOB) == after.callback_secret(JOB)


def test_a_secret_is_of_one_job_and_no_token_shows_a_part_of_it() -> None:
    vault = Vault([NEW])
    assert len(vault.callback_secret(JOB)) == 43
    assert vault.callback_secret(JOB) != vault.callback_secret("job_2")
    assert vault.callback_token(JOB)[:8] != vault.callback_secret(JOB)[:8]


@pytest.mark.parametrize("keys", [[], [b""], [b"k" * 31], [NEW, b"short"]])
def test_a_vault_without_a_long_key_is_refused(keys: list[bytes]) -> None:
    with pytest.raises(ValueError, match="key"):
        Vault(keys)


def test_a_vault_does_not_show_its_keys() -> None:
    assert "oooo" not in repr(Vault([OLD]))
    assert "oooo" not in str(vars(Vault([OLD])))
