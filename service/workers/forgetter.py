"""Old numbers are forgotten."""

from __future__ import annotations

from service.store import Statistics
from service.workers import Outcome


class Forgetter:
    """Keeps the statistics small."""

    name = "forget"

    def __init__(self, statistics: Statistics) -> None:
        self._statistics = statistics

    async def do(self) -> Outcome:
        """Forget what is old."""
        await self._statistics.forget()
        return Outcome("forgotten")
