"""`reelkeeper keys`: who may call, and with which secret a tenant is told."""

from __future__ import annotations

from typing import Annotated

import typer

from service.commands import fail, out, print_json, read_config, say, with_records
from service.commands.desk import Desk, View
from service.commands.places import AsJson, KeyFile, NoUrl, Url, at_desk, here_alone
from service.config import SecretConfig
from service.records import Records
from service.tables import print_rows, second
from service.vault import Vault
from service.web.keys import LONGEST_WINDOW_S, MOST_PER_MINUTE, KeyBody, key_name, tenant_name

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="API keys of callers and operators. On this machine, or with --url and an operator key at a running service.",
)


@app.command("create")
def keys_create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is, for people: a backend or a person.")],
    tenant: Annotated[
        str, typer.Option(metavar="TENANT", help="Who owns the jobs made with it; keys of one tenant share jobs.")
    ] = "default",
    *,
    operator: Annotated[
        bool, typer.Option("--operator", help="May see and operate the whole service, every tenant's jobs included.")
    ] = False,
    dedupe_window: Annotated[
        int,
        typer.Option(
            min=0,
            max=LONGEST_WINDOW_S,
            metavar="SECONDS",
            help="For so long an identical create without an Idempotency-Key is the same job.",
        ),
    ] = 0,
    per_minute: Annotated[
        int | None,
        typer.Option(min=1, max=MOST_PER_MINUTE, metavar="N", help="How many videos may be asked for a minute."),
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    key_file: KeyFile = None,
) -> None:
    """Make an API key, which is shown this once.

    The key alone is the last line of standard output.
    """
    try:
        key_name(name)
    except ValueError as error:
        fail(f"NAME {error}", code=2)
    _check_tenant(tenant)
    wanted = KeyBody(name=name, tenant=tenant, operator=operator, dedupe_window=dedupe_window, per_minute=per_minute)

    async def run(desk: Desk) -> tuple[View, str]:
        return await desk.create_key(wanted), desk.where

    made, where = at_desk(url, key_file, run, create=True)
    if as_json:
        print_json(out, made)
        return
    role = "an operator key" if operator else "a key"
    about = f"{made['id']}: {role} for {name}, tenant {tenant}, {where}"
    say(f"{about}. Only its hash is stored, and it is not shown again:", err=True)
    say(made["key"])


@app.command("list")
def keys_list(*, as_json: AsJson = False, url: Url = None, key_file: KeyFile = None) -> None:
    """List every API key, without the keys themselves.

    Other programs get tab-separated lines: id, name, tenant, role, created, revoked, limit, window.
    """
    found = at_desk(url, key_file, lambda desk: desk.keys())
    if as_json:
        print_json(out, found)
        return
    rows = []
    for key in found:
        role = "operator" if key["operator"] else "caller"
        revoked = second(key["revoked_at"]) if key["revoked_at"] else ""
        window = f"{key['dedupe_window']} s" if key["dedupe_window"] else ""
        limit = f"{key['per_minute']}/min" if key["per_minute"] else ""
        rows.append((key["id"], key["name"], key["tenant"], role, second(key["created_at"]), revoked, limit, window))
    head = ("id", "name", "tenant", "role", "created", "revoked", "limit", "window")
    none = "no keys; `reelkeeper keys create NAME` makes one"
    print_rows(out, head, rows, spare=("window", "limit", "created", "role"), none=none)


@app.command("revoke")
def keys_revoke(
    key_id: Annotated[str, typer.Argument(metavar="KEY_ID", help="The key's id, as `keys list` shows it: key_…")],
    *,
    as_json: AsJson = False,
    url: Url = None,
    key_file: KeyFile = None,
) -> None:
    """Make an API key useless, at once."""
    revoked = at_desk(url, key_file, lambda desk: desk.revoke_key(key_id))
    if as_json:
        print_json(out, revoked)
    else:
        say(f"{revoked['id']} is revoked, since {second(revoked['revoked_at'])}")


@app.command("delivery-secret")
def keys_delivery_secret(
    tenant: Annotated[str, typer.Argument(metavar="TENANT", help="Who is told about its jobs.")] = "default",
    *,
    as_json: AsJson = False,
    url: NoUrl = None,
) -> None:
    """Show the secret that signs what a tenant is told.

    It is alone on the last line of standard output. It is derived from REELKEEPER_SECRET_KEY, so it is shown on the
    service's own machine alone.
    """
    here_alone("keys delivery-secret", url)
    _check_tenant(tenant)
    config = read_config(SecretConfig)

    async def run(records: Records) -> None:
        if not any(key.tenant == tenant for key in await records.keys.all()):
            say(f"There is no API key of the tenant {tenant}; `reelkeeper keys list` shows who there is.", err=True)

    with_records(config, run)
    current, *older = Vault(config.secret_keys).delivery_secrets(tenant)
    if as_json:
        print_json(out, {"object": "delivery_secret", "tenant": tenant, "secret": current, "older": older})
        return
    say(f"Deliveries to {tenant} are signed with this secret, as Standard Webhooks has it.", err=True)
    if older:
        say("Until the old secret keys are dropped, the older secrets sign as well.", err=True)
    say(current)


def _check_tenant(tenant: str) -> None:
    try:
        tenant_name(tenant)
    except ValueError as error:
        fail(f"the tenant {tenant!r} {error}", code=2)
