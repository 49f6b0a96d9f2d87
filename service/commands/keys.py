"""`reelkeeper keys`: who may call, and with which secret a tenant is told."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from service.assembly import Records
from service.commands import fail, out, read_config, with_records
from service.storage.folder import PROBES
from service.tables import print_rows, second
from service.vault import Vault

_LONGEST_WINDOW_S = 7 * 86_400

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="API keys of callers and operators.")


@app.command("create")
def keys_create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is, for people: a backend or a person.")],
    tenant: Annotated[
        str, typer.Option(metavar="TENANT", help="Who owns the jobs made with it; keys of one tenant share jobs.")
    ] = "default",
    *,
    operator: Annotated[bool, typer.Option("--operator", help="May see the status of the whole service.")] = False,
    dedupe_window: Annotated[
        int,
        typer.Option(
            min=0,
            max=_LONGEST_WINDOW_S,
            metavar="SECONDS",
            help="For so long an identical create without an Idempotency-Key is the same job.",
        ),
    ] = 0,
    per_minute: Annotated[
        int | None, typer.Option(min=1, max=100_000, metavar="N", help="How many videos may be asked for a minute.")
    ] = None,
) -> None:
    """Make an API key. The key alone is the last line of standard output, this once."""
    if not name.strip() or not name.isprintable():
        fail("NAME must be text on one line; for example my-backend", code=2)
    _check_tenant(tenant)

    config = read_config()

    async def run(records: Records) -> None:
        record, key = await records.keys.create(
            name,
            tenant,
            operator=operator,
            dedupe_window_ms=dedupe_window * 1000,
            creates_per_minute=per_minute,
        )
        role = "an operator key" if operator else "a key"
        about = f"{record.id}: {role} for {name}, tenant {tenant}, in {config.database.absolute()}"
        typer.echo(f"{about}. Only its hash is stored, and it is not shown again:", err=True)
        typer.echo(key)

    with_records(config, run)


@app.command("list")
def keys_list() -> None:
    """Show every API key, without the keys themselves."""

    async def run(records: Records) -> None:
        rows = []
        for key in await records.keys.all():
            role = "operator" if key.operator else "caller"
            revoked = second(key.revoked_at) if key.revoked_at else ""
            window = f"{key.dedupe_window_ms // 1000} s" if key.dedupe_window_ms else ""
            limit = f"{key.creates_per_minute}/min" if key.creates_per_minute else ""
            rows.append((key.id, key.name, key.tenant, role, second(key.created_at), revoked, limit, window))
        head = ("id", "name", "tenant", "role", "created", "revoked", "limit", "window")
        none = "no keys; `reelkeeper keys create NAME` makes one"
        print_rows(out, head, rows, spare=("window", "limit", "created", "role"), none=none)

    with_records(read_config(), run)


@app.command("revoke")
def keys_revoke(
    key_id: Annotated[str, typer.Argument(metavar="KEY_ID", help="The key's id, as `keys list` shows it.")],
) -> None:
    """Make an API key useless, at once."""

    async def run(records: Records) -> None:
        if await records.keys.revoke(key_id) is not None:
            typer.echo(f"{key_id} is revoked")
        elif any(key.id == key_id for key in await records.keys.all()):
            typer.echo(f"{key_id} is already revoked")
        else:
            fail(f"there is no key {key_id}; `reelkeeper keys list` shows them")

    with_records(read_config(), run)


@app.command("delivery-secret")
def keys_delivery_secret(
    tenant: Annotated[str, typer.Argument(metavar="TENANT", help="Who is told about its jobs.")] = "default",
) -> None:
    """Show the secret that signs what a tenant is told about its jobs, alone on the last line."""
    _check_tenant(tenant)
    config = read_config()

    async def run(records: Records) -> None:
        if not any(key.tenant == tenant for key in await records.keys.all()):
            typer.echo(
                f"There is no API key of the tenant {tenant}; `reelkeeper keys list` shows who there is.", err=True
            )

    with_records(config, run)
    current, *older = Vault(config.secret_keys).delivery_secrets(tenant)
    typer.echo(f"Deliveries to {tenant} are signed with this secret, as Standard Webhooks has it.", err=True)
    if older:
        typer.echo("Until the old secret keys are dropped, the older secrets sign as well.", err=True)
    typer.echo(current)


def _check_tenant(tenant: str) -> None:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,62}", tenant):
        fail(f"the tenant {tenant!r} must be 1 to 63 lower-case letters, digits, - or _; for example studio", code=2)
    if tenant == PROBES:
        fail(f"the tenant cannot be {PROBES}, where the storage is tried out; for example studio", code=2)
