from __future__ import annotations

import asyncio
from dataclasses import replace

import httpx
import pytest

from service.model import (
    Billable,
    DeliveryAttempt,
    ErrorCode,
    Face,
    Job,
    JobError,
    OnUnknown,
    Reference,
    State,
    VideoRequest,
)
from service.providers import Unanswered
from service.providers.openrouter import OpenRouter
from service.store import Created, NewJob
from tests.web.house import OPENROUTER_SECRET, PUBLIC_URL, House, ask
from tests.web.status.browsing import signed_in

Says = bool | Unanswered

NOTIFY_URL = "https://backend.example.com/done/canary?token=canary"
FAILED_ATTEMPT = DeliveryAttempt(1_790_000_000_000, 41, 502, None, "Bad Gateway")


async def made(house: House, new: NewJob) -> Job:
    created = await house.store.create_job(new)
    assert isinstance(created, Created)
    return created.job


async def told(house: House) -> Job:
    """Return a queued job whose caller wants to be told."""
    return await made(house, NewJob("acme", "openrouter", VideoRequest("m", prompt="a cat"), notify_url=NOTIFY_URL))


async def unavailable(house: House, job: Job) -> Job:
    """Return the job after its video was given up."""
    await house.call_back(job)
    [job] = await house.claims.claim_mirrors("openrouter", 1)
    error = JobError(ErrorCode.OUTPUT_UNAVAILABLE, "the video is not there", billable=Billable.YES)
    failed = await house.claims.give_up_mirror(job, error)
    assert failed is not None
    return failed


async def in_state(house: House, state: State) -> Job:
    match state:
        case State.QUEUED:
            return await house.queued()
        case State.SUBMITTING:
            return await house.submitting()
        case State.COMPLETED:
            return await house.completed()
    job = await house.running()
    words = {State.MIRRORING: "completed", State.FAILED: "failed", State.EXPIRED: "expired"}
    if state in words:
        await house.call_back(job, words[state])
    elif state is State.CANCELLED:
        await house.call_back(job, "cancelled")
    return job


# Cancelling


class Obliging(OpenRouter):
    """A provider that takes the wish to cancel, or says something else about it."""

    def __init__(self, house: House, client: httpx.AsyncClient, *, says: Says = True) -> None:
        secrets = [OPENROUTER_SECRET]
        super().__init__(
            client, base_url="http://127.0.0.1:9", api_key="unused", webhook_secrets=secrets, clock=house.clock
        )
        self.asked: list[str] = []
        self.says = says

    async def cancel(self, provider_job_id: str) -> Says:
        self.asked.append(provider_job_id)
        return self.says


async def test_a_queued_job_is_cancelled_and_cancelling_again_says_the_same(
    house: House, client: httpx.AsyncClient
) -> None:
    job = await house.queued()
    answers = [await client.post(f"/v1/jobs/{job.id}/cancel") for _ in range(2)]
    for answer in answers:
        assert answer.status_code == 200
        assert answer.json()["state"] == "cancelled"
        assert answer.json()["error"]["code"] == "cancelled"
        assert answer.json()["error"]["billable"] == "no"
        assert answer.json()["cancellation"] == {
            "outcome": "cancelled",
            "message": "The job was cancelled before it was submitted; nothing is billed.",
        }
    assert answers[0].json() == answers[1].json()
    assert await house.history(job) == ["job.queued", "job.cancelled"]


