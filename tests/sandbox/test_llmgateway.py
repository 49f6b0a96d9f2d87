"""LLM Gateway's dialect. The expected bytes are those that its own gateway sent, with our names in them."""

from __future__ import annotations

import json
import re

import httpx
import pytest

from service.sandbox import BEHAVIOURS
from tests.sandbox.conftest import House

RIGHT = {"model": "sandbox/ok", "prompt": "a cat", "seconds": 4}
BOTH = "callback_url and callback_secret must either both be provided or both be omitted"


def refusal(message: str, code: str | None = None) -> str:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return json.dumps({"error": error}, separators=(",", ":"))


async def test_a_job_is_accepted_with_200_and_the_queued_object(house: House) -> None:
    answer = await house.http.post("/v1/videos", json=RIGHT)
    job_id = answer.json()["id"]
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-trace-id"])
    assert re.fullmatch("[0-9a-zA-Z]{20}", job_id)
    assert answer.text == (
        f'{{"id":"{job_id}","object":"video","model":"sandbox/ok","status":"queued","progress":0,'
        '"created_at":1790000000,"completed_at":null,"expires_at":null,"error":null}'
    )


async def test_a_bare_model_name_comes_back_with_the_provider_before_it(house: House) -> None:
    assert (await house.http.post("/v1/videos", json={**RIGHT, "model": "ok"})).json()["model"] == "sandbox/ok"


async def test_a_job_goes_from_queued_over_in_progress_to_completed(house: House) -> None:
    path = await house.job("llmgateway", "ok")
    house.clock.advance(500)
    running = (await house.http.get(path)).json()
    assert [running["status"], running["progress"], running["completed_at"]] == ["in_progress", 50, None]
    house.clock.advance(1_500)
    done = await house.http.get(path)
    url = done.json()["content"][0]["url"]
    assert done.text == (
        f'{{"id":"{path.rpartition("/")[2]}","object":"video","model":"sandbox/ok","status":"completed","progress":100,'
        '"created_at":1790000000,"completed_at":1790000002,"expires_at":null,"error":null,'
        f'"content":[{{"type":"video","url":"{url}","mime_type":"video/mp4"}}]}}'
    )


async def test_a_failure_nests_the_upstreams_error_twice(house: House) -> None:
    path = await house.finished("llmgateway", "fails-moderation")
    text = (await house.http.get(path)).text
    assert text[text.index('"status"') :] == (
        '"status":"failed","progress":100,"created_at":1790000000,"completed_at":1790000002,"expires_at":null,"error":'
        '{"code":"OutputVideoSensitiveContentDetected","details":{"code":"OutputVideoSensitiveContentDetected",'
        '"details":{"code":"OutputVideoSensitiveContentDetected","message":"content policy"},'
        '"message":"content policy"},"message":"content policy"}}'
    )


@pytest.mark.parametrize(("name", "word"), [("cancelled", "canceled"), ("expires", "expired")])
async def test_other_endings_have_no_error_and_no_progress(house: House, name: str, word: str) -> None:
    text = (await house.http.get(await house.finished("llmgateway", name))).text
    assert text[text.index('"status"') :] == (
        f'"status":"{word}","progress":0,"created_at":1790000000,"completed_at":1790000002,"expires_at":null,"error":null}}'
    )


@pytest.mark.parametrize(
    ("name", "word"),
    [("never-ends", "in_progress"), ("fails", "failed"), ("cancelled", "canceled"), ("expires", "expired")],
)
async def test_content_of_anything_but_a_completed_job_is_409(house: House, name: str, word: str) -> None:
    path = await house.finished("llmgateway", name)
    answer = await house.http.get(path + "/content")
    assert answer.status_code == 409
    assert answer.text == refusal(f"Video is not ready yet. Current status: {word}")


async def test_the_link_in_the_content_needs_no_key_but_its_own_token(house: House) -> None:
    path = await house.finished("llmgateway", "ok")
    url = (await house.http.get(path)).json()["content"][0]["url"]
    assert re.fullmatch(
        re.escape(house.sandbox.base_url)
        + r"/v1/videos/logs/[0-9a-zA-Z]{20}/content\?token=eyJhbGciOiJIUzI1NiJ9\.[\w-]+\.[\w-]+",
        url,
    )
    async with httpx.AsyncClient() as anybody:
        good, bad = await anybody.get(url), await anybody.get(url[:-6] + "AAAAAA")
        house.clock.advance(7 * 86_400_000)
        late = await anybody.get(url)
    assert (good.status_code, good.content[4:8], good.headers["content-type"]) == (200, b"ftyp", "video/mp4")
    assert (bad.status_code, late.status_code) == (401, 401)
    assert bad.text == refusal("Unauthorized: Invalid or expired video access token.", "invalid_api_key")


async def test_a_link_of_another_job_is_refused(house: House) -> None:
    first = (await house.http.get(await house.finished("llmgateway", "ok"))).json()["content"][0]["url"]
    second = (await house.http.get(await house.finished("llmgateway", "ok"))).json()["content"][0]["url"]
    mixed = first.partition("?")[0] + "?" + second.partition("?")[2]
    assert (await house.http.get(mixed)).status_code == 401


