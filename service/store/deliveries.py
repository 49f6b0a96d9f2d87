"""What callers are owed: claimed, sent, and noted down attempt by attempt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from service.db import Row, Tx
from service.ids import Ids
from service.model import Delivery, DeliveryAttempt, DeliveryState, State
from service.store.transaction import Ledger, Timing, Transaction, dumps, error_from

_ATTEMPT = tuple(DeliveryAttempt.__dataclass_fields__)
_MOST_ATTEMPTS = 50  # at one message that are shown: whoever redelivers adds attempts for ever
_MOST_MESSAGES = 20
_AT_ONCE = 500  # that are owed again in one transaction: nobody waits long for it


@dataclass(frozen=True, slots=True)
class FailingReceiver:
    """A receiver that did not take something: `failed` messages were given up, `pending` are still tried.

    Of these `waiting` have their next attempt still to come, after one that failed.
    `last_*` are of its last attempt that failed: an HTTP status, or an error when no answer came.
    """

    tenant: str
    receiver: str  # scheme, host and port
    failed: int
    pending: int
    waiting: int
    last_error: str | None
    last_status: int | None
    last_at: int | None  # unix ms


@dataclass(frozen=True, slots=True)
class Redelivery:
    """How many messages are owed again that were `given_up`, and are due at once that were `waiting`."""

    given_up: int
    waiting: int

    @property
    def redelivered(self) -> int:
        """How many that are together."""
        return self.given_up + self.waiting


class Deliveries:
    """The way to the deliveries: for the worker that sends them, and for callers who want to see or repeat them."""

    def __init__(self, ledger: Ledger, ids: Ids, timing: Timing | None = None) -> None:
        self._ledger = ledger
        self._ids = ids
        self._timing = timing or Timing()

    # The worker

    async def claim(self, limit: int, *, each: int) -> list[Delivery]:
        """Lease at most `limit` deliveries, so that no receiver of a tenant has more than `each` under way.

        A receiver is a scheme, host and port: one that is slow or dead takes no more than its share, nor do many of
        them. What is left for one tenant is about a third of `limit`, however much it is owed.
        """

        def work(tx: Transaction) -> list[Delivery]:
            lease, until = self._ids.new("lease"), tx.now + self._timing.lease
            claimed: list[Delivery] = []
            for (tenant, receiver), places in _places(tx, limit, each).items():
                taken = {"tenant": tenant, "receiver": receiver, "limit": places, "lease": lease, "until": until}
                claimed += map(_delivery, tx.all("claim_deliveries", now=tx.now, **taken))
            return claimed

        return await self._ledger.write(work)

    async def renew(self, delivery: Delivery) -> bool:
        """Keep a lease; False when it was lost."""
        until = self._ledger.clock.now() + self._timing.lease
        kept = await self._ledger.db.run(
            lambda tx: tx.one("renew_delivery", id=delivery.id, lease=delivery.lease, until=until)
        )
        return kept is not None

    async def delivered(self, delivery: Delivery, attempt: DeliveryAttempt) -> bool:
        """Note that the receiver has it; False when the lease was lost."""
        return await self._end(delivery, DeliveryState.DELIVERED, attempt)

    async def gave_up(self, delivery: Delivery, attempt: DeliveryAttempt) -> bool:
        """Note that it will not be tried again; False when the lease was lost."""
        return await self._end(delivery, DeliveryState.FAILED, attempt)

    async def try_again(self, delivery: Delivery, attempt: DeliveryAttempt, due_at: int) -> bool:
        """Note an attempt that failed, and when the next one follows (unix ms); False when the lease was lost."""

        def work(tx: Transaction) -> bool:
            _note(tx, delivery, attempt, taken=False)
            return tx.one("deliver_again", id=delivery.id, lease=delivery.lease, due_at=due_at) is not None

        return await self._ledger.write(work)

    async def interrupted(self, delivery: Delivery) -> bool:
        """Give a delivery back that was cut off by our own stopping; False when the lease was lost."""
        now = self._ledger.clock.now()
        row = await self._ledger.db.run(
            lambda tx: tx.one("interrupt_delivery", id=delivery.id, lease=delivery.lease, now=now)
        )
        return row is not None

    async def _end(self, delivery: Delivery, state: DeliveryState, attempt: DeliveryAttempt) -> bool:
        def work(tx: Transaction) -> bool:
            _note(tx, delivery, attempt, taken=state is DeliveryState.DELIVERED)
            return tx.one("end_delivery", id=delivery.id, lease=delivery.lease, state=state, now=tx.now) is not None

        return await self._ledger.write(work)

    # Callers

    async def of(self, job_id: str) -> list[tuple[Delivery, list[DeliveryAttempt]]]:
        """Return what is owed about a job with its attempts, oldest first: of the newest 20 messages the newest 50.

        The number of the last attempt tells how many there were.
        """

        def work(tx: Tx) -> list[tuple[Delivery, list[DeliveryAttempt]]]:
            owed = [_delivery(row) for row in tx.all("job_deliveries", job_id=job_id, most=_MOST_MESSAGES)]
            owed.reverse()
            return [(each, _attempts(tx, each.id)) for each in owed]

        return await self._ledger.db.look(work, job_id)

    async def attempts(self, delivery_id: str) -> list[DeliveryAttempt]:
        """Return the attempts at one delivery as `of` does."""
        return await self._ledger.db.read(lambda tx: _attempts(tx, delivery_id))

    async def last_attempts(self, delivery_ids: Collection[str]) -> dict[str, DeliveryAttempt]:
        """Return the last attempt at each of some deliveries, by their ids; what nobody tried yet is not there."""
        ids = dumps(list(delivery_ids))
        rows = await self._ledger.db.look(lambda tx: tx.all("last_attempts", ids=ids))
        return {row["delivery_id"]: DeliveryAttempt(**{name: row[name] for name in _ATTEMPT}) for row in rows}

    async def redeliver(self, job_id: str) -> Delivery | None:
        """Send the newest message about a job once more, from the first attempt on.

        None when there is none, or it is on its way just now.
        """

        def work(tx: Transaction) -> Delivery | None:
            row = tx.one("redeliver", job_id=job_id, now=tx.now)
            if row is None:
                return None
            delivery = _delivery(row)
            tx.moved.add(delivery.ended)  # whoever sends it is woken by the ends of jobs
            return delivery

        return await self._ledger.write(work)

    # Operators

    async def failing(self, tenant: str | None = None, *, limit: int = 20) -> list[FailingReceiver]:
        """List receivers that did not take something, given up or tried again, newest trouble first."""
        query = "failing" if tenant is None else "tenant_failing"
        rows = await self._ledger.db.look(lambda tx: tx.all(query, tenant=tenant, limit=limit), tenant or "")
        return [FailingReceiver(**row) for row in rows]

    async def receiver(self, tenant: str, receiver: str) -> FailingReceiver | None:
        """Return how a tenant's receiver does, failing or not; None when it was never owed anything."""
        row = await self._ledger.db.read(lambda tx: tx.one("receiver", tenant=tenant, receiver=receiver))
        return None if row is None else FailingReceiver(**row)

    async def tenants_failing(self, receiver: str, *, limit: int) -> list[str]:
        """Return the tenants whose receiver of this name `failing` lists, by name."""
        rows = await self._ledger.db.look(lambda tx: tx.all("tenants_failing", receiver=receiver, limit=limit))
        return [row["tenant"] for row in rows]

    async def later(self, tenant: str, receiver: str, *, limit: int = 20) -> list[Delivery]:
        """List what a receiver did not take and will be sent again, the next one first."""
        wanted = {"tenant": tenant, "receiver": receiver, "now": self._ledger.clock.now(), "limit": limit}
        return [_delivery(row) for row in await self._ledger.db.look(lambda tx: tx.all("later", **wanted), tenant)]

    async def failed(
        self, tenant: str, receiver: str, *, before_id: str | None = None, limit: int = 20
    ) -> list[Delivery]:
        """List what was given up for a receiver, newest first; `before_id` continues after the page before."""
        wanted = {"tenant": tenant, "receiver": receiver, "before_id": before_id, "limit": limit}
        return [_delivery(row) for row in await self._ledger.db.look(lambda tx: tx.all("failed", **wanted), tenant)]

    async def redeliver_all(self, tenant: str, receiver: str) -> Redelivery:
        """Send all once more that was given up for a receiver or waits after a failed attempt; return how much that is.

        What is on its way stays. Some at a time, in the order of ids: what fails again meanwhile is not sent twice.
        """
        states, after_id = Counter[str](), ""
        while True:

            def work(tx: Transaction, after_id: str = after_id) -> list[Row]:
                wanted = {"tenant": tenant, "receiver": receiver, "after_id": after_id}
                rows = tx.all("to_redeliver", **wanted, limit=_AT_ONCE)
                tx.do("redeliver_all", ids=dumps([row["id"] for row in rows]), now=tx.now)
                tx.moved |= {State(row["ended"]) for row in rows}  # whoever sends it is woken by the ends of jobs
                return rows

            rows = await self._ledger.write(work)
            states.update(row["state"] for row in rows)
            if len(rows) < _AT_ONCE:
                return Redelivery(given_up=states[DeliveryState.FAILED], waiting=states[DeliveryState.PENDING])
            after_id = rows[-1]["id"]


