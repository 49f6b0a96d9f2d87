"""`reelkeeper check`: is it well? The service of this machine from inside, one at a URL from outside."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime

import httpx
import typer
from rich.text import Text

from service.check import Finding, Wait, course, examine
from service.clock import Clock, SystemClock
from service.commands import err, out, print_json, read_config, run_loop, shapes
from service.commands.desk import DeskError
from service.commands.places import api_key, service_url
from service.commands.progress import Busy
from service.commands.remote import RemoteDesk
from service.config import Config, RemoteConfig
from service.outbound import Answer, configured_client
from service.tables import plain

_MOST_APART_MS = 60_000  # of clocks; at five minutes no callback is believed any more
_MARKS = {"ok": "green", "note": "yellow", "FAIL": "red"}


def check(url: str | None, key_file: str | None, *, as_json: bool) -> None:
    """Examine what the options say, or else the environment; end the command with 1 when a part is ill."""
    remote = read_config(RemoteConfig)
    where = service_url(url, remote)
    if where:
        findings = _at(where, api_key(key_file, remote), SystemClock())
    else:
        findings = examine(read_config(Config), SystemClock())
    found = run_loop(_show(findings, as_json=as_json))
    if as_json:
        print_json(out, [_view(each) for each in found])
    if not all(each.well for each in found):
        raise typer.Exit(1)


async def _show(findings: AsyncIterator[Finding], *, as_json: bool) -> Sequence[Finding]:
    found = []
    with Busy(err, "trying each part") as busy:
        async for finding in findings:
            found.append(finding)
            if not as_json:
                with busy.aside():
                    mark = _mark(finding)
                    line = Text.assemble((f"{mark:4}", _MARKS[mark]), f" {finding.part}: {plain(finding.says)}")
                    out.print(line, soft_wrap=True)
    return found


def _mark(finding: Finding) -> str:
    return "FAIL" if not finding.well else "note" if finding.note else "ok"


def _view(finding: Finding) -> dict[str, str]:
    return {"object": "finding", "part": finding.part, "state": _mark(finding).lower(), "says": finding.says}


async def _at(url: str, key: str, clock: Clock) -> AsyncIterator[Finding]:
    async with configured_client() as client:
        async for finding in examine_at(RemoteDesk(client, url, key), clock):
            yield finding


async def examine_at(desk: RemoteDesk, clock: Clock) -> AsyncIterator[Finding]:
    """Examine a running service from outside; without one, that is all there is to say."""
    try:
        answer = await desk.exchange("GET", "/readyz")
    except DeskError as error:
        yield Finding("service", well=False, says=str(error))
        return
    yield _ready(desk, answer)
    sent = answer.headers.get("date", "")
    try:
        status = await desk.ask("GET", "/status.json", shapes.Status)
    except DeskError as error:
        yield _clock(sent, None, clock.now())
        yield Finding("API key" if error.code == "unauthorized" else "status", well=False, says=str(error))
        return
    yield _clock(sent, status["now"], clock.now())
    yield Finding("version", well=True, says=f"{status['version']}, up for {status['uptime_seconds'] // 60:,} min")
    if status["tenant"] is not None:
        says = f"it is of the tenant {status['tenant']} and sees its own jobs; an operator key sees more here"
        yield Finding("API key", well=True, says=says, note=True)
    else:
        yield Finding("API key", well=True, says="it is an operator's, and sees the whole service")
    now = _ms(status["now"])
    waits = [
        Wait(each["step"], each["provider"], each["job"], int(now - _ms(each["due_at"]))) for each in status["waiting"]
    ]
    for finding in course(waits, [(each["kind"], each["message"]) for each in status["concerns"]]):
        yield finding


def _ready(desk: RemoteDesk, answer: Answer) -> Finding:
    try:
        told = shapes.Ready.model_validate(shapes.parse(answer.body))
    except ValueError:
        says = f"what is {desk.where} answered {answer.status} to /readyz, and not as Reelkeeper does"
        return Finding("service", well=False, says=says)
    if told.status == "ok" and answer.status == httpx.codes.OK:
        return Finding("service", well=True, says=f"the one {desk.where} can write to its database and to its storage")
    says = "; ".join(f"{part}: {trouble}" for part, trouble in told.troubles.items())
    return Finding("service", well=False, says=f"the one {desk.where} is not ready: {says}")


def _clock(date: str, now: str | None, here: int) -> Finding:
    there = None if now is None else _ms(now)
    if there is None:
        try:
            there = parsedate_to_datetime(date).timestamp() * 1000
        except (ValueError, OverflowError):
            return Finding("clock", well=True, says="the service does not tell its time", note=True)
    apart = (there - here) / 1000
    if abs(apart) * 1000 < _MOST_APART_MS:
        return Finding("clock", well=True, says=f"the service's and this machine's are {abs(apart):.1f} s apart")
    says = (
        f"the service's is {abs(apart):,.0f} s {'ahead of' if apart > 0 else 'behind'} this machine's. Correct the one "
        "that is wrong: a service whose clock is five minutes off believes no callback"
    )
    return Finding("clock", well=False, says=says)


def _ms(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp() * 1000
