"""The service as `reelkeeper serve` runs it, in a process that dies at a chosen point and is started again at once.

    python -m tests.mortal LIFE

The settings come from the environment, all else from `LIFE`, a `Life` as JSON. One process loads the code and forks for
every life, so that the next one begins soon after a death, on the same port and files. It writes the process id of each
life when that is ready, and the name of its point when that is reached. A `point` is one of `POINTS`: a way to wrap
what `open_service` built, of which nothing in the service knows.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, Final, Self

import uvloop
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import logs, outbound, storage
from service.assembly import Service, Tuning, listen, open_service, serve, stop_on_signals
from service.backoff import Backoff
from service.config import Config
from service.db import load_queries
from service.errors import ReelkeeperError
from service.model import Report, Source, Status
from service.providers import Manners
from service.providers.llmgateway import LLMGateway
from service.providers.openrouter import OpenRouter
from service.store import Timing
from service.workers import Rhythm, notifier
from service.workers.submitter import Submitter
from tests.clocks import FastClock

_AGAIN_AFTER = 0.2  # s
_ON_ITS_WAY = 0.1  # s, after which an answer has left the process
_PIECE = 512  # bytes in which a small video passes, so that there is a middle
_PART = 1024  # bytes of it that are one part of an upload
_QUERIES = load_queries()


@dataclass(frozen=True, slots=True)
class Life:
    """How the service lives, beside its settings.

    `rate` and `since` make its clock, `submit_seconds` is how long a provider may take to answer a submission and
    `again_ms` after how long one is sent again that it turned away (None: as the service has it). Dies where `point`
    says, and started again where the next of `then` says (None: nowhere); `stubborn`, it is also started again when it
    ends by itself, as process managers do: its database or its storage may have been out of order.
    """

    port: int = 0
    point: str | None = None
    rate: float = 1.0
    since: int = 0
    tuning: Tuning = field(default_factory=Tuning)
    submit_seconds: float | None = None
    again_ms: int | None = None
    stubborn: bool = False
    then: tuple[str | None, ...] = ()

    def next(self) -> Self:
        """Return the life after its death."""
        return replace(self, point=next(iter(self.then), None), then=tuple(self.then[1:]))

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


End = Callable[[], None]
"""What happens where a point is reached: it says so and dies, as a rule."""
Method = Callable[..., Coroutine[Any, Any, Any]]
Change = Callable[[str, Mapping[str, Any]], bool]
"""Tells a change of the database by its SQL and parameters."""


def _say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def _die(point: str) -> None:
    _say(point)
    os.kill(os.getpid(), signal.SIGKILL)


def _halt(point: str) -> None:
    _say(point)
    os.kill(os.getpid(), signal.SIGSTOP)


@dataclass(frozen=True, slots=True)
class Point:
    """Where the service can die: `says` where that is, in words, and `arm` wraps what it is built of.

    `end` is death, of the process itself, or something else of which it dies by another's hand.
    """

    says: str
    arm: Callable[[Service, End], Service | None]
    end: Callable[[str], None] = _die


class _MortalConnection:
    """A connection that meets its end when it is about to commit a change (`before`), or as soon as that is on disk."""

    def __init__(self, connection: sqlite3.Connection, change: Change, end: End, *, before: bool) -> None:
        self._connection = connection
        self._change = change
        self._end = end
        self._before = before
        self._changed = False

    def __getattr__(self, name: str) -> object:
        return getattr(self._connection, name)

    def execute(self, sql: str, parameters: Mapping[str, Any] | tuple[()] = ()) -> sqlite3.Cursor:
        last = sql == "COMMIT" and self._changed
        if last and self._before:
            self._end()
        cursor = self._connection.execute(sql, parameters)
        if last:
            self._end()
        self._changed = self._changed or (isinstance(parameters, Mapping) and self._change(sql, parameters))
        return cursor


def _at_commit(change: Change, *, before: bool) -> Callable[[Service, End], None]:
    def arm(service: Service, end: End) -> None:
        writer = service.records.ledger.db._writer  # type: ignore[attr-defined] # it is SQLite's
        writer._connection = _MortalConnection(writer._connection, change, end, before=before)

    return arm


def _query(name: str) -> Change:
    return lambda sql, _: sql == _QUERIES[name]


def _event(event: str, source: Source | None = None) -> Change:
    """Return what tells a transition: each one writes its event, and no other does."""

    def writes(sql: str, parameters: Mapping[str, Any]) -> bool:
        if sql != _QUERIES["insert_event"] or parameters["type"] != event:
            return False
        return source is None or json.loads(parameters["data"]).get("source") == source

    return writes


def _wrap(owner: object, name: str, wrapper: Callable[[Method], Method]) -> None:
    setattr(owner, name, wrapper(getattr(owner, name)))


def _when_called(
    owner: Callable[[Service], object], name: str, when: Callable[..., bool] = lambda *_, **__: True
) -> Callable[[Service, End], None]:
    """Return what makes the service meet its end where a method is called, before that does anything."""

    def arm(service: Service, end: End) -> None:
        def dying(method: Method) -> Method:
            async def called(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - whatever the method takes and returns
                if when(*args, **kwargs):
                    end()
                return await method(*args, **kwargs)

            return called

        _wrap(owner(service), name, dying)

    return arm


def _last_poll(_job_id: str, report: Report, source: Source, **_: object) -> bool:
    return source is Source.POLL and report.status is Status.COMPLETED


def _without_beginning(method: Method) -> Method:
    async def called(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - whatever the method takes and returns
        await asyncio.Event().wait()
        return await method(*args, **kwargs)

    return called


def _without_end(method: Method) -> Method:
    async def called(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - whatever the method takes and returns
        await method(*args, **kwargs)
        return await asyncio.Event().wait()

    return called


def _overtaken(service: Service, end: End) -> None:
    _wrap(service.records.store, "create_job", _without_end)
    _at_commit(_event("job.running"), before=False)(service, end)


def _unclaimed(service: Service) -> None:
    # Nobody may be quicker than the death: a job can be accepted and claimed in one commit.
    _wrap(service.records.claims, "claim_queued", _without_beginning)


def _committed(service: Service, end: End) -> None:
    _unclaimed(service)
    _at_commit(_event("job.queued"), before=False)(service, end)


def _answered(service: Service, end: End) -> Service:
    _unclaimed(service)

    def dying(app: ASGIApp) -> ASGIApp:
        async def answering(scope: Scope, receive: Receive, send: Send) -> None:
            async def sent(message: Message) -> None:
                await send(message)
                if scope["method"] == "POST" and message["type"] == "http.response.body":
                    asyncio.get_running_loop().call_later(_ON_ITS_WAY, end)

            await app(scope, receive, sent)

        return answering

    return replace(service, app=dying(service.app))


def _halted(service: Service, end: End) -> None:
    def halting(method: Method) -> Method:
        halted: list[bool] = []

        async def called(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - whatever the method takes and returns
            value = await method(*args, **kwargs)
            if not halted:
                halted.append(True)
                end()
            return value

        return called

    _wrap(service.records.store, "create_job", halting)


def _downloading(_: Service, end: End) -> None:
    chunks = outbound.Download.chunks

    async def half(download: outbound.Download) -> AsyncIterator[bytes]:
        came = 0
        async for chunk in chunks(download):
            for start in range(0, len(chunk), _PIECE):
                piece = chunk[start : start + _PIECE]
                came += len(piece)
                if 2 * came >= (download.length or 0):
                    end()
                yield piece

    setattr(outbound.Download, chunks.__name__, half)


def _uploading(service: Service, end: End) -> None:
    storage._PART_BYTES = _PART  # videos of the sandbox are smaller than one part

    async def half(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        whole = b"".join([chunk async for chunk in chunks])
        for start in range(0, len(whole) // 2, _PIECE):
            yield whole[start : start + _PIECE]
        end()
        await asyncio.Event().wait()

    def halving(put: Method) -> Method:
        return lambda key, chunks, **kwargs: put(key, half(chunks), **kwargs)

    _wrap(service.storage, "put", halving)


POINTS: Final[Mapping[str, Point]] = {
    "accepting": Point("a job is written, and not committed", _at_commit(_event("job.queued"), before=True)),
    "committed": Point("a job is committed, and not answered", _committed),
    "overtaken": Point("a job is not answered, and the provider has it already", _overtaken),
    "answered": Point("a job is answered (202), and nothing else was done", _answered),
    "halted": Point("a job is accepted: whoever stopped it (SIGSTOP) sends SIGCONT", _halted, _halt),
    "claiming": Point(
        "the mark of the paid call is written, and not committed", _at_commit(_event("job.submitting"), before=True)
    ),
    "claimed": Point(
        "the mark of the paid call is committed, and the call not made",
        _at_commit(_event("job.submitting"), before=False),
    ),
    "called": Point(
        "the provider's answer is in hand, and not written", _when_called(lambda s: s.records.store, "submitted")
    ),
    "binding": Point(
        "the provider's answer is written, and not committed", _at_commit(_event("job.running"), before=True)
    ),
    "bound": Point("the provider's answer is committed", _at_commit(_event("job.running"), before=False)),
    "verified": Point("a callback is verified, and not written", _when_called(lambda s: s.records.store, "receive")),
    "receiving": Point(
        "a callback is written, and not committed",
        _at_commit(_event("job.mirroring", Source.CALLBACK), before=True),
    ),
    "received": Point(
        "a callback is committed, and not answered (204)",
        _at_commit(_event("job.mirroring", Source.CALLBACK), before=False),
    ),
    "polled": Point(
        "a poll's answer is in hand, and not written", _when_called(lambda s: s.records.store, "apply", _last_poll)
    ),
    "applying": Point(
        "a poll's answer is written, and not committed", _at_commit(_event("job.mirroring", Source.POLL), before=True)
    ),
    "applied": Point("a poll's answer is committed", _at_commit(_event("job.mirroring", Source.POLL), before=False)),
    "downloading": Point("half of the video has come", _downloading),
    "uploading": Point("half of the video is in storage", _uploading, _say),
    "uploaded": Point(
        "the video is in storage, and not recorded", _when_called(lambda s: s.records.claims, "keep_artifact")
    ),
    "keeping": Point("the artifact is written, and not committed", _at_commit(_query("upsert_artifact"), before=True)),
    "kept": Point(
        "the artifact is committed, and the job not completed", _at_commit(_query("upsert_artifact"), before=False)
    ),
    "completing": Point(
        "the completion is written, and not committed", _at_commit(_event("job.completed"), before=True)
    ),
    "completed": Point("the completion is committed", _at_commit(_event("job.completed"), before=False)),
    "telling": Point("a delivery is claimed, and not sent", _when_called(lambda _: notifier, "post")),
    "told": Point(
        "a delivery is answered (2xx), and that is not written",
        _when_called(lambda s: s.records.deliveries, "delivered"),
    ),
    "noting": Point(
        "a delivery's outcome is written, and not committed", _at_commit(_query("end_delivery"), before=True)
    ),
    "noted": Point("a delivery's outcome is committed", _at_commit(_query("end_delivery"), before=False)),
}
"""Every point, in the order in which a job comes by. "Not committed" is in the transaction, just before its COMMIT."""


def _doomed(service: Service, name: str) -> Service:
    """Return the service with its end built in."""
    point = POINTS[name]
    return point.arm(service, partial(point.end, name)) or service


async def _live(life: Life) -> None:
    stop = stop_on_signals()
    if life.again_ms is not None:
        Submitter.turned_away = Backoff(life.again_ms, life.again_ms)
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
            try:
                uvloop.run(_live(life))
            except ReelkeeperError as error:  # which `reelkeeper serve` says in a sentence, too
                logs.logger("reelkeeper").error("serve.cannot_start", error=str(error))
                sys.exit(1)
            return
        _, status = os.waitpid(living, 0)
        if not os.WIFSIGNALED(status):
            if not life.stubborn or os.waitstatus_to_exitcode(status) == 0:
                sys.exit(os.waitstatus_to_exitcode(status))
            time.sleep(_AGAIN_AFTER)
        else:
            life = life.next()


if __name__ == "__main__":
    main()
