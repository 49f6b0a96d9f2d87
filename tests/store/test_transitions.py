from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from itertools import pairwise, product
from typing import Any

import pytest

from service.model import GAVE_UP, TRANSITIONS, ErrorCode, Job, Source, State, Status
from service.store import Verdict
from tests.store.world import GONE, REFUSED, RETENTION_MS, TIMED_OUT, TIMING, UNKNOWN, World, artifact, report

ENDED = (State.FAILED, State.CANCELLED, State.EXPIRED)
PAIRS = {(before, after) for before, afters in TRANSITIONS.items() for after in afters}


# What the tables refuse


def legal(state: State, code: ErrorCode = ErrorCode.INTERNAL) -> dict[str, object]:
    """Return columns with which a job may be in `state`."""
    return {
        "state": state,
        "due_at": None if state.final else 1,
        "lease": None,
        "leased_until": None,
        "provider_job_id": "p",
        "submitted_at": 1,
        "mirror_until": 1,
        "finished_at": 1 if state.final else None,
        "outputs": '[{"index":0}]',
        "error_code": code if state in ENDED else None,
        "error": "{}" if state in ENDED else None,
    }


def insert(world: World, columns: Mapping[str, object]) -> None:
    row: dict[str, object] = {
        "id": "job_1",
        "tenant": "acme",
        "provider": "alpha",
        "model": "m",
        "request": "{}",
        "on_unknown": "wait",
        "metadata": "{}",
        "created_at": 1,
        "deadline_at": 1,
        **columns,
    }
    world.sql(f"INSERT INTO jobs ({', '.join(row)}) VALUES ({', '.join(f':{name}' for name in row)})", **row)  # noqa: S608 - the names are ours


def update(world: World, columns: Mapping[str, object]) -> None:
    world.sql(f"UPDATE jobs SET {', '.join(f'{name} = :{name}' for name in columns)}", **columns)  # noqa: S608 - the names are ours


@pytest.mark.parametrize("before", State)
async def test_the_database_refuses_exactly_what_the_transitions_do_not_allow(
    world: World, before: State, refused: type[Exception]
) -> None:
    for after, code in product(State, ErrorCode):
        world.sql("DELETE FROM jobs")
        insert(world, legal(before, code))
        allowed = after in TRANSITIONS[before] and (before is not State.FAILED or code in GAVE_UP)
        if allowed or before is after:
            update(world, legal(after))
        else:
            with pytest.raises(refused, match="cannot go from its state"):
                update(world, legal(after))


@pytest.mark.parametrize(("on_unknown", "doubts"), [("wait", 0), ("wait", 1), ("resubmit", 0), ("resubmit", 1)])
async def test_the_database_lets_any_failed_job_recover_that_may_have_been_paid_for_twice(
    world: World, on_unknown: str, doubts: int, refused: type[Exception]
) -> None:
    insert(world, legal(State.FAILED, ErrorCode.PROVIDER_FAILED) | {"on_unknown": on_unknown, "doubts": doubts})
    if (on_unknown, doubts) == ("resubmit", 1):
        update(world, legal(State.MIRRORING))
    else:
        with pytest.raises(refused, match="cannot go from its state"):
            update(world, legal(State.MIRRORING))


@pytest.mark.parametrize(
    ("state", "wrong"),
    [
        ("running", {"state": "dreaming"}),
        ("running", {"lease": "lease_1"}),
        ("queued", {"lease": "lease_1", "leased_until": 1}),
        ("completed", {"lease": "lease_1", "leased_until": 1}),
        ("completed", {"finished_at": None}),
        ("running", {"finished_at": 1}),
        ("running", {"due_at": None}),
        ("submitting", {"submitted_at": None}),
        ("running", {"provider_job_id": None}),
        ("completed", {"provider_job_id": None}),
        ("failed", {"provider_job_id": None, "due_at": 1}),
        ("mirroring", {"outputs": "[]"}),
        ("mirroring", {"mirror_until": None}),
        ("failed", {"error_code": None, "error": None}),
        ("failed", {"error": None}),
        ("completed", {"error_code": "internal", "error": "{}"}),
        ("running", {"attempt": -1}),
        ("running", {"request": "{"}),
        ("running", {"on_unknown": "hope"}),
        ("running", {"created_at": "yesterday"}),
    ],
)
async def test_the_database_refuses_a_row_that_contradicts_itself(
    world: World, state: str, wrong: dict[str, object], refused: type[Exception]
) -> None:
    insert(world, legal(State(state)))
    world.sql("DELETE FROM jobs")
    with pytest.raises(refused):
        insert(world, legal(State(state)) | wrong)


