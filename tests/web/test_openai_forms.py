from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from openai.types import Video

from service.model import Artifact, ErrorCode, Footage, Job, JobError, Problem, Reference, State, Status, VideoRequest
from service.providers import llmgateway
from service.web.openai_forms import OpenAIForms, VideoBody, VideoForm, read_video
from tests.web.house import House

URL = "https://videos.example.com"
FORMS = OpenAIForms(URL)
CAT = "https://example.com/cat.png"
GOOD: dict[str, Any] = {"model": "m", "prompt": "a cat"}
ERROR = JobError(ErrorCode.CONTENT_POLICY, "change the prompt", provider_code="moderation", provider_message="no!")
FOOTAGE = Footage(8_042, 1280, 720, "h264", "poster.jpg")


def asked(**fields: Any) -> VideoRequest:  # noqa: ANN401 - any value of JSON
    wanted, problems = read_video(GOOD | fields, VideoBody)
    assert problems == []
    return wanted.video_request("m")


def problems(form: type[VideoBody] = VideoBody, **fields: Any) -> dict[str, str]:  # noqa: ANN401 - any value of JSON
    found = read_video(GOOD | fields, form)[1]
    assert len({problem.field for problem in found}) == len(found)
    return {problem.field: problem.message for problem in found}


@pytest.fixture
async def job(house: House) -> Job:
    return await house.queued(provider="llmgateway")


# What is asked for


def test_every_field_becomes_the_one_of_ours() -> None:
    assert asked(
        seconds=8,
        size="1280x720",
        audio=False,
        n=1,
        image=CAT,
        last_frame={"image_url": f"{CAT}?2"},
        seed=-3,
        aspect_ratio="16:9",
        resolution="1080p",
        watermark=False,
        provider_options={"style": {"a": [1]}},
    ) == VideoRequest(
        model="m",
        prompt="a cat",
        duration=8,
        size="1280x720",
        generate_audio=False,
        first_frame=CAT,
        last_frame=f"{CAT}?2",
        seed=-3,
        aspect_ratio="16:9",
        resolution="1080p",
        provider_options={"watermark": False, "style": {"a": [1]}},
    )


def test_seconds_may_be_a_text_as_the_sdk_sends_them() -> None:
    assert asked(seconds="8").duration == asked(seconds=8).duration == 8


@pytest.mark.parametrize("name", ["input_reference", "reference_images"])
@pytest.mark.parametrize(
    "value",
    [CAT, {"image_url": CAT}, [CAT], [{"image_url": CAT}]],
)
def test_references_are_one_or_several_plain_or_wrapped(name: str, value: object) -> None:
    assert asked(**{name: value}).references == (Reference("image", CAT),)


def test_references_of_all_kinds_keep_their_order() -> None:
    found = asked(
        reference_audios=[f"{CAT}3"],
        reference_videos=[{"video_url": f"{CAT}2"}],
        reference_images=[CAT, {"image_url": f"{CAT}1"}],
    ).references
    assert [(each.type, each.url) for each in found] == [
        ("image", CAT),
        ("image", f"{CAT}1"),
        ("video", f"{CAT}2"),
        ("audio", f"{CAT}3"),
    ]


def test_null_counts_as_left_out() -> None:
    nothing: dict[str, Any] = dict.fromkeys([*VideoBody.model_fields, "watermark"])
    assert asked(**{**nothing, **GOOD}) == VideoRequest(model="m", prompt="a cat")
    assert set(problems(prompt=None)) == {"prompt"}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"prompt": ""}, "must be a text of 1 to 20,000 characters"),
        ({"model": " "}, "must be the provider's name of a model"),
        ({"model": 7}, "a number was sent"),
        ({"seconds": "eight"}, 'must be whole seconds from 1 to 3600, for example 8 or "8"; a string was sent'),
        ({"seconds": 0}, 'must be whole seconds from 1 to 3600, for example 8 or "8"'),
        ({"seconds": "4.5"}, 'for example 8 or "8"; a string was sent'),
        ({"seconds": 4.5}, 'for example 8 or "8"; a number was sent'),
        ({"seconds": True}, "true or false was sent"),
        ({"size": "big"}, "must be a string of WIDTHxHEIGHT in pixels, for example 1280x720"),
        ({"audio": "true"}, "must be true or false; a string was sent"),
        ({"n": 2}, "must be 1; every video is a job of its own"),
        ({"image": "http://example.com/cat.png"}, "must begin with https://"),
        ({"image": {"file_id": "file-1"}}, 'or an object such as {"image_url"'),
        ({"image": {"image_url": CAT, "detail": "low"}}, 'or an object such as {"image_url"'),
        ({"image": [CAT]}, "an array was sent"),
        ({"reference_images": [CAT] * 21}, "must be an array of at most 20"),
        ({"callback_url": CAT, "callback_secret": ""}, "must be a text of 1 to 1,000 characters"),
        ({"seed": 2**63}, "at most 64 bits"),
        ({"aspect_ratio": "wide"}, "16:9"),
        ({"resolution": ""}, "1080p"),
        ({"metadata": "x"}, "a string was sent"),
        ({"metadata": {"a": "x" * 17_000}}, "at most 16,384 bytes"),
        ({"provider_options": []}, "an array was sent"),
        ({"on_unknown": "retry"}, '"resubmit"'),
        ({"provider": 1}, "the name of a configured provider"),
    ],
)
def test_a_field_that_is_wrong_is_told_what_it_must_be(fields: dict[str, Any], words: str) -> None:
    field = list(fields)[-1]
    assert words in problems(**fields)[field]