async def test_a_job_that_may_have_been_accepted_before_is_not_said_to_be_free(
    house: House, client: httpx.AsyncClient
) -> None:
    resubmitted = NewJob("acme", "openrouter", VideoRequest("m"), on_unknown=OnUnknown.RESUBMIT)
    await made(house, resubmitted)
    [job] = await house.claims.claim_queued("openrouter", 1)
    await house.claims.in_doubt(job, "no answer")
    house.clock.advance(3_600_000)
    [job] = await house.claims.claim_doubtful(1)
    assert await house.claims.resubmit(job)

    answer = (await client.post(f"/v1/jobs/{job.id}/cancel")).json()
    assert answer["error"]["billable"] == "unknown"
    assert answer["cancellation"]["outcome"] == "cancelled"
    assert "may have accepted an earlier submission, and then bills it" in answer["cancellation"]["message"]


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (State.SUBMITTING, "may have it already, has no way to cancel it and bills it; the job goes on"),
        (State.RUNNING, "openrouter has the job, has no way to cancel it and bills it; the job goes on"),
        (State.MIRRORING, "has finished and billed the video, and it is being copied"),
        (State.COMPLETED, "has ended as completed"),
        (State.FAILED, "has ended as failed"),
        (State.EXPIRED, "has ended as expired"),
    ],
)
async def test_a_job_that_cannot_be_cancelled_says_why_and_goes_on(
    house: House, client: httpx.AsyncClient, state: State, words: str
) -> None:
    job = await in_state(house, state)
    before = await house.store.job(job.id)
    answer = await client.post(f"/v1/jobs/{job.id}/cancel")
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "cannot_cancel"
    assert words in answer.json()["error"]["message"]
    assert before is not None
    assert before.state is state
    assert await house.store.job(job.id) == before


async def test_a_job_that_the_provider_cancelled_counts_as_cancelled(house: House, client: httpx.AsyncClient) -> None:
    job = await in_state(house, State.CANCELLED)
    answer = await client.post(f"/v1/jobs/{job.id}/cancel")
    assert answer.status_code == 200
    assert answer.json()["state"] == "cancelled"
    assert answer.json()["cancellation"]["message"].startswith("openrouter cancelled the job")


async def test_a_provider_that_takes_the_wish_is_asked_and_the_job_goes_on_until_it_says_how_it_ended(
    house: House, client: httpx.AsyncClient
) -> None:
    house.providers["openrouter"] = provider = Obliging(house, client)
    job = await house.running()

    answer = await client.post(f"/v1/jobs/{job.id}/cancel")
    assert answer.status_code == 202
    assert provider.asked == ["gen-1"]
    assert answer.json()["state"] == "running"
    assert answer.json()["cancellation"]["outcome"] == "asked_provider"
    assert "goes on until it says" in answer.json()["cancellation"]["message"]
    after = await house.store.job(job.id)
    assert after is not None
    assert after.due_at == house.clock.now()  # it is polled at once, not when such a job is usually done

    await house.call_back(job, "cancelled")
    again = await client.post(f"/v1/jobs/{job.id}/cancel")
    assert again.status_code == 200
    assert again.json()["cancellation"]["outcome"] == "cancelled"
    assert provider.asked == ["gen-1"]


async def test_what_the_provider_reports_while_it_is_asked_is_the_answer(
    house: House, client: httpx.AsyncClient
) -> None:
    job = await house.running()

    class Prompt(Obliging):
        async def cancel(self, provider_job_id: str) -> Says:
            await house.call_back(job, "cancelled")
            return await super().cancel(provider_job_id)

    house.providers["openrouter"] = Prompt(house, client)
    answer = await client.post(f"/v1/jobs/{job.id}/cancel")
    assert answer.status_code == 200
    assert answer.json()["cancellation"]["outcome"] == "cancelled"


@pytest.mark.parametrize(
    ("says", "status", "words"),
    [
        (False, 409, "does not cancel the job any more and bills it"),
        (Unanswered("no connection"), 503, "gave no answer (no connection), so it may cancel it or not"),
    ],
)
async def test_a_wish_that_the_provider_did_not_take_is_not_said_to_be_taken(
    house: House,
    client: httpx.AsyncClient,
    says: Says,
    status: int,
    words: str,
) -> None:
    house.providers["openrouter"] = Obliging(house, client, says=says)
    job = await house.running()
    answer = await client.post(f"/v1/jobs/{job.id}/cancel")
    assert answer.status_code == status
    assert words in answer.json()["error"]["message"]
    assert await house.store.job(job.id) == job


async def test_a_job_that_has_no_name_at_its_provider_yet_cannot_be_asked_about(
    house: House, client: httpx.AsyncClient
) -> None:
    house.providers["openrouter"] = provider = Obliging(house, client)
    job = await house.submitting()
    answer = await client.post(f"/v1/jobs/{job.id}/cancel")
    assert answer.status_code == 409
    assert "not named it yet" in answer.json()["error"]["message"]
    assert provider.asked == []


