"""The settings: environment variables become a `Config`, or one error that names every mistake at once.

Each field of `Config` names its variable, its meaning, its default and an example of right; `SETTINGS` and the
sentences of the mistakes come from there. This is the only module that reads the environment.
"""

from __future__ import annotations

import base64
import difflib
import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, HttpUrl, TypeAdapter, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from service.errors import ConfigurationError

_PROVIDERS = ("openrouter", "llmgateway")  # in the order of the default
_PREFIX = "REELKEEPER_"
_KEY_BYTES = 32
_DIFFERENT_BYTES = 16  # of 32 random bytes fewer are different about once in 10^20 keys
_LARGEST_PORT = 65535
_LONGEST_DEADLINE_S = 30 * 24 * 3600
_SIZES = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_HTTP_URL = TypeAdapter(HttpUrl)
# Kubernetes puts these into every container when a Service is called reelkeeper or reelkeeper-something.
_INJECTED_NAME = re.compile(r"REELKEEPER_(\w+_)?(SERVICE_(HOST|PORT)|PORT_\d+_(TCP|UDP|SCTP))(_\w+)?")
_INJECTED_VALUE = re.compile(r"(tcp|udp|sctp)://")


def _items(text: str) -> list[str]:
    items = [item.strip() for item in text.split(",") if item.strip()]
    if not items:
        raise ValueError("holds nothing but commas")
    return items


def _url(text: str) -> HttpUrl:
    try:
        url = _HTTP_URL.validate_python(text)
    except ValidationError:
        raise ValueError("is not an http or https URL") from None
    if url.username is not None or url.password is not None:
        raise ValueError("holds a user name or password; leave them out")
    if url.query is not None or url.fragment is not None:
        raise ValueError("holds a ? or #; leave out what begins there")
    return url


def _base_url(text: str) -> str:
    return str(_url(text)).rstrip("/")


def _public_url(text: str) -> str:
    url = _url(text)
    if url.scheme != "https" and not _is_loopback(str(url.host)):
        raise ValueError("must begin with https://, because providers reach it over the internet")
    return str(url).rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _secret_keys(text: str) -> tuple[bytes, ...]:
    places = [f", as key {place}," for place, _ in enumerate(_items(text), start=1)]
    return tuple(map(_secret_key, _items(text), places if len(places) > 1 else [""]))


def _secret_key(text: str, place: str) -> bytes:
    try:
        # Text of hex digits alone is hex at any length: read as base64 it would look longer than it is.
        if re.fullmatch(r"[0-9a-fA-F]+", text):
            key = bytes.fromhex(text)
        else:
            standard = text.replace("-", "+").replace("_", "/")
            key = base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except ValueError:
        raise ValueError(f"holds{place} text that is neither base64 nor hex") from None
    if len(key) < _KEY_BYTES:
        raise ValueError(f"holds{place} only {len(key)} bytes; {_KEY_BYTES} or more are needed")
    if len(set(key)) < _DIFFERENT_BYTES:
        raise ValueError(f"holds{place} bytes that repeat too much to be random")
    return key


def _database(text: str) -> Path:
    scheme, mark, path = text.partition(":///")
    if not mark or scheme != "sqlite":
        raise ValueError("must begin with sqlite:///, the only database that is spoken, and name a file")
    if not path or path.endswith("/") or "?" in path or path == ":memory:":
        raise ValueError("must end with a file's name, without options, because a restart must find the jobs again")
    return Path(path)


def _storage(text: str) -> str:
    scheme, mark, rest = text.partition("://")
    if not mark:
        if re.match(r"(file|s3|gs|az):", text):
            raise ValueError("has a scheme without ://")
        return text
    if scheme not in {"file", "s3", "gs", "az"}:
        raise ValueError("must be a folder or begin with file:///, s3://, gs:// or az://")
    if any(mark in rest for mark in "?#@"):
        raise ValueError("holds a ?, # or @; credentials and options come by the variables of the storage's own tools")
    if scheme == "file" and not rest.startswith("/"):
        raise ValueError("must name an absolute folder after file://, so that there are three slashes")
    if scheme != "file" and not re.match(r"[A-Za-z0-9]", rest):
        raise ValueError(f"names no bucket after {scheme}://")
    return text


