"""Sends callbacks when they are due, and again when they were not taken."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count

import httpx

from service import outbound
from service.clock import Clock
from service.sandbox.behaviours import Behaviour, Tell
from service.sandbox.dialect import Dialect, Message
from service.sandbox.jobs import Ledger, ProviderJob, SentCallback

_TIMEOUT_S = 30
_ATTEMPTS = 8
_FIRST_RETRY_MS = 30_000
_STALE_MS = 600_000
_AT_ONCE = 64
_LOOK_EVERY_S = 0.05  # so that a new job and a clock that was moved by hand are noticed

_KINDS: Mapping[Tell, tuple[str, ...]] = {
    Tell.GENUINE: ("genuine",),
    Tell.TWICE: ("genuine", "duplicate"),
    Tell.NEVER: (),
    Tell.FORGED: ("forged",),
    Tell.STALE: ("stale",),
}


@dataclass(frozen=True, slots=True, order=True)
class _Due:
    at: int  # unix ms
    place: int  # keeps the order of equal times
    attempt: int = field(compare=False)
    job: ProviderJob = field(compare=False)


class Callbacks:
    """The callbacks that are still owed.

    A callback that is not answered with a 2xx is sent again after 30 s, 60 s, 120 s and so on, eight attempts in all,
    each signed anew (observed on LLM Gateway; OpenRouter documents no schedule, so it gets the same one). A forger and
    a stale message get one attempt. Sending runs in rounds, and a receiver that hangs holds up its round for 30 s: the
    real worker sends one after another, with the same effect (observed).
    """

    def __init__(
        self, *, clock: Clock, client: httpx.AsyncClient, ledger: Ledger, dialects: Mapping[str, Dialect], speed: float
    ) -> None:
        self._clock = clock
        self._client = client
        self._ledger = ledger
        self._dialects = dialects
        self._speed = speed
        self._due: list[_Due] = []
        self._places = count()

    def plan(self, job: ProviderJob) -> None:
        """Owe the callback of a new job, if it is to have one."""
        if job.callback_url and _KINDS[job.behaviour.tell]:
            self._owe(job, 1, job.ended_at + round(job.behaviour.tell_after_ms / self._speed))

    async def send_due(self) -> int:
        """Send everything that is due, and return how many requests were made."""
        now = self._clock.now()
        due = []
        while self._due and self._due[0].at <= now:
            due.append(heapq.heappop(self._due))
        at_once = asyncio.Semaphore(_AT_ONCE)

        async def send(one: _Due) -> int:
            async with at_once:
                return await self._send(one.job, one.attempt)

        return sum(await asyncio.gather(*(send(one) for one in due)))

    async def send_now(self, job: ProviderJob) -> None:
        """Send the first callback of a job without waiting for its time; `plan` must not be called for it."""
        if job.callback_url:
            await self._send(job, 1)

    async def wait(self) -> None:
        """Wait until something may be due."""
        seconds = (self._due[0].at - self._clock.now()) / 1000 if self._due else _LOOK_EVERY_S
        await asyncio.sleep(min(max(seconds, 0.0), _LOOK_EVERY_S))

    def _owe(self, job: ProviderJob, attempt: int, at: int) -> None:
        heapq.heappush(self._due, _Due(at, next(self._places), attempt, job))

    async def _send(self, job: ProviderJob, attempt: int) -> int:
        if self._ledger.find(job.id) is None:
            return 0
        now = self._clock.now()
        tell = job.behaviour.tell
        message = self._dialects[job.dialect].callback(
            job,
            "completed" if tell is Tell.FORGED else job.final_status,
            now - _STALE_MS if tell is Tell.STALE else now,
            forged=tell is Tell.FORGED,
        )
        if job.told_at is None:
            job.told_at = now
        sent = [SentCallback(kind, attempt, now) for kind in _KINDS[tell]]
        job.callbacks.extend(sent)
        await asyncio.gather(*(self._post(job, message, one) for one in sent))
        if _is_retried(job.behaviour) and attempt < _ATTEMPTS and not any(_is_taken(one) for one in sent):
            self._owe(job, attempt + 1, now + round((_FIRST_RETRY_MS << (attempt - 1)) / self._speed))
        return len(sent)

    async def _post(self, job: ProviderJob, message: Message, sent: SentCallback) -> None:
        # The URL is whatever the caller wrote, so making the request may fail like sending it.
        try:
            request = self._client.build_request(
                "POST", job.callback_url or "", content=message.body, headers=dict(message.headers)
            )
            sent.status = (await outbound.ask(self._client, request, seconds=_TIMEOUT_S, limit=65_536)).status
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            sent.error = type(error).__name__


def _is_retried(behaviour: Behaviour) -> bool:
    return behaviour.tell in {Tell.GENUINE, Tell.TWICE}


def _is_taken(sent: SentCallback) -> bool:
    return sent.status is not None and 200 <= sent.status < 300  # noqa: PLR2004 - what HTTP calls success
