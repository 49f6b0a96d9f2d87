"""Callers are told how their jobs ended, again and again until they have it or more than a day has passed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

import httpx

from service.backoff import DELIVERY_ATTEMPTS, DELIVERY_WAITS_MS, spread_ms
from service.clock import Clock
from service.errors import InterruptedWorkError, StoreUnavailableError
from service.logs import redact
from service.model import Delivery, DeliveryAttempt, Job
from service.outbound import is_private
from service.store import Deliveries, Store
from service.vault import KeyMissingError, SealError
from service.workers import About, Name, Outcome
from service.workers.posting import Reply, post

Compose = Callable[[Delivery, Job, int], tuple[Mapping[str, str], bytes]]
"""Returns headers and body of a delivery that is sent now (unix ms); raises SealError."""

_JITTER = 0.1
_EACH = 4  # under way to one receiver
_SHOWN = 512  # bytes of an answer that are kept


class Notifier:
    """Sends what `compose` writes. `client` reaches public addresses, and the `private_hosts` (`host:port`).

    Whoever may make jobs chooses who is told, and reads what was answered: so that nobody reads what is on a private
    network this way, no answer of a private host is kept, only its status.
    """

    name = "notify"

    def __init__(
        self,
        store: Store,
        deliveries: Deliveries,
        compose: Compose,
        client: httpx.AsyncClient,
        clock: Clock,
        chance: random.Random,
        *,
        private_hosts: Collection[str] = (),
    ) -> None:
        self._store = store
        self._deliveries = deliveries
        self._compose = compose
        self._client = client
        self._clock = clock
        self._chance = chance
        self._private_hosts = private_hosts

    async def claim(self, limit: int) -> Sequence[Delivery]:
        """Lease what is due, few for each tenant and receiver: those that hang do not delay the others."""
        return await self._deliveries.claim(limit, each=_EACH)

    async def renew(self, item: Delivery) -> bool:
        """Keep the lease while the receiver thinks."""
        return await self._deliveries.renew(item)

    def about(self, item: Delivery) -> About:
        """Say which delivery it is, and of which job."""
        return About(item.job_id, delivery=item.id, attempt=item.attempt)

    async def handle(self, item: Delivery) -> Outcome:
        """Write, sign and send the message, and note what came of it."""
        job = await self._store.job(item.job_id)
        if job is None or job.notify_url is None:
            return await self._never(item, "the job was deleted, or names no address to notify any more")
        now = self._clock.now()
        try:
            headers, body = self._compose(item, job, now)
        except KeyMissingError as error:  # the operator may bring it back: it waits like one that was not taken
            return await self._note(item, Reply(error=f"the secret to sign with cannot be read: {error}"), now, 0)
        except SealError as error:
            return await self._never(item, f"the secret to sign with cannot be read: {error}")
        begun = time.monotonic()
        reply = await post(self._client, job.notify_url, headers, body, now_ms=now)
        if reply.status is not None and is_private(job.notify_url, self._private_hosts):
            reply = replace(reply, beginning=None)
        return await self._note(item, reply, now, round((time.monotonic() - begun) * 1000))

    async def failed(self, item: Delivery, error: Exception) -> Outcome:
        """Send it again: at once after a restart, later after a fault of ours."""
        if isinstance(error, InterruptedWorkError):
            await self._deliveries.interrupted(item)
            return Outcome("interrupted")
        if isinstance(error, StoreUnavailableError):
            raise error  # nothing can be noted: the lease lapses, and the message is sent again then
        told = "the service could not write or send the message; its log says why"
        return await self._note(item, Reply(error=told), self._clock.now(), 0)

    async def _never(self, delivery: Delivery, why: str) -> Outcome:
        attempt = _attempt(Reply(error=why), self._clock.now(), 0)
        return Outcome("gave up", why) if await self._deliveries.gave_up(delivery, attempt) else Outcome("lease lost")

    async def _note(self, delivery: Delivery, reply: Reply, at: int, duration_ms: int) -> Outcome:
        attempt = _attempt(reply, at, duration_ms)
        name: Name
        said = reply.error if reply.status is None else f"the answer was {reply.status}"
        if reply.status is not None and httpx.codes.is_success(reply.status):
            kept, name = await self._deliveries.delivered(delivery, attempt), "delivered"
        elif reply.status == httpx.codes.GONE or delivery.attempt >= DELIVERY_ATTEMPTS:
            kept, name = await self._deliveries.gave_up(delivery, attempt), "gave up"
        else:
            wait_ms = spread_ms(DELIVERY_WAITS_MS[delivery.attempt - 1], _JITTER, self._chance)
            wait_ms = max(wait_ms, reply.retry_after_ms or 0)
            kept = await self._deliveries.try_again(delivery, attempt, self._clock.now() + wait_ms)
            name = "later"
        if not kept:
            return Outcome("lease lost")
        return Outcome(name) if name == "delivered" else Outcome(name, said)


def _attempt(reply: Reply, at: int, duration_ms: int) -> DeliveryAttempt:
    error = reply.error
    if error is None and reply.status is not None and httpx.codes.is_redirect(reply.status):
        error = "redirects are not followed; give the address that they lead to as the address to notify"
    said = None if reply.status is None else reply.beginning
    answer = None if said is None else said[:_SHOWN].decode(errors="replace")
    return DeliveryAttempt(at, duration_ms, reply.status, _clean(error), _clean(answer))


def _clean(text: str | None) -> str | None:
    return None if text is None else str(redact(text))
