"""`/v1/receivers`: who does not take what they are told, and telling them all of it once more."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from service.model import Problem
from service.store import Deliveries, FailingReceiver, Redelivery, receiver_of
from service.web.answers import JSONResponse
from service.web.body import BODY_SECONDS, parse_object, read_body, require_json
from service.web.callers import Callers, note
from service.web.filters import as_limit, read_query
from service.web.keys import tenant_name
from service.web.mistakes import NO_FIELD, read
from service.web.refusals import RefusalError, invalid_request
from service.web.views import rfc3339

_USUAL_LIMIT = 20
_LONGEST_BODY = 16_384  # bytes
_MOST_NAMED = 20  # tenants in one sentence


class RedeliverBody(BaseModel):
    """The JSON object of `POST /v1/receivers/redeliver`."""

    model_config = ConfigDict(strict=True, extra="forbid")

    receiver: str = Field(
        min_length=1,
        max_length=2_048,
        description="a receiver as GET /v1/receivers lists it: scheme, host and port, "
        "for example https://hooks.example.com:443",
    )
    tenant: Annotated[str, AfterValidator(tenant_name)] | None = Field(
        None,
        description="the tenant whose messages are sent again; an operator names it when several have this receiver",
    )


def receiver_view(failing: FailingReceiver) -> dict[str, Any]:
    """Return what callers and programs see of a receiver that does not take what it is told."""
    return {
        "object": "receiver",
        "tenant": failing.tenant,
        "receiver": failing.receiver,
        "failed": failing.failed,
        "pending": failing.pending,
        "last_error": failing.last_error,
        "last_status": failing.last_status,
        "last_at": None if failing.last_at is None else rfc3339(failing.last_at),
    }


def redelivery_view(tenant: str | None, receiver: str, done: Redelivery) -> dict[str, Any]:
    """Return what callers see of what a receiver is told once more."""
    return {
        "object": "redelivery",
        "tenant": tenant,
        "receiver": receiver,
        "redelivered": done.redelivered,
        "given_up": done.given_up,
        "waiting": done.waiting,
    }


class Receivers:
    """Shows failing receivers and tells them all once more: callers their own, operators everybody's."""

    def __init__(self, deliveries: Deliveries, callers: Callers) -> None:
        self._deliveries = deliveries
        self._callers = callers

    async def page(self, request: Request) -> Response:
        """List receivers whose messages were given up or are being tried again, with how many and why."""
        caller = await self._callers.caller(request)
        limit = read_query(request.query_params.multi_items(), {"limit": as_limit}).get("limit", _USUAL_LIMIT)
        found = await self._deliveries.failing(None if caller.operator else caller.tenant, limit=limit + 1)
        data = [receiver_view(each) for each in found[:limit]]
        return JSONResponse({"object": "list", "data": data, "has_more": len(found) > limit})

    async def redeliver(self, request: Request) -> Response:
        """Owe a receiver again all that was given up, and now what waits after a failed attempt: 200 with how many.

        What is due or on its way stays as it is, so a call that is made twice sends nothing twice, and brings 0.
        """
        caller = await self._callers.caller(request)
        require_json(request)
        body = parse_object(await read_body(request, limit=_LONGEST_BODY, seconds=BODY_SECONDS))
        wanted, problems = read(RedeliverBody, body, {"receiver": "?"})
        if problems:
            unknown = any(problem.message == NO_FIELD for problem in problems)
            raise invalid_request(problems, "The fields are receiver, tenant." if unknown else "")
        receiver = receiver_meant(wanted.receiver)
        tenant: str | None
        if caller.operator:
            tenant = wanted.tenant or await tenant_meant(self._deliveries, receiver) or caller.tenant
        else:
            tenant = caller.tenant if wanted.tenant in (None, caller.tenant) else None
        done = await redeliver_all(self._deliveries, tenant, receiver)
        note(request, redelivered=str(done.redelivered))
        return JSONResponse(redelivery_view(tenant, receiver, done))


async def tenant_meant(deliveries: Deliveries, receiver: str) -> str | None:
    """Return the tenant whose receiver of this name fails, None when none does.

    Raises RefusalError (400) when it fails for several, which are named.
    """
    tenants = await deliveries.tenants_failing(receiver, limit=_MOST_NAMED + 1)
    if len(tenants) > 1:
        named = ", ".join(tenants[:_MOST_NAMED]) + (" and more" if len(tenants) > _MOST_NAMED else "")
        raise invalid_request([Problem("tenant", f"is required: this receiver fails for several, {named}")])
    return tenants[0] if tenants else None


async def redeliver_all(deliveries: Deliveries, tenant: str | None, receiver: str) -> Redelivery:
    """Send all again that a tenant's receiver did not take; return how many that are. Raises RefusalError (404).

    A `tenant` of None has no receivers.
    """
    known = await receiver_of_tenant(deliveries, tenant, receiver)
    return await deliveries.redeliver_all(known.tenant, known.receiver)


async def receiver_of_tenant(deliveries: Deliveries, tenant: str | None, receiver: str) -> FailingReceiver:
    """Return how a tenant's receiver does. Raises RefusalError (404); a `tenant` of None has no receivers."""
    found = None if tenant is None else await deliveries.receiver(tenant, receiver)
    if found is None:
        raise RefusalError(
            404,
            "receiver_not_found",
            "There is no such receiver under this API key; name it as GET /v1/receivers lists it, by scheme, host and "
            "port, for example https://hooks.example.com:443, and with an operator key name its tenant, too.",
        )
    return found


def receiver_meant(text: str) -> str:
    """Return scheme, host and port of an address, as receivers are kept; what is no address is returned as it is."""
    try:
        parts = urlsplit(text.strip())
        return receiver_of(text.strip()) if parts.scheme in ("https", "http") and parts.hostname else text
    except ValueError:
        return text
