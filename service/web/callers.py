"""Who is calling, and which job they mean."""

from __future__ import annotations

import re

from starlette.requests import Request

from service.model import ApiKey, Job
from service.store import KeyStore, Store
from service.web.refusals import RefusalError

_BEARER = re.compile(r"bearer +([!-~]{1,200})", re.IGNORECASE)
_JOB_ID = re.compile(r"job_[0-9a-z]{26}", re.ASCII)


def note(request: Request, **about: str) -> None:
    """Add to what the log will say about this request."""
    request.scope["state"]["about"].update(about)


def note_made(request: Request, *job_ids: str) -> None:
    """Tell which jobs this request accepted, or found that the same request made before."""
    request.scope["state"]["made"].extend(job_ids)


def is_job_id(text: str) -> bool:
    """Tell whether `text` has the form of an id of ours; no other one needs to be looked for."""
    return _JOB_ID.fullmatch(text) is not None


class Callers:
    """Tells callers by their API keys, and lets each see their own jobs only; operators those of all."""

    def __init__(self, keys: KeyStore, store: Store) -> None:
        self._keys = keys
        self._store = store

    async def caller(self, request: Request) -> ApiKey:
        """Return whose key `Authorization: Bearer rk_…` is, or `x-api-key`, as some clients send it.

        Raises RefusalError (401).
        """
        given = request.headers.getlist("authorization")
        given = given or [f"Bearer {key.strip()}" for key in request.headers.getlist("x-api-key")]
        found = _BEARER.fullmatch(given[0].strip()) if len(given) == 1 else None
        if found is None:
            said = "The request has no API key" if not given else "The Authorization header holds no API key"
            raise _unauthorized(f"{said}; send one header, Authorization: Bearer rk_….", 'Bearer realm="reelkeeper"')
        key = await self._keys.authenticate(found[1])
        if key is None:
            raise _unauthorized(
                "This API key is unknown or was revoked; the operator makes one with `reelkeeper keys create`.",
                'Bearer realm="reelkeeper", error="invalid_token"',
            )
        note(request, tenant=key.tenant)
        return key

    async def operator(self, request: Request) -> ApiKey:
        """Return the caller if their key is an operator's. Raises RefusalError (401, 403)."""
        key = await self.caller(request)
        if not key.operator:
            raise RefusalError(
                403,
                "operators_only",
                "This API key sees its own jobs only; use one made with `reelkeeper keys create --operator`.",
            )
        return key

    async def job(self, request: Request) -> Job:
        """Return the job that the path names, if it is the caller's, or the caller an operator.

        Raises RefusalError (401, 404).
        """
        caller = await self.caller(request)
        return await self._job(request, None if caller.operator else caller.tenant)

    async def own_job(self, request: Request) -> Job:
        """Return the job that the path names, if it is the caller's: the compatible faces know of no operators.

        Raises RefusalError (401, 404).
        """
        return await self._job(request, (await self.caller(request)).tenant)

    async def _job(self, request: Request, tenant: str | None) -> Job:
        job_id = request.path_params["job_id"]
        job = await self._store.job(job_id, tenant) if is_job_id(job_id) else None
        if job is None:
            raise RefusalError(
                404,
                "job_not_found",
                "There is no such job under this API key; check its id, job_…, and that the key is of the tenant that "
                "asked for it.",
            )
        note(request, job=job.id)
        return job


def _unauthorized(message: str, challenge: str) -> RefusalError:
    return RefusalError(401, "unauthorized", message, headers={"www-authenticate": challenge})
