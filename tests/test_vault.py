"""Derived keys: one per job and purpose, recognised through a rotation, and never raising on odd input. Seals."""

from __future__ import annotations

import base64
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.vault import SealError, Vault

OLD, NEW = b"o" * 32, b"n" * 40
SEALED = "seal1.d0485edefaae51bf.q1zIyc-VEEDqBNGZpqJw76xG8OdLjLplEwX4Lls6q1OFPXQK"  # by the key b"k" * 32, for acme
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


# What a tenant's deliveries are signed with


def test_a_delivery_secret_is_the_same_after_a_restart() -> None:
    # Written down, because a change here would make every receiver refuse its messages.
    assert Vault([b"k" * 32]).delivery_secrets("acme") == ("whsec_OBcYS8soZj+5LP2Szj457wZAiaeFmmn9DfCCyDlEuKI=",)


def test_a_delivery_secret_is_of_one_tenant_and_holds_32_bytes() -> None:
    (secret,) = Vault([NEW]).delivery_secrets("acme")
    assert re.fullmatch(r"whsec_[A-Za-z0-9+/]{43}=", secret)
    assert len(base64.b64decode(secret.removeprefix("whsec_"))) == 32
    assert Vault([NEW]).delivery_secrets("other") != (secret,)
    assert Vault([NEW]).callback_secret("acme")[:8] not in secret


def test_a_rotation_has_the_delivery_secrets_of_both_keys_the_current_one_first() -> None:
    both = Vault([NEW, OLD]).delivery_secrets("acme")
    assert both == (*Vault([NEW]).delivery_secrets("acme"), *Vault([OLD]).delivery_secrets("acme"))


# Seals


@given(text=st.text(), purpose=st.text())
def test_what_was_sealed_is_opened_again_for_its_purpose_alone(text: str, purpose: str) -> None:
    sealed = Vault([NEW]).seal(text, purpose)
    assert Vault([NEW]).unseal(sealed, purpose) == text
    with pytest.raises(SealError, match="another purpose"):
        Vault([NEW]).unseal(sealed, purpose + "x")


def test_a_seal_does_not_show_its_text_and_never_looks_the_same_twice() -> None:
    vault = Vault([NEW])
    sealed = vault.seal("callback-secret", "acme")
    assert re.fullmatch(r"seal1\.[0-9a-f]{16}\.[A-Za-z0-9_=-]+", sealed)
    assert b"callback" not in base64.urlsafe_b64decode(sealed.split(".")[2])
    assert vault.seal("callback-secret", "acme") != sealed


def test_a_seal_that_was_made_before_is_opened_still() -> None:
    # Written down, because a change here would lose the secrets that callers gave with their jobs.
    assert Vault([b"k" * 32]).unseal(SEALED, "acme") == "s3cr\N{FOX FACE}"


def test_every_key_opens_what_it_sealed_and_a_key_that_is_gone_is_asked_for() -> None:
    old = Vault([OLD]).seal("s", "acme")
    assert Vault([NEW, OLD]).unseal(old, "acme") == "s"
    assert Vault([NEW]).unseal(Vault([NEW, OLD]).seal("s", "acme"), "acme") == "s"
    with pytest.raises(SealError, match="not in REELKEEPER_SECRET_KEY any more; write that key at the end") as caught:
        Vault([NEW]).unseal(old, "acme")
    assert old.split(".")[1] in str(caught.value)
    assert str(caught.value).endswith("restart and try again")


@pytest.mark.parametrize("sealed", ["", "x", "seal2.a.b", "plain secret", "\ud800", "seal1", "seal1..", "seal1.é.é"])
def test_text_that_is_no_seal_is_one_documented_error(sealed: str) -> None:
    with pytest.raises(SealError, match=r"must give it anew|try again"):
        Vault([NEW]).unseal(sealed, "acme")


@given(data=st.data())
def test_a_seal_that_was_changed_anywhere_is_not_opened(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(SEALED) - 1))
    changed = SEALED[:at] + data.draw(st.characters(exclude_characters=SEALED[at])) + SEALED[at + 1 :]
    with pytest.raises(SealError, match=r"must give it anew|try again"):
        Vault([b"k" * 32]).unseal(changed, "acme")


def test_a_seal_that_was_cut_is_not_opened() -> None:
    for length in range(len(SEALED)):
        with pytest.raises(SealError):
            Vault([b"k" * 32]).unseal(SEALED[:length], "acme")


def test_a_form_is_of_one_session_and_its_token_outlives_a_rotation() -> None:
    before, during, after = Vault([OLD]), Vault([NEW, OLD]), Vault([NEW])
    token = before.form_token("rks_1")
    assert re.fullmatch(r"[A-Za-z0-9_-]{32}", token)
    assert during.form_token_matches("rks_1", token)
    assert not during.form_token_matches("rks_2", token)
    assert not after.form_token_matches("rks_1", token)
    assert not before.form_token_matches("rks_1", "")
    assert token != before.callback_token("rks_1")
