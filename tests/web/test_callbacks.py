from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from service.model import Job, Source, State
from service.providers.openrouter import OpenRouter
from tests.web.house import (
    OPENROUTER_SECRET,
    House,
    llmgateway_body,
    openrouter_body,
)

JSON = {"content-type": "application/json"}


async def post(house: House, job: Job, body: bytes, headers: dict[str, str]) -> httpx.Response:
    async with house.client(key="") as client:
        return await client.post(house.address(job), content=body, headers=headers)


async def now(house: House, job: Job) -> Job:
    found = await house.store.job(job.id)
    assert found is not None
    return found


# What moves a job on


async def test_a_completed_report_moves_the_job_on_and_is_kept(house: House) -> None:
    job = await house.running()
    body = openrouter_body("gen-1")
    headers = house.openrouter_headers(body) | {
        "user-agent": "OpenRouter/1",
        "x-openrouter-idempotency-key": "gen-1-completed",
        "authorization": "Bearer canary",
        "cookie": "canary",
    }
    answer = await post(house, job, body, headers)

    assert (answer.status_code, answer.content) == (204, b"")
    after = await now(house, job)
    assert after.state is State.MIRRORING
    assert after.cost == 0.25
    assert after.mirror_until == house.clock.now() + 86_400_000
    async with house.db._reader.execute("SELECT headers, body, verdict FROM receipts") as cursor:
        [row] = await cursor.fetchall()
    assert json.loads(row["headers"]) == {
        "content-type": "application/json",
        "user-agent": "OpenRouter/1",
        "x-openrouter-idempotency-key": "gen-1-completed",
    }
    assert (row["body"], row["verdict"]) == (body, "applied")
    [line] = house.lines()
    assert line["job"] == job.id
    assert line["verdict"] == "applied"


async def test_a_report_of_llm_gateway_is_believed_with_the_secret_of_its_job(house: House) -> None:
    job = await house.running("llmgateway", "vid-1")
    body = llmgateway_body("vid-1")
    assert (await post(house, job, body, house.llmgateway_headers(job, body))).status_code == 204
    assert (await now(house, job)).state is State.MIRRORING


async def test_a_report_that_comes_before_the_submission_was_answered_adopts_the_orphan(house: House) -> None:
    job = await house.submitting()
    assert job.state is State.SUBMITTING
    body = openrouter_body("gen-77")
    assert (await post(house, job, body, house.openrouter_headers(body))).status_code == 204
    after = await now(house, job)
    assert (after.state, after.provider_job_id) == (State.MIRRORING, "gen-77")


async def test_a_failed_report_ends_the_job_with_the_providers_words(house: House, client: httpx.AsyncClient) -> None:
    job = await house.running()
    body = openrouter_body("gen-1", "failed", error="the scene was too complex", usage={"cost": 0})
    await post(house, job, body, house.openrouter_headers(body))
    error = (await client.get(f"/v1/jobs/{job.id}")).json()["error"]
    assert error == {
        "code": "provider_failed",
        "message": "OpenRouter reports the job as failed; see the provider's message.",
        "retryable": True,
        "billable": "no",
        "provider_code": None,
        "provider_message": "the scene was too complex",
    }


async def test_fifty_identical_callbacks_at_once_have_one_effect(house: House) -> None:
    job = await house.running()
    body = openrouter_body("gen-1")
    headers = house.openrouter_headers(body)
    async with house.client(key="") as client:
        posts = (client.post(house.address(job), content=body, headers=headers) for _ in range(50))
        answers = await asyncio.gather(*posts)

    assert {answer.status_code for answer in answers} == {204}
    assert (await house.history(job)).count("job.mirroring") == 1
    assert await house.count("receipts") == 1
    assert sorted(line["verdict"] for line in house.lines()) == ["applied"] + ["duplicate"] * 49
    reports = (await house.statistics.overview()).reports
    assert sum(reports["openrouter"][Source.CALLBACK]) == 1


