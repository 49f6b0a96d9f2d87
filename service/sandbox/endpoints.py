"""The endpoints that both dialects have: submit, poll, download, models."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Final

from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from service.clock import Clock
from service.sandbox import connection
from service.sandbox.behaviours import Submit
from service.sandbox.callbacks import Callbacks
from service.sandbox.dialect import Dialect, Order, compact
from service.sandbox.downloads import Downloads
from service.sandbox.jobs import Ledger, ProviderJob, shown_request

MOST_BYTES: Final = 10 * 1_048_576  # of a create body: pictures may come as data: URLs
_MOST_CALLBACK: Final = 16_384  # characters of a callback's URL and secret, which are kept with the job
_MOST_COUNTED: Final = 10_000  # prompts whose submissions are counted

_BAD_GATEWAY: Final = (
    "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n"
    "<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)
_PAGE: Final = "<!doctype html>\n<title>Just a moment...</title>\n<p>Checking your browser.</p>\n"


class Endpoints:
    """One dialect's four endpoints."""

    def __init__(
        self,
        dialect: Dialect,
        *,
        clock: Clock,
        ledger: Ledger,
        callbacks: Callbacks,
        downloads: Downloads,
        speed: float,
    ) -> None:
        self._dialect = dialect
        self._clock = clock
        self._ledger = ledger
        self._callbacks = callbacks
        self._downloads = downloads
        self._speed = speed
        self._submitted: OrderedDict[bytes, int] = OrderedDict()

    def routes(self, prefix: str, models: str) -> list[Route]:
        """Return the routes below `prefix`, with the list of models at `models`."""
        return [
            Route(models, self.models, methods=["GET"]),
            Route(prefix, self.submit, methods=["POST"]),
            Route(prefix + "/{job_id}", self.poll, methods=["GET"]),
            Route(prefix + "/{job_id}/content", self.content, methods=["GET"]),
        ]

    async def models(self, _request: Request) -> Response:
        """List what can be asked for; no key is needed."""
        return self._dialect.models()

    async def submit(self, request: Request) -> Response:
        """Accept a job or refuse it, as its model says."""
        self._ledger.submissions[self._dialect.name] += 1
        raw = await _read(request)
        if raw is None:
            return self._dialect.error(413)
        order = self._dialect.order(request.headers, raw)
        if isinstance(order, Response):
            return order
        if len(order.callback_url or "") + len(order.callback_secret or "") > _MOST_CALLBACK:
            return self._dialect.error(413)
        if self._refuses(request, order):
            status = order.behaviour.refusal
            return self._dialect.error(status, retry_after=1 if order.behaviour.refusals else None)
        job = self._create(order)
        return await self._answer(job)

    async def poll(self, request: Request) -> Response:
        """Tell a job's status."""
        if refusal := self._dialect.stranger(request.headers):
            return refusal
        job = self._find(request)
        if job is None:
            return self._dialect.error(404)
        job.polls += 1
        trouble = self._trouble(job) if job.behaviour.poll_errors else None
        return trouble or self._dialect.shown(job, job.shown_status(self._clock.now()))

    async def content(self, request: Request) -> Response:
        """Serve an output to a caller with the key."""
        if refusal := self._dialect.stranger(request.headers):
            return refusal
        job = self._find(request)
        if job is None:
            return self._dialect.error(404)
        return self.output(request, job, via="content")

    def output(self, request: Request, job: ProviderJob, *, via: str) -> Response:
        """Serve an output to a caller who may have it; `index` counts in OpenRouter's dialect only."""
        index = request.query_params.get("index", "0") if job.dialect == "openrouter" else "0"
        if not (index.isascii() and index.isdigit()):
            return self._dialect.error(400, "index must be a whole number, 0 or more")
        status = job.shown_status(self._clock.now())
        if status != "completed":
            return self._dialect.not_ready(status)
        if len(index) > 3 or int(index) >= job.behaviour.outputs:  # noqa: PLR2004 - more digits than any output has
            return self._dialect.error(404, f"This job has no output {index:.20}")
        return self._downloads.serve(request, job, self._dialect, int(index), via=via)

    def _find(self, request: Request) -> ProviderJob | None:
        job = self._ledger.find(request.path_params["job_id"])
        return job if job is not None and job.dialect == self._dialect.name else None

    def _refuses(self, request: Request, order: Order) -> bool:
        """Whether this submission is refused; where that passes, submissions count by key, model and prompt."""
        behaviour = order.behaviour
        if behaviour.submit is not Submit.REFUSE:
            return False
        if behaviour.refusals is None:
            return True
        credential = request.headers.get("authorization") or request.headers.get("x-api-key", "")
        asked = hashlib.sha256(compact([credential, order.model, order.prompt])).digest()
        before = self._submitted.pop(asked, 0)
        self._submitted[asked] = before + 1
        if len(self._submitted) > _MOST_COUNTED:
            self._submitted.popitem(last=False)
        return before < behaviour.refusals

    def _create(self, order: Order) -> ProviderJob:
        job_id, other_id = self._dialect.new_ids()
        job = ProviderJob(
            id=job_id,
            other_id=other_id,
            number=self._ledger.accepted + 1,
            dialect=self._dialect.name,
            model=order.model,
            behaviour=order.behaviour,
            created_at=self._clock.now(),
            speed=self._speed,
            request=shown_request(order.request),
            callback_url=order.callback_url,
            callback_secret=order.callback_secret,
        )
        self._ledger.add(job)
        return job

    async def _answer(self, job: ProviderJob) -> Response:
        submit = job.behaviour.submit
        if submit is Submit.AFTER_CALLBACK:
            await self._callbacks.send_now(job)
        else:
            self._callbacks.plan(job)
        if submit is Submit.BAD_GATEWAY:
            return HTMLResponse(_BAD_GATEWAY, 502)
        if submit is Submit.PAGE:
            return HTMLResponse(_PAGE)
        if submit is Submit.HANG:
            return _Silence()
        if submit is Submit.RESET:
            return _Reset()
        return self._dialect.accepted(job)

    def _trouble(self, job: ProviderJob) -> Response | None:
        if job.polls == 1:
            return self._dialect.error(500)
        if job.polls == 2:  # noqa: PLR2004 - the second poll
            return HTMLResponse(_BAD_GATEWAY, 502)
        if job.polls == 3:  # noqa: PLR2004 - the third poll
            return self._dialect.error(429, retry_after=1)
        return None


class _Silence(Response):
    """No answer, until the caller goes away."""

    async def __call__(self, _scope: Scope, receive: Receive, _send: Send) -> None:
        """Wait for the caller to give up."""
        await connection.until_gone(receive)


class _Reset(Response):
    """No answer: the connection is reset."""

    async def __call__(self, scope: Scope, receive: Receive, _send: Send) -> None:
        """Reset the connection."""
        await connection.reset(scope, receive)


async def _read(request: Request) -> bytes | None:
    """Return the body, None if it is longer than MOST_BYTES."""
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MOST_BYTES:
                return None
    except ClientDisconnect:
        return b""
    return bytes(body)