@pytest.mark.parametrize(
    ("name", "value", "key"),
    [
        ("reference_images", {"image_url": "x"}, "image_url"),
        ("input_reference", "x", "image_url"),
        ("reference_videos", ["x"], "video_url"),
        ("reference_audios", [{"video_url": CAT}], "audio_url"),
    ],
)
def test_an_element_that_is_wrong_is_told_what_it_must_be(name: str, value: object, key: str) -> None:
    fields: dict[str, Any] = {name: value}
    [(field, message)] = problems(**fields).items()
    assert field == f"{name}[0]"
    assert message.startswith(f'must be an https:// or data: URL, or an object such as {{"{key}"')


def test_every_mistake_is_told_at_once() -> None:
    found = problems(
        prompt=7,
        seconds="x",
        reference_images=[CAT],
        input_reference=[CAT],
        callback_secret="s",
        duration=5,
        watermark=1,
        provider_options={"watermark": 2},
    )
    assert found == {
        "prompt": "must be a text of 1 to 20,000 characters; a number was sent",
        "seconds": 'must be whole seconds from 1 to 3600, for example 8 or "8"; a string was sent',
        "input_reference": "is another name of reference_images; send one of them",
        "callback_url": "must be sent together with callback_secret, or neither of them",
        "duration": "is called seconds here",
        "watermark": "is in provider_options as well; leave one of them out",
    }


def test_an_address_to_call_back_comes_with_a_secret_or_not_at_all() -> None:
    assert problems(callback_url=CAT, callback_secret="s") == problems() == {}
    assert problems(callback_url=CAT) == {
        "callback_secret": "must be sent together with callback_url, or neither of them"
    }
    assert set(problems(callback_url=7, callback_secret="s")) == {"callback_url"}


def test_in_a_form_numbers_and_booleans_are_texts() -> None:
    fields: dict[str, Any] = {
        "seconds": "4",
        "audio": "true",
        "n": "1",
        "seed": "-42",
        "metadata": {"a": "1"},
        "watermark": "false",
    }
    wanted, found = read_video(GOOD | fields, VideoForm)
    assert found == []
    assert (wanted.seconds, wanted.audio, wanted.n, wanted.seed) == (4, True, 1, -42)
    assert (wanted.metadata, wanted.extras) == ({"a": "1"}, {"watermark": "false"})
    assert set(problems(**fields)) == {"audio", "seed"}  # the same as JSON
    assert set(problems(VideoForm, audio="maybe", seed="x", n="2", seconds="-1")) == {"audio", "seed", "n", "seconds"}


@pytest.mark.parametrize(
    ("problem", "told"),
    [
        (Problem("duration", "LLM Gateway needs whole seconds"), Problem("seconds", "LLM Gateway needs whole seconds")),
        (Problem("last_frame", "needs a first_frame with it"), Problem("last_frame", "needs an image with it")),
        (Problem("provider_options.watermark", "write audio"), Problem("watermark", "write audio")),
        (
            Problem("provider_options.style", "write first_frame instead"),
            Problem("provider_options.style", "write image instead"),
        ),
        (Problem("references[2].type", "x"), Problem("reference_images[2].type", "x")),
    ],
)
def test_what_a_provider_finds_wrong_is_told_in_this_dialects_names(problem: Problem, told: Problem) -> None:
    wanted, _ = read_video({**GOOD, "watermark": 1, "provider_options": {"style": 1}}, VideoBody)
    assert wanted.told_here(problem) == told


# What is shown


@pytest.mark.parametrize(
    ("state", "status", "progress"),
    [
        (State.QUEUED, "queued", 0),
        (State.SUBMITTING, "queued", 0),
        (State.RUNNING, "in_progress", 10),
        (State.MIRRORING, "in_progress", 90),
        (State.COMPLETED, "completed", 100),
        (State.FAILED, "failed", 0),
        (State.CANCELLED, "failed", 0),
        (State.EXPIRED, "failed", 0),
    ],
)
def test_every_state_is_one_of_four_words(job: Job, state: State, status: str, progress: int) -> None:
    error = ERROR if state in (State.FAILED, State.CANCELLED, State.EXPIRED) else None
    shown = FORMS.video(replace(job, state=state, error=error))
    assert (shown["status"], shown["progress"]) == (status, progress)
    assert ("content" in shown) is (state is State.COMPLETED)
    assert (shown["error"] is None) is (error is None)


