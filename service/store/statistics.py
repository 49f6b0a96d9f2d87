"""How everything goes, in numbers that were counted when it happened: looking costs the same with a million jobs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from service.db import Tx
from service.model import DeliveryState, Source, State
from service.store.buckets import quantile
from service.store.transaction import Ledger

QUARTERS = 96
"""How many quarters of an hour an overview looks back: a day."""

_QUARTER_MS = 900_000
_HOUR_MS = 3_600_000
_DAY_MS = 86_400_000
_KEPT_DAYS = 8
_SPEND_DAYS = 30
_SPEND_ROWS = 50
_OLDEST_OF_TENANT = 500
_EVERYBODY = ""
_REPORT = "report."
_STEPS = {"submit": State.QUEUED, "resolve": State.SUBMITTING, "poll": State.RUNNING, "mirror": State.MIRRORING}


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits longest for a step: a job of a provider, or (`provider` None) a delivery.

    It is overdue when `due_at` has passed; it waits since `since`.
    """

    step: str  # "submit", "resolve", "poll", "mirror" or "notify"
    provider: str | None
    id: str  # the job's, or the delivery's
    job_id: str
    due_at: int  # unix ms
    since: int  # unix ms


@dataclass(frozen=True, slots=True)
class Kept:
    """How long jobs took from their submission until their video was kept: half of them, and 95 of 100, not longer."""

    jobs: int
    p50_ms: int
    p95_ms: int


@dataclass(frozen=True, slots=True)
class Spend:
    """What a provider said that jobs of a model cost: the sum of `priced` of them; of the others it said nothing."""

    provider: str
    model: str
    jobs: int
    priced: int
    cost: float  # USD


@dataclass(frozen=True, slots=True)
class Stored:
    """What is kept in object storage: videos, without their pictures."""

    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Overview:
    """How everything goes. `entered` and `reports` are per quarter of an hour of the last day, oldest first.

    The last one has only begun.
    """

    jobs: Mapping[str, Mapping[State, int]]  # provider -> state -> how many are in it now
    entered: Mapping[str, Mapping[str, tuple[int, ...]]]  # provider -> event type -> how often
    reports: Mapping[str, Mapping[Source, tuple[int, ...]]]  # provider -> how the last word came -> of how many jobs
    waiting: tuple[Waiting, ...]
    kept: Mapping[str, Kept]  # by provider, of the last 24 hours
    spend: tuple[Spend, ...]  # of jobs submitted in the last 30 days, the dearest first, 50 at most
    storage: Stored
    deliveries: Mapping[DeliveryState, int]
    unknown_words: Mapping[str, Mapping[str, int]]  # provider -> status word that no adapter knows -> times


