from __future__ import annotations

import asyncio

import httpx
import pytest

from service.errors import StorageError
from service.model import Problem, VideoRequest
from service.providers.openrouter import OpenRouter
from service.storage import Storage
from service.web.status.health import Health
from tests.turns import until
from tests.web.house import House


async def test_a_process_that_is_up_is_healthy_whatever_is_broken(house: House) -> None:
    await house.db.close()
    async with house.client(key="") as client:
        answer = await client.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_ready_means_that_the_database_was_written_to(house: House) -> None:
    async with house.client(key="") as client:
        answer = await client.get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert await house.count("probes") == 1


async def test_a_database_that_takes_nothing_is_named(house: House) -> None:
    await house.db.close()
    async with house.client(key="") as client:
        answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["status"] == "ill"
    assert list(answer.json()["troubles"]) == ["database"]
    assert "is closed" in answer.json()["troubles"]["database"]


async def test_a_worker_in_trouble_is_named(house: House) -> None:
    house.troubles["poll"] = "died of OSError, is being started again"
    async with house.client(key="") as client:
        answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["troubles"] == {"worker poll": "died of OSError, is being started again"}


async def test_the_storage_is_looked_at_every_half_minute_and_no_more_often(house: House) -> None:
    async with house.client(key="") as client:
        assert (await client.get("/readyz")).status_code == 200
        (house.folder / "videos").rename(house.folder / "away")
        (house.folder / "videos").write_bytes(b"a file where the folder was")
        house.clock.advance(29_999)
        assert (await client.get("/readyz")).status_code == 200
        house.clock.advance(1)
        ill = await client.get("/readyz")
        assert ill.status_code == 503
        assert list(ill.json()["troubles"]) == ["storage"]
        (house.folder / "videos").unlink()
        (house.folder / "away").rename(house.folder / "videos")
        house.clock.advance(30_000)
        assert (await client.get("/readyz")).status_code == 200


class Slow(Storage):
    """A storage whose check waits to be let go, and says what it knows in secret."""

    checks = 0
    go: asyncio.Event

    async def check(self) -> None:
        self.checks += 1
        await self.go.wait()
        raise StorageError("https://user:canary@bucket.example/x?sig=canary refuses; check AWS_SECRET_ACCESS_KEY")


async def test_questions_at_the_same_time_share_one_try_and_no_secret_is_told(house: House) -> None:
    storage = Slow.open(str(house.folder / "videos"))
    storage.go = asyncio.Event()
    async with house.client(house.app(storage=storage), key="") as client:
        asked = [asyncio.create_task(client.get("/readyz")) for _ in range(20)]
        await until(lambda: storage.checks)
        storage.go.set()
        answers = await asyncio.gather(*asked)
    assert storage.checks == 1
    assert {answer.status_code for answer in answers} == {503}
    assert "canary" not in answers[0].text
    assert "refuses; check AWS_SECRET_ACCESS_KEY" in answers[0].json()["troubles"]["storage"]