def _hosts(text: str) -> frozenset[str]:
    return frozenset(_host(item.lower(), place) for place, item in enumerate(_items(text), start=1))


def _host(text: str, place: int) -> str:
    found = re.fullmatch(r"(?:\[(?P<six>[0-9a-f:.]+)\]|(?P<name>[a-z0-9_.-]+)):(?P<port>[0-9]{1,5})", text)
    if not found or not 0 < int(found["port"]) <= _LARGEST_PORT:
        raise ValueError(f"must hold host:port, without scheme or path and IPv6 in brackets; entry {place} is not")
    host = found["six"] or found["name"].rstrip(".")
    try:
        if found["six"]:
            host = f"[{ipaddress.IPv6Address(host)}]"
        elif host.rpartition(".")[2].isdigit():
            host = str(ipaddress.IPv4Address(host))
    except ValueError:
        raise ValueError(f"holds, as entry {place}, an address that does not exist") from None
    return f"{host}:{int(found['port'])}"


def _whole(lowest: int, highest: int, unit: int = 1) -> BeforeValidator:
    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text, re.ASCII) or not lowest <= int(text) <= highest:
            raise ValueError(f"must be a whole number from {lowest} to {highest}")
        return int(text) * unit

    return BeforeValidator(read)


def _bytes(text: str) -> int:
    found = re.fullmatch(r"([0-9]{1,18}) ?([A-Z]*)", text.upper())
    if not found or found[2] not in _SIZES or not int(found[1]):
        raise ValueError("must be a whole number of bytes above 0, or of KB, MB, GB, KiB, MiB or GiB")
    return int(found[1]) * _SIZES[found[2]]


def _credential(text: str) -> str:
    if not re.fullmatch(r"[\x21-\x7e]+", text):
        raise ValueError("holds a space, a line break or a character outside ASCII; paste it again")
    return text


def _credentials(text: str) -> tuple[str, ...]:
    return tuple(_credential(item) for item in _items(text))


@dataclass(frozen=True, slots=True)
class OpenRouterSettings:
    """How to reach OpenRouter. Without `webhook_secrets` its callbacks are hints."""

    api_key: str = field(repr=False)
    base_url: str
    webhook_secrets: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class LLMGatewaySettings:
    """How to reach LLM Gateway. Its callback secrets are derived for each job, so none is a setting."""

    api_key: str = field(repr=False)
    base_url: str