@pytest.mark.parametrize("word", ["completed", "failed", "cancelled", "in_progress"])
async def test_whatever_comes_after_the_video_was_kept_changes_nothing(house: House, word: str) -> None:
    job = await house.completed()
    before, history = await now(house, job), await house.history(job)
    assert (await house.call_back(job, word)).status_code == 204
    assert await now(house, job) == before
    assert await house.history(job) == history


async def test_a_failure_that_comes_while_the_video_is_copied_changes_nothing(house: House) -> None:
    job = await house.running()
    await house.call_back(job)
    assert (await house.call_back(job, "failed")).status_code == 204
    assert (await now(house, job)).state is State.MIRRORING


async def test_progress_that_comes_before_the_submission_was_answered_adopts_the_orphan_too(house: House) -> None:
    job = await house.submitting()
    body = openrouter_body("gen-77", "in_progress")
    assert (await post(house, job, body, house.openrouter_headers(body))).status_code == 204
    after = await now(house, job)
    assert (after.state, after.provider_job_id) == (State.RUNNING, "gen-77")
    assert after.due_at == house.clock.now() + 30_000


async def test_progress_is_acknowledged(house: House) -> None:
    job = await house.running()
    assert (await house.call_back(job, "in_progress")).status_code == 204
    after = await now(house, job)
    assert (after.state, after.provider_status) == (State.RUNNING, "in_progress")


async def test_a_genuine_message_about_something_else_is_acknowledged_and_left_alone(house: House) -> None:
    job = await house.running()
    body = b'{"type": "batch.completed", "data": {"id": "b-1"}}'
    assert (await post(house, job, body, house.openrouter_headers(body))).status_code == 204
    assert await now(house, job) == job
    assert house.lines()[-1]["verdict"] == "unrelated"


# What is not believed


async def test_a_wrong_token_and_an_unknown_job_or_provider_get_one_answer(house: House) -> None:
    job, other = await house.running(), await house.running(provider_job_id="gen-2")
    token = house.vault.callback_token(job.id)
    body = openrouter_body("gen-1")
    unknown = "job_01m3250v00syz6cqn35ys3np5v"
    paths = [
        f"/callbacks/openrouter/{job.id}/{token[:-1]}",
        f"/callbacks/openrouter/{job.id}/{token}A",
        f"/callbacks/openrouter/{job.id}/{house.vault.callback_token(other.id)}",
        f"/callbacks/openrouter/{unknown}/{token}",
        f"/callbacks/openrouter/{unknown}/{house.vault.callback_token(unknown)}",
        f"/callbacks/nobody/{job.id}/{token}",
        f"/callbacks/llmgateway/{unknown}/{token}",
        f"/callbacks/openrouter/%00/{token}",
        f"/callbacks/openrouter/{job.id}/%FF%FE",
    ]
    async with house.client(key="") as client:
        answers = [await client.post(path, content=body, headers=house.openrouter_headers(body)) for path in paths]
    assert {answer.status_code for answer in answers} == {404}
    assert len({answer.text for answer in answers}) == 1
    assert await now(house, job) == job
    assert await house.count("receipts") == 0


async def test_a_genuine_report_to_another_jobs_address_is_rejected(house: House) -> None:
    one, two = await house.running(provider_job_id="gen-1"), await house.running(provider_job_id="gen-2")
    body = openrouter_body("gen-2")
    answer = await post(house, one, body, house.openrouter_headers(body))
    assert answer.status_code == 404
    assert [(await now(house, job)).state for job in (one, two)] == [State.RUNNING] * 2


async def test_the_signature_of_another_job_is_rejected(house: House) -> None:
    one, two = await house.running("llmgateway", "vid-1"), await house.running("llmgateway", "vid-2")
    body = llmgateway_body("vid-1")
    answer = await post(house, one, body, house.llmgateway_headers(two, body))
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "bad_signature"
    assert await now(house, one) == one


