"""What providers say they offer, on a real socket, and what is made of lists that nobody would expect."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from service.clock import ManualClock
from service.model import Model
from service.providers import ListsModels, Unanswered
from service.providers.llmgateway import LLMGateway
from service.providers.openrouter import OpenRouter
from service.sandbox import BEHAVIOURS, Sandbox, serving
from service.vault import Vault
from tests.providers.loopback import Loopback, Misbehaviour

KEY = "sk-or-v1-canary-of-an-account"
CLOCK = ManualClock(1_795_248_512_000)
VEO = {
    "id": "google/veo-3.1",
    "canonical_slug": "google/veo-3.1-20260101",
    "name": "Google: Veo 3.1",
    "description": "Ein Film 🎬",
    "created": 1_767_225_600,
    "supported_resolutions": ["720p", "1080p"],
    "supported_aspect_ratios": ["16:9", "9:16"],
    "supported_sizes": ["1280x720"],
    "supported_durations": [4, 6, 8],
    "supported_frame_images": ["first_frame"],
    "generate_audio": True,
    "seed": None,
    "upscale_factor": None,
    "creativity": None,
    "pricing_skus": {"duration_seconds": "0.4"},
    "allowed_passthrough_parameters": ["personGeneration"],
    "added_next_year": {"deep": [1.5, None]},
}
SEEDANCE = {
    "id": "seedance-2-0",
    "name": "Seedance 2.0",
    "created": 1_767_225_600,
    "family": "bytedance",
    "architecture": {"input_modalities": ["text", "image"], "output_modalities": ["video"]},
    "providers": [
        {"providerId": "a", "supportedVideoSizes": ["1280x720", "1080x1920"], "supportsVideoAudio": False},
        {"providerId": "b", "supportedVideoSizes": ["1280x720", "3840x2160"], "supportsVideoAudio": True},
    ],
    "pricing": {"prompt": "0", "completion": "0", "per_second": {"720p": "0.1"}},
}
PROVIDERS = ("openrouter", "llmgateway")


def adapter(name: str, client: httpx.AsyncClient, url: str) -> OpenRouter | LLMGateway:
    if name == "openrouter":
        return OpenRouter(client, base_url=url, api_key=KEY, webhook_secrets=[], clock=CLOCK)
    return LLMGateway(client, base_url=url, api_key=KEY, vault=Vault([b"n" * 32]), clock=CLOCK)


def entry(name: str, /, **fields: object) -> dict[str, Any]:
    return (VEO if name == "openrouter" else SEEDANCE) | fields


async def listed(name: str, client: httpx.AsyncClient, server: Loopback, *entries: object) -> list[Model]:
    server.will_answer(200, {"data": list(entries)})
    found = await adapter(name, client, server.url).models()
    assert not isinstance(found, Unanswered)
    return list(found)


@pytest.fixture
async def sandbox() -> AsyncIterator[str]:
    async with httpx.AsyncClient(trust_env=False) as unused:
        made = Sandbox(clock=CLOCK, chance=random.Random(1), webhook_secret="", client=unused)  # noqa: S311 - repeatable
        async with serving(made) as url:
            yield url


# What is asked and read


@pytest.mark.parametrize(("name", "path"), [("openrouter", "/v1/videos/models"), ("llmgateway", "/v1/models")])
async def test_the_list_is_asked_for_once_with_the_key(
    client: httpx.AsyncClient, server: Loopback, name: str, path: str
) -> None:
    await listed(name, client, server)
    (asked,) = server.asked
    assert (asked.method, asked.target, asked.body) == ("GET", path, b"")
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert asked.headers["accept-encoding"] == "identity"


async def test_a_video_model_of_openrouter_is_read_and_kept_as_it_came(
    client: httpx.AsyncClient, server: Loopback
) -> None:
    assert await listed("openrouter", client, server, VEO) == [
        Model(
            id="google/veo-3.1",
            provider="openrouter",
            name="Google: Veo 3.1",
            description="Ein Film 🎬",
            created=1_767_225_600,
            sizes=("1280x720",),
            resolutions=("720p", "1080p"),
            aspect_ratios=("16:9", "9:16"),
            durations=(4, 6, 8),
            generate_audio=True,
            entry=VEO,
        )
    ]


async def test_a_video_model_of_llm_gateway_can_what_any_provider_behind_it_can(
    client: httpx.AsyncClient, server: Loopback
) -> None:
    assert await listed("llmgateway", client, server, SEEDANCE) == [
        Model(
            id="seedance-2-0",
            provider="llmgateway",
            name="Seedance 2.0",
            created=1_767_225_600,
            sizes=("1280x720", "1080x1920", "3840x2160"),
            resolutions=("720p", "1080p", "4K"),
            aspect_ratios=("16:9", "9:16"),
            generate_audio=True,
            entry=SEEDANCE,
        )
    ]


async def test_llm_gateways_models_that_make_no_videos_are_left_out(
    client: httpx.AsyncClient, server: Loopback
) -> None:
    others = [
        entry("llmgateway", id=f"other-{index}", architecture=architecture)
        for index, architecture in enumerate(
            ({"output_modalities": ["text", "image"]}, {"output_modalities": "video"}, {}, None, ["video"])
        )
    ]
    both = entry("llmgateway", id="both", architecture={"output_modalities": ["text", "video"]})
    assert [model.id for model in await listed("llmgateway", client, server, *others, both)] == ["both"]


async def test_what_is_not_said_is_not_made_up(client: httpx.AsyncClient, server: Loopback) -> None:
    (veo,) = await listed("openrouter", client, server, {"id": "x/y"})
    assert veo == Model(id="x/y", provider="openrouter", name="x/y", entry={"id": "x/y"})
    bare = {"id": "x", "architecture": {"output_modalities": ["video"]}}
    (seedance,) = await listed("llmgateway", client, server, bare)
    assert seedance == Model(id="x", provider="llmgateway", name="x", entry=bare)


async def test_the_sandbox_is_understood_in_both_dialects(client: httpx.AsyncClient, sandbox: str) -> None:
    found = {}
    for name, base in (("openrouter", f"{sandbox}/api/v1"), ("llmgateway", f"{sandbox}/v1")):
        models = await adapter(name, client, base).models()
        assert not isinstance(models, Unanswered)
        found[name] = {model.id for model in models}
    assert found["openrouter"] == set(BEHAVIOURS)
    assert len(found["llmgateway"]) == len(BEHAVIOURS) + 13
    assert found["llmgateway"] > found["openrouter"] | {"veo-3.1-generate-preview"}


# What nobody would expect


@pytest.mark.parametrize("name", PROVIDERS)
@pytest.mark.parametrize(
    "strange",
    [
        None,
        "sandbox/ok",
        [],
        {},
        {"id": None},
        {"id": ""},
        {"id": "with space"},
        {"id": "line\nbreak"},
        {"id": "x" * 257},
        {"id": "ümlaut"},
        {"id": 7},
        {"id": "half", "name": "\ud800"},
        {"id": "huge", "description": "x" * 70_000},
        {"id": "deep", "more": [[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]},
    ],
    ids=repr,
)
async def test_a_strange_entry_is_left_out_and_the_others_stay(
    client: httpx.AsyncClient, server: Loopback, name: str, strange: object
) -> None:
    odd = entry(name) | strange if isinstance(strange, dict) and strange else strange
    assert [model.id for model in await listed(name, client, server, odd, entry(name, id="fine"))] == ["fine"]


@pytest.mark.parametrize("name", PROVIDERS)
@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999"])
async def test_a_number_that_json_cannot_say_is_not_passed_on(
    client: httpx.AsyncClient, server: Loopback, name: str, number: str
) -> None:
    odd = json.dumps(entry(name, id="odd"))[:-1] + f', "price": {number}}}'
    server.will_answer(200, f'{{"data": [{odd}, {json.dumps(entry(name))}]}}')
    models = await adapter(name, client, server.url).models()
    assert not isinstance(models, Unanswered)
    assert [model.id for model in models] == [entry(name)["id"]]


@pytest.mark.parametrize("name", PROVIDERS)
@pytest.mark.parametrize("value", [None, 1, -1, 10**30, 1.5, True, "x", [], [None, 1.5, {}, [], True, ""], {"a": {}}])
async def test_no_value_anywhere_keeps_a_model_from_being_read(
    client: httpx.AsyncClient, server: Loopback, name: str, value: object
) -> None:
    fields = dict.fromkeys((*VEO, *SEEDANCE, "architecture", "providers"), value) | {"id": "x"}
    fields["architecture"] = {"output_modalities": ["video", value], "input_modalities": value}
    inner = {"supportedVideoSizes": value, "supportsVideoAudio": value}
    for providers in (value, [inner, value]):
        (model,) = await listed(name, client, server, fields | {"providers": providers})
        for texts in (model.sizes, model.resolutions, model.aspect_ratios):
            assert all(map(str.isprintable, texts or ()))
            assert "" not in (texts or ())
        assert all(str(duration).isdigit() and duration > 0 for duration in model.durations or ())
        assert model.generate_audio in (None, True)
        assert model.name in ("x", value)
        assert model.created is None or model.created == 1


@pytest.mark.parametrize("name", PROVIDERS)
async def test_of_models_with_one_name_the_first_is_kept(
    client: httpx.AsyncClient, server: Loopback, name: str
) -> None:
    models = await listed(name, client, server, entry(name, name="first"), entry(name, name="second"))
    assert [model.name for model in models] == ["first"]


@pytest.mark.parametrize("name", PROVIDERS)
async def test_no_more_than_two_thousand_models_are_taken(
    client: httpx.AsyncClient, server: Loopback, name: str
) -> None:
    models = await listed(name, client, server, *(entry(name, id=f"m{index}") for index in range(2_100)))
    assert len(models) == 2_000


@pytest.mark.parametrize("name", PROVIDERS)
async def test_neither_our_key_nor_credentials_in_a_url_come_through(
    client: httpx.AsyncClient, server: Loopback, name: str
) -> None:
    told = entry(
        name,
        description=f"asked with {KEY}",
        links=["https://user:p@ss@host.example/a?b=c@d", "see http://token@10.0.0.1, mail@host.example"],
    )
    (model,) = await listed(name, client, server, told)
    assert KEY not in repr(model)
    assert model.description == "asked with [hidden]"
    assert model.entry["links"] == ["https://host.example/a?b=c@d", "see http://10.0.0.1, mail@host.example"]


@pytest.mark.parametrize("name", PROVIDERS)
async def test_a_sandboxs_key_that_is_a_word_spoils_no_names(
    client: httpx.AsyncClient, server: Loopback, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "KEY", "sandbox")
    (model,) = await listed(name, client, server, entry(name, id="sandbox/ok"))
    assert model.id == "sandbox/ok"


# No answer


@pytest.mark.parametrize("name", PROVIDERS)
@pytest.mark.parametrize(
    "body", ["", "<html>", "[]", "{}", '{"data":null}', '{"data":{}}', '{"models":[]}', "[" * 100_000, b"\xff"]
)
async def test_a_success_without_a_list_is_no_answer(
    client: httpx.AsyncClient, server: Loopback, name: str, body: str | bytes
) -> None:
    server.will_answer(200, body)
    assert await adapter(name, client, server.url).models() == Unanswered("HTTP 200 without a list of models")


@pytest.mark.parametrize("name", PROVIDERS)
@pytest.mark.parametrize("status", [204, 301, 401, 404, 500, 502])
async def test_any_other_status_is_no_answer(
    client: httpx.AsyncClient, server: Loopback, name: str, status: int
) -> None:
    server.will_answer(status, {"data": [VEO]}, {"location": "/v1/elsewhere"})
    assert await adapter(name, client, server.url).models() == Unanswered(f"HTTP {status}")
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("name", "headers"),
    [
        ("openrouter", {"retry-after": "7"}),
        ("llmgateway", {"retry-after": "7"}),
        ("llmgateway", {"x-ratelimit-reset": str(CLOCK.now() // 1000 + 7)}),
    ],
)
async def test_advice_on_when_to_come_back_is_passed_on(
    client: httpx.AsyncClient, server: Loopback, name: str, headers: dict[str, str]
) -> None:
    server.will_answer(429, {"error": {"code": 429, "message": "slow down"}}, headers)
    answer = await adapter(name, client, server.url).models()
    assert isinstance(answer, Unanswered)
    assert answer.retry_after_ms is not None
    assert 6_000 < answer.retry_after_ms <= 7_000


@pytest.mark.parametrize("name", PROVIDERS)
async def test_a_list_that_is_too_long_is_not_read(client: httpx.AsyncClient, server: Loopback, name: str) -> None:
    server.will_answer(200, b'{"data":[' + b" " * 9_000_000 + b"]}")
    assert await adapter(name, client, server.url).models() == Unanswered("no answer (AnswerTooLargeError)")


@pytest.mark.parametrize("name", PROVIDERS)
@pytest.mark.parametrize("misbehaviour", list(Misbehaviour))
async def test_a_broken_exchange_is_no_answer(
    client: httpx.AsyncClient, server: Loopback, name: str, misbehaviour: Misbehaviour
) -> None:
    server.answer = misbehaviour
    provider = adapter(name, client, server.url)
    provider.poll_seconds = 0.05 if misbehaviour is Misbehaviour.HANG else 10
    answer = await provider.models()
    assert isinstance(answer, Unanswered)
    assert answer.reason.startswith("no answer (")


def test_both_providers_have_this_ability() -> None:
    offline = httpx.AsyncClient(transport=httpx.MockTransport(lambda _: pytest.fail("nothing should be sent")))
    assert all(isinstance(adapter(name, offline, "http://a.test"), ListsModels) for name in PROVIDERS)
