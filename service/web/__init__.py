"""The web: what callers, providers and operators reach over HTTP, and the only place that knows status codes.

`jobs` and `content` serve callers, `callbacks` providers, `status` operators. This file binds paths to them and maps
every error to its answer.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Mapping

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.typing import FilteringBoundLogger

from service.clock import Clock
from service.errors import BadCallbackError, BadSignatureError, CallbackError, StorageError, StoreUnavailableError
from service.ids import Ids
from service.logs import redact
from service.providers import Provider
from service.storage import Storage
from service.store import Catalogue, Deliveries, KeyStore, Rejections, Store
from service.vault import Vault
from service.web.actions import Actions
from service.web.batch import Batch
from service.web.callbacks import Callbacks
from service.web.callers import Callers
from service.web.content import Content, Posters
from service.web.creating import Creating
from service.web.events import Events
from service.web.jobs import Jobs
from service.web.models import Models
from service.web.openai import Videos
from service.web.openai_forms import OpenAIForms
from service.web.openapi import Description
from service.web.openrouter import OpenRouterFace
from service.web.openrouter_forms import OpenRouterForms
from service.web.places import Places
from service.web.refusals import RefusalError
from service.web.rejections import RejectedCallbacks
from service.web.requests import NewJobs
from service.web.routing import Routing
from service.web.status import Status, Troubles
from service.web.tally import Tally
from service.web.turnstile import Turnstile
from service.web.views import Views

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}", re.ASCII)
_CLIENT_LEFT = 499  # nobody sees it; nginx made it the word for this in logs


def build_app(  # noqa: PLR0913 - every object that the handlers need comes by name
    *,
    store: Store,
    keys: KeyStore,
    providers: Mapping[str, Provider],
    default_provider: str,
    vault: Vault,
    storage: Storage,
    clock: Clock,
    public_url: str,
    log: FilteringBoundLogger,
    workers: Troubles,
    deliveries: Deliveries,
    catalogue: Catalogue,
    rejections: Rejections,
    tally: Tally,
    turnstile: Turnstile,
    posters: Posters | None = None,
    link_seconds: int = 0,
    allowed_private_hosts: Collection[str] = (),
    open_status: bool = False,
    stopping: Callable[[], bool] = lambda: False,
) -> Starlette:
    """Bind every path to its handler.

    `public_url` has no trailing slash; `workers` tells what is wrong with each worker; `tally` writes rejected
    callbacks to `rejections`, and is closed by whoever made it; `turnstile` is where they wait their turn; signed links
    to storage live for `link_seconds` (0: none are made); callers may be told at `allowed_private_hosts` (`host:port`);
    `open_status` shows the status without a key, for a demonstration on loopback; `stopping` tells streams without an
    end to end.
    """
    views = Views(public_url)
    callers = Callers(keys, store)
    ids = Ids(clock)
    creating = Creating(store, clock, ids)
    new_jobs = NewJobs(providers, default_provider, allowed_private_hosts)
    jobs = Jobs(store=store, callers=callers, creating=creating, new_jobs=new_jobs, views=views)
    batch = Batch(callers=callers, creating=creating, new_jobs=new_jobs, views=views, refused=answer_to)
    actions = Actions(
        store=store,
        deliveries=deliveries,
        callers=callers,
        creating=creating,
        providers=providers,
        views=views,
    )
    events = Events(store=store, callers=callers, views=views, stopping=stopping)
    content = Content(callers=callers, storage=storage, posters=posters, link_seconds=link_seconds)
    models = Models(catalogue, callers, providers)
    routing = Routing(catalogue, providers, default_provider)
    openrouter = OpenRouterFace(
        store=store,
        callers=callers,
        creating=creating,
        content=content,
        routing=routing,
        providers=providers,
        clock=clock,
        forms=OpenRouterForms(public_url),
        allowed_private_hosts=allowed_private_hosts,
    )
    videos = Videos(
        store=store,
        callers=callers,
        creating=creating,
        content=content,
        routing=routing,
        providers=providers,
        vault=vault,
        clock=clock,
        forms=OpenAIForms(public_url),
        allowed_private_hosts=allowed_private_hosts,
    )
    callbacks = Callbacks(store=store, providers=providers, vault=vault, clock=clock, tally=tally, turnstile=turnstile)
    rejected = RejectedCallbacks(rejections, callers)
    status = Status(
        store=store,
        rejections=rejections,
        storage=storage,
        clock=clock,
        providers=providers,
        workers=workers,
        callers=None if open_status else callers,
    )
    app = Starlette(
        routes=[
            Route("/v1/jobs", jobs.create, methods=["POST"]),
            Route("/v1/jobs", jobs.page, methods=["GET"]),
            Route("/v1/jobs/{job_id}", jobs.read, methods=["GET"]),
            Route("/v1/jobs/batch", batch.create, methods=["POST"]),
            Route("/v1/jobs/{job_id}/events", events.read, methods=["GET"]),
            Route("/v1/jobs/{job_id}/deliveries", actions.deliveries, methods=["GET"]),
            Route("/v1/jobs/{job_id}/cancel", actions.cancel, methods=["POST"]),
            Route("/v1/jobs/{job_id}/retry", actions.retry, methods=["POST"]),
            Route("/v1/jobs/{job_id}/redeliver", actions.redeliver, methods=["POST"]),
            Route("/v1/jobs/{job_id}/remirror", actions.remirror, methods=["POST"]),
            Route("/v1/jobs/{job_id}/content", content.read, methods=["GET"]),
            # Before the ids of jobs, of which "models" is none.
            Route("/api/v1/videos/models", models.openrouter, methods=["GET"]),
            Route("/v1/videos/models", models.openai, methods=["GET"]),
            Route("/v1/models", models.openai, methods=["GET"]),
            Route("/v1/models/{id:path}", models.openai_one, methods=["GET"]),
            Route("/api/v1/videos", openrouter.create, methods=["POST"]),
            Route("/api/v1/videos/{job_id}", openrouter.read, methods=["GET"]),
            Route("/api/v1/videos/{job_id}/content", openrouter.content, methods=["GET"]),
            Route("/v1/videos", videos.create, methods=["POST"]),
            Route("/v1/videos", videos.page, methods=["GET"]),
            Route("/v1/videos/edits", videos.nothing, methods=["POST"]),
            Route("/v1/videos/extensions", videos.nothing, methods=["POST"]),
            Route("/v1/videos/characters", videos.nothing, methods=["POST"]),
            Route("/v1/videos/{job_id}/remix", videos.nothing, methods=["POST"]),
            Route("/v1/videos/{job_id}", videos.read, methods=["GET"]),
            Route("/v1/videos/{job_id}", videos.delete, methods=["DELETE"]),
            Route("/v1/videos/{job_id}/content", videos.content, methods=["GET"]),
            Route("/callbacks/{provider}/{job_id}/{token}", callbacks.receive, methods=["POST"]),
            Route("/v1/callbacks/rejected", rejected.page, methods=["GET"]),
            Route("/healthz", status.health, methods=["GET"]),
            Route("/readyz", status.ready, methods=["GET"]),
            Route("/status", status.status, methods=["GET"]),
            Route("/openapi.json", Description(public_url, tuple(providers)).read, methods=["GET"]),
        ],
        middleware=[Middleware(Gate, log=log, ids=ids), Middleware(Places)],
        exception_handlers={HTTPException: _no_route},
    )
    app.router.redirect_slashes = False  # a redirect of a POST loses its body, and a callback's sender follows none
    return app


class Gate:
    """What every request passes: it gets an id, an answer whatever happens, and one line in the log."""

    def __init__(self, app: ASGIApp, *, log: FilteringBoundLogger, ids: Ids) -> None:
        self._app = app
        self._log = log
        self._ids = ids

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()
        request_id = self._request_id(scope)
        about: dict[str, str] = {}
        tell = self._log.info
        scope.setdefault("state", {})["about"] = about
        status = size = 0

        async def send_on(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            size += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, send_on)
        except ClientDisconnect:
            status = status or _CLIENT_LEFT
        except Exception as error:  # noqa: BLE001 - whatever it was, the caller gets an answer and the log the cause
            response = answer_to(error, scope["path"])
            if isinstance(error, RefusalError | CallbackError):
                about["reason"] = error.code if isinstance(error, RefusalError) else str(error)
            if isinstance(error, CallbackError):
                tell = self._log.warning  # somebody forges, or a secret here is not the provider's
            if response.status_code >= 500 and not isinstance(error, RefusalError):  # noqa: PLR2004 - server errors begin here
                known = isinstance(error, StoreUnavailableError | StorageError)
                cause = {"error": redact(str(error))} if known else {"exc_info": error}
                self._log.error("web.failed", request_id=request_id, **cause)
            if not status:
                await response(scope, receive, send_on)
            # An answer that had begun stays unfinished: the server breaks the connection, and nobody takes it as whole.
        finally:
            tell(
                "web.request",
                request_id=request_id,
                method=scope["method"],
                path=redact(scope["path"]),
                status=status,
                ms=round((time.perf_counter() - begun) * 1000, 1),
                bytes=size,
                **about,
            )

    def _request_id(self, scope: Scope) -> str:
        given = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-request-id"]
        return given[0] if len(given) == 1 and _REQUEST_ID.fullmatch(given[0]) else self._ids.new("req")


def answer_to(error: Exception, path: str = "") -> Response:
    """Return the answer to an error, as clients of `path` read it; what nobody expected is told to the log alone."""
    return _refusal(error).response(path)


def _refusal(error: Exception) -> RefusalError:
    match error:
        case RefusalError():
            return error
        case BadSignatureError():
            return RefusalError(401, "bad_signature", _sentence(error))
        case BadCallbackError():
            return RefusalError(400, "bad_callback", _sentence(error))
        case StoreUnavailableError():
            return _try_again("store_unavailable", "The database could not take it, so nothing was kept")
        case StorageError():
            return _try_again("storage_unavailable", "The object storage does not answer")
        case _:
            message = "The service made a mistake, which is in its log under the x-request-id of this answer."
            return RefusalError(500, "internal", message)


def _try_again(code: str, what: str) -> RefusalError:
    return RefusalError(503, code, f"{what}; send the request again in a few seconds.", headers={"retry-after": "5"})


def _sentence(error: Exception) -> str:
    return f"The callback is rejected: {error}."


async def _no_route(request: Request, error: Exception) -> Response:
    """Answer for the router: nothing at this path, or nothing with this method."""
    path = request.scope["path"]
    if isinstance(error, HTTPException) and error.status_code == 405:  # noqa: PLR2004 - method not allowed
        here = [route for route in request.app.routes if route.path_regex.match(path)]
        allowed = ", ".join(sorted({method for route in here for method in route.methods}))
        return RefusalError(
            405, "method_not_allowed", f"This address takes {allowed}, nothing else.", headers={"allow": allowed}
        ).response(path)
    message = "There is nothing at this address; GET /openapi.json lists all that there are."
    if path.startswith(("/videos", "/models")):
        message = (
            "There is nothing at this address: the base URL of your client must end with /api/v1 for the openrouter "
            "SDKs, and with /v1 for the openai SDK."
        )
    return RefusalError(404, "not_found", message).response(path)
