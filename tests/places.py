"""Where a call is made: a stand-in provider, the service as a process of its own, and what stands between them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from inspect import isawaitable
from pathlib import Path

import httpx
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import service
from service.clock import Clock, SystemClock
from service.config import SETTINGS, Config
from service.model import Job
from service.records import open_records
from service.sandbox import Sandbox, serving
from service.sandbox.downloads import VIDEOS
from service.sandbox.jobs import ProviderJob
from tests.clocks import FastClock
from tests.mortal import Life
from tests.servers import held_ports

_ROOT = Path(service.__file__).parent.parent
_SECRET = "workspace-webhook-secret"
_LOOK_EVERY = 0.02  # s; another process works meanwhile, and turning the loop idly would take its processor
_BAD_GATEWAY = (
    b"HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/html\r\ncontent-length: 24\r\nconnection: close\r\n\r\n"
    b"<h1>502 Bad Gateway</h1>"
)


async def until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait for what another process does; `condition` may have to be awaited. Raises TimeoutError when it does not."""
    async with asyncio.timeout(seconds):
        while True:
            found = condition()
            if await found if isawaitable(found) else found:
                return
            await asyncio.sleep(_LOOK_EVERY)


class TakesForms:
    """Lets the sandbox take what `openai` posts, a form, as OpenAI's own API does: LLM Gateway takes JSON alone."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = MutableHeaders(scope=scope)
        if not headers.get("content-type", "").startswith("multipart/form-data"):
            await self._app(scope, receive, send)
            return
        async with Request(scope, receive).form() as form:
            body = json.dumps({name: int(str(value)) if name == "seconds" else value for name, value in form.items()})
        headers["content-type"], headers["content-length"] = "application/json", str(len(body))
        messages: list[Message] = [{"type": "http.request", "body": body.encode()}]

        async def read() -> Message:
            return messages.pop() if messages else await receive()

        await self._app({**scope, "headers": headers.raw}, read, send)


class Door:
    """A provider's socket: closed, whoever connects is refused; opened again, it has the same address."""

    def __init__(self) -> None:
        self.port = 0
        self._socket = contextlib.AsyncExitStack()

    async def open(self, sandbox: Sandbox) -> None:
        """Let the sandbox answer."""
        await self._socket.enter_async_context(serving(sandbox, port=self.port))

    async def close(self) -> None:
        """Cut every connection, and take none."""
        await self._socket.aclose()


Overhear = Callable[[httpx.Request], Awaitable[None]]


@contextlib.asynccontextmanager
async def playing(
    speed: float = 1.0, clock: Clock | None = None, *, door: Door | None = None, overhear: Sequence[Overhear] = ()
) -> AsyncIterator[Sandbox]:
    """Run a sandbox behind `door`, which sends its callbacks by itself; each of `overhear` is shown them before."""
    door = door or Door()
    client = httpx.AsyncClient(trust_env=False, timeout=10, event_hooks={"request": [*overhear]})
    sandbox = Sandbox(
        clock=clock or SystemClock(),
        chance=random.Random(5),  # noqa: S311 - names alone come from it
        webhook_secret=_SECRET,
        client=client,
        speed=speed,
    )
    sandbox.app.add_middleware(TakesForms)
    with held_ports(1) as [door.port]:
        async with client:
            await door.open(sandbox)
            telling = asyncio.create_task(sandbox.run())
            try:
                yield sandbox
            finally:
                telling.cancel()
                await asyncio.wait({telling})
                await door.close()


