"""The sandbox as one object: both dialects, the ledger, and the callbacks."""

from __future__ import annotations

import random

import httpx
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from service.clock import Clock
from service.sandbox.behaviours import BEHAVIOURS
from service.sandbox.callbacks import Callbacks
from service.sandbox.dialect import Dialect
from service.sandbox.downloads import Downloads
from service.sandbox.endpoints import Endpoints
from service.sandbox.jobs import Ledger
from service.sandbox.links import Links
from service.sandbox.llmgateway import LLMGateway
from service.sandbox.openrouter import OpenRouter


class Sandbox:
    """A stand-in provider that speaks OpenRouter's and LLM Gateway's wire formats and signs for real.

    `webhook_secret` signs OpenRouter's callbacks (empty: unsigned); LLM Gateway's are signed with each job's own
    secret. `api_key` is the only key accepted, None accepts any. `base_url` is its own public address and may be set
    later. `speed` divides every duration, retries included. `client` sends the callbacks and is closed by whoever
    made it. The oldest of more than `most_jobs` jobs are forgotten.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        chance: random.Random,
        webhook_secret: str,
        client: httpx.AsyncClient,
        api_key: str | None = None,
        base_url: str = "",
        speed: float = 1.0,
        most_jobs: int = 100_000,
    ) -> None:
        self._clock = clock
        self.ledger = Ledger(most_jobs)
        self._links = Links(clock, chance.randbytes(32), base_url)
        self._openrouter = OpenRouter(
            clock=clock, chance=chance, links=self._links, api_key=api_key, webhook_secret=webhook_secret
        )
        self._llmgateway = LLMGateway(clock=clock, chance=chance, links=self._links, api_key=api_key)
        dialects: dict[str, Dialect] = {each.name: each for each in (self._openrouter, self._llmgateway)}
        self._callbacks = Callbacks(clock=clock, client=client, ledger=self.ledger, dialects=dialects, speed=speed)
        self._downloads = Downloads(clock=clock, links=self._links, ledger=self.ledger, speed=speed)
        openrouter, self._gateway = (
            Endpoints(
                dialect,
                clock=clock,
                ledger=self.ledger,
                callbacks=self._callbacks,
                downloads=self._downloads,
                speed=speed,
            )
            for dialect in dialects.values()
        )
        self.app = Starlette(
            routes=[
                *openrouter.routes("/api/v1/videos", "/api/v1/videos/models"),
                Route("/v1/videos/logs/{log_id}/content", self._log_content, methods=["GET"]),
                *self._gateway.routes("/v1/videos", "/v1/models"),
                Route("/files/{job_id}/{index:int}", self._downloads.elsewhere, methods=["GET"]),
                Route("/sandbox/ledger", self._show_ledger, methods=["GET"]),
                Route("/", self._front_page, methods=["GET"]),
            ],
            exception_handlers={HTTPException: self._unknown_route},
        )
        self.app.router.redirect_slashes = False

    @property
    def base_url(self) -> str:
        """Its own public address, without a slash at the end; empty until it is known."""
        return self._links.base_url

    @base_url.setter
    def base_url(self, url: str) -> None:
        self._links.base_url = url.rstrip("/")

    @property
    def elsewhere(self) -> str:
        """The other origin that it redirects to and links to: the same socket under another host name."""
        return self._links.elsewhere

    async def run_once(self) -> int:
        """Send every callback that is due, and return how many requests were made."""
        return await self._callbacks.send_due()

    async def run(self) -> None:
        """Send callbacks when they are due, until cancelled."""
        while True:
            await self.run_once()
            await self._callbacks.wait()

    async def _log_content(self, request: Request) -> Response:
        log_id = request.path_params["log_id"]
        if not self._links.allows(request.query_params.get("token", ""), log_id):
            return self._llmgateway.error(401, "Unauthorized: Invalid or expired video access token.")
        job = self.ledger.find_other(log_id)
        if job is None:
            return self._llmgateway.error(404)
        return self._gateway.output(request, job, via="link")

    async def _show_ledger(self, _request: Request) -> Response:
        return StreamingResponse(self.ledger.lines(self._clock.now()), media_type="application/json")

    async def _front_page(self, _request: Request) -> Response:
        width = max(map(len, BEHAVIOURS))
        models = "\n".join(f"  {name:<{width}}  {behaviour.sentence}" for name, behaviour in BEHAVIOURS.items())
        return PlainTextResponse(
            "A stand-in for video-generation providers. It makes no videos and costs nothing.\n\n"
            f"  OpenRouter's dialect    {self.base_url}/api/v1\n"
            f"  LLM Gateway's dialect   {self.base_url}/v1\n"
            f"  What it did             {self.base_url}/sandbox/ledger\n\n"
            f"The model's name chooses how it behaves:\n\n{models}\n"
        )

    async def _unknown_route(self, request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        if request.url.path.startswith("/api/"):
            said = "Not Found" if status == 404 else "Method Not Allowed"  # noqa: PLR2004 - an HTTP status
            return self._openrouter.error(status, said)
        # LLM Gateway knows no 405: what has no route is not found, as text (observed).
        headers = self._llmgateway.content_headers() | {"content-type": "text/plain; charset=UTF-8"}
        return Response("404 Not Found", 404, headers)