class Statistics:
    """Reads the numbers, and forgets old ones."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def overview(self, tenant: str | None = None) -> Overview:
        """Return how everything goes, or what of it is one tenant's: then without unknown words.

        What of a tenant waits longest is looked for among its 500 oldest jobs of each state.
        """
        now = self._ledger.clock.now()
        whose = _EVERYBODY if tenant is None else tenant

        def work(tx: Tx) -> Overview:
            jobs: dict[str, dict[State, int]] = defaultdict(dict)
            for row in tx.all("job_counts", tenant=whose):
                jobs[row["provider"]][State(row["state"])] = row["jobs"]
            entered, reports = _activity(tx, whose, now)
            waiting = _waiting(tx, jobs) if tenant is None else _waiting_of_tenant(tx, tenant)
            stored = tx.one("stored", tenant=whose)
            words: dict[str, dict[str, int]] = defaultdict(dict)
            for row in tx.all("unknown_words") if tenant is None else ():
                words[row["provider"]][row["word"]] = row["times"]
            return Overview(
                jobs=dict(jobs),
                entered=entered,
                reports=reports,
                waiting=tuple(waiting),
                kept=_kept(tx, whose, now),
                spend=_spend(tx, whose, now),
                storage=Stored(**stored) if stored else Stored(0, 0),
                deliveries={
                    DeliveryState(row["state"]): row["deliveries"] for row in tx.all("delivery_counts", tenant=whose)
                },
                unknown_words=dict(words),
            )

        return await self._ledger.db.look(work, whose)

    async def forget(self) -> None:
        """Forget what happened more than eight days ago and was spent more than 30 ago, a day in each transaction."""
        now = self._ledger.clock.now()
        oldest = now - _KEPT_DAYS * _DAY_MS
        while await self._ledger.db.run(lambda tx: tx.do("forget_activity", before=oldest // _QUARTER_MS)):
            pass
        while await self._ledger.db.run(lambda tx: tx.do("forget_kept_times", before=oldest // _HOUR_MS)):
            pass
        while await self._ledger.db.run(lambda tx: tx.do("forget_spend", before=_first_day(now))):
            pass


def _activity(
    tx: Tx, tenant: str, now: int
) -> tuple[dict[str, dict[str, tuple[int, ...]]], dict[str, dict[Source, tuple[int, ...]]]]:
    last = now // _QUARTER_MS
    first = last - QUARTERS + 1
    found: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0] * QUARTERS))
    for row in tx.all("activity", tenant=tenant, first=first, last=last):
        found[row["provider"]][row["type"]][row["quarter"] - first] = row["times"]
    entered: dict[str, dict[str, tuple[int, ...]]] = {}
    reports: dict[str, dict[Source, tuple[int, ...]]] = {}
    for provider, types in found.items():
        for name, times in types.items():
            if name.startswith(_REPORT):
                reports.setdefault(provider, {})[Source(name.removeprefix(_REPORT))] = tuple(times)
            else:
                entered.setdefault(provider, {})[name] = tuple(times)
    return entered, reports


def _waiting(tx: Tx, jobs: Mapping[str, Mapping[State, int]]) -> Iterator[Waiting]:
    for step, state in _STEPS.items():
        for provider in sorted(jobs):
            if jobs[provider].get(state):
                yield from _jobs(tx, step, "longest_waiting", state=state, provider=provider)
    yield from _owed(tx, "longest_owed")


def _waiting_of_tenant(tx: Tx, tenant: str) -> Iterator[Waiting]:
    for step, state in _STEPS.items():
        yield from _jobs(tx, step, "longest_waiting_of_tenant", state=state, tenant=tenant, most=_OLDEST_OF_TENANT)
    owed = [each for healthy in (0, 1) for each in _owed(tx, "longest_owed_to_tenant", tenant=tenant, healthy=healthy)]
    yield from sorted(owed, key=lambda each: each.due_at)[:1]


def _jobs(tx: Tx, step: str, query: str, **parameters: object) -> Iterator[Waiting]:
    for row in tx.all(query, **parameters):
        entered = tx.one("entered_at", id=row["id"])
        since = entered["at"] if entered else row["due_at"]
        yield Waiting(step, row["provider"], row["id"], row["id"], row["due_at"], since)


def _owed(tx: Tx, query: str, **parameters: object) -> Iterator[Waiting]:
    for row in tx.all(query, **parameters):
        yield Waiting("notify", None, row["id"], row["job_id"], row["due_at"], row["created_at"])


def _kept(tx: Tx, tenant: str, now: int) -> dict[str, Kept]:
    last = now // _HOUR_MS
    counts: dict[str, dict[int, int]] = defaultdict(dict)
    for row in tx.all("kept_times", tenant=tenant, first=last - 23, last=last):
        counts[row["provider"]][row["bucket"]] = row["jobs"]
    return {
        provider: Kept(sum(times.values()), quantile(times, 0.5) or 0, quantile(times, 0.95) or 0)
        for provider, times in counts.items()
    }


def _spend(tx: Tx, tenant: str, now: int) -> tuple[Spend, ...]:
    days = {"first": _first_day(now), "last": now // _DAY_MS}
    return tuple(Spend(**row) for row in tx.all("spend", tenant=tenant, limit=_SPEND_ROWS, **days))


def _first_day(now: int) -> int:
    return now // _DAY_MS - _SPEND_DAYS + 1
