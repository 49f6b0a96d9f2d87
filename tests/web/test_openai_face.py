from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from service.model import Face, Job, Model, OnUnknown, Reference, State
from service.web import openai
from tests.web.house import PUBLIC_URL, House, connected, serving

PATH = "/v1/videos"
GOOD: dict[str, Any] = {"model": "veo", "prompt": "a red kite", "seconds": "8", "size": "1280x720"}
PNG = b"\x89PNG\r\n\x1a\n picture"
DATA = "data:image/png;base64,iVBORw0KGgogcGljdHVyZQ=="


async def stored(house: House, answer: httpx.Response) -> Job:
    assert answer.status_code == 202, answer.text
    job = await house.store.job(answer.json()["id"], "acme")
    assert job is not None
    return job


def problems(answer: httpx.Response) -> dict[str, str]:
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert (error["code"], error["type"]) == ("invalid_request", "invalid_request_error")
    assert error["param"] == error["problems"][0]["field"]
    assert answer.headers["x-should-retry"] == "false"
    return {each["field"]: each["message"] for each in error["problems"]}


def code(answer: httpx.Response) -> tuple[int, str]:
    """Return status and code of an error in OpenAI's shape."""
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()["error"]
    assert isinstance(error["message"], str)
    assert {"type", "param"} <= set(error)
    return answer.status_code, error["code"]


# Create


async def test_an_accepted_video_is_on_disk_and_answered_as_openai_answers(
    house: House, client: httpx.AsyncClient
) -> None:
    answer = await client.post(PATH, json=GOOD)
    job = await stored(house, answer)
    url = f"{PUBLIC_URL}{PATH}/{job.id}"
    shown = answer.json()
    assert {name: shown[name] for name in ("object", "status", "progress", "seconds", "size", "error")} == {
        "object": "video",
        "status": "queued",
        "progress": 0,
        "seconds": "8",
        "size": "1280x720",
        "error": None,
    }
    assert answer.headers["location"] == url
    assert answer.headers["openai-poll-after-ms"] == "10000"
    assert (job.state, job.face, job.provider) == (State.QUEUED, Face.OPENAI, "llmgateway")
    assert (job.request.model, job.request.prompt, job.request.duration) == ("veo", "a red kite", 8)
    assert (await client.get(url)).json() == shown


async def test_a_form_and_json_ask_for_the_same(house: House, client: httpx.AsyncClient) -> None:
    more = {"audio": True, "n": 1, "metadata": {"order": "A-17"}, "style": {"tags": ["a", "b"]}}
    form = {
        **GOOD,
        "audio": "true",
        "n": "1",
        "metadata[order]": "A-17",
        "style[tags][]": ["a", "b"],
    }
    plain = await stored(house, await client.post(PATH, json={**GOOD, **more}))
    posted = await stored(house, await client.post(PATH, data=form, files={"input_reference": ("a.png", PNG)}))
    wrapped = await stored(
        house, await client.post(PATH, data=form, files={"input_reference[image_url]": ("a.png", PNG)})
    )
    assert plain.request.provider_options == {"style": {"tags": ["a", "b"]}}
    assert plain.metadata == posted.metadata == {"order": "A-17"}
    assert posted.request.references == wrapped.request.references == (Reference("image", DATA),)
    assert {**posted.request.fields(), "references": []} == {**plain.request.fields(), "references": []}


async def test_large_media_reach_the_provider_as_they_were_sent(house: House, client: httpx.AsyncClient) -> None:
    large = PNG + bytes(3_000_000)
    answer = await client.post(PATH, data=GOOD, files={"input_reference": ("a.png", large)})
    job = await stored(house, answer)
    assert len(job.request.references[0].url) < 100
    [reference] = (await house.store.request(job)).references
    assert reference.url.startswith(DATA[:30])
    assert len(reference.url) > 4_000_000


