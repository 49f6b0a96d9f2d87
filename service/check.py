"""`reelkeeper check`: tries everything the service depends on, and says of each part what to do if it is ill."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx

from service import signing
from service.assembly import open_records
from service.clock import Clock
from service.config import Config
from service.errors import ReelkeeperError
from service.outbound import ask, provider_client
from service.storage import Storage
from service.vault import Vault

_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one part; `says` tells what to do when it is not `well`."""

    part: str
    well: bool
    says: str


async def examine(config: Config, clock: Clock) -> AsyncIterator[Finding]:
    """Examine the parts one after another; an ill part does not hide the others."""
    yield Finding("settings", well=True, says="every setting is right")
    yield await _database(config)
    yield await _storage(config)
    yield await _public_url(config, clock)


async def _database(config: Config) -> Finding:
    try:
        async with open_records(config) as records:
            await records.store.probe()
    except ReelkeeperError as error:
        return Finding("database", well=False, says=str(error))
    return Finding("database", well=True, says=f"{config.database} can be written")


async def _storage(config: Config) -> Finding:
    try:
        storage = Storage.open(config.storage)
        await storage.check()
    except ReelkeeperError as error:
        return Finding("storage", well=False, says=str(error))
    return Finding("storage", well=True, says=f"{storage.describe()} took, gave back and deleted a file")


async def _public_url(config: Config, clock: Clock) -> Finding:
    """Send ourselves a signed callback the way a provider would, through whatever stands before us."""
    vault = Vault(config.secret_keys)
    name = f"check-{secrets.token_hex(8)}"
    body = '{"type":"check","note":"blanks  and ünïcode must arrive as they are"}'.encode()
    headers = signing.sign_standard(signing.key_of(vault.callback_secret(name)), name, body, clock.now())
    url = f"{config.public_url}/callbacks/check/{name}/{vault.callback_token(name)}"
    where = f"{config.public_url}/callbacks/…"
    try:
        async with provider_client() as client:
            request = client.build_request(
                "POST", url, content=body, headers={"content-type": "application/json", **headers}
            )
            answer = await ask(client, request, seconds=_SECONDS)
    except httpx.HTTPError as error:
        return Finding(
            "public URL",
            well=False,
            says=f"{where} cannot be reached from here ({type(error).__name__}): is `reelkeeper serve` running, does "
            "REELKEEPER_PUBLIC_URL name the reverse proxy before it, and may this machine reach that name?",
        )
    if answer.status == httpx.codes.NO_CONTENT:
        return Finding("public URL", well=True, says=f"a signed callback came through {where} untouched")
    meanings = {
        401: "its signature did not arrive as it was sent: something on the way changes bodies or headers, or the "
        "running service has another REELKEEPER_SECRET_KEY",
        404: "the path or its token is not known there: REELKEEPER_PUBLIC_URL leads elsewhere, a proxy changes paths, "
        "or the running service has another REELKEEPER_SECRET_KEY",
    }
    meaning = meanings.get(answer.status, "a proxy answered in our place, or the service is ill; see its log")
    return Finding("public URL", well=False, says=f"{where} answered {answer.status} to a signed callback: {meaning}")
