"""The settings: environment variables become a `Config`, or one error that names every mistake at once.

Each field names its variable, its meaning, its default and an example of right; `SETTINGS` and the sentences of the
mistakes come from there. The service reads all of `Config`; a command reads what it needs, and nothing else has to be
set for it. How a value is written is for `texts` to read. This is the only module that reads the environment.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from service.config import texts
from service.errors import ConfigurationError

PROVIDERS = ("openrouter", "llmgateway")
"""Every provider that there are settings for, in the order of the default."""

_PREFIX = "REELKEEPER_"
_LARGEST_PORT = 65535
_LONGEST_DEADLINE_S = 30 * 24 * 3600
_LONGEST_LINK_S = 7 * 24 * 3600  # more is refused by S3
# Kubernetes puts these into every container when a Service is called reelkeeper or reelkeeper-something.
_INJECTED_NAME = re.compile(r"REELKEEPER_(\w+_)?(SERVICE_(HOST|PORT)|PORT_\d+_(TCP|UDP|SCTP))(_\w+)?")
_INJECTED_VALUE = re.compile(r"(tcp|udp|sctp)://")
_PUBLIC_URL = "where providers reach us, without trailing slash; `https://`, plain http only for loopback"
_EXAMPLE_URL = "https://videos.example.com"


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


class _Settings(BaseSettings):
    """How settings are read; secrets do not show in their `repr`."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", case_sensitive=True, enable_decoding=False, validate_default=False
    )

    @classmethod
    def read(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read `environ`, by default the process's own; blanks around a value do not count, and blank means unset.

        Raises ConfigurationError with every mistake that is there.
        """
        everything = os.environ if environ is None else environ
        given = {name: value.strip() for name, value in everything.items() if value.strip()}
        mistakes = cls._mistakes(given)
        try:
            config = cls.model_validate({"environ": given})
        except ValidationError as error:
            mistakes += map(_sentence, error.errors())
        if mistakes:
            raise ConfigurationError(mistakes)
        return config

    @classmethod
    def _mistakes(cls, given: Mapping[str, str]) -> list[str]:
        """Return what is wrong with all settings together."""
        return _unknown(given)

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


class LocalConfig(_Settings):
    """What a command needs that works with the database on this machine. Links are relative without `public_url`."""

    public_url: Annotated[str, BeforeValidator(texts.public_url)] = Field(
        "", validation_alias="REELKEEPER_PUBLIC_URL", description=_PUBLIC_URL, examples=[_EXAMPLE_URL]
    )
    database: Annotated[Path, BeforeValidator(texts.database)] = Field(
        "sqlite:///var/reelkeeper.db",
        validation_alias="REELKEEPER_DATABASE",
        description="`sqlite:///relative` to the working directory, or `sqlite:////absolute`",
        examples=["sqlite:////var/lib/reelkeeper/reelkeeper.db"],
        validate_default=True,
    )
    job_deadline_ms: Annotated[int, texts.whole_number(1, _LONGEST_DEADLINE_S, 1000)] = Field(
        "7200",
        validation_alias="REELKEEPER_JOB_DEADLINE",
        description="seconds until a silent job is `expired`",
        validate_default=True,
    )


class SecretConfig(LocalConfig):
    """What a command needs that shows what is derived from the secret key."""

    secret_keys: Annotated[tuple[bytes, ...], BeforeValidator(texts.secret_keys)] = Field(
        validation_alias="REELKEEPER_SECRET_KEY",
        description="32 or more random bytes in base64 or hex; a comma-separated list rotates, the first is current",
        examples=['"$(python3 -c "import secrets; print(secrets.token_urlsafe(32))")"'],
        repr=False,
    )


class RemoteConfig(_Settings):
    """What a command needs that asks a running service."""

    url: Annotated[str | None, BeforeValidator(texts.service_url)] = Field(
        None,
        validation_alias="REELKEEPER_URL",
        description="for commands alone: the running service that they ask, as `--url` does, in place of the database "
        "on this machine",
        examples=[_EXAMPLE_URL],
    )
    api_key: Annotated[str | None, BeforeValidator(texts.credential)] = Field(
        None,
        validation_alias="REELKEEPER_API_KEY",
        description="for commands alone: the API key that they ask a running service with; `--key-file` goes first",
        examples=["rk_and-what-follows"],
        repr=False,
    )

    @classmethod
    def _mistakes(cls, given: Mapping[str, str]) -> list[str]:
        # Without a service the settings of this machine are read as well, and say the same.
        return super()._mistakes(given) if "REELKEEPER_URL" in given else []


class Config(SecretConfig):
    """Every setting of the service, checked and typed. Made by `read`."""

    public_url: Annotated[str, BeforeValidator(texts.public_url)] = Field(
        validation_alias="REELKEEPER_PUBLIC_URL", description=_PUBLIC_URL, examples=[_EXAMPLE_URL]
    )
    storage: Annotated[str, BeforeValidator(texts.storage)] = Field(
        "var/videos",
        validation_alias="REELKEEPER_STORAGE",
        description="a folder's path (from the working directory, if relative), `file:///absolute`, "
        "`s3://bucket/prefix`, `gs://` or `az://`; credentials and endpoint come by the usual `AWS_*` etc.",
        examples=["s3://my-bucket/videos"],
    )
    link_seconds: Annotated[int, texts.whole_number(0, _LONGEST_LINK_S)] = Field(
        "3600",
        validation_alias="REELKEEPER_SIGNED_LINKS",
        description="seconds that a signed link to a bucket lives, to which callers are redirected for a video; `0`, "
        "for a bucket that callers cannot reach, sends every byte through the service",
        validate_default=True,
    )
    allowed_private_hosts: Annotated[frozenset[str], BeforeValidator(texts.hosts)] = Field(
        frozenset(),
        validation_alias="REELKEEPER_ALLOWED_PRIVATE_HOSTS",
        description="comma-separated `host:port` that outbound requests may reach although not public",
        examples=["backend.internal:8443,10.0.0.7:9000,[fd00::7]:9000"],
    )
    max_video_bytes: Annotated[int, BeforeValidator(texts.byte_count)] = Field(
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
    otlp_endpoint: Annotated[str | None, BeforeValidator(texts.collector)] = Field(
        None,
        validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT",
        description="turns traces on: a collector that speaks OTLP over HTTP; needs the extra `otel`, whose packages "
        "read the other `OTEL_*`",
        examples=["http://127.0.0.1:4318"],
    )
    otlp_traces_endpoint: Annotated[str | None, BeforeValidator(texts.collector)] = Field(
        None,
        validation_alias="OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        description="the same for traces alone, with its path",
        examples=["http://127.0.0.1:4318/v1/traces"],
    )
    port: Annotated[int, texts.whole_number(0, _LARGEST_PORT)] = Field(
        "8080",
        validation_alias="PORT",
        description="the port that `serve` listens on, as process managers set it; `--port` goes first",
        validate_default=True,
    )
    openrouter_api_key: Annotated[str | None, BeforeValidator(texts.credential)] = Field(
        None,
        validation_alias="OPENROUTER_API_KEY",
        description="turns OpenRouter on",
        examples=["sk-or-v1-and-what-follows"],
        repr=False,
    )
    openrouter_base_url: Annotated[str, BeforeValidator(texts.base_url)] = Field(
        "https://openrouter.ai/api/v1",
        validation_alias="OPENROUTER_BASE_URL",
        description="where OpenRouter's API is",
    )
    openrouter_webhook_secrets: Annotated[tuple[str, ...], BeforeValidator(texts.credentials)] = Field(
        (),
        validation_alias="OPENROUTER_WEBHOOK_SECRET",
        description="the webhook secret of the OpenRouter workspace, or a comma-separated list; without it callbacks "
        "only cause a poll, and a job whose submission was accepted with a lost answer cannot be found by its callback",
        examples=["the-secret-shown-in-the-workspace-settings"],
        repr=False,
    )
    llmgateway_api_key: Annotated[str | None, BeforeValidator(texts.credential)] = Field(
        None,
        validation_alias="LLMGATEWAY_API_KEY",
        description="turns LLM Gateway on; callback secrets are derived from the secret key, none is stored",
        examples=["the-key-shown-in-the-dashboard"],
        repr=False,
    )
    llmgateway_base_url: Annotated[str, BeforeValidator(texts.base_url)] = Field(
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
    def _mistakes(cls, given: Mapping[str, str]) -> list[str]:
        mistakes = super()._mistakes(given)
        if any(f"{name.upper()}_API_KEY" in given for name in PROVIDERS):
            return mistakes
        why = "because no provider is on without its key; for example OPENROUTER_API_KEY=sk-or-v1-and-what-follows"
        return [*mistakes, f"OPENROUTER_API_KEY or LLMGATEWAY_API_KEY must be set, {why}"]

    @field_validator("default_provider")
    @classmethod
    def _is_configured(cls, value: str, info: ValidationInfo) -> str:
        # A key that is set but wrong is not in `data`: its own mistake is enough, so it counts as configured.
        configured = [name for name in PROVIDERS if info.data.get(f"{name}_api_key", "wrong") is not None]
        if value and value not in PROVIDERS:
            raise ValueError("must be openrouter or llmgateway")
        if value and configured and value not in configured:
            raise ValueError(f"names a provider that is off; set {value.upper()}_API_KEY to turn it on")
        return value or next(iter(configured), "")

    @property
    def configured(self) -> tuple[str, ...]:
        """The providers that are on."""
        return tuple(name for name in PROVIDERS if getattr(self, name) is not None)

    @property
    def traces(self) -> str | None:
        """Where traces are sent; None when they are off."""
        return self.otlp_traces_endpoint or (self.otlp_endpoint and f"{self.otlp_endpoint}/v1/traces")

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


def _setting(described: FieldInfo) -> Setting:
    return Setting(
        name=str(described.validation_alias),
        meaning=described.description or "",
        default=None if described.is_required() else described.default or None,
        required=described.is_required(),
        example=str((described.examples or [described.default])[0]),
    )


_FIELDS = [*Config.model_fields.values(), *RemoteConfig.model_fields.values()]
SETTINGS: Mapping[str, Setting] = {
    setting.name: setting for setting in sorted(map(_setting, _FIELDS), key=lambda setting: not setting.required)
}
"""Every variable that is read, by name; first those that the service is not without."""


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
