"""The whole service, built from its settings: every object is made here, once, and handed what it needs.

It stands beside `__main__`, which would hold two ideas otherwise: what the commands say, and what they run.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
import uvicorn
from starlette.types import ASGIApp
from structlog.typing import FilteringBoundLogger

from service.clock import Clock, SystemClock
from service.config import Config, LocalConfig
from service.db.sqlite import SQLiteDatabase
from service.ids import Ids
from service.media import Examiner, Posters
from service.metrics import Metrics
from service.observer import Observer, Observers
from service.outbound import configured_client, public_client
from service.providers import ListsModels, Manners, Provider
from service.providers.llmgateway import LLMGateway
from service.providers.openrouter import OpenRouter
from service.storage import Storage
from service.store import (
    Backups,
    Catalogue,
    Claims,
    Deliveries,
    Eras,
    Erasures,
    KeyStore,
    Ledger,
    Rejections,
    Sessions,
    Statistics,
    Store,
    Timing,
)
from service.vault import Vault
from service.web import build_app
from service.web.deliveries import Composer
from service.web.heads import BoundedHeads
from service.web.openai_forms import OpenAIForms
from service.web.openrouter_forms import OpenRouterForms
from service.web.status import version
from service.web.tally import Tally
from service.web.turnstile import Turnstile
from service.web.views import Views, rfc3339
from service.workers import Rhythm, Step, Supervisor, Worker, waker
from service.workers.asking import PacedProviders
from service.workers.eraser import Eraser
from service.workers.forgetter import Forgetter
from service.workers.mirror import Mirror
from service.workers.models import ModelLister
from service.workers.notifier import Compose, Notifier
from service.workers.poller import Poller
from service.workers.submitter import DoubtResolver, Submitter
from service.workers.sweeper import Sweeper

_GRACE = 5.0  # seconds for what is under way when the service stops; with what follows it stays below 10
_KEY_MISSING = (
    "the key that these jobs were submitted with is not in REELKEEPER_SECRET_KEY: their callbacks are rejected, and "
    "polls alone can end them. Write it at the end of the list again, for example new-key,old-key, until they ended"
)
# Of each provider, so that one that hangs or drips takes no place from another.
_AT_ONCE = {"submit": 16, "resolve": 8, "poll": 8, "mirror": 3, "notify": 64, "erase": 4, "models": 2}  # all others 1


@dataclass(frozen=True, slots=True)
class Tuning:
    """What is no setting, because nobody who runs the service should need it; a demonstration and tests do.

    `manners` replace every provider's own, `timing` is how long things are waited for, `rhythm` that of all workers,
    and `look_inside` False keeps videos without finding out what they show.
    """

    manners: Manners | None = None
    timing: Timing | None = None
    rhythm: Rhythm | None = None
    look_inside: bool = True


@dataclass(frozen=True, slots=True)
class Records:
    """What the database holds, without the service around it: enough for commands on the same machine."""

    ledger: Ledger
    ids: Ids
    store: Store
    claims: Claims
    deliveries: Deliveries
    erasures: Erasures
    catalogue: Catalogue
    keys: KeyStore
    backups: Backups
    eras: Eras
    rejections: Rejections
    statistics: Statistics
    sessions: Sessions


@dataclass(frozen=True, slots=True)
class Service:
    """A service that is ready to run."""

    records: Records
    app: ASGIApp
    storage: Storage
    workers: dict[str, Worker[Any]]
    supervisor: Supervisor


@asynccontextmanager
async def open_records(
    config: LocalConfig,
    *,
    clock: Clock | None = None,
    chance: random.Random | None = None,
    timing: Timing | None = None,
) -> AsyncIterator[Records]:
    """Open (and migrate) the database of `config`, and close it at the end."""
    clock = clock or SystemClock()
    ids = Ids(clock, chance)
    timing = timing or Timing(job_deadline=config.job_deadline_ms)
    db = await SQLiteDatabase.open(config.database, clock)
    try:
        ledger = Ledger(db, clock)
        yield Records(
            ledger,
            ids,
            Store(ledger, ids, timing),
            Claims(ledger, ids, timing),
            Deliveries(ledger, ids, timing),
            Erasures(ledger, ids, timing),
            Catalogue(db),
            KeyStore(db, clock, ids),
            Backups(ledger, timing),
            Eras(ledger),
            Rejections(ledger),
            Statistics(ledger),
            Sessions(db, clock, ids),
        )
    finally:
        await db.close()


@asynccontextmanager
async def open_service(
    config: Config,
    log: FilteringBoundLogger,
    *,
    clock: Clock | None = None,
    chance: random.Random | None = None,
    tuning: Tuning | None = None,
) -> AsyncIterator[Service]:
    """Build the service."""
    tuning = tuning or Tuning()
    clock = clock or SystemClock()
    chance = chance or secrets.SystemRandom()
    vault = Vault(config.secret_keys)
    async with AsyncExitStack() as stack:
        records = await stack.enter_async_context(
            open_records(config, clock=clock, chance=chance, timing=tuning.timing)
        )
        storage = Storage.open(config.storage, used=await records.store.keeps_videos())
        await _go_on_from_backup(records.backups, log)
        if orphans := await records.eras.begin(vault.key_ids):
            log.warning("serve.key_missing", jobs=orphans, advice=_KEY_MISSING)
        asking = await stack.enter_async_context(configured_client())
        fetching = await stack.enter_async_context(public_client(_reachable(config)))
        telling = await stack.enter_async_context(public_client(config.allowed_private_hosts))
        providers = _providers(config, asking, vault, tuning.manners, clock)
        # By the machine's time, whatever time the service lives in: a flood is one of real requests.
        machine = SystemClock()
        tally, turnstile = Tally(records.rejections, machine), Turnstile(machine)
        stack.push_async_callback(tally.close)
        metrics = Metrics(version(), [provider.name for provider in providers])
        observing: list[Observer] = [metrics]
        if config.traces:
            from service.tracing import Tracing  # noqa: PLC0415 - its packages are an extra, and take time to load

            observing.append(tracing := Tracing.to(config.traces, log))
            stack.push_async_callback(tracing.close)
        observers = Observers(observing, lambda error: log.error("observer.failed", exc_info=error))
        records.ledger.observe = observers.entered
        store, claims, paced = records.store, records.claims, PacedProviders(providers, clock)
        examiner = Examiner(storage, log=log)

        def callback_url(provider: str, job_id: str) -> str:
            return f"{config.public_url}/callbacks/{provider}/{job_id}/{vault.callback_token(job_id)}"

        served = [provider.name for provider in providers]
        listing = {provider.name: provider for provider in providers if isinstance(provider, ListsModels)}
        shared: tuple[Step[Any], ...] = (
            DoubtResolver(claims, served),
            Notifier(
                store,
                records.deliveries,
                _compose(config, vault),
                telling,
                clock,
                chance,
                private_hosts=config.allowed_private_hosts,
            ),
            Eraser(records.erasures, storage, clock, chance),
            ModelLister(records.catalogue, listing, clock, chance),
            Sweeper(storage, clock, chance, log),
            Forgetter(records.statistics, clock, chance),
        )

        def worker(step: Step[Any], name: str) -> Worker[Any]:
            at_once = _AT_ONCE.get(step.name, 1)
            return Worker(
                step, log, name=name, concurrency=at_once, rhythm=tuning.rhythm, clock=clock, observer=observers
            )

        workers = {step.name: worker(step, step.name) for step in shared}
        for name, alone in paced.each().items():
            for step in (
                Submitter(store, claims, alone, callback_url, clock, chance, log),
                Poller(store, claims, alone, clock, chance),
                Mirror(
                    claims,
                    alone,
                    fetching,
                    storage,
                    clock,
                    chance,
                    max_bytes=config.max_video_bytes,
                    examine=examiner.examine if tuning.look_inside else None,
                ),
            ):
                known_as = f"{step.name}:{name}"
                workers[known_as] = worker(step, known_as)
        supervisor = Supervisor(list(workers.values()), log)
        records.ledger.announce = waker(workers.values())
        app = build_app(
            store=records.store,
            keys=records.keys,
            providers={provider.name: provider for provider in providers},
            default_provider=config.default_provider,
            vault=vault,
            storage=storage,
            clock=clock,
            public_url=config.public_url,
            log=log,
            workers=supervisor.trouble,
            stopping=lambda: supervisor.stopping,
            deliveries=records.deliveries,
            catalogue=records.catalogue,
            rejections=records.rejections,
            statistics=records.statistics,
            sessions=records.sessions,
            metrics=metrics,
            tally=tally,
            turnstile=turnstile,
            posters=Posters(examiner, store.keep_footage, clock=clock),
            link_seconds=config.link_seconds,
            allowed_private_hosts=config.allowed_private_hosts,
            observer=observers,
        )
        yield Service(records, app, storage, workers, supervisor)


async def serve(service: Service, listener: socket.socket, stop: asyncio.Event) -> None:
    """Run the workers and answer on `listener` until `stop` is set; then finish what is under way, within 10 s."""
    server = http_server(service.app)
    async with asyncio.TaskGroup() as group:
        group.create_task(service.supervisor.run())
        answering = group.create_task(server.serve(sockets=[listener]))
        stopped = group.create_task(stop.wait())
        await asyncio.wait({answering, stopped}, return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        stop.set()
        await service.supervisor.stop(_GRACE)


def http_server(app: ASGIApp) -> uvicorn.Server:
    """Return uvicorn as we run it: its own loop and parser made fast, its logs and signals left to us."""
    config = uvicorn.Config(
        app,
        access_log=False,
        log_config=None,
        lifespan="off",
        http=BoundedHeads,
        ws="none",
        server_header=False,
        timeout_graceful_shutdown=int(_GRACE),
    )
    return _Server(config)


def listen(host: str, port: int) -> socket.socket:
    """Listen before anything is built, so that a taken port is a plain error and port 0 is known at once.

    Who connects early waits. Raises OSError, and UnicodeError for a host that cannot be a name.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio sets TCP_NODELAY on no other sockets: each answer would take 40 ms more.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen()
    except BaseException:
        listener.close()
        raise
    return listener


