"""What decides about a stranger's proof is one comparison, of bytes, whose time tells nothing about them."""

from __future__ import annotations

import hmac

import pytest

from service import signing
from service.errors import BadSignatureError
from service.vault import Vault

NOW = 1_795_248_512_000
KEY, OTHER = b"k" * 32, b"o" * 32
BODY = b'{"data":{}}'


class Compared:
    """Stands where the comparison was: keeps what was compared, and finds it equal or not as it is told."""

    def __init__(self) -> None:
        self.pairs: list[tuple[object, object]] = []
        self.verdict: bool | None = None
        self._compare = hmac.compare_digest

    def __call__(self, one: bytes, other: bytes) -> bool:
        self.pairs.append((one, other))
        return self._compare(one, other) if self.verdict is None else self.verdict


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> Compared:
    stand_in = Compared()
    monkeypatch.setattr(hmac, "compare_digest", stand_in)
    return stand_in


def test_nothing_else_makes_a_signature_right_or_wrong(compared: Compared) -> None:
    right, wrong = (signing.sign_openrouter(key, BODY, NOW) for key in (KEY, OTHER))
    standard, forged = (signing.sign_standard(key, "evt_1", BODY, NOW) for key in (KEY, OTHER))
    compared.verdict = False
    with pytest.raises(BadSignatureError):
        signing.verify_openrouter([KEY], right, BODY, NOW)
    with pytest.raises(BadSignatureError):
        signing.verify_standard([KEY], standard, BODY, NOW)
    compared.verdict = True
    signing.verify_openrouter([KEY], wrong, BODY, NOW)
    signing.verify_standard([KEY], forged, BODY, NOW)
    assert {type(each) for pair in compared.pairs for each in pair} == {bytes}


def test_every_signature_is_compared_with_every_secret_although_one_was_right_already(compared: Compared) -> None:
    header = signing.sign_openrouter(KEY, BODY, NOW)
    signing.verify_openrouter([KEY, OTHER], f"{header},v1=0,v1=1", BODY, NOW)
    assert len(compared.pairs) == 3 * 2


@pytest.mark.parametrize("kind", ["callback", "form"])
def test_nothing_else_makes_the_token_of_an_address_or_a_form_right_or_wrong(compared: Compared, kind: str) -> None:
    vault = Vault([KEY, OTHER])
    matches = vault.token_matches if kind == "callback" else vault.form_token_matches
    token = vault.callback_token("job_1") if kind == "callback" else vault.form_token("job_1")
    compared.verdict = False
    assert not matches("job_1", token)
    compared.verdict = True
    assert matches("job_1", "wrong")
    assert len(compared.pairs) == 2 * 2
    assert {type(each) for pair in compared.pairs for each in pair} == {bytes}
