"""Long texts of a request: beside the job, not in it, for as long as somebody may need them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from service.model import Job, Reference, Status, VideoRequest
from service.store import Created, NewJob
from service.store.inputs import put_back, taken_out
from tests.store.world import GONE, REFUSED, World, artifact, held, report, sure

PICTURE = "data:image/png;base64," + "A" * 5_000
ABBREVIATED = "data:image/png;base64,… (5,022 characters)"
WORDS = "no fog, no rain, " * 100
FOX = NewJob("acme", "alpha", VideoRequest(model="m", prompt="a fox", first_frame=PICTURE))


async def mirroring(world: World) -> Job:
    """Return a job with a picture whose video is being copied."""
    job = await world.create(FOX)
    await world.claims.claim_queued("alpha", 1)
    sure(await world.submitted(job, "theirs"))
    await world.apply(job, report(Status.COMPLETED, "theirs"))
    return held(job, await world.claims.claim_mirrors("alpha", 1))


async def kept(world: World) -> int:
    return len(world.sql("SELECT * FROM inputs"))


async def test_long_texts_are_kept_beside_the_request_and_given_to_the_submission(world: World) -> None:
    request = VideoRequest(
        model="m",
        first_frame=PICTURE,
        last_frame="https://example.com/x.png",
        references=(Reference("image", "https://example.com/y.png"), Reference("image", PICTURE)),
        provider_options={"masks": [{"image": PICTURE, "weight": 0.5}], "negative_prompt": WORDS, "style": "noir"},
    )
    job = await world.create(replace(FOX, request=request))
    assert job.request == VideoRequest(
        model="m",
        first_frame=ABBREVIATED,
        last_frame="https://example.com/x.png",
        references=(Reference("image", "https://example.com/y.png"), Reference("image", ABBREVIATED)),
        provider_options={
            "masks": [{"image": ABBREVIATED, "weight": 0.5}],
            "negative_prompt": "no fog, no rain, no fog, no rain, no fog… (1,700 characters)",
            "style": "noir",
        },
    )
    assert await world.store.request(job) == request
    [claimed] = await world.claims.claim_queued("alpha", 1)
    assert claimed.request == request


@pytest.mark.parametrize(
    "options",
    [
        {"a.b": PICTURE, "a": {"b": PICTURE + "2", ".b": PICTURE + "3"}, "a.b[0]": PICTURE + "4"},
        {"a": [PICTURE, [PICTURE + "2"], {"0": PICTURE + "3"}], "a[0]": PICTURE + "4", "a.0": {"": PICTURE + "5"}},
        {"z": PICTURE, "ä": {"Z": None, "\U0001f98a": PICTURE + "2", "\uffff": PICTURE + "3"}, "0": True, "k": 1.5},
        {"n" * 5_000: {"m" * 5_000: PICTURE}, "empty": [[], {}]},
        {"first_frame": PICTURE + "2", "references[0]": PICTURE + "3", "provider_options": PICTURE + "4"},
    ],
)
def test_every_text_comes_back_to_its_place_whatever_the_fields_are_called(options: dict[str, Any]) -> None:
    request = VideoRequest(
        "m", first_frame=PICTURE, references=(Reference("image", PICTURE),), provider_options=options
    )
    light, inputs = taken_out(request)
    assert "AAA" not in light.to_json()
    assert all(len(field) < 100 for field in inputs)
    assert put_back(VideoRequest.from_json(light.to_json()), inputs) == request


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a" * 1_000, "a" * 1_000),
        ("a" * 1_001, "a" * 40 + "… (1,001 characters)"),
        ("DATA:image/png," + "a" * 986, "DATA:image/png,… (1,001 characters)"),
        ("data:" + "a" * 2_000 + ",b", "data:" + "a" * 35 + "… (2,007 characters)"),
        ("https://example.com/" + "a" * 2_000, "https://example.com/" + "a" * 20 + "… (2,020 characters)"),
    ],
)
def test_what_is_longer_than_a_thousand_characters_is_abbreviated_once(text: str, shown: str) -> None:
    light, inputs = taken_out(VideoRequest("m", prompt=text, first_frame=text, provider_options={"x": text}))
    assert (light.first_frame, light.provider_options) == (shown, {"x": shown})
    assert light.prompt == text
    assert len(inputs) == (2 if shown != text else 0)
    assert taken_out(light) == (light, {})


async def test_a_job_made_again_asks_for_the_same(world: World) -> None:
    job = await world.create(replace(FOX, notify_url="https://example.com/done"))
    [claimed] = await world.claims.claim_queued("alpha", 1)
    failed = sure(await world.claims.refused(claimed, REFUSED))
    creation = await world.store.retry(failed)
    assert isinstance(creation, Created)
    again = creation.job
    assert (again.retry_of, again.notify_url) == (job.id, job.notify_url)
    assert await world.store.request(again) == FOX.request


async def test_when_a_job_is_completed_nobody_needs_its_long_texts_any_more(world: World) -> None:
    job, other = await mirroring(world), await world.create(FOX)
    assert await kept(world) == 2
    await world.claims.keep_artifact(job, artifact())
    assert await world.claims.mirrored(job) is not None
    assert [row["job_id"] for row in world.sql("SELECT job_id FROM inputs")] == [other.id]
    assert (await world.now(job)).request == replace(FOX.request, first_frame=ABBREVIATED)


@pytest.mark.parametrize("end", ["failed", "cancelled", "unavailable"])
async def test_a_job_that_ended_without_its_video_keeps_what_it_can_be_asked_for_again_with(
    world: World, end: str
) -> None:
    match end:
        case "unavailable":
            await world.claims.give_up_mirror(await mirroring(world), GONE)
        case "cancelled":
            await world.store.cancel((await world.create(FOX)).id)
        case _:
            job = await world.create(FOX)
            await world.claims.refused(held(job, await world.claims.claim_queued("alpha", 1)), REFUSED)
    assert await kept(world) == 1
