"""Coverage-guided fuzzing: `python -m tests.fuzz [TARGET ...] [--seconds N]`, each target in a process of its own."""

from __future__ import annotations

import argparse
import hashlib
import importlib
import logging
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from tests.proofs.tables import machine, show, table

_INSTRUMENTED = ["service", "python_multipart", "starlette.formparsers", "h11"]
_MOST_MEMORY = 2_048  # MiB of one fuzzing process
_HANGS_AFTER = 20  # s over one input, on a machine that does other things, too
_LONGEST = 4_096  # bytes of an input, unless a seed is longer


def _targets() -> dict[str, tuple[str, str]]:
    """Return what there is, without loading it here: it is loaded where it is watched."""
    targets = importlib.import_module("tests.fuzz.targets").TARGETS
    return {target.name: (target.reads, target.elsewhere) for target in targets}


def _fuzz(name: str, seconds: int, folder: Path) -> None:
    """Fuzz one target in this process, which ends with it."""
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=_INSTRUMENTED):
        targets = importlib.import_module("tests.fuzz.targets").TARGETS
    target = next(each for each in targets if each.name == name)
    corpus = folder / "corpus"
    corpus.mkdir()
    for seed in target.seeds:
        (corpus / hashlib.sha256(seed).hexdigest()).write_bytes(seed)
    longest = max(_LONGEST, *(len(seed) for seed in target.seeds))
    options = [
        f"-max_total_time={seconds}",
        f"-timeout={_HANGS_AFTER}",
        f"-rss_limit_mb={_MOST_MEMORY}",
        f"-max_len={longest}",
        f"-artifact_prefix={folder}/found-",
        "-print_final_stats=1",
        "-verbosity=1",
        str(corpus),
    ]
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # what is no HTTP is told there, each time
    atheris.Setup([sys.argv[0], *options], target.give)
    atheris.Fuzz()


def _run(name: str, seconds: int) -> tuple[list[object], str]:
    """Fuzz one target in another process; return its row, and what it said when something fell."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tests.fuzz", name, "--seconds", str(seconds), "--here", folder]
        ran = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)  # noqa: S603 - ours
        said = ran.stdout + ran.stderr
        lines = [line for line in said.splitlines() if line.startswith("stat::number_of_executed_units:")]
        runs = int(lines[0].split()[-1]) if lines else 0
        covered = [line.split("cov: ")[1].split()[0] for line in said.splitlines() if " cov: " in line]
        found = [path.read_bytes() for path in Path(folder).glob("found-*")]
        result = "nothing" if ran.returncode == 0 and not found else f"BROKEN: {[each.hex() for each in found]}"
        return [name, runs, int(covered[-1]) if covered else 0, result], "" if result == "nothing" else said


def main() -> None:
    """Fuzz, show what was run, and exit with 1 when something fell."""
    parser = argparse.ArgumentParser(description="Fuzz the parsers that read strangers' bytes.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="all of them if left out")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (60)")
    parser.add_argument("--list", action="store_true", help="show what there is, and fuzz nothing")
    parser.add_argument("--here", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.here is not None:
        _fuzz(given.targets[0], given.seconds, given.here)
        return
    there = _targets()
    if given.list:
        show(table(("target", "reads", "tests beside this"), [(name, *each) for name, each in there.items()]))
        return
    unknown = [name for name in given.targets if name not in there]
    if unknown:
        sys.exit(f"There is no target {', '.join(unknown)}; there are {', '.join(there)}.")
    if find_spec("atheris") is None:
        sys.exit(
            "Coverage-guided fuzzing needs atheris, which is there for CPython 3.11 to 3.13 on Linux; install it with: "
            "pip install -e '.[fuzz]'. The same targets are tried without it by: pytest tests/fuzz"
        )
    show(f"Fuzzing for {given.seconds} s each: {machine()}\n")
    rows, told = [], []
    for name in given.targets or there:
        row, said = _run(name, given.seconds)
        show(f"{row[0]}: {row[1]:,} runs, {row[3]}")
        rows.append(row)
        told.append(said)
    show("")
    show(table(("target", "runs", "edges covered", "fell"), rows))
    for said in filter(None, told):
        show(said[-6_000:])
    sys.exit(1 if any(told) else 0)


if __name__ == "__main__":
    main()
