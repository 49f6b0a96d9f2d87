"""`reelkeeper check` against a running service: what an operator reads when something between the two is wrong."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.testing import CapturingLogger
from structlog.typing import FilteringBoundLogger

from service import signing
from service.assembly import Service, http_server, listen, open_service
from service.check import Finding, examine
from service.clock import ManualClock, SystemClock
from service.config import Config
from service.model import DeliveryAttempt, VideoRequest
from service.outbound import ask, configured_client
from service.store import Created, NewJob
from service.vault import Vault
from tests.servers import answer, free_ports, loopback
from tests.test_outbound import self_signed
from tests.turns import until

KEY = secrets.token_urlsafe(32)


def settings(folder: Path, public_url: str, **more: str) -> Config:
    return Config.read(
        {
            "REELKEEPER_PUBLIC_URL": public_url,
            "REELKEEPER_SECRET_KEY": KEY,
            "REELKEEPER_DATABASE": f"sqlite:///{folder / 'reelkeeper.db'}",
            "REELKEEPER_STORAGE": str(folder / "videos"),
            "OPENROUTER_API_KEY": "sk-or-v1-canary",
            **more,
        }
    )


@asynccontextmanager
async def running(
    folder: Path, *, behind: Callable[[ASGIApp], ASGIApp] = lambda app: app, log: CapturingLogger | None = None
) -> AsyncIterator[tuple[Config, Service]]:
    """Run the service's web behind a proxy (an ASGI middleware); yields the settings it has."""
    listener = listen("127.0.0.1", 0)
    config = settings(folder, f"http://127.0.0.1:{listener.getsockname()[1]}")
    quiet: FilteringBoundLogger = structlog.wrap_logger(
        log or CapturingLogger(), processors=[], wrapper_class=structlog.make_filtering_bound_logger(20)
    )
    async with open_service(config, quiet) as service:
        server = http_server(behind(service.app))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            await until(lambda: server.started)
            yield config, service
        finally:
            server.should_exit = True
            await serving


async def findings(config: Config) -> Mapping[str, Finding]:
    return {finding.part: finding async for finding in examine(config, SystemClock())}


async def verdict_behind(proxy: Callable[[ASGIApp], ASGIApp], folder: Path) -> Finding:
    async with running(folder, behind=proxy) as (config, _):
        return (await findings(config))["public URL"]


class Proxy:
    """Passes requests on and changes what the test says."""

    def __init__(self, app: ASGIApp, *, prefix: str = "", drop: bytes = b"", body: bytes = b"") -> None:
        self._app = app
        self._prefix = prefix
        self._drop = drop
        self._body = body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(name, value) for name, value in scope["headers"] if name != self._drop]

        async def other() -> Message:
            message = await receive()
            return {**message, "body": message["body"].replace(b"  ", self._body)} if self._body else message

        scope = dict(scope) | {"headers": headers, "path": self._prefix + scope["path"]}
        await self._app(scope, other, send)


async def test_a_service_that_is_well_is_found_well(tmp_path: Path) -> None:
    async with running(tmp_path) as (config, service):
        found = await findings(config)
        assert [finding.part for finding in found.values()] == [
            "settings",
            "providers",
            "database",
            "storage",
            "public URL",
            "jobs",
            "callbacks",
        ]
        assert all(finding.well for finding in found.values()), found
        assert "signed callback came through" in found["public URL"].says
        assert "only a provider on this machine" in found["public URL"].says
        # It leaves nothing behind.
        assert await service.records.store.jobs() == []
        assert [path for path in (tmp_path / "videos").rglob("*") if path.is_file()] == []


async def test_receivers_that_do_not_take_what_they_are_told_are_a_note(tmp_path: Path) -> None:
    async with running(tmp_path) as (config, service):
        store, deliveries = service.records.store, service.records.deliveries
        new = NewJob("acme", "openrouter", VideoRequest("m", prompt="a fox"), notify_url="https://hooks.example.com/x")
        created = await store.create_job(new)
        assert isinstance(created, Created)
        await store.cancel(created.job.id)
        [delivery] = await deliveries.claim(1, each=1)
        await deliveries.gave_up(delivery, DeliveryAttempt(SystemClock().now(), 5, 503, None, "no"))
        found = (await findings(config))["receivers"]
    assert (found.well, found.note) == (True, True)
    assert found.says.startswith("1 receiver did not take what it was told")
    assert "503 from https://hooks.example.com" in found.says
    assert "`reelkeeper receivers redeliver`" in found.says


