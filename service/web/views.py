"""What a job and its events look like as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from service.logs import redact
from service.model import Artifact, Delivery, DeliveryAttempt, Event, Job, VideoRequest
from service.store import KeptReceipt, taken_out

_LINKS = ("events", "receipts", "deliveries", "cancel", "retry", "redeliver", "remirror", "content")


def rfc3339(milliseconds: int) -> str:
    """Return unix ms as "2026-11-21T10:00:00.000Z"."""
    second = datetime.fromtimestamp(milliseconds // 1000, UTC)
    return f"{second:%Y-%m-%dT%H:%M:%S}.{milliseconds % 1000:03d}Z"


class Views:
    """Writes jobs with absolute links under `public_url`, for example `https://videos.example.com`."""

    def __init__(self, public_url: str) -> None:
        self._jobs = f"{public_url}/v1/jobs"

    def url(self, job: Job) -> str:
        """Return where the job is read."""
        return f"{self._jobs}/{job.id}"

    def job(self, job: Job) -> dict[str, Any]:
        """Return the job as callers see it. Where the provider keeps its outputs is not in it."""
        url = self.url(job)
        return {
            "id": job.id,
            "object": "job",
            "tenant": job.tenant,
            "state": job.state,
            "provider": job.provider,
            "provider_job_id": job.provider_job_id,
            "provider_status": job.provider_status,
            "model": job.model,
            "request": _light(job).fields(),
            "created_at": rfc3339(job.created_at),
            "finished_at": None if job.finished_at is None else rfc3339(job.finished_at),
            "cost": job.cost,
            "artifacts": [
                {
                    "index": artifact.index,
                    "bytes": artifact.bytes,
                    "sha256": artifact.sha256,
                    "content_type": artifact.content_type,
                    **footage(artifact),
                    "url": f"{url}/content?index={artifact.index}",
                }
                for artifact in job.artifacts
            ],
            "retry_of": job.retry_of,
            "notify_url": None if job.notify_url is None else str(redact(job.notify_url)),
            "metadata": job.metadata,
            "links": {"self": url, **{name: f"{url}/{name}" for name in _LINKS}},
            "error": None if job.error is None else asdict(job.error),
        }

    def cancellation(self, job: Job, message: str, *, asked: bool) -> dict[str, Any]:
        """Return a job with what its cancellation meant; `asked` its provider only."""
        said = {"outcome": "asked_provider" if asked else "cancelled", "message": message}
        return {**self.job(job), "cancellation": said}

    def event(self, event: Event) -> dict[str, Any]:
        """Return a fact about a job; `id` counts from 1 within the job."""
        return {"id": event.id, "type": event.type, "at": rfc3339(event.at), "data": event.data}

    def receipt(self, receipt: KeptReceipt) -> dict[str, Any]:
        """Return what a provider told us by callback; where it keeps its outputs, and other secrets, are cut."""
        return {
            "object": "receipt",
            "verdict": receipt.verdict,
            "provider_job_id": receipt.provider_job_id,
            "provider_status": receipt.word,
            "times": receipt.times,
            "first_at": rfc3339(receipt.first_at),
            "last_at": rfc3339(receipt.last_at),
            "headers": redact(receipt.headers),
            "bytes": len(receipt.body),
            "body": receipt_text(receipt.body),
        }

    def delivery(self, delivery: Delivery, attempts: Sequence[DeliveryAttempt]) -> dict[str, Any]:
        """Return what became of telling a caller about an end of its job.

        The receiver's address is cut down to scheme, host and port: the rest may be a secret.
        """
        return {
            "id": delivery.id,
            "object": "delivery",
            "state": delivery.state,
            "event": f"job.{delivery.ended}",
            "receiver": delivery.receiver,
            "created_at": rfc3339(delivery.created_at),
            "due_at": None if delivery.due_at is None else rfc3339(delivery.due_at),
            # The newest are listed; each has its number.
            "attempts_made": attempts[-1].number if attempts else 0,
            "attempts": [
                {
                    "number": attempt.number,
                    "at": rfc3339(attempt.at),
                    "duration_ms": attempt.duration_ms,
                    "status": attempt.status,
                    "error": attempt.error,
                    "answer": attempt.answer,
                }
                for attempt in attempts
            ],
        }


def receipt_text(body: bytes, *, indent: int | None = None) -> str | None:
    """Return a callback's body without secrets, if it is text; JSON is written anew, with `indent` on several lines."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return str(redact(text))
    return json.dumps(redact(value), ensure_ascii=False, indent=indent)


def footage(artifact: Artifact) -> dict[str, Any]:
    """Return what an artifact shows: `duration` in s, `width` and `height` in pixels, `codec`; null where unknown."""
    found = artifact.footage
    if found is None:
        return {"duration": None, "width": None, "height": None, "codec": None}
    duration = None if found.duration_ms is None else found.duration_ms / 1000
    return {"duration": duration, "width": found.width, "height": found.height, "codec": found.codec}


def _light(job: Job) -> VideoRequest:
    """Return the request without its long texts, which jobs of the first version still hold."""
    return taken_out(job.request)[0]