# Asking again


async def test_a_retry_is_a_new_job_with_everything_that_the_old_one_was_asked_with(
    house: House, client: httpx.AsyncClient
) -> None:
    media = "data:image/png;base64," + "A" * 40_000
    new = NewJob(
        "acme",
        "openrouter",
        VideoRequest("m", prompt="a cat", first_frame=media, references=(Reference("image", media),), seed=7),
        on_unknown=OnUnknown.RESUBMIT,
        metadata={"order": "A-17"},
        face=Face.OPENAI,
        notify_url=NOTIFY_URL,
        notify_secret="sealed",
    )
    old = await made(house, new)
    await client.post(f"/v1/jobs/{old.id}/cancel")
    before = await house.store.job(old.id)
    house.clock.advance(1)

    answer = await client.post(f"/v1/jobs/{old.id}/retry")
    assert answer.status_code == 202
    shown = answer.json()
    assert shown["id"] != old.id
    assert shown["retry_of"] == old.id
    assert shown["state"] == "queued"
    assert answer.headers["location"] == f"{PUBLIC_URL}/v1/jobs/{shown['id']}"
    again = await house.store.job(shown["id"])
    assert again is not None
    assert again.request == old.request
    assert await house.store.request(again) == new.request
    kept = ("tenant", "provider", "on_unknown", "metadata", "face", "notify_url", "notify_secret")
    assert [getattr(again, name) for name in kept] == [getattr(new, name) for name in kept]
    assert await house.store.job(old.id) == before
    assert house.wakes[-1] is State.QUEUED


@pytest.mark.parametrize("state", [State.FAILED, State.CANCELLED, State.EXPIRED])
async def test_a_job_that_ended_without_a_video_can_be_asked_for_again(
    house: House, client: httpx.AsyncClient, state: State
) -> None:
    job = await in_state(house, state)
    answer = await client.post(f"/v1/jobs/{job.id}/retry")
    assert answer.status_code == 202
    await client.post(f"/v1/jobs/{answer.json()['id']}/cancel")
    third = await client.post(f"/v1/jobs/{answer.json()['id']}/retry")
    assert third.json()["retry_of"] == answer.json()["id"]


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (State.QUEUED, "is queued and may bring its video"),
        (State.SUBMITTING, "is submitting and may bring its video"),
        (State.RUNNING, "is running and may bring its video"),
        (State.MIRRORING, "is mirroring and may bring its video"),
        (State.COMPLETED, "has brought its video; for another one, send a new POST /v1/jobs"),
    ],
)
async def test_a_job_that_has_or_may_bring_its_video_is_not_asked_for_again(
    house: House, client: httpx.AsyncClient, state: State, words: str
) -> None:
    job = await in_state(house, state)
    answer = await client.post(f"/v1/jobs/{job.id}/retry")
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "cannot_retry"
    assert words in answer.json()["error"]["message"]
    assert await house.count("jobs") == 1


async def test_twenty_retries_at_once_with_one_idempotency_key_make_one_job(
    house: House, client: httpx.AsyncClient
) -> None:
    job, other = await house.queued(), await house.queued()
    for each in (job, other):
        await house.store.cancel(each.id)
    headers = {"idempotency-key": "k"}
    answers = await asyncio.gather(
        *(client.post(f"/v1/jobs/{job.id}/retry", headers=headers) for _ in range(20)),
    )
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum(answer.headers.get("idempotency-replayed") == "true" for answer in answers) == 19

    # The key speaks of this job's retry alone.
    of_other = await client.post(f"/v1/jobs/{other.id}/retry", headers=headers)
    assert of_other.json()["retry_of"] == other.id
    assert "idempotency-replayed" not in of_other.headers