async def test_content_ignores_ranges_and_answers_head(house: House) -> None:
    path = await house.finished("llmgateway", "ok")
    whole = await house.http.get(path + "/content", headers={"range": "bytes=0-9"})
    head = await house.http.head(path + "/content")
    assert (whole.status_code, whole.headers["content-length"]) == (200, str(len(whole.content)))
    assert (head.status_code, head.headers["content-length"], head.content) == (
        200,
        whole.headers["content-length"],
        b"",
    )


@pytest.mark.parametrize(
    ("change", "issue"),
    [
        ({"callback_url": "https://a.test/x"}, {"code": "custom", "message": BOTH, "path": ["callback_secret"]}),
        ({"callback_secret": "s"}, {"code": "custom", "message": BOTH, "path": ["callback_url"]}),
        (
            {"seconds": "4"},
            {
                "code": "invalid_type",
                "expected": "number",
                "received": "string",
                "path": ["seconds"],
                "message": "Expected number, received string",
            },
        ),
        (
            {"seconds": 4.5},
            {
                "code": "invalid_type",
                "expected": "integer",
                "received": "float",
                "message": "Expected integer, received float",
                "path": ["seconds"],
            },
        ),
        (
            {"seconds": 0},
            {
                "code": "too_small",
                "minimum": 1,
                "type": "number",
                "inclusive": True,
                "exact": False,
                "message": "Number must be greater than or equal to 1",
                "path": ["seconds"],
            },
        ),
        (
            {"prompt": None},
            {
                "code": "invalid_type",
                "expected": "string",
                "received": "null",
                "path": ["prompt"],
                "message": "Expected string, received null",
            },
        ),
        ({"n": 2}, {"code": "custom", "message": "Only n=1 is supported for Veo 3.1 preview models", "path": ["n"]}),
        (
            {"last_frame": "https://a.test/x"},
            {"code": "custom", "message": "last_frame requires image to also be provided", "path": ["last_frame"]},
        ),
    ],
)
async def test_a_body_of_the_wrong_form_gets_the_schemas_own_shape(
    house: House, change: dict[str, object], issue: dict[str, object]
) -> None:
    answer = await house.http.post("/v1/videos", json={**RIGHT, **change})
    expected = {"success": False, "error": {"issues": [issue], "name": "ZodError"}}
    assert answer.status_code == 400
    assert answer.text == json.dumps(expected, separators=(",", ":"))


async def test_seconds_and_prompt_are_required(house: House) -> None:
    answer = await house.http.post("/v1/videos", json={"model": "sandbox/ok"})
    assert [issue["path"] for issue in answer.json()["error"]["issues"]] == [["prompt"], ["seconds"]]


async def test_a_size_that_nobody_has_is_refused(house: House) -> None:
    answer = await house.http.post("/v1/videos", json={**RIGHT, "size": "1x1"})
    assert answer.json()["error"]["issues"][0]["message"].startswith("size must be one of 848x480, 854x480")


async def test_a_duration_that_no_model_makes_is_refused_in_the_providers_words(house: House) -> None:
    answer = await house.http.post("/v1/videos", json={**RIGHT, "seconds": 99})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith(
        "Requested parameters are not supported for sandbox/ok. sandbox: duration 99s is unsupported (supported "
        "durations: 1s, 2s, "
    )


@pytest.mark.parametrize("model", ["gpt-4o", "sandbox/nonsense", "sandbox/"])
async def test_an_unknown_model_is_refused_in_its_own_words(house: House, model: str) -> None:
    answer = await house.http.post("/v1/videos", json={**RIGHT, "model": model})
    assert (answer.status_code, answer.text) == (
        400,
        refusal(
            "Unsupported video model. Use a video-capable model from /v1/models, optionally prefixed with a configured "
            "provider like openai/, avalanche/, or google-vertex/."
        ),
    )


async def test_a_callback_url_may_be_any_url(house: House) -> None:
    for url in ("ftp://a.test/x", "http://169.254.169.254/", "javascript:alert(1)"):
        answer = await house.http.post("/v1/videos", json={**RIGHT, "callback_url": url, "callback_secret": "s"})
        assert answer.status_code == 200
    answer = await house.http.post("/v1/videos", json={**RIGHT, "callback_url": "nowhere", "callback_secret": "s"})
    assert answer.json()["error"]["issues"] == [
        {"validation": "url", "code": "invalid_string", "message": "Invalid url", "path": ["callback_url"]}
    ]


@pytest.mark.parametrize(
    ("content_type", "body", "status", "text"),
    [
        (
            "application/json",
            b"{",
            400,
            refusal("Malformed JSON in request body"),
        ),
        (
            "application/json",
            b'{"prompt":"\\ud800"}',
            400,
            refusal("Malformed JSON in request body"),
        ),
        (
            "multipart/form-data; boundary=x",
            b"--x--",
            415,
            refusal("Unsupported Media Type: Content-Type must be application/json", "unsupported_media_type"),
        ),
    ],
)
async def test_a_body_that_is_not_json_is_refused(
    house: House, content_type: str, body: bytes, status: int, text: str
) -> None:
    answer = await house.http.post("/v1/videos", content=body, headers={"content-type": content_type})
    assert (answer.status_code, answer.text) == (status, text)


