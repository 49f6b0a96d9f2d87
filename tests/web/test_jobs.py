from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.web.house import House, ask, openrouter_body

ACTIONS = ("cancel", "retry", "redeliver", "remirror")

# Keys


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ([], "has no API key"),
        ([(b"authorization", b"")], "holds no API key"),
        ([(b"authorization", b"Basic dXNlcjpwYXNz")], "holds no API key"),
        ([(b"authorization", b"Bearer")], "holds no API key"),
        ([(b"authorization", b"Bearer rk_wrong")], "unknown or was revoked"),
        ([(b"authorization", "Bearer rk_schlüssel".encode())], "holds no API key"),
        ([(b"authorization", b"Bearer \xff\xfe")], "holds no API key"),
        ([(b"authorization", b"Bearer " + b"x" * 60_000)], "holds no API key"),
        ([(b"authorization", b"Bearer a"), (b"authorization", b"Bearer b")], "holds no API key"),
        ([(b"authorization", b"Bearer a b")], "holds no API key"),
    ],
)
async def test_without_a_key_of_ours_nothing_is_answered(
    house: House, headers: list[tuple[bytes, bytes]], words: str
) -> None:
    job = await house.queued()
    async with house.client(key="") as client:
        for method, path in (
            ("POST", "/v1/jobs"),
            ("GET", "/v1/jobs"),
            ("GET", f"/v1/jobs/{job.id}"),
            ("GET", f"/v1/jobs/{job.id}/events"),
            ("GET", f"/v1/jobs/{job.id}/deliveries"),
            *(("POST", f"/v1/jobs/{job.id}/{action}") for action in ACTIONS),
            ("POST", "/v1/jobs/batch"),
            ("GET", f"/v1/jobs/{job.id}/content"),
            ("GET", "/status"),
        ):
            answer = await client.request(method, path, headers=headers)
            assert answer.status_code == 401, path
            assert answer.headers["www-authenticate"].startswith("Bearer ")
            assert answer.json()["error"]["code"] == "unauthorized"
            assert words in answer.json()["error"]["message"]


async def test_the_scheme_may_be_written_in_any_case(house: House) -> None:
    async with house.client(key="") as client:
        for scheme in ("Bearer", "bearer", "BEARER"):
            answer = await client.get("/v1/jobs", headers={"authorization": f"{scheme} {house.key}"})
            assert answer.status_code == 200


async def test_a_revoked_key_is_refused_at_once(house: House, client: httpx.AsyncClient) -> None:
    [record] = await house.keys.all()
    await house.keys.revoke(record.id)
    assert (await client.get("/v1/jobs")).status_code == 401


async def test_a_job_of_somebody_else_is_answered_like_none_at_all(house: House, client: httpx.AsyncClient) -> None:
    foreign = await house.queued(tenant="globex")
    unknown = foreign.id[:-4] + "0000"
    answers = [
        await client.request(method, f"/v1/jobs/{job_id}{end}")
        for job_id in (
            foreign.id,
            unknown,
            "job_1",
            "%00",
            "x" * 5000,
            foreign.id.upper(),
        )
        for method, end in (
            *(("GET", end) for end in ("", "/events", "/deliveries", "/content")),
            *(("POST", f"/{action}") for action in ACTIONS),
        )
    ]
    assert {answer.status_code for answer in answers} == {404}
    assert len({answer.text for answer in answers}) == 1
    assert (await client.get("/v1/jobs")).json()["data"] == []
    after = await house.store.job(foreign.id)
    assert after == foreign


# Reading


