"""Who does not take what they are told, and telling them all of it once more."""

from __future__ import annotations

import httpx
import pytest

from tests.receiver import Receiver
from tests.web.debts import HOOK, RECEIVER, given_up, owed, sending, sent, tried
from tests.web.house import House

REDELIVER = "/v1/receivers/redeliver"


async def operator_of(house: House) -> httpx.AsyncClient:
    _, key = await house.keys.create("operator", "acme", operator=True)
    return house.client(key=key)


async def listed(client: httpx.AsyncClient, query: str = "") -> list[dict[str, object]]:
    answer = await client.get(f"/v1/receivers{query}")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, object]] = answer.json()["data"]
    return found


async def test_a_failing_receiver_is_shown_with_how_much_and_why_and_without_what_is_secret(
    house: House, client: httpx.AsyncClient
) -> None:
    assert (await client.get("/v1/receivers")).json() == {"object": "list", "data": [], "has_more": False}
    await given_up(house, times=2)
    house.clock.advance(1_000)
    await tried(house)
    answer = await client.get("/v1/receivers")
    assert answer.json() == {
        "object": "list",
        "data": [
            {
                "object": "receiver",
                "tenant": "acme",
                "receiver": RECEIVER,
                "failed": 2,
                "pending": 1,
                "last_error": "the connection was refused",
                "last_status": None,
                "last_at": "2026-09-21T14:13:21.000Z",
            }
        ],
        "has_more": False,
    }
    assert "canary" not in answer.text


async def test_callers_see_their_own_and_operators_all(house: House, client: httpx.AsyncClient) -> None:
    await given_up(house)
    await given_up(house, "https://other.example.com/x", tenant="globex")
    assert [each["tenant"] for each in await listed(client)] == ["acme"]
    async with await operator_of(house) as operator:
        assert {each["tenant"] for each in await listed(operator)} == {"acme", "globex"}
        answer = await operator.get("/v1/receivers?limit=1")
        assert (len(answer.json()["data"]), answer.json()["has_more"]) == (1, True)
    answer = await client.get("/v1/receivers?limit=0&tenant=globex")
    assert answer.status_code == 400
    assert [each["field"] for each in answer.json()["error"]["problems"]] == ["limit", "tenant"]


@pytest.mark.parametrize("named", [RECEIVER, "https://hooks.example.com", " https://HOOKS.example.com/videos?token=x "])
async def test_all_that_a_receiver_did_not_take_is_sent_again_and_called_twice_nothing_twice(
    house: House, client: httpx.AsyncClient, named: str
) -> None:
    await given_up(house, times=3)
    waiting = await tried(house)
    house.wakes.clear()
    answer = await client.post(REDELIVER, json={"receiver": named})
    assert answer.status_code == 200, answer.text
    assert answer.json() == {
        "object": "redelivery",
        "tenant": "acme",
        "receiver": RECEIVER,
        "redelivered": 4,
        "given_up": 3,
        "waiting": 1,
    }
    assert house.wakes, "whoever sends it is woken"
    assert (await client.post(REDELIVER, json={"receiver": named})).json()["redelivered"] == 0
    due = await house.deliveries.claim(100, each=100)
    assert len(due) == 4
    assert waiting.id in {each.job_id for each in due}
    assert house.lines()[-1]["redelivered"] == "0"


async def test_the_messages_really_come_again_under_the_same_ids(house: House, client: httpx.AsyncClient) -> None:
    there = Receiver(answer=lambda _: 410)  # a receiver that is gone is given up at once
    async with there.running(), sending(house, there.url) as notifier:
        jobs = [await owed(house, there.url) for _ in range(3)]
        assert await sent(notifier) == ["gave up"] * 3
        before = {told.id for told in there.told}
        there.told.clear()
        there.answer = lambda _: 204
        assert await sent(notifier) == []
        answer = await client.post(REDELIVER, json={"receiver": there.url})
        assert answer.json()["redelivered"] == 3
        assert await sent(notifier) == ["delivered"] * 3
        assert {told.id for told in there.told} == before
        assert {told.job_id for told in there.told} == {job.id for job in jobs}
        assert await listed(client) == []


async def test_what_waits_hours_for_its_next_attempt_is_sent_at_once_to_a_receiver_that_was_down(
    house: House, client: httpx.AsyncClient
) -> None:
    there = Receiver(answer=lambda _: 503)
    async with there.running(), sending(house, there.url) as notifier:
        jobs = [await owed(house, there.url) for _ in range(8)]
        for _ in range(6):
            assert await sent(notifier) == ["later"] * 8
            house.clock.advance(6 * 3_600_000)
        assert await sent(notifier) == ["later"] * 8
        before = {told.id for told in there.told}
        there.told.clear()
        there.answer = lambda _: 204
        assert await sent(notifier) == []
        assert (await client.post(f"/v1/jobs/{jobs[0].id}/redeliver")).status_code == 202
        assert await sent(notifier) == ["delivered"]
        [failing] = await listed(client)
        assert (failing["failed"], failing["pending"], failing["last_status"]) == (0, 7, 503), "seven still wait"
        answer = await client.post(REDELIVER, json={"receiver": there.url})
        assert {name: answer.json()[name] for name in ("redelivered", "given_up", "waiting")} == {
            "redelivered": 7,
            "given_up": 0,
            "waiting": 7,
        }
        assert await sent(notifier) == ["delivered"] * 7
        assert {told.id for told in there.told} == before
        assert len(there.told) == 8, "what was taken is not sent again"
        assert await listed(client) == []


