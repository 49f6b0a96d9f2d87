"""What each face says can be asked for, as unmodified clients read it, and where a request goes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
import openai
import pytest
import structlog
from openrouter import OpenRouter
from openrouter.components import VideoModelsListResponse
from openrouter.errors import OpenRouterDefaultError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route

from service.ids import Ids
from service.model import Model
from service.observer import Observers
from service.web.callers import Callers
from service.web.gate import Gate
from service.web.models import Models, openai_form, openrouter_form
from service.web.refusals import RefusalError
from service.web.routing import Routing
from tests.web.house import House, serving

BOTH = ("openrouter", "llmgateway")
VEO = {
    "id": "google/veo-3.1",
    "canonical_slug": "google/veo-3.1-20260101",
    "hugging_face_id": None,
    "name": "Google: Veo 3.1",
    "description": "Ein Film",
    "created": 1_767_225_600,
    "supported_resolutions": ["720p", "1080p"],
    "supported_aspect_ratios": ["16:9"],
    "supported_sizes": ["1280x720"],
    "supported_durations": [4, 6, 8],
    "supported_frame_images": ["first_frame"],
    "generate_audio": True,
    "seed": None,
    "upscale_factor": {"min": 1, "max": 2.5},
    "creativity": [1, 2],
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
    "top_provider": {"is_moderated": True},
    "providers": [{"providerId": "a", "externalId": "s", "supportedVideoSizes": ["1280x720"]}],
    "pricing": {"prompt": "0", "completion": "0", "per_second": {"720p": "0.1"}},
    "json_output": False,
    "structured_outputs": False,
}
REQUIRED = {  # of OpenRouter's VideoModel; those in the second group may be null
    "id", "canonical_slug", "name", "created", "allowed_passthrough_parameters",
    "supported_resolutions", "supported_aspect_ratios", "supported_sizes", "supported_durations",
    "supported_frame_images", "generate_audio", "seed", "upscale_factor", "creativity",
}  # fmt: skip
GATEWAYS = {  # what LLM Gateway's schema requires
    "id", "name", "family", "architecture", "top_provider", "providers", "pricing", "json_output", "structured_outputs",
}  # fmt: skip


def veo(**fields: object) -> Model:
    entry = VEO | fields
    return Model(
        id=str(entry["id"]),
        provider="openrouter",
        name="Google: Veo 3.1",
        description="Ein Film",
        created=1_767_225_600,
        sizes=("1280x720",),
        durations=(4, 6, 8),
        generate_audio=True,
        entry=entry,
    )


def seedance(model_id: str = "seedance-2-0") -> Model:
    return Model(
        id=model_id,
        provider="llmgateway",
        name="Seedance 2.0",
        created=1_767_225_600,
        sizes=("1280x720",),
        resolutions=("720p",),
        aspect_ratios=("16:9",),
        entry=SEEDANCE | {"id": model_id},
    )


def bare(model_id: str, provider: str) -> Model:
    return Model(id=model_id, provider=provider, name=model_id, entry={"id": model_id})


def app_of(house: House, providers: Sequence[str] = BOTH) -> Starlette:
    models = Models(house.catalogue, Callers(house.keys, house.store), providers)
    log = structlog.wrap_logger(house.logged, processors=[])
    return Starlette(
        routes=[
            Route("/api/v1/videos/models", models.openrouter, methods=["GET"]),
            Route("/v1/models", models.openai, methods=["GET"]),
            Route("/v1/models/{id:path}", models.openai_one, methods=["GET"]),
            Route("/v1/videos/models", models.openai, methods=["GET"]),
        ],
        middleware=[Middleware(Gate, log=log, ids=Ids(house.clock), clock=house.clock, observer=Observers())],
    )


@pytest.fixture
async def client(house: House) -> AsyncIterator[httpx.AsyncClient]:
    async with house.client(app_of(house)) as client:
        yield client


async def filled(house: House) -> None:
    await house.catalogue.replace("openrouter", [veo(), veo(id="shared"), bare("odd/model:free", "openrouter")])
    await house.catalogue.replace("llmgateway", [seedance(), seedance("shared"), bare("plain", "llmgateway")])


async def data(client: httpx.AsyncClient, path: str) -> dict[str, dict[str, Any]]:
    answer = await client.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    listed = answer.json()["data"]
    found = {entry["id"]: entry for entry in listed}
    assert len(found) == len(listed)
    return found


# Unmodified clients


async def test_the_openai_package_lists_and_retrieves_models(house: House) -> None:
    await filled(house)

    def sync(port: int) -> list[str]:
        with openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=house.key) as client:
            listed = list(client.models.list())
            assert {model.object for model in listed} == {"model"}
            assert all(model.owned_by for model in listed)
            assert all(model.created >= 0 for model in listed)
            assert [client.models.retrieve(model.id) for model in listed] == listed
            assert client.models.retrieve("google/veo-3.1").owned_by == "google"
            with pytest.raises(openai.NotFoundError) as missing:
                client.models.retrieve("google/veo-9")
            assert missing.value.code == "model_not_found"
            return [model.id for model in listed]

    async with serving(app_of(house)) as port:
        ids = await asyncio.to_thread(sync, port)
        async with openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=house.key) as client:
            assert [model.id async for model in client.models.list()] == ids
        async with openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="rk_wrong") as stranger:
            with pytest.raises(openai.AuthenticationError):
                await stranger.models.list()
    assert ids == ["google/veo-3.1", "odd/model:free", "plain", "seedance-2-0", "shared"]


async def test_the_openrouter_package_lists_models(house: House) -> None:
    await filled(house)

    def sync(url: str) -> list[str]:
        with OpenRouter(api_key=house.key, server_url=url) as client:
            listed = client.video_generation.list_videos_models().data
            found = {model.id: model for model in listed}
            assert found["google/veo-3.1"].pricing_skus == {"duration_seconds": "0.4"}
            assert found["seedance-2-0"].supported_resolutions == ["720p"]
            return [model.id for model in listed]

    async with serving(app_of(house)) as port:
        url = f"http://127.0.0.1:{port}/api/v1"
        ids = await asyncio.to_thread(sync, url)
        async with OpenRouter(api_key=house.key, server_url=url) as client:
            listed = await client.video_generation.list_videos_models_async()
            assert [model.id for model in listed.data] == ids
        async with OpenRouter(api_key="rk_wrong", server_url=url) as stranger:
            with pytest.raises(OpenRouterDefaultError) as refused:  # it knows no better one for a list
                await stranger.video_generation.list_videos_models_async()
            assert refused.value.status_code == 401
    assert ids == ["google/veo-3.1", "odd/model:free", "plain", "seedance-2-0", "shared"]


@pytest.mark.parametrize("key", sorted(set(VEO) - {"id", "name", "created", "added_next_year"}))
def test_no_value_in_an_entry_of_openrouters_breaks_the_list_for_its_package(key: str) -> None:
    for value in (None, 1, 1.5, True, "x", [], [None], [1.5], ["x", 2], {"a": 1}, {"min": "x"}, {"a": None}, {}):
        answer = json.dumps({"data": [openrouter_form(veo(**{key: value}))]})
        (model,) = VideoModelsListResponse.model_validate_json(answer).data
        assert model.id == "google/veo-3.1"


# OpenRouter's form


async def test_an_entry_of_openrouters_is_passed_on_as_it_is(house: House, client: httpx.AsyncClient) -> None:
    await filled(house)
    assert (await data(client, "/api/v1/videos/models"))["google/veo-3.1"] == VEO


async def test_every_entry_has_every_key_that_is_required_and_nulls_in_no_optional_one(
    house: House, client: httpx.AsyncClient
) -> None:
    await filled(house)
    found = await data(client, "/api/v1/videos/models")
    assert set(found) == {"google/veo-3.1", "shared", "odd/model:free", "seedance-2-0", "plain"}
    for model in found.values():
        assert set(model) >= REQUIRED
        assert None not in (model[key] for key in ("id", "canonical_slug", "name", "created"))
        assert isinstance(model["allowed_passthrough_parameters"], list)
        assert model.get("description", "") is not None
    assert found["plain"].keys() == REQUIRED


def test_another_providers_model_says_what_is_known_of_it() -> None:
    assert openrouter_form(seedance()) == dict.fromkeys(REQUIRED) | {
        "id": "seedance-2-0",
        "canonical_slug": "seedance-2-0",
        "name": "Seedance 2.0",
        "created": 1_767_225_600,
        "supported_resolutions": ["720p"],
        "supported_aspect_ratios": ["16:9"],
        "supported_sizes": ["1280x720"],
        "allowed_passthrough_parameters": [],
    }


def test_prices_are_texts() -> None:
    priced = openrouter_form(veo(pricing_skus={"a": 0.4, "b": "1", "c": 2, "d": None, "e": True, "f": {}}))
    assert priced["pricing_skus"] == {"a": "0.4", "b": "1", "c": "2"}
    assert "pricing_skus" not in openrouter_form(veo(pricing_skus=["0.4"]))
    assert openrouter_form(veo(pricing_skus=None))["pricing_skus"] is None


def test_an_optional_value_that_is_none_is_left_out_where_it_may_not_be_null() -> None:
    assert "description" not in openrouter_form(veo(description=None))
    assert "description" not in openrouter_form(veo(description={"en": "x"}))
    assert "hugging_face_id" not in openrouter_form(veo(hugging_face_id=7))


# OpenAI's form


async def test_an_entry_of_llm_gateways_keeps_its_own_keys(house: House, client: httpx.AsyncClient) -> None:
    await filled(house)
    found = await data(client, "/v1/models")
    assert found["seedance-2-0"] == SEEDANCE | {"object": "model", "owned_by": "bytedance"}
    assert (await client.get("/v1/models")).json()["object"] == "list"


async def test_another_providers_model_has_every_key_that_llm_gateways_clients_want(
    house: House, client: httpx.AsyncClient
) -> None:
    await filled(house)
    found = await data(client, "/v1/models")
    model = found["google/veo-3.1"]
    assert set(model) >= GATEWAYS
    assert (model["object"], model["owned_by"], model["family"]) == ("model", "google", "google")
    assert model["architecture"]["output_modalities"] == ["video"]
    assert model["per_request_limits"] == {"max_video_duration_seconds": "8"}
    assert (
        model["providers"][0].items()
        >= {
            "providerId": "openrouter",
            "externalId": "google/veo-3.1",
            "supportedVideoSizes": ["1280x720"],
            "supportsVideoAudio": True,
        }.items()
    )
    assert set(found["odd/model:free"]) >= GATEWAYS
    assert (found["plain"]["owned_by"], found["plain"]["created"]) == ("llmgateway", 0)
    assert openai_form(Model(id="x", provider="llmgateway", name="x", entry={"family": 7}))["owned_by"] == "llmgateway"


async def test_the_list_of_videos_models_is_the_same(house: House, client: httpx.AsyncClient) -> None:
    await filled(house)
    assert (await client.get("/v1/videos/models")).content == (await client.get("/v1/models")).content


async def test_a_model_is_found_by_an_id_with_slashes_however_they_are_written(
    house: House, client: httpx.AsyncClient
) -> None:
    await filled(house)
    listed = await data(client, "/v1/models")
    for path in ("google/veo-3.1", "google%2Fveo-3.1"):
        assert (await client.get(f"/v1/models/{path}")).json() == listed["google/veo-3.1"]
    assert (await client.get("/v1/models/odd/model:free")).json()["id"] == "odd/model:free"


@pytest.mark.parametrize("path", ["google/veo-9", "google", "", "google/veo-3.1/", "%F0%9F%A6%8A", "x" * 500])
async def test_a_model_that_nobody_lists_is_404(house: House, client: httpx.AsyncClient, path: str) -> None:
    await filled(house)
    answer = await client.get(f"/v1/models/{path}")
    assert (answer.status_code, answer.headers["x-should-retry"]) == (404, "false")
    error = answer.json()["error"]
    assert (error["code"], error["type"], error["param"]) == ("model_not_found", "invalid_request_error", None)
    assert len(error["message"]) < 300


# Both


async def test_a_model_of_two_providers_is_shown_as_the_dialects_own_provider_has_it(
    house: House, client: httpx.AsyncClient
) -> None:
    await filled(house)
    assert (await data(client, "/api/v1/videos/models"))["shared"] == VEO | {"id": "shared"}
    assert (await data(client, "/v1/models"))["shared"]["family"] == "bytedance"
    assert (await client.get("/v1/models/shared")).json()["family"] == "bytedance"


async def test_models_of_a_provider_that_was_removed_from_the_settings_are_not_offered(house: House) -> None:
    await filled(house)
    async with house.client(app_of(house, ["openrouter"])) as client:
        for path in ("/api/v1/videos/models", "/v1/models"):
            assert set(await data(client, path)) == {"google/veo-3.1", "odd/model:free", "shared"}
        assert (await client.get("/v1/models/seedance-2-0")).status_code == 404
        assert (await client.get("/v1/models/shared")).json()["owned_by"] == "shared"


async def test_before_anything_was_listed_the_lists_are_empty(client: httpx.AsyncClient) -> None:
    assert (await client.get("/api/v1/videos/models")).json() == {"data": []}
    assert (await client.get("/v1/models")).json() == {"object": "list", "data": []}


@pytest.mark.parametrize("path", ["/api/v1/videos/models", "/v1/models", "/v1/models/shared", "/v1/videos/models"])
async def test_a_key_is_needed(house: House, path: str) -> None:
    await filled(house)
    async with house.client(app_of(house), key="") as stranger:
        answer = await stranger.get(path)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] in (401, "unauthorized")


@pytest.mark.parametrize("path", ["/api/v1/videos/models", "/v1/models", "/v1/models/shared"])
async def test_who_has_the_list_already_is_sent_nothing_until_it_changes(
    house: House, client: httpx.AsyncClient, path: str
) -> None:
    await filled(house)
    first = await client.get(path)
    assert first.headers["cache-control"] == "private, max-age=60"
    condition = {"if-none-match": first.headers["etag"]}
    again = await client.get(path, headers=condition)
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    await house.catalogue.replace("openrouter", [veo(id="shared", seed=True)])
    await house.catalogue.replace("llmgateway", [])
    changed = await client.get(path, headers=condition)
    assert changed.status_code == 200
    assert changed.content != first.content


async def test_the_head_of_a_list_has_no_body(house: House, client: httpx.AsyncClient) -> None:
    await filled(house)
    head = await client.head("/v1/models")
    assert (head.status_code, head.headers["etag"]) == (200, (await client.get("/v1/models")).headers["etag"])


# Where a request goes


@pytest.fixture
async def routing(house: House) -> Routing:
    await filled(house)
    return Routing(house.catalogue, BOTH, "openrouter")


@pytest.mark.parametrize(
    ("model", "own", "goes_to"),
    [
        ("shared", "openrouter", "openrouter"),
        ("shared", "llmgateway", "llmgateway"),
        ("google/veo-3.1", "llmgateway", "openrouter"),
        ("seedance-2-0", "openrouter", "llmgateway"),
        ("nobody/lists-it", "llmgateway", "llmgateway"),
        ("nobody/lists-it", "openrouter", "openrouter"),
        ("nobody/lists-it", "not-configured", "openrouter"),
        ("seedance-2-0", "not-configured", "llmgateway"),
        ("shared", "not-configured", "openrouter"),
    ],
)
async def test_a_request_goes_to_the_dialects_provider_unless_only_another_offers_the_model(
    routing: Routing, model: str, own: str, goes_to: str
) -> None:
    assert await routing.provider_for(model, wanted=None, own=own) == goes_to


async def test_the_default_provider_is_taken_before_others_that_offer_the_model(house: House) -> None:
    await filled(house)
    routing = Routing(house.catalogue, BOTH, "llmgateway")
    assert await routing.provider_for("shared", wanted=None, own="not-configured") == "llmgateway"


async def test_a_request_goes_where_its_caller_wants_it_listed_or_not(routing: Routing) -> None:
    assert await routing.provider_for("google/veo-3.1", wanted="llmgateway", own="openrouter") == "llmgateway"


@pytest.mark.parametrize("wanted", ["openruoter", "", "x" * 500, "\ud800"])
async def test_a_provider_that_is_not_configured_is_refused(routing: Routing, wanted: str) -> None:
    with pytest.raises(RefusalError) as refused:
        await routing.provider_for("shared", wanted=wanted, own="openrouter")
    assert (refused.value.status, refused.value.code) == (400, "invalid_request")
    assert refused.value.problems[0].field == "provider"
    assert "openrouter" in refused.value.message
    assert refused.value.response("/v1/videos").body


async def test_a_provider_whose_list_nobody_has_seen_yet_keeps_what_is_addressed_to_it(house: House) -> None:
    routing = Routing(house.catalogue, BOTH, "openrouter")
    assert await routing.provider_for("shared", wanted=None, own="llmgateway") == "llmgateway"
    assert await routing.provider_for("shared", wanted=None, own="not-configured") == "openrouter"
    await house.catalogue.replace("openrouter", [veo(id="shared")])
    assert await routing.provider_for("shared", wanted=None, own="llmgateway") == "llmgateway"
    await house.catalogue.replace("llmgateway", [seedance()])
    assert await routing.provider_for("shared", wanted=None, own="llmgateway") == "openrouter"


async def test_where_a_request_goes_is_found_out_without_reading_the_catalogue(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(house)

    async def models() -> list[Model]:
        raise AssertionError("a create must not read hundreds of models")

    monkeypatch.setattr(house.catalogue, "models", models)
    routing = Routing(house.catalogue, BOTH, "openrouter")
    assert await routing.provider_for("seedance-2-0", wanted=None, own="openrouter") == "llmgateway"


async def test_what_a_removed_provider_offered_attracts_nothing(house: House) -> None:
    await filled(house)
    routing = Routing(house.catalogue, ["openrouter"], "openrouter")
    assert await routing.provider_for("seedance-2-0", wanted=None, own="openrouter") == "openrouter"
    assert await routing.provider_for("seedance-2-0", wanted=None, own="llmgateway") == "openrouter"
