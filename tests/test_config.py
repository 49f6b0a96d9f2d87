"""Settings: what is understood, and what is said about each mistake."""

from __future__ import annotations

import base64
import os
import secrets
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.config import (
    PROVIDERS,
    SETTINGS,
    Config,
    LLMGatewaySettings,
    LocalConfig,
    OpenRouterSettings,
    RemoteConfig,
    SecretConfig,
    texts,
)
from service.errors import ConfigurationError

FOR_COMMANDS = {"REELKEEPER_URL", "REELKEEPER_API_KEY"}  # which the service does not read
KEY = bytes(range(100, 132))
RIGHT = {
    "REELKEEPER_PUBLIC_URL": "https://videos.example.com",
    "REELKEEPER_SECRET_KEY": KEY.hex(),
    "OPENROUTER_API_KEY": "sk-or-v1-canary",
}


def read(**changes: str) -> Config:
    return Config.read({**RIGHT, **changes})


def mistakes(environ: Mapping[str, str]) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as caught:
        Config.read(environ)
    return caught.value.mistakes


def mistake(**changes: str) -> str:
    """Return the only mistake, after checking that it names its variable, shows an example and echoes no secret."""
    (sentence,) = mistakes({**RIGHT, **changes})
    (name,) = changes
    assert sentence.startswith(f"{name} ")
    assert f"; for example {name}={SETTINGS[name].example}" in sentence
    assert "canary" not in sentence
    return sentence


def test_three_variables_are_enough() -> None:
    config = Config.read(RIGHT)
    assert config.public_url == "https://videos.example.com"
    assert config.secret_keys == (KEY,)
    assert config.database == Path("var/reelkeeper.db")
    assert config.storage == "var/videos"
    assert config.allowed_private_hosts == frozenset()
    assert config.default_provider == "openrouter"
    assert config.job_deadline_ms == 7_200_000
    assert config.max_video_bytes == 2 * 1024**3
    assert config.log_format is None
    assert config.traces is None
    assert config.port == 8080
    assert config.openrouter == OpenRouterSettings("sk-or-v1-canary", "https://openrouter.ai/api/v1", ())
    assert config.llmgateway is None


def test_everything_can_be_said() -> None:
    config = Config.read(
        {
            "REELKEEPER_PUBLIC_URL": "https://Example.com:8443/reel/",
            "REELKEEPER_SECRET_KEY": f"{KEY.hex()}, {base64.b64encode(KEY[::-1]).decode()}",
            "REELKEEPER_DATABASE": "sqlite:////srv/reel.db",
            "REELKEEPER_STORAGE": "s3://bucket/prefix",
            "REELKEEPER_ALLOWED_PRIVATE_HOSTS": "Backend.internal.:8443, [FD00:0::7]:443",
            "REELKEEPER_DEFAULT_PROVIDER": "llmgateway",
            "REELKEEPER_JOB_DEADLINE": "60",
            "REELKEEPER_MAX_VIDEO_BYTES": "5 MB",
            "REELKEEPER_LOG_FORMAT": "console",
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318/",
            "PORT": "80",
            "OPENROUTER_API_KEY": "one",
            "OPENROUTER_BASE_URL": "http://127.0.0.1:9000/api/v1/",
            "OPENROUTER_WEBHOOK_SECRET": "new, old",
            "LLMGATEWAY_API_KEY": "two",
            "LLMGATEWAY_BASE_URL": "https://gateway.example/v1",
        }
    )
    assert config.public_url == "https://example.com:8443/reel"
    assert config.secret_keys == (KEY, KEY[::-1])
    assert config.database == Path("/srv/reel.db")
    assert config.storage == "s3://bucket/prefix"
    assert config.allowed_private_hosts == {"backend.internal:8443", "[fd00::7]:443"}
    assert config.default_provider == "llmgateway"
    assert config.job_deadline_ms == 60_000
    assert config.max_video_bytes == 5_000_000
    assert config.log_format == "console"
    assert config.traces == "http://collector:4318/v1/traces"
    assert config.port == 80
    assert config.openrouter == OpenRouterSettings("one", "http://127.0.0.1:9000/api/v1", ("new", "old"))
    assert config.llmgateway == LLMGatewaySettings("two", "https://gateway.example/v1")


