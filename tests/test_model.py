from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.model import (
    EVENTS,
    FINAL,
    GAVE_UP,
    PROBES,
    TRANSITIONS,
    ErrorCode,
    Reference,
    State,
    Status,
    VideoRequest,
    is_provider_job_id,
    is_tenant,
)

TEXT = st.text(max_size=40)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
REQUESTS = st.builds(
    VideoRequest,
    model=TEXT,
    prompt=st.none() | TEXT,
    duration=st.none() | st.integers(),
    aspect_ratio=st.none() | TEXT,
    resolution=st.none() | TEXT,
    size=st.none() | TEXT,
    seed=st.none() | st.integers(),
    generate_audio=st.none() | st.booleans(),
    first_frame=st.none() | TEXT,
    last_frame=st.none() | TEXT,
    references=st.lists(st.builds(Reference, type=TEXT, url=TEXT), max_size=3).map(tuple),
    provider_options=st.dictionaries(TEXT, JSON, max_size=3),
)


@given(request=REQUESTS)
def test_a_request_comes_back_from_its_stored_form_as_it_was(request: VideoRequest) -> None:
    assert VideoRequest.from_json(request.to_json()) == request


@given(request=REQUESTS)
def test_equal_requests_have_one_stored_form(request: VideoRequest) -> None:
    options = dict(reversed(list(request.provider_options.items())))
    fields = {name: getattr(request, name) for name in VideoRequest.__dataclass_fields__}
    assert VideoRequest(**(fields | {"provider_options": options})).to_json() == request.to_json()


def test_the_stored_form_says_what_was_asked_for_and_nothing_else() -> None:
    assert VideoRequest(model="m").to_json() == '{"model":"m"}'
    chosen = VideoRequest(model="m", prompt="", duration=0, seed=0, generate_audio=False)
    assert json.loads(chosen.to_json()) == {
        "model": "m",
        "prompt": "",
        "duration": 0,
        "seed": 0,
        "generate_audio": False,
    }
    nested = VideoRequest(model="m", provider_options={"kept": {"none": None, "empty": {}}})
    assert json.loads(nested.to_json())["provider_options"] == {"kept": {"none": None, "empty": {}}}


def test_every_state_says_what_may_follow_it() -> None:
    assert set(TRANSITIONS) == set(State)


def test_what_is_final_leads_nowhere_but_to_a_video_that_came_after_all() -> None:
    assert {state for state in State if state.final} == FINAL
    assert {state: TRANSITIONS[state] for state in FINAL} == {
        State.COMPLETED: set(),
        State.CANCELLED: set(),
        State.FAILED: {State.MIRRORING},
        State.EXPIRED: {State.MIRRORING},
    }


def test_no_job_is_stuck_every_state_leads_to_an_end() -> None:
    ends = set(FINAL)
    for _ in State:
        ends |= {state for state in State if TRANSITIONS[state] & ends}
    assert ends == set(State)


def test_only_a_copied_video_is_complete() -> None:
    assert {state for state in State if State.COMPLETED in TRANSITIONS[state]} == {State.MIRRORING}


def test_no_state_follows_itself() -> None:
    assert not [state for state in State if state in TRANSITIONS[state]]


def test_there_is_an_event_for_every_state_and_three_more() -> None:
    more = {"job.recovered", "job.in_doubt", "job.bound"}
    assert {f"job.{state.value}" for state in State} | more == EVENTS


def test_every_status_but_running_is_the_state_of_that_name() -> None:
    assert {State(status) for status in Status if status is not Status.RUNNING} == FINAL


def test_we_give_up_only_on_what_may_have_been_paid_for() -> None:
    assert {ErrorCode.SUBMISSION_UNKNOWN, ErrorCode.OUTPUT_UNAVAILABLE} == GAVE_UP


@pytest.mark.parametrize("text", ["studio", "a", "0", "a-b_c", "x" * 63])
def test_a_tenants_name_is_a_folder_in_storage(text: str) -> None:
    assert is_tenant(text)


@pytest.mark.parametrize(
    "text", ["", "Studio", "-a", "_a", "a/b", "..", "a\n", "a b", "ä", "\u0661", "*", "x" * 64, PROBES]
)
def test_what_is_no_folder_of_its_own_is_no_tenants_name(text: str) -> None:
    assert not is_tenant(text)


@pytest.mark.parametrize("text", ["gen-1", "a", "...", "a.b_c~d:e/f-9", "x" * 512])
def test_a_providers_name_for_a_job_needs_no_escape(text: str) -> None:
    assert is_provider_job_id(text)


@pytest.mark.parametrize("text", ["", ".", "..", " ", "a b", "a\n", "a?b", "a#b", "a%20", "ä", "\u0661", "x" * 513])
def test_what_could_change_the_meaning_of_a_url_is_no_providers_name_for_a_job(text: str) -> None:
    assert not is_provider_job_id(text)