async def test_another_tenants_receiver_does_not_exist(house: House, client: httpx.AsyncClient) -> None:
    await given_up(house, tenant="globex")
    for body in (
        {"receiver": RECEIVER},
        {"receiver": RECEIVER, "tenant": "globex"},
        {"receiver": "https://no.example"},
    ):
        answer = await client.post(REDELIVER, json=body)
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "receiver_not_found"
        assert "https://hooks.example.com:443" in answer.json()["error"]["message"]
    assert await house.deliveries.claim(100, each=100) == []


async def test_an_operator_names_the_tenant_only_where_several_have_the_receiver(house: House) -> None:
    await given_up(house, "https://globex.example.com/hook", tenant="globex")
    await given_up(house, tenant="initech")
    await given_up(house, tenant="umbrella", times=2)
    async with await operator_of(house) as operator:
        answer = await operator.post(REDELIVER, json={"receiver": "https://globex.example.com"})
        assert (answer.json()["tenant"], answer.json()["redelivered"]) == ("globex", 1)
        answer = await operator.post(REDELIVER, json={"receiver": RECEIVER})
        assert answer.status_code == 400
        [problem] = answer.json()["error"]["problems"]
        assert problem["field"] == "tenant"
        assert problem["message"].endswith("initech, umbrella")
        answer = await operator.post(REDELIVER, json={"receiver": RECEIVER, "tenant": "umbrella"})
        assert (answer.json()["tenant"], answer.json()["redelivered"]) == ("umbrella", 2)
        answer = await operator.post(REDELIVER, json={"receiver": RECEIVER, "tenant": "hooli"})
        assert answer.status_code == 404


async def test_every_tenant_of_a_receiver_counts_however_many_others_fail(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await given_up(house, tenant="globex")
    await given_up(house, tenant="initech")

    monkeypatch.setattr(house.deliveries, "failing", None)  # the list of all ends somewhere
    async with await operator_of(house) as operator:
        answer = await operator.post(REDELIVER, json={"receiver": RECEIVER})
        assert answer.status_code == 400
        assert answer.json()["error"]["problems"][0]["message"].endswith("globex, initech")
    assert await house.deliveries.claim(100, each=100) == []


async def test_to_send_all_again_twice_is_no_error_and_sends_nothing_twice(house: House) -> None:
    await given_up(house, tenant="globex")
    async with await operator_of(house) as operator:
        answers = [(await operator.post(REDELIVER, json={"receiver": RECEIVER})).json() for _ in range(2)]
    assert [(each["tenant"], each["redelivered"]) for each in answers] == [("globex", 1), ("globex", 0)]


@pytest.mark.parametrize("tenant", ["", "Umbrella", "*", "reelkeeper-check"])
async def test_what_is_no_tenants_name_is_told(house: House, tenant: str) -> None:
    async with await operator_of(house) as operator:
        answer = await operator.post(REDELIVER, json={"receiver": RECEIVER, "tenant": tenant})
    assert answer.status_code == 400
    assert [each["field"] for each in answer.json()["error"]["problems"]] == ["tenant"]


async def test_a_receiver_with_an_address_for_a_host_can_be_named(house: House, client: httpx.AsyncClient) -> None:
    await given_up(house, "https://[2606:4700::1]:8443/hooks")
    [there] = await listed(client)
    for named in (there["receiver"], "https://[2606:4700::1]:8443"):
        assert (await client.post(REDELIVER, json={"receiver": named})).status_code == 200


@pytest.mark.parametrize(
    ("body", "field", "says"),
    [
        ({}, "receiver", "is required"),
        ({"receiver": 1}, "receiver", "https://hooks.example.com:443"),
        ({"receiver": ""}, "receiver", "https://hooks.example.com:443"),
        ({"receiver": RECEIVER, "tenant": 5}, "tenant", "an operator names it"),
        ({"reciever": RECEIVER}, "reciever", "did you mean receiver?"),
    ],
)
async def test_what_is_wrong_with_a_body_is_said(
    client: httpx.AsyncClient, body: dict[str, object], field: str, says: str
) -> None:
    answer = await client.post(REDELIVER, json=body)
    assert answer.status_code == 400
    problems = {each["field"]: each["message"] for each in answer.json()["error"]["problems"]}
    assert says in problems[field]


async def test_neither_call_is_for_anybody(house: House) -> None:
    await given_up(house, HOOK)
    async with house.client(key="") as client:
        assert (await client.get("/v1/receivers")).status_code == 401
        assert (await client.post(REDELIVER, json={"receiver": RECEIVER})).status_code == 401
