"""What both providers' wire formats share."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.providers.wire import hidden

SECRET = "a-key/with.all+of=them"


@pytest.mark.parametrize(
    "spelt",
    [
        SECRET,
        SECRET.replace("/", "\\/"),
        "".join(f"\\u{ord(each):04x}" for each in SECRET),
        "".join(f"\\u{ord(each):04X}" for each in SECRET),
        SECRET.replace("=", "\\u003d").replace("+", "\\u002B"),
    ],
)
def test_a_secret_is_hidden_however_json_spells_it(spelt: str) -> None:
    body = b'{"message": "no\\n ' + spelt.encode() + b' here \\/ there"}'
    assert json.loads(hidden(body, [SECRET])) == {"message": "no\n [hidden] here / there"}


@given(st.text(), st.text(alphabet='ab/\\"+u0', min_size=4))
def test_what_is_no_secret_stays_as_it_is(text: str, secret: str) -> None:
    body = json.dumps({"message": text}).encode()
    if secret not in text and json.dumps(secret)[1:-1] not in json.dumps(text):
        assert hidden(body, [f"{secret}-x9"]) == body
