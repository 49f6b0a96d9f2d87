"""What both providers' wire formats share."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.providers.wire import decode, hidden, status_word, words

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
    assert words(f"no\n {spelt} here \\/ there", hide=[SECRET]) == "no\n [hidden] here \\/ there"
    read = decode(b'{"message": "no\\n ' + spelt.encode() + b' here \\/ there"}')
    assert read is not None
    assert words(read["message"], hide=[SECRET]) == "no\n [hidden] here / there"


def test_a_secret_is_hidden_before_a_text_is_cut() -> None:
    assert words(f"{'x' * 90}{SECRET}", 95, hide=[SECRET]) == f"{'x' * 90}[hidd"


def test_a_status_word_that_is_known_is_no_secret() -> None:
    assert status_word("completed", {"completed"}, ["completed"]) == "completed"
    assert status_word("half completed", {"completed"}, ["completed"]) == "half [hidden]"


@given(st.text(), st.text(alphabet='ab/\\"+u0', min_size=4))
def test_what_is_no_secret_stays_as_it_is(text: str, secret: str) -> None:
    if secret not in text and json.dumps(secret)[1:-1] not in json.dumps(text):
        assert hidden(text, [f"{secret}-x9"]) == text
