"""The story of a job as one list: its own events, and every attempt to tell its caller."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.model import Delivery, DeliveryAttempt, Event, Source, State

Owed = Sequence[tuple[Delivery, Sequence[DeliveryAttempt]]]


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened to a job at `at` (unix ms), `gap` ms after the one before.

    `kind` is the event's type, or "delivered" and "undelivered" for attempts to deliver; `state` is the one it entered,
    if any; `about` holds words that strangers may have written.
    """

    at: int
    gap: int | None
    kind: str
    state: State | None
    title: str
    about: str = ""


_BY: Mapping[Any, str] = {
    Source.CALLBACK: "by callback",
    Source.POLL: "by poll",
    Source.SUBMISSION: "in the answer to the submission",
    "operator": "on an operator's wish",
    "caller": "on its caller's wish",
}


def timeline(events: Sequence[Event], owed: Owed) -> list[Moment]:
    """Return what happened, oldest first."""
    found = [_of_event(event) for event in events]
    found += [_of_attempt(delivery, attempt) for delivery, attempts in owed for attempt in attempts]
    # What a delivery tells is true before it is sent: events come first among what has the same millisecond.
    ordered = sorted(found, key=lambda moment: (moment.at, moment.kind in ("delivered", "undelivered")))
    before = [None, *(moment.at for moment in ordered)]
    return [
        Moment(each.at, None if last is None else each.at - last, each.kind, each.state, each.title, each.about)
        for each, last in zip(ordered, before, strict=False)
    ]


def _of_event(event: Event) -> Moment:
    word = event.type.removeprefix("job.")
    state = State(word) if word in tuple(State) else None
    title, about = _TELLERS[event.type](event)
    return Moment(event.at, None, event.type, state, title, about)


def _of_attempt(delivery: Delivery, attempt: DeliveryAttempt) -> Moment:
    taken = attempt.status is not None and 200 <= attempt.status < 300  # noqa: PLR2004 - what a receiver takes
    how = f"answered {attempt.status}" if attempt.status is not None else "gave no answer"
    about = f"{delivery.receiver} {how}"
    if attempt.error:
        about += f": {attempt.error}"
    title = f"Caller told of job.{delivery.ended}" if taken else f"Caller not told of job.{delivery.ended}"
    return Moment(attempt.at, None, "delivered" if taken else "undelivered", None, title, about)


def _by(event: Event, done: str) -> tuple[str, str]:
    """Return what was done and how the word about it came, and the word."""
    source = event.data.get("source")
    how = f", {_BY.get(source, source)}" if source else ""
    return f"{done}{how}", _words(event)


def _words(event: Event) -> str:
    """Return the provider's status word and id, and the code and reason of an end, as far as they are known."""
    words = {
        "says": event.data.get("provider_status"),
        "id": event.data.get("provider_job_id"),
        "code": event.data.get("code"),
        "because": event.data.get("reason"),
    }
    return " · ".join(f"{name} {value}" for name, value in words.items() if value)


def _queued(event: Event) -> tuple[str, str]:
    reason = event.data.get("reason")
    if reason is None:
        return "Accepted and queued", ""
    if reason == "resubmit":
        return "Queued to be submitted again, as its caller chose", ""
    return "Turned away by the provider, and queued again", str(reason)


def _running(event: Event) -> tuple[str, str]:
    title = "The provider has it" if event.data.get("source") else "Submitted, and bound to the provider's id"
    return _by(event, title)


def _mirroring(event: Event) -> tuple[str, str]:
    return _by(event, "Finished" if event.data.get("source") else "The video is copied again")


def _bound(event: Event) -> tuple[str, str]:
    wrong = event.data.get("instead_of")
    if wrong is None:
        return "Bound to the provider's id after we had given up", _words(event)
    return "Bound to another id than was attached", f"{_words(event)} · instead of {wrong}"


_TELLERS: Mapping[str, Callable[[Event], tuple[str, str]]] = {
    "job.queued": _queued,
    "job.submitting": lambda _: ("Submission begun", ""),
    "job.in_doubt": lambda event: ("In doubt: nobody knows whether the provider accepted it", _words(event)),
    "job.running": _running,
    "job.mirroring": _mirroring,
    "job.completed": lambda event: _by(event, "Mirrored: every video is kept"),
    "job.failed": lambda event: _by(event, "Failed"),
    "job.cancelled": lambda event: _by(event, "Cancelled"),
    "job.expired": lambda event: _by(event, "Expired"),
    "job.recovered": lambda event: _by(event, "Recovered after we had given up"),
    "job.bound": _bound,
}
