"""Who looks for what takes too long to find is told so, in the form in which they read, and nobody else notices."""

from __future__ import annotations

import httpx
import pytest

from service.db.sqlite import SQLiteDatabase
from service.errors import LookTooLongError
from tests.web.house import House
from tests.web.status.browsing import signed_in
from tests.web.test_actions import told

TOO_LONG = "it took longer than 1 s and was ended: narrow it down"


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: object) -> None:
        raise LookTooLongError(TOO_LONG)

    monkeypatch.setattr(SQLiteDatabase, "look", never)


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("path", ["/v1/jobs?q=fox", "/v1/videos", "/v1/callbacks/rejected", "/status.json"])
async def test_a_list_that_takes_too_long_is_worth_another_try(
    house: House, client: httpx.AsyncClient, path: str
) -> None:
    answer = await client.get(path)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
    said = answer.json()["error"]
    assert said["message"] == f"Not found out: {TOO_LONG}."
    assert said["code"] == "took_too_long"
    line = house.lines()[-1]
    assert (line["kind"], line["error"]) == ("LookTooLongError", TOO_LONG)
    assert house.faults() == []  # nothing is broken


async def test_a_page_that_takes_too_long_is_a_page(house: House, request: pytest.FixtureRequest) -> None:
    async with signed_in(house) as browser:
        request.getfixturevalue("slow")
        for path in ("/status", "/status/jobs?q=fox"):
            page = await browser.see(path, 503)
            assert TOO_LONG in page.one(role="alert").text


@pytest.mark.usefixtures("slow")
async def test_calls_and_callbacks_are_answered_meanwhile(house: House, client: httpx.AsyncClient) -> None:
    made = await client.post("/v1/jobs", json={"model": "google/veo-3.1", "prompt": "a fox"})
    assert made.status_code == 202
    job = await house.running()
    assert (await house.call_back(job)).status_code == 204
    for path in (f"/v1/jobs/{job.id}", f"/v1/jobs/{job.id}/events"):
        assert (await client.get(path)).status_code == 200
    ended = await told(house)
    await house.store.cancel(ended.id)
    assert (await client.post(f"/v1/jobs/{ended.id}/redeliver")).status_code == 202
