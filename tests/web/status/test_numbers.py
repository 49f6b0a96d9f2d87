"""What the numbers mean: when callbacks stopped, what failed, what is overdue."""

from __future__ import annotations

import pytest

from service.model import DeliveryState, Source, State
from service.store import FailingReceiver, Overview, Reason, Rejection, Stored, Waiting
from service.web.status import numbers, sparks, writing

NOW = 1_790_000_000_000
NONE = (0,) * 96


def course(**quarters: int) -> tuple[int, ...]:
    """Return a day with some in quarters counted from the last, which is `q1`."""
    found = [0] * 96
    for name, count in quarters.items():
        found[-int(name[1:])] = count
    return tuple(found)


def overview(
    *,
    reports: dict[Source, tuple[int, ...]] | None = None,
    entered: dict[str, tuple[int, ...]] | None = None,
    jobs: dict[State, int] | None = None,
    waiting: tuple[Waiting, ...] = (),
) -> Overview:
    return Overview(
        jobs={"openrouter": jobs or {}},
        entered={"openrouter": entered or {}},
        reports={"openrouter": reports or {}},
        waiting=waiting,
        kept={},
        spend=(),
        storage=Stored(0, 0),
        deliveries={DeliveryState.PENDING: 0},
        unknown_words={},
    )


def concerns(about: Overview, configured: tuple[str, ...] | None = ("openrouter",)) -> list[tuple[str, str]]:
    shown = numbers.of_providers(about, configured or ())
    found = [*numbers.concerns(about, shown, configured, {}), *numbers.overdue(about, NOW)]
    return [(each.kind, each.message) for each in found]


def test_callbacks_that_came_before_and_only_polls_in_the_last_hour_have_stopped() -> None:
    about = overview(reports={Source.CALLBACK: course(q5=9), Source.POLL: course(q4=1, q1=2)})
    [(kind, message)] = concerns(about)
    assert kind == "callbacks_stopped"
    assert message.startswith(
        "Callbacks from openrouter stopped: in the last hour 3 jobs were settled by polls and none"
    )
    assert "`reelkeeper check`" in message
    one = overview(reports={Source.CALLBACK: course(q50=1), Source.POLL: course(q1=1)})
    assert "1 job was settled by polls" in concerns(one)[0][1]


@pytest.mark.parametrize(
    "reports",
    [
        {},
        {Source.CALLBACK: course(q4=1, q50=5), Source.POLL: course(q1=9)},  # one came in the last hour
        {Source.CALLBACK: course(q5=1), Source.POLL: course(q5=9)},  # nothing was settled since
        {Source.POLL: course(q1=9)},  # there never were any
        {Source.CALLBACK: course(q9=1), Source.SUBMISSION: course(q1=9)},
    ],
)
def test_callbacks_that_were_not_needed_or_never_came_have_not_stopped(reports: dict[Source, tuple[int, ...]]) -> None:
    assert concerns(overview(reports=reports)) == []


def test_a_provider_most_of_whose_jobs_fail_is_told() -> None:
    failing = overview(entered={"job.failed": course(q1=2), "job.expired": course(q4=1), "job.completed": course(q1=2)})
    assert concerns(failing) == [
        ("failing", "Most jobs of openrouter failed in the last hour: 3 of 5 that ended."),
    ]
    few = overview(entered={"job.failed": course(q1=2)})
    old = overview(entered={"job.failed": course(q5=9)})
    even = overview(entered={"job.failed": course(q1=3), "job.completed": course(q1=3)})
    assert [concerns(each) for each in (few, old, even)] == [[], [], []]


def test_open_jobs_of_a_provider_that_is_not_configured_are_told_to_who_can_configure_it() -> None:
    about = overview(jobs={State.RUNNING: 2, State.COMPLETED: 5})
    assert concerns(about) == []
    assert concerns(about, None) == []
    [(kind, message)] = concerns(about, ("llmgateway",))
    assert kind == "unserved"
    assert "2 of its jobs are open" in message


def rejection(ago_ms: int, reason: Reason = Reason.WRONG_SECRET, provider: str = "openrouter") -> Rejection:
    return Rejection("job_1", provider, reason, "", 1, NOW - ago_ms, NOW - ago_ms, {}, 3)


def test_the_last_rejected_callback_is_dated_and_mended_once_genuine_ones_settled_jobs_after_it() -> None:
    rejected = [rejection(3_540_000), rejection(7_200_000, Reason.TOO_LARGE)]
    since = {Source.CALLBACK: course(q4=1)}
    before = {Source.CALLBACK: course(q5=9)}
    for reports, mended in ((since, True), (before, False), ({}, False)):
        shown = numbers.of_providers(overview(reports=reports), ())
        [concern] = numbers.rejections(shown, rejected, NOW)
        assert concern.mended is mended
        assert "were rejected in the last day: too large, wrong secret. The last one came 59 min ago" in concern.message
        assert ("none since; genuine ones came since" in concern.message) is mended
    [just] = numbers.rejections([], [rejection(59_999)], NOW)
    assert just.message.endswith("The last one came less than a minute ago.")
    assert not just.mended