def test_without_an_argument_the_processs_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in {*SETTINGS, *os.environ}:
        if name in SETTINGS or name.startswith("REELKEEPER_"):
            monkeypatch.delenv(name, raising=False)
    for name, value in RIGHT.items():
        monkeypatch.setenv(name, value)
    assert Config.read() == Config.read(RIGHT)
    monkeypatch.setenv("PORT", "9999")
    assert Config.read().port == 9999
    assert Config.read(RIGHT).port == 8080


def test_every_mistake_is_told_at_once() -> None:
    told = mistakes(
        {
            "REELKEEPER_DATABASE": "mysql://x",
            "REELKEEPER_STORAGE": "ftp://x",
            "REELKEEPER_SIGNED_LINKS": "8 days",
            "REELKEEPER_ALLOWED_PRIVATE_HOSTS": "backend",
            "REELKEEPER_DEFAULT_PROVIDER": "other",
            "REELKEEPER_JOB_DEADLINE": "soon",
            "REELKEEPER_MAX_VIDEO_BYTES": "much",
            "REELKEEPER_LOG_FORMAT": "xml",
            "REELKEEPER_TYPO": "1",
            "OTEL_EXPORTER_OTLP_ENDPOINT": "nowhere",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "nowhere",
            "PORT": "http",
            "OPENROUTER_BASE_URL": "nowhere",
            "OPENROUTER_WEBHOOK_SECRET": ",",
            "LLMGATEWAY_BASE_URL": "nowhere",
        }
    )
    named = [sentence.split()[0] for sentence in told]
    assert sorted(named) == sorted({*SETTINGS, "REELKEEPER_TYPO"} - {"LLMGATEWAY_API_KEY", *FOR_COMMANDS})


def test_a_missing_setting_says_so() -> None:
    told = mistakes({})
    assert len(told) == 3
    assert any("OPENROUTER_API_KEY or LLMGATEWAY_API_KEY must be set" in sentence for sentence in told)
    assert "REELKEEPER_PUBLIC_URL must be set" in mistake(REELKEEPER_PUBLIC_URL=" ")
    assert "REELKEEPER_SECRET_KEY must be set" in mistake(REELKEEPER_SECRET_KEY="")


def test_blank_means_unset_and_blanks_around_a_value_do_not_count() -> None:
    assert read(PORT="", REELKEEPER_LOG_FORMAT=" ", OPENROUTER_WEBHOOK_SECRET="\n") == Config.read(RIGHT)
    assert read(REELKEEPER_STORAGE=" /srv/videos\n").storage == "/srv/videos"


def test_quotes_that_a_tool_left_around_a_value_are_a_mistake() -> None:
    assert "quotes" in mistake(REELKEEPER_STORAGE='"var/videos"')
    assert "quotes" in mistake(OPENROUTER_API_KEY="'sk-or-v1-canary'")


@pytest.mark.parametrize(
    ("given_url", "public_url"),
    [
        ("https://videos.example.com///", "https://videos.example.com"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://reel.localhost:8080", "http://reel.localhost:8080"),
        ("http://127.0.0.2/", "http://127.0.0.2"),
        ("http://[::1]:8080/x/", "http://[::1]:8080/x"),
    ],
)
def test_a_public_url_is_https_or_loopback(given_url: str, public_url: str) -> None:
    assert read(REELKEEPER_PUBLIC_URL=given_url).public_url == public_url


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("http://videos.example.com", "must begin with https://"),
        ("http://localhost.example.com", "must begin with https://"),
        ("http://10.0.0.7", "must begin with https://"),
        ("videos.example.com", "is not an http or https URL; for example"),
        ("ftp://videos.example.com", "not an http or https URL"),
        ("https://", "not an http or https URL"),
        ("https://videos.example.com:port", "not an http or https URL"),
        ("https://me:canary@videos.example.com", "user name"),
        ("https://videos.example.com/?a=1", "holds a ?"),
        ("https://videos.example.com/#", "holds a ?"),
    ],
)
def test_a_wrong_public_url_is_explained(url: str, what: str) -> None:
    assert what in mistake(REELKEEPER_PUBLIC_URL=url)


def test_traces_may_go_elsewhere_than_what_else_a_collector_takes() -> None:
    config = read(
        OTEL_EXPORTER_OTLP_ENDPOINT="http://collector:4318",
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="https://traces.example/otlp/v1/traces",
    )
    assert config.traces == "https://traces.example/otlp/v1/traces"


