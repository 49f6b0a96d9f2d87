"""The short form of the proof: fewer ways to treat a job, every other way out, every place."""

from __future__ import annotations

import base64

import pytest

from tests.proofs.canaries import Canary, search, word
from tests.proofs.secrets import measure, report

MODELS = [
    f"sandbox/{name}" for name in ("ok", "urls", "redirect", "fails", "accepted-then-502", "callback-forged", "gone")
]


async def test_no_secret_is_where_it_must_not_be() -> None:
    cells, told, sizes = await measure(MODELS)
    assert all(sizes.values())
    assert not told, "\n".join([report(cells), *told])
    assert all(cell.well for cell in cells), report(cells)


def test_a_kind_of_secret_that_never_was_proves_nothing() -> None:
    cells = search([Canary("secret", may={"log": "perhaps"})], {"log": b"nothing", "storage": b"nothing"})
    assert [(cell.place, cell.says, cell.well) for cell in cells] == [
        ("log", "NEVER MADE", False),
        ("storage", "NEVER MADE", False),
    ]


@pytest.mark.parametrize(
    "spelt",
    [
        lambda secret: secret,
        lambda secret: secret[:16],
        lambda secret: secret[-16:],
        lambda secret: secret.hex().encode(),
        lambda secret: base64.b64encode(b"x" + secret + b"yz"),
        lambda secret: secret.replace(b"/", b"\\/"),
        lambda secret: secret.replace(b"/", b"%2F"),
    ],
)
def test_a_secret_is_found_however_it_is_spelt(spelt: object) -> None:
    assert callable(spelt)
    canary = Canary("secret", {f"{word(6)}/{word(12)}/{word(12)}".encode()})
    [secret] = canary.values
    for before in range(9):
        [cell] = search([canary], {"log": b" " * before + spelt(secret) + b" and more"})
        assert not cell.well
    [cell] = search([canary], {"log": word(1_000).encode()})
    assert cell.well