async def test_a_provider_cannot_speak_for_a_job_of_another(house: House) -> None:
    job = await house.running("llmgateway", "vid-1")
    body = openrouter_body("vid-1")
    async with house.client(key="") as client:
        answer = await client.post(
            house.address(job).replace("llmgateway", "openrouter"),
            content=body,
            headers=house.openrouter_headers(body),
        )
    assert answer.status_code == 404
    assert await now(house, job) == job


async def test_an_unsigned_callback_is_rejected_and_told_what_is_missing(house: House) -> None:
    job = await house.running()
    answer = await post(house, job, openrouter_body("gen-1"), JSON)
    assert answer.status_code == 401
    assert "x-openrouter-signature is missing" in answer.json()["error"]["message"]
    assert await now(house, job) == job
    assert await house.count("receipts") == 0
    line = house.lines()[-1]
    assert (line["job"], line["provider"], line["reason"]) == (job.id, "openrouter", "missing_header")
    assert "x-openrouter-signature is missing" in line["error"]
    assert [call.method_name for call in house.logged.calls] == ["warning"]


async def test_a_body_that_was_changed_on_its_way_is_rejected(house: House) -> None:
    job = await house.running()
    body = openrouter_body("gen-1")
    answer = await post(house, job, body + b" ", house.openrouter_headers(body))
    assert answer.status_code == 401
    assert OPENROUTER_SECRET not in answer.text
    assert await now(house, job) == job


async def test_a_stale_callback_is_told_by_how_much(house: House) -> None:
    job = await house.running()
    body = openrouter_body("gen-1")
    headers = house.openrouter_headers(body)
    house.clock.advance(301_000)
    answer = await post(house, job, body, headers)
    assert answer.status_code == 401
    assert "301 s behind our clock" in answer.json()["error"]["message"]
    house.clock.advance(-1_000)
    assert (await post(house, job, body, headers)).status_code == 204


async def test_a_genuine_message_that_is_no_callback_is_a_bad_request(house: House) -> None:
    job = await house.running()
    for body in (b"not JSON", b"[]", b"{}", b'{"type": "video.generation.completed"}', b"\xff", b"[" * 100_000):
        answer = await post(house, job, body, house.openrouter_headers(body))
        assert answer.status_code == 400, body
        assert answer.json()["error"]["code"] == "bad_callback"
    assert await now(house, job) == job


@pytest.mark.parametrize(
    "content_type", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
)
async def test_only_json_is_read(house: House, content_type: str | None) -> None:
    job = await house.running()
    body = openrouter_body("gen-1")
    headers = house.openrouter_headers(body)
    del headers["content-type"]
    if content_type:
        headers["content-type"] = content_type
    assert (await post(house, job, body, headers)).status_code == 415
    assert await now(house, job) == job


# Without a secret


async def test_without_a_secret_a_callback_makes_the_job_due_for_a_poll_and_nothing_more(house: House) -> None:
    openrouter = house.providers["openrouter"]
    assert isinstance(openrouter, OpenRouter)
    openrouter._keys = []
    job = await house.running()
    assert job.due_at == house.clock.now() + 60_000
    answer = await post(house, job, openrouter_body("gen-1", "failed"), JSON)

    assert answer.status_code == 204
    after = await now(house, job)
    assert (after.state, after.due_at) == (State.RUNNING, house.clock.now())
    assert house.wakes[-1] is State.RUNNING
    assert await house.count("receipts") == 0
    foreign = await house.running("llmgateway", "vid-1")
    async with house.client(key="") as client:
        wrong = await client.post(
            house.address(foreign).replace("llmgateway", "openrouter"), content=b"{}", headers=JSON
        )
    assert wrong.status_code == 404
    assert await now(house, foreign) == foreign


# When we are ill


async def test_what_could_not_be_stored_is_asked_for_again(house: House) -> None:
    job = await house.running()
    body = openrouter_body("gen-1")
    await house.db.close()
    answer = await post(house, job, body, house.openrouter_headers(body))
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
    assert answer.json()["error"]["code"] == "store_unavailable"
    assert str(house.folder) not in answer.text