@contextlib.asynccontextmanager
async def losing_one_answer(url: str) -> AsyncIterator[str]:
    """Run a proxy before `url` that says 502 instead of passing on the first answer, and passes on everything else."""
    upstream = httpx.URL(url)
    lost: list[bytes] = []
    running: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (task := asyncio.current_task()) is not None:
            running.add(task)
            task.add_done_callback(running.discard)
        there, back = await asyncio.open_connection(upstream.host, upstream.port)
        asking = asyncio.create_task(pump(reader, back))
        try:
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                if not lost:
                    lost.append(await there.readuntil(b"\r\n\r\n"))
                    writer.write(_BAD_GATEWAY)
                    await writer.drain()
                else:
                    await pump(there, writer)
        finally:
            asking.cancel()
            await asyncio.wait({asking})
            for each in (writer, back):
                each.close()

    listener = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    finally:
        listener.close()
        for task in list(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a process that runs our code, wherever it runs, with these settings and no others."""
    inherited = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    return {**inherited, "PYTHONPATH": str(_ROOT), **settings}


@dataclass(frozen=True, slots=True)
class Lives:
    """What a service has lived through: the process ids of its `lives`, and the points that it has `reached`."""

    lives: list[int] = field(default_factory=list)
    reached: list[str] = field(default_factory=list)

    async def follow(self, said: asyncio.StreamReader) -> None:
        """Take note of what the process says, until it says no more."""
        async for line in said:
            if line[:1].isdigit():
                self.lives.append(int(line))
            else:
                self.reached.append(line.decode().strip())


@contextlib.asynccontextmanager
async def living(
    life: Life, settings: Mapping[str, str], folder: Path, before: Sequence[str] = ()
) -> AsyncIterator[Lives]:
    """Run the service while the block lasts, in `folder`, where it logs into `log.jsonl`; `before` as in `open_place`.

    Raises RuntimeError with the log when it does not start.
    """
    with (folder / "log.jsonl").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(*before, sys.executable, "-m", "tests.mortal", life.to_json()),
            env=environment(settings),
            cwd=folder,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
    assert process.stdout is not None
    found = Lives()
    following = asyncio.create_task(found.follow(process.stdout))
    try:
        await until(lambda: found.lives or following.done())
        if not found.lives:
            raise RuntimeError((folder / "log.jsonl").read_text(encoding="utf-8"))
        yield found
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its lives, too: they have no other group
        await process.wait()
        await following


class Place:
    """A running service with a caller's key, before a sandbox.

    `lives` are its process ids, the living one last; `reached` names the points of `tests.mortal` that it came to.
    `folder` holds everything: `reelkeeper.db`, `videos/` and what it logged, `log.jsonl`.
    """

    def __init__(
        self, sandbox: Sandbox, url: str, key: str, settings: Mapping[str, str], folder: Path, lived: Lives
    ) -> None:
        self.sandbox = sandbox
        self.url = url
        self.key = key
        self.settings = settings
        self.folder = folder
        self.lives = lived.lives
        self.reached = lived.reached
        self._config = Config.read(settings)

    @property
    def made(self) -> list[ProviderJob]:
        """The jobs that the provider made, and bills."""
        return self.sandbox.ledger.jobs()

    @property
    def halted(self) -> bool:
        """Whether it stopped where it was to."""
        return "halted" in self.reached

    async def jobs(self) -> list[Job]:
        """Read the service's own jobs as they are on disk."""
        async with open_records(self._config) as records:
            return await records.store.jobs(limit=1_000_000)

    def made_for(self, job_id: str) -> list[ProviderJob]:
        """Return the jobs that the provider made for ours, which it knows by the address to call back."""
        return [made for made in self.made if f"/{job_id}/" in (made.callback_url or "")]

    async def tell(self, job_id: str) -> str:
        """Return all that is known of a job: for whoever must find out why it did not end as it should."""
        async with open_records(self._config) as records:
            job = await records.store.job(job_id)
            events = await records.store.events(job_id)
            deliveries = await records.deliveries.of(job_id)
            rejections = await records.rejections.page(job_id=job_id)
        lines = [f"{job}"]
        lines += [f"  {event.at}  {event.type}  {event.data}" for event in events]
        lines += [f"  owed: {delivery}, tried: {attempts}" for delivery, attempts in deliveries]
        lines += [f"  rejected: {rejection}" for rejection in rejections]
        lines += [f"  at the provider: {asdict(made)}" for made in self.made_for(job_id)]
        with (self.folder / "log.jsonl").open(encoding="utf-8") as log:
            said = [line.rstrip() for line in log if job_id in line and '"method": "GET"' not in line]
        return "\n".join([*lines, *(f"  log: {line}" for line in said)])

    def calling(self) -> httpx.AsyncClient:
        """Return a client that calls the service with the caller's key."""
        headers = {"authorization": f"Bearer {self.key}"}
        return httpx.AsyncClient(base_url=self.url, headers=headers, trust_env=False, timeout=30)

    def signal(self, number: int) -> None:
        """Send a signal to the living process."""
        os.kill(self.lives[-1], number)


def bytes_of(made: ProviderJob) -> bytes:
    """Return the video that the sandbox serves for one of its jobs."""
    return VIDEOS[made.number % len(VIDEOS)]


@contextlib.asynccontextmanager
async def open_place(
    folder: Path,
    point: str | None = None,
    *,
    dedupe_window: int = 0,
    deadline: int = 7200,
    speed: float = 1.0,
    settings: Mapping[str, str] | None = None,
    life: Life | None = None,
    receivers: Collection[str] = (),
    before: Sequence[str] = (),
    door: Door | None = None,
    overhear: Sequence[Overhear] = (),
) -> AsyncIterator[Place]:
    """Run a sandbox, and the service against it, with everything in `folder`; the service dies at `point`.

    `dedupe_window` (s) is that of the caller's key, `deadline` (s) that of jobs that stay silent; `speed` is the
    sandbox's, on top of the clock of `life`, which the service and the sandbox have in common. `settings` are further
    variables of the service, `receivers` (`host:port`) may be told about jobs, and `before` is a command that runs the
    service, such as `strace`. `door` and `overhear` are those of `playing`.
    """
    async with contextlib.AsyncExitStack() as stack:
        [port] = stack.enter_context(held_ports(1))
        url = f"http://127.0.0.1:{port}"
        life = replace(life or Life(), port=port, point=point)
        clock = FastClock(life.rate, life.since)
        sandbox = await stack.enter_async_context(playing(speed, clock, door=door, overhear=overhear))
        reachable = [f"localhost:{httpx.URL(sandbox.base_url).port}", *receivers]
        settings = {
            "REELKEEPER_PUBLIC_URL": url,
            "REELKEEPER_SECRET_KEY": secrets.token_hex(32),
            "REELKEEPER_DATABASE": f"sqlite:///{folder / 'reelkeeper.db'}",
            "REELKEEPER_STORAGE": str(folder / "videos"),
            "REELKEEPER_JOB_DEADLINE": str(deadline),
            "REELKEEPER_ALLOWED_PRIVATE_HOSTS": ",".join(reachable),
            "OPENROUTER_BASE_URL": f"{sandbox.base_url}/api/v1",
            "OPENROUTER_API_KEY": "any",
            "OPENROUTER_WEBHOOK_SECRET": _SECRET,
            "LLMGATEWAY_BASE_URL": f"{sandbox.base_url}/v1",
            "LLMGATEWAY_API_KEY": "any",
            **(settings or {}),
        }
        async with open_records(Config.read(settings)) as records:
            _, key = await records.keys.create("backend", "studio", dedupe_window_ms=dedupe_window * 1000)
        lived = await stack.enter_async_context(living(life, settings, folder, before))
        yield Place(sandbox, url, key, settings, folder, lived)
