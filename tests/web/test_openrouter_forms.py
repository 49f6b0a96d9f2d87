from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from service.model import Artifact, Billable, ErrorCode, Job, JobError, Problem, State, VideoRequest
from service.web.mistakes import read
from service.web.openrouter_forms import OpenRouterBody, OpenRouterForms, elsewhere, in_its_words, video_request
from tests.web.house import PUBLIC_URL, House

FORMS = OpenRouterForms(PUBLIC_URL)


@pytest.fixture
async def job(house: House) -> Job:
    return await house.queued()


# A job, as it is told


def test_a_new_job_has_exactly_what_openrouters_own_answer_has(job: Job) -> None:
    url = f"{PUBLIC_URL}/api/v1/videos/{job.id}"
    assert FORMS.job(job) == {"id": job.id, "polling_url": url, "status": "pending"}
    assert FORMS.url(job) == url


@pytest.mark.parametrize(
    ("state", "word"),
    [
        ("queued", "pending"),
        ("submitting", "pending"),
        ("running", "in_progress"),
        ("mirroring", "in_progress"),
        ("completed", "completed"),
        ("failed", "failed"),
        ("cancelled", "cancelled"),
        ("expired", "expired"),
    ],
)
def test_every_state_is_one_of_the_dialects_words(job: Job, state: str, word: str) -> None:
    assert FORMS.job(dataclasses.replace(job, state=State(state)))["status"] == word


def test_a_completed_job_has_our_own_address_for_each_video(job: Job) -> None:
    artifacts = tuple(Artifact(index, f"k{index}", 5, "ab" * 32, "video/mp4") for index in (0, 1))
    shown = FORMS.job(dataclasses.replace(job, state=State.COMPLETED, artifacts=artifacts, cost=0.25))
    url = f"{PUBLIC_URL}/api/v1/videos/{job.id}"
    assert shown == {
        "id": job.id,
        "polling_url": url,
        "status": "completed",
        "unsigned_urls": [f"{url}/content?index=0", f"{url}/content?index=1"],
        "usage": {"cost": 0.25},
    }


def test_a_video_that_cost_nothing_says_so(job: Job) -> None:
    assert FORMS.job(dataclasses.replace(job, cost=0.0))["usage"] == {"cost": 0.0}


@pytest.mark.parametrize("state", ["failed", "cancelled", "expired"])
def test_an_error_is_one_text(job: Job, state: str) -> None:
    error = JobError(ErrorCode.CONTENT_POLICY, "The content was refused.", provider_message="unsafe", retryable=False)
    shown = FORMS.job(dataclasses.replace(job, state=State(state), error=error))
    assert shown["error"] == "content_policy: The content was refused. The provider's words: unsafe"
    assert "unsigned_urls" not in shown


def test_an_error_of_ours_quotes_nobody(job: Job) -> None:
    error = JobError(ErrorCode.CANCELLED, "The caller cancelled it.", billable=Billable.NO)
    shown = FORMS.job(dataclasses.replace(job, state=State.CANCELLED, error=error))
    assert shown["error"] == "cancelled: The caller cancelled it."


@pytest.mark.parametrize("state", list(State))
def test_no_field_is_null(job: Job, state: State) -> None:
    assert None not in FORMS.job(dataclasses.replace(job, state=state)).values()


# A request, as it is read

EVERYTHING: dict[str, Any] = {
    "model": "google/veo-3.1",
    "prompt": "a red kite",
    "aspect_ratio": "16:9",
    "callback_url": "https://example.com/hooks",
    "creativity": 3,
    "duration": 8,
    "frame_images": [
        {"type": "image_url", "image_url": {"url": "https://example.com/z.png"}, "frame_type": "last_frame"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}, "frame_type": "first_frame"},
    ],
    "generate_audio": False,
    "input_references": [
        {"type": "image_url", "image_url": {"url": "https://example.com/b.png"}},
        {"type": "audio_url", "audio_url": {"url": "https://example.com/c.mp3"}},
        {"type": "video_url", "video_url": {"url": "https://example.com/d.mp4"}},
    ],
    "previous_job_id": "gen-vid-1",
    "provider": {"options": {"google-vertex": {"parameters": {"a": None}}, "llmgateway": {"watermark": False}}},
    "resolution": "1080p",
    "seed": 0,
    "session_id": "s",
    "size": "1920x1080",
    "trace": {"trace_id": "t", "mine": [1]},
    "upscale_factor": 2.5,
    "user": "u",
    "born_next_month": {"x": [None]},
}


def asked(body: dict[str, Any], provider: str = "openrouter") -> VideoRequest:
    wanted, problems = read(OpenRouterBody, body, {"model": "?"})
    assert problems == []
    return video_request(wanted, provider)


def mistakes(body: dict[str, Any]) -> dict[str, str]:
    _, problems = read(OpenRouterBody, {"model": "m", **body}, {"model": "?"})
    return {problem.field: problem.message for problem in problems}


