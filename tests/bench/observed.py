"""What counting costs: creates per second of processor time with and without observers, in turns.

python -m tests.bench.observed [--rounds N]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path

from service.metrics import Metrics
from service.observer import Observers
from tests.proofs.tables import machine, show
from tests.web.house import House, ask, open_house

_CREATES = 2_000
_AT_ONCE = 64


async def rate(folder: Path, *, observed: bool) -> float:
    """Return how many jobs are created in a second of this process' time, whoever else keeps the machine busy."""
    async with open_house(folder) as house:
        if not observed:
            _unobserved(house)
        app = house.app()
        headers = [(b"authorization", f"Bearer {house.key}".encode()), (b"content-type", b"application/json")]
        left = iter(range(_CREATES))

        async def caller() -> None:
            for number in left:
                body = json.dumps({"model": "google/veo-3.1", "prompt": f"kite {number}"}).encode()
                status = await ask(app, "POST", "/v1/jobs", headers, body)
                assert status == 202, status
                house.logged.calls.clear()

        begun = time.process_time()
        await asyncio.gather(*(caller() for _ in range(_AT_ONCE)))
        return _CREATES / (time.process_time() - begun)


def _unobserved(house: House) -> None:
    house.metrics = Observers()  # type: ignore[assignment]
    house.store._ledger.observe = lambda _: None


async def measure(rounds: int) -> tuple[float, float]:
    """Return the median rates without observers and with them."""
    rates: dict[bool, list[float]] = {False: [], True: []}
    for turn in range(2 * rounds):
        with tempfile.TemporaryDirectory() as folder:
            observed = turn % 2 == 1
            rates[observed].append(await rate(Path(folder), observed=observed))
    return statistics.median(rates[False]), statistics.median(rates[True])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of both, in turns (default 5)")
    without, with_them = asyncio.run(measure(parser.parse_args().rounds))
    show(f"{without:,.0f} creates a second without observers, {with_them:,.0f} with: {with_them / without:.3f}.")
    metrics, begun = Metrics("1", ["openrouter"]), time.perf_counter()
    for _ in range(100):
        metrics.exposition("", None, {})
    show(f"Writing the numbers takes {(time.perf_counter() - begun) * 10:.1f} ms. {machine()}")


if __name__ == "__main__":
    main()
