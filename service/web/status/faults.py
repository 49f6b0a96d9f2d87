"""What browsers see of the status when something goes wrong: a page where a program gets JSON."""

from __future__ import annotations

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.web.gate import refusal_of
from service.web.status import asking
from service.web.status.rendering import Templates


class FaultPages:
    """Answers browsers with a page when a request for one ends in an error, which goes on to the gate and its log."""

    def __init__(self, app: ASGIApp, *, templates: Templates) -> None:
        self._app = app
        self._templates = templates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        begun = False

        async def send_on(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, send_on)
        except ClientDisconnect:
            raise
        except Exception as error:
            if not begun and asking.is_here(scope["path"]) and asking.wants_html(Request(scope)):
                refusal = refusal_of(error)
                facts = {"visitor": None, "done": None, "trouble": refusal.message}
                await self._templates.page("trouble.html", facts, refusal.status, refusal.headers)(scope, receive, send)
            raise
