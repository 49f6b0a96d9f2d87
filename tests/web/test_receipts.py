"""Genuine callbacks, shown to those whose job they are about."""

from __future__ import annotations

import httpx

from service.model import Report, Status
from service.store import Receipt
from tests.web.house import House, openrouter_body


async def test_every_genuine_callback_is_shown_with_what_it_turned_out_to_be(
    house: House, client: httpx.AsyncClient
) -> None:
    job = await house.running()
    await house.call_back(job, "in_progress")
    house.clock.advance(1_000)
    await house.call_back(job, "in_progress")
    await house.call_back(job)

    answer = await client.get(f"/v1/jobs/{job.id}/receipts")
    assert answer.status_code == 200
    first, second = answer.json()["data"]
    assert (first["provider_status"], first["times"]) == ("in_progress", 2)
    assert (first["first_at"], first["last_at"]) == ("2026-09-21T14:13:20.000Z", "2026-09-21T14:13:21.000Z")
    assert (second["provider_status"], second["verdict"], second["times"]) == ("completed", "applied", 1)
    assert second["provider_job_id"] == "gen-1"
    assert second["bytes"] == len(openrouter_body("gen-1"))
    assert second["headers"]["content-type"] == "application/json"
    assert '"status": "completed"' in second["body"]


async def test_signed_addresses_and_signatures_are_not_shown(house: House, client: httpx.AsyncClient) -> None:
    job = await house.running()
    await house.call_back(job)
    answer = await client.get(f"/v1/jobs/{job.id}/receipts")
    assert "https://cdn.example.net/0.mp4?…" in answer.json()["data"][0]["body"]
    assert "canary" not in answer.text
    assert "v1=" not in answer.text


async def test_a_body_that_is_no_text_is_counted_only(house: House, client: httpx.AsyncClient) -> None:
    job = await house.running()
    report = Report(Status.RUNNING, "in_progress", "gen-1")
    receipt = Receipt({}, b"\xff\xfe", house.clock.now())
    await house.store.receive(job.id, report, receipt, poll_ms=1_000, retention_ms=1_000)
    [shown] = (await client.get(f"/v1/jobs/{job.id}/receipts")).json()["data"]
    assert (shown["bytes"], shown["body"]) == (2, None)


async def test_a_job_without_callbacks_has_an_empty_list(house: House, client: httpx.AsyncClient) -> None:
    job = await house.queued()
    assert (await client.get(f"/v1/jobs/{job.id}/receipts")).json() == {"object": "list", "data": []}


async def test_another_tenants_callbacks_do_not_exist(house: House, client: httpx.AsyncClient) -> None:
    job = await house.queued(tenant="globex")
    assert (await client.get(f"/v1/jobs/{job.id}/receipts")).status_code == 404
