"""Signing in with an API key: it opens a session, whose token is a cookie that no script can read."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from service.store import SESSION_MS, KeyStore, Sessions
from service.web.callers import note
from service.web.refusals import RefusalError
from service.web.status import asking
from service.web.status.pages import DONE, Pages
from service.web.status.rendering import HEADERS, Templates
from service.web.turnstile import Turnstile

_SEE_OTHER = 303
_TURN = "sign-in"  # where wrong keys wait their turn
_WRONG = "This key is unknown or was revoked; see `reelkeeper keys list`, and make another one."


class SigningIn:
    """Opens and closes sessions. Wrong keys wait at `turnstile`."""

    def __init__(
        self,
        *,
        keys: KeyStore,
        sessions: Sessions,
        pages: Pages,
        templates: Templates,
        turnstile: Turnstile,
        public_url: str,
    ) -> None:
        self._keys = keys
        self._sessions = sessions
        self._pages = pages
        self._templates = templates
        self._turnstile = turnstile
        self._public_url = public_url

    async def form(self, request: Request) -> Response:
        """Show the form; go on to `?next=` with whoever has signed in before."""
        address = _next(request.query_params.get("next", ""))
        if await self._pages.visitor(request) is not None:
            return RedirectResponse(address, _SEE_OTHER, HEADERS)
        return self._form(address, done=DONE.get(asking.done(request)))

    async def sign_in(self, request: Request) -> Response:
        """Open a session for a right key. Raises RefusalError (403, 429) for another site's form, and in a rush."""
        asking.require_own_form(request, self._public_url)
        if self._turnstile.crowded(_TURN):
            raise RefusalError(429, "too_many_wrong_keys", "Many wrong keys are being tried; try again in a minute.")
        form = await asking.read_form(request)
        address = _next(form.get("next", ""))
        key = await self._keys.authenticate(form.get("key", "").strip())
        if key is None:
            await self._turnstile.wait(_TURN)
            note(request, reason="wrong_key")
            return self._form(address, trouble=_WRONG, status=403)
        await self._close(request)  # whoever signs in once more needs the session before no longer
        note(request, tenant=key.tenant, key=key.id)
        answer = RedirectResponse(address, _SEE_OTHER, HEADERS)
        answer.set_cookie(
            self._pages.cookie,
            await self._sessions.open(key),
            max_age=SESSION_MS // 1000,
            path="/",
            secure=self._pages.secure,
            httponly=True,
            samesite="strict",
        )
        return answer

    async def sign_out(self, request: Request) -> Response:
        """Close the session here, and make the browser forget it."""
        posted = await self._pages.posted(request)
        if isinstance(posted, Response):
            return posted
        await self._close(request)
        answer = self._pages.back(asking.SIGN_IN, done="signed-out")
        answer.delete_cookie(self._pages.cookie, path="/", secure=self._pages.secure, httponly=True, samesite="strict")
        return answer

    async def _close(self, request: Request) -> None:
        if token := request.cookies.get(self._pages.cookie):
            await self._sessions.close(token)

    def _form(
        self, address: str, *, done: str | None = None, trouble: str | None = None, status: int = 200
    ) -> Response:
        facts = {"address": address, "done": done, "trouble": trouble, "visitor": None}
        return self._templates.page("sign_in.html", facts, status)


def _next(address: str) -> str:
    address = asking.without_done(address)
    return address if asking.is_here(address) and not address.startswith(asking.SIGN_IN) else asking.HOME
