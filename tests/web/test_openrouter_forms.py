from __future__ import annotations

import dataclasses

import pytest

from service.model import Artifact, Billable, ErrorCode, Job, JobError, State
from service.web.openrouter_forms import OpenRouterForms
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
        "usage": {"cost": 0.25, "is_byok": False},
    }


def test_a_video_that_cost_nothing_says_so(job: Job) -> None:
    assert FORMS.job(dataclasses.replace(job, cost=0.0))["usage"] == {"cost": 0.0, "is_byok": False}


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
