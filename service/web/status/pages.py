"""Pages for people who signed in, and the same pages told again while they change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from service.clock import Clock
from service.errors import LookTooLongError
from service.model import ApiKey
from service.store import Sessions
from service.vault import Vault
from service.web.callers import note
from service.web.refusals import RefusalError
from service.web.status import asking, live
from service.web.status.rendering import HEADERS, Templates
from service.web.streams import STREAMED, Streams, wants_stream

Fill = Callable[["Visitor"], Awaitable[Mapping[str, Any]]]
"""Returns what a template shows to a visitor. Raises RefusalError, which is shown in its place."""

_SEE_OTHER = 303
_LOOK_SECONDS = 1.0
_BEAT_SECONDS = 5.0  # the page takes a stream for dead that is silent three times as long
_REST = 10  # times as long as a look took: who looks on takes a tenth of the service at most

DONE: Mapping[str, str] = {
    "signed-out": "You are signed out.",
    "cancelled": "The job is cancelled.",
    "cancelling": "The provider was asked to cancel the job.",
    "retried": "This is the new job, which repeats the one before.",
    "repeated": "This is the job that repeats the one before, as somebody asked earlier; no other one was made.",
    "redelivered": "The caller will be told once more.",
    "remirrored": "The output will be copied once more.",
    "attached": "The provider's id is bound to the job.",
}
"""What a page says after a form was sent, by the word that `back` was given."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody with a session: whose key opened it, and what their forms carry."""

    key: ApiKey
    csrf: str

    @property
    def operator(self) -> bool:
        """Whether they see the whole service."""
        return self.key.operator

    @property
    def tenant(self) -> str | None:
        """Whose jobs they see; None: everybody's."""
        return None if self.operator else self.key.tenant


class Pages:
    """Shows pages to whoever has a session, takes their forms, and sends whoever has none to sign in.

    `pause` waits between two looks of a stream, which needs one of the places of `streams`; once `stopping` says so,
    all streams end.
    """

    def __init__(
        self,
        *,
        sessions: Sessions,
        vault: Vault,
        clock: Clock,
        templates: Templates,
        public_url: str,
        streams: Streams,
        stopping: Callable[[], bool] = lambda: False,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._sessions = sessions
        self._vault = vault
        self._clock = clock
        self._templates = templates
        self._public_url = public_url
        self._streams = streams
        self._stopping = stopping
        self._pause = pause
        self.secure = urlsplit(public_url).scheme == "https"
        self.cookie = "__Host-reelkeeper" if self.secure else "reelkeeper"

    async def visitor(self, request: Request) -> Visitor | None:
        """Return whose session a request belongs to; None without one, or when it has ended."""
        token = request.cookies.get(self.cookie)
        key = await self._sessions.key_of(token) if token else None
        if token is None or key is None:
            return None
        note(request, tenant=key.tenant, key=key.id)
        return Visitor(key, self._vault.form_token(token))

    async def show(
        self, request: Request, template: str, fill: Fill, *, status: int = 200, trouble: str | None = None
    ) -> Response:
        """Answer with the page that `template` makes of what `fill` returns; to an EventSource, again and again.

        `trouble` is a sentence that stands above it. Whoever has no session is sent to sign in.
        """
        visitor = await self.visitor(request)
        if wants_stream(request):
            if visitor is None:
                return Response(live.message("signed-out"), headers=STREAMED)
            return self._streams.stream(request, visitor.key, self._tell(request, template, fill))
        if visitor is None:
            return self._to_sign_in(request)
        try:
            facts = await fill(visitor)
        except RefusalError as error:
            note(request, reason=error.code)
            template, facts, status, trouble = "trouble.html", {}, error.status, error.message
        return self._templates.page(template, self._around(request, visitor, trouble) | dict(facts), status)

    async def posted(self, request: Request) -> tuple[Visitor, dict[str, str]] | Response:
        """Return who sent a form, and its fields, when it is one of ours; without a session the way to sign in.

        Raises RefusalError (403 for another site's form, 400, 408, 413, 415).
        """
        asking.require_own_form(request, self._public_url)
        visitor = await self.visitor(request)
        if visitor is None:
            note(request, reason="signed_out")
            return self.back(asking.sign_in_address(asking.where_form_was(request)))
        form = await asking.read_form(request)
        if not self._vault.form_token_matches(request.cookies[self.cookie], form.pop("csrf", "")):
            raise RefusalError(
                403,
                "stale_form",
                "This form is of another session, so nothing was done; go back, reload the page and press again.",
            )
        return visitor, form

    def back(self, address: str, *, done: str | None = None) -> Response:
        """Answer a form: show the page at `address`, which says what `DONE` has for `done`."""
        if done is not None:
            address += f"{'&' if '?' in address else '?'}{urlencode({'done': done})}"
        return RedirectResponse(address, _SEE_OTHER, HEADERS)

    def _around(self, request: Request, visitor: Visitor | None, trouble: str | None = None) -> dict[str, Any]:
        return {
            "visitor": visitor,
            "now": self._clock.now(),
            "trouble": trouble,
            "done": DONE.get(asking.done(request)),
        }

    def _to_sign_in(self, request: Request) -> Response:
        address = asking.address_of(request)
        if asking.is_link_from_elsewhere(request):
            # The cookie is SameSite=Strict: a page of ours that goes on by itself brings it, once.
            return self._templates.page("again.html", {"address": address})
        return RedirectResponse(asking.sign_in_address(address), _SEE_OTHER, HEADERS)

    async def _tell(self, request: Request, template: str, fill: Fill) -> AsyncIterator[bytes]:
        shown = live.Shown()
        silent = _BEAT_SECONDS
        while not self._stopping():
            begun = self._clock.now()
            visitor = await self.visitor(request)
            if visitor is None:
                yield live.message("signed-out")
                return
            try:
                facts = await fill(visitor)
            except LookTooLongError:
                yield live.message("parts")  # a beat: the page stays as it is
                await self._pause(_BEAT_SECONDS)
                continue
            except RefusalError:
                yield live.message("gone")  # the page itself says why
                return
            changed = shown.news(self._templates.text(template, self._around(request, visitor) | dict(facts)))
            took = max(0, self._clock.now() - begun) / 1000
            rest = min(max(_LOOK_SECONDS, _REST * took), _BEAT_SECONDS)
            if changed or silent >= _BEAT_SECONDS:
                yield live.message("parts", changed)
                silent = 0.0
            silent += took + rest
            await self._pause(rest)
