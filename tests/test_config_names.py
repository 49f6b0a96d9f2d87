"""Settings: which names are known, and what is said about the others."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from service.config import SETTINGS, Config
from service.errors import ConfigurationError

RIGHT = {
    "REELKEEPER_PUBLIC_URL": "https://videos.example.com",
    "REELKEEPER_SECRET_KEY": bytes(range(100, 132)).hex(),
    "OPENROUTER_API_KEY": "sk-or-v1-canary",
}


def mistakes(environ: Mapping[str, str]) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as caught:
        Config.read(environ)
    return caught.value.mistakes


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("REELKEEPER_PUBLIC_UR", "REELKEEPER_PUBLIC_URL"),
        ("reelkeeper_storage", "REELKEEPER_STORAGE"),
        ("REELKEEPER_SECRET_KEYS", "REELKEEPER_SECRET_KEY"),
        ("REELKEEPER_MAX_VIDEO_SIZE", "REELKEEPER_MAX_VIDEO_BYTES"),
        ("REELKEEPER_PORT", "PORT"),
        ("REELKEEPER_OPENROUTER_API_KEY", "OPENROUTER_API_KEY"),
    ],
)
def test_an_unknown_setting_is_told_with_what_was_meant(name: str, meant: str) -> None:
    (sentence,) = mistakes({**RIGHT, name: "canary"})
    assert sentence.startswith(f"{name} ")
    assert f"did you mean {meant}?" in sentence
    assert "canary" not in sentence


@pytest.mark.parametrize("name", ["REELKEEPER_ZQXJ_ZQXJ_ZQXJ_ZQXJ_ZQXJ", "REELKEEPER_TYPO"])
def test_a_name_that_resembles_nothing_gets_the_whole_list(name: str) -> None:
    (sentence,) = mistakes({**RIGHT, name: "1"})
    assert all(name in sentence for name in SETTINGS)


def test_variables_of_tests_and_of_other_programs_are_left_alone() -> None:
    environ = {**RIGHT, "REELKEEPER_TEST_ANYTHING": "1", "HOME": "/root", "OPENROUTER_MODEL": "x"}
    assert Config.read(environ) == Config.read(RIGHT)


def test_what_kubernetes_puts_into_a_container_is_no_mistake() -> None:
    injected = {
        "REELKEEPER_SERVICE_HOST": "10.0.0.1",
        "REELKEEPER_SERVICE_PORT": "80",
        "REELKEEPER_SERVICE_PORT_HTTP": "80",
        "REELKEEPER_PORT": "tcp://10.0.0.1:80",
        "REELKEEPER_PORT_80_TCP": "tcp://10.0.0.1:80",
        "REELKEEPER_PORT_80_TCP_ADDR": "10.0.0.1",
        "REELKEEPER_WEB_SERVICE_HOST": "10.0.0.2",
        "REELKEEPER_WEB_PORT_80_TCP_PROTO": "tcp",
    }
    assert Config.read({**RIGHT, **injected}) == Config.read(RIGHT)
    assert len(mistakes({**RIGHT, "REELKEEPER_PORT": "8080"})) == 1
