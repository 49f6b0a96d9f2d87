"""OpenRouter's dialect: the fields of its `POST /videos`, and how it tells of a job.

Source: OpenRouter's API reference and its Python SDK 1.3.84. Its TypeScript SDK refuses null in an optional field of an
answer, so what is not known is left out.
"""

from __future__ import annotations

from typing import Any

from service.model import Job, JobError, State

_WORDS = {
    State.QUEUED: "pending",
    State.SUBMITTING: "pending",
    State.RUNNING: "in_progress",
    State.MIRRORING: "in_progress",
    State.COMPLETED: "completed",
    State.FAILED: "failed",
    State.CANCELLED: "cancelled",
    State.EXPIRED: "expired",
}


class OpenRouterForms:
    """Writes jobs with absolute links under `public_url`, for example `https://videos.example.com`."""

    def __init__(self, public_url: str) -> None:
        self._videos = f"{public_url}/api/v1/videos"

    def url(self, job: Job) -> str:
        """Return where the job is read."""
        return f"{self._videos}/{job.id}"

    def job(self, job: Job) -> dict[str, Any]:
        """Return the job as `VideoGenerationResponse`, without links that need no key."""
        url = self.url(job)
        shown: dict[str, Any] = {"id": job.id, "polling_url": url, "status": _WORDS[job.state]}
        if job.state is State.COMPLETED:
            shown["unsigned_urls"] = [f"{url}/content?index={artifact.index}" for artifact in job.artifacts]
        elif job.state.final:
            shown["error"] = _told(job.error) if job.error is not None else f"The job has ended as {job.state}."
        if job.cost is not None:
            shown["usage"] = {"cost": job.cost, "is_byok": False}
        return shown


def _told(error: JobError) -> str:
    """Return an error as one text, which is all that the dialect has for it."""
    words = f" The provider's words: {error.provider_message}" if error.provider_message else ""
    return f"{error.code}: {error.message}{words}"
