"""Who is signed in to the pages. Of the token, which the browser carries, only its hash is kept."""

from __future__ import annotations

import hashlib

from service.clock import Clock
from service.db import Database, Tx
from service.ids import Ids
from service.model import ApiKey
from service.store.keys import api_key_from

SESSION_MS = 12 * 3_600_000
"""For so long a session is good."""

_MOST = 50  # of one key: whoever signs in again and again fills nothing


class Sessions:
    """Opens, checks and closes sessions. One is good for twelve hours, and no longer than its key."""

    def __init__(self, db: Database, clock: Clock, ids: Ids) -> None:
        self._db = db
        self._clock = clock
        self._ids = ids

    async def open(self, key: ApiKey) -> str:
        """Return the token of a new session, which cannot be had again; of one key's the 50 newest are kept."""
        token = self._ids.secret("rks")
        now = self._clock.now()

        def work(tx: Tx) -> None:
            tx.do("forget_sessions", now=now)
            tx.do("insert_session", hash=_hash(token), api_key_id=key.id, now=now, expires_at=now + SESSION_MS)
            tx.do("trim_sessions", api_key_id=key.id, most=_MOST)

        await self._db.run(work)
        return token

    async def key_of(self, token: str) -> ApiKey | None:
        """Return whose session it is; None when it has expired or was closed, or its key was revoked."""
        row = await self._db.read(lambda tx: tx.one("session_key", hash=_hash(token), now=self._clock.now()))
        return None if row is None else api_key_from(row)

    async def close(self, token: str) -> None:
        """End a session."""
        await self._db.run(lambda tx: tx.do("close_session", hash=_hash(token)))


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()
