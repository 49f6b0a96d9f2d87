"""OpenRouter's dialect, as its reference and its SDKs want it."""

from __future__ import annotations

import re

import httpx
import pytest

from service.sandbox import BEHAVIOURS
from tests.sandbox.conftest import House

RIGHT = {"model": "sandbox/ok", "prompt": "a cat"}


async def test_a_job_is_accepted_with_202_and_three_keys(house: House) -> None:
    answer = await house.http.post("/api/v1/videos", json=RIGHT)
    job_id = answer.json()["id"]
    assert answer.status_code == 202
    assert answer.headers["content-type"] == "application/json"
    assert re.fullmatch("gen-vid-1790000000-[0-9a-zA-Z]{20}", job_id)
    assert answer.text == (
        f'{{"id":"{job_id}","polling_url":"{house.sandbox.base_url}/api/v1/videos/{job_id}","status":"pending"}}'
    )


async def test_a_job_goes_from_pending_over_in_progress_to_completed(house: House) -> None:
    path = await house.job("openrouter", "ok")
    url = house.sandbox.base_url + path
    known = {"id": path.rpartition("/")[2], "polling_url": url}
    assert (await house.http.get(path)).json() == {**known, "status": "pending"}
    house.clock.advance(500)
    assert (await house.http.get(path)).json() == {**known, "status": "in_progress"}
    house.clock.advance(1_500)
    done = await house.http.get(path)
    assert done.status_code == 200
    assert re.fullmatch("gen-1790000000-[0-9a-zA-Z]{20}", done.json()["generation_id"])
    assert done.json() == {
        **known,
        "generation_id": done.json()["generation_id"],
        "status": "completed",
        "unsigned_urls": [f"{url}/content?index=0"],
        "usage": {"cost": 0.25, "is_byok": False},
    }


@pytest.mark.parametrize(
    ("name", "status", "error"),
    [
        ("fails", "failed", "The provider could not generate the video: internal error"),
        ("fails-moderation", "failed", "The generated video was blocked by the provider's content policy"),
        ("cancelled", "cancelled", "Job was cancelled"),
        ("expires", "expired", "Job exceeded maximum time to live"),
    ],
)
async def test_an_ending_without_a_video_says_why_in_one_string(
    house: House, name: str, status: str, error: str
) -> None:
    path = await house.finished("openrouter", name)
    ended = (await house.http.get(path)).json()
    assert (ended["status"], ended["error"]) == (status, error)
    assert {"unsigned_urls", "usage"}.isdisjoint(ended)
    assert (await house.http.get(path + "/content")).status_code == 409


async def test_the_content_is_an_mp4_with_its_length(house: House) -> None:
    path = await house.finished("openrouter", "ok")
    for url in (path + "/content", path + "/content?index=0"):
        answer = await house.http.get(url)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "video/mp4")
        assert answer.headers["content-length"] == str(len(answer.content))
        assert answer.content[4:8] == b"ftyp"


async def test_several_outputs_are_different_videos(house: House) -> None:
    path = await house.finished("openrouter", "several-outputs")
    urls = (await house.http.get(path)).json()["unsigned_urls"]
    assert urls == [f"{house.sandbox.base_url}{path}/content?index={index}" for index in range(3)]
    assert len({(await house.http.get(url)).content for url in urls}) == 3
    assert (await house.http.get(path + "/content?index=3")).status_code == 404
    assert (await house.http.get(path + "/content?index=-1")).status_code == 400