async def test_a_caller_without_the_key_is_refused_everywhere_but_in_the_catalogue(house: House) -> None:
    path = await house.finished("llmgateway", "ok")
    no_key = refusal(
        "Unauthorized: No API key provided. Expected 'Authorization: Bearer your-api-token' header or "
        "'x-api-key: your-api-token' header",
        "invalid_api_key",
    )
    wrong_key = refusal(
        "Unauthorized: Invalid LLMGateway API token. The token could not be found. Go to the LLMGateway 'API Keys' "
        "page to generate a new token.",
        "invalid_api_key",
    )
    for headers, text in (({}, no_key), ({"x-api-key": "wrong"}, wrong_key)):
        async with httpx.AsyncClient(base_url=house.sandbox.base_url, headers=headers) as stranger:
            answers = [
                await stranger.post("/v1/videos", json=RIGHT),
                await stranger.get(path),
                await stranger.get(path + "/content"),
            ]
            assert [(answer.status_code, answer.text) for answer in answers] == [(401, text)] * 3
            assert (await stranger.get("/v1/models")).status_code == 200


async def test_the_key_may_come_as_x_api_key(house: House) -> None:
    async with httpx.AsyncClient(base_url=house.sandbox.base_url, headers={"x-api-key": "right-key"}) as other:
        assert (await other.post("/v1/videos", json=RIGHT)).status_code == 200


async def test_a_job_that_does_not_exist_is_404_in_its_own_words(house: House) -> None:
    foreign = await house.job("openrouter", "ok")
    for path in ("/v1/videos/AAAAAAAAAAAAAAAAAAAA", "/v1/videos/" + foreign.rpartition("/")[2]):
        for answer in (await house.http.get(path), await house.http.get(path + "/content")):
            assert answer.status_code == 404
            assert answer.text == refusal("Video not found", "not_found")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/videos"), ("DELETE", "/v1/videos/x"), ("POST", "/v1/videos/x/remix"), ("GET", "/v1/videos/")],
)
async def test_what_has_no_route_is_404_as_text(house: House, method: str, path: str) -> None:
    answer = await house.http.request(method, path)
    assert (answer.status_code, answer.text) == (404, "404 Not Found")
    assert answer.headers["content-type"] == "text/plain; charset=UTF-8"


async def test_the_catalogue_lists_every_behaviour_as_a_video_model(house: House) -> None:
    models = (await house.http.get("/v1/models")).json()["data"]
    behaviours = [model for model in models if model["id"].startswith("sandbox/")]
    assert [model["id"] for model in behaviours] == list(BEHAVIOURS)
    assert [model["description"] for model in behaviours] == [each.sentence for each in BEHAVIOURS.values()]
    for model in behaviours:
        assert "video" in model["architecture"]["output_modalities"]
        assert model["providers"][0]["supportedVideoSizes"][0] == "848x480"
        assert model["pricing"]["per_second"] == {"default": "0.05"}


async def test_the_catalogue_holds_the_gateways_own_video_models_among_others(house: House) -> None:
    models = (await house.http.get("/v1/models")).json()["data"]
    own = [model for model in models if not model["id"].startswith("sandbox/")]
    videos = [model["id"] for model in own if "video" in model["architecture"]["output_modalities"]]
    assert len(videos) == 13
    assert {"veo-3.1-generate-preview", "kling-v3-0-turbo", "seedance-2-5"} < set(videos)
    assert "gpt-4o" in {model["id"] for model in own} - set(videos)
    required = {"id", "name", "family", "architecture", "top_provider", "providers", "pricing", "json_output"}
    for model in own:
        assert required | {"structured_outputs"} <= set(model)
        assert all(("supportedVideoSizes" in each) is (model["id"] in videos) for each in model["providers"])


@pytest.mark.parametrize(
    ("asked", "used"),
    [
        ({}, "google-vertex/veo-3.1-generate-preview"),
        ({"model": "seedance-2-0"}, "bytedance/seedance-2-0"),
        ({"model": "avalanche/veo-3.1-generate-preview"}, "avalanche/veo-3.1-generate-preview"),
    ],
)
async def test_a_model_by_its_real_name_is_made_and_shown_with_its_provider(
    house: House, asked: dict[str, str], used: str
) -> None:
    answer = await house.http.post("/v1/videos", json={"prompt": "a cat", "seconds": 4, **asked})
    assert (answer.status_code, answer.json()["model"]) == (200, used)
    house.clock.advance(2_000)
    polled = await house.http.get(f"/v1/videos/{answer.json()['id']}")
    assert polled.json()["status"] == "completed"


@pytest.mark.parametrize("model", ["avalanche/seedance-2-0", "seedance-2-0/", "seedance"])
async def test_no_other_provider_makes_it(house: House, model: str) -> None:
    assert (await house.http.post("/v1/videos", json={**RIGHT, "model": model})).status_code == 400
