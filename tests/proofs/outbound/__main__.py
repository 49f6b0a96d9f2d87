"""Send the service's clients where strangers want them: `python -m tests.proofs.outbound`."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.proofs.command import carry_out, options
from tests.proofs.outbound import addresses, answers
from tests.proofs.outbound.world import Finding
from tests.proofs.tables import machine, show, table

SHORT = (
    "gzip of 100 MB of zeros",
    "an endless body",
    "endless headers",
    "a storm of 1xx answers",
    "16,000 headers in 64 KiB",
)


async def prove(folder: Path, bombs: Sequence[str] = ()) -> dict[str, list[Finding]]:
    """Try everything; `bombs` chooses some."""
    return {
        "address, as a download and as a notification": await addresses.findings(),
        "key": await answers.keys(),
        "bomb": await answers.exploded(bombs),
        "certificate": await answers.disguised(folder),
    }


def main() -> bool:
    """Try, show the tables, and tell whether every promise was kept."""
    parser = options("outbound", "Sends the service's HTTP clients where strangers want them; no name is really asked.")
    parser.add_argument("--short", action="store_true", help="only some of the bombs")
    given = parser.parse_args()
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # of our own servers, whose clients hang up
    show(f"What goes out: {machine()}")
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(prove(Path(folder), SHORT if given.short else ()))
    for head, each in found.items():
        show("")
        show(table((head, "ours"), [(finding.tried, finding.came) for finding in each]))
    broken = [finding for each in found.values() for finding in each if not finding.kept]
    for finding in broken:
        show(f"\nBROKEN: {finding.tried}: {finding.came}")
    return not broken


if __name__ == "__main__":
    carry_out(main)
