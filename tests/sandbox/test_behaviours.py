"""Submissions, polls and downloads: each model name does what its sentence says."""

from __future__ import annotations

import random

import httpx
import pytest

from service.clock import ManualClock
from service.sandbox import BEHAVIOURS, Sandbox, serving
from service.sandbox.downloads import VIDEOS, WEBM
from tests.sandbox.conftest import House, path_of


async def contents(house: House, path: str, times: int) -> list[tuple[int, bytes]]:
    answers = [await house.http.get(path + "/content") for _ in range(times)]
    return [(answer.status_code, answer.content) for answer in answers]


async def accepted_job(house: House, dialect: str) -> str:
    """The path of the only job: what a caller who got no answer cannot know."""
    (job,) = (await house.ledger())["jobs"]
    assert job["dialect"] == dialect
    return path_of(dialect, job["id"])


def test_every_behaviour_has_a_sentence_and_a_plain_name() -> None:
    for model, behaviour in BEHAVIOURS.items():
        assert model == f"sandbox/{behaviour.name}"
        assert behaviour.name == behaviour.name.lower().replace("_", "-")
        assert behaviour.sentence.endswith(".")


@pytest.mark.parametrize(("name", "status"), [("accepted-then-502", 502), ("accepted-then-html", 200)])
async def test_a_page_comes_after_the_job_was_accepted(house: House, dialect: str, name: str, status: int) -> None:
    answer = await house.submit(dialect, name)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html; charset=utf-8")
    path = await accepted_job(house, dialect)
    house.clock.advance(2_000)
    assert await house.sandbox.run_once() == 1
    assert (await house.http.get(path)).json()["status"] == "completed"


async def test_a_reset_comes_after_the_job_was_accepted(house: House, dialect: str) -> None:
    with pytest.raises(httpx.ReadError) as caught:
        await house.submit(dialect, "accepted-then-reset")
    assert isinstance(caught.value.__context__.__context__.__cause__, ConnectionResetError)  # type: ignore[union-attr]
    await accepted_job(house, dialect)
    house.clock.advance(2_000)
    assert await house.sandbox.run_once() == 1


async def test_an_answer_that_never_comes_holds_the_caller_until_it_goes(house: House, dialect: str) -> None:
    house.http.timeout = httpx.Timeout(0.05)
    with pytest.raises(httpx.ReadTimeout):
        await house.submit(dialect, "accepted-then-hangs")
    await accepted_job(house, dialect)
    house.clock.advance(2_000)
    assert await house.sandbox.run_once() == 1


@pytest.mark.parametrize("status", [400, 402])
async def test_a_refusal_is_for_ever_and_makes_no_job(house: House, dialect: str, status: int) -> None:
    for _ in range(3):
        answer = await house.submit(dialect, f"refused-{status}")
        assert answer.status_code == status
        assert answer.json()["error"]["message"]
    assert await house.ledger() == {"submissions": {dialect: 3}, "accepted": 0, "jobs": []}


@pytest.mark.parametrize(("name", "status", "times"), [("rate-limited", 429, 2), ("unavailable", 503, 1)])
async def test_a_passing_refusal_counts_for_each_prompt_and_key(
    house: House, dialect: str, name: str, status: int, times: int
) -> None:
    for prompt in ("a cat", "a dog"):
        for _ in range(times):
            answer = await house.submit(dialect, name, prompt=prompt)
            assert (answer.status_code, answer.headers["retry-after"]) == (status, "1")
            assert set(answer.json()) == {"error"}
        for _ in range(2):
            assert (await house.submit(dialect, name, prompt=prompt)).is_success
    assert (await house.ledger())["accepted"] == 4


async def test_llm_gateway_says_when_its_limit_ends(house: House) -> None:
    answer = await house.submit("llmgateway", "rate-limited")
    limits = {name: answer.headers[f"x-ratelimit-{name}"] for name in ("limit", "remaining", "reset")}
    assert limits == {"limit": "120", "remaining": "0", "reset": "1790000001"}


async def test_some_jobs_never_end(house: House, dialect: str) -> None:
    path = await house.job(dialect, "never-ends")
    house.clock.advance(365 * 86_400_000)
    assert (await house.http.get(path)).json()["status"] == "in_progress"


async def test_polls_fail_three_times_before_they_tell_the_truth(house: House, dialect: str) -> None:
    path = await house.finished(dialect, "poll-errors")
    answers = [await house.http.get(path) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [500, 502, 429, 200]
    assert answers[0].json()["error"]["message"]
    assert answers[1].headers["content-type"] == "text/html; charset=utf-8"
    assert answers[2].headers["retry-after"] == "1"
    assert answers[3].json()["status"] == "completed"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("unknown-status", ["queued", "rendering_on_the_moon", "rendering_on_the_moon", "rendering_on_the_moon"]),
        ("step-back", ["queued", "in_progress", "queued", "in_progress"]),
    ],
)
async def test_a_status_may_be_strange(house: House, dialect: str, name: str, words: list[str]) -> None:
    path = await house.job(dialect, name)
    seen = []
    for _ in range(5):
        seen.append((await house.http.get(path)).json()["status"].replace("pending", "queued"))
        house.clock.advance(500)
    assert seen == [*words, "completed"]


async def test_a_get_lags_two_seconds_behind_the_callback(house: House, dialect: str) -> None:
    path = await house.finished(dialect, "stale-get")
    house.clock.advance(5_000)
    assert await house.sandbox.run_once() == 1
    house.clock.advance(1_999)
    assert (await house.http.get(path)).json()["status"] == "in_progress"
    assert (await house.http.get(path + "/content")).status_code == 409
    house.clock.advance(1)
    assert (await house.http.get(path)).json()["status"] == "completed"
    assert (await house.http.get(path + "/content")).status_code == 200


