"""The OpenAI-style dialect of `/v1/videos` with LLM Gateway's extensions: what a job looks like in it.

Sources: the types of the `openai` package (the video object), LLM Gateway's source code and captured answers (its
request fields, `content` and `usage`). What neither has is added under names of our own.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from service.logs import redact
from service.model import Job, State
from service.web.views import footage

# The poll loops of its clients know these four words, and take any other for an end.
_STATUSES = {
    State.QUEUED: "queued",
    State.SUBMITTING: "queued",
    State.RUNNING: "in_progress",
    State.MIRRORING: "in_progress",
    State.COMPLETED: "completed",
}
# Stages, not a forecast: providers do not say how far they are.
_PROGRESS = {State.RUNNING: 10, State.MIRRORING: 90, State.COMPLETED: 100}


class OpenAIForms:
    """Writes video objects with absolute links under `public_url`, for example `https://videos.example.com`."""

    def __init__(self, public_url: str) -> None:
        self._videos = f"{public_url}/v1/videos"

    def url(self, job: Job) -> str:
        """Return where the video object is read."""
        return f"{self._videos}/{job.id}"

    def video(self, job: Job) -> dict[str, Any]:
        """Return the job as a video object: times in unix s, `seconds` a string, null for what is not known.

        It never expires: the video is kept.
        """
        outputs = [
            {
                "index": artifact.index,
                "url": f"{self.url(job)}/content?index={artifact.index}",
                "bytes": artifact.bytes,
                "sha256": artifact.sha256,
                "content_type": artifact.content_type,
                **footage(artifact),
            }
            for artifact in job.artifacts
        ]
        video: dict[str, Any] = {
            "id": job.id,
            "object": "video",
            "status": _STATUSES.get(job.state, "failed"),
            "model": job.model,
            "prompt": job.request.prompt,
            "progress": _PROGRESS.get(job.state, 0),
            "created_at": job.created_at // 1000,
            "completed_at": None if job.finished_at is None else job.finished_at // 1000,
            "expires_at": None,
            "seconds": _seconds(job),
            "size": _size(job),
            "error": _error(job),
            "remixed_from_video_id": None,
            "provider": job.provider,
            "provider_job_id": job.provider_job_id,
            "provider_status": job.provider_status,
            "cost": job.cost,
            "outputs": outputs,
            "metadata": job.metadata,
        }
        if job.state is State.COMPLETED:
            video["content"] = [
                {"type": "video", "url": output["url"], "mime_type": output["content_type"]} for output in outputs
            ]
        if job.cost is not None:
            video["usage"] = {"cost": job.cost}
        if job.notify_url is not None:
            video["callback"] = {"url": str(redact(job.notify_url))}
        return video


def _error(job: Job) -> dict[str, Any] | None:
    if job.error is None:
        return None
    error = asdict(job.error)
    if job.state in (State.CANCELLED, State.EXPIRED):
        error["code"] = job.state  # the only place where this dialect can tell them from other failures
    return error


def _seconds(job: Job) -> str | None:
    if job.request.duration is not None:
        return str(job.request.duration)
    shown = [artifact.footage.duration_ms for artifact in job.artifacts if artifact.footage is not None]
    return None if not shown or shown[0] is None else str(round(shown[0] / 1000))


def _size(job: Job) -> str | None:
    if job.request.size is not None:
        return job.request.size
    shown = [artifact.footage for artifact in job.artifacts if artifact.footage is not None]
    return f"{shown[0].width}x{shown[0].height}" if shown else None
