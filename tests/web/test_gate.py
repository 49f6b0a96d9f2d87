"""What every request passes: one line, and whoever observes is told."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from service.model import Job
from service.observer import Answered, CalledBack, Handled, Observers
from tests.turns import until
from tests.web.house import House, connected, serving
from tests.web.status import scenes
from tests.web.status.browsing import signed_in
from tests.web.status.test_pressing import press


class Witness:
    """An observer that writes down what it sees."""

    def __init__(self) -> None:
        self.answers: list[Answered] = []
        self.callbacks: list[CalledBack] = []

    def entered(self, job: Job) -> None:
        pass

    def handled(self, work: Handled) -> None:
        pass

    def answered(self, answer: Answered) -> None:
        self.answers.append(answer)

    def called_back(self, callback: CalledBack) -> None:
        self.callbacks.append(callback)


@pytest.fixture
def witness(house: House, monkeypatch: pytest.MonkeyPatch) -> Witness:
    seen = Witness()
    monkeypatch.setattr(house, "metrics", seen)
    return seen


async def test_an_answer_is_told_by_its_route_and_the_job_that_it_was_about(house: House, witness: Witness) -> None:
    job = await house.queued()
    async with house.client() as client:
        await client.get(f"/v1/jobs/{job.id}")
        await client.get("/v1/jobs/job_none")
        await client.get("/nothing/here")
        await client.delete(f"/v1/jobs/{job.id}")
    told = [(each.method, each.route, each.status, each.job) for each in witness.answers]
    assert told == [
        ("GET", "/v1/jobs/{job_id}", 200, job.id),
        ("GET", "/v1/jobs/{job_id}", 404, None),
        ("GET", "", 404, None),
        ("DELETE", "/v1/jobs/{job_id}", 405, None),
    ]
    assert {each.begun_at for each in witness.answers} == {house.clock.now()}
    assert all(0 <= each.waited <= each.seconds for each in witness.answers)
    assert [line["route"] for line in house.lines()] == [each.route for each in witness.answers]


async def test_an_answer_names_the_jobs_that_its_request_made_be_it_one_many_or_one_again(
    house: House, witness: Witness
) -> None:
    failed, wish = await house.running(), {"model": "google/veo-3.1", "prompt": "a cat"}
    assert (await house.call_back(failed, "failed")).status_code == 204
    witness.answers.clear()
    async with house.client() as client:
        one = (await client.post("/v1/jobs", json=wish)).json()
        many = (await client.post("/v1/jobs/batch", json={"jobs": [wish, {}, wish]})).json()["data"]
        again = (await client.post(f"/v1/jobs/{failed.id}/retry")).json()
        await client.post(f"/v1/jobs/{one['id']}/retry")
        await client.get(f"/v1/jobs/{one['id']}")
    made = [(one["id"],), (many[0]["job"]["id"], many[2]["job"]["id"]), (again["id"],), (), ()]
    assert [each.made for each in witness.answers] == made


async def test_a_retry_from_the_page_names_the_job_that_it_made(house: House, witness: Witness) -> None:
    job = await scenes.timed_out(house)
    async with signed_in(house) as browser:
        await press(browser, job, "retry")
    [new, _] = await house.store.jobs()
    assert new.retry_of == job.id
    assert [each.made for each in witness.answers if each.made] == [(new.id,)]


async def test_a_client_who_left_is_told_as_such(house: House, witness: Witness) -> None:
    async with serving(house.app()) as port, connected(port) as (_, writer):
        writer.write(
            f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {house.key}\r\n"
            'Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"model"'.encode()
        )
        await writer.drain()
    await until(lambda: witness.answers)
    assert [(each.status, each.route) for each in witness.answers] == [(499, "/v1/jobs")]


async def test_a_request_that_is_cut_off_by_our_own_end_is_told_like_one_whose_client_left(
    house: House, witness: Witness, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, asked = await house.queued(), asyncio.Event()

    async def hangs(*_: object) -> Job:
        asked.set()
        await asyncio.Event().wait()
        return job

    monkeypatch.setattr(house.store, "job", hangs)
    async with house.client() as client:
        asking = asyncio.create_task(client.get(f"/v1/jobs/{job.id}"))
        await asked.wait()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    assert [(each.status, each.route) for each in witness.answers] == [(499, "/v1/jobs/{job_id}")]
    assert [line["status"] for line in house.lines()] == [499]


async def test_a_callback_is_told_with_its_job_and_how_long_it_took(house: House, witness: Witness) -> None:
    job = await house.running()
    await house.call_back(job)
    await house.call_back(job)
    told = [(each.provider, each.verdict, each.job, each.begun_at, each.rejected) for each in witness.callbacks]
    now = house.clock.now()
    assert told == [("openrouter", "applied", job.id, now, False), ("openrouter", "duplicate", job.id, now, False)]
    assert all(each.seconds > 0 for each in witness.callbacks)


async def test_an_observer_with_a_mistake_in_it_costs_no_answer(
    house: House, witness: Witness, monkeypatch: pytest.MonkeyPatch
) -> None:
    complaints: list[Exception] = []

    def broken(_: object) -> None:
        raise ZeroDivisionError("a mistake of the observer")

    for name in ("answered", "called_back", "entered"):
        monkeypatch.setattr(witness, name, broken)
    monkeypatch.setattr(house, "metrics", Observers([witness], complaints.append))
    job = await house.running()
    assert (await house.call_back(job)).status_code == 204
    async with house.client() as client:
        assert (await client.get(f"/v1/jobs/{job.id}")).status_code == 200
    assert [type(each) for each in complaints] == [ZeroDivisionError]


# Lines


async def test_a_line_says_how_bad_it_is_and_what_there_is_to_know(house: House, client: httpx.AsyncClient) -> None:
    job = await house.running()
    await client.get("/v1/jobs/nonsense")
    await client.post(house.address(job), content=b"{}", headers={"content-type": "application/json"})
    await house.db.close()
    await client.get("/v1/jobs")
    lines = [(call.method_name, call.kwargs) for call in house.logged.calls]
    assert [level for level, _ in lines] == ["info", "warning", "error"]
    refused, rejected, broken = (line for _, line in lines)
    assert refused["reason"] == "job_not_found"
    assert (rejected["reason"], rejected["kind"], rejected["job"]) == ("missing_header", "BadSignatureError", job.id)
    assert (broken["kind"], broken["status"]) == ("StoreUnavailableError", 503)
    assert "exc_info" not in broken  # whose fault it is, is known
    assert broken["error"]
