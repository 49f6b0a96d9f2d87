"""`reelkeeper check`: tries all that the service depends on, and says of each part what to do if it is ill."""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import httpx

from service import signing
from service.clock import Clock
from service.config import Config
from service.errors import ReelkeeperError
from service.outbound import Answer, ask, configured_client, reason
from service.records import open_records
from service.storage import Storage
from service.vault import Vault
from service.web.status.numbers import (
    MOST_RECEIVERS,
    OVERDUE_MS,
    concerns,
    errors_of_the_last_hour,
    of_providers,
    of_the_last_day,
    receivers,
    rejections,
)

_SECONDS = 15.0
_PARTS = {
    "callbacks_stopped": "callbacks",
    "callbacks_rejected": "callbacks",
    "unserved": "providers",
    "failing": "providers",
    "receivers_failing": "receivers",
}
_ILL = frozenset({"unserved"})
_MORE = {
    "callbacks_rejected": " `reelkeeper callbacks rejected` says what to do about it.",
    "receivers_failing": " `reelkeeper receivers list` names them, `reelkeeper receivers redeliver` sends it again.",
}
# Whoever parses this JSON and writes it again on its way changes its bytes.
_BODY = '{"type":"check","note":"blanks  and ünïcode must arrive as they are"}'.encode()

