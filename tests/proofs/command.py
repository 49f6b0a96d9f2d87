"""What every proof is as a command: how it is asked, how it ends, and what it says last."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from tests.proofs.tables import show

_INTERRUPTED = 130  # as shells have it


def options(name: str, what: str) -> argparse.ArgumentParser:
    """Return what reads the options of the proof `python -m tests.proofs.NAME`, which shows `what`."""
    return argparse.ArgumentParser(
        prog=f"python -m tests.proofs.{name}",
        description=f"{what} Everything happens on this machine, against the sandbox in the place of a provider.",
        epilog="Exits with 0 if every promise was kept, with 1 if one was broken.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )


def carry_out(proof: Callable[[], bool]) -> NoReturn:
    """Run a proof, which tells whether every promise was kept, and exit.

    Whoever ends it early, by Ctrl-C, SIGTERM or a closed terminal, has the processes, disks and folders put away that
    it made.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    try:
        kept = proof()
    except KeyboardInterrupt:
        show("\nStopped before its end: nothing was shown.")
        sys.exit(_INTERRUPTED)
    show(f"\n{'Every promise was kept.' if kept else 'A PROMISE WAS BROKEN, see above.'}")
    sys.exit(0 if kept else 1)


def _interrupt(number: int, frame: FrameType | None) -> None:
    handler = signal.getsignal(signal.SIGINT)  # asyncio's cancels everything; a job in the background has none
    (handler if callable(handler) else signal.default_int_handler)(number, frame)
