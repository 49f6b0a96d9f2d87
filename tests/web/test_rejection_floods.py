"""Floods of callbacks that are rejected: few writes, nobody else waits, and nothing is held."""

from __future__ import annotations

import asyncio
import tracemalloc
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog

from service import assembly
from service.assembly import Service, open_service
from service.clock import ManualClock
from service.config import Config
from service.model import State, VideoRequest
from service.records import open_records
from service.store import Created, NewJob
from service.vault import Vault
from service.web import callbacks
from service.web.turnstile import Turnstile
from tests.turns import Turn, until
from tests.web.house import PUBLIC_URL, House, ask
from tests.web.test_rejections import JSON, body_of, called


async def test_a_flood_is_a_few_writes_and_is_counted_to_the_last(
    house: House,
) -> None:
    house.turnstile = Turnstile(ManualClock(), lambda _: Turn())
    job, others = await house.running(), [await house.running(provider_job_id=f"gen-o{n}") for n in range(20)]
    writes = 0
    run = house.db.run

    async def counted(work: Any) -> Any:  # noqa: ANN401 - as the seam has it
        nonlocal writes
        writes += 1
        return await run(work)

    house.db.run = counted  # type: ignore[method-assign]
    body = body_of(job)
    wrong = [house.openrouter_headers(body, "wrong"), JSON, house.openrouter_headers(b"another")]
    async with house.client(key="") as client:
        for start in range(0, 300, 60):
            posts = [
                client.post(house.address(each), content=body, headers=wrong[(start + n) % 3])
                for n in range(60)
                for each in ([job] if n % 3 else [others[n % 20]])
            ]
            assert {answer.status_code for answer in await asyncio.gather(*posts)} == {401}
    assert writes <= 5
    await house.tally.flush()
    assert writes <= 6
    found = await house.rejections.page(limit=1_000)
    assert sum(each.times for each in found) == 300
    assert len(found) <= 2 * 21


async def test_valid_callbacks_do_not_wait_while_rejections_do(house: House) -> None:
    gate = asyncio.Event()
    house.turnstile = turnstile = Turnstile(ManualClock(), lambda _: gate.wait())
    job, app = await house.running(), house.app()
    async with house.client(app, key="") as client:
        posts = [asyncio.create_task(client.post(house.address(job), content=b"{}", headers=JSON)) for _ in range(90)]
        wrong = [asyncio.create_task(client.post(f"{house.address(job)}x", content=b"{}")) for _ in range(30)]
        await until(lambda: turnstile._all_waiting == 20)
        body = body_of(job)
        answer = await client.post(house.address(job), content=body, headers=house.openrouter_headers(body))
        assert answer.status_code == 204
        assert sum(each.done() for each in (*posts, *wrong)) == 100
        gate.set()
        assert {each.status_code for each in await asyncio.gather(*posts)} == {401}
        assert {each.status_code for each in await asyncio.gather(*wrong)} == {404}
    now = await house.store.job(job.id)
    assert now is not None
    assert now.state is State.MIRRORING


async def test_at_a_crowded_address_nothing_is_read_and_at_others_everything(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Turnstile, "most", 5)
    gate = asyncio.Event()
    house.turnstile = turnstile = Turnstile(ManualClock(), lambda _: gate.wait())
    job, other = await house.running(), await house.running(provider_job_id="gen-2")
    async with called(house) as client:
        posts = [asyncio.create_task(client.post(house.address(job), content=b"{}", headers=JSON)) for _ in range(105)]
        await until(lambda: turnstile._all_waiting == 5)
        body = body_of(job)
        crowded = await client.post(house.address(job), content=body, headers=house.openrouter_headers(body))
        assert crowded.status_code == 429
        assert crowded.headers["retry-after"] == "5"
        assert crowded.json()["error"]["code"] == "too_many_rejections"
        assert (await client.post(house.address(other), content=b"{}", headers=JSON)).status_code == 401
        assert (await client.post(f"{house.address(other)}x")).status_code == 404
        body = body_of(other)
        fine = await client.post(house.address(other), content=body, headers=house.openrouter_headers(body))
        assert fine.status_code == 204
        gate.set()
        await asyncio.gather(*posts)
        body = body_of(job)
        answer = await client.post(house.address(job), content=body, headers=house.openrouter_headers(body))
        assert answer.status_code == 204


async def test_who_waits_holds_no_body(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = asyncio.Event()
    house.turnstile = turnstile = Turnstile(ManualClock(), lambda _: gate.wait())
    turnstile._pace.spend(100)
    monkeypatch.setattr(callbacks, "_BODY_SECONDS", 0.05)
    job, app, headers = await house.running(), house.app(), [(b"content-type", b"application/json")]
    body = b"x" * 200_000  # one for all: what is counted are the copies that the service makes
    tracemalloc.start()
    try:
        posts = [asyncio.create_task(ask(app, "POST", house.address(job), headers, body)) for _ in range(50)]
        slow = [asyncio.create_task(ask(app, "POST", house.address(job), headers, body, more=True)) for _ in range(50)]
        await until(lambda: turnstile._all_waiting == 100)
        held, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    gate.set()
    assert set(await asyncio.gather(*posts)) == {401}
    assert set(await asyncio.gather(*slow)) == {408}
    assert held < 5_000_000
    assert most > len(body)


def config_in(folder: Path) -> Config:
    return Config.read(
        {
            "REELKEEPER_PUBLIC_URL": PUBLIC_URL,
            "REELKEEPER_SECRET_KEY": bytes(range(32)).hex(),
            "REELKEEPER_DATABASE": f"sqlite:///{folder / 'reelkeeper.db'}",
            "REELKEEPER_STORAGE": str(folder / "videos"),
            "OPENROUTER_API_KEY": "unused",
            "OPENROUTER_WEBHOOK_SECRET": "unused",
        }
    )


async def address_of_a_job(service: Service, config: Config) -> str:
    created = await service.records.store.create_job(NewJob("acme", "openrouter", VideoRequest("m", prompt="a cat")))
    assert isinstance(created, Created)
    return f"/callbacks/openrouter/{created.job.id}/{Vault(config.secret_keys).callback_token(created.job.id)}"


def calling(service: Service) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(service.app), base_url=PUBLIC_URL)


async def test_what_a_service_counted_is_written_when_it_stops(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    async with open_service(config, structlog.get_logger()) as service:
        address = await address_of_a_job(service, config)
        async with calling(service) as client:
            for _ in range(7):
                assert (await client.post(address, content=b"{}", headers=JSON)).status_code == 401
    async with open_records(config) as records:
        [row] = await records.rejections.page()
    assert (row.job_id, row.times) == (address.split("/")[3], 7)


async def test_rejections_are_paced_by_the_machines_time_whatever_time_the_service_lives_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, clock, machine = config_in(tmp_path), ManualClock(), ManualClock()
    monkeypatch.setattr(assembly, "SystemClock", lambda: machine)
    waited: list[float] = []

    async def pause(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(assembly, "Turnstile", partial(Turnstile, pause=pause))
    async with open_service(config, structlog.get_logger(), clock=clock) as service, calling(service) as client:
        for advance, kept, waiting in ((lambda _: None, 5, 0), (clock.advance, 5, 7), (machine.advance, 10, 0)):
            advance(60_000)
            waited.clear()
            for _ in range(7):
                address = await address_of_a_job(service, config)
                assert (await client.post(address, content=b"{}", headers=JSON)).status_code == 401
            assert (len(await service.records.rejections.page(limit=100)), len(waited)) == (kept, waiting)
            for _ in range(93):
                await client.post(f"{address}x", content=b"{}")
