"""Large bodies one by one have a limit, and here together: what is made of one takes several times its size."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.web.refusals import RefusalError

_LARGE = 1_048_576  # bytes


class Places:
    """What every request passes: a body that grows beyond 1 MiB needs one of `places` until its answer begins.

    Who comes when all are taken waits, and is not read meanwhile, so a rush is served in turn. After `seconds` the
    client is asked to come again. A body that was announced and does not come takes no place; one that comes slowly
    has its place for as long as its reader gives it.
    """

    places = 8
    seconds = 10.0

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._free = asyncio.Semaphore(self.places)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request. Raises RefusalError (503) where the body is read."""
        size = 0
        taken = answered = False

        def leave() -> None:
            nonlocal taken, answered
            if taken:
                self._free.release()
            taken, answered = False, True

        async def receive_on() -> Message:
            nonlocal size, taken
            message = await receive()
            size += len(message.get("body", b""))
            # Whoever listens for a hang-up once the answer has begun reads bodies as well, and keeps nothing of them.
            if size > _LARGE and not taken and not answered:
                await self._wait()
                taken = True
            return message

        async def send_on(message: Message) -> None:
            leave()
            await send(message)

        try:
            await self._app(scope, receive_on, send_on)
        finally:
            leave()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self.seconds):
                await self._free.acquire()
        except TimeoutError:
            raise RefusalError(
                503,
                "too_many_large_bodies",
                "The service is taking in as many large requests as it has room for, so nothing was done; send it "
                "again in a few seconds, or send media as https:// URLs.",
                headers={"retry-after": "5"},
            ) from None
