"""What providers listed is kept until they list anew."""

from __future__ import annotations

import pytest

from service.model import Model
from service.store import Catalogue
from tests.store.world import World

FULL = Model(
    id="google/veo-3.1",
    provider="alpha",
    name='Veo "3.1" \U0001f3ac \x00',
    description="makes films",
    created=1_767_225_600,
    sizes=("1280x720", "720x1280"),
    resolutions=(),
    aspect_ratios=("16:9",),
    durations=(4, 6, 8),
    generate_audio=False,
    entry={"id": "google/veo-3.1", "deep": [{"a": None, "b": 1.5}], "ünïcode": "\U0001f98a"},
)


def model(model_id: str, provider: str = "alpha") -> Model:
    return Model(id=model_id, provider=provider, name=model_id)


@pytest.fixture
def catalogue(world: World) -> Catalogue:
    return Catalogue(world.database)


async def test_a_model_reads_as_it_was_listed(catalogue: Catalogue) -> None:
    await catalogue.replace("alpha", [FULL, model("bare")])
    assert await catalogue.models() == [model("bare"), FULL]


async def test_nothing_was_listed_at_first(catalogue: Catalogue) -> None:
    assert await catalogue.models() == []
    assert await catalogue.providers_of("m") == []


async def test_a_new_list_takes_the_place_of_that_providers_old_one_alone(catalogue: Catalogue) -> None:
    await catalogue.replace("alpha", [model("a"), model("b")])
    await catalogue.replace("beta", [model("b", "beta"), model("c", "beta")])
    await catalogue.replace("alpha", [model("b"), model("d")])
    assert [(each.id, each.provider) for each in await catalogue.models()] == [
        ("b", "alpha"),
        ("b", "beta"),
        ("c", "beta"),
        ("d", "alpha"),
    ]
    await catalogue.replace("alpha", [])
    assert [each.id for each in await catalogue.models()] == ["b", "c"]


async def test_a_model_is_found_at_every_provider_that_lists_it(catalogue: Catalogue) -> None:
    await catalogue.replace("beta", [model("shared", "beta")])
    await catalogue.replace("alpha", [model("shared"), model("own")])
    assert await catalogue.providers_of("shared") == ["alpha", "beta"]
    assert await catalogue.providers_of("own") == ["alpha"]
    assert await catalogue.providers_of("Shared") == []


async def test_whether_a_provider_lists_anything_is_known_of_each(catalogue: Catalogue) -> None:
    assert not await catalogue.lists("alpha")
    await catalogue.replace("alpha", [model("a"), model("b")])
    assert await catalogue.lists("alpha")
    assert not await catalogue.lists("beta")
    await catalogue.replace("alpha", [])
    assert not await catalogue.lists("alpha")


async def test_a_model_that_is_listed_twice_is_kept_once(catalogue: Catalogue) -> None:
    await catalogue.replace("alpha", [model("a"), model("a"), model("b")])
    assert [each.id for each in await catalogue.models()] == ["a", "b"]
