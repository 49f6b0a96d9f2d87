"""How every face accepts a call that asks for a video: once, before anything is spent, and with the answer watched.

A client that never got our answer calls again. Some of them say so (an idempotency key, a retry's mark), most do not;
so what is remembered is whether the answer was ever sent. A caller who hung up while we were at it, or before whom we
were killed, was not answered.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.clock import Clock
from service.errors import StoreUnavailableError
from service.ids import Ids
from service.model import ApiKey, Job, State
from service.pace import Pace
from service.store import (
    Call,
    Created,
    Creation,
    Idempotency,
    JobDeleted,
    KeyReused,
    NewJob,
    NotRetriable,
    OutOfCredits,
    RateLimited,
    Store,
)
from service.web.body import canonical
from service.web.callers import note, note_made
from service.web.refusals import RefusalError

_IDEMPOTENCY_KEY = re.compile(r"[ -~]{1,255}")
_TOO_MANY = 429  # the one refusal here that clients repeat by themselves
_MOST_TURNED_AWAY = 10_000
_MOST_ALIKE = 100
_REMEMBERED_MS = 900_000
_TURNS = 8  # of the loop before an answer, in which a hang-up that has arrived is heard: it takes three
_LONG = 20_000  # characters, which only media have
_RETRY_COUNT = re.compile(r"[1-9][0-9]{0,3}", re.ASCII)


Make = Callable[[Idempotency | None, Call | None, RateLimited | None], Awaitable[Creation]]


class Creating:
    """Accepts jobs for all faces."""

    def __init__(self, store: Store, clock: Clock, ids: Ids) -> None:
        self._store = store
        self._clock = clock
        self._ids = ids
        self._process = ids.new("process")
        self._waiting: set[str] = set()  # calls whose callers are on the line
        self._paces: dict[str, Pace] = {}
        self._turned_away = _TurnedAway(clock)

    async def create(
        self,
        request: Request,
        caller: ApiKey,
        wish: NewJob | Job,
        *,
        operation: str,
        body: object,
        answer: Callable[[Job, dict[str, str]], Response],
    ) -> Response:
        """Accept a new job, or the wish of a job once more; return the answer to it, which notes that it was sent.

        `operation` names what is done ("jobs.create"), `body` is the parsed request: both together tell calls apart.
        `answer` makes the response from the job and headers that belong to it.
        Raises RefusalError (400, 402, 409, 410, 429).
        """
        line = self.line(request)
        try:
            created = await self.once(line, caller, wish, operation=operation, body=body)
            note(request, job=created.job.id)
            note_made(request, created.job.id)
            return self.watched(answer(created.job, headers_of(created)), line)
        except BaseException:
            line.hang_up()
            raise

    def line(self, request: Request) -> Line:
        """Return the line to a caller, whose request has been read; whoever opens it hangs up or answers on it.

        Raises RefusalError (400).
        """
        return Line(request, self._ids.new(f"{self._process}.call"), self._waiting)

    async def once(
        self, line: Line | str, caller: ApiKey, wish: NewJob | Job, *, operation: str, body: object
    ) -> Created:
        """Have a job made, or find the one that the same call made. Raises RefusalError (402, 409, 410, 429).

        `line` is to the caller, or it is an idempotency key: by that alone the call is told from others.
        """
        make: Make = (
            partial(self._store.retry, wish) if isinstance(wish, Job) else partial(self._store.create_job, wish)
        )
        fingerprint = fingerprint_of(body)
        pace = self._pace(caller)
        free = pace.free() > 0
        if free:
            pace.spend(1)
        hindrance = None if free else RateLimited()
        same = (caller.id, operation, fingerprint)
        try:
            match line:
                case str(key) | Line(key=str(key)):
                    creation = await make(Idempotency(key, operation, fingerprint), None, hindrance)
                case Line():
                    call = Call(
                        id=line.call_id,
                        api_key_id=caller.id,
                        operation=operation,
                        fingerprint=fingerprint,
                        marked=line.marked and not self._turned_away.take(same),
                        dedupe_window_ms=caller.dedupe_window_ms,
                        waiting=self._waiting,
                        process=self._process,
                    )
                    creation = await make(None, call, hindrance)
            created = _outcome(creation, pace)
        except (RefusalError, StoreUnavailableError) as error:
            pace.spend(-int(free))
            if not isinstance(error, RefusalError) or error.status == _TOO_MANY:
                self._turned_away.add(same)
            raise
        if created.replayed:
            pace.spend(-int(free))
        else:
            self._turned_away.forget(same)
        return created

    def watched(self, response: Response, line: Line) -> Response:
        """Return an answer that is noted as sent when it was."""
        return (
            response if line.key is not None else _Watched(response, line, lambda: self._store.answered(line.call_id))
        )

    def _pace(self, caller: ApiKey) -> Pace:
        per_minute = caller.creates_per_minute
        if caller.id not in self._paces:
            self._paces[caller.id] = Pace(self._clock, per_minute, per_minute or 1)
        return self._paces[caller.id]


def idempotency_key(request: Request) -> str | None:
    """Return the request's `Idempotency-Key`, None when it has none. Raises RefusalError (400)."""
    given = request.headers.getlist("idempotency-key")
    if not given:
        return None
    if len(given) > 1 or not _IDEMPOTENCY_KEY.fullmatch(given[0]):
        raise RefusalError(
            400,
            "invalid_idempotency_key",
            "Idempotency-Key must be one header of 1 to 255 printable ASCII characters, for example a UUID.",
        )
    return given[0]


def fingerprint_of(body: object) -> str:
    """Return what two bodies that mean the same have in common."""
    return hashlib.sha256(canonical(_abridged(body))).hexdigest()


