"""API keys: who may call, and as whom. Stored hashed; the key itself is shown once, when it is made."""

from __future__ import annotations

import hashlib

from service.clock import Clock
from service.db import Database, Row
from service.ids import Ids
from service.model import ApiKey


class KeyStore:
    """Makes, lists, checks and revokes API keys."""

    def __init__(self, db: Database, clock: Clock, ids: Ids) -> None:
        self._db = db
        self._clock = clock
        self._ids = ids

    async def create(
        self,
        name: str,
        tenant: str,
        *,
        operator: bool = False,
        dedupe_window_ms: int = 0,
        creates_per_minute: int | None = None,
    ) -> tuple[ApiKey, str]:
        """Make a key; return its record and the key itself, which cannot be had again."""
        secret = self._ids.secret("rk")
        now = self._clock.now()
        record = ApiKey(self._ids.new("key"), name, tenant, operator, now, None, dedupe_window_ms, creates_per_minute)
        await self._db.run(
            lambda tx: tx.do(
                "insert_api_key",
                id=record.id,
                name=name,
                tenant=tenant,
                operator=operator,
                hash=_hash(secret),
                now=now,
                dedupe_window_ms=dedupe_window_ms,
                creates_per_minute=creates_per_minute,
            )
        )
        return record, secret

    async def authenticate(self, secret: str) -> ApiKey | None:
        """Return the key's record, None when it is unknown or revoked."""
        row = await self._db.read(lambda tx: tx.one("api_key", hash=_hash(secret)))
        return None if row is None else api_key_from(row)

    async def all(self) -> list[ApiKey]:
        """Return every key's record, oldest first."""
        return [api_key_from(row) for row in await self._db.read(lambda tx: tx.all("api_keys"))]

    async def revoke(self, key_id: str) -> ApiKey | None:
        """Make a key useless from now on; None when there is no such key, or it was revoked before."""
        row = await self._db.run(lambda tx: tx.one("revoke_api_key", id=key_id, now=self._clock.now()))
        return None if row is None else api_key_from(row)


def _hash(secret: str) -> str:
    # A plain hash is enough for a secret of 256 random bits: there is nothing to guess.
    return hashlib.sha256(secret.encode()).hexdigest()


def api_key_from(row: Row) -> ApiKey:
    """Return the key that a row of `api_keys` describes."""
    fields = {name: row[name] for name in ApiKey.__dataclass_fields__}
    return ApiKey(**fields | {"operator": bool(row["operator"])})
