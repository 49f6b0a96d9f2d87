"""The web as one app: every object that answers, bound to its paths, and every error to its answer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from structlog.typing import FilteringBoundLogger

from service.clock import Clock
from service.ids import Ids
from service.metrics import Metrics
from service.observer import Observer, Observers
from service.providers import Provider
from service.storage import Storage
from service.store import Catalogue, Deliveries, KeyStore, Rejections, Sessions, Statistics, Store
from service.vault import Vault
from service.web.acting import Acting
from service.web.actions import Actions
from service.web.batch import Batch
from service.web.callbacks import Callbacks
from service.web.callers import Callers
from service.web.content import Content, Posters
from service.web.creating import Creating
from service.web.events import Events
from service.web.gate import Gate, answer_to
from service.web.jobs import Jobs
from service.web.keys import Keys
from service.web.metrics import Scrape
from service.web.models import Models
from service.web.openai import Videos
from service.web.openai_forms import OpenAIForms
from service.web.openapi import Description
from service.web.openrouter import OpenRouterFace
from service.web.openrouter_forms import OpenRouterForms
from service.web.places import Places
from service.web.receivers import Receivers
from service.web.refusals import RefusalError
from service.web.rejections import RejectedCallbacks
from service.web.requests import NewJobs
from service.web.routing import Routing
from service.web.status.asking import is_here, wants_html
from service.web.status.callbacks import CallbacksPage
from service.web.status.deliveries import DeliveriesPage
from service.web.status.facts import Facts
from service.web.status.faults import FaultPages
from service.web.status.health import Health, Troubles
from service.web.status.job import JobPage
from service.web.status.jobs import JobsPage
from service.web.status.overview import OverviewPage, Snapshots
from service.web.status.pages import Pages
from service.web.status.rendering import Files, Templates
from service.web.status.signing_in import SigningIn
from service.web.streams import Streams
from service.web.tally import Tally
from service.web.turnstile import Turnstile
from service.web.views import Views


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
    statistics: Statistics,
    sessions: Sessions,
    metrics: Metrics,
    tally: Tally,
    turnstile: Turnstile,
    wrong_keys: Turnstile,
    scrape_seconds: float,
    posters: Posters | None = None,
    link_seconds: int = 0,
    allowed_private_hosts: Collection[str] = (),
    stopping: Callable[[], bool] = lambda: False,
    observer: Observer | None = None,
) -> Starlette:
    """Bind every path to its handler.

    `public_url` has no trailing slash; `workers` tells what is wrong with each worker; `metrics` are shown to
    operators, and wait for the database for `scrape_seconds`; `tally` writes rejected callbacks to `rejections`, and is
    closed by whoever made it; `turnstile` is where they wait their turn, and `wrong_keys` where those wait who
    sign in with one; signed links to storage live for `link_seconds` (0: none are made); callers may be told at
    `allowed_private_hosts` (`host:port`); `stopping` tells streams without an end to end; `observer` is told of
    requests and callbacks.
    """
    observer = observer or Observers()
    views = Views(public_url)
    callers = Callers(keys, store)
    ids = Ids(clock)
    creating = Creating(store, clock, ids)
    new_jobs = NewJobs(providers, default_provider, allowed_private_hosts)
    jobs = Jobs(store=store, callers=callers, creating=creating, new_jobs=new_jobs, views=views)
    batch = Batch(callers=callers, creating=creating, new_jobs=new_jobs, views=views, refused=answer_to)
    acting = Acting(
        store=store, deliveries=deliveries, creating=creating, providers=providers, views=views, clock=clock
    )
    actions = Actions(
        store=store, deliveries=deliveries, callers=callers, creating=creating, acting=acting, views=views
    )
    streams = Streams()
    events = Events(store=store, callers=callers, views=views, streams=streams, stopping=stopping)
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
    callbacks = Callbacks(
        store=store,
        providers=providers,
        vault=vault,
        clock=clock,
        tally=tally,
        turnstile=turnstile,
        observer=observer,
    )
    api_keys = Keys(keys, callers)
    rejected = RejectedCallbacks(rejections, callers)
    receivers = Receivers(deliveries, callers)
    health = Health(store=store, storage=storage, clock=clock, workers=workers)
    scrape = Scrape(
        metrics=metrics,
        statistics=statistics,
        deliveries=deliveries,
        workers=workers,
        callers=callers,
        clock=clock,
        seconds=scrape_seconds,
    )
    files = Files()
    templates = Templates(files)
    pages = Pages(
        sessions=sessions,
        vault=vault,
        clock=clock,
        templates=templates,
        public_url=public_url,
        streams=streams,
        stopping=stopping,
    )
    signing_in = SigningIn(
        keys=keys,
        sessions=sessions,
        pages=pages,
        templates=templates,
        turnstile=wrong_keys,
        public_url=public_url,
    )
    overview = OverviewPage(
        pages=pages,
        callers=callers,
        snapshots=Snapshots(statistics, rejections, deliveries, store, clock),
        health=health,
        providers=providers,
    )
    jobs_page = JobsPage(pages, store, providers)
    facts = Facts(
        store=store,
        deliveries=deliveries,
        rejections=rejections,
        acting=acting,
        clock=clock,
        public_url=public_url,
        providers=providers,
    )
    job_page = JobPage(pages=pages, store=store, acting=acting, content=content, facts=facts)
    callbacks_page = CallbacksPage(pages, rejections, providers)
    deliveries_page = DeliveriesPage(pages, deliveries)
    app = Starlette(
        routes=[
            Route("/v1/jobs", jobs.create, methods=["POST"]),
            Route("/v1/jobs", jobs.page, methods=["GET"]),
            Route("/v1/jobs/{job_id}", jobs.read, methods=["GET"]),
            Route("/v1/jobs/batch", batch.create, methods=["POST"]),
            Route("/v1/jobs/{job_id}/events", events.read, methods=["GET"]),
            Route("/v1/jobs/{job_id}/deliveries", actions.deliveries, methods=["GET"]),
            Route("/v1/jobs/{job_id}/receipts", actions.receipts, methods=["GET"]),
            Route("/v1/jobs/{job_id}/cancel", actions.cancel, methods=["POST"]),
            Route("/v1/jobs/{job_id}/retry", actions.retry, methods=["POST"]),
            Route("/v1/jobs/{job_id}/redeliver", actions.redeliver, methods=["POST"]),
            Route("/v1/jobs/{job_id}/remirror", actions.remirror, methods=["POST"]),
            Route("/v1/jobs/{job_id}/attach", actions.attach, methods=["POST"]),
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
            Route("/v1/receivers", receivers.page, methods=["GET"]),
            Route("/v1/receivers/redeliver", receivers.redeliver, methods=["POST"]),
            Route("/v1/keys", api_keys.page, methods=["GET"]),
            Route("/v1/keys", api_keys.create, methods=["POST"]),
            Route("/v1/keys/{key_id}/revoke", api_keys.revoke, methods=["POST"]),
            Route("/healthz", health.health, methods=["GET"]),
            Route("/readyz", health.ready, methods=["GET"]),
            Route("/metrics", scrape.read, methods=["GET"]),
            Route("/status", overview.page, methods=["GET"]),
            Route("/status.json", overview.json, methods=["GET"]),
            Route("/status/sign-in", signing_in.form, methods=["GET"]),
            Route("/status/sign-in", signing_in.sign_in, methods=["POST"]),
            Route("/status/sign-out", signing_in.sign_out, methods=["POST"]),
            Route("/status/static/{name}", files.read, methods=["GET"]),
            Route("/status/jobs", jobs_page.page, methods=["GET"]),
            Route("/status/jobs/{job_id}", job_page.page, methods=["GET"]),
            Route("/status/jobs/{job_id}/content", job_page.content, methods=["GET"]),
            Route("/status/jobs/{job_id}/poster", job_page.poster, methods=["GET"]),
            Route("/status/jobs/{job_id}/{action}", job_page.act, methods=["POST"]),
            Route("/status/jobs/{job_id}/{action}", job_page.again, methods=["GET"]),
            Route("/status/callbacks", callbacks_page.page, methods=["GET"]),
            Route("/status/deliveries", deliveries_page.page, methods=["GET"]),
            Route("/status/deliveries/redeliver", deliveries_page.redeliver, methods=["POST"]),
            Route("/status/deliveries/redeliver", deliveries_page.again, methods=["GET"]),
            Route("/openapi.json", Description(public_url, tuple(providers)).read, methods=["GET"]),
        ],
        middleware=[
            Middleware(Gate, log=log, ids=ids, clock=clock, observer=observer),
            Middleware(Places),
            Middleware(FaultPages, templates=templates),
        ],
        exception_handlers={HTTPException: _no_route},
    )
    app.router.redirect_slashes = False  # a redirect of a POST loses its body, and a callback's sender follows none
    return app


async def _no_route(request: Request, error: Exception) -> Response:
    """Answer for the router: nothing at this path, or nothing with this method."""
    path = request.scope["path"]
    if is_here(path) and wants_html(request):
        raise RefusalError(404, "not_found", "There is no page at this address.")
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