def _abridged(value: object) -> object:
    """Put hashes in place of media: to write their megabytes as JSON once more would keep everybody waiting."""
    if isinstance(value, dict):
        return {name: _abridged(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_abridged(inner) for inner in value]
    if isinstance(value, str) and len(value) > _LONG:
        return f"sha256:{hashlib.sha256(value.encode()).hexdigest()}"
    return value


def _outcome(creation: Creation, pace: Pace) -> Created:
    """Return what was created. Raises RefusalError when nothing was."""
    match creation:
        case Created():
            return creation
        case KeyReused(job_id):
            raise RefusalError(
                409,
                "idempotency_key_reused",
                f"This Idempotency-Key was used before, with another body, and made {job_id}; "
                "send a new key for a new job, or the same body to get that job again.",
            )
        case JobDeleted(job_id):
            raise RefusalError(
                410,
                "job_deleted",
                f"The answer would be {job_id}, which was deleted since; send a new Idempotency-Key for a new job.",
            )
        case OutOfCredits(provider):
            raise RefusalError(
                402,
                "provider_credits",
                f"The service's account at {provider} is out of credits, so nothing was done; "
                "the operator must add some. It is tried again after a minute.",
            )
        case NotRetriable(job):
            raise RefusalError(409, "cannot_retry", why_not_retriable(job))
        case RateLimited():
            seconds = max(1, math.ceil(pace.wait_ms() / 1000))
            raise RefusalError(
                429,
                "rate_limited",
                f"This API key has asked for as many videos as it may in a minute; send it again in {seconds} s. "
                "The limit was set with `reelkeeper keys create --per-minute`.",
                headers={"retry-after": str(seconds)},
            )


def why_not_retriable(job: Job) -> str:
    """Return why a job is not asked for again."""
    if job.state is State.COMPLETED:
        return "The job has brought its video; for another one, send a new POST /v1/jobs."
    return f"The job is {job.state} and may bring its video; only a job that ended without one can be asked for again."


def headers_of(created: Created) -> dict[str, str]:
    """Return the headers that tell a replay."""
    return {"idempotency-replayed": "true"} if created.replayed else {}


def _is_retry(request: Request) -> bool:
    """Tell whether the `openai` SDK, or another of its family, marked the request as a retry."""
    return _RETRY_COUNT.fullmatch(request.headers.get("x-stainless-retry-count", "")) is not None


class _TurnedAway:
    """Remembers calls that were asked to come again, for a quarter of an hour: a retry of such a one is of no job.

    Without it, such a retry would be taken for the retry of the same call before it, which has its job already. Once
    the same call has made a job, a retry may be of that one, and rather two wishes get one job than one wish two.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._at: dict[tuple[str, str, str], list[int]] = {}  # unix ms, the oldest first

    def add(self, call: tuple[str, str, str]) -> None:
        """Note a call that made nothing."""
        times = self._at.pop(call, [])
        self._at[call] = [*times[-_MOST_ALIKE:], self._clock.now()]
        if len(self._at) > _MOST_TURNED_AWAY:
            del self._at[next(iter(self._at))]

    def forget(self, call: tuple[str, str, str]) -> None:
        """Note that such a call has made a job."""
        self._at.pop(call, None)

    def take(self, call: tuple[str, str, str]) -> bool:
        """Tell whether such a call made nothing a while ago, once for each."""
        since = self._clock.now() - _REMEMBERED_MS
        times = [at for at in self._at.pop(call, []) if at > since]
        if times[1:]:
            self._at[call] = times[1:]
        return bool(times)


class Line:
    """The connection to a caller who waits for an answer. `call_id` is in `waiting` for as long as the caller is there.

    `key` is the caller's idempotency key, with which nobody need listen; `marked` that it says that it calls again.
    """

    def __init__(self, request: Request, call_id: str, waiting: set[str]) -> None:
        self.key = idempotency_key(request)
        self.call_id = call_id
        self.marked = _is_retry(request)
        self._waiting = waiting
        self._request = request
        self._listening: asyncio.Task[None] | None = None
        if self.key is None:
            waiting.add(call_id)
            self._listening = asyncio.create_task(self._listen())

    @property
    def open(self) -> bool:
        """Whether the caller is still there, as far as anybody can know."""
        return self.call_id in self._waiting

    def stop_listening(self) -> None:
        """Take no notice of a caller who hangs up from now on: after its answer that is no news."""
        if self._listening is not None:
            self._listening.cancel()

    def hang_up(self) -> None:
        """Wait no more."""
        self.stop_listening()
        self._waiting.discard(self.call_id)

    async def _listen(self) -> None:
        with suppress(RefusalError):  # a large body that nobody asked for, and that there is no room for
            while (await self._request.receive())["type"] != "http.disconnect":
                pass
        self._waiting.discard(self.call_id)


class _Watched(Response):
    """An answer that is noted as sent when it was, after it was: nobody waits for the note.

    It is a Response for those who pass it on; all that it has to say is what it wraps.
    """

    def __init__(self, response: Response, line: Line, sent: Callable[[], Awaitable[None]]) -> None:
        self.status_code, self.raw_headers = response.status_code, response.raw_headers
        self._response = response
        self._line = line
        self._sent = sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer."""
        try:
            for _ in range(_TURNS):
                await asyncio.sleep(0)
            there = self._line.open
            self._line.stop_listening()
            await self._response(scope, receive, send)
            if there:
                with suppress(StoreUnavailableError):  # the same call, made again, finds its job
                    await self._sent()
        finally:
            self._line.hang_up()
