"""Where providers report: `POST /callbacks/{provider}/{job_id}/{token}`.

Nothing is read for a wrong address, nothing is understood before the signature over the raw bytes is verified, and
nothing that a stranger can send is answered with a 5xx. 204 says that it is on disk, for new, doubled, late and
out-of-order reports alike; 503 says that it is not, and that the provider should send it again. What is rejected waits
its turn, and what came to a job's own address is kept with the reason, for whoever has to find the fault.

One sender is no provider: `reelkeeper check`, at `/callbacks/check/{name}/{token}`. It is verified like all others, and
nothing is kept of it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from service import signing
from service.clock import Clock
from service.errors import CallbackError, StoreUnavailableError
from service.model import Report
from service.observer import CalledBack, Observer
from service.providers import Callback, Hint, Provider, Unrelated
from service.store import Receipt, Rejection, Store, Verdict
from service.vault import Vault
from service.web.body import read_body, require_json
from service.web.callers import note
from service.web.diagnosis import Diagnosis, close_look, first_look
from service.web.refusals import RefusalError, shown
from service.web.tally import Tally
from service.web.turnstile import Turnstile

_CHECK = "check"
_NOWHERE = ""
_CROWDED, _NOT_STORED = "crowded", "not_stored"  # as observers are told; both may be sent again
_LONGEST_BODY = 262_144  # bytes
_BODY_SECONDS = 10.0
_KEPT_HEADERS = frozenset(
    {"content-type", "user-agent", "webhook-id", "webhook-timestamp", "x-openrouter-idempotency-key"}
)
"""What of the headers is stored: never a signature, which is as good as a password for as long as it is fresh."""
_TELLING_HEADERS = _KEPT_HEADERS | {"content-encoding", "via"}
"""What of a rejected callback's headers is stored, in which it may show what stands on the way."""
_LONGEST_HEADER = 200


class Callbacks:
    """Receives, believes and applies callbacks."""

    def __init__(
        self,
        *,
        store: Store,
        providers: Mapping[str, Provider],
        vault: Vault,
        clock: Clock,
        tally: Tally,
        turnstile: Turnstile,
        observer: Observer,
    ) -> None:
        self._store = store
        self._providers = providers
        self._vault = vault
        self._clock = clock
        self._tally = tally
        self._turnstile = turnstile
        self._observer = observer

    async def receive(self, request: Request) -> Response:
        """Verify a callback, keep it and let it move the job on, in one transaction.

        Raises RefusalError (404, 408, 413, 415, 429), BadSignatureError, BadCallbackError and StoreUnavailableError.
        """
        job_id, sender = str(request.path_params["job_id"]), request.path_params["provider"]
        ours = self._vault.token_matches(job_id, request.path_params["token"])
        provider = self._providers.get(sender)
        address = job_id if ours and (provider is not None or sender == _CHECK) else _NOWHERE
        if address != _NOWHERE and provider is not None:
            note(request, job=job_id, provider=sender)
        if self._turnstile.crowded(address):
            if address != _NOWHERE and provider is not None:
                self._observer.called_back(CalledBack(sender, _CROWDED, job_id, self._clock.now(), 0.0, rejected=True))
            raise _crowded()
        try:
            if address == _NOWHERE:
                raise _no_such_address()
            taken = self._checked(request, job_id) if provider is None else self._receive(request, provider, job_id)
            note(request, verdict=await taken)
            return Response(status_code=204)
        except (RefusalError, CallbackError) as error:
            rejected = error.with_traceback(None)
            rejected.__context__ = None  # its frames hold the body, and many may wait
        await self._turnstile.wait(address)
        raise rejected

    async def _checked(self, request: Request, name: str) -> str:
        """Verify what `reelkeeper check` sent, of which nothing is kept."""
        keys = [signing.key_of(secret) for secret in self._vault.callback_secrets(name)]
        signing.verify_standard(keys, _joined_headers(request), await _json_body(request), self._clock.now())
        return _CHECK

    async def _receive(self, request: Request, provider: Provider, job_id: str) -> str:
        """Return what became of a callback that came to its own address."""
        callback = Callback(job_id, _joined_headers(request), b"", self._clock.now())
        begun = time.perf_counter()
        size: int | None = None
        word, rejected = "", True
        try:
            callback = replace(callback, body=await _json_body(request))
            size = len(callback.body)
            word = await self._take(provider, callback, provider.receive(callback))
            rejected = False
        except StoreUnavailableError:
            word = _NOT_STORED
            raise
        except (RefusalError, CallbackError) as error:
            diagnosis = first_look(provider, error)
            if diagnosis is not None:
                word = diagnosis.reason
                note(request, reason=word)
                await self._keep(provider, callback, diagnosis, size)
            raise
        finally:
            if word:
                seconds = time.perf_counter() - begun
                self._observer.called_back(
                    CalledBack(provider.name, word, job_id, callback.received_at, seconds, rejected)
                )
        return word

    async def _keep(self, provider: Provider, callback: Callback, found: Diagnosis, size: int | None) -> None:
        """Have a rejected callback counted. `size` is None when its body was not read."""
        kept = {name: value[:_LONGEST_HEADER] for name, value in callback.headers.items() if name in _TELLING_HEADERS}
        rejection = Rejection(
            job_id=callback.job_id,
            provider=provider.name,
            reason=found.reason,
            message=found.message,
            times=1,
            first_at=callback.received_at,
            last_at=callback.received_at,
            headers=kept,
            bytes=size,
        )
        await self._tally.add(rejection, partial(close_look, provider, callback, found))

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
            theirs = shown(found.provider_job_id or "")
            raise RefusalError(
                404, "mismatched", f"The callback speaks of {theirs}, a job that this address does not belong to."
            )
        return verdict


async def _json_body(request: Request) -> bytes:
    require_json(request)
    return await read_body(request, limit=_LONGEST_BODY, seconds=_BODY_SECONDS)


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


def _crowded() -> RefusalError:
    return RefusalError(
        429,
        "too_many_rejections",
        "Too many callbacks that are not believed come to this address, so this one was not read; send it again later.",
        headers={"retry-after": "5"},
    )
