"""The page of failing deliveries: who does not take what they are told, and the button that tells them all again."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from service.backoff import DELIVERY_ATTEMPTS, DELIVERY_HOURS
from service.model import Delivery, DeliveryAttempt
from service.store import Deliveries, FailingReceiver
from service.web.callers import note
from service.web.receivers import receiver_of_tenant, redeliver_all
from service.web.refusals import RefusalError
from service.web.status import asking
from service.web.status.pages import Pages, Visitor

PATH = "/status/deliveries"

_OWED = re.compile(r"owed-([0-9]{1,9})-([0-9]{1,9})", re.ASCII)
_MOST = 100  # receivers on a page
_EACH = 20  # messages


@dataclass(frozen=True, slots=True)
class Message:
    """A message, how many attempts there were over its whole life, and what came of the last one."""

    delivery: Delivery
    attempts: int
    last: DeliveryAttempt | None


class DeliveriesPage:
    """Shows failing receivers and what they did not take: to tenants their own, to operators everybody's."""

    def __init__(self, pages: Pages, deliveries: Deliveries) -> None:
        self._pages = pages
        self._deliveries = deliveries

    async def page(self, request: Request) -> Response:
        """Show the receivers that fail; with `receiver` (and `tenant`) what one of them did not take."""
        return await self._show(request)

    async def _show(self, request: Request, status: int = 200, trouble: str | None = None) -> Response:
        receiver, tenant = (request.query_params.get(name, "") for name in ("receiver", "tenant"))
        before = request.query_params.get("before") or None
        owed = _OWED.fullmatch(asking.done(request))

        async def fill(visitor: Visitor) -> dict[str, Any]:
            done = {} if owed is None else {"done": _owed_again(int(owed[1]), int(owed[2]))}
            facts = {"path": PATH, "address": _address, "name": _name, "to_send": _to_send, "chosen": None, **done}
            if receiver:
                chosen = await receiver_of_tenant(self._deliveries, visitor.tenant or tenant, receiver)
                return facts | await self._messages(chosen, before)
            failing = await self._deliveries.failing(visitor.tenant, limit=_MOST + 1)
            tries = {"attempts": DELIVERY_ATTEMPTS, "hours": DELIVERY_HOURS}
            return facts | tries | {"receivers": failing[:_MOST], "more": len(failing) > _MOST}

        return await self._pages.show(request, "deliveries.html", fill, status=status, trouble=trouble)

    async def _messages(self, chosen: FailingReceiver, before: str | None) -> dict[str, Any]:
        tenant, receiver = chosen.tenant, chosen.receiver
        failed = await self._deliveries.failed(tenant, receiver, before_id=before, limit=_EACH + 1)
        later = await self._deliveries.later(tenant, receiver, limit=_EACH + 1)
        listed, due = failed[:_EACH], later[:_EACH]
        last = await self._deliveries.last_attempts([each.id for each in (*listed, *due)])
        return {
            "chosen": chosen,
            "failed": [_message(each, last.get(each.id)) for each in listed],
            "later": [_message(each, last.get(each.id)) for each in due],
            "more_later": len(later) > _EACH,
            "older": _address(chosen, before=listed[-1].id) if len(failed) > _EACH else None,
            "newest": _address(chosen) if before else None,
        }

    async def redeliver(self, request: Request) -> Response:
        """Owe a receiver all again that it did not take, and say how many that are."""
        posted = await self._pages.posted(request)
        if isinstance(posted, Response):
            return posted
        visitor, form = posted
        tenant = form.get("tenant", "")
        own = visitor.operator or tenant == visitor.tenant
        try:
            done = await redeliver_all(self._deliveries, tenant if own else None, form.get("receiver", ""))
        except RefusalError as error:
            note(request, reason=error.code)
            return await self._show(request, error.status, error.message)
        note(request, redelivered=str(done.redelivered))
        return self._pages.back(PATH, done=f"owed-{done.given_up}-{done.waiting}")

    async def again(self, _request: Request) -> Response:
        """Show the page to whoever reloads, or looks on, where the button was refused."""
        return self._pages.back(PATH)


def _message(delivery: Delivery, last: DeliveryAttempt | None) -> Message:
    return Message(delivery, last.number if last else 0, last)


def _owed_again(given_up: int, waiting: int) -> str:
    owed = given_up + waiting
    deliveries = "1 delivery is" if owed == 1 else f"{owed:,} deliveries are"
    return f"{deliveries} owed again: {given_up:,} given up before, {waiting:,} waiting after a failed attempt."


def _to_send(receiver: FailingReceiver) -> str:
    """Return what the button sends, as the beginning of a sentence."""
    given_up, waiting = receiver.failed, receiver.waiting
    kinds = []
    if given_up:
        kinds.append("1 message that was given up" if given_up == 1 else f"{given_up:,} messages that were given up")
    if waiting:
        waits = "1 that waits" if waiting == 1 else f"{waiting:,} that wait"
        kinds.append(f"{waits} after a failed attempt")
    return f"{' and '.join(kinds)} {'is' if given_up + waiting == 1 else 'are'}"


def _address(receiver: FailingReceiver, **more: str) -> str:
    """Return where the messages of a receiver are shown."""
    return f"{PATH}?{urlencode({'tenant': receiver.tenant, 'receiver': receiver.receiver, **more})}"


def _name(receiver: FailingReceiver) -> str:
    """Return what names a receiver within a page, whatever characters it has."""
    return hashlib.sha256(f"{receiver.tenant} {receiver.receiver}".encode()).hexdigest()[:16]
