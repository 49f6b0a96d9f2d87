"""What `serve`, `sandbox` and `demo` run; it loads the whole service, for which no other command waits."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import typer

from service import assembly, logs
from service.assembly import listen, open_service, stop_on_signals
from service.check import UNSIGNED
from service.commands import fail, out
from service.config import Config
from service.stage import USUAL_PORT, demonstrate, manual, playing

_HERE = "127.0.0.1"
_SANDBOX_KEY = "sk-sandbox-any-key-will-do"


async def serve(config: Config, host: str, port: int) -> None:
    """Run the service until a signal."""
    stop = stop_on_signals()
    log = logs.logger("reelkeeper")
    sys.setswitchinterval(0.0002)  # s: the database's thread and the loop's hand over sooner, measured a third faster
    with _listen(host, port, "choose another one with --port, PORT or --host") as listener:
        async with open_service(config, log) as service:
            address = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
            where = {"database": str(config.database.absolute()), "storage": service.storage.describe()}
            log.info("serve.started", address=address, public_url=config.public_url, **where)
            if config.openrouter and not config.openrouter.webhook_secrets:
                log.warning("serve.unsigned", provider="openrouter", advice=UNSIGNED)
            await assembly.serve(service, listener, stop)
    log.info("serve.stopped")


async def sandbox(host: str, port: int, webhook_secret: str, *, api_key: str | None, speed: float) -> None:
    """Run a stand-in provider until a signal; say how it is used."""
    stop = stop_on_signals()
    async with AsyncExitStack() as stack:
        with _explained(host, port, "choose another one with --port or --host"):
            stand_in = playing(host, port, webhook_secret, api_key=api_key, speed=speed)
            url = await stack.enter_async_context(stand_in)
        typer.echo(manual(url, api_key or _SANDBOX_KEY, webhook_secret))
        await stop.wait()


async def demo(folder: Path, port: int | None, *, once: bool) -> bool:
    """Run service and sandbox in `folder` until a signal, or `once` until all is shown; tell whether it went well."""
    stop = stop_on_signals()
    listener = _listen_beside_others() if port is None else _listen(_HERE, port, "choose another one with --port")
    return await demonstrate(folder, listener, stop, once=once, console=out, log=logs.logger("reelkeeper"))


def _listen_beside_others() -> socket.socket:
    try:
        return listen(_HERE, USUAL_PORT)
    except OSError:
        free = listen(_HERE, 0)
        out.print(f"{USUAL_PORT} is taken, so the service is on {free.getsockname()[1]}.", highlight=False)
        return free


def _listen(host: str, port: int, advice: str) -> socket.socket:
    with _explained(host, port, advice):
        return listen(host, port)


@contextmanager
def _explained(host: str, port: int, advice: str) -> Iterator[None]:
    """Say in a sentence why an address cannot be listened on."""
    try:
        yield
    except OSError as error:
        number = error.errno or 0  # below 0: a name that was not found
        why = os.strerror(number) if number > 0 else error.strerror
    except UnicodeError:
        why = "this cannot be the name of a host"
    else:
        return
    fail(f"cannot listen on {host}, port {port}: {why}; {advice}")