async def test_what_only_a_job_shows_is_a_note(tmp_path: Path) -> None:
    async def note(**more: str) -> str:
        finding = (await findings(settings(tmp_path, "http://127.0.0.1:1", **more)))["providers"]
        assert (finding.note, finding.well) == (True, True)
        return finding.says

    says = await note()
    assert says.startswith("only a job shows whether the provider knows OPENROUTER_API_KEY. ")
    assert "OPENROUTER_WEBHOOK_SECRET is unset" in says
    says = await note(OPENROUTER_WEBHOOK_SECRET="canary", LLMGATEWAY_API_KEY="canary")
    assert says.endswith("provider knows OPENROUTER_API_KEY, OPENROUTER_WEBHOOK_SECRET and LLMGATEWAY_API_KEY")
    assert "unset" not in says
    assert (await note(OPENROUTER_API_KEY="", LLMGATEWAY_API_KEY="x")).endswith("knows LLMGATEWAY_API_KEY")


async def test_the_check_is_seen_in_the_log_without_its_token(tmp_path: Path) -> None:
    log = CapturingLogger()
    async with running(tmp_path, log=log) as (config, _):
        await findings(config)
    [line] = [call.kwargs for call in log.calls if call.kwargs["event"] == "web.request"]
    assert (line["status"], line["verdict"]) == (204, "check")
    assert line["path"].startswith("/callbacks/check/check-")
    assert line["path"].endswith("/…")


async def test_a_check_with_a_wrong_signature_is_rejected(tmp_path: Path) -> None:
    async with running(tmp_path) as (config, _):
        statuses = [await self_test(config, name="check-1", signed_by="check-1")]
        statuses += [await self_test(config, name="check-1", signed_by="check-2")]
        statuses += [await self_test(config, name="check-1", signed_by="check-1", late_ms=301_000)]
        statuses += [await self_test(config, name="check-1", signed_by="check-1", headers=False)]
        statuses += [await self_test(config, name="check-1", signed_by="check-1", token="x" * 32)]
    assert statuses == [204, 401, 401, 401, 404]


async def self_test(
    config: Config, *, name: str, signed_by: str, late_ms: int = 0, headers: bool = True, token: str | None = None
) -> int:
    vault = Vault(config.secret_keys)
    key = signing.key_of(vault.callback_secret(signed_by))
    now = SystemClock().now() - late_ms
    signed = signing.sign_standard(key, "evt_1", b"{}", now) if headers else {}
    url = f"{config.public_url}/callbacks/check/{name}/{token or vault.callback_token(name)}"
    async with configured_client() as client:
        request = client.build_request(
            "POST", url, content=b"{}", headers={"content-type": "application/json", **signed}
        )
        return (await ask(client, request, seconds=10)).status


async def test_a_key_that_is_rotated_out_is_still_believed(tmp_path: Path) -> None:
    async with running(tmp_path) as (config, _):
        older = settings(tmp_path, config.public_url, REELKEEPER_SECRET_KEY=f"{KEY},{secrets.token_urlsafe(32)}")
        assert (await findings(older))["public URL"].well
        newer = settings(tmp_path, config.public_url, REELKEEPER_SECRET_KEY=f"{secrets.token_urlsafe(32)},{KEY}")
        assert not (await findings(newer))["public URL"].well  # the service was not restarted with the new key


async def test_another_secret_key_is_told(tmp_path: Path) -> None:
    async with running(tmp_path) as (config, _):
        other = settings(tmp_path, config.public_url, REELKEEPER_SECRET_KEY=secrets.token_urlsafe(32))
        finding = (await findings(other))["public URL"]
    assert not finding.well
    assert "answered 404" in finding.says
    assert "another REELKEEPER_SECRET_KEY" in finding.says


async def test_a_public_url_where_nobody_listens_is_told(tmp_path: Path) -> None:
    [port] = free_ports(1)
    finding = (await findings(settings(tmp_path, f"http://127.0.0.1:{port}")))["public URL"]
    assert not finding.well
    assert f"http://127.0.0.1:{port}/callbacks/… cannot be reached from this machine" in finding.says
    assert "Is `reelkeeper serve` running" in finding.says


async def test_a_name_that_does_not_exist_is_told(tmp_path: Path) -> None:
    finding = (await findings(settings(tmp_path, "https://videos.example.invalid")))["public URL"]
    assert not finding.well
    assert "connect error" in finding.says


async def test_a_certificate_that_nobody_vouches_for_is_told(tmp_path: Path) -> None:
    async with loopback(answer(status=204), tls=self_signed(tmp_path)) as server:
        finding = (await findings(settings(tmp_path, f"https://{server.host}")))["public URL"]
    assert not finding.well
    assert "certificate verify failed" in finding.says


