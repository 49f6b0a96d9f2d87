"""What the settings turn on: providers, where their files may come from, and traces."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx
from structlog.typing import FilteringBoundLogger

from service.clock import Clock
from service.config import Config
from service.providers import Manners, Provider
from service.providers.llmgateway import LLMGateway
from service.providers.openrouter import OpenRouter
from service.vault import Vault

if TYPE_CHECKING:
    from service.tracing import Tracing

_UNTRACED = (
    "traces are asked for, but nothing here sends them: pip install 'reelkeeper[otel]', or unset "
    "OTEL_EXPORTER_OTLP_ENDPOINT and OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
)


def providers_of(
    config: Config, client: httpx.AsyncClient, vault: Vault, manners: Manners | None, clock: Clock
) -> list[Provider]:
    """Return the providers that are on, in the order of the default; `manners`, if given, replace their own."""
    providers: list[Provider] = []
    if openrouter := config.openrouter:
        providers.append(
            OpenRouter(
                client,
                base_url=openrouter.base_url,
                api_key=openrouter.api_key,
                webhook_secrets=openrouter.webhook_secrets,
                manners=manners,
                clock=clock,
            )
        )
    if llmgateway := config.llmgateway:
        providers.append(
            LLMGateway(
                client,
                base_url=llmgateway.base_url,
                api_key=llmgateway.api_key,
                vault=vault,
                manners=manners,
                clock=clock,
            )
        )
    return providers


def reachable(config: Config) -> set[str]:
    """Return the private hosts that downloads may come from: those allowed, and the configured providers themselves."""
    urls = [urlsplit(provider.base_url) for provider in (config.openrouter, config.llmgateway) if provider]
    own = {url.netloc if url.port else f"{url.netloc}:{443 if url.scheme == 'https' else 80}" for url in urls}
    return set(config.allowed_private_hosts) | own


def tracing_of(config: Config, log: FilteringBoundLogger, flush: float) -> Tracing | None:
    """Return what traces jobs, if that is wanted and can be done; a warning says when it cannot.

    At the end it sends what waits, for at most `flush` seconds.
    """
    if config.traces is None:
        return None
    try:
        from service.tracing import Tracing  # noqa: PLC0415 - its packages are an extra, and take time to load
    except ModuleNotFoundError:
        log.warning("serve.untraced", advice=_UNTRACED)
        return None
    return Tracing.to(config.traces, log, flush=flush)
