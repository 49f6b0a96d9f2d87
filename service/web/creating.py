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

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.clock import Clock
from service.ids import Ids
from service.model import ApiKey, Job
from service.pace import Pace
from service.store import Call, Created, Creation, Idempotency, JobDeleted, KeyReused, NewJob, OutOfCredits, Store
from service.web.body import canonical
from service.web.callers import note
from service.web.refusals import RefusalError

_IDEMPOTENCY_KEY = re.compile(r"[ -~]{1,255}")
_TURNS = 8  # of the loop before an answer, in which a hang-up that has arrived is heard: it takes three
_LONG = 20_000  # characters, which only media have
_RETRY_COUNT = re.compile(r"[1-9][0-9]{0,3}", re.ASCII)


class Creating:
    """Accepts jobs for all faces."""

    def __init__(self, store: Store, clock: Clock, ids: Ids) -> None:
        self._store = store
        self._clock = clock
        self._ids = ids
        self._waiting: set[str] = set()  # calls whose callers are on the line
        self._paces: dict[str, Pace] = {}

    async def create(
        self,
        request: Request,
        caller: ApiKey,
        new: NewJob,
        *,
        operation: str,
        body: object,
        answer: Callable[[Job, dict[str, str]], Response],
    ) -> Response:
        """Accept a job and return the answer to it, which notes that it was sent.

        `operation` names what is done ("jobs.create"), `body` is the parsed request: both together tell calls apart.
        `answer` makes the response from the job and headers that belong to it.
        Raises RefusalError (400, 402, 409, 410, 429).
        """
        key = idempotency_key(request)
        self.spend(caller, 1)
        fingerprint = fingerprint_of(body)
        if key is not None:
            created = outcome(await self._store.create_job(new, Idempotency(key, operation, fingerprint)), request)
            return answer(created.job, headers_of(created))
        call = Call(
            id=self._ids.new("call"),
            api_key_id=caller.id,
            operation=operation,
            fingerprint=fingerprint,
            marked=_is_retry(request),
            dedupe_window_ms=caller.dedupe_window_ms,
            waiting=self._waiting,
        )
        line = _Line(self._waiting, call.id, request)
        try:
            created = outcome(await self._store.create_job(new, call=call), request)
            response = answer(created.job, headers_of(created))
        except BaseException:
            line.hang_up()
            raise
        return _Watched(response, line, lambda: self._store.answered(call.id))

    def spend(self, caller: ApiKey, creates: int) -> None:
        """Count creates against the limit of the caller's key. Raises RefusalError (429) when it is used up."""
        per_minute = caller.creates_per_minute
        if per_minute is None:
            return
        pace = self._paces.setdefault(caller.id, Pace(self._clock, per_minute, per_minute))
        if pace.free() < min(creates, per_minute):
            seconds = math.ceil(60 * min(creates, per_minute) / per_minute)
            raise RefusalError(
                429,
                "rate_limited",
                f"This API key may ask for {per_minute} videos a minute; send it again in {seconds} s. "
                "Its limit was set with `reelkeeper keys create --per-minute`.",
                headers={"retry-after": str(seconds)},
            )
        pace.spend(creates)


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


def outcome(creation: Creation, request: Request | None = None) -> Created:
    """Return what was created. Raises RefusalError (402, 409, 410) when nothing was."""
    match creation:
        case Created(job):
            if request is not None:
                note(request, job=job.id)
            return creation
        case KeyReused(job_id):
            if request is not None:
                note(request, job=job_id)
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
                f"This Idempotency-Key made {job_id}, which was deleted since; send a new key for a new job.",
            )
        case OutOfCredits(provider):
            raise RefusalError(
                402,
                "provider_credits",
                f"The service's account at {provider} is out of credits, so nothing was done; "
                "the operator must add some. It is tried again after a minute.",
            )


def headers_of(created: Created) -> dict[str, str]:
    """Return the headers that tell a replay."""
    return {"idempotency-replayed": "true"} if created.replayed else {}


def _is_retry(request: Request) -> bool:
    """Tell whether the `openai` SDK, or another of its family, marked the request as a retry."""
    return _RETRY_COUNT.fullmatch(request.headers.get("x-stainless-retry-count", "")) is not None


class _Line:
    """The connection to a caller who waits for an answer: it is in `waiting` for as long as the caller is there."""

    def __init__(self, waiting: set[str], call_id: str, request: Request) -> None:
        self._waiting = waiting
        self._call_id = call_id
        self._request = request
        waiting.add(call_id)
        self._listening = asyncio.create_task(self._listen())

    @property
    def open(self) -> bool:
        """Whether the caller is still there, as far as anybody can know."""
        return self._call_id in self._waiting

    def stop_listening(self) -> None:
        """Take no notice of a caller who hangs up from now on: after its answer that is no news."""
        self._listening.cancel()

    def hang_up(self) -> None:
        """Wait no more."""
        self._listening.cancel()
        self._waiting.discard(self._call_id)

    async def _listen(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        self._waiting.discard(self._call_id)


class _Watched(Response):
    """An answer that is noted as sent when it was, after it was: nobody waits for the note."""

    def __init__(self, response: Response, line: _Line, sent: Callable[[], Awaitable[None]]) -> None:
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
                await self._sent()
        finally:
            self._line.hang_up()
