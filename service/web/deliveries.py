"""What a delivery looks like on the wire: in the dialect of the face that its job came through, signed anew each time.

- native: Standard Webhooks, with the tenant's `whsec_` secret.
- OpenRouter: the envelope and the two headers of its webhook guide. Its key is the text of the secret as it is.
- OpenAI-style: LLM Gateway's form. It looks like Standard Webhooks, but the key is the text of the secret that the
  caller gave with the job, nothing stripped and nothing decoded (captured deliveries).

The tenant's secret has one value for every key of the service: while the operator rotates them, a message is signed
with each, and a receiver accepts it with the old secret and with the new one.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from service import signing
from service.model import Delivery, Face, Job, State
from service.vault import Vault
from service.web.views import rfc3339

View = Callable[[Job], Mapping[str, Any]]

_HEADERS = {"content-type": "application/json", "user-agent": "reelkeeper"}
_IDEMPOTENCY = "x-openrouter-idempotency-key"
_WHSEC = "whsec_"


class Composer:
    """Writes deliveries. `native`, `openrouter` and `openai` say how each face shows a job."""

    def __init__(self, vault: Vault, *, native: View, openrouter: View, openai: View) -> None:
        self._vault = vault
        self._native = native
        self._openrouter = openrouter
        self._openai = openai

    def compose(self, delivery: Delivery, job: Job, now_ms: int) -> tuple[dict[str, str], bytes]:
        """Return headers and body of a delivery that is sent now (unix ms).

        Raises SealError when the caller's own secret cannot be read any more.
        """
        then = _as_it_ended(job, delivery)
        match job.face:
            case Face.NATIVE:
                headers, body = self._as_standard(delivery, then, now_ms)
            case Face.OPENROUTER:
                headers, body = self._as_openrouter(delivery, then, now_ms)
            case Face.OPENAI:
                headers, body = self._as_llm_gateway(delivery, then, now_ms)
        return _HEADERS | headers, body

    def _as_standard(self, delivery: Delivery, job: Job, now_ms: int) -> tuple[dict[str, str], bytes]:
        body = _json(
            {
                "type": f"job.{delivery.ended}",
                "timestamp": rfc3339(delivery.created_at),
                "data": self._native(job),
            }
        )
        keys = [base64.b64decode(secret.removeprefix(_WHSEC)) for secret in self._vault.delivery_secrets(job.tenant)]
        signed = [signing.sign_standard(key, delivery.id, body, now_ms) for key in keys]
        signatures = " ".join(each[signing.WEBHOOK_SIGNATURE] for each in signed)
        return signed[0] | {signing.WEBHOOK_SIGNATURE: signatures}, body

    def _as_openrouter(self, delivery: Delivery, job: Job, now_ms: int) -> tuple[dict[str, str], bytes]:
        shown = self._openrouter(job)
        told: dict[str, Any] = {"id": job.id, "status": delivery.ended, "model": job.model}
        # Nobody tells us what the guide's `generation_id` and `usage.is_byok` are: they are left out, and the first is
        # null, as it is there, for a job that ended before any provider took it up.
        if delivery.ended is State.COMPLETED:
            told |= {"unsigned_urls": shown["unsigned_urls"], "usage": {"cost": job.cost}}
        else:
            told["error"] = shown["error"]
            if job.provider_job_id is None:
                told["generation_id"] = None
        body = _json(
            {
                "type": f"video.generation.{delivery.ended}",
                "created_at": rfc3339(delivery.created_at),
                "data": told,
            }
        )
        keys = [signing.key_of(secret) for secret in self._vault.delivery_secrets(job.tenant)]
        return {
            signing.OPENROUTER_SIGNATURE: _merged([signing.sign_openrouter(key, body, now_ms) for key in keys]),
            _IDEMPOTENCY: f"{job.id}-{delivery.ended}",
        }, body

    def _as_llm_gateway(self, delivery: Delivery, job: Job, now_ms: int) -> tuple[dict[str, str], bytes]:
        secret = self._vault.unseal(job.notify_secret or "", job.tenant)
        ending = "completed" if delivery.ended is State.COMPLETED else "failed"
        body = _json(
            {
                "object": "event",
                "id": delivery.id,
                "type": f"video.{ending}",
                "created_at": now_ms // 1000,
                "data": self._openai(job),
            }
        )
        return signing.sign_standard(signing.key_of(secret), delivery.id, body, now_ms), body


def _as_it_ended(job: Job, delivery: Delivery) -> Job:
    """Return the job as it was at the event; it may have been recovered since."""
    artifacts = job.artifacts if delivery.ended is State.COMPLETED else ()
    finished_at = delivery.created_at
    return replace(job, state=delivery.ended, error=delivery.error, finished_at=finished_at, artifacts=artifacts)


def _merged(signatures: Sequence[str]) -> str:
    """Join values of OpenRouter's header that differ in `v1` alone: the guide's receiver takes the first it finds."""
    return ",".join([signatures[0], *(each.partition(",")[2] for each in signatures[1:])])


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
