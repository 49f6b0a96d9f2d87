"""What an operator key reaches beyond its own tenant, and what it does not."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from service.model import ErrorCode, JobError
from tests.web.house import House


@pytest.fixture
async def operator(house: House) -> AsyncIterator[httpx.AsyncClient]:
    _, key = await house.keys.create("ops", "default", operator=True)
    async with house.client(key=key) as client:
        yield client


async def listed(client: httpx.AsyncClient, query: str = "") -> list[tuple[str, str]]:
    answer = await client.get(f"/v1/jobs{query}")
    assert answer.status_code == 200, answer.text
    return [(job["id"], job["tenant"]) for job in answer.json()["data"]]


async def test_an_operator_reaches_the_jobs_of_every_tenant_on_the_native_routes(
    house: House, operator: httpx.AsyncClient
) -> None:
    job = await house.queued(tenant="globex")
    read = await operator.get(f"/v1/jobs/{job.id}")
    assert (read.status_code, read.json()["tenant"]) == (200, "globex")
    for end in ("events", "deliveries"):
        assert (await operator.get(f"/v1/jobs/{job.id}/{end}")).status_code == 200
    assert (await operator.post(f"/v1/jobs/{job.id}/cancel")).json()["state"] == "cancelled"
    again = (await operator.post(f"/v1/jobs/{job.id}/retry")).json()
    assert (again["retry_of"], again["tenant"]) == (job.id, "globex")


async def test_the_compatible_faces_know_of_no_operators(house: House, operator: httpx.AsyncClient) -> None:
    job = await house.queued(tenant="globex")
    for path in ("/api/v1/videos", "/v1/videos"):
        for end in ("", "/content"):
            assert (await operator.get(f"{path}/{job.id}{end}")).status_code == 404
    assert (await operator.delete(f"/v1/videos/{job.id}")).status_code == 404
    assert (await operator.get("/v1/videos")).json()["data"] == []


async def test_an_operator_lists_a_tenant_or_all_of_them(house: House, operator: httpx.AsyncClient) -> None:
    theirs = await house.queued(tenant="globex")
    house.clock.advance(1)
    others = await house.queued(tenant="acme")
    assert await listed(operator) == []
    assert await listed(operator, "?tenant=globex") == [(theirs.id, "globex")]
    assert await listed(operator, "?tenant=*") == [(others.id, "acme"), (theirs.id, "globex")]
    assert await listed(operator, "?tenant=nobody") == []


async def test_a_caller_lists_its_own_tenant_whatever_it_asks_for(house: House, client: httpx.AsyncClient) -> None:
    await house.queued(tenant="globex")
    own = await house.queued(tenant="acme")
    assert await listed(client, "?tenant=acme") == [(own.id, "acme")]
    for tenant in ("globex", "*"):
        answer = await client.get(f"/v1/jobs?tenant={tenant}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "operators_only")
        assert "leave tenant out, or use an operator key" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "query",
    ["tenant=", "tenant=A", "tenant=**", "tenant=reelkeeper-check", "error=oops", "error=", "q=", "q=" + "x" * 201],
)
async def test_a_filter_that_means_nothing_is_refused(operator: httpx.AsyncClient, query: str) -> None:
    answer = await operator.get(f"/v1/jobs?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"]["problems"][0]["field"] == query.partition("=")[0]


async def test_jobs_are_found_by_their_error_and_by_their_words(house: House, client: httpx.AsyncClient) -> None:
    await house.queued()
    failed = await house.claims.refused(await house.submitting(), JobError(ErrorCode.CONTENT_POLICY, "not this"))
    assert failed is not None
    running = await house.running(provider_job_id="gen-1")
    assert await listed(client, "?error=content_policy") == [(failed.id, "acme")]
    assert await listed(client, "?q=gen-1") == [(running.id, "acme")]
    assert await listed(client, f"?q={failed.id}&state=failed") == [(failed.id, "acme")]
    assert len(await listed(client, "?q=cat")) == 3
    assert await listed(client, "?q=dog") == []