@pytest.mark.parametrize("said", ["http://127.0.0.1:4318", "collector:4317"])
@pytest.mark.parametrize("name", ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"])
def test_a_collector_that_nothing_here_could_send_to_is_no_mistake(
    name: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(texts, "_SENDS_TRACES", "a-package-that-is-not-installed")
    assert (read(**{name: said}).traces or "").startswith(said)


@pytest.mark.parametrize(
    ("keys", "configured"),
    [
        ({"OPENROUTER_API_KEY": "one"}, ("openrouter",)),
        ({"LLMGATEWAY_API_KEY": "two"}, ("llmgateway",)),
        ({"LLMGATEWAY_API_KEY": "two", "OPENROUTER_API_KEY": "one"}, PROVIDERS),
    ],
)
def test_the_providers_that_are_on_are_those_with_a_key(keys: dict[str, str], configured: tuple[str, ...]) -> None:
    config = Config.read({**RIGHT, "OPENROUTER_API_KEY": "", **keys})
    assert config.configured == configured
    assert config.default_provider == configured[0]


@pytest.mark.parametrize("name", ["OPENROUTER_BASE_URL", "LLMGATEWAY_BASE_URL", "OTEL_EXPORTER_OTLP_ENDPOINT"])
def test_a_wrong_base_url_is_explained(name: str) -> None:
    assert "user name" in mistake(**{name: "https://me:canary@openrouter.example"})
    assert "holds a ?" in mistake(**{name: "https://openrouter.example/?key=canary"})
    assert "not an http" in mistake(**{name: "openrouter.example"})


@given(st.binary(min_size=32, max_size=80).filter(lambda key: len(set(key)) >= 16))
def test_a_key_may_be_written_in_hex_and_both_kinds_of_base64(key: bytes) -> None:
    for text in (
        key.hex(),
        key.hex().upper(),
        base64.b64encode(key).decode(),
        base64.b64encode(key).decode().rstrip("="),
        base64.urlsafe_b64encode(key).decode(),
        base64.urlsafe_b64encode(key).decode().rstrip("="),
    ):
        assert read(REELKEEPER_SECRET_KEY=text).secret_keys == (key,)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (KEY[:31].hex(), "holds only 31 bytes"),
        (KEY[:24].hex(), "holds only 24 bytes"),  # as base64 it would be 36
        (base64.b64encode(KEY[:31]).decode(), "holds only 31 bytes"),
        (f"{KEY.hex()},{KEY[:16].hex()}", "holds, as key 2, only 16 bytes"),
        (KEY.hex()[:-1], "neither base64 nor hex"),
        ("a pass phrase that is longer than all of the others", "neither base64 nor hex"),
        ("ß" * 43, "neither base64 nor hex"),
        (base64.b64encode(KEY).decode() + "!!!!", "neither base64 nor hex"),
        ("0" * 64, "repeat"),
        ("deadbeef" * 8, "repeat"),
        ("changeme" * 6, "repeat"),
        (",", "commas"),
    ],
)
def test_a_weak_or_unreadable_key_is_refused(text: str, what: str) -> None:
    assert what in mistake(REELKEEPER_SECRET_KEY=text)


def test_the_command_in_the_example_makes_a_key() -> None:
    made = subprocess.run(  # noqa: S603 - the command is ours
        ["/bin/sh", "-c", f"printf %s {SETTINGS['REELKEEPER_SECRET_KEY'].example}"],
        check=True,
        capture_output=True,
        text=True,
        env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"},
    )
    assert len(read(REELKEEPER_SECRET_KEY=made.stdout).secret_keys[0]) == 32


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:canary@host/db",
        "sqlite://",
        "sqlite:///",
        "sqlite://relative.db",
        "sqlite:///:memory:",
        "sqlite:///var/",
        "sqlite:///reel.db?mode=memory",
        "sqlite+aiosqlite:///reel.db",
        "var/reelkeeper.db",
    ],
)
def test_a_database_that_is_no_sqlite_file_is_a_mistake(url: str) -> None:
    assert "sqlite:///" in mistake(REELKEEPER_DATABASE=url)


@pytest.mark.parametrize(
    "storage",
    ["var/videos", "/srv/videos", "./a b", "file:///srv/videos", "s3://bucket", "s3://b/a/b", "gs://b/p", "az://c/p"],
)
def test_storage_is_a_folder_or_a_bucket(storage: str) -> None:
    assert read(REELKEEPER_STORAGE=storage).storage == storage


