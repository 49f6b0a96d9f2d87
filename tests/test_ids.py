"""Names for jobs, leases and keys."""

from __future__ import annotations

import random
import re

from hypothesis import given
from hypothesis import strategies as st

from service.clock import ManualClock
from service.ids import Ids


def test_an_id_is_its_prefix_and_a_lower_case_ulid() -> None:
    name = Ids(ManualClock()).new("job")
    assert re.fullmatch(r"job_[0-7][0-9a-hjkmnp-tv-z]{25}", name)


@given(st.lists(st.integers(0, 2**47), unique=True, min_size=2, max_size=20))
def test_ids_sort_by_the_time_they_were_made(times: list[int]) -> None:
    names = {now: Ids(ManualClock(now)).new("job") for now in times}
    assert sorted(names.values()) == [names[now] for now in sorted(times)]


def test_ids_of_one_millisecond_are_different() -> None:
    ids = Ids(ManualClock())
    assert len({ids.new("job") for _ in range(1_000)}) == 1_000


def test_a_secret_is_forty_three_letters_and_digits_that_differ_each_time() -> None:
    ids = Ids(ManualClock())
    secrets = {ids.secret("rk") for _ in range(1_000)}
    assert len(secrets) == 1_000
    assert all(re.fullmatch(r"rk_[A-Za-z0-9]{43}", secret) for secret in secrets)
    assert len(set("".join(secrets))) == 62 + len("_")


def test_the_clock_and_chance_that_are_passed_in_decide() -> None:
    one, same, other = (Ids(ManualClock(), random.Random(seed)) for seed in (1, 1, 2))  # noqa: S311 - on purpose
    assert [one.new("job"), one.secret("rk")] == [same.new("job"), same.secret("rk")]
    assert one.new("job") != other.new("job")


def test_by_default_chance_cannot_be_repeated() -> None:
    random.seed(1)
    first = Ids(ManualClock()).secret("rk")
    random.seed(1)
    assert Ids(ManualClock()).secret("rk") != first
