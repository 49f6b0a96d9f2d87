"""The models that providers offer, as they were last listed: kept, so that a provider that is down changes nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from service.db import Database, Tx
from service.model import Model
from service.store.transaction import dumps

_LISTS = ("sizes", "resolutions", "aspect_ratios", "durations")


class Catalogue:
    """Keeps what providers list."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def replace(self, provider: str, models: Sequence[Model]) -> None:
        """Keep what a provider lists now in place of what it listed before."""

        def work(tx: Tx) -> None:
            tx.do("forget_models", provider=provider)
            for model in models:
                tx.do("insert_model", provider=provider, id=model.id, model=dumps(asdict(model)))

        await self._db.run(work)

    async def models(self) -> list[Model]:
        """Return every model, by id."""
        return [_model(row["model"]) for row in await self._db.read(lambda tx: tx.all("models"))]

    async def lists(self, provider: str) -> bool:
        """Tell whether a provider listed anything when it last answered."""
        return await self._db.read(lambda tx: tx.one("lists_models", provider=provider)) is not None

    async def providers_of(self, model_id: str) -> list[str]:
        """Return the names of the providers that offer a model."""
        rows = await self._db.read(lambda tx: tx.all("model_providers", id=model_id))
        return [row["provider"] for row in rows]


def _model(column: str) -> Model:
    fields = json.loads(column)
    for name in _LISTS:
        fields[name] = None if fields[name] is None else tuple(fields[name])
    return Model(**fields)