async def test_a_kept_video_reads_as_documented_and_shows_no_address_at_the_provider(
    house: House, client: httpx.AsyncClient
) -> None:
    job = await house.completed(contents=(b"one", b"three"))
    house.clock.advance(1)
    read = (await client.get(f"/v1/jobs/{job.id}")).json()

    url = f"https://videos.example.com/v1/jobs/{job.id}/content"
    assert read["state"] == "completed"
    assert read["provider_job_id"] == "gen-1"
    assert read["provider_status"] == "completed"
    assert read["cost"] == 0.25
    assert read["finished_at"] == "2026-09-21T14:13:20.000Z"
    kept: dict[str, Any] = {"sha256": "ab" * 32, "content_type": "video/mp4"}
    kept |= dict.fromkeys(("duration", "width", "height", "codec"))
    assert read["artifacts"] == [
        {"index": 0, "bytes": 3, "url": f"{url}?index=0", **kept},
        {"index": 1, "bytes": 5, "url": f"{url}?index=1", **kept},
    ]
    for answer in (await client.get("/v1/jobs"), await client.get(f"/v1/jobs/{job.id}/events")):
        assert "canary" not in answer.text
        assert "cdn.example.net" not in answer.text
    assert "cdn.example.net" not in json.dumps(read)


# Lists


async def ids(client: httpx.AsyncClient, query: str = "") -> list[str]:
    answer = await client.get(f"/v1/jobs{query}")
    assert answer.status_code == 200, answer.text
    return [job["id"] for job in answer.json()["data"]]


async def test_pages_follow_each_other_newest_first_and_miss_nothing(house: House, client: httpx.AsyncClient) -> None:
    made = []
    for _ in range(7):
        made.append((await house.queued()).id)
        house.clock.advance(1)
    found: list[str] = []
    query, pages = "?limit=3", 0
    while True:
        page = (await client.get(f"/v1/jobs{query}")).json()
        assert page["object"] == "list"
        found += [job["id"] for job in page["data"]]
        pages += 1
        house.clock.advance(1)
        await house.queued()  # what is new does not push what is old from one page to the next
        if not page["has_more"]:
            break
        query = f"?limit=3&cursor={page['next_cursor']}"
    assert page["next_cursor"] is None
    assert found == made[::-1]
    assert pages == 3


async def test_a_page_that_is_exactly_full_says_that_there_is_no_more(house: House, client: httpx.AsyncClient) -> None:
    for _ in range(20):
        await house.queued()
    page = (await client.get("/v1/jobs")).json()
    assert len(page["data"]) == 20
    assert page["has_more"] is False


async def test_a_list_is_filtered(house: House, client: httpx.AsyncClient) -> None:
    one = await house.running(provider_job_id="gen-1")
    house.clock.advance(2_000)
    two = await house.queued("llmgateway", model="wan/2.5")
    house.clock.advance(2_000)
    three = await house.queued()
    begin = 1_790_000_000

    assert await ids(client, "?state=queued") == [three.id, two.id]
    assert await ids(client, "?state=running") == [one.id]
    assert await ids(client, "?provider=llmgateway") == [two.id]
    assert await ids(client, "?model=wan/2.5") == [two.id]
    assert await ids(client, "?model=wan%2F2.5&state=running") == []
    assert await ids(client, f"?created_after={begin + 2}") == [three.id, two.id]
    assert await ids(client, f"?created_before={begin + 2}") == [one.id]
    assert await ids(client, "?created_after=2026-09-21T14:13:22.001Z") == [three.id]
    assert await ids(client, "?created_before=2026-09-21T16:13:22%2B02:00&created_after=0") == [one.id]
    assert await ids(client, "?provider=switched-off") == []


