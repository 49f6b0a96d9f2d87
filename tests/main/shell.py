"""Runs `reelkeeper`, in this process or as one of its own."""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import structlog
from structlog.testing import CapturingLogger
from structlog.typing import FilteringBoundLogger
from typer.testing import CliRunner, Result

from service import __main__ as command_line
from service.assembly import http_server, listen, open_service
from service.config import SETTINGS, Config
from service.records import Records, open_records

T = TypeVar("T")

_QUIET: FilteringBoundLogger = structlog.wrap_logger(
    CapturingLogger(), processors=[], wrapper_class=structlog.make_filtering_bound_logger(20)
)

ROOT = Path(__file__).parent.parent.parent


class Shell:
    """Runs `reelkeeper` with the settings of one service, in this process or as one of its own."""

    typed: str | None = None  # what comes in on standard input

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = {
            "REELKEEPER_PUBLIC_URL": "http://127.0.0.1:8080",
            "REELKEEPER_SECRET_KEY": secrets.token_urlsafe(32),
            "REELKEEPER_DATABASE": f"sqlite:///{folder / 'reelkeeper.db'}",
            "REELKEEPER_STORAGE": str(folder / "videos"),
            "OPENROUTER_API_KEY": "sk-or-v1-canary",
        }

    def run(self, *words: str, **settings: str | None) -> Result:
        env: dict[str, str | None] = {**dict.fromkeys(SETTINGS), **self.settings, **settings}
        return CliRunner().invoke(command_line.app, words, env=env, input=self.typed)

    def fails(self, *words: str, code: int = 1, **settings: str | None) -> str:
        """Run a command that must fail with `code`; return what it says on standard error."""
        result = self.run(*words, **settings)
        assert (result.exit_code, result.stdout) == (code, ""), result.output
        assert "Traceback" not in result.stderr
        return result.stderr

    def asking(self) -> dict[str, str]:
        """Return the settings that a command needs to look into this service; here its database is enough."""
        return {name: self.settings[name] for name in ("REELKEEPER_DATABASE", "REELKEEPER_PUBLIC_URL")}

    def environment(self, **settings: str) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if name not in SETTINGS}
        return {**inherited, "PYTHONPATH": str(ROOT), **self.settings, **settings}

    @contextmanager
    def started(self, *words: str, before: str = "", **settings: str) -> Iterator[subprocess.Popen[str]]:
        """Run a command as a process of its own while the block lasts; `before` is Python that runs before it."""
        program = ["-c", f"{before}\nfrom service.__main__ import app\napp()"] if before else ["-m", "service"]
        with subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, *program, *words],
            cwd=self.folder,
            env=self.environment(**settings),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def with_records(self, work: Callable[[Records], Awaitable[T]]) -> T:
        """Return what comes of `work` on the database itself."""

        async def run() -> T:
            async with open_records(Config.read(self.settings)) as records:
                return await work(records)

        return asyncio.run(run())


class LocalDesk(Shell):
    """Runs commands with no more settings than say where the database is."""

    def run(self, *words: str, **settings: str | None) -> Result:
        alone: dict[str, str | None] = dict.fromkeys(self.settings)
        return super().run(*words, **{**alone, **self.asking(), **settings})

    @property
    def where(self) -> str:
        return f"in {self.folder / 'reelkeeper.db'}"


class RemoteDesk(LocalDesk):
    """Runs commands with the address of the service and an operator's key, and no setting beside these."""

    url = ""
    key = ""

    def asking(self) -> dict[str, str]:
        return {"REELKEEPER_URL": self.url, "REELKEEPER_API_KEY": self.key}

    @property
    def where(self) -> str:
        return f"at {self.url}"

    @contextmanager
    def served(self) -> Iterator[None]:
        """Answer on a real socket, from a thread, without workers, while the block lasts."""
        listener = listen("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self.settings["REELKEEPER_PUBLIC_URL"] = self.url
        ready = threading.Event()
        stops = []

        async def serve() -> None:
            stop = asyncio.Event()
            stops.append((asyncio.get_running_loop(), stop))
            async with open_service(Config.read(self.settings), _QUIET) as service:
                _, self.key = await service.records.keys.create("the desk's", "default", operator=True)
                server = http_server(service.app)
                running = asyncio.create_task(server.serve(sockets=[listener]))
                ready.set()
                await stop.wait()
                server.should_exit = True
                await running

        thread = threading.Thread(target=asyncio.run, args=[serve()])
        thread.start()
        try:
            assert ready.wait(30)
            yield
        finally:
            loop, stop = stops[0]
            loop.call_soon_threadsafe(stop.set)
            thread.join(30)
            listener.close()