@pytest.mark.parametrize(
    ("storage", "what"),
    [
        ("http://bucket.example", "must be a folder"),
        ("S3://bucket", "must be a folder"),
        ("file://relative", "three slashes"),
        ("s3://", "no bucket"),
        ("s3:///prefix", "no bucket"),
        ("s3:bucket", "without ://"),
        ("s3://key:canary@bucket", "credentials"),
        ("s3://bucket?region=x", "credentials"),
    ],
)
def test_a_wrong_storage_is_explained(storage: str, what: str) -> None:
    assert what in mistake(REELKEEPER_STORAGE=storage)


@pytest.mark.parametrize(
    ("hosts", "what"),
    [
        ("backend.internal", "entry 1"),
        ("backend:1,https://backend:443", "entry 2"),
        ("backend:443/path", "entry 1"),
        ("::1:8080", "entry 1"),
        ("[::1]", "entry 1"),
        ("[::1%eth0]:80", "entry 1"),
        ("[::::]:80", "entry 1"),
        ("10.0.0.300:80", "entry 1"),
        ("127.1:80", "entry 1"),
        ("*.internal:80", "entry 1"),
        ("backend:0", "entry 1"),
        ("backend:65536", "entry 1"),
        ("backend:80 other:80", "entry 1"),
    ],
)
def test_a_private_host_is_host_and_port(hosts: str, what: str) -> None:
    assert what in mistake(REELKEEPER_ALLOWED_PRIVATE_HOSTS=hosts)


@pytest.mark.parametrize(("text", "seconds"), [("0", 0), ("60", 60), ("604800", 604_800)])
def test_a_signed_link_lives_for_seconds_and_0_makes_none(text: str, seconds: int) -> None:
    assert Config.read({**RIGHT, "REELKEEPER_SIGNED_LINKS": text}).link_seconds == seconds


def test_a_signed_link_lives_no_longer_than_a_bucket_allows() -> None:
    assert Config.read(RIGHT).link_seconds == 3600
    [told] = mistakes({**RIGHT, "REELKEEPER_SIGNED_LINKS": "604801"})
    assert "from 0 to 604800" in told


@pytest.mark.parametrize("seconds", ["0", "-1", "1.5", "two hours", "7200000", "9" * 5_000])
def test_a_deadline_is_seconds_and_at_most_thirty_days(seconds: str) -> None:
    assert "must be a whole number from 1 to 2592000;" in mistake(REELKEEPER_JOB_DEADLINE=seconds)


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), ("10KB", 10_000), ("10kib", 10_240), ("3 MiB", 3 * 2**20), ("1gb", 10**9), ("2GiB", 2**31)],
)
def test_a_size_is_bytes_or_has_a_unit(text: str, size: int) -> None:
    assert read(REELKEEPER_MAX_VIDEO_BYTES=text).max_video_bytes == size


@pytest.mark.parametrize("text", ["0", "-1", "2G", "1.5GiB", "GiB", "2 GiB 1", "9" * 5_000])
def test_a_wrong_size_is_explained(text: str) -> None:
    assert "KiB, MiB or GiB" in mistake(REELKEEPER_MAX_VIDEO_BYTES=text)


@pytest.mark.parametrize("port", ["-1", "65536", "http", "80.5"])
def test_a_port_is_a_number_up_to_65535(port: str) -> None:
    assert "must be a whole number from 0 to 65535;" in mistake(PORT=port)


def test_a_log_format_is_json_or_console() -> None:
    assert "must be json or console;" in mistake(REELKEEPER_LOG_FORMAT="JSONL")


@pytest.mark.parametrize("name", ["OPENROUTER_API_KEY", "OPENROUTER_WEBHOOK_SECRET", "LLMGATEWAY_API_KEY"])
def test_a_credential_fits_into_a_header(name: str) -> None:
    for text in ("two words", "line\nbreak", "schlüssel", "tab\tbed"):
        assert "paste it again" in mistake(**{name: text})


def test_the_first_configured_provider_is_the_default() -> None:
    only = {**RIGHT, "LLMGATEWAY_API_KEY": "key"}
    assert Config.read(only).default_provider == "openrouter"
    del only["OPENROUTER_API_KEY"]
    assert Config.read(only).default_provider == "llmgateway"


