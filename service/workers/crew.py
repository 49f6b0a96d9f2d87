"""Who works in a service: every step, with what it needs and how much of it at once."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from typing import Any

import httpx
from structlog.typing import FilteringBoundLogger

from service.clock import Clock
from service.observer import Observer
from service.providers import ListsModels, Provider
from service.storage import Storage
from service.store import Catalogue, Claims, Deliveries, Erasures, Statistics, Store
from service.workers import Rhythm, Step, Worker
from service.workers.asking import PacedProviders
from service.workers.eraser import Eraser
from service.workers.forgetter import Forgetter
from service.workers.mirror import Examine, Mirror
from service.workers.models import ModelLister
from service.workers.notifier import Compose, Notifier
from service.workers.periodic import Periodic
from service.workers.poller import Poller
from service.workers.submitter import DoubtResolver, Submitter
from service.workers.sweeper import Sweeper

# Of each provider, so that one that hangs or drips takes no place from another.
_AT_ONCE = {"submit": 16, "resolve": 8, "poll": 8, "mirror": 3, "notify": 64, "erase": 4, "models": 2}  # all others 1


def build_workers(  # noqa: PLR0913 - every object that the steps need comes by name
    *,
    store: Store,
    claims: Claims,
    deliveries: Deliveries,
    erasures: Erasures,
    catalogue: Catalogue,
    statistics: Statistics,
    storage: Storage,
    providers: Sequence[Provider],
    callback_url: Callable[[str, str], str],
    fetching: httpx.AsyncClient,
    max_video_bytes: int,
    examine: Examine | None,
    compose: Compose,
    telling: httpx.AsyncClient,
    allowed_private_hosts: Collection[str],
    clock: Clock,
    chance: random.Random,
    log: FilteringBoundLogger,
    observer: Observer,
    rhythm: Rhythm | None = None,
) -> dict[str, Worker[Any]]:
    """Return a worker for every step, by its name: one for each provider ("poll:openrouter") where steps ask them.

    `callback_url` makes the address at which a provider reports about a job; `fetching` reads its outputs, of at most
    `max_video_bytes`, which `examine` looks into; `telling` sends callers what `compose` writes.
    """
    listing = {provider.name: provider for provider in providers if isinstance(provider, ListsModels)}
    steps: dict[str, Step[Any]] = {
        step.name: step
        for step in (
            DoubtResolver(claims, [provider.name for provider in providers]),
            Notifier(store, deliveries, compose, telling, clock, chance, private_hosts=allowed_private_hosts),
            Eraser(erasures, storage, clock, chance),
            ModelLister(catalogue, listing, clock, chance),
            Periodic(Sweeper(storage, clock, log), clock, chance),
            Periodic(Forgetter(statistics), clock, chance),
        )
    }
    for name, alone in PacedProviders(providers, clock).each().items():
        steps |= {
            f"{step.name}:{name}": step
            for step in (
                Submitter(store, claims, alone, callback_url, clock, chance, log),
                Poller(store, claims, alone, clock, chance),
                Mirror(claims, alone, fetching, storage, clock, chance, max_bytes=max_video_bytes, examine=examine),
            )
        }
    return {
        name: Worker(
            step,
            log,
            name=name,
            concurrency=_AT_ONCE.get(step.name, 1),
            rhythm=rhythm,
            clock=clock,
            observer=observer,
        )
        for name, step in steps.items()
    }