async def test_signed_links_need_no_key_and_expire(house: House) -> None:
    path = await house.finished("openrouter", "urls")
    done = (await house.http.get(path)).json()
    assert done["expires_at"] == 1_790_000_002 + 3_600
    assert len(done["urls"]) == 1
    assert done["urls"][0].startswith(house.sandbox.elsewhere + "/files/")
    async with httpx.AsyncClient() as anybody:
        assert (await anybody.get(done["urls"][0])).content == (await house.http.get(path + "/content")).content
        assert (await anybody.get(done["urls"][0].partition("?")[0])).status_code == 403
        assert (await anybody.get(done["urls"][0].replace("/0?", "/1?"))).status_code == 403
        house.clock.advance(3_600_000)
        assert (await anybody.get(done["urls"][0])).status_code == 403


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "The request body is not a JSON object"),
        (b"[]", "The request body is not a JSON object"),
        (b'{"prompt":"x"}', "model is required and must be a string"),
        (b'{"model":"sandbox/nonsense"}', "sandbox/nonsense is not a valid model ID"),
        (b'{"model":"sandbox/ok","seed":true}', "seed must be of type int"),
        (b'{"model":"sandbox/ok","callback_url":"ftp://a.test/x"}', "callback_url must be an https URL"),
        (b'{"model":"sandbox/ok","callback_url":"http://a.test/x"}', "callback_url must be an https URL"),
        (b'{"model":"sandbox/ok","callback_url":"http://8.8.8.8/x"}', "callback_url must be an https URL"),
        (b'{"model":"sandbox/ok","callback_url":"https://[/x"}', "callback_url must be an https URL"),
    ],
)
async def test_a_wrong_request_is_refused_with_an_integer_code(house: House, body: bytes, message: str) -> None:
    answer = await house.http.post("/api/v1/videos", content=body)
    assert answer.status_code == 400
    assert answer.json() == {"error": {"code": 400, "message": message}}


@pytest.mark.parametrize("field", [{"duration": 0}, {"duration": True}, {"resolution": "9p"}, {"size": "1x1"}])
async def test_a_value_that_the_model_does_not_offer_is_refused(house: House, field: dict[str, object]) -> None:
    answer = await house.http.post("/api/v1/videos", json={**RIGHT, **field})
    assert answer.status_code == 400
    assert "is not supported by this model; supported: " in answer.json()["error"]["message"]


async def test_a_neighbour_may_be_called_back_over_plain_http(house: House) -> None:
    for url in ("https://a.test/x", "http://localhost:1/x", "http://app:80/x", "http://10.0.0.1/x", "http://[::1]/x"):
        answer = await house.http.post("/api/v1/videos", json={**RIGHT, "callback_url": url})
        assert answer.status_code == 202, url


async def test_a_caller_without_the_key_is_refused_everywhere_but_in_the_catalogue(house: House) -> None:
    path = await house.finished("openrouter", "ok")
    for headers, message in (
        ({}, "Missing Authentication header"),
        ({"authorization": "Bearer wrong"}, "User not found."),
    ):
        async with httpx.AsyncClient(base_url=house.sandbox.base_url, headers=headers) as stranger:
            answers = [
                await stranger.post("/api/v1/videos", content=b"{"),
                await stranger.get(path),
                await stranger.get(path + "/content"),
            ]
            assert [answer.status_code for answer in answers] == [401] * 3
            assert [answer.json() for answer in answers] == [{"error": {"code": 401, "message": message}}] * 3
            assert (await stranger.get("/api/v1/videos/models")).status_code == 200


async def test_what_does_not_exist_is_404_in_its_error_shape(house: House) -> None:
    foreign = (await house.job("llmgateway", "ok")).rpartition("/")[2]
    for path in ("/api/v1/videos/x", "/api/v1/videos/x/content", f"/api/v1/videos/{foreign}", "/api/v1/nothing"):
        answer = await house.http.get(path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, 404)


async def test_a_body_that_is_too_large_is_refused_without_a_job(house: House, dialect: str) -> None:
    large = {"prompt": "x" * (10 * 1_048_576)}, {"callback_url": "https://a.test/" + "x" * 16_384}
    for fields in large:
        assert (await house.submit(dialect, "ok", **fields)).status_code == 413
    assert (await house.ledger())["accepted"] == 0


async def test_the_catalogue_lists_every_behaviour_with_all_required_keys(house: House) -> None:
    models = (await house.http.get("/api/v1/videos/models")).json()["data"]
    assert [model["id"] for model in models] == list(BEHAVIOURS)
    required = {
        "id",
        "canonical_slug",
        "name",
        "created",
        "allowed_passthrough_parameters",
        "supported_resolutions",
        "supported_aspect_ratios",
        "supported_sizes",
        "supported_durations",
        "supported_frame_images",
        "generate_audio",
        "seed",
        "upscale_factor",
        "creativity",
    }
    for model in models:
        assert required <= set(model)
        assert model["description"] == BEHAVIOURS[model["id"]].sentence
        assert all(isinstance(price, str) for price in model["pricing_skus"].values())