# What the store's sentences do

PLACES: Mapping[str, State] = {
    "queued": State.QUEUED,
    "queued_again": State.QUEUED,
    "submitting": State.SUBMITTING,
    "doubted": State.SUBMITTING,
    "running": State.RUNNING,
    "attached": State.RUNNING,
    "mirrored": State.MIRRORING,
    "completed": State.COMPLETED,
    "failed": State.FAILED,
    "failed_unknown": State.FAILED,
    "failed_attached": State.FAILED,
    "failed_unavailable": State.FAILED,
    "cancelled": State.CANCELLED,
    "expired": State.EXPIRED,
    "expired_attached": State.EXPIRED,
}
SUBMITTED_ONCE = ("queued_again", "submitting", "doubted")
RUNNING = ("running", "attached")
UNCONFIRMED = ("attached", "failed_attached", "expired_attached")
RECOVERABLE = ("failed_unknown", "failed_attached", "failed_unavailable", "expired", "expired_attached")

Call = Callable[[World, Job], Awaitable[Any]]
Moves = Mapping[str, State]


def to(state: State, *places: str) -> Moves:
    return dict.fromkeys(places, state)


def reported(status: Status, source: Source) -> Call:
    return lambda world, job: world.apply(job, report(status, job.provider_job_id or f"at-{job.id}"), source)


def reported_otherwise(status: Status, source: Source) -> Call:
    """Report about another provider job than the one that the job may be bound to."""
    return lambda world, job: world.apply(job, report(status, f"other-{job.id}"), source)


async def claim_late(world: World, job: Job) -> object:
    world.clock.advance(TIMING.job_deadline)
    return await world.claims.claim_queued(job.provider, 10)


SENTENCES: Mapping[str, tuple[Call, Moves]] = {
    "claim_queued": (
        lambda world, job: world.claims.claim_queued(job.provider, 10),
        to(State.SUBMITTING, "queued", "queued_again"),
    ),
    "claim_queued, too late": (claim_late, to(State.EXPIRED, "queued", "queued_again")),
    "cancel": (lambda world, job: world.store.cancel(job.id), to(State.CANCELLED, "queued", "queued_again")),
    "submitted": (lambda world, job: world.submitted(job, f"new-{job.id}"), to(State.RUNNING, *SUBMITTED_ONCE)),
    "attach": (
        lambda world, job: world.store.attach(job.id, f"found-{job.id}"),
        to(State.RUNNING, "queued_again", "doubted"),
    ),
    "turned_away": (
        lambda world, job: world.claims.turned_away(job, world.clock.now(), "busy"),
        to(State.QUEUED, "submitting", "doubted"),
    ),
    "refused": (
        lambda world, job: world.claims.refused(job, REFUSED),
        to(State.FAILED, "submitting", "doubted"),
    ),
    "in_doubt": (lambda world, job: world.claims.in_doubt(job, "reset"), {}),
    "resubmit": (lambda world, job: world.claims.resubmit(job), to(State.QUEUED, "doubted")),
    "give_up_submission": (
        lambda world, job: world.claims.give_up_submission(job, UNKNOWN),
        to(State.FAILED, "submitting", "doubted"),
    ),
    "poll_again": (lambda world, job: world.claims.poll_again(job, world.clock.now(), answered=True), {}),
    "hint": (lambda world, job: world.store.hint(job.id), {}),
    "renew": (lambda world, job: world.claims.renew(job), {}),
    "expire": (lambda world, job: world.claims.expire(job, TIMED_OUT, None), to(State.EXPIRED, *RUNNING)),
    "keep_artifact": (lambda world, job: world.claims.keep_artifact(job, artifact()), {}),
    "mirror_again": (lambda world, job: world.claims.mirror_again(job, world.clock.now()), {}),
    "mirrored": (lambda world, job: world.claims.mirrored(job), to(State.COMPLETED, "mirrored")),
    "give_up_mirror": (lambda world, job: world.claims.give_up_mirror(job, GONE), to(State.FAILED, "mirrored")),
    "remirror": (
        lambda world, job: world.store.remirror(job.id, RETENTION_MS),
        to(State.MIRRORING, "failed_unavailable"),
    ),
    "a running report": (reported(Status.RUNNING, Source.POLL), to(State.RUNNING, *SUBMITTED_ONCE)),
    "a completed report": (
        reported(Status.COMPLETED, Source.CALLBACK),
        to(State.MIRRORING, *SUBMITTED_ONCE, *RUNNING, *RECOVERABLE),
    ),
    "a failed report": (reported(Status.FAILED, Source.POLL), to(State.FAILED, *SUBMITTED_ONCE, *RUNNING)),
    "a cancelled report": (
        reported(Status.CANCELLED, Source.CALLBACK),
        to(State.CANCELLED, *SUBMITTED_ONCE, *RUNNING),
    ),
    "an expired report": (
        reported(Status.EXPIRED, Source.SUBMISSION),
        to(State.EXPIRED, *SUBMITTED_ONCE, *RUNNING),
    ),
    "a running callback about another": (
        reported_otherwise(Status.RUNNING, Source.CALLBACK),
        to(State.RUNNING, *SUBMITTED_ONCE),
    ),
    "a completed callback about another": (
        reported_otherwise(Status.COMPLETED, Source.CALLBACK),
        to(State.MIRRORING, *SUBMITTED_ONCE, "failed_unknown", *UNCONFIRMED),
    ),
    "a failed callback about another": (
        reported_otherwise(Status.FAILED, Source.CALLBACK),
        to(State.FAILED, *SUBMITTED_ONCE, "attached"),
    ),
    "a completed poll about another": (
        reported_otherwise(Status.COMPLETED, Source.POLL),
        to(State.MIRRORING, *SUBMITTED_ONCE, "failed_unknown"),
    ),
    "a completed submission about another": (
        reported_otherwise(Status.COMPLETED, Source.SUBMISSION),
        to(State.MIRRORING, *SUBMITTED_ONCE, "failed_unknown"),
    ),
}