def test_the_default_provider_must_be_on() -> None:
    assert "set LLMGATEWAY_API_KEY" in mistake(REELKEEPER_DEFAULT_PROVIDER="llmgateway")
    assert "must be openrouter or llmgateway" in mistake(REELKEEPER_DEFAULT_PROVIDER="sora")


def test_a_wrong_key_of_the_default_provider_is_one_mistake_not_two() -> None:
    wrong = {"OPENROUTER_API_KEY": "two words", "REELKEEPER_DEFAULT_PROVIDER": "openrouter"}
    told = mistakes({**RIGHT, **wrong, "LLMGATEWAY_API_KEY": "key"})
    assert [sentence.split()[0] for sentence in told] == ["OPENROUTER_API_KEY"]


def refusal(environ: Mapping[str, str]) -> ConfigurationError | None:
    try:
        Config.read(environ)
    except ConfigurationError as error:
        return error
    return None


@given(st.dictionaries(st.sampled_from(sorted(SETTINGS)), st.text(min_size=1, max_size=40), min_size=1))
def test_no_text_breaks_the_reading_and_no_mistake_echoes_it(values: dict[str, str]) -> None:
    refused = refusal({**RIGHT, **{name: f"{text}canary{text}" for name, text in values.items()}})
    assert "canary" not in str(refused)
    assert refused is None or refused.__context__ is None  # pydantic's own error, which shows what it refused


def test_secrets_do_not_show() -> None:
    config = read(OPENROUTER_WEBHOOK_SECRET="canary", LLMGATEWAY_API_KEY="canary")
    for shown in (config, config.openrouter, config.llmgateway):
        assert "canary" not in repr(shown) + str(shown)
        assert repr(KEY) not in repr(shown)


def test_nothing_can_be_changed_afterwards() -> None:
    with pytest.raises(ValueError, match="frozen"):
        read().port = 1


def test_every_setting_has_a_meaning_and_a_right_example_and_default() -> None:
    for setting in SETTINGS.values():
        assert setting.meaning
        assert setting.required == (setting.name in {"REELKEEPER_PUBLIC_URL", "REELKEEPER_SECRET_KEY"})
        example = secrets.token_urlsafe(32) if "$(" in setting.example else setting.example
        assert shlex.split(setting.example)
        read(**{setting.name: example, "LLMGATEWAY_API_KEY": "x"})
        if setting.default is not None:
            assert read(**{setting.name: setting.default}) == Config.read(RIGHT)


# What commands read


def test_a_command_on_this_machine_needs_nothing_and_still_names_mistakes() -> None:
    local = LocalConfig.read({})
    assert (local.public_url, local.database, local.job_deadline_ms) == ("", Path("var/reelkeeper.db"), 7_200_000)
    with pytest.raises(ConfigurationError) as caught:
        LocalConfig.read({"REELKEEPER_DATABSE": "x", "REELKEEPER_DATABASE": "x", "REELKEEPER_STORAGE": "ftp://x"})
    assert [each.split()[0] for each in caught.value.mistakes] == ["REELKEEPER_DATABSE", "REELKEEPER_DATABASE"]


def test_what_is_derived_from_the_secret_key_needs_it() -> None:
    with pytest.raises(ConfigurationError) as caught:
        SecretConfig.read({})
    assert [each.split()[0] for each in caught.value.mistakes] == ["REELKEEPER_SECRET_KEY"]
    assert SecretConfig.read({"REELKEEPER_SECRET_KEY": KEY.hex()}).secret_keys == (KEY,)


def test_a_command_that_asks_a_service_needs_no_setting_of_it() -> None:
    remote = RemoteConfig.read({"REELKEEPER_URL": "https://videos.example.com/", "REELKEEPER_API_KEY": "rk_canary"})
    assert (remote.url, remote.api_key) == ("https://videos.example.com", "rk_canary")
    assert "canary" not in repr(remote)
    assert RemoteConfig.read({}).url is None


@pytest.mark.parametrize("url", ["http://videos.example.com", "ftp://x", "videos.example.com", "https://a:b@c"])
def test_a_key_is_sent_to_no_service_that_others_can_listen_to(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        RemoteConfig.read({"REELKEEPER_URL": url})
    assert "for example REELKEEPER_URL=https://videos.example.com" in caught.value.mistakes[0]
    assert RemoteConfig.read({"REELKEEPER_URL": "http://127.0.0.1:8080"}).url == "http://127.0.0.1:8080"
