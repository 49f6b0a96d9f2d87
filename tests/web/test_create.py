from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.model import OnUnknown, State
from service.web import jobs
from tests.web.house import PUBLIC_URL, House, ask, connected, serving

GOOD: dict[str, Any] = {"model": "google/veo-3.1", "prompt": "a cat", "duration": 5}
JSON = {"content-type": "application/json"}


def problems(answer: httpx.Response) -> dict[str, str]:
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["code"] == "invalid_request"
    return {each["field"]: each["message"] for each in answer.json()["error"]["problems"]}


async def test_an_accepted_job_is_on_disk_and_reads_as_documented(house: House, client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/jobs", json={**GOOD, "seed": 7, "metadata": {"order": "A-17"}})

    assert answer.status_code == 202
    job = answer.json()
    url = f"{PUBLIC_URL}/v1/jobs/{job['id']}"
    assert answer.headers["location"] == url
    assert job == {
        "id": job["id"],
        "object": "job",
        "state": "queued",
        "provider": "openrouter",
        "provider_job_id": None,
        "provider_status": None,
        "model": "google/veo-3.1",
        "request": {"model": "google/veo-3.1", "prompt": "a cat", "duration": 5, "seed": 7},
        "created_at": "2026-09-21T14:13:20.000Z",
        "finished_at": None,
        "cost": None,
        "artifacts": [],
        "metadata": {"order": "A-17"},
        "links": {
            "self": url,
            "events": f"{url}/events",
            "cancel": f"{url}/cancel",
            "content": f"{url}/content",
        },
        "error": None,
    }
    stored = await house.store.job(job["id"], "acme")
    assert stored is not None
    assert stored.state is State.QUEUED
    assert house.wakes == [State.QUEUED]
    assert (await client.get(url)).json() == job


async def test_every_field_reaches_the_store(house: House, client: httpx.AsyncClient) -> None:
    body = GOOD | {
        "provider": "openrouter",
        "aspect_ratio": "16:9",
        "resolution": "1080p",
        "size": "1920x1080",
        "seed": -(2**63),
        "generate_audio": False,
        "first_frame": "https://example.com/a.png",
        "last_frame": "data:image/png;base64,AAAA",
        "references": [{"type": "image", "url": "HTTPS://example.com/b.png"}],
        "provider_options": {"negative_prompt": "rain"},
        "metadata": {"a": {"b": [1, 2.5, None, True]}},
        "on_unknown": "resubmit",
    }
    answer = await client.post("/v1/jobs", json=body)

    stored = await house.store.job(answer.json()["id"])
    assert stored is not None
    assert stored.on_unknown is OnUnknown.RESUBMIT
    assert stored.metadata == body["metadata"]
    outside = {"provider", "metadata", "on_unknown"}
    kept = json.loads(stored.request.to_json())
    assert kept == {name: value for name, value in body.items() if name not in outside}


async def test_null_is_the_same_as_leaving_out(client: httpx.AsyncClient) -> None:
    names = ("seed", "provider", "references", "metadata", "provider_options", "on_unknown", "first_frame", "prompt")
    answer = await client.post("/v1/jobs", json={"model": "m"} | dict.fromkeys(names))
    assert answer.status_code == 202
    assert answer.json()["request"] == {"model": "m"}


async def test_a_model_that_nobody_here_has_heard_of_is_the_providers_to_judge(client: httpx.AsyncClient) -> None:
    assert (await client.post("/v1/jobs", json={**GOOD, "model": "new/never-seen-9"})).status_code == 202


async def test_data_urls_are_abbreviated_in_answers_and_kept_whole_in_the_store(
    house: House, client: httpx.AsyncClient
) -> None:
    url = "data:image/png;base64," + "A" * 40_000
    body = {
        "model": "m",
        "prompt": "data:text/plain,is what a prompt may begin with",
        "first_frame": url,
        "references": [{"type": "image", "url": url}],
        "provider_options": {"masks": [url]},
    }
    answer = await client.post("/v1/jobs", json=body)

    short = "data:image/png;base64,… (40,022 characters)"
    assert answer.json()["request"] == body | {
        "first_frame": short,
        "references": [{"type": "image", "url": short}],
        "provider_options": {"masks": [short]},
    }
    stored = await house.store.job(answer.json()["id"])
    assert stored is not None
    assert stored.request.first_frame == url


# Idempotency


async def test_fifty_calls_at_once_with_one_idempotency_key_make_one_job(
    house: House, client: httpx.AsyncClient
) -> None:
    headers = {"idempotency-key": "order A-17"}
    answers = await asyncio.gather(*(client.post("/v1/jobs", json=GOOD, headers=headers) for _ in range(50)))

    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1
    assert {answer.headers.get("idempotency-replayed") for answer in answers} == {None, "true"}
    assert await house.count("jobs") == 1


async def test_the_same_body_written_differently_is_the_same_call(client: httpx.AsyncClient) -> None:
    headers = JSON | {"idempotency-key": "k"}
    first = await client.post("/v1/jobs", content=b'{"model":"m","prompt":"\\u00e9"}', headers=headers)
    again = await client.post("/v1/jobs", content=' { "prompt": "é", "model": "m" }'.encode(), headers=headers)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json() == first.json()
    assert again.headers["location"] == first.headers["location"]


async def test_a_key_with_another_body_is_refused_and_names_the_job_that_it_made(
    house: House, client: httpx.AsyncClient
) -> None:
    headers = {"idempotency-key": "k"}
    first = await client.post("/v1/jobs", json=GOOD, headers=headers)
    other = await client.post("/v1/jobs", json={**GOOD, "duration": 6}, headers=headers)

    assert other.status_code == 409
    assert other.json()["error"]["code"] == "idempotency_key_reused"
    assert first.json()["id"] in other.json()["error"]["message"]
    assert await house.count("jobs") == 1


async def test_an_idempotency_key_is_the_callers_own(house: House, client: httpx.AsyncClient) -> None:
    _, secret = await house.keys.create("other", "globex")
    headers = {"idempotency-key": "k"}
    mine = await client.post("/v1/jobs", json=GOOD, headers=headers)
    async with house.client(key=secret) as other:
        theirs = await other.post("/v1/jobs", json={"model": "m"}, headers=headers)
    assert theirs.status_code == 202
    assert theirs.json()["id"] != mine.json()["id"]


@pytest.mark.parametrize("key", [b"", b"x" * 256, "schlüssel".encode(), b"tab\tbed"])
async def test_an_idempotency_key_that_cannot_be_one_is_refused(
    house: House, client: httpx.AsyncClient, key: bytes
) -> None:
    answer = await client.post("/v1/jobs", json=GOOD, headers=[(b"idempotency-key", key)])
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_idempotency_key"
    assert await house.count("jobs") == 0


async def test_two_idempotency_keys_are_one_too_many(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/jobs", json=GOOD, headers=[("idempotency-key", "a"), ("idempotency-key", "b")])
    assert answer.status_code == 400


async def test_a_refused_body_does_not_use_its_key_up(client: httpx.AsyncClient) -> None:
    headers = {"idempotency-key": "k"}
    assert (await client.post("/v1/jobs", json={"model": 5}, headers=headers)).status_code == 400
    assert (await client.post("/v1/jobs", json=GOOD, headers=headers)).status_code == 202


# What is wrong with a body


async def test_every_problem_is_named_at_once(house: House, client: httpx.AsyncClient) -> None:
    found = problems(
        await client.post(
            "/v1/jobs",
            json={
                "modle": "google/veo-3.1",
                "prompt": 5,
                "duration": "5",
                "seed": True,
                "first_frame": "http://example.com/a.png",
                "references": [{"type": "picture", "url": "https://x.io/a", "colour": 1}, 7],
                "notify_url": "https://example.com/done",
                "on_unknown": "guess",
            },
        )
    )
    assert list(found) == [
        "model",
        "prompt",
        "duration",
        "seed",
        "first_frame",
        "references[0].type",
        "references[0].colour",
        "references[1]",
        "on_unknown",
        "modle",
        "notify_url",
    ]
    assert found["modle"] == "is not a field; did you mean model?"
    assert found["duration"] == "must be whole seconds from 1 to 3600, for example 5; a string was sent"
    assert found["seed"].endswith("true or false was sent")
    assert "plain http" in found["first_frame"]
    assert found["references[0].colour"] == "is not a field; known are type, url"
    assert "not supported yet; read the job or its events" in found["notify_url"]
    assert await house.count("jobs") == 0


async def test_what_the_provider_cannot_say_is_named_together_with_what_we_refuse(client: httpx.AsyncClient) -> None:
    body = {"model": "m", "provider": "llmgateway", "prompt": "a cat", "duration": 0, "seed": 7, "size": "large"}
    found = problems(await client.post("/v1/jobs", json=body))
    assert list(found) == ["duration", "size", "seed"]
    assert found["duration"] == "must be whole seconds from 1 to 3600, for example 5"
    assert found["seed"] == "LLM Gateway takes no seed; leave it out"


async def test_a_provider_option_that_the_service_writes_itself_is_refused(client: httpx.AsyncClient) -> None:
    found = problems(
        await client.post("/v1/jobs", json={**GOOD, "provider_options": {"callback_url": "https://evil.example"}})
    )
    assert list(found) == ["provider_options.callback_url"]


async def test_an_unknown_provider_is_answered_with_those_that_there_are(client: httpx.AsyncClient) -> None:
    for name in ("runway", "", "OpenRouter"):
        found = problems(await client.post("/v1/jobs", json={**GOOD, "provider": name}))
        assert found == {"provider": "must be one of openrouter, llmgateway, which are configured here"}


async def test_the_message_alone_is_enough_to_act_on(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/jobs", json={**GOOD, "duration": 3601})
    assert answer.json()["error"]["message"] == (
        "Nothing was done; correct this and send it again. "
        "duration: must be whole seconds from 1 to 3600, for example 5."
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", ""),
        ("model", "  "),
        ("model", None),
        ("model", "x" * 201),
        ("model", "a\x00b"),
        ("model", "a\nb"),
        ("model", ["m"]),
        ("prompt", "x" * 20_001),
        ("prompt", {}),
        ("provider", 1),
        ("duration", 0),
        ("duration", -1),
        ("duration", 3601),
        ("duration", 5.0),
        ("duration", 5.5),
        ("duration", True),
        ("aspect_ratio", "16/9"),
        ("aspect_ratio", "0:9"),
        ("aspect_ratio", "16:9\n"),
        ("resolution", ""),
        ("resolution", "1080p\x00"),
        ("resolution", "x" * 41),
        ("size", "1920*1080"),
        ("size", "1920x1080x2"),
        ("size", "-1x5"),
        ("size", "\u0661x\u0662"),
        ("seed", 1.5),
        ("seed", "7"),
        ("generate_audio", 1),
        ("generate_audio", "true"),
        ("first_frame", "http://example.com/a.png"),
        ("first_frame", "HTTP://example.com/a.png"),
        ("first_frame", "https://"),
        ("first_frame", "https:///path"),
        ("first_frame", "https://example.com/a b"),
        ("first_frame", "https://example.com/\x00"),
        ("first_frame", "https://example.com/" + "a" * 9000),
        ("first_frame", "data:"),
        ("first_frame", "data:image/png;base64,"),
        ("first_frame", "file:///etc/passwd"),
        ("first_frame", "ftp://example.com/a"),
        ("first_frame", " https://example.com/a.png"),
        ("last_frame", "javascript:alert(1)"),
        ("last_frame", ""),
        ("references", {}),
        ("references", [{"type": "image", "url": "https://x.io/a"}] * 21),
        ("references", [{"type": "image"}]),
        ("references", [[]]),
        ("references", [{"type": "image", "url": "http://x.io/a"}]),
        ("provider_options", []),
        ("metadata", "x"),
        ("metadata", ["x"]),
        ("metadata", {"x": "y" * 16_400}),
        ("metadata", {"é" * 8_200: 1}),
        ("on_unknown", "WAIT"),
        ("on_unknown", 1),
        ("unheard_of", None),
    ],
)
async def test_a_bad_value_is_refused_and_only_its_field_is_named(
    house: House, client: httpx.AsyncClient, field: str, value: object
) -> None:
    found = problems(await client.post("/v1/jobs", json=GOOD | {field: value}))
    assert len(found) == 1
    [(name, message)] = found.items()
    assert name.startswith(field)
    assert message
    assert await house.count("jobs") == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", "x" * 200),
        ("prompt", "x" * 20_000),
        ("prompt", ""),
        ("prompt", "a\x00b 🎬"),
        ("duration", 1),
        ("duration", 3600),
        ("seed", 2**63 - 1),
        ("seed", 0),
        ("resolution", "4K"),
        ("first_frame", "data:image/svg+xml;charset=utf-8,%3Csvg%3E"),
        ("references", [{"type": "video", "url": "https://x.io/a"}] * 20),
        ("references", []),
        ("metadata", {"x": "y" * (16_384 - len('{"x":""}'))}),
        ("metadata", {}),
        ("provider_options", {"nested": {"deep": [[[[1]]]]}}),
    ],
)
async def test_a_value_at_its_limit_is_accepted(client: httpx.AsyncClient, field: str, value: object) -> None:
    answer = await client.post("/v1/jobs", json=GOOD | {field: value})
    assert answer.status_code == 202, answer.text


