"""How fast a provider may be asked."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from service.clock import ManualClock
from service.pace import Pace


def test_a_burst_is_free_at_once_and_then_refills_at_the_rate() -> None:
    clock = ManualClock()
    pace = Pace(clock, per_minute=60, burst=3)
    assert pace.free() == 3
    pace.spend(3)
    assert pace.free() == 0
    clock.advance(999)
    assert pace.free() == 0
    clock.advance(1)
    assert pace.free() == 1


def test_an_idle_hour_saves_no_more_than_a_burst() -> None:
    clock = ManualClock()
    pace = Pace(clock, per_minute=60, burst=3)
    pace.spend(3)
    clock.advance(3_600_000)
    pace.spend(2)
    assert pace.free() == 1


def test_asking_often_what_is_free_costs_nothing() -> None:
    clock = ManualClock()
    pace = Pace(clock, per_minute=7, burst=10)
    pace.spend(10)
    for _ in range(60_000):
        clock.advance(1)
        pace.free()
    assert pace.free() in {6, 7}  # seven, less what adding sixty thousand fractions loses


def test_who_could_not_wait_is_paid_back_first() -> None:
    clock = ManualClock()
    pace = Pace(clock, per_minute=60, burst=2)
    pace.spend(5)
    assert pace.free() == 0
    clock.advance(3_000)
    assert pace.free() == 0
    clock.advance(1_000)
    assert pace.free() == 1


def test_a_reserve_is_left_to_others() -> None:
    pace = Pace(ManualClock(), per_minute=60, burst=30)
    assert pace.free(reserve=0.25) == 23
    pace.spend(23)
    assert pace.free(reserve=0.25) == 0
    assert pace.free() == 7


@given(st.integers(1, 50), st.floats(0, 0.99))
def test_a_reserve_never_starves_whoever_leaves_it(burst: int, reserve: float) -> None:
    assert Pace(ManualClock(), per_minute=60, burst=burst).free(reserve=reserve) >= 1


def test_without_a_limit_everything_is_free() -> None:
    pace = Pace(ManualClock())
    pace.spend(10_000)
    assert pace.free(reserve=0.9) >= 10_000


def test_retry_after_closes_it_even_without_a_limit() -> None:
    clock = ManualClock()
    for pace in (Pace(clock), Pace(clock, per_minute=60, burst=2)):
        pace.close_for(5_000)
        assert pace.free() == 0
        pace.close_for(1_000)  # a shorter advice does not open it
        clock.advance(4_999)
        assert pace.free() == 0
        clock.advance(1)
        assert pace.free() >= 2


def test_a_clock_that_is_set_back_neither_opens_nor_empties_it() -> None:
    clock = ManualClock()
    pace = Pace(clock, per_minute=60, burst=5)
    pace.spend(5)
    clock.advance(-60_000)
    assert pace.free() == 0
    clock.advance(2_000)
    assert pace.free() == 2


@given(
    st.integers(1, 90),
    st.integers(1, 30),
    st.lists(st.tuples(st.integers(0, 20_000), st.integers(0, 40)), max_size=60),
)
def test_no_minute_holds_more_than_the_rate_and_a_burst(
    per_minute: int, burst: int, wishes: list[tuple[int, int]]
) -> None:
    clock = ManualClock()
    pace = Pace(clock, per_minute=per_minute, burst=burst)
    calls: list[tuple[int, int]] = []
    for pause, wanted in wishes:
        clock.advance(pause)
        count = min(wanted, pace.free())
        pace.spend(count)
        calls.append((clock.now(), count))
    for start, _ in calls:
        assert sum(count for at, count in calls if start <= at < start + 60_000) <= per_minute + burst


def test_a_pace_tells_when_a_call_will_be_free() -> None:
    clock = ManualClock()
    pace = Pace(clock, per_minute=60, burst=2)
    assert pace.wait_ms() == 0
    pace.spend(4)
    assert pace.wait_ms() == 3_000
    clock.advance(2_999)
    assert (pace.free(), pace.wait_ms()) == (0, 1)
    clock.advance(1)
    assert (pace.free(), pace.wait_ms()) == (1, 0)
    pace.close_for(5_000)
    assert pace.wait_ms() == 5_000


def test_without_a_limit_nobody_waits() -> None:
    assert Pace(ManualClock()).wait_ms() == 0


def test_a_clock_that_is_set_back_takes_a_closing_with_it() -> None:
    clock = ManualClock()
    pace = Pace(clock)
    pace.close_for(60_000)
    clock.advance(20_000)
    assert pace.free() == 0
    clock.advance(-3_600_000)
    assert pace.wait_ms() == 40_000
    clock.advance(40_000)
    assert pace.free() > 0
