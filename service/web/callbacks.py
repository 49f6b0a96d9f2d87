"""Where providers report: `POST /callbacks/{provider}/{job_id}/{token}`.

Nothing is read for a wrong address, nothing is understood before the signature over the raw bytes is verified, and
nothing that a stranger can send is answered with a 5xx. 204 says that it is on disk, for new, doubled, late and
out-of-order reports alike; 503 says that it is not, and that the provider should send it again.

One sender is no provider: `reelkeeper check`, at `/callbacks/check/{name}/{token}`. It is verified like all others, and
nothing is kept of it.
"""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response

from service import signing
from service.clock import Clock
from service.model import Report
from service.providers import Callback, Hint, Provider, Unrelated
from service.store import Receipt, Store, Verdict
from service.vault import Vault
from service.web.body import read_body, require_json
from service.web.callers import note
from service.web.refusals import RefusalError

_CHECK = "check"
_LONGEST_BODY = 262_144  # bytes
_BODY_SECONDS = 10.0
_KEPT_HEADERS = frozenset(
    {"content-type", "user-agent", "webhook-id", "webhook-timestamp", "x-openrouter-idempotency-key"}
)
"""What of the headers is stored: never a signature, which is as good as a password for as long as it is fresh."""


class Callbacks:
    """Receives, believes and applies callbacks."""

    def __init__(self, *, store: Store, providers: Mapping[str, Provider], vault: Vault, clock: Clock) -> None:
        self._store = store
        self._providers = providers
        self._vault = vault
        self._clock = clock

    async def receive(self, request: Request) -> Response:
        """Verify a callback, keep it and let it move the job on, in one transaction.

        Raises RefusalError (404, 408, 413, 415), BadSignatureError, BadCallbackError and StoreUnavailableError.
        """
        job_id = str(request.path_params["job_id"])
        ours = self._vault.token_matches(job_id, request.path_params["token"])
        sender = request.path_params["provider"]
        provider = self._providers.get(sender)
        if not ours or (provider is None and sender != _CHECK):
            raise _no_such_address()
        note(request, job=job_id)
        require_json(request)
        body = await read_body(request, limit=_LONGEST_BODY, seconds=_BODY_SECONDS)
        callback = Callback(job_id, _joined_headers(request), body, self._clock.now())
        if provider is None:
            keys = [signing.key_of(secret) for secret in self._vault.callback_secrets(job_id)]
            signing.verify_standard(keys, callback.headers, body, callback.received_at)
            note(request, verdict=_CHECK)
        else:
            note(request, verdict=await self._take(provider, callback, provider.receive(callback)))
        return Response(status_code=204)

    async def _take(self, provider: Provider, callback: Callback, found: Report | Hint | Unrelated) -> str:
        if isinstance(found, Unrelated):
            return "unrelated"
        job = await self._store.job(callback.job_id)
        if job is None or job.provider != provider.name:
            raise _no_such_address()
        if isinstance(found, Hint):
            await self._store.hint(job.id)
            return "hint"
        kept = {name: value for name, value in callback.headers.items() if name in _KEPT_HEADERS}
        verdict = await self._store.receive(
            job.id,
            found,
            Receipt(kept, callback.body, callback.received_at),
            poll_ms=provider.manners.poll_every_ms,
            retention_ms=provider.manners.retention_ms,
        )
        if verdict is Verdict.MISMATCHED:
            raise RefusalError(404, "not_found", "The callback speaks of a job that this address does not belong to.")
        return verdict


def _joined_headers(request: Request) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers


def _no_such_address() -> RefusalError:
    # One answer for an unknown provider, an unknown job and a wrong token: it tells a stranger nothing.
    return RefusalError(
        404,
        "not_found",
        "There is no such callback address; use the one that came with the job's submission, unchanged.",
    )
