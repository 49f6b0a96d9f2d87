"""The numbers for Prometheus, as they are scraped."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.routing import Route

from service.errors import LookTooLongError, StoreUnavailableError
from service.store import Overview
from service.web.metrics import Scrape
from tests.web.house import House, llmgateway_body, openrouter_body

JSON = {"content-type": "application/json"}


@pytest.fixture
async def prometheus(house: House) -> AsyncIterator[httpx.AsyncClient]:
    """Return a client with an operator's key."""
    _, key = await house.keys.create("prometheus", "ops", operator=True)
    async with house.client(key=key) as client:
        yield client


async def scraped(prometheus: httpx.AsyncClient) -> dict[str, float]:
    """Return every number, by what stands before it on its line."""
    answer = await prometheus.get("/metrics")
    assert answer.status_code == 200, answer.text
    found = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name.removeprefix('reelkeeper_')}{{{labels}}}"] = sample.value
    return found


async def test_it_takes_an_operators_key(house: House, prometheus: httpx.AsyncClient) -> None:
    assert (await prometheus.get("/metrics")).status_code == 200
    async with house.client() as tenant, house.client(key="") as stranger:
        assert (await tenant.get("/metrics")).json()["error"]["code"] == "operators_only"
        assert (await stranger.get("/metrics")).status_code == 401
        wrong = await stranger.get("/metrics", headers={"authorization": "Bearer rk_wrong"})
        assert wrong.status_code == 401


async def test_openmetrics_is_written_for_who_asks_for_it(prometheus: httpx.AsyncClient) -> None:
    accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
    answer = await prometheus.get("/metrics", headers={"accept": accept})
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert answer.text.endswith("# EOF\n")
    assert answer.headers["cache-control"] == "no-store"
    plain = await prometheus.get("/metrics", headers={"accept": "text/html"})
    assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


async def test_a_jobs_way_to_its_kept_video_is_counted(house: House, prometheus: httpx.AsyncClient) -> None:
    job = await house.running()
    now = await scraped(prometheus)
    assert now["jobs{provider=openrouter,state=running}"] == 1
    assert now["overdue_seconds{provider=openrouter,step=poll}"] == 0
    assert now["jobs_entered_total{provider=openrouter,state=submitting}"] == 1
    house.clock.advance(90_000)
    assert (await scraped(prometheus))["overdue_seconds{provider=openrouter,step=poll}"] == 30
    await house.call_back(job)
    await house.completed("gen-2", contents=(b"x" * 1000,))
    now = await scraped(prometheus)
    assert now["jobs{provider=openrouter,state=running}"] == 0
    assert now["jobs{provider=openrouter,state=mirroring}"] + now["jobs{provider=openrouter,state=completed}"] == 2
    assert now["mirrored_bytes_total{provider=openrouter}"] == now["storage_bytes{}"] == 1000
    assert now["submit_to_kept_seconds_count{provider=openrouter}"] == now["storage_files{}"] == 1
    assert now["callbacks_total{provider=openrouter,verdict=applied}"] == 2
    assert now["jobs_entered_total{provider=openrouter,state=completed}"] == 1


# Callbacks


async def test_a_callback_is_counted_by_what_it_turned_out_to_be(house: House, prometheus: httpx.AsyncClient) -> None:
    job = await house.running()
    body = openrouter_body("gen-1")
    async with house.client(key="") as provider:
        for headers in (JSON, house.openrouter_headers(body, "another secret"), house.openrouter_headers(body)):
            await provider.post(house.address(job), content=body, headers=headers)
        await provider.post(house.address(job), content=body, headers=house.openrouter_headers(body))
        strange = openrouter_body("gen-9")
        await provider.post(house.address(job), content=strange, headers=house.openrouter_headers(strange))
        await provider.post(house.address(job), content=b"{}", headers={"content-type": "text/plain"})
    now = await scraped(prometheus)
    verdicts = {name: value for name, value in now.items() if name.startswith("callbacks_total") and value}
    assert verdicts == {
        "callbacks_total{provider=openrouter,verdict=applied}": 1,
        "callbacks_total{provider=openrouter,verdict=duplicate}": 1,
        "callbacks_total{provider=openrouter,verdict=rejected}": 4,
    }
    for reason in ("missing_header", "wrong_secret", "mismatched", "wrong_content_type"):
        assert now[f"callbacks_rejected_total{{provider=openrouter,reason={reason}}}"] == 1
    assert [line.get("verdict") or line.get("reason") for line in house.lines() if "callbacks" in line["route"]] == [
        "missing_header",
        "wrong_secret",
        "applied",
        "duplicate",
        "mismatched",
        "wrong_content_type",
    ]
    assert {(line["job"], line["provider"]) for line in house.lines() if "callbacks" in line["route"]} == {
        (job.id, "openrouter")
    }


async def test_a_callback_that_cannot_be_stored_is_counted_as_such(
    house: House, prometheus: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object, **__: object) -> None:
        raise StoreUnavailableError("the disk is full")

    job = await house.running()
    monkeypatch.setattr(house.store, "receive", away)
    assert (await house.call_back(job)).status_code == 503
    assert (await scraped(prometheus))["callbacks_rejected_total{provider=openrouter,reason=not_stored}"] == 1


