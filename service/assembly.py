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

import uvicorn
from starlette.types import ASGIApp
from structlog.typing import FilteringBoundLogger

from service.clock import Clock, SystemClock
from service.config import Config
from service.configured import providers_of, reachable, tracing_of
from service.media import Examiner, Posters
from service.metrics import Metrics
from service.observer import Observer, Observers
from service.outbound import configured_client, public_client
from service.providers import Manners
from service.records import Records, open_records
from service.storage import Storage
from service.store import Backups, Timing
from service.vault import Vault
from service.web.app import build_app
from service.web.deliveries import Composer
from service.web.heads import BoundedHeads
from service.web.openai_forms import OpenAIForms
from service.web.openrouter_forms import OpenRouterForms
from service.web.status.health import version
from service.web.tally import Tally
from service.web.turnstile import Turnstile
from service.web.views import Views, rfc3339
from service.workers import Rhythm, Supervisor, Worker, waker
from service.workers.crew import build_workers
from service.workers.notifier import Compose

_GRACE = 5.0  # seconds for what is under way when the service stops; with what follows it stays below 10
_KEY_MISSING = (
    "the key that these jobs were submitted with is not in REELKEEPER_SECRET_KEY: their callbacks are rejected, and "
    "polls alone can end them. Write it at the end of the list again, for example new-key,old-key, until they ended"
)


@dataclass(frozen=True, slots=True)
class Tuning:
    """What is no setting, because nobody who runs the service should need it; a demonstration and tests do.

    `manners` replace every provider's own, `timing` is how long things are waited for, `rhythm` that of all workers,
    and `look_inside` False keeps videos without finding out what they show. `scrape_seconds` is how long a reader of
    the numbers waits for the database, `flush_seconds` how long the end waits for a collector to take the last traces.
    """

    manners: Manners | None = None
    timing: Timing | None = None
    rhythm: Rhythm | None = None
    look_inside: bool = True
    scrape_seconds: float = 1.0
    flush_seconds: float = 2.0


@dataclass(frozen=True, slots=True)
class Service:
    """A service that is ready to run."""

    records: Records
    app: ASGIApp
    storage: Storage
    workers: dict[str, Worker[Any]]
    supervisor: Supervisor


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
        fetching = await stack.enter_async_context(public_client(reachable(config)))
        telling = await stack.enter_async_context(public_client(config.allowed_private_hosts))
        providers = providers_of(config, asking, vault, tuning.manners, clock)
        # By the machine's time, whatever time the service lives in: a flood is one of real requests.
        machine = SystemClock()
        tally, turnstile = Tally(records.rejections, machine), Turnstile(machine)
        stack.push_async_callback(tally.close)
        metrics = Metrics(version(), config.configured)
        tracing = tracing_of(config, log, tuning.flush_seconds)
        if tracing is not None:
            stack.push_async_callback(tracing.close)
        observing: list[Observer] = [metrics] if tracing is None else [metrics, tracing]
        observers = Observers(observing, lambda error: log.error("observer.failed", exc_info=error))
        records.ledger.observe = observers.entered
        store, examiner = records.store, Examiner(storage, log=log)

        def callback_url(provider: str, job_id: str) -> str:
            return f"{config.public_url}/callbacks/{provider}/{job_id}/{vault.callback_token(job_id)}"

        workers = build_workers(
            store=store,
            claims=records.claims,
            deliveries=records.deliveries,
            erasures=records.erasures,
            catalogue=records.catalogue,
            statistics=records.statistics,
            storage=storage,
            providers=providers,
            callback_url=callback_url,
            fetching=fetching,
            max_video_bytes=config.max_video_bytes,
            examine=examiner.examine if tuning.look_inside else None,
            compose=_compose(config, vault),
            telling=telling,
            allowed_private_hosts=config.allowed_private_hosts,
            clock=clock,
            chance=chance,
            log=log,
            observer=observers,
            rhythm=tuning.rhythm,
        )
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
            wrong_keys=Turnstile(machine),
            posters=Posters(examiner, store.keep_footage, clock=clock),
            link_seconds=config.link_seconds,
            scrape_seconds=tuning.scrape_seconds,
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


def _compose(config: Config, vault: Vault) -> Compose:
    """Return what writes the messages that callers are owed, each in the dialect of the face that was used."""
    return Composer(
        vault,
        native=Views(config.public_url).job,
        openrouter=OpenRouterForms(config.public_url).job,
        openai=OpenAIForms(config.public_url).video,
    ).compose