def failing(ago_ms: int | None, status: int | None = 503, failed: int = 0) -> FailingReceiver:
    last_at = None if ago_ms is None else NOW - ago_ms
    return FailingReceiver("acme", "https://a.example", failed, 2, 1, "said no", status, last_at)


def test_receivers_that_failed_in_the_last_day_are_counted_and_the_last_failure_told() -> None:
    found = [failing(300_000, failed=1_000), failing(600_000), failing(86_400_000), failing(None)]
    [concern] = numbers.receivers(found, NOW)
    assert concern.message == (
        "2 receivers did not take what they were told in the last day: 1,000 given up, 4 not told yet. "
        "The last failure was 503 from https://a.example, 5 min ago."
    )
    [concern] = numbers.receivers([failing(1, None)] * numbers.MOST_RECEIVERS, NOW)
    assert concern.message.startswith("100 receivers at least did not take")
    assert concern.message.endswith("no answer from https://a.example, less than a minute ago.")
    assert list(numbers.receivers(found[2:], NOW)) == []


def test_a_step_is_as_late_as_its_oldest_item_and_told_after_five_minutes() -> None:
    waiting = tuple(
        Waiting("poll", "openrouter", "job_1", "job_1", NOW - ms, NOW - 900_000) for ms in (299_999, -5_000)
    )
    about = overview(waiting=waiting)
    assert numbers.overdue_ms(about, NOW) == {"submit": 0, "resolve": 0, "poll": 299_999, "mirror": 0, "notify": 0}
    assert concerns(about) == []
    assert numbers.overdue_ms(about, NOW + 1)["poll"] == 300_000
    behind = overview(waiting=(Waiting("poll", "openrouter", "job_1", "job_1", NOW - 300_000, NOW),))
    assert concerns(behind) == [("overdue", "The step poll is 5 min overdue; the oldest item is listed below.")]


def test_rates_and_shares_are_of_what_happened_and_of_nothing_none() -> None:
    about = overview(
        reports={Source.CALLBACK: course(q1=3), Source.POLL: course(q9=1)},
        entered={"job.completed": course(q1=7), "job.failed": course(q1=2), "job.expired": course(q2=1)}
        | {"job.cancelled": course(q1=90)},
    )
    [one] = numbers.of_providers(about, ())
    assert (one.callback_share, one.success_rate) == (0.75, 0.7)
    [none] = numbers.of_providers(overview(), ())
    assert (none.callback_share, none.success_rate) == (None, None)
    assert numbers.courses(about)[State.COMPLETED] == course(q1=7)


# How they look


def test_bars_stand_on_each_other_and_fill_the_height() -> None:
    below, above = sparks.stacked([(1, 0, 3), (1, 0, 0)])
    assert below == "M0 32.0v-10.7h2v10.7zM4 32.0v-32.0h2v32.0z"
    assert above == "M0 21.3v-10.7h2v10.7z"
    assert sparks.stacked([NONE]) == [""]
    assert sparks.in_words(course(q1=1, q4=2, q5=4)) == "7 in the last 24 h, 3 in the last hour"


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (writing.ago(0), "0 s ago"),
        (writing.ago(59_999), "59 s ago"),
        (writing.ago(3_600_000), "1 h ago"),
        (writing.ago(-5_000), "in 5 s"),
        (writing.coarse(172_800_000), "2 d"),
        (writing.span(850), "850 ms"),
        (writing.span(2_440), "2.4 s"),
        (writing.span(59_400), "59 s"),
        (writing.span(60_000), "1 min"),
        (writing.span(245_000), "4 min 5 s"),
        (writing.span(7_830_000), "2 h 10 min"),
        (writing.span(273_600_000), "3 d 4 h"),
        (writing.size(0), "0 B"),
        (writing.size(999), "999 B"),
        (writing.size(1_234_567), "1.2 MB"),
        (writing.size(34_000_000_000), "34 GB"),
        (writing.size(5_600_000_000_000_000), "5600 TB"),
        (writing.money(1234.5), "$1,234.50"),
        (writing.money(0.0042), "$0.0042"),
        (writing.money(0), "$0.00"),
        (writing.percent(0.9468), "94.7 %"),
        (writing.percent(1), "100 %"),
        (writing.percent(0.99999), "99.9 %"),
        (writing.percent(0.00001), "0.1 %"),
        (writing.percent(0), "0 %"),
        (writing.moment(1_790_000_000_123), "2026-09-21 14:13:20 UTC"),
    ],
)
def test_times_sizes_and_sums_are_written_for_people(said: str, text: str) -> None:
    assert said == text
    written = (writing.span, writing.size, writing.money, writing.percent, writing.moment)
    assert {each(None) for each in written} == {"\u2013"}
