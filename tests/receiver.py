"""A backend that is told about its jobs: an HTTP server on loopback that remembers every message."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.assembly import http_server, listen


@dataclass(frozen=True, slots=True)
class Told:
    """One message as it came: `id` is that of the delivery, the same for every attempt."""

    id: str
    job_id: str
    state: str
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Receiver:
    """Takes the messages of the native dialect and of OpenAI's. `answer` chooses the status that answers each one."""

    answer: Callable[[Told], int] = lambda _: 204
    told: list[Told] = field(default_factory=list)
    host: str = ""  # host:port, once it runs

    @property
    def url(self) -> str:
        """What a job names as its `notify_url`."""
        return f"http://{self.host}/told"

    def about(self, job_id: str) -> list[Told]:
        """Return what was told about a job, in order."""
        return [told for told in self.told if told.job_id == job_id]

    async def _take(self, request: Request) -> Response:
        body = await request.body()
        job: dict[str, Any] = json.loads(body)["data"]
        state = job.get("state") or job["status"]
        told = Told(request.headers["webhook-id"], job["id"], state, dict(request.headers), body)
        self.told.append(told)
        return Response(status_code=self.answer(told))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen while the block lasts."""
        app = Starlette(routes=[Route("/told", self._take, methods=["POST"])])
        with listen("127.0.0.1", 0) as listener:
            self.host = f"127.0.0.1:{listener.getsockname()[1]}"
            server = http_server(app)
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            try:
                yield
            finally:
                server.should_exit = True
                await serving
