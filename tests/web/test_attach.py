"""Binding a provider's id that an operator found."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import httpx
import pytest

from service.model import Billable, ErrorCode, Job, JobError, State
from tests.web.house import House
from tests.web.test_actions import in_state

UNKNOWN = JobError(ErrorCode.SUBMISSION_UNKNOWN, "the answer was lost", billable=Billable.UNKNOWN)


@pytest.fixture
async def operator(house: House) -> AsyncIterator[httpx.AsyncClient]:
    _, key = await house.keys.create("night shift", "acme", operator=True)
    async with house.client(key=key) as client:
        yield client


async def doubted(house: House) -> Job:
    """Return a job of which nobody knows whether its provider has it."""
    job = await house.claims.in_doubt(await house.submitting(), "no answer")
    assert job is not None
    return job


async def given_up(house: House) -> Job:
    job = await doubted(house)
    house.clock.advance(7_200_000)
    [job] = await house.claims.claim_doubtful(1)
    failed = await house.claims.give_up_submission(job, UNKNOWN)
    assert failed is not None
    return failed


async def attach(client: httpx.AsyncClient, job: Job, provider_job_id: object = "gen-found") -> httpx.Response:
    return await client.post(f"/v1/jobs/{job.id}/attach", json={"provider_job_id": provider_job_id})


async def test_an_id_that_was_found_is_bound_and_the_provider_is_asked_at_once(
    house: House, operator: httpx.AsyncClient
) -> None:
    job = await doubted(house)
    answer = await attach(operator, job)
    assert answer.status_code == 200
    assert (answer.json()["state"], answer.json()["provider_job_id"]) == ("running", "gen-found")
    after = await house.store.job(job.id)
    assert after is not None
    assert after.due_at == house.clock.now()
    assert house.wakes[-1] is State.RUNNING


async def test_a_job_that_was_given_up_is_looked_at_again(house: House, operator: httpx.AsyncClient) -> None:
    job = await given_up(house)
    answer = await attach(operator, job)
    assert (answer.status_code, answer.json()["state"]) == (200, "failed")
    assert (await house.history(job))[-1] == "job.bound"
    await house.call_back(replace(job, provider_job_id="gen-found"))
    after = await house.store.job(job.id)
    assert after is not None
    assert after.state is State.MIRRORING


async def test_the_same_id_once_more_changes_nothing(house: House, operator: httpx.AsyncClient) -> None:
    job = await doubted(house)
    first, again = await attach(operator, job), await attach(operator, job)
    assert (again.status_code, again.json()) == (200, first.json())
    assert await house.history(job) == ["job.queued", "job.submitting", "job.in_doubt", "job.running"]


@pytest.mark.parametrize("place", [doubted, given_up])
async def test_a_wrong_id_is_replaced_by_the_right_one(
    house: House, operator: httpx.AsyncClient, place: Callable[[House], Awaitable[Job]]
) -> None:
    job = await place(house)
    wrong, right = await attach(operator, job, "gen-wrong"), await attach(operator, job, "gen-right")
    assert (right.status_code, right.json()["state"]) == (200, wrong.json()["state"])
    assert (right.json()["provider_job_id"], right.json()["provider_status"]) == ("gen-right", "attached")
    events = (await operator.get(f"/v1/jobs/{job.id}/events")).json()["data"]
    assert events[-1]["type"] == "job.bound"
    assert events[-1]["data"] == {"provider_job_id": "gen-right", "instead_of": "gen-wrong"}


async def test_an_id_that_a_report_has_confirmed_is_for_good(house: House, operator: httpx.AsyncClient) -> None:
    job = await doubted(house)
    await attach(operator, job)
    await house.call_back(replace(job, provider_job_id="gen-found"), "in_progress")
    other = await attach(operator, job, "gen-other")
    assert other.status_code == 409
    assert other.json()["error"]["code"] == "cannot_attach"
    assert other.json()["error"]["message"] == "The job is bound to gen-found, which is for good."
    answer = await house.call_back(replace(job, provider_job_id="gen-other"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "mismatched")


async def test_a_genuine_callback_is_believed_although_a_wrong_id_was_attached(
    house: House, operator: httpx.AsyncClient
) -> None:
    job = await doubted(house)
    await attach(operator, job, "gen-wrong")
    answer = await house.call_back(replace(job, provider_job_id="gen-right"))
    assert answer.status_code == 204
    after = await house.store.job(job.id)
    assert after is not None
    assert (after.state, after.provider_job_id) == (State.MIRRORING, "gen-right")


async def test_no_id_is_attached_while_the_job_is_being_submitted(house: House, operator: httpx.AsyncClient) -> None:
    job = await house.submitting()
    answer = await attach(operator, job)
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "cannot_attach")
    assert "is being submitted to openrouter just now, whose answer names its id" in answer.json()["error"]["message"]
    assert await house.store.job(job.id) == job
    house.clock.advance(60_000)  # whoever submitted it is gone
    assert (await attach(operator, job)).status_code == 200


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (State.QUEUED, "was never submitted, so openrouter has no id for it"),
        (State.RUNNING, "is bound to gen-1, which is for good"),
        (State.COMPLETED, "is bound to gen-1, which is for good"),
    ],
)
async def test_what_is_bound_or_was_never_sent_is_not_bound(
    house: House, operator: httpx.AsyncClient, state: State, words: str
) -> None:
    job = await in_state(house, state)
    answer = await attach(operator, job)
    assert answer.status_code == 409
    assert words in answer.json()["error"]["message"]
    assert await house.store.job(job.id) == job or state is State.COMPLETED


async def test_a_job_that_the_provider_refused_is_not_bound(house: House, operator: httpx.AsyncClient) -> None:
    job = await house.submitting()
    await house.claims.refused(job, JobError(ErrorCode.INVALID_REQUEST, "no"))
    answer = await attach(operator, job)
    assert answer.status_code == 409
    assert "ended as failed with invalid_request; only one whose submission has an unknown outcome" in answer.text


async def test_an_id_that_another_job_has_is_not_bound_twice(house: House, operator: httpx.AsyncClient) -> None:
    await house.running(provider_job_id="gen-found")
    job = await doubted(house)
    answer = await attach(operator, job)
    assert answer.status_code == 409
    assert "Another job is bound to gen-found already" in answer.json()["error"]["message"]
    assert await house.store.job(job.id) == job


@pytest.mark.parametrize("wrong", ["", "has a space", "..", "x" * 513, "ü", 7, None])
async def test_what_cannot_be_an_id_is_told_with_an_example(
    house: House, operator: httpx.AsyncClient, wrong: object
) -> None:
    job = await doubted(house)
    answer = await attach(operator, job, wrong)
    assert answer.status_code == 400
    [problem] = answer.json()["error"]["problems"]
    assert problem["field"] == "provider_job_id"
    assert "for example gen-1a2b3c" in problem["message"]
    assert await house.store.job(job.id) == job


@pytest.mark.parametrize("body", [{}, {"provider_job_id": "gen-found", "force": True}])
async def test_the_body_says_the_id_and_nothing_else(
    house: House, operator: httpx.AsyncClient, body: dict[str, object]
) -> None:
    job = await doubted(house)
    answer = await operator.post(f"/v1/jobs/{job.id}/attach", json=body)
    assert answer.status_code == 400
    assert await house.store.job(job.id) == job


async def test_only_an_operator_binds(house: House, client: httpx.AsyncClient) -> None:
    job = await doubted(house)
    answer = await attach(client, job)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "operators_only")
    assert await house.store.job(job.id) == job