class Config(BaseSettings):
    """Every setting, checked and typed. Made by `read`; secrets do not show in its `repr`."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", case_sensitive=True, enable_decoding=False, validate_default=False
    )

    public_url: Annotated[str, BeforeValidator(_public_url)] = Field(
        validation_alias="REELKEEPER_PUBLIC_URL",
        description="where providers reach us, without trailing slash; `https://`, plain http only for loopback",
        examples=["https://videos.example.com"],
    )
    secret_keys: Annotated[tuple[bytes, ...], BeforeValidator(_secret_keys)] = Field(
        validation_alias="REELKEEPER_SECRET_KEY",
        description="32 or more random bytes in base64 or hex; a comma-separated list rotates, the first is current",
        examples=['"$(python3 -c "import secrets; print(secrets.token_urlsafe(32))")"'],
        repr=False,
    )
    database: Annotated[Path, BeforeValidator(_database)] = Field(
        "sqlite:///var/reelkeeper.db",
        validation_alias="REELKEEPER_DATABASE",
        description="`sqlite:///relative` to the working directory, or `sqlite:////absolute`",
        examples=["sqlite:////var/lib/reelkeeper/reelkeeper.db"],
        validate_default=True,
    )
    storage: Annotated[str, BeforeValidator(_storage)] = Field(
        "var/videos",
        validation_alias="REELKEEPER_STORAGE",
        description="a folder's path (from the working directory, if relative), `file:///absolute`, "
        "`s3://bucket/prefix`, `gs://` or `az://`; credentials and endpoint come by the usual `AWS_*` etc.",
        examples=["s3://my-bucket/videos"],
    )
    allowed_private_hosts: Annotated[frozenset[str], BeforeValidator(_hosts)] = Field(
        frozenset(),
        validation_alias="REELKEEPER_ALLOWED_PRIVATE_HOSTS",
        description="comma-separated `host:port` that outbound requests may reach although not public",
        examples=["backend.internal:8443,10.0.0.7:9000,[fd00::7]:9000"],
    )
    job_deadline_ms: Annotated[int, _whole(1, _LONGEST_DEADLINE_S, 1000)] = Field(
        "7200",
        validation_alias="REELKEEPER_JOB_DEADLINE",
        description="seconds until a silent job is `expired`",
        validate_default=True,
    )
    max_video_bytes: Annotated[int, BeforeValidator(_bytes)] = Field(
        "2GiB",
        validation_alias="REELKEEPER_MAX_VIDEO_BYTES",
        description="larger outputs are refused; bytes, or a number with KB, MB, GB, KiB, MiB or GiB",
        examples=["500MiB"],
        validate_default=True,
    )
    log_format: Literal["json", "console"] | None = Field(
        None,
        validation_alias="REELKEEPER_LOG_FORMAT",
        description="`json` or `console`; when unset, json unless standard error is a terminal",
        examples=["json"],
    )
    port: Annotated[int, _whole(0, _LARGEST_PORT)] = Field(
        "8080",
        validation_alias="PORT",
        description="the port that `serve` listens on, as process managers set it; `--port` goes first",
        validate_default=True,
    )
    openrouter_api_key: Annotated[str | None, BeforeValidator(_credential)] = Field(
        None,
        validation_alias="OPENROUTER_API_KEY",
        description="turns OpenRouter on",
        examples=["sk-or-v1-and-what-follows"],
        repr=False,
    )
    openrouter_base_url: Annotated[str, BeforeValidator(_base_url)] = Field(
        "https://openrouter.ai/api/v1",
        validation_alias="OPENROUTER_BASE_URL",
        description="where OpenRouter's API is",
    )
    openrouter_webhook_secrets: Annotated[tuple[str, ...], BeforeValidator(_credentials)] = Field(
        (),
        validation_alias="OPENROUTER_WEBHOOK_SECRET",
        description="the webhook secret of the OpenRouter workspace, or a comma-separated list; without it callbacks "
        "only cause a poll, and a job whose submission was accepted with a lost answer cannot be found by its callback",
        examples=["the-secret-shown-in-the-workspace-settings"],
        repr=False,
    )
    llmgateway_api_key: Annotated[str | None, BeforeValidator(_credential)] = Field(
        None,
        validation_alias="LLMGATEWAY_API_KEY",
        description="turns LLM Gateway on; callback secrets are derived from the secret key, none is stored",
        examples=["the-key-shown-in-the-dashboard"],
        repr=False,
    )
    llmgateway_base_url: Annotated[str, BeforeValidator(_base_url)] = Field(
        "https://api.llmgateway.io/v1",
        validation_alias="LLMGATEWAY_BASE_URL",
        description="where LLM Gateway's API is",
    )
    # After the keys, because it must name one of the providers that they turn on.
    default_provider: str = Field(
        "",
        validation_alias="REELKEEPER_DEFAULT_PROVIDER",
        description="`openrouter` or `llmgateway`, for requests that name none; when unset, the first configured",
        examples=["openrouter"],
        validate_default=True,
    )

    @classmethod
    def read(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read `environ`, by default the process's own; blanks around a value do not count, and blank means unset.

        Raises ConfigurationError with every mistake that is there.
        """
        everything = os.environ if environ is None else environ
        given = {name: value.strip() for name, value in everything.items() if value.strip()}
        mistakes = _unknown(given)
        if not any(f"{name.upper()}_API_KEY" in given for name in _PROVIDERS):
            mistakes.append(
                "OPENROUTER_API_KEY or LLMGATEWAY_API_KEY must be set, because no provider is on without its key; "
                "for example OPENROUTER_API_KEY=sk-or-v1-and-what-follows"
            )
        try:
            config = cls.model_validate({"environ": given})
        except ValidationError as error:
            mistakes += map(_sentence, error.errors())
        if mistakes:
            raise ConfigurationError(mistakes)
        return config

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *_others: PydanticBaseSettingsSource,
        **_more: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let `read` say which variables there are; nothing else is a source."""
        source = EnvSettingsSource(settings_cls)
        source.env_vars = init_settings()["environ"]
        return (source,)

    @field_validator("*", mode="before")
    @classmethod
    def _is_bare(cls, value: object) -> object:
        if isinstance(value, str) and len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            raise ValueError("is wrapped in quotes that reach us as part of the value; remove them")
        return value

    @field_validator("default_provider")
    @classmethod
    def _is_configured(cls, value: str, info: ValidationInfo) -> str:
        # A key that is set but wrong is not in `data`: its own mistake is enough, so it counts as configured.
        configured = [name for name in _PROVIDERS if info.data.get(f"{name}_api_key", "wrong") is not None]
        if value and value not in _PROVIDERS:
            raise ValueError("must be openrouter or llmgateway")
        if value and configured and value not in configured:
            raise ValueError(f"names a provider that is off; set {value.upper()}_API_KEY to turn it on")
        return value or next(iter(configured), "")

    @property
    def openrouter(self) -> OpenRouterSettings | None:
        """How to reach OpenRouter; None when it is off."""
        if self.openrouter_api_key is None:
            return None
        return OpenRouterSettings(self.openrouter_api_key, self.openrouter_base_url, self.openrouter_webhook_secrets)

    @property
    def llmgateway(self) -> LLMGatewaySettings | None:
        """How to reach LLM Gateway; None when it is off."""
        if self.llmgateway_api_key is None:
            return None
        return LLMGatewaySettings(self.llmgateway_api_key, self.llmgateway_base_url)


@dataclass(frozen=True, slots=True)
class Setting:
    """One variable, as documentation shows it. `default` is written as in the environment; None means unset."""

    name: str
    meaning: str
    default: str | None
    required: bool
    example: str


def _setting(name: str) -> Setting:
    described = Config.model_fields[name]
    return Setting(
        name=str(described.validation_alias),
        meaning=described.description or "",
        default=None if described.is_required() else described.default or None,
        required=described.is_required(),
        example=str((described.examples or [described.default])[0]),
    )


SETTINGS: Mapping[str, Setting] = {setting.name: setting for setting in map(_setting, Config.model_fields)}
"""Every variable that is read, by name."""


def _sentence(error: ErrorDetails) -> str:
    name = str(error["loc"][0])
    context = error.get("ctx", {})
    problem = context.get("error") or f"must be {context.get('expected', 'set')}".replace("'", "")
    return f"{name} {problem}; for example {name}={SETTINGS[name].example}"


def _unknown(given: Mapping[str, str]) -> list[str]:
    mistakes = []
    for name, value in given.items():
        known = name in SETTINGS or name.startswith(f"{_PREFIX}TEST_")
        injected = _INJECTED_NAME.fullmatch(name) or _INJECTED_VALUE.match(value)
        if name.upper().startswith(_PREFIX) and not known and not injected:
            bare = {each.removeprefix(_PREFIX): each for each in SETTINGS}  # the prefix makes any two look alike
            near = difflib.get_close_matches(name.upper().removeprefix(_PREFIX), bare, n=1)
            advice = f"did you mean {bare[near[0]]}?" if near else f"the settings are {', '.join(SETTINGS)}"
            mistakes.append(f"{name} is not a setting; {advice}")
    return mistakes