async def test_a_retry_whose_answer_was_sent_is_another_job_when_it_comes_again_unless_it_is_marked(
    house: House, client: httpx.AsyncClient
) -> None:
    job = await house.queued()
    await house.store.cancel(job.id)
    path = f"/v1/jobs/{job.id}/retry"
    first = (await client.post(path)).json()["id"]
    marked = await client.post(path, headers={"x-stainless-retry-count": "1"})
    assert marked.json()["id"] == first
    assert (await client.post(path)).json()["id"] != first


async def test_a_retry_whose_caller_had_gone_is_answered_with_the_job_that_it_made(
    house: House, client: httpx.AsyncClient
) -> None:
    job = await house.queued()
    await house.store.cancel(job.id)
    path = f"/v1/jobs/{job.id}/retry"
    key = [(b"authorization", f"Bearer {house.key}".encode())]
    await ask(house.app(), "POST", path, key, b"")  # it hangs up at once
    assert await house.count("jobs") == 2

    house.clock.advance(1_000)  # the other process cannot be about to answer it any more
    answer = await client.post(path)
    assert answer.headers["idempotency-replayed"] == "true"
    assert await house.count("jobs") == 2


async def test_a_job_of_a_provider_that_was_removed_is_not_asked_for_again(
    house: House, client: httpx.AsyncClient
) -> None:
    job = await house.queued("llmgateway")
    await house.store.cancel(job.id)
    del house.providers["llmgateway"]
    answer = await client.post(f"/v1/jobs/{job.id}/retry")
    assert answer.status_code == 409
    assert "llmgateway is not configured here any more" in answer.json()["error"]["message"]


async def test_a_retry_counts_against_the_limit_of_its_key(house: House) -> None:
    _, key = await house.keys.create("slow", "acme", creates_per_minute=1)
    job = await house.queued()
    await house.store.cancel(job.id)
    async with house.client(key=key) as client:
        statuses = [(await client.post(f"/v1/jobs/{job.id}/retry")).status_code for _ in range(2)]
    assert statuses == [202, 429]


# Telling again


async def test_deliveries_are_shown_with_every_attempt_and_without_the_rest_of_the_address(
    house: House, client: httpx.AsyncClient
) -> None:
    job = await told(house)
    assert (await client.get(f"/v1/jobs/{job.id}/deliveries")).json() == {"object": "list", "data": []}
    await house.store.cancel(job.id)
    [claimed] = await house.deliveries.claim(1, each=1)
    await house.deliveries.try_again(claimed, FAILED_ATTEMPT, house.clock.now() + 60_000)

    answer = await client.get(f"/v1/jobs/{job.id}/deliveries")
    assert answer.status_code == 200
    assert answer.json()["data"] == [
        {
            "id": f"evt_{job.id}",
            "object": "delivery",
            "state": "pending",
            "event": "job.cancelled",
            "receiver": "https://backend.example.com:443",
            "created_at": "2026-09-21T14:13:20.000Z",
            "due_at": "2026-09-21T14:14:20.000Z",
            "attempts_made": 1,
            "attempts": [
                {
                    "number": 1,
                    "at": "2026-09-21T14:13:20.000Z",
                    "duration_ms": 41,
                    "status": 502,
                    "error": None,
                    "answer": "Bad Gateway",
                }
            ],
        }
    ]
    assert "canary" not in answer.text


async def test_a_message_is_sent_again_with_a_new_attempt_beside_the_old_ones(
    house: House, client: httpx.AsyncClient
) -> None:
    job = await told(house)
    await house.store.cancel(job.id)
    [claimed] = await house.deliveries.claim(1, each=1)
    await house.deliveries.gave_up(claimed, FAILED_ATTEMPT)
    [before] = (await client.get(f"/v1/jobs/{job.id}/deliveries")).json()["data"]
    assert (before["state"], before["due_at"]) == ("failed", None)
    house.clock.advance(1_000)
    house.wakes.clear()

    answer = await client.post(f"/v1/jobs/{job.id}/redeliver")
    assert answer.status_code == 202
    assert answer.json() == before | {"state": "pending", "due_at": "2026-09-21T14:13:21.000Z"}
    assert house.wakes  # whoever sends it is told
    [again] = await house.deliveries.claim(1, each=1)
    await house.deliveries.delivered(again, replace(FAILED_ATTEMPT, status=204))
    [after] = (await client.get(f"/v1/jobs/{job.id}/deliveries")).json()["data"]
    assert after["state"] == "delivered"
    assert [(each["number"], each["status"]) for each in after["attempts"]] == [(1, 502), (2, 204)]