async def test_a_get_lags_for_a_caller_without_a_callback_too(house: House) -> None:
    job_id = (await house.http.post("/api/v1/videos", json={"model": "sandbox/stale-get"})).json()["id"]
    house.clock.advance(3_999)
    assert (await house.http.get(f"/api/v1/videos/{job_id}")).json()["status"] == "in_progress"
    house.clock.advance(1)
    assert (await house.http.get(f"/api/v1/videos/{job_id}")).json()["status"] == "completed"


async def test_a_page_is_served_twice_with_200_and_then_the_video(house: House, dialect: str) -> None:
    path = await house.finished(dialect, "html")
    first, second, third = await contents(house, path, 3)
    assert first == second
    assert first[0] == third[0] == 200
    assert first[1].startswith(b"<!doctype html>")
    assert third[1] in VIDEOS


async def test_a_page_is_served_for_ever(house: House, dialect: str) -> None:
    path = await house.finished(dialect, "html-forever")
    assert all(body.startswith(b"<!doctype html>") for _, body in await contents(house, path, 5))


async def test_a_short_body_breaks_off_twice_before_its_declared_length(house: House, dialect: str) -> None:
    path = await house.finished(dialect, "short-body")
    for _ in range(2):
        with pytest.raises(httpx.RemoteProtocolError, match="peer closed connection without sending complete message"):
            await house.http.get(path + "/content")
    assert (await contents(house, path, 1))[0][1] in VIDEOS
    assert [one["bytes"] for one in (await house.last_job())["downloads"]] == [len(VIDEOS[1]) // 2] * 2 + [
        len(VIDEOS[1])
    ]


async def test_a_truncated_body_ends_cleanly_and_declares_no_length(house: House, dialect: str) -> None:
    path = await house.finished(dialect, "truncated")
    for _ in range(2):
        answer = await house.http.get(path + "/content")
        assert "content-length" not in answer.headers
        assert answer.content == VIDEOS[1][: len(VIDEOS[1]) // 2]
    assert (await contents(house, path, 1))[0][1] == VIDEOS[1]


async def test_an_endless_body_begins_as_a_video_and_goes_on(house: House, dialect: str) -> None:
    path = await house.finished(dialect, "endless-body")
    async with house.http.stream("GET", path + "/content") as answer:
        body = b""
        async for chunk in answer.aiter_bytes():
            body += chunk
            if len(body) > 4_000_000:
                break
    assert "content-length" not in answer.headers
    assert body.startswith(VIDEOS[1])


async def test_an_endless_body_keeps_nobody_else_waiting(house: House) -> None:
    path = await house.finished("openrouter", "endless-body")
    async with house.http.stream("GET", path + "/content") as answer:
        await anext(answer.aiter_bytes())
        assert (await house.http.get(path)).status_code == 200


async def test_a_redirect_goes_to_another_origin_which_notes_the_key(house: House, dialect: str) -> None:
    path = await house.finished(dialect, "redirect")
    answer = await house.http.get(path + "/content")
    target = answer.headers["location"]
    assert answer.status_code == 302
    assert target.startswith(house.sandbox.base_url.replace("127.0.0.1", "localhost") + "/files/")
    async with httpx.AsyncClient() as plain:
        assert (await plain.get(target)).content in VIDEOS
        assert (await plain.get(target, headers={"authorization": "Bearer right-key"})).status_code == 200
    downloads = (await house.last_job())["downloads"]
    assert [(one["via"], one["status"], one["authorization"]) for one in downloads] == [
        ("content", 302, True),
        ("elsewhere", 200, False),
        ("elsewhere", 200, True),
    ]
    assert [one["host"].partition(":")[0] for one in downloads] == ["127.0.0.1", "localhost", "localhost"]


async def test_a_download_comes_too_early_twice(house: House, dialect: str) -> None:
    path = await house.finished(dialect, "not-ready")
    answers = await contents(house, path, 3)
    assert [status for status, _ in answers] == [409, 409, 200]


async def test_an_output_may_be_gone_for_ever(house: House, dialect: str) -> None:
    path = await house.finished(dialect, "gone")
    answers = await contents(house, path, 3)
    assert [status for status, _ in answers] == [410 if dialect == "openrouter" else 404] * 3
    assert (await house.http.get(path)).json()["status"] == "completed"


async def test_a_webm_is_served_under_a_name_that_says_nothing(house: House, dialect: str) -> None:
    answer = await house.http.get(await house.finished(dialect, "webm") + "/content")
    assert (answer.headers["content-type"], answer.content) == ("application/octet-stream", WEBM)


async def test_a_slow_body_comes_in_drops_and_speed_divides_every_duration() -> None:
    clock = ManualClock()
    async with httpx.AsyncClient() as client:
        sandbox = Sandbox(clock=clock, chance=random.Random(1), webhook_secret="s", client=client, speed=10)  # noqa: S311 - not a secret
        async with serving(sandbox) as url, httpx.AsyncClient(base_url=url) as http:
            http.headers["authorization"] = "Bearer any"
            job_id = (await http.post("/api/v1/videos", json={"model": "sandbox/slow"})).json()["id"]
            clock.advance(199)
            assert (await http.get(f"/api/v1/videos/{job_id}")).json()["status"] == "in_progress"
            clock.advance(1)
            assert (await http.get(f"/api/v1/videos/{job_id}")).json()["status"] == "completed"
            async with http.stream("GET", f"/api/v1/videos/{job_id}/content") as answer:
                drops = [chunk async for chunk in answer.aiter_raw()]
    assert len(drops) > 3
    assert b"".join(drops) in VIDEOS
    assert answer.headers["content-length"] == str(len(b"".join(drops)))
