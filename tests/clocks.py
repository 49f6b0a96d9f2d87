"""A clock that several processes share, and that goes faster than the machine's."""

from __future__ import annotations

from service.clock import SystemClock


class FastClock:
    """Goes `rate` times as fast as the machine's clock since unix ms `since`, when both were equal.

    Processes with the same rate and beginning agree on the time: what is measured in hours, such as leases, retries and
    deadlines, is lived through in minutes, while sockets, files and processors stay as slow as they are.
    """

    def __init__(self, rate: float = 1.0, since: int = 0) -> None:
        self.rate = rate
        self.since = since
        self._machine = SystemClock()

    def now(self) -> int:
        """Return the time as unix milliseconds."""
        return self.since + round((self._machine.now() - self.since) * self.rate)