BESIDES = {  # facts that are no transition
    ("in_doubt", "submitting"): ["in_doubt"],
    ("submitted", "failed_unknown"): ["bound"],
    ("attach", "failed_unknown"): ["bound"],
    **{
        (sentence, place): ["bound"]
        for sentence in (
            "submitted",
            "attach",
            "a running callback about another",
            "a completed callback about another",
            "a failed callback about another",
        )
        for place in UNCONFIRMED
    },
}
HELD = ("submitting", "doubted", *RUNNING, "mirrored", "failed_attached", "expired", "expired_attached")
OTHERWISE_USEFUL: Mapping[str, tuple[str, ...]] = {  # where a sentence is true without moving the job
    "poll_again": (*RUNNING, "failed_attached", "expired", "expired_attached"),
    "mirror_again": ("mirrored",),
    "keep_artifact": ("mirrored",),
    "renew": HELD,
    "a running report": RUNNING,
}


@pytest.mark.parametrize("sentence", SENTENCES)
async def test_a_sentence_moves_a_job_exactly_when_the_table_says(world: World, sentence: str) -> None:
    for place in PLACES:
        await check(world, sentence, place)


async def check(world: World, sentence: str, place: str) -> None:
    call, moves = SENTENCES[sentence]
    job: Job = await getattr(world, place)(provider=place)
    assert job.state is PLACES[place]
    before = await world.history(job)

    answer = await call(world, job)

    after = await world.now(job)
    events = (await world.history(job))[len(before) :]
    if place not in moves:
        assert (place, after.state) == (place, PLACES[place])
        assert (place, events) == (place, BESIDES.get((sentence, place), []))
        nothing = answer in (None, False, [], Verdict.DUPLICATE, Verdict.MISMATCHED)
        assert (place, nothing) == (place, not events and place not in OTHERWISE_USEFUL.get(sentence, ()))
        return
    assert (place, after.state) == (place, moves[place])
    if sentence == "claim_queued":
        answer = answer[0]
    assert answer in (after, [], Verdict.APPLIED)
    besides = BESIDES.get((sentence, place), [])
    recovered = ["recovered"] if PLACES[place].final else []
    assert (place, events) == (place, [*besides, *recovered, after.state.value])


def test_the_sentences_together_are_exactly_the_transitions() -> None:
    assert {(PLACES[place], state) for _, moves in SENTENCES.values() for place, state in moves.items()} == PAIRS


async def test_the_last_state_told_is_the_state(world: World) -> None:
    for place in PLACES:
        job: Job = await getattr(world, place)(provider=place)
        told = [State(word) for word in await world.history(job) if word in set(State)]
        assert told[-1] is job.state
        assert set(pairwise(told)) <= PAIRS
