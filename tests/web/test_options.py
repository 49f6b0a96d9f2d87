"""However much a caller sends, its job stays small, and what the provider understands reaches it as it was sent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import httpx
import pytest

from service.model import Job, VideoRequest
from service.web.views import Views
from tests.web.house import PUBLIC_URL, House

PICTURE = "data:image/png;base64," + "A" * 100_000
LINK = "https://example.com/" + "a" * 980
MOST_BYTES = 65_536
MOST = 110_000  # characters of a job's request
ASKED: Mapping[str, Any] = {"model": "m" * 200, "prompt": "🦊" * 20_000, "resolution": "1080p", "size": "1920x1080"}
NATIVE = {
    **ASKED,
    "first_frame": PICTURE,
    "last_frame": "https://example.com/" + "a" * 8_000,
    "references": [{"type": "image", "url": LINK}] * 20,
}
OPENROUTER = {**ASKED, "input_references": [{"type": "image_url", "image_url": {"url": LINK}}] * 20}
OPENAI = {**ASKED, "provider": "openrouter", "image": PICTURE, "reference_images": [LINK] * 20}

Face = tuple[str, Mapping[str, Any], str]  # path, the rest of the body, and the field whose size is up to the caller
FACES = [
    pytest.param(("/v1/jobs", NATIVE, "provider_options"), id="native"),
    pytest.param(("/api/v1/videos", OPENROUTER, "trace"), id="openrouter"),
    pytest.param(("/v1/videos", OPENAI, "style"), id="openai"),
    pytest.param(("/v1/videos", OPENAI, "provider_options"), id="openai, in a field for them"),
]
LARGE = [
    pytest.param({"seeds": [2**62] * 1_500, "words": ["a" * 999] * 60}, id="many short texts"),
    pytest.param({"n" * 70_000: 1}, id="a long name"),
    pytest.param({"n" * 500: {"m" * 65_000: PICTURE}}, id="a long name of a long text"),
    pytest.param({"fox": ["🦊" * 1_000] * 17}, id="more bytes than characters"),
]


async def post(client: httpx.AsyncClient, face: Face, options: Mapping[str, Any]) -> httpx.Response:
    path, body, field = face
    return await client.post(path, json={**body, field: options})


async def only_job(house: House) -> Job:
    [job] = await house.store.jobs()
    return job


@pytest.mark.parametrize("face", FACES)
async def test_a_job_stays_small_when_everything_that_it_is_asked_with_is_as_large_as_it_may_be(
    house: House, client: httpx.AsyncClient, face: Face
) -> None:
    options = {"masks": [PICTURE] * 5, "words": "no fog, " * 5_000, "deep": {"list": [[PICTURE], {"k": 1}]}}
    options["filling"] = ["a" * 1_000] * 57
    answer = await post(client, face, options)
    assert answer.status_code == 202, answer.text
    job = await only_job(house)
    assert len(job.request.to_json()) < MOST
    assert len(answer.text) < 2 * MOST
    whole = (await house.store.request(job)).provider_options
    assert (whole if face[2] == "provider_options" else whole[face[2]]) == options
    [claimed] = await house.claims.claim_queued("openrouter", 1)
    assert claimed.request.provider_options == whole


@pytest.mark.parametrize("options", LARGE)
@pytest.mark.parametrize("face", FACES)
async def test_what_would_make_every_reading_of_a_job_slow_is_refused_by_the_name_of_its_field(
    house: House, client: httpx.AsyncClient, face: Face, options: Mapping[str, Any]
) -> None:
    answer = await post(client, face, options)
    assert answer.status_code == 400
    error = answer.json()["error"]
    [problem] = error.get("metadata", error)["problems"]
    assert problem["field"] == face[2]
    assert problem["message"] == (
        "must be smaller: what is passed on to the provider has at most 65,536 bytes as JSON, texts of more than 1,000 "
        "characters not counted; send media as https:// or data: URLs"
    )
    assert await house.count("jobs") == 0


async def test_the_limit_is_one_on_bytes_of_json(client: httpx.AsyncClient) -> None:
    full = {"a": ["ü" * 499] * 65, "b": ""}
    full["b"] = "b" * (MOST_BYTES - len(json.dumps(full, ensure_ascii=False, separators=(",", ":")).encode()))
    assert len(full["b"]) < 1_000
    face = ("/v1/jobs", {"model": "m"}, "provider_options")
    assert (await post(client, face, full)).status_code == 202
    assert (await post(client, face, {**full, "b": f"{full['b']}b"})).status_code == 400


async def test_fields_for_another_provider_than_openrouter_are_named_as_they_came(
    house: House, client: httpx.AsyncClient
) -> None:
    options = {"options": {"llmgateway": {"words": ["a" * 999] * 70}}}
    body = {"model": "m", "prompt": "a fox", "duration": 5, "provider": options}
    headers = {"x-reelkeeper-provider": "llmgateway"}
    answer = await client.post("/api/v1/videos", json=body, headers=headers)
    assert [each["field"] for each in answer.json()["error"]["metadata"]["problems"]] == ["provider"]
    assert await house.count("jobs") == 0


async def test_of_several_fields_the_largest_is_named(client: httpx.AsyncClient) -> None:
    body = {"model": "m", "trace": {"a": ["a" * 999] * 30}, "new": ["b" * 999] * 40, "user": PICTURE}
    answer = await client.post("/api/v1/videos", json=body)
    assert [each["field"] for each in answer.json()["error"]["metadata"]["problems"]] == ["new"]


async def test_of_many_jobs_each_is_judged_alone(house: House, client: httpx.AsyncClient) -> None:
    small, large = {"a": ["a" * 999] * 50}, {"a": ["a" * 999] * 70}
    jobs = [{"model": "m", "provider_options": options} for options in (small, large, small)]
    answer = await client.post("/v1/jobs/batch", json={"jobs": jobs})
    assert [each["status"] for each in answer.json()["data"]] == [202, 400, 202]
    assert await house.count("jobs") == 2


async def test_a_form_is_no_way_around_the_limit(house: House, client: httpx.AsyncClient) -> None:
    form = {**ASKED, "provider": "openrouter", "style[words][]": ["a" * 999] * 70}
    answer = await client.post("/v1/videos", data=form, files={"input_reference": ("a.png", b"\x89PNG\r\n\x1a\n x")})
    assert [each["field"] for each in answer.json()["error"]["problems"]] == ["style"]
    assert await house.count("jobs") == 0


async def test_what_jobs_of_the_first_version_hold_is_shown_as_short(house: House) -> None:
    job = replace(await house.queued(), request=VideoRequest("m", prompt="a" * 2_000, first_frame=PICTURE))
    assert Views(PUBLIC_URL).job(job)["request"] == {
        "model": "m",
        "prompt": "a" * 2_000,
        "first_frame": "data:image/png;base64,… (100,022 characters)",
    }
