"""The sandbox as one object: its ledger, its front page, its loop, its address."""

from __future__ import annotations

import asyncio
import json
import random
import socket
from collections import Counter

import httpx

from service.clock import ManualClock, SystemClock
from service.sandbox import BEHAVIOURS, Sandbox, serving
from tests.sandbox.conftest import CALLBACK_SECRET, House, Receiver, path_of
from tests.turns import until


async def test_the_front_page_says_what_it_is_and_lists_every_model(house: House) -> None:
    answer = await house.http.get("/")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    for model, behaviour in BEHAVIOURS.items():
        assert f"  {model} " in answer.text
        assert behaviour.sentence in answer.text


async def test_the_ledger_tells_what_was_asked_sent_and_fetched(house: House, dialect: str) -> None:
    path = await house.finished(dialect, "ok")
    await house.sandbox.run_once()
    await house.http.get(path)
    await house.http.get(path + "/content")
    job = await house.last_job()
    extra = {} if dialect == "openrouter" else {"seconds": 4}
    size = job["downloads"][0]["bytes"]
    host = house.sandbox.base_url.removeprefix("http://")
    assert size > 1_000
    assert job == {
        "id": path.rpartition("/")[2],
        "dialect": dialect,
        "model": "sandbox/ok",
        "created_at": 1_790_000_000_000,
        "status": "completed",
        "request": {"model": "sandbox/ok", "prompt": "a cat", "callback_url": house.receiver.url, **extra},
        "polls": 1,
        "callbacks": [
            {"kind": "genuine", "attempt": 1, "sent_at": 1_790_000_002_000, "status": 204, "error": None},
        ],
        "downloads": [
            {
                "via": "content",
                "index": 0,
                "host": host,
                "authorization": True,
                "at": 1_790_000_002_000,
                "status": 200,
                "bytes": size,
            },
        ],
    }


async def test_the_ledger_holds_no_secret(house: House, dialect: str) -> None:
    await house.job(dialect, "ok")
    text = (await house.http.get("/sandbox/ledger")).text
    for secret in (CALLBACK_SECRET, json.dumps(CALLBACK_SECRET)[1:-1], "right-key", "whsec_"):
        assert secret not in text


async def test_the_ledger_counts_every_submission_and_every_job(house: House) -> None:
    for dialect in ("openrouter", "llmgateway"):
        for name in ("ok", "refused-402", "nonsense", "accepted-then-502"):
            await house.submit(dialect, name)
    ledger = await house.ledger()
    assert ledger["submissions"] == {"openrouter": 4, "llmgateway": 4}
    assert ledger["accepted"] == 4
    assert Counter(job["dialect"] for job in ledger["jobs"]) == {"openrouter": 2, "llmgateway": 2}


async def test_the_ledger_keeps_neither_long_requests_nor_long_lists(house: House) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}}
    answer = await house.submit("openrouter", "ok", input_references=[picture])
    path = path_of("openrouter", answer.json()["id"])
    house.clock.advance(2_000)
    for _ in range(60):
        await house.http.get(path + "/content")
    job = await house.last_job()
    assert "input_references" not in job["request"]
    assert job["request"]["prompt"] == "a cat"
    assert len(job["downloads"]) == 50


async def test_the_oldest_jobs_are_forgotten_with_their_callbacks(receiver: Receiver) -> None:
    clock = ManualClock()
    async with httpx.AsyncClient() as client:
        sandbox = Sandbox(
            clock=clock,
            chance=random.Random(1),  # noqa: S311 - not a secret
            webhook_secret="s",
            client=client,
            most_jobs=3,
        )
        async with serving(sandbox) as url, httpx.AsyncClient(base_url=url) as http:
            http.headers["authorization"] = "Bearer any"
            request = {"model": "sandbox/ok", "callback_url": receiver.url}
            ids = [(await http.post("/api/v1/videos", json=request)).json()["id"] for _ in range(5)]
            assert [job.id for job in sandbox.ledger.jobs()] == ids[2:]
            assert (await http.get(f"/api/v1/videos/{ids[0]}")).status_code == 404
            clock.advance(2_000)
            assert await sandbox.run_once() == 3


async def test_the_loop_sends_what_is_due_without_being_asked(receiver: Receiver) -> None:
    async with httpx.AsyncClient() as client:
        sandbox = Sandbox(
            clock=SystemClock(),
            chance=random.Random(1),  # noqa: S311 - not a secret
            webhook_secret="",
            client=client,
            speed=1_000,
        )
        async with serving(sandbox) as url, httpx.AsyncClient(base_url=url) as http, asyncio.timeout(10):
            loop = asyncio.create_task(sandbox.run())
            http.headers["authorization"] = "Bearer any"
            await http.post("/api/v1/videos", json={"model": "sandbox/ok", "callback_url": receiver.url})
            await until(lambda: receiver.received)
            loop.cancel()
            await asyncio.wait({loop})
    assert "x-openrouter-signature" not in receiver.received[0].headers, "no secret, no signature"


async def test_an_address_of_its_own_is_kept(house: House) -> None:
    house.sandbox.base_url = "https://sandbox.example:8443/"
    answer = await house.http.post("/api/v1/videos", json={"model": "sandbox/ok"})
    assert answer.json()["polling_url"].startswith("https://sandbox.example:8443/api/v1/videos/gen-vid-")
    assert house.sandbox.elsewhere == "https://sandbox.example.:8443"


async def test_leaving_cuts_off_callers_that_never_get_an_answer() -> None:
    async with httpx.AsyncClient(timeout=60) as http, asyncio.timeout(5):
        sandbox = Sandbox(
            clock=ManualClock(),
            chance=random.Random(1),  # noqa: S311 - not a secret
            webhook_secret="s",
            client=http,
        )
        http.headers["authorization"] = "Bearer any"
        async with serving(sandbox) as url:
            request = {"model": "sandbox/accepted-then-hangs"}
            call = asyncio.create_task(http.post(f"{url}/api/v1/videos", json=request))
            await until(lambda: sandbox.ledger.accepted)
        await asyncio.wait({call})
    assert isinstance(call.exception(), httpx.HTTPError)


async def test_leaving_cuts_off_who_is_just_connecting() -> None:
    def knock(url: httpx.URL) -> socket.socket:
        client = socket.socket()
        client.setblocking(False)  # noqa: FBT003 - the standard library's own form
        client.connect_ex((url.host, url.port))
        return client

    async def keep_knocking(url: httpx.URL) -> None:
        while True:
            clients.append(knock(url))
            await asyncio.sleep(0)

    def cut(client: socket.socket) -> bool:
        try:
            return client.recv(1) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    clients: list[socket.socket] = []
    async with httpx.AsyncClient() as http:
        sandbox = Sandbox(clock=ManualClock(), chance=random.Random(1), webhook_secret="s", client=http)  # noqa: S311
        async with serving(sandbox) as url:
            knocking = asyncio.create_task(keep_knocking(httpx.URL(url)))
            await until(lambda: len(clients) > 3)
        knocking.cancel()
    try:
        await until(lambda: all(map(cut, clients)))
    finally:
        for client in clients:
            client.close()
