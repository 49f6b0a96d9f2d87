"""The service as `reelkeeper serve` runs it, in a process that dies at a chosen point and is started again at once.

    python -m tests.mortal LIFE

The settings come from the environment, all else from `LIFE`, a `Life` as JSON. One process loads the code and forks for
every life, so that the next one begins soon after a death, on the same port and files. It writes the process id of each
life when that is ready, and `halted` when it stops. Only the first life has a `point`:

    committed   killed after the commit of a new job, before anything else
    overtaken   killed before the answer to a create, with the provider's answer recorded
    answered    killed after the answer to a create, before anything else
    claimed     killed after the commit that says that the provider is called now, before the call
    called      killed with the provider's answer in hand, before it is recorded
    halted      stopped (SIGSTOP) after the commit of a new job; whoever wants it to go on sends SIGCONT
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ParamSpec, Self, TypeVar

import uvloop
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import logs
from service.assembly import Service, Tuning, listen, open_service, serve, stop_on_signals
from service.config import Config
from service.providers import Manners
from service.providers.llmgateway import LLMGateway
from service.providers.openrouter import OpenRouter
from service.store import Timing
from service.workers import Rhythm
from tests.clocks import FastClock

P = ParamSpec("P")
T = TypeVar("T")
Method = Callable[P, Coroutine[Any, Any, T]]

_AGAIN_AFTER = 0.2  # s
_ON_ITS_WAY = 0.1  # s, after which an answer has left the process


@dataclass(frozen=True, slots=True)
class Life:
    """How the service lives, beside its settings.

    `rate` and `since` make its clock, `submit_seconds` is how long a provider may take to answer a submission (None: as
    long as its own file says). Dies only once, where `point` says; `stubborn`, it is also started again when it ends by
    itself, as process managers do: its database or its storage may have been out of order.
    """

    port: int = 0
    point: str | None = None
    rate: float = 1.0
    since: int = 0
    tuning: Tuning = field(default_factory=Tuning)
    submit_seconds: float | None = None
    stubborn: bool = False

    def to_json(self) -> str:
        """Return what `from_json` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote."""
        fields = json.loads(text)
        tuning = fields.pop("tuning")
        for name, kind in {"manners": Manners, "timing": Timing, "rhythm": Rhythm}.items():
            tuning[name] = tuning[name] and kind(**tuning[name])
        return cls(**fields, tuning=Tuning(**tuning))


def _say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _halt() -> None:
    _say("halted")
    os.kill(os.getpid(), signal.SIGSTOP)


def _after(method: Method[P, T], then: Callable[[], None]) -> Method[P, T]:
    """Return the method with what happens once, as soon as it has returned something."""
    happened: list[bool] = []

    async def called(*args: P.args, **kwargs: P.kwargs) -> T:
        value = await method(*args, **kwargs)
        if value and not happened:
            happened.append(True)
            then()
        return value

    return called


def _without_beginning(method: Method[P, T]) -> Method[P, T]:
    """Return the method as one that never does its work."""

    async def called(*args: P.args, **kwargs: P.kwargs) -> T:
        await asyncio.Event().wait()
        return await method(*args, **kwargs)

    return called


def _without_end(method: Method[P, T]) -> Method[P, T]:
    """Return the method as one that does its work and never returns."""

    async def called(*args: P.args, **kwargs: P.kwargs) -> T:
        value = await method(*args, **kwargs)
        await asyncio.Event().wait()
        return value

    return called


def _dying_once_it_answered(app: ASGIApp) -> ASGIApp:
    async def answering(scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Message) -> None:
            await send(message)
            if scope["method"] == "POST" and message["type"] == "http.response.body":
                asyncio.get_running_loop().call_later(_ON_ITS_WAY, _die)

        await app(scope, receive, sent)

    return answering


def _doomed(service: Service, point: str) -> Service:
    """Return the service with its death built in."""
    store, claims = service.records.store, service.records.claims
    if point in ("committed", "answered"):  # nobody is quicker than the death
        claims.claim_queued = _without_beginning(claims.claim_queued)  # type: ignore[method-assign]
    match point:
        case "committed":
            store.create_job = _after(store.create_job, _die)  # type: ignore[method-assign]
        case "overtaken":
            store.create_job = _without_end(store.create_job)  # type: ignore[method-assign]
            store.submitted = _after(store.submitted, _die)  # type: ignore[method-assign]
        case "answered":
            return replace(service, app=_dying_once_it_answered(service.app))
        case "claimed":
            claims.claim_queued = _after(claims.claim_queued, _die)  # type: ignore[method-assign]
        case "called":
            store.submitted = _dying  # type: ignore[method-assign]
        case "halted":
            store.create_job = _after(store.create_job, _halt)  # type: ignore[method-assign]
        case _:
            raise ValueError(point)
    return service


async def _dying(*_: object, **__: object) -> None:
    _die()


async def _live(life: Life) -> None:
    stop = stop_on_signals()
    if life.submit_seconds is not None:
        OpenRouter.submit_seconds = LLMGateway.submit_seconds = life.submit_seconds
    with listen("127.0.0.1", life.port) as listener:
        opening = open_service(
            Config.read(),
            logs.logger("reelkeeper"),
            clock=FastClock(life.rate, life.since),
            tuning=life.tuning,
        )
        async with opening as service:
            _say(str(os.getpid()))
            await serve(_doomed(service, life.point) if life.point else service, listener, stop)


def main() -> None:
    """Live until killed together with every life."""
    life = Life.from_json(sys.argv[1])
    logs.configure("json")
    while True:
        living = os.fork()
        if living == 0:
            uvloop.run(_live(life))
            return
        _, status = os.waitpid(living, 0)
        if not os.WIFSIGNALED(status):
            if not life.stubborn or os.waitstatus_to_exitcode(status) == 0:
                sys.exit(os.waitstatus_to_exitcode(status))
            time.sleep(_AGAIN_AFTER)
        life = replace(life, point=None)


if __name__ == "__main__":
    main()