async def test_a_thousand_unknown_fields_are_answered_shortly(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/jobs", json={f"field_{n}": n for n in range(20_000)})
    assert len(problems(answer)) == 50
    assert len(answer.content) < 30_000


async def test_a_strangers_field_name_is_shown_cut_and_harmless(client: httpx.AsyncClient) -> None:
    found = problems(await client.post("/v1/jobs", json={**GOOD, "x\r\n\x1b[2J" + "y" * 5000: 1}))
    [name] = found
    assert len(name) < 100
    assert name.isprintable()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "The body is empty"),
        (b"{", "not JSON"),
        (b'{"model": "m"} x', "not JSON: Extra data at line 1, column 16"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b"[]", "must be a JSON object, {…}; an array was sent"),
        (b"null", "null was sent"),
        (b'"model"', "a string was sent"),
        (b"17", "a number was sent"),
        (b"true", "true or false was sent"),
        (b'{"model": "\xff"}', "not UTF-8 text (byte 11)"),
        ('{"model": "m"}'.encode("utf-16"), "not UTF-8"),
        (b'{"model": "m", "model": "n"}', 'names "model" twice'),
        (b'{"model": "m", "metadata": {"a": 1, "a": 1}}', 'names "a" twice'),
        (b'{"model": "m", "seed": NaN}', "holds NaN"),
        (b'{"model": "m", "metadata": {"a": -Infinity}}', "holds -Infinity"),
        (b'{"model": "m", "metadata": {"a": 1e400}}', "too large, 1e400"),
        (b'{"model": "m", "seed": 9223372036854775808}', "beyond 64 bits, 9223372036854775808"),
        (b'{"model": "m", "metadata": {"a": -' + b"9" * 100_000 + b"}}", "beyond 64 bits"),
        (b'{"model": "\\ud800"}', "half of a surrogate pair"),
        (b'{"model": "m", "metadata": {"a": {"\\udfff": 1}}}', "half of a surrogate pair"),
        (b'{"\\ud800": 1, "\\ud800": 2}', "twice"),
        (b'{"model": "m", "provider_options": {"a": ' + b"[" * 40 + b"]" * 40 + b"}}", "more than 32 deep"),
        (b'{"a":' * 100_000, "more than 32 deep"),
        (b"[" * 1_000_000, "more than 32 deep"),
    ],
)
async def test_a_body_that_is_not_one_clear_json_object_is_refused(
    house: House, client: httpx.AsyncClient, body: bytes, words: str
) -> None:
    answer = await client.post("/v1/jobs", content=body, headers=JSON)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_json"
    assert words in answer.json()["error"]["message"]
    assert len(answer.content) < 500
    assert await house.count("jobs") == 0


