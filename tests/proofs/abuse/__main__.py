"""Attack the receiver: `python -m tests.proofs.abuse`."""

from __future__ import annotations

import asyncio
import resource
import tempfile
from pathlib import Path

from tests.places import open_place
from tests.proofs.abuse import flood, signatures, sizes, wire
from tests.proofs.abuse.target import Finding, Target
from tests.proofs.command import carry_out, options
from tests.proofs.tables import machine, show, table


def raise_open_files() -> None:
    """Allow this process, and the service that it starts, as many open files as the machine lets it have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def probe(target: Target, *, short: bool) -> list[Finding]:
    """Send every probe once."""
    found = await signatures.findings(target)
    found += await wire.findings(target)
    if short:
        return found + await sizes.findings(target, megabytes=20, idle=200, patient=False)
    return found + await sizes.findings(target)


def _show(found: list[Finding]) -> None:
    show(table(("probe", "theirs", "ours"), [(finding.probe, finding.theirs, finding.ours) for finding in found]))


async def _main(folder: Path, *, short: bool, rounds: int, each: int) -> bool:
    async with open_place(folder) as place:
        target = Target(place)
        show(f"The receiver under attack: {machine()}\n")
        found = await probe(target, short=short)
        _show(found)
        if rounds:
            head = (
                "flood on 64 connections",
                "p50 ms",
                "p99 ms",
                "p99 / quiet",
                "service's processor ms each",
                "genuine",
                "flood a second",
                "answered",
            )
            rows, judged = await flood.floods(target, rounds=rounds, each=each)
            show(f"\n{each} genuine callbacks on 16 connections, {rounds} rounds, medians\n")
            show(table(head, rows))
            show("")
            _show(judged)
            found += judged
        broken = [each for each in found if not each.kept]
        for finding in broken:
            show(f"\nBROKEN: {finding.probe}: {finding.ours}")
        if broken:
            for victim in target.victims[:5]:
                show(await place.tell(victim.job_id))
        errors = [line for line in (folder / "log.jsonl").read_text().splitlines() if '"level": "error"' in line]
        for line in errors[:10]:
            show(f"\nBROKEN: the service logged an error: {line}")
        return not broken and not errors


def main() -> bool:
    """Attack, show the tables, and tell whether every promise was kept."""
    parser = options("abuse", "Attacks a running service's callback receiver, which takes some four minutes.")
    parser.add_argument("--short", action="store_true", help="smaller bodies, fewer connections, no limits beyond 10 s")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of floods (0: none)")
    parser.add_argument("--each", type=int, default=800, help="genuine callbacks in each round")
    given = parser.parse_args()
    raise_open_files()
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_main(Path(folder), short=given.short, rounds=given.rounds, each=given.each))


if __name__ == "__main__":
    carry_out(main)
