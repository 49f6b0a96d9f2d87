"""Where sandbox and service play together: `reelkeeper sandbox` runs the one, `reelkeeper demo` both in one process."""

from __future__ import annotations

import asyncio
import secrets
import shlex
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from structlog.typing import FilteringBoundLogger

from service.assembly import Tuning, open_service, serve
from service.clock import SystemClock
from service.config import Config
from service.providers import Manners
from service.sandbox import Sandbox, serving
from service.sandbox.demo import Demo

USUAL_PORT = 8080  # of a service on this machine
_KEY = "sk-sandbox-demo"  # for the sandbox, which takes any
_SECRET = "demo-webhook-secret"  # noqa: S105 - signs nothing but the sandbox's own messages
# The demonstration's jobs take seconds, so it is polled by the second, and silence is judged soon.
_MANNERS = Manners(first_poll_ms=4_000, poll_every_ms=1_000, retention_ms=86_400_000, per_minute=6_000, burst=100)
_DEADLINE = 15  # s


@asynccontextmanager
async def playing(
    host: str, port: int, webhook_secret: str, *, api_key: str | None = None, speed: float = 1.0
) -> AsyncIterator[str]:
    """Run a sandbox while the block runs; yields its address. Raises OSError if it cannot listen there."""
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        stand_in = Sandbox(
            clock=SystemClock(),
            chance=secrets.SystemRandom(),
            webhook_secret=webhook_secret,
            client=client,
            api_key=api_key,
            speed=speed,
        )
        async with serving(stand_in, host, port) as url:
            telling = asyncio.create_task(stand_in.run())
            try:
                yield url
            finally:
                await _end(telling)


def manual(url: str, api_key: str, webhook_secret: str) -> str:
    """Return what to read about a sandbox at `url`, and what to type to point a service at it."""
    key = shlex.quote(api_key)
    return (
        f"{url}/ says what each model name does, {url}/sandbox/ledger what was asked.\n"
        "For `reelkeeper serve` and its companions, in other shells:\n\n"
        f"export REELKEEPER_PUBLIC_URL=http://127.0.0.1:{USUAL_PORT} "
        f"REELKEEPER_SECRET_KEY={secrets.token_urlsafe(32)}\n"
        f"export REELKEEPER_ALLOWED_PRIVATE_HOSTS={_elsewhere(url)}\n"
        f"export OPENROUTER_BASE_URL={url}/api/v1 OPENROUTER_API_KEY={key} "
        f"OPENROUTER_WEBHOOK_SECRET={shlex.quote(webhook_secret)}\n"
        f"export LLMGATEWAY_BASE_URL={url}/v1 LLMGATEWAY_API_KEY={key}\n"
    )


async def demonstrate(
    folder: Path,
    listener: socket.socket,
    stop: asyncio.Event,
    *,
    once: bool,
    console: Console,
    log: FilteringBoundLogger,
) -> bool:
    """Play the demonstration on `listener`, keep everything in `folder`, and serve until `stop` is set, or not `once`.

    Returns whether every job ended as it should; False when it was stopped before.
    """
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with playing("127.0.0.1", 0, _SECRET) as sandbox_url:
        config = _settings(folder, url, sandbox_url)
        async with open_service(config, log, tuning=Tuning(manners=_MANNERS)) as service:
            _, key = await service.records.keys.create("demo", "demo", operator=True)
            demo = Demo(
                url=url,
                key=key,
                sandbox_url=sandbox_url,
                videos=folder / "videos",
                clock=SystemClock(),
                console=console,
            )
            service_runs = asyncio.create_task(serve(service, listener, stop))
            stopped = asyncio.create_task(stop.wait())
            play = asyncio.create_task(demo.play())
            try:
                await asyncio.wait({play, stopped}, return_when=asyncio.FIRST_COMPLETED)
                well = play.done() and play.result()
                if not play.done():
                    console.print("\nStopped before every job had ended.")
                if play.done() and not once:
                    demo.show_what_to_try()
                    await stopped
            finally:
                stop.set()
                await _end(play)
                await service_runs
    console.print(f"\nThe files stay in {folder}", highlight=False, markup=False, soft_wrap=True)
    return well


def _settings(folder: Path, url: str, sandbox_url: str) -> Config:
    return Config.read(
        {
            "REELKEEPER_PUBLIC_URL": url,
            "REELKEEPER_SECRET_KEY": secrets.token_urlsafe(32),
            "REELKEEPER_DATABASE": f"sqlite:///{folder / 'reelkeeper.db'}",
            "REELKEEPER_STORAGE": str(folder / "videos"),
            "REELKEEPER_JOB_DEADLINE": str(_DEADLINE),
            "REELKEEPER_ALLOWED_PRIVATE_HOSTS": _elsewhere(sandbox_url),
            "OPENROUTER_BASE_URL": f"{sandbox_url}/api/v1",
            "OPENROUTER_API_KEY": _KEY,
            "OPENROUTER_WEBHOOK_SECRET": _SECRET,
            "LLMGATEWAY_BASE_URL": f"{sandbox_url}/v1",
            "LLMGATEWAY_API_KEY": _KEY,
        }
    )


def _elsewhere(sandbox_url: str) -> str:
    """Return where the sandbox redirects to: another name of this machine."""
    return f"localhost:{httpx.URL(sandbox_url).port}"


async def _end(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.wait({task})