async def test_what_comes_to_no_jobs_address_is_only_a_request_that_found_nothing(
    house: House, prometheus: httpx.AsyncClient
) -> None:
    job = await house.running("llmgateway", "vid-1")
    body = llmgateway_body("vid-1")
    token = house.vault.callback_token(job.id)
    async with house.client(key="") as stranger:
        for path in (
            f"/callbacks/{job.provider}/{job.id}/{'x' * 32}",
            f"/callbacks/nobody/{job.id}/{token}",
            f"/callbacks/check/{job.id}/{token}",
        ):
            answer = await stranger.post(path, content=body, headers=house.llmgateway_headers(job, body, "evt_1"))
            assert answer.status_code in (204, 401, 404)
    now = await scraped(prometheus)
    assert [name for name, value in now.items() if name.startswith("callbacks_") and value] == []
    assert now["http_latency_seconds_count{method=POST,route=/callbacks/{provider}/{job_id}/{token},status=4xx}"] >= 2


# Hostile requests


async def test_no_path_no_method_and_no_field_of_a_stranger_becomes_a_label(
    house: House, prometheus: httpx.AsyncClient
) -> None:
    async with house.client() as client:
        for number in range(50):
            name = f"canary{number}"
            await client.get(f"/{name}")
            await client.get(f"/v1/jobs/{name}?{name}={name}")
            await client.request(name.upper(), f"/v1/jobs/{name}")
            await client.post(f"/callbacks/{name}/{name}/{name}", json={})
            await client.post("/v1/jobs", json={"model": name, "provider": name})
            await client.post("/v1/jobs", json={"model": name, "provider": "openrouter", "prompt": name})
    text = (await prometheus.get("/metrics")).text
    assert "canary" not in text.lower()
    routes = set(re.findall(r'route="([^"]*)"', text))
    assert routes == {"", "/v1/jobs", "/v1/jobs/{job_id}", "/callbacks/{provider}/{job_id}/{token}"}
    assert set(re.findall(r'method="([^"]*)"', text)) == {"GET", "POST", "other"}


# Without the database


class Hanging:
    """Statistics that are never ready."""

    def __init__(self) -> None:
        self.asked = 0
        self.stuck = asyncio.Event()

    async def overview(self, tenant: str | None = None) -> Overview:
        self.asked += 1
        await self.stuck.wait()
        raise StoreUnavailableError(f"gone: {tenant}")


async def test_a_database_that_is_gone_is_a_number(house: House, prometheus: httpx.AsyncClient) -> None:
    job = await house.running()
    assert (await scraped(prometheus))["database_up{}"] == 1
    await house.db.close()
    now = await scraped(prometheus)
    assert now["database_up{}"] == 0
    assert now[f"jobs_entered_total{{provider={job.provider},state=running}}"] == 1
    assert not [name for name in now if name.startswith("jobs{")]


async def test_a_database_that_looks_up_the_numbers_for_too_long_is_a_number(
    house: House, prometheus: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: object) -> None:
        raise LookTooLongError("it was ended")

    monkeypatch.setattr(house.db, "look", never)
    assert (await scraped(prometheus))["database_up{}"] == 0


async def test_without_the_database_only_who_was_an_operator_of_late_is_believed(
    house: House, prometheus: httpx.AsyncClient
) -> None:
    await scraped(prometheus)
    await house.db.close()
    async with house.client() as tenant:
        assert (await tenant.get("/metrics")).status_code == 503
    house.clock.advance(3_600_001)
    assert (await prometheus.get("/metrics")).status_code == 503


async def test_a_key_that_was_revoked_is_not_believed_when_the_database_goes(house: House) -> None:
    record, key = await house.keys.create("prometheus", "ops", operator=True)
    async with house.client(key=key) as prometheus:
        assert (await prometheus.get("/metrics")).status_code == 200
        await house.keys.revoke(record.id)
        assert (await prometheus.get("/metrics")).status_code == 401
        await house.db.close()
        assert (await prometheus.get("/metrics")).status_code == 503


async def test_a_database_that_hangs_costs_a_moment_and_is_asked_by_one_scrape_at_a_time(house: House) -> None:
    _, key = await house.keys.create("prometheus", "ops", operator=True)
    hanging, app = Hanging(), house.app()
    routes = [route for route in app.routes if isinstance(route, Route)]
    [scrape] = [getattr(route.endpoint, "__self__", None) for route in routes if route.path == "/metrics"]
    assert isinstance(scrape, Scrape)
    async with house.client(app, key=key) as prometheus:
        assert (await scraped(prometheus))["database_up{}"] == 1
        scrape._seconds, scrape._statistics = 1.0, hanging  # type: ignore[assignment]
        first, second = await asyncio.gather(scraped(prometheus), scraped(prometheus))
        third = await scraped(prometheus)
        assert first["database_up{}"] == second["database_up{}"] == third["database_up{}"] == 0
        assert hanging.asked == 1
        hanging.stuck.set()
        await asyncio.gather(scrape._reading, return_exceptions=True)  # type: ignore[arg-type]