async def test_a_proxy_that_changes_the_body_is_told(tmp_path: Path) -> None:
    finding = await verdict_behind(lambda app: Proxy(app, body=b" "), tmp_path)
    assert not finding.well
    assert "answered 401" in finding.says
    assert "Something on the way changes bodies or headers" in finding.says
    assert "webhook-signature matches none of our secrets" in finding.says


async def test_a_proxy_that_takes_the_signature_away_is_told(tmp_path: Path) -> None:
    finding = await verdict_behind(lambda app: Proxy(app, drop=b"webhook-signature"), tmp_path)
    assert not finding.well
    assert "webhook-signature is missing" in finding.says


async def test_a_proxy_that_changes_the_path_is_told(tmp_path: Path) -> None:
    finding = await verdict_behind(lambda app: Proxy(app, prefix="/videos"), tmp_path)
    assert not finding.well
    assert "something on the way changes paths" in finding.says


async def test_a_clock_that_is_wrong_is_told(tmp_path: Path) -> None:
    async with running(tmp_path) as (config, _):
        clock = ManualClock(SystemClock().now() - 3_600_000)
        [finding] = [each async for each in examine(config, clock) if each.part == "public URL"]
    assert not finding.well
    assert "the clock of this machine or of that one is wrong" in finding.says
    assert "behind our clock" in finding.says


@pytest.mark.parametrize(
    ("said", "meaning"),
    [
        (answer(b"<html>Bad Gateway</html>", status=502), "a proxy is there and does not reach the service behind it"),
        (answer(b"<html>Unavailable</html>", status=503), "a proxy is there and does not reach the service behind it"),
        (answer(b"", "Location: https://elsewhere.example.com/", status=308), "a redirect, which no provider follows"),
        (answer(b"", status=413), "a proxy limits bodies"),
        (answer(b"<html>Log in</html>", status=200), "something else than the service answered"),
        (answer(b"", "WWW-Authenticate: Basic", status=401), "something else than the service answered"),
        (answer(b'["error"]', status=404), "something else than the service answered"),
        (answer(b'{"error": {"message": "no"}}', status=500), "the service has a fault, which its log names"),
    ],
)
async def test_whoever_answers_in_our_place_is_told(said: bytes, meaning: str, tmp_path: Path) -> None:
    async with loopback(said) as server:
        finding = (await findings(settings(tmp_path, server.url("").rstrip("/"))))["public URL"]
    assert not finding.well
    assert meaning in finding.says


async def test_a_storage_that_takes_nothing_is_told_and_does_not_hide_the_rest(tmp_path: Path) -> None:
    async with running(tmp_path) as (config, _):
        (tmp_path / "file").write_text("in the way")
        ill = settings(tmp_path, config.public_url, REELKEEPER_STORAGE=str(tmp_path / "file" / "videos"))
        found = await findings(ill)
    assert [finding.part for finding in found.values() if not finding.well] == ["storage"]
    assert "REELKEEPER_STORAGE" in found["storage"].says
    assert "is no usable folder" in found["storage"].says


async def test_a_database_that_is_none_is_told_and_does_not_hide_the_rest(tmp_path: Path) -> None:
    async with running(tmp_path) as (config, _):
        other = tmp_path / "notes.txt"
        other.write_text("no database " * 1000)
        found = await findings(settings(tmp_path, config.public_url, REELKEEPER_DATABASE=f"sqlite:///{other}"))
    assert [finding.part for finding in found.values() if not finding.well] == ["database"]
    assert str(other) in found["database"].says
    assert "is not a database" in found["database"].says
    assert other.read_text() == "no database " * 1000


async def test_a_database_where_none_can_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    config = settings(tmp_path, "http://127.0.0.1:1", REELKEEPER_DATABASE=f"sqlite:///{tmp_path}/file/reelkeeper.db")
    finding = (await findings(config))["database"]
    assert not finding.well
    assert f"there is no database {tmp_path}/file/reelkeeper.db: " in finding.says


async def test_no_finding_holds_a_secret(tmp_path: Path) -> None:
    said: list[Finding] = []
    async with running(tmp_path, behind=lambda app: Proxy(app, body=b" ")) as (config, _):
        said += (await findings(config)).values()
    said += (await findings(config)).values()  # it is gone
    vault = Vault(config.secret_keys)
    for finding in said:
        assert KEY not in finding.says
        assert "canary" not in finding.says
        assert "/callbacks/check/" not in finding.says, "the address with its token"
        assert vault.callback_secret("check") not in finding.says
