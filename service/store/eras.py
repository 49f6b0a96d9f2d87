"""Which secret key was the current one, and when: so that one that is missing too early is noticed at once."""

from __future__ import annotations

from collections.abc import Sequence

from service.store.transaction import Ledger, Transaction, dumps


class Eras:
    """Remembers the names of the secret keys, which say nothing about the keys."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def begin(self, key_ids: Sequence[str]) -> int:
        """Note that the first of the keys makes what is new from now on.

        Return how many jobs still expect a callback that none of these keys can recognise.
        """

        def work(tx: Transaction) -> int:
            [row] = tx.all("orphans", key_ids=dumps(list(key_ids)))
            current = tx.one("current_era", now=tx.now)
            if current is None or current["key_id"] != key_ids[0]:
                tx.do("begin_era", key_id=key_ids[0], now=tx.now)
            orphans: int = row["jobs"]
            return orphans

        return await self._ledger.write(work)
