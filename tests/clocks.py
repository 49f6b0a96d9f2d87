"""A clock that several processes share, and that goes faster than the machine's."""

from __future__ import annotations

import time

from service.clock import SystemClock

_TRIED_S = 0.2


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


def share_of_processor() -> float:
    """Return how much of a processor whoever wants one gets just now: 1, or less on a machine that others use, too."""
    began, used = time.monotonic(), time.process_time()
    while time.process_time() - used < _TRIED_S:
        pass
    return min(1.0, _TRIED_S / (time.monotonic() - began))