def stop_on_signals() -> asyncio.Event:
    """Return an event that SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def _go_on_from_backup(backups: Backups, log: FilteringBoundLogger) -> None:
    # Here and not where the database is opened: commands may look into a backup, which stays one until it is served.
    restored = await backups.restore()
    if restored is not None:
        log.warning(
            "serve.restored",
            taken_at=rfc3339(restored.taken_at),
            in_doubt=restored.in_doubt,
            advice="jobs that were queued then may have been submitted since: a callback adopts them, their deadline "
            "ends them, and none is paid for again that was not meant to be",
        )


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn would raise the signal again once it has closed, and end the process before the workers are done.
        yield


def _providers(
    config: Config, client: httpx.AsyncClient, vault: Vault, manners: Manners | None, clock: Clock
) -> list[Provider]:
    providers: list[Provider] = []
    if openrouter := config.openrouter:
        providers.append(
            OpenRouter(
                client,
                base_url=openrouter.base_url,
                api_key=openrouter.api_key,
                webhook_secrets=openrouter.webhook_secrets,
                manners=manners,
                clock=clock,
            )
        )
    if llmgateway := config.llmgateway:
        providers.append(
            LLMGateway(
                client,
                base_url=llmgateway.base_url,
                api_key=llmgateway.api_key,
                vault=vault,
                manners=manners,
                clock=clock,
            )
        )
    return providers


def _reachable(config: Config) -> set[str]:
    """Return the private hosts that downloads may come from: those allowed, and the configured providers themselves."""
    urls = [urlsplit(provider.base_url) for provider in (config.openrouter, config.llmgateway) if provider]
    own = {url.netloc if url.port else f"{url.netloc}:{443 if url.scheme == 'https' else 80}" for url in urls}
    return set(config.allowed_private_hosts) | own


def _compose(config: Config, vault: Vault) -> Compose:
    """Return what writes the messages that callers are owed, each in the dialect of the face that was used."""
    return Composer(
        vault,
        native=Views(config.public_url).job,
        openrouter=OpenRouterForms(config.public_url).job,
        openai=OpenAIForms(config.public_url).video,
    ).compose
