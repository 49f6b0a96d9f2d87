"""What the statistics mean: rates, shares and courses, and the sentences that they give reason for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from service.model import ErrorCode, Source, State
from service.store import QUARTERS, FailingReceiver, Overview, Rejection, Spend, Store, Wanted
from service.web.status.writing import coarse

HOUR = 4  # quarters
OVERDUE_MS = 300_000  # at which somebody should look
_QUARTER_MS = 900_000
_MINUTE_MS = 60_000
_HOUR_MS = 3_600_000
_NEWEST = 50  # jobs that ended in a state, whose errors are told
_OURS = {
    ErrorCode.PROVIDER_CREDITS: ". The account at {} is out of credits: add some there",
    ErrorCode.PROVIDER_AUTH: ". {} does not take our API key: put a valid one into the settings",
}
_DAY_MS = 86_400_000
_FEW = 3  # jobs, of which nothing can be said in general
_BAD = ("job.failed", "job.expired")
_STATES = {f"job.{state}": state for state in State}
MOST_RECEIVERS = 100
"""How many failing receivers are counted."""
STEPS = ("submit", "resolve", "poll", "mirror", "notify")

Errors = Mapping[str, Mapping[ErrorCode, int]]
"""Provider -> error -> how many jobs ended with it."""

Course = tuple[int, ...]
"""Something per quarter of an hour of the last day, oldest first."""

_NOTHING: Course = (0,) * QUARTERS


@dataclass(frozen=True, slots=True)
class Numbers:
    """The last day of one provider."""

    name: str
    jobs: Mapping[State, int]  # how many are in it now
    settled: Mapping[Source, Course]  # by how the last word came
    ended: Mapping[State, int]  # entered in the last day

    @property
    def callback_share(self) -> float | None:
        """The share of callbacks in what settled jobs; None when nothing did."""
        return _share(sum(self.settled[Source.CALLBACK]), sum(map(sum, self.settled.values())))

    @property
    def success_rate(self) -> float | None:
        """The share of kept videos in what ended on its own; None when nothing did."""
        kept = self.ended[State.COMPLETED]
        return _share(kept, kept + self.ended[State.FAILED] + self.ended[State.EXPIRED])

    @property
    def open(self) -> int:
        """How many jobs have not ended."""
        return sum(count for state, count in self.jobs.items() if not state.final)


@dataclass(frozen=True, slots=True)
class Concern:
    """Something that somebody should look at."""

    kind: str  # "callbacks_stopped", "callbacks_rejected", "unserved", "failing", "receivers_failing", "overdue"
    provider: str | None
    message: str
    mended: bool = False  # it is told for a while, and nobody must look any more


def of_providers(overview: Overview, configured: Collection[str]) -> list[Numbers]:
    """Return the numbers of every provider that is configured or has any, by name."""
    names = sorted({*configured, *overview.jobs, *overview.reports, *overview.entered})
    return [
        Numbers(
            name,
            {state: overview.jobs.get(name, {}).get(state, 0) for state in State},
            {source: overview.reports.get(name, {}).get(source, _NOTHING) for source in Source},
            {
                state: sum(overview.entered.get(name, {}).get(event, ()))
                for event, state in _STATES.items()
                if state.final
            },
        )
        for name in names
    ]


def courses(overview: Overview) -> dict[State, Course]:
    """Return how often each state was entered, whatever the provider."""
    return {
        state: _added([entered.get(event, _NOTHING) for entered in overview.entered.values()])
        for event, state in _STATES.items()
    }


def overdue_ms(overview: Overview, now: int) -> dict[str, int]:
    """Return for how long the oldest item of each step has been due."""
    found = dict.fromkeys(STEPS, 0)
    for each in overview.waiting:
        found[each.step] = max(found[each.step], now - each.due_at)
    return found


def concerns(
    overview: Overview, providers: Sequence[Numbers], configured: Collection[str] | None, errors: Errors
) -> Iterator[Concern]:
    """Say what numbers look wrong. `configured` None: the reader cannot change the settings, so these are not told.

    `errors` are what `errors_of_the_last_hour` found.
    """
    for each in providers:
        callbacks, polls = each.settled[Source.CALLBACK], each.settled[Source.POLL]
        by_poll = sum(polls[-HOUR:])
        if by_poll and not sum(callbacks[-HOUR:]) and sum(callbacks[:-HOUR]):
            yield Concern(
                "callbacks_stopped",
                each.name,
                f"Callbacks from {each.name} stopped: in the last hour {by_poll} "
                f"{'job was' if by_poll == 1 else 'jobs were'} settled by polls and none by a callback, which came "
                "before. Run `reelkeeper check` to see whether the public URL is reached from outside.",
            )
        if configured is not None and each.name not in configured and each.open:
            yield Concern(
                "unserved",
                each.name,
                f"{each.name} is not configured any more, and {each.open} of its jobs are open. Configure it again, or "
                "they end at their deadline.",
            )
        bad, good = _ends(overview, each.name)
        if _fails(bad, good):
            why = _why(each.name, errors.get(each.name, {}))
            yield Concern(
                "failing",
                each.name,
                f"Most jobs of {each.name} failed in the last hour: {bad} of {bad + good} that ended{why}.",
            )


async def errors_of_the_last_hour(store: Store, overview: Overview, tenant: str | None, now: int) -> Errors:
    """Count with which errors jobs ended in the last hour at each provider most of whose jobs failed.

    Only its newest jobs are looked at, so that this costs the same with a million.
    """
    found: dict[str, Counter[ErrorCode]] = {}
    for name in overview.entered:
        if _fails(*_ends(overview, name)):
            found[name] = Counter[ErrorCode]()
            for state in (State.FAILED, State.EXPIRED):
                newest = await store.find(tenant, Wanted(state=state, provider=name), limit=_NEWEST)
                found[name].update(
                    job.error.code for job in newest.jobs if job.error and (job.finished_at or 0) > now - _HOUR_MS
                )
    return found


def _ends(overview: Overview, provider: str) -> tuple[int, int]:
    """Return how many jobs ended in the last hour without a video, and with one."""
    entered = overview.entered.get(provider, {})
    return sum(sum(entered.get(event, ())[-HOUR:]) for event in _BAD), sum(entered.get("job.completed", ())[-HOUR:])


def _fails(bad: int, good: int) -> bool:
    return bad >= _FEW and bad > good


def _why(provider: str, errors: Mapping[ErrorCode, int]) -> str:
    told = ", ".join(f"{times} {code}" for code, times in sorted(errors.items(), key=lambda each: (-each[1], each[0])))
    found = f" (the newest: {told})" if told else ""
    return found + "".join(words.format(provider) for code, words in _OURS.items() if code in errors)


def rejections(providers: Sequence[Numbers], rejected: Sequence[Rejection], now: int) -> Iterator[Concern]:
    """Say whose callbacks were `rejected` until `now`; those of whom genuine ones settled jobs since are mended."""
    settled = {each.name: each.settled[Source.CALLBACK] for each in providers}
    for name in sorted({each.provider for each in rejected}):
        of_it = [each for each in rejected if each.provider == name]
        reasons = ", ".join(sorted({each.reason.replace("_", " ") for each in of_it}))
        last = max(each.last_at for each in of_it)
        # What else came in the quarter of the last one may have come before it.
        after = max(now // _QUARTER_MS - last // _QUARTER_MS, 0)
        mended = after > 0 and sum(settled.get(name, _NOTHING)[-after:]) > 0
        since = ", and none since; genuine ones came since, so it seems mended" if mended else ""
        yield Concern(
            "callbacks_rejected",
            name,
            f"Callbacks about jobs of {name} were rejected in the last day: {reasons}. "
            f"The last one came {_lately(now - last)}{since}.",
            mended,
        )


def receivers(failing: Sequence[FailingReceiver], now: int) -> Iterator[Concern]:
    """Say that callers do not learn of their jobs; `failing` are `MOST_RECEIVERS` at most, newest trouble first."""
    recent = [each for each in failing if each.last_at is not None and each.last_at > now - _DAY_MS]
    if not recent:
        return
    last = recent[0]
    count = "1 receiver" if len(recent) == 1 else f"{len(recent)} receivers"
    more = " at least" if len(recent) >= MOST_RECEIVERS else ""
    answer = "no answer" if last.last_status is None else f"{last.last_status}"
    yield Concern(
        "receivers_failing",
        None,
        f"{count}{more} did not take what {'it was' if len(recent) == 1 else 'they were'} told in the last day: "
        f"{sum(each.failed for each in recent):,} given up, {sum(each.pending for each in recent):,} not told yet. "
        f"The last failure was {answer} from {last.receiver}, {_lately(now - (last.last_at or 0))}.",
    )


def overdue(overview: Overview, now: int) -> Iterator[Concern]:
    """Say which steps are far behind."""
    for step, ms in overdue_ms(overview, now).items():
        if ms >= OVERDUE_MS:
            yield Concern("overdue", None, f"The step {step} is {coarse(ms)} overdue; the oldest item is listed below.")


def by_provider(spend: Sequence[Spend]) -> list[Spend]:
    """Return what was spent at each provider, whatever the model (""), by name."""
    return [
        _together(name, [each for each in spend if each.provider == name])
        for name in sorted({each.provider for each in spend})
    ]


def together(spend: Sequence[Spend]) -> Spend:
    """Return what was spent, whatever the provider and model ("")."""
    return _together("", spend)


def _together(provider: str, spend: Sequence[Spend]) -> Spend:
    jobs, priced = sum(each.jobs for each in spend), sum(each.priced for each in spend)
    return Spend(provider, "", jobs, priced, sum(each.cost for each in spend))


def of_the_last_day(rejected: Sequence[Rejection], now: int) -> list[Rejection]:
    """Return those that came in the last 24 hours."""
    return [each for each in rejected if each.last_at > now - _DAY_MS]


def _lately(ms: int) -> str:
    return f"{coarse(ms)} ago" if ms >= _MINUTE_MS else "less than a minute ago"


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _added(given: Sequence[Course]) -> Course:
    return tuple(map(sum, zip(*given, strict=True))) if given else _NOTHING
