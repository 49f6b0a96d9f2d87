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

    async def create(self, name: str, tenant: str, *, operator: bool = False) -> tuple[ApiKey, str]:
        """Make a key; return its record and the key itself, which cannot be had again."""
        secret = self._ids.secret("rk")
        record = ApiKey(self._ids.new("key"), name, tenant, operator, self._clock.now(), None)
        await self._db.run(
            lambda tx: tx.do(
                "insert_api_key",
                id=record.id,
                name=name,
                tenant=tenant,
                operator=operator,
                hash=_hash(secret),
                now=record.created_at,
            )
        )
        return record, secret

    async def authenticate(self, secret: str) -> ApiKey | None:
        """Return the key's record, None when it is unknown or revoked."""
        row = await self._db.read(lambda tx: tx.one("api_key", hash=_hash(secret)))
        return None if row is None else _api_key(row)

    async def all(self) -> list[ApiKey]:
        """Return every key's record, oldest first."""
        return [_api_key(row) for row in await self._db.read(lambda tx: tx.all("api_keys"))]

    async def revoke(self, key_id: str) -> ApiKey | None:
        """Make a key useless from now on; None when there is no such key, or it was revoked before."""
        row = await self._db.run(lambda tx: tx.one("revoke_api_key", id=key_id, now=self._clock.now()))
        return None if row is None else _api_key(row)


def _hash(secret: str) -> str:
    # A plain hash is enough for a secret of 256 random bits: there is nothing to guess.
    return hashlib.sha256(secret.encode()).hexdigest()


def _api_key(row: Row) -> ApiKey:
    operator = bool(row["operator"])
    return ApiKey(row["id"], row["name"], row["tenant"], operator, row["created_at"], row["revoked_at"])