async def test_thirty_two_levels_are_not_too_deep(client: httpx.AsyncClient) -> None:
    inner: object = 1
    for _ in range(30):
        inner = [inner]
    assert (await client.post("/v1/jobs", json={**GOOD, "metadata": {"a": inner}})).status_code == 202
    answer = await client.post("/v1/jobs", json={**GOOD, "metadata": {"a": [inner]}})
    assert answer.json()["error"]["code"] == "invalid_json"


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "Application/JSON", "application/json; charset=utf-8", 'application/json;charset="UTF-8"'],
)
async def test_json_may_be_announced_in_every_usual_way(client: httpx.AsyncClient, content_type: str) -> None:
    answer = await client.post("/v1/jobs", content=json.dumps(GOOD), headers={"content-type": content_type})
    assert answer.status_code == 202


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1", "", "ÿ"]
)
async def test_another_content_type_is_refused(client: httpx.AsyncClient, content_type: str) -> None:
    answer = await client.post(
        "/v1/jobs", content=json.dumps(GOOD), headers=[(b"content-type", content_type.encode("latin-1"))]
    )
    assert answer.status_code == 415
    assert "application/json" in answer.json()["error"]["message"]


async def test_a_missing_content_type_is_refused(client: httpx.AsyncClient) -> None:
    assert (await client.post("/v1/jobs", content=json.dumps(GOOD))).status_code == 415


