"""When to try again."""

from __future__ import annotations

import random
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from service.backoff import Backoff, spread_ms


class Fixed(random.Random):
    """Chance that always says the same."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self._value = value

    def random(self) -> float:
        return self._value


def test_delays_double_up_to_the_most() -> None:
    backoff = Backoff(first_ms=1_000, most_ms=5_000)
    assert [backoff.delay_ms(attempt, Fixed(0.5)) for attempt in range(1, 6)] == [1_000, 2_000, 4_000, 5_000, 5_000]


def test_an_attempt_before_the_first_counts_as_the_first() -> None:
    assert Backoff(first_ms=1_000, most_ms=5_000).delay_ms(0, Fixed(0.5)) == 1_000


def test_jitter_moves_a_delay_both_ways() -> None:
    backoff = Backoff(first_ms=1_000, most_ms=5_000, jitter=0.2)
    assert backoff.delay_ms(1, Fixed(0.0)) == 800
    assert backoff.delay_ms(1, Fixed(0.999_999)) == 1_200
    assert spread_ms(1_000, 0.0, Fixed(0.9)) == 1_000


def test_what_failed_together_does_not_come_back_together() -> None:
    chance = random.Random(1)  # noqa: S311 - no secret
    delays = {Backoff(first_ms=60_000, most_ms=60_000).delay_ms(3, chance) for _ in range(100)}
    assert len(delays) > 90


@given(st.integers(0, 10**6), st.integers(0, 10**9), st.floats(0, 1), st.integers(-5, 10**9), st.randoms())
def test_a_delay_is_never_negative_and_never_beyond_the_most_and_its_jitter(
    first_ms: int, most_ms: int, jitter: float, attempt: int, chance: random.Random
) -> None:
    delay = Backoff(first_ms, most_ms, jitter).delay_ms(attempt, chance)
    assert 0 <= delay <= most_ms * (1 + jitter) + 1


@given(st.integers(1, 10**6), st.integers(1, 10**9))
def test_without_jitter_no_delay_is_shorter_than_the_one_before(first_ms: int, most_ms: int) -> None:
    backoff = Backoff(first_ms, most_ms, jitter=0)
    delays = [backoff.delay_ms(attempt, Fixed(0.5)) for attempt in range(1, 50)]
    assert all(before <= after for before, after in pairwise(delays))
    assert delays[-1] == most_ms
