"""`/v1/keys`: who may call. For operators."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from starlette.requests import Request
from starlette.responses import Response

from service.model import PROBES, ApiKey, is_tenant
from service.store import KeyStore
from service.web.answers import JSONResponse
from service.web.body import BODY_SECONDS, parse_object, read_body, require_json
from service.web.callers import Callers, note
from service.web.mistakes import read
from service.web.refusals import RefusalError, invalid_request
from service.web.views import rfc3339

LONGEST_WINDOW_S = 7 * 86_400
MOST_PER_MINUTE = 100_000
_LONGEST_BODY = 16_384  # bytes


def key_name(text: str) -> str:
    """Read for whom a key is. Raises ValueError."""
    if not text.strip() or not text.isprintable():
        raise ValueError("must be text on one line; for example my-backend")
    return text


def tenant_name(text: str) -> str:
    """Read a tenant, which is part of paths in storage. Raises ValueError."""
    if text == PROBES:
        raise ValueError(f"cannot be {PROBES}, where the storage is tried out; for example studio")
    if not is_tenant(text):
        raise ValueError("must be 1 to 63 lower-case letters, digits, - or _; for example studio")
    return text


class KeyBody(BaseModel):
    """The JSON object of `POST /v1/keys`."""

    model_config = ConfigDict(strict=True, extra="forbid")

    name: Annotated[str, StringConstraints(max_length=200), AfterValidator(key_name)] = Field(
        description="whose key it is, for people, in at most 200 characters; for example my-backend"
    )
    tenant: Annotated[str, AfterValidator(tenant_name)] = Field(
        "default", description="who owns the jobs that are made with it; for example studio"
    )
    operator: bool = Field(default=False, description="true or false: whether it sees and operates the whole service")
    dedupe_window: Annotated[int, Field(ge=0, le=LONGEST_WINDOW_S)] = Field(
        0, description=f"whole seconds from 0 to {LONGEST_WINDOW_S}, in which identical creates are one job"
    )
    per_minute: Annotated[int, Field(ge=1, le=MOST_PER_MINUTE)] | None = Field(
        None, description=f"a whole number from 1 to {MOST_PER_MINUTE}: how many videos may be asked for a minute"
    )


class Keys:
    """Lists, makes and revokes API keys, for operators."""

    def __init__(self, keys: KeyStore, callers: Callers) -> None:
        self._keys = keys
        self._callers = callers

    async def page(self, request: Request) -> Response:
        """List every key, oldest first, without the keys themselves."""
        await self._callers.operator(request)
        return JSONResponse({"object": "list", "data": [key_view(key) for key in await self._keys.all()]})

    async def create(self, request: Request) -> Response:
        """Make a key: 201 with the key itself, this once."""
        await self._callers.operator(request)
        require_json(request)
        body = parse_object(await read_body(request, limit=_LONGEST_BODY, seconds=BODY_SECONDS))
        wanted, problems = read(KeyBody, body, {"name": "?"})
        if problems:
            raise invalid_request(problems)
        made, secret = await create_key(self._keys, wanted)
        note(request, key=made.id)
        return JSONResponse({**key_view(made), "key": secret}, 201, {"cache-control": "no-store"})

    async def revoke(self, request: Request) -> Response:
        """Make a key useless, at once; one that is revoked already stays so."""
        await self._callers.operator(request)
        key_id = request.path_params["key_id"]
        key = await revoke_key(self._keys, key_id)
        if key is None:
            raise RefusalError(404, "key_not_found", "There is no such API key; GET /v1/keys lists them.")
        note(request, key=key.id)
        return JSONResponse(key_view(key))


async def create_key(keys: KeyStore, wanted: KeyBody) -> tuple[ApiKey, str]:
    """Make a key; return its record and the key itself, which cannot be had again."""
    return await keys.create(
        wanted.name,
        wanted.tenant,
        operator=wanted.operator,
        dedupe_window_ms=wanted.dedupe_window * 1000,
        creates_per_minute=wanted.per_minute,
    )


async def revoke_key(keys: KeyStore, key_id: str) -> ApiKey | None:
    """Make a key useless; return it, also one that is revoked already. None: there is no such key."""
    return await keys.revoke(key_id) or next((each for each in await keys.all() if each.id == key_id), None)


def key_view(key: ApiKey) -> dict[str, Any]:
    """Return an API key as operators see it, without the key itself."""
    return {
        "id": key.id,
        "object": "key",
        "name": key.name,
        "tenant": key.tenant,
        "operator": key.operator,
        "created_at": rfc3339(key.created_at),
        "revoked_at": None if key.revoked_at is None else rfc3339(key.revoked_at),
        "dedupe_window": key.dedupe_window_ms // 1000,
        "per_minute": key.creates_per_minute,
    }