async def test_of_very_many_attempts_the_newest_are_shown_and_how_many_there_were(
    house: House, client: httpx.AsyncClient
) -> None:
    job = await told(house)
    await house.store.cancel(job.id)
    for _ in range(52):
        [claimed] = await house.deliveries.claim(1, each=1)
        await house.deliveries.gave_up(claimed, FAILED_ATTEMPT)
        again = (await client.post(f"/v1/jobs/{job.id}/redeliver")).json()
    [shown] = (await client.get(f"/v1/jobs/{job.id}/deliveries")).json()["data"]
    assert shown == again
    assert shown["attempts_made"] == 52
    assert [each["number"] for each in shown["attempts"]] == list(range(3, 53))
    async with signed_in(house, operator=True) as browser:
        deliveries = (await browser.see(f"/status/jobs/{job.id}")).one(id="deliveries")
    assert "52 attempts were made; these are the newest 50." in deliveries.text
    assert len(deliveries.one("ol").children) >= 50


async def test_a_message_that_is_on_its_way_is_not_sent_beside_itself(house: House, client: httpx.AsyncClient) -> None:
    job = await told(house)
    await house.store.cancel(job.id)
    assert await house.deliveries.claim(1, each=1)
    answer = await client.post(f"/v1/jobs/{job.id}/redeliver")
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "being_delivered"
    assert f"/v1/jobs/{job.id}/deliveries" in answer.json()["error"]["message"]


async def test_where_nobody_is_to_be_told_there_is_nothing_to_send_again(
    house: House, client: httpx.AsyncClient
) -> None:
    silent, open_yet = await house.queued(), await told(house)
    await house.store.cancel(silent.id)
    for job, words in ((silent, "has no notify_url"), (open_yet, "is queued; its end is told when it has come")):
        answer = await client.post(f"/v1/jobs/{job.id}/redeliver")
        assert answer.status_code == 409
        assert answer.json()["error"]["code"] == "nothing_to_deliver"
        assert words in answer.json()["error"]["message"]


# Copying again


async def test_a_video_that_was_given_up_is_copied_again_for_a_day(house: House, client: httpx.AsyncClient) -> None:
    job = await unavailable(house, await house.running())
    house.clock.advance(1_000)
    answer = await client.post(f"/v1/jobs/{job.id}/remirror")
    assert answer.status_code == 202
    assert answer.json()["state"] == "mirroring"
    assert answer.json()["error"] is None
    after = await house.store.job(job.id)
    assert after is not None
    assert after.mirror_until == house.clock.now() + 86_400_000
    assert house.wakes[-1] is State.MIRRORING

    again = await client.post(f"/v1/jobs/{job.id}/remirror")
    assert again.status_code == 409
    assert "The job is mirroring; only" in again.json()["error"]["message"]


@pytest.mark.parametrize("state", [each for each in State if each is not State.MIRRORING])
async def test_what_was_not_given_up_is_not_copied_again(house: House, client: httpx.AsyncClient, state: State) -> None:
    job = await in_state(house, state)
    before = await house.store.job(job.id)
    answer = await client.post(f"/v1/jobs/{job.id}/remirror")
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "cannot_remirror"
    assert answer.json()["error"]["message"].startswith(f"The job is {state}")
    assert await house.store.job(job.id) == before


async def test_a_retry_with_its_key_is_answered_although_its_job_came_back_to_life(
    house: House, client: httpx.AsyncClient
) -> None:
    job = await house.running()
    await house.call_back(job, "expired")
    path, headers = f"/v1/jobs/{job.id}/retry", {"idempotency-key": "k"}
    first = await client.post(path, headers=headers)
    await house.call_back(job)  # the video came after all
    again = await client.post(path, headers=headers)
    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
    assert (await client.post(path)).status_code == 409