@pytest.mark.parametrize(
    ("state", "code", "shown"),
    [
        (State.CANCELLED, ErrorCode.CANCELLED, "cancelled"),
        (State.CANCELLED, ErrorCode.PROVIDER_FAILED, "cancelled"),
        (State.EXPIRED, ErrorCode.TIMED_OUT, "expired"),
        (State.FAILED, ErrorCode.SUBMISSION_UNKNOWN, "submission_unknown"),
        (State.FAILED, ErrorCode.CONTENT_POLICY, "content_policy"),
    ],
)
def test_an_error_says_which_end_it_was(job: Job, state: State, code: ErrorCode, shown: str) -> None:
    error = FORMS.video(replace(job, state=state, error=replace(ERROR, code=code)))["error"]
    assert error == {
        "code": shown,
        "message": "change the prompt",
        "retryable": False,
        "billable": "unknown",
        "provider_code": "moderation",
        "provider_message": "no!",
    }


def test_a_kept_video_is_shown_with_where_it_is(job: Job) -> None:
    artifact = Artifact(0, "acme/0.mp4", 1_000, "ab" * 32, "video/mp4", FOOTAGE)
    done = replace(
        job,
        state=State.COMPLETED,
        artifacts=(artifact,),
        cost=0.25,
        finished_at=job.created_at + 61_500,
        provider_job_id="vid-1",
        provider_status="completed",
        metadata={"order": "A-17"},
        notify_url="https://example.com/hooks?token=secret",
    )
    url = f"{URL}/v1/videos/{job.id}/content?index=0"
    shown = FORMS.video(done)
    assert shown == {
        "id": job.id,
        "object": "video",
        "status": "completed",
        "model": "google/veo-3.1",
        "prompt": "a cat",
        "progress": 100,
        "created_at": job.created_at // 1000,
        "completed_at": job.created_at // 1000 + 61,
        "expires_at": None,
        "seconds": "5",
        "size": "1280x720",
        "error": None,
        "remixed_from_video_id": None,
        "provider": "llmgateway",
        "provider_job_id": "vid-1",
        "provider_status": "completed",
        "cost": 0.25,
        "usage": {"cost": 0.25},
        "outputs": [
            {
                "index": 0,
                "url": url,
                "bytes": 1_000,
                "sha256": "ab" * 32,
                "content_type": "video/mp4",
                "duration": 8.042,
                "width": 1280,
                "height": 720,
                "codec": "h264",
            }
        ],
        "content": [{"type": "video", "url": url, "mime_type": "video/mp4"}],
        "metadata": {"order": "A-17"},
        "callback": shown["callback"],
    }
    assert shown["callback"]["url"].startswith("https://example.com")
    assert "secret" not in json.dumps(shown)


def test_it_is_read_by_the_strict_type_of_the_sdk(job: Job) -> None:
    shown = FORMS.video(replace(job, request=replace(job.request, size="1280x720")))
    video = Video.model_validate(json.loads(json.dumps(shown)), strict=True)
    assert (video.id, video.status, video.progress, video.seconds) == (job.id, "queued", 0, "5")


def test_what_was_not_asked_for_is_told_from_the_video_once_it_is_there(job: Job) -> None:
    plain = replace(job, request=VideoRequest(model="m", prompt="a cat"))
    assert (FORMS.video(plain)["seconds"], FORMS.video(plain)["size"]) == (None, None)
    artifact = Artifact(0, "acme/0.mp4", 1_000, "ab" * 32, "video/mp4", FOOTAGE)
    shown = FORMS.video(replace(plain, state=State.COMPLETED, artifacts=(artifact,)))
    assert (shown["seconds"], shown["size"]) == ("8", "1280x720")
    unknown = replace(artifact, footage=replace(FOOTAGE, duration_ms=None))
    assert FORMS.video(replace(plain, artifacts=(unknown,)))["seconds"] is None


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (State.QUEUED, Status.RUNNING),
        (State.RUNNING, Status.RUNNING),
        (State.COMPLETED, Status.COMPLETED),
        (State.CANCELLED, Status.FAILED),
        (State.FAILED, Status.FAILED),
    ],
)
def test_it_is_read_by_a_client_of_llm_gateway(job: Job, state: State, status: Status) -> None:
    """As our own adapter reads what that gateway says."""
    error = ERROR if status is Status.FAILED else None
    report = llmgateway._report(FORMS.video(replace(job, state=state, error=error, cost=0.5)), ())
    assert report is not None
    assert (report.status, report.understood, report.provider_job_id, report.cost) == (status, True, job.id, 0.5)
    assert (report.error is None) is (error is None)
