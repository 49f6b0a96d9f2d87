"""`reelkeeper receivers`: who does not take what they are told about their jobs."""

from __future__ import annotations

from typing import Annotated

import typer

from service.commands import confirm, err, note, out, print_json, say
from service.commands.desk import Desk, View
from service.commands.places import AsJson, KeyFile, Url, Yes, at_desk
from service.commands.progress import Busy
from service.tables import plain, print_rows, second

_MOST = 100

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Receivers of deliveries that fail. On this machine, or with --url at a running service.",
)


@app.command("list")
def receivers_list(
    limit: Annotated[int, typer.Option(min=1, max=_MOST, metavar="N", help="How many at most.")] = 20,
    *,
    as_json: AsJson = False,
    url: Url = None,
    key_file: KeyFile = None,
) -> None:
    """List receivers that do not take what they are told.

    Other programs get tab-separated lines: receiver, tenant, failed, pending, last, why.
    """
    found, more = at_desk(url, key_file, lambda desk: desk.receivers(limit))
    if more:
        how = f": --limit shows up to {_MOST}" if limit < _MOST else ""
        note(f"the {limit} with the newest trouble are shown, and there are more{how}")
    if as_json:
        print_json(out, found)
        return
    rows = []
    for each in found:
        why = f"answered {each['last_status']}" if each["last_status"] else each["last_error"] or ""
        last = second(each["last_at"]) if each["last_at"] else ""
        rows.append((each["receiver"], each["tenant"], str(each["failed"]), str(each["pending"]), last, why))
    head = ("receiver", "tenant", "failed", "pending", "last", "why")
    print_rows(out, head, rows, spare=("last", "pending", "why"), none="every receiver takes what it is told")


@app.command("redeliver")
def receivers_redeliver(
    receiver: Annotated[
        str, typer.Argument(metavar="RECEIVER", help="Scheme, host and port, as `receivers list` shows them.")
    ],
    tenant: Annotated[
        str | None, typer.Option(metavar="TENANT", help="Whose messages, when several tenants have this receiver.")
    ] = None,
    *,
    yes: Yes = False,
    as_json: AsJson = False,
    url: Url = None,
    key_file: KeyFile = None,
) -> None:
    """Send everything again that a receiver did not take.

    A terminal is asked first, a script is not.
    """
    what = "All that was given up, or waits after a failed attempt,"
    confirm(f"{what} will be sent to {plain(receiver)} again, at once and under the same ids.", yes=yes)

    async def run(desk: Desk) -> View:
        with Busy(err, f"redelivering to {plain(receiver)}"):
            return await desk.redeliver_all(receiver, tenant)

    done = at_desk(url, key_file, run)
    if as_json:
        print_json(out, done)
    else:
        messages = "1 message is" if done["redelivered"] == 1 else f"{done['redelivered']:,} messages are"
        which = f"{done['given_up']:,} given up before, {done['waiting']:,} waiting after a failed attempt"
        say(f"{messages} owed to {done['receiver']} again (tenant {done['tenant']}): {which}")