async def test_every_mistake_is_told_at_once_in_the_names_of_this_dialect(
    house: House, client: httpx.AsyncClient
) -> None:
    body = {
        "seconds": 0,
        "seed": 7,
        "last_frame": "https://example.com/cat.png",
        "callback_url": "https://10.0.0.1/hooks",
        "callback_secret": "s",
        "duration": 8,
        "provider_options": {"image": "x", "callback_url": "y"},
    }
    found = problems(await client.post(PATH, json=body))
    assert found == {
        "prompt": "is required, and must be a text of 1 to 20,000 characters",
        "seconds": 'must be whole seconds from 1 to 3600, for example 8 or "8"',
        "duration": "is called seconds here",
        "callback_url": "must have a host on the public internet; the operator can allow a private one in "
        "REELKEEPER_ALLOWED_PRIVATE_HOSTS",
        "seed": "LLM Gateway takes no seed; leave it out",
        "last_frame": "LLM Gateway needs an image with it",
        "provider_options.image": "write image instead",
        "provider_options.callback_url": "the service sets this itself",
    }
    assert await house.count("jobs") == 0


async def test_what_a_form_cannot_mean_is_told_with_all_else(house: House, client: httpx.AsyncClient) -> None:
    form = {"prompt": "x", "prompt[a]": "y", "seconds": "soon", "metadata": "z"}
    found = problems(await client.post(PATH, data=form, files={"input_reference": ("a.png", b"<html>")}))
    assert set(found) == {"prompt", "seconds", "metadata", "input_reference"}
    assert "either one value or an object" in found["prompt"]
    assert await house.count("jobs") == 0


async def test_a_model_may_be_left_out_where_the_dialect_has_a_default(house: House, client: httpx.AsyncClient) -> None:
    plain = {"prompt": "x", "seconds": 4}
    job = await stored(house, await client.post(PATH, json=plain))
    assert (job.provider, job.model) == ("llmgateway", "veo-3.1-generate-preview")
    assert problems(await client.post(PATH, json={**plain, "provider": "openrouter"})) == {
        "model": "is required, and must be the name of a model of openrouter; GET /v1/models lists them"
    }


async def test_the_provider_is_named_by_the_body_or_by_a_header(house: House, client: httpx.AsyncClient) -> None:
    named = {"x-reelkeeper-provider": "openrouter"}
    for body, headers in (({"provider": "openrouter"}, {}), ({}, named), ({"provider": "openrouter"}, named)):
        answer = await client.post(PATH, json={**GOOD, **body}, headers=headers)
        assert (await stored(house, answer)).provider == "openrouter"
    assert problems(await client.post(PATH, json={**GOOD, "provider": "llmgateway"}, headers=named)) == {
        "provider": "is another one than x-reelkeeper-provider names; send one of them"
    }
    found = problems(await client.post(PATH, json={**GOOD, "provider": "runway", "seconds": 0}))
    assert set(found) == {"provider", "seconds"}


async def test_a_model_goes_to_the_provider_that_lists_it(house: House, client: httpx.AsyncClient) -> None:
    await house.catalogue.replace("openrouter", [Model("veo", "openrouter", "Veo")])
    await house.catalogue.replace("llmgateway", [Model("kling", "llmgateway", "Kling")])
    assert (await stored(house, await client.post(PATH, json=GOOD))).provider == "openrouter"
    assert (await stored(house, await client.post(PATH, json={**GOOD, "model": "kling"}))).provider == "llmgateway"


async def test_where_to_call_back_is_kept_with_the_secret_sealed(house: House, client: httpx.AsyncClient) -> None:
    secret = "whsec_ käse 🧀"
    body = {**GOOD, "callback_url": "http://backend.internal:8080/hooks", "callback_secret": secret}
    answer = await client.post(PATH, json={**body, "on_unknown": "resubmit"})
    job = await stored(house, answer)
    assert (job.notify_url, job.on_unknown) == ("http://backend.internal:8080/hooks", OnUnknown.RESUBMIT)
    assert job.notify_secret is not None
    assert secret not in job.notify_secret
    assert house.vault.unseal(job.notify_secret, "acme") == secret
    assert "whsec_" not in answer.text
    assert "whsec_" not in json.dumps([call.kwargs for call in house.logged.calls])


