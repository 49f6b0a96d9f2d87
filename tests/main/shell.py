"""Runs `reelkeeper`, in this process or as one of its own."""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from typer.testing import CliRunner, Result

from service import __main__ as command_line
from service.assembly import Records, open_records
from service.config import SETTINGS, Config

T = TypeVar("T")

ROOT = Path(__file__).parent.parent.parent


class Shell:
    """Runs `reelkeeper` with the settings of one service, in this process or as one of its own."""

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
        return CliRunner().invoke(command_line.app, words, env=env)

    def fails(self, *words: str, code: int = 1, **settings: str | None) -> str:
        """Run a command that must fail with `code`; return what it says on standard error."""
        result = self.run(*words, **settings)
        assert (result.exit_code, result.stdout) == (code, ""), result.output
        assert "Traceback" not in result.stderr
        return result.stderr

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
