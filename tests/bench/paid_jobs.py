"""Measures how many jobs a provider makes of one call: `python -m tests.bench.paid_jobs` prints a Markdown table.

Rows are what goes wrong; columns are two SDKs with their default retries, pointed at the provider and at Reelkeeper.
The provider is the sandbox, on a socket; the service is a process of its own, which is really killed and stopped.
"""

from __future__ import annotations

import asyncio
import sys
import warnings
from collections.abc import Mapping
from importlib.metadata import version

from tests.sdk.callers import WrongAnswerError
from tests.sdk.faults import (
    CLAIMED,
    FAULTS,
    SDKS,
    SHORTENED,
    WATCHED,
    WINDOW,
    Fault,
    Outcome,
    behind,
    directly,
    measured,
)

_NOTHING = "\N{EN DASH}"
_NOTES = f"""\
Direct calls are watched for {WATCHED:.0f} s; "and on" means that the SDK was still posting then (`openrouter` does so
for an hour). Both SDKs have their default retries; where a row needs a timeout, `openrouter` has its default of 5 s,
and `openai` {SHORTENED:.0f} s in place of its 600. `openrouter` speaks to the sandbox's OpenRouter dialect, `openai`
to its LLM Gateway dialect; for `openai` direct the sandbox takes the SDK's form, as OpenAI's own API does, because LLM
Gateway takes JSON alone and answers it with 415. In every cell behind Reelkeeper that has a bold number the id that
the caller was given reads `completed` and the bytes that its SDK downloads are the provider's.

¹ `openrouter` does not retry a connection that is closed without an answer, but raises; the backend makes the same
call again and is given the same job.

² Nobody can know whether the call went out, so nothing more is spent: the job ends as `submission_unknown`. A native
job with `on_unknown: "resubmit"` is submitted again.

³ Our answer was sent and was lost behind us, and the repeated call carries no mark, so nothing tells it from a wish for
a second video; with a dedupe window ({WINDOW} s here) or an `Idempotency-Key` it is one job.
"""


def direct_cell(outcome: Outcome | None) -> str:
    """Write a cell of a direct column; None: there is nothing to measure."""
    match outcome:
        case None:
            return _NOTHING
        case Outcome(made, goes_on=True):
            return f"{made} in {WATCHED:.0f} s, and on"
        case Outcome(made, error=WrongAnswerError.__name__):
            return f"{made}, and a web page as the answer"
        case Outcome(made, error=str()):
            return f"{made}, and an error"
        case _:
            return str(outcome.made)


def cell_behind(fault: Fault, outcome: Outcome) -> str:
    """Write a cell of a column behind Reelkeeper, with its remark."""
    kept = outcome.status == "completed" and outcome.whole
    well = kept and outcome.made == 1
    said = f"**{outcome.made}**" if well else f"{outcome.made}" if kept else f"{outcome.made}, {outcome.status}"
    if outcome.calls > 1:
        return f"{said} ¹"
    if fault.name == CLAIMED:
        return f"{said} ²"
    return f"{said} ³" if fault.proxy and not fault.window and not well else said


def table(direct: Mapping[tuple[str, str], Outcome], kept: Mapping[tuple[str, str], Outcome]) -> str:
    """Write the outcomes as Markdown."""
    head = ["What goes wrong"]
    for sdk in SDKS:
        head += [f"`{sdk}` {version(sdk)} direct", "behind Reelkeeper"]
    rows = [head, ["---", *["---:"] * (len(head) - 1)]]
    for fault in FAULTS:
        row = [fault.says]
        for sdk in SDKS:
            row += [direct_cell(direct.get((fault.name, sdk))), cell_behind(fault, kept[fault.name, sdk])]
        rows.append(row)
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


async def _measure() -> str:
    cells = [(fault, sdk) for fault in FAULTS for sdk in SDKS]
    cells.sort(key=lambda cell: cell[0].name != CLAIMED)  # what takes longest begins first
    kept = await measured(cells, behind)
    direct = await measured([(fault, sdk) for fault, sdk in cells if not fault.ours], directly)
    return table(direct, kept)


def main() -> None:
    """Measure and print."""
    warnings.simplefilter("ignore", DeprecationWarning)  # of the SDK's videos.*: OpenAI's own model is gone
    sys.stdout.write(f"{asyncio.run(_measure())}\n\n{_NOTES}")


if __name__ == "__main__":
    main()
