from __future__ import annotations

import asyncio
import json

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service import signing
from service.model import Job, State
from service.providers.openrouter import OpenRouter
from service.web import callbacks
from tests.web.house import (
    OPENROUTER_SECRET,
    House,
    ask,
    connected,
    llmgateway_body,
    openrouter_body,
    serving,
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
    assert (await house.store.overview()).reports == {"openrouter": {"callback": 1}}


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


async def test_a_genuine_report_to_another_jobs_address_is_refused(house: House) -> None:
    one, two = await house.running(provider_job_id="gen-1"), await house.running(provider_job_id="gen-2")
    body = openrouter_body("gen-2")
    answer = await post(house, one, body, house.openrouter_headers(body))
    assert answer.status_code == 404
    assert [(await now(house, job)).state for job in (one, two)] == [State.RUNNING] * 2


async def test_the_signature_of_another_job_is_refused(house: House) -> None:
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


async def test_an_unsigned_callback_is_refused_and_told_what_is_missing(house: House) -> None:
    job = await house.running()
    answer = await post(house, job, openrouter_body("gen-1"), JSON)
    assert answer.status_code == 401
    assert "x-openrouter-signature is missing" in answer.json()["error"]["message"]
    assert await now(house, job) == job
    assert await house.count("receipts") == 0
    assert "x-openrouter-signature is missing" in house.lines()[-1]["reason"]


async def test_a_body_that_was_changed_on_its_way_is_refused(house: House) -> None:
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


# Over the wire


def head(house: House, job: Job, *more: str) -> bytes:
    lines = [f"POST {house.address(job)} HTTP/1.1", "Host: x", "Content-Type: application/json", *more, "", ""]
    return "\r\n".join(lines).encode()


async def test_too_large_a_body_is_refused_from_its_announcement_alone(house: House) -> None:
    job = await house.running()
    for length in ("262145", "999999999999999999999999"):
        async with serving(house.app()) as port, connected(port) as (reader, writer):
            writer.write(head(house, job, f"Content-Length: {length}"))
            line = await asyncio.wait_for(reader.readline(), 10)
        # A length beyond 64 bits does not even pass the server's own parser.
        assert line.split()[1] == (b"413" if length == "262145" else b"400")


async def test_too_large_a_body_is_refused_while_it_comes(house: House) -> None:
    job = await house.running()
    chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    async with serving(house.app()) as port, connected(port) as (reader, writer):
        writer.write(head(house, job, "Transfer-Encoding: chunked") + chunk * 4)
        await writer.drain()
        writer.write(b"1\r\nx\r\n")
        line = await asyncio.wait_for(reader.readline(), 10)
    assert line.startswith(b"HTTP/1.1 413 ")


async def test_a_body_of_exactly_the_limit_is_read(house: House) -> None:
    job = await house.running()
    body = openrouter_body("gen-1")
    body += b" " * (262_144 - len(body))
    async with serving(house.app()) as port, httpx.AsyncClient(trust_env=False) as client:
        url = f"http://127.0.0.1:{port}{house.address(job)}"
        assert (await client.post(url, content=body, headers=house.openrouter_headers(body))).status_code == 204


async def test_a_slow_body_is_cut_off_with_an_answer(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callbacks, "_BODY_SECONDS", 0.05)
    job = await house.running()
    async with serving(house.app()) as port, connected(port) as (reader, writer):
        writer.write(head(house, job, "Content-Length: 500") + b"{")
        answer = await asyncio.wait_for(reader.read(), 10)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in answer
    assert b'"code":"body_too_slow"' in answer


async def test_nothing_is_read_for_a_wrong_token(house: House) -> None:
    job = await house.running()
    request = head(house, job, "Content-Length: 500").replace(
        house.vault.callback_token(job.id).encode(), b"wrong-token"
    )
    async with serving(house.app()) as port, connected(port) as (reader, writer):
        writer.write(request)
        line = await asyncio.wait_for(reader.readline(), 10)
    assert line.startswith(b"HTTP/1.1 404 ")


async def test_a_sender_who_hangs_up_leaves_no_error_behind(house: House, caplog: pytest.LogCaptureFixture) -> None:
    job = await house.running()
    async with serving(house.app()) as port, connected(port) as (_, writer):
        writer.write(head(house, job, "Content-Length: 500") + b"{")
        await writer.drain()
    assert [line["status"] for line in house.lines()] == [499]
    assert house.lines("web.failed") == []
    assert caplog.records == []


async def test_the_token_is_in_no_line_of_the_log(house: House) -> None:
    job = await house.running()
    token = house.vault.callback_token(job.id)
    async with house.client(key="") as client:
        for path in (house.address(job), f"{house.address(job)}/", f"{house.address(job)}?x=1"):
            await client.post(path, content=b"{}", headers=JSON)
            await client.get(path)
    assert len(house.lines()) == 6
    assert token not in repr(house.logged.calls)


# Whatever comes

_parts = st.text(max_size=60) | st.sampled_from(["openrouter", "llmgateway", "..", "%00"])
_names = st.sampled_from(
    [
        b"content-type",
        b"content-length",
        b"transfer-encoding",
        b"authorization",
        b"x-request-id",
        signing.OPENROUTER_SIGNATURE.encode(),
        signing.WEBHOOK_ID.encode(),
        signing.WEBHOOK_TIMESTAMP.encode(),
        signing.WEBHOOK_SIGNATURE.encode(),
    ]
)
_values = st.binary(max_size=80) | st.sampled_from([b"application/json", b"v1,", b"t=1790000000,v1=", b"1790000000"])
_headers = st.lists(st.tuples(_names, _values), max_size=6)
_words = st.sampled_from(["completed", "failed", "expired", "in_progress", "\ud800", "", "x" * 300])
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
_data = st.fixed_dictionaries(
    {},
    optional={
        "id": _json | st.sampled_from(["gen-1", "gen-2", "vid-1"]),
        "status": _words | _json,
        "urls": _json | st.lists(st.text(max_size=30), max_size=3),
        "usage": _json | st.fixed_dictionaries({"cost": _json}),
        "error": _json,
        "expires_at": _json,
    },
)
_events = st.builds(
    lambda word, data, more: json.dumps({"type": f"video.generation.{word}", "data": data} | more).encode(),
    _words,
    _data,
    st.dictionaries(st.sampled_from(["type", "id", "data", "created_at"]), _json, max_size=2),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(_parts, min_size=3, max_size=3), headers=_headers, body=st.binary(max_size=300))
async def test_no_stranger_makes_the_endpoint_fail(
    house: House, parts: list[str], headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    status = await ask(house.app(), "POST", f"/callbacks/{'/'.join(parts)}", headers, body)
    assert status == 404


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(headers=_headers, body=st.binary(max_size=300) | _events)
async def test_no_stranger_who_knows_an_address_makes_it_fail(
    house: House, headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    jobs = await house.store.jobs()
    job = jobs[0] if jobs else await house.running("llmgateway", "vid-1")
    status = await ask(house.app(), "POST", house.address(job), headers, body)
    assert status in {400, 401, 413, 415}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=_events)
async def test_nothing_that_is_rightly_signed_makes_the_endpoint_fail(house: House, body: bytes) -> None:
    if len(await house.store.jobs()) < 2:
        await house.running(provider_job_id="gen-1")
        await house.running(provider_job_id="gen-2")
    for job in await house.store.jobs():
        headers = [(name.encode(), value.encode()) for name, value in house.openrouter_headers(body).items()]
        assert await ask(house.app(), "POST", house.address(job), headers, body) in {204, 400, 404}