UNSIGNED = (
    "OPENROUTER_WEBHOOK_SECRET is unset: callbacks of OpenRouter only cause a poll, and none can find the job of a "
    "submission whose answer was lost"
)


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one part; `says` tells what to do when it is not `well`, or what to know: a `note`."""

    part: str
    well: bool
    says: str
    note: bool = False


async def examine(config: Config, clock: Clock) -> AsyncIterator[Finding]:
    """Examine the parts one after another; an ill part does not hide the others."""
    yield Finding("settings", well=True, says="every setting can be read")
    yield Finding("providers", well=True, says=_unseen(config), note=True)
    yield await _database(config)
    yield await _storage(config)
    yield await _public_url(config, clock)
    with contextlib.suppress(ReelkeeperError):  # of the database, which is told above
        for finding in await _course(config, clock):
            yield finding


async def _course(config: Config, clock: Clock) -> list[Finding]:
    """Say what the records tell of the last day."""
    async with open_records(config, clock=clock, create=False) as records:
        now = clock.now()
        overview = await records.statistics.overview()
        rejected = of_the_last_day(await records.rejections.page(limit=records.rejections.most), now)
        errors = await errors_of_the_last_hour(records.store, overview, None, now)
        failing = await records.deliveries.failing(limit=MOST_RECEIVERS)
    waits = [Wait(each.step, each.provider, each.job_id, now - each.due_at) for each in overview.waiting]
    shown = of_providers(overview, config.configured)
    found = [
        *concerns(overview, shown, config.configured, errors),
        *rejections(shown, rejected, now),
        *receivers(failing, now),
    ]
    return course(waits, [(each.kind, each.message) for each in found])


@dataclass(frozen=True, slots=True)
class Wait:
    """What waits longest for a step: a job, or (`provider` None) a delivery about one, that much after its time."""

    step: str
    provider: str | None
    job: str
    overdue_ms: int


def course(waits: Sequence[Wait], concerned: Sequence[tuple[str, str]]) -> list[Finding]:
    """Return what the last day gives reason to say; `concerned` are kinds of concerns and their sentences."""
    overdue = sorted((each for each in waits if each.overdue_ms >= OVERDUE_MS), key=lambda each: -each.overdue_ms)
    told = [
        f"{each.step}{f' at {each.provider}' if each.provider else ''} by {each.overdue_ms // 60_000} min ({each.job})"
        for each in overdue
    ]
    says = (
        f"overdue: {', '.join(told)}. Is `reelkeeper serve` running, and well? Its log says what each worker does"
        if overdue
        else "nothing is overdue by more than five minutes"
    )
    found = [Finding("jobs", well=not overdue, says=says)]
    found += [
        Finding(_PARTS[kind], well=kind not in _ILL, says=f"{message}{_MORE.get(kind, '')}", note=kind not in _ILL)
        for kind, message in concerned
        if kind in _PARTS
    ]
    if not any(each.part == "callbacks" for each in found):
        says = "none was rejected in the last day, and no provider stopped sending them"
        found.append(Finding("callbacks", well=True, says=says))
    return found


def _unseen(config: Config) -> str:
    """Say what only a real job shows."""
    keys = {
        "OPENROUTER_API_KEY": config.openrouter_api_key,
        "OPENROUTER_WEBHOOK_SECRET": config.openrouter and config.openrouter.webhook_secrets,
        "LLMGATEWAY_API_KEY": config.llmgateway_api_key,
    }
    says = f"only a job shows whether the provider knows {_and([name for name, value in keys.items() if value])}"
    unsigned = config.openrouter and not config.openrouter.webhook_secrets
    return f"{says}. {UNSIGNED}" if unsigned else says


def _and(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


async def _database(config: Config) -> Finding:
    try:
        async with open_records(config, create=False) as records:
            await records.store.probe()
    except ReelkeeperError as error:
        return Finding("database", well=False, says=str(error))
    return Finding("database", well=True, says=f"{config.database.absolute()} can be written")


async def _storage(config: Config) -> Finding:
    try:
        storage = Storage.open(config.storage, used=await _keeps_videos(config))
        await storage.check()
    except ReelkeeperError as error:
        return Finding("storage", well=False, says=str(error))
    return Finding("storage", well=True, says=f"{storage.describe()} took, gave back and deleted a file")


async def _keeps_videos(config: Config) -> bool:
    with contextlib.suppress(ReelkeeperError):  # of the database, which is told elsewhere
        async with open_records(config, create=False) as records:
            return await records.store.keeps_videos()
    return False


async def _public_url(config: Config, clock: Clock) -> Finding:
    """Send ourselves a signed callback the way a provider would, through whatever stands before us."""
    vault = Vault(config.secret_keys)
    name = f"check-{secrets.token_hex(8)}"
    headers = signing.sign_standard(signing.key_of(vault.callback_secret(name)), name, _BODY, clock.now())
    url = f"{config.public_url}/callbacks/check/{name}/{vault.callback_token(name)}"
    where = f"{config.public_url}/callbacks/…"
    try:
        async with configured_client() as client:
            request = client.build_request(
                "POST", url, content=_BODY, headers={"content-type": "application/json", **headers}
            )
            answer = await ask(client, request, seconds=_SECONDS)
    except httpx.HTTPError as error:
        says = (
            f"{where} cannot be reached from this machine ({reason(error)}). Is `reelkeeper serve` running, does "
            "REELKEEPER_PUBLIC_URL lead to it or to the reverse proxy before it, and may this machine reach that name?"
        )
        return Finding("public URL", well=False, says=says)
    if answer.status == httpx.codes.NO_CONTENT:
        only = "; plain http, so only a provider on this machine reaches it" if url.startswith("http://") else ""
        return Finding("public URL", well=True, says=f"a signed callback came through {where} untouched{only}")
    says = f"{where} answered {answer.status} to a signed callback: {_meaning(answer)}"
    return Finding("public URL", well=False, says=says)


def _meaning(answer: Answer) -> str:
    """Say what probably stands behind an answer that is not ours to a right callback."""
    match answer.status:
        case 401 if _complaint(answer):
            meaning = (
                "its signature does not fit what arrived. Something on the way changes bodies or headers, or the clock "
                f"of this machine or of that one is wrong. The service says: {_complaint(answer)}"
            )
        case 404 if _complaint(answer):
            meaning = (
                "the service is there and does not know the address. It runs with another REELKEEPER_SECRET_KEY than "
                "this command, or something on the way changes paths"
            )
        case 413:
            meaning = "a proxy limits bodies to less than a callback may have, which is 256 KiB; raise its limit"
        case 502 | 503 | 504 if not _complaint(answer):
            meaning = "a proxy is there and does not reach the service behind it; is `reelkeeper serve` running?"
        case status if httpx.codes.is_redirect(status):
            meaning = "a redirect, which no provider follows. Put the address where it ends in REELKEEPER_PUBLIC_URL"
        case status if httpx.codes.is_server_error(status):
            meaning = "the service has a fault, which its log names"
        case _:
            meaning = (
                "something else than the service answered. REELKEEPER_PUBLIC_URL leads elsewhere, or a proxy or "
                "firewall keeps callbacks back; it must pass on POST requests to /callbacks/ without a login"
            )
    return meaning


def _complaint(answer: Answer) -> str | None:
    """Return what the service itself says about an error; None when somebody else answered."""
    try:
        said = json.loads(answer.body)["error"]["message"]
    except (ValueError, LookupError, TypeError):
        return None
    return " ".join(str(said).split())[:300]