def _places(tx: Transaction, limit: int, each: int) -> Counter[tuple[str, str]]:
    """Share `limit` places out to tenants and their receivers, one by one, always to whoever has the fewest.

    Some stay free for a tenant that comes later: one gets another place only while it has less than half as many as are
    free, and for receivers that did not take their last message (or never had one) less than a quarter.
    """
    busy = tx.all("under_way", now=tx.now)
    receivers = Counter({(row["tenant"], row["receiver"]): row["under_way"] for row in busy})
    lanes, tenants = Counter[tuple[str, int]](), Counter[str]()
    for row in busy:
        lanes[row["tenant"], row["healthy"]] += row["under_way"]
        tenants[row["tenant"]] += row["under_way"]

    def turns(tenant: str, healthy: int) -> Iterator[str]:
        due = tx.all("due_receivers", tenant=tenant, healthy=healthy, now=tx.now, most=limit)
        for under_way in range(each):
            yield from (row["receiver"] for row in due if receivers[tenant, row["receiver"]] <= under_way)

    due = [(row["tenant"], row["healthy"]) for row in tx.all("due_lanes", now=tx.now)]
    fewest = sorted(due, key=lambda lane: tenants[lane[0]])[: limit + len(busy)]  # those that are busy may be full
    waiting = {lane: turns(*lane) for lane in fewest}
    places = Counter[tuple[str, str]]()
    while waiting:
        lane = tenant, healthy = min(waiting, key=lambda lane: (tenants[lane[0]], lanes[lane]))
        free = limit - places.total()
        fits = 2 * tenants[tenant] < free and (healthy or 4 * lanes[lane] < free)
        receiver = next(waiting[lane], None) if fits else None
        if receiver is None:
            del waiting[lane]
        else:
            places[tenant, receiver] += 1
            lanes[lane] += 1
            tenants[tenant] += 1
    return places


def _attempts(tx: Tx, delivery_id: str) -> list[DeliveryAttempt]:
    rows = tx.all("delivery_attempts", delivery_id=delivery_id, most=_MOST_ATTEMPTS)
    return [DeliveryAttempt(**row) for row in reversed(rows)]


def _note(tx: Transaction, delivery: Delivery, attempt: DeliveryAttempt, *, taken: bool) -> None:
    if taken:
        tx.do("note_health", id=delivery.id)
    else:
        tx.do("note_trouble", id=delivery.id, at=attempt.at, status=attempt.status, error=attempt.error)
    tx.do(
        "insert_delivery_attempt",
        id=delivery.id,
        at=attempt.at,
        duration_ms=attempt.duration_ms,
        status=attempt.status,
        error=attempt.error,
        answer=attempt.answer,
    )


def _delivery(row: Row) -> Delivery:
    fields = {name: row[name] for name in Delivery.__dataclass_fields__}
    return Delivery(
        **fields
        | {
            "state": DeliveryState(row["state"]),
            "ended": State(row["ended"]),
            "error": error_from(row["error"]),
        }
    )