def test_every_field_of_the_contract_reaches_the_provider() -> None:
    passed = ("creativity", "previous_job_id", "provider", "session_id", "trace", "upscale_factor", "user")
    assert json.loads(asked(EVERYTHING).to_json()) == {
        "model": "google/veo-3.1",
        "prompt": "a red kite",
        "duration": 8,
        "aspect_ratio": "16:9",
        "resolution": "1080p",
        "size": "1920x1080",
        "seed": 0,
        "generate_audio": False,
        "first_frame": "data:image/png;base64,AAAA",
        "last_frame": "https://example.com/z.png",
        "references": [
            {"type": "image", "url": "https://example.com/b.png"},
            {"type": "audio", "url": "https://example.com/c.mp3"},
            {"type": "video", "url": "https://example.com/d.mp4"},
        ],
        "provider_options": {name: EVERYTHING[name] for name in (*passed, "born_next_month")},
    }


def test_null_is_the_same_as_leaving_out() -> None:
    body = dict.fromkeys(EVERYTHING) | {"model": "m"}
    assert asked(body) == asked({"model": "m"}) == VideoRequest("m")


def test_another_provider_gets_its_own_options_and_nothing_for_openrouters_logs() -> None:
    made = asked(EVERYTHING, "llmgateway")
    assert made.provider_options == {
        "creativity": 3,
        "previous_job_id": "gen-vid-1",
        "upscale_factor": 2.5,
        "born_next_month": {"x": [None]},
        "watermark": False,
    }


@pytest.mark.parametrize("provider", [{}, {"options": None}, {"options": []}, {"options": {"llmgateway": 5}}])
def test_options_that_are_for_nobody_are_dropped_as_openrouter_drops_them(provider: dict[str, Any]) -> None:
    assert asked({"model": "m", "provider": provider}, "llmgateway").provider_options == {}


def test_what_only_openrouter_can_do_is_not_asked_of_others_in_vain() -> None:
    wanted, _ = read(OpenRouterBody, EVERYTHING, {"model": "?"})
    assert elsewhere(wanted, "openrouter") == []
    assert [each.field for each in elsewhere(wanted, "llmgateway")] == [
        "previous_job_id",
        "creativity",
        "upscale_factor",
    ]


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        ({"model": 5}, "model", "must be the provider's name of a model"),
        ({"duration": "8"}, "duration", "must be whole seconds from 1 to 3600, for example 5; a string was sent"),
        ({"duration": 0}, "duration", "must be whole seconds"),
        ({"seed": 1.5}, "seed", "must be a whole number"),
        ({"frame_images": {}}, "frame_images", "must be an array of at most 2 objects"),
        ({"frame_images": [5]}, "frame_images[0]", 'must be an object such as {"type": "image_url"'),
        ({"frame_images": [{}]}, "frame_images[0].frame_type", 'is required, and must be "first_frame" or'),
        ({"frame_images": [{"image_url": {}}]}, "frame_images[0].image_url.url", "is required, and must be an https"),
        ({"frame_images": [{"image_url": "u"}]}, "frame_images[0].image_url", 'must be an object such as {"url"'),
        ({"frame_images": [{"frame_type": "middle"}]}, "frame_images[0].frame_type", 'must be "first_frame" or "last'),
        ({"frame_images": [EVERYTHING["frame_images"][0]] * 2}, "frame_images", "must hold at most one first_frame"),
        ({"frame_images": [EVERYTHING["frame_images"][0]] * 3}, "frame_images", "must be an array of at most 2"),
        ({"input_references": [{"type": "text"}]}, "input_references[0].type", 'must be "image_url", "audio_url" or'),
        (
            {"input_references": [{"type": "audio_url"}]},
            "input_references[0]",
            "must hold audio_url, an object such as",
        ),
        (
            {"input_references": [{"type": "image_url", "image_url": {"url": "http://a.example/b.png"}}]},
            "input_references[0].image_url.url",
            "must begin with https://",
        ),
        ({"previous_job_id": ""}, "previous_job_id", "must be the id of an earlier job"),
        ({"provider": "llmgateway"}, "provider", "named in the header x-reelkeeper-provider; a string was sent"),
        ({"creativity": True}, "creativity", "must be a whole number"),
        ({"upscale_factor": 0}, "upscale_factor", "must be a number above 0"),
        ({"session_id": "s" * 257}, "session_id", "must be a string of at most 256 characters"),
        ({"trace": []}, "trace", "must be an object"),
        ({"user": 5}, "user", "must be a string"),
    ],
)
def test_a_mistake_is_told_with_its_place(body: dict[str, Any], field: str, message: str) -> None:
    found = mistakes(body)
    assert field in found, found
    assert message in found[field]
    assert {name.partition("[")[0] for name in found} == set(body)


def test_what_a_provider_says_of_a_request_is_said_in_the_dialects_words() -> None:
    problems = [
        Problem("last_frame", "needs a first_frame with it"),
        Problem("references[1].url", "either frames or references, not both, nor reference_images"),
        Problem("provider_options.callback_secret", "the service sets this itself"),
    ]
    assert in_its_words(problems) == [
        Problem("frame_images", "needs a first_frame with it"),
        Problem("input_references[1].url", "either frames or input_references, not both, nor reference_images"),
        Problem("callback_secret", "the service sets this itself"),
    ]