async def test_nobody_without_a_key_has_a_body_read(house: House) -> None:
    async with house.client(key="") as stranger:
        answer = await stranger.post(PATH, data=GOOD, files={"input_reference": ("a.png", PNG)})
    assert code(answer) == (401, "unauthorized")
    assert answer.json()["error"]["type"] == "authentication_error"


@pytest.mark.parametrize(
    ("content_type", "body", "status", "refused"),
    [
        ("text/plain", b"{}", 415, "unsupported_media_type"),
        ("application/x-www-form-urlencoded", b"prompt=x", 415, "unsupported_media_type"),
        ("application/json", b"{", 400, "invalid_json"),
        ("application/json", b'{"prompt": "x", "prompt": "y"}', 400, "invalid_json"),
        ("multipart/form-data; boundary=b", b"{}", 400, "invalid_form"),
        ("application/json", b" " * 10_485_761, 413, "body_too_large"),
        ("multipart/form-data; boundary=b", b"-" * 10_485_761, 413, "body_too_large"),
    ],
)
async def test_a_body_that_cannot_be_read_is_refused(
    house: House, client: httpx.AsyncClient, content_type: str, body: bytes, status: int, refused: str
) -> None:
    answer = await client.post(PATH, content=body, headers={"content-type": content_type})
    assert code(answer) == (status, refused)
    assert await house.count("jobs") == 0


async def test_a_form_that_stops_is_not_waited_for(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai, "BODY_SECONDS", 0.05)
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {house.key}\r\nContent-Length: 1000\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"
    )
    async with serving(house.app()) as port, connected(port) as (reader, writer):
        writer.write(head.encode())
        answer = (await reader.read()).decode()  # until it is closed
    assert answer.startswith("HTTP/1.1 408 ")
    assert "body_too_slow" in answer


# The same call made again


async def test_a_form_sent_again_is_the_same_call_though_its_boundary_differs(client: httpx.AsyncClient) -> None:
    async def post(picture: bytes, key: str = "k-1") -> httpx.Response:
        headers = {"idempotency-key": key}
        return await client.post(PATH, data=GOOD, files={"input_reference": ("a.png", picture)}, headers=headers)

    large = PNG + bytes(100_000)
    first, second = await post(large), await post(large)
    assert first.request.headers["content-type"] != second.request.headers["content-type"]
    assert second.json() == first.json()
    assert second.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    other = await post(large + b"!")
    assert code(other) == (409, "idempotency_key_reused")
    assert other.headers["x-should-retry"] == "false"
    assert (await post(large, "k-2")).json()["id"] != first.json()["id"]


async def test_another_provider_is_another_call(client: httpx.AsyncClient) -> None:
    key = {"idempotency-key": "k-1"}
    assert (await client.post(PATH, json=GOOD, headers=key)).status_code == 202
    other = await client.post(PATH, json=GOOD, headers={**key, "x-reelkeeper-provider": "openrouter"})
    assert code(other) == (409, "idempotency_key_reused")


async def test_a_key_belongs_to_one_face(client: httpx.AsyncClient) -> None:
    key = {"idempotency-key": "k-1"}
    made = await client.post(PATH, json=GOOD, headers=key)
    native = await client.post("/v1/jobs", json={"model": "m", "prompt": "x"}, headers=key)
    assert (made.status_code, native.status_code) == (202, 202)
    assert made.json()["id"] != native.json()["id"]


async def test_a_marked_retry_is_the_job_that_it_repeats(house: House, client: httpx.AsyncClient) -> None:
    first = await client.post(PATH, data=GOOD, files={"input_reference": ("a.png", PNG)})
    retried = await client.post(
        PATH, data=GOOD, files={"input_reference": ("a.png", PNG)}, headers={"x-stainless-retry-count": "1"}
    )
    unmarked = await client.post(PATH, data=GOOD, files={"input_reference": ("a.png", PNG)})
    assert retried.json()["id"] == first.json()["id"] != unmarked.json()["id"]
    assert retried.headers["idempotency-replayed"] == "true"
    assert await house.count("jobs") == 2