async def test_a_storage_that_hangs_is_ill(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.web.status.health._PROBE_SECONDS", 0.05)
    storage = Slow.open(str(house.folder / "videos"))
    storage.go = asyncio.Event()
    async with house.client(house.app(storage=storage), key="") as client:
        answer = await client.get("/readyz")
    assert answer.json()["troubles"] == {"storage": "no answer within 0.05 seconds"}


# What every request gets


async def test_a_sane_request_id_is_taken_over_and_any_other_replaced(house: House, client: httpx.AsyncClient) -> None:
    taken = await client.get("/v1/jobs", headers={"x-request-id": "trace-7:a.b_C"})
    assert taken.headers["x-request-id"] == "trace-7:a.b_C"
    for strange in ("", "a b", "x" * 129, "ü", 'a"}'):
        answer = await client.get("/v1/jobs", headers=[(b"x-request-id", strange.encode())])
        assert answer.headers["x-request-id"].startswith("req_")
    doubled = await client.get("/healthz", headers=[("x-request-id", "a"), ("x-request-id", "b")])
    assert doubled.headers["x-request-id"].startswith("req_")
    assert house.lines()[0]["request_id"] == "trace-7:a.b_C"


async def test_every_request_is_one_line_of_log(house: House, client: httpx.AsyncClient) -> None:
    job = await house.queued()
    answer = await client.get(f"/v1/jobs/{job.id}?secret=canary")
    [line] = house.lines()
    assert line.pop("ms") >= 0
    assert line == {
        "event": "web.request",
        "request_id": answer.headers["x-request-id"],
        "method": "GET",
        "path": f"/v1/jobs/{job.id}",
        "route": "/v1/jobs/{job_id}",
        "status": 200,
        "bytes": len(answer.content),
        "tenant": "acme",
        "job": job.id,
    }
    assert house.key not in repr(house.logged.calls)


class Broken(OpenRouter):
    """An adapter with a mistake in it."""

    def problems(self, request: VideoRequest) -> list[Problem]:
        raise RuntimeError(f"canary {request.prompt}")


async def test_a_mistake_of_ours_is_told_to_the_log_alone(house: House) -> None:
    openrouter = house.providers["openrouter"]
    assert isinstance(openrouter, OpenRouter)
    openrouter.__class__ = Broken
    async with house.client() as client:
        answer = await client.post("/v1/jobs", json={"model": "m"})
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal"
    assert "canary" not in answer.text
    [line] = house.faults()
    assert isinstance(line["exc_info"], RuntimeError)
    assert (line["kind"], line["status"]) == ("RuntimeError", 500)
    assert line["request_id"] == answer.headers["x-request-id"]


async def test_what_is_not_offered_is_no_mistake_of_ours_in_the_log(house: House, client: httpx.AsyncClient) -> None:
    job = await house.completed()
    answer = await client.get(f"/v1/videos/{job.id}/content?variant=spritesheet")
    assert answer.status_code == 501
    assert house.faults() == []
    assert house.lines()[-1]["reason"] == "not_implemented"


async def test_a_database_that_is_away_is_worth_another_try(house: House, client: httpx.AsyncClient) -> None:
    await house.db.close()
    for answer in (await client.get("/v1/jobs"), await client.post("/v1/jobs", json={"model": "m"})):
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "5"
        assert answer.json()["error"]["code"] == "store_unavailable"


async def test_who_looks_at_the_parts_waits_for_none_that_hangs_but_when_nothing_is_known(house: House) -> None:
    storage = Slow.open(str(house.folder / "videos"))
    storage.go = asyncio.Event()
    health = Health(store=house.store, storage=storage, clock=house.clock, workers=lambda: house.troubles)

    async def ill() -> list[str]:
        return [part.name for part in await health.parts() if part.trouble]

    first = asyncio.create_task(ill())
    await until(lambda: storage.checks)
    storage.go.set()
    assert await first == ["storage"]
    storage.go.clear()
    house.troubles["poll"] = "died of OSError, is being started again"
    for waited in (4_999, 30_000, 20_000):
        house.clock.advance(waited)
        assert await ill() == ["storage", "worker poll"]
    await until(lambda: storage.checks == 2)
    house.clock.advance(60_000)
    last = asyncio.create_task(ill())
    storage.go.set()
    assert await last == ["storage", "worker poll"]


async def test_workers_that_only_say_what_the_database_says_are_not_ill_themselves(house: House) -> None:
    health = Health(store=house.store, storage=house.storage, clock=house.clock, workers=lambda: house.troubles)
    await house.db.close()
    [database] = [part for part in await health.parts() if part.name == "database"]
    house.troubles |= {"poll": database.trouble, "submit": "died of OSError, is being started again"}
    assert [part.name for part in await health.parts() if part.trouble] == ["database", "worker submit"]
