"""Whoever counts or traces sees everything, and breaks nothing."""

from __future__ import annotations

from service.model import Job
from service.observer import Answered, CalledBack, Handled, Observers

HANDLED = Handled("submit", "accepted", 1, 0.5)
ANSWERED = Answered("GET", "/healthz", 200, 1, 0.5)
CALLED_BACK = CalledBack("alpha", "applied", "job_1", 1, 0.5)


class Witness:
    """An observer that writes down what it sees."""

    def __init__(self) -> None:
        self.seen: list[object] = []

    def entered(self, job: Job) -> None:
        self.seen.append(job)

    def handled(self, work: Handled) -> None:
        self.seen.append(work)

    def answered(self, answer: Answered) -> None:
        self.seen.append(answer)

    def called_back(self, callback: CalledBack) -> None:
        self.seen.append(callback)


class Broken(Witness):
    """An observer with a mistake in it."""

    def handled(self, work: Handled) -> None:
        raise ZeroDivisionError(work.step)

    def answered(self, answer: Answered) -> None:
        raise KeyError(answer.route)


def test_all_observers_see_all() -> None:
    one, other = Witness(), Witness()
    observers = Observers([one, other])
    observers.handled(HANDLED)
    observers.answered(ANSWERED)
    observers.called_back(CALLED_BACK)
    assert one.seen == other.seen == [HANDLED, ANSWERED, CALLED_BACK]


def test_what_an_observer_raises_reaches_nobody_but_who_wants_to_be_told_and_each_mistake_once() -> None:
    complaints: list[Exception] = []
    witness = Witness()
    observers = Observers([Broken(), witness], complaints.append)
    for _ in range(3):
        observers.handled(HANDLED)
        observers.answered(ANSWERED)
        observers.called_back(CALLED_BACK)
    assert [type(each) for each in complaints] == [ZeroDivisionError, KeyError]
    assert witness.seen == [HANDLED, ANSWERED, CALLED_BACK] * 3