# Over the wire


async def test_a_body_of_one_mebibyte_is_read_and_one_byte_more_is_not(house: House) -> None:
    head, tail = b'{"model": "m", "provider_options": {"a": "', b'"}}'
    exact = head + b"x" * (1_048_576 - len(head) - len(tail)) + tail

    async def chunks(body: bytes) -> AsyncIterator[bytes]:
        for start in range(0, len(body), 100_000):
            yield body[start : start + 100_000]

    headers = JSON | {"authorization": f"Bearer {house.key}"}
    async with serving(house.app()) as port, httpx.AsyncClient(trust_env=False, headers=headers) as client:
        url = f"http://127.0.0.1:{port}/v1/jobs"
        assert (await client.post(url, content=exact)).status_code == 202
        assert (await client.post(url, content=chunks(exact))).status_code == 202
        for body in (exact + b" ", exact * 5):
            for content in (body, chunks(body)):
                answer = await client.post(url, content=content)
                assert answer.status_code == 413
                assert answer.json()["error"]["code"] == "body_too_large"
        assert (await client.post(url, content=b"{}")).status_code == 400


async def test_a_body_that_does_not_come_is_not_waited_for(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_BODY_SECONDS", 0.05)
    async with serving(house.app()) as port, connected(port) as (reader, writer):
        writer.write(
            f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {house.key}\r\n"
            'Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"model"'.encode()
        )
        answer = await asyncio.wait_for(reader.read(), 10)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"did not arrive within 0.05 seconds" in answer
    assert await house.count("jobs") == 0


async def test_a_caller_who_hangs_up_before_the_body_is_no_mistake_of_ours(house: House) -> None:
    async with serving(house.app()) as port, connected(port) as (_, writer):
        writer.write(
            f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {house.key}\r\n"
            'Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"model"'.encode()
        )
        await writer.drain()
    assert [line["status"] for line in house.lines()] == [499]
    assert house.lines("web.failed") == []


# Whatever comes


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
_fields = st.sampled_from([*GOOD, "provider", "references", "first_frame", "metadata", "provider_options", "seed"])
_bodies = st.binary(max_size=200) | st.builds(
    lambda value: json.dumps(value).encode(),
    _json | st.dictionaries(_fields | st.text(max_size=8), _json, max_size=6) | st.just(GOOD),
)
_odd_headers = st.lists(
    st.tuples(
        st.sampled_from([b"idempotency-key", b"content-length", b"x-request-id", b"content-encoding", b"x-a"]),
        st.binary(max_size=40),
    ),
    max_size=3,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=_bodies, headers=_odd_headers)
async def test_no_body_and_no_header_makes_the_service_fail(
    house: House, body: bytes, headers: list[tuple[bytes, bytes]]
) -> None:
    ours = [(b"authorization", f"Bearer {house.key}".encode()), (b"content-type", b"application/json")]
    status = await ask(house.app(), "POST", "/v1/jobs", [*ours, *headers], body)
    assert status in {202, 400, 409, 413}