@pytest.mark.parametrize(
    ("query", "field", "words"),
    [
        ("state=done", "state", "must be one of queued, submitting"),
        ("state=", "state", "must be one of"),
        ("limit=0", "limit", "from 1 to 100"),
        ("limit=101", "limit", "from 1 to 100"),
        ("limit=1e1", "limit", "from 1 to 100"),
        ("limit=%D9%A1", "limit", "from 1 to 100"),
        ("limit=" + "9" * 5000, "limit", "from 1 to 100"),
        ("limit=1&limit=2", "limit", "once"),
        ("staet=queued", "staet", "did you mean state?"),
        ("created_after=yesterday", "created_after", "2026-11-21T10:00:00Z"),
        ("created_after=2026-11-21", "created_after", "RFC 3339"),
        ("created_after=2026-11-21T10:00:00", "created_after", "RFC 3339"),
        ("created_after=2026-13-21T10:00:00Z", "created_after", "RFC 3339"),
        ("created_after=2026-11-21T10:00:00+01:00", "created_after", "%2B"),
        ("created_before=1795255200000", "created_before", "unix seconds"),
        ("created_before=-1", "created_before", "unix seconds"),
        ("model=", "model", "1 to 200 characters"),
        ("provider=" + "x" * 201, "provider", "1 to 200 characters"),
        ("cursor=", "cursor", "next_cursor"),
        ("cursor=abc", "cursor", "next_cursor"),
        ("cursor=%00", "cursor", "next_cursor"),
        ("cursor=%F0%9F%8E%AC", "cursor", "next_cursor"),
        ("cursor=MTpqb2JfMSBPUiAxPTE", "cursor", "next_cursor"),
        ("x%00%1b=1", "x\ufffd\ufffd", "is not a query parameter"),
    ],
)
async def test_a_query_that_means_nothing_is_refused(
    client: httpx.AsyncClient, query: str, field: str, words: str
) -> None:
    answer = await client.get(f"/v1/jobs?{query}")
    assert answer.status_code == 400
    [problem] = answer.json()["error"]["problems"]
    assert problem["field"] == field
    assert words in problem["message"]


async def test_everything_that_is_wrong_with_a_query_is_named_at_once(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/jobs?state=x&limit=x&page=2&cursor=x")
    assert [each["field"] for each in answer.json()["error"]["problems"]] == ["state", "limit", "page", "cursor"]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    query=st.lists(
        st.tuples(st.sampled_from(["state", "limit", "cursor", "created_after", "model"]), st.text(max_size=30))
    )
)
async def test_no_query_makes_the_service_fail(house: House, query: list[tuple[str, str]]) -> None:
    params = urlencode([(name, text.encode(errors="replace")) for name, text in query])
    async with house.client() as client:
        answer = await client.get(f"/v1/jobs?{params}")
    assert answer.status_code in {200, 400}


# The shape of every answer


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "BREW"])
@pytest.mark.parametrize(
    "path",
    ["/", "/v1", "/v1/jobs/", "/v1/jobs/x", "/v1/jobs/x/y", "/callbacks", "/callbacks/a/b/c/d", "/healthz", "//"],
)
async def test_no_path_and_no_method_is_answered_in_another_shape(house: House, method: str, path: str) -> None:
    async with house.client(key="") as client:
        answer = await client.request(method, path)
    assert answer.headers["x-request-id"]
    assert answer.headers["content-type"] == "application/json"
    body: dict[str, Any] = answer.json() if answer.content else {}
    if method == "HEAD":
        assert body == {}
    elif answer.status_code == 200:
        assert body == {"status": "ok"}
    else:
        assert set(body) == {"error"}
        assert set(body["error"]) == {"code", "message"}
        assert answer.text.endswith("}\n")
        assert answer.status_code in {401, 404, 405}


async def test_a_wrong_method_is_told_the_right_ones(client: httpx.AsyncClient) -> None:
    answer = await client.delete("/v1/jobs")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, HEAD, POST"
    assert answer.json()["error"]["message"] == "This address takes GET, HEAD, POST, nothing else."


async def test_random_paths_and_methods_never_fail(house: House) -> None:
    for path in ("/\x00", "/v1/jobs/\ud800", "/callbacks/\ud800/\ud800/\ud800", "/v1/jobs/job_" + "a" * 26):
        for method in ("GET", "POST"):
            key = [(b"authorization", f"Bearer {house.key}".encode())]
            assert await ask(house.app(), method, path, key, openrouter_body("x")) in {404, 405}
