"""Every way in which a job is known to be lost, paid twice, stuck or wrongly told, and the tests that say it is not.

    python -m tests.proofs.taxonomy

prints the table. A row that does not concern this service says why. `failures` and `losses` have what goes wrong with a
job, `receiving` what receivers of callbacks were attacked with.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.proofs.command import carry_out, options
from tests.proofs.failures import FAILURES
from tests.proofs.losses import LOSSES
from tests.proofs.receiving import RECEIVING
from tests.proofs.rows import Row
from tests.proofs.tables import show, table

ROOT = Path(__file__).parent.parent.parent
ROWS: Sequence[Row] = (*FAILURES, *LOSSES, *RECEIVING)


def missing(rows: Sequence[Row], root: Path = ROOT) -> Iterator[str]:
    """Yield in words what is wrong with rows: a name twice, nothing that is shown, or a test that is not there."""
    seen: set[str] = set()
    for row in rows:
        if row.id in seen:
            yield f"{row.id} is there twice"
        seen.add(row.id)
        if not row.tests and not row.why_not:
            yield f"{row.id} has neither a test nor a reason why it needs none"
        for test in row.tests:
            file, _, name = test.partition("::")
            if name not in tests_of(root / file):
                yield f"{row.id} names {test}, which is not there"


@functools.cache
def tests_of(path: Path) -> frozenset[str]:
    """Return the names of the tests that a file has, without running it; none when it is not there."""
    if not path.is_file():
        return frozenset()
    functions = (
        node for node in ast.parse(path.read_text()).body if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef)
    )
    return frozenset(function.name for function in functions if function.name.startswith("test_"))


def main() -> bool:
    """Print the table; tell whether every test that it names is there."""
    options("taxonomy", "Lists every known failure with the tests that show that it cannot happen here.").parse_args()
    lines = [[row.id, row.what, "<br>".join(map(_shown, row.tests)), row.why_not] for row in ROWS]
    show(table(["", "what can go wrong", "what shows that it cannot", "why it does not concern us"], lines))
    tests = {test for row in ROWS for test in row.tests}
    needless = sum(not row.tests for row in ROWS)
    show(f"\n{len(ROWS)} rows, {len(ROWS) - needless} shown by {len(tests)} tests, {needless} that do not concern us.")
    wrong = list(missing(ROWS))
    show("\n".join(wrong))
    return not wrong


def _shown(test: str) -> str:
    file, _, name = test.partition("::test_")
    return f"{name.replace('_', ' ')} (`{file}`)"


if __name__ == "__main__":
    carry_out(main)
