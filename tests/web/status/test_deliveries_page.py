"""The page of failing deliveries, and its button that tells a receiver all again."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

import httpx
import pytest

from service.db import Tx
from tests.receiver import Receiver
from tests.web.debts import HOOK, RECEIVER, given_up, owed, sending, sent, tried
from tests.web.house import House
from tests.web.status.browsing import Element, read, signed_in

PATH = "/status/deliveries"
REDELIVER = "/status/deliveries/redeliver"
T = TypeVar("T")
HOSTILE = "<img src=x onerror=alert(1)>\"'"


def rows(page: Element) -> list[list[str]]:
    return [[cell.text for cell in row.all("td")] for row in page.one(id="receivers").one("tbody").all("tr")]


def button(page: Element) -> Element:
    """Return the form that sends all again."""
    return page.one("form", action=REDELIVER)


def one_of(page: Element) -> str:
    return page.one(id="receivers").all("a", class_="id")[0].attributes["href"]


async def test_a_page_without_trouble_says_so(house: House) -> None:
    async with signed_in(house) as browser:
        page = await browser.see(PATH)
    assert page.one("h1").text == "Failing deliveries"
    assert (
        page.one(id="receivers").text
        == "Every receiver took what was sent to it: nothing is given up, and nothing waits after a failed attempt."
    )
    assert page.all("form", action=REDELIVER) == []


async def test_failing_receivers_are_shown_with_how_much_and_why_and_without_what_is_secret(house: House) -> None:
    await given_up(house, times=2)
    await given_up(house, "https://gone.example.com:8443/x", tenant="globex", status=None, error="no route to host")
    house.clock.advance(60_000)
    await tried(house)
    async with signed_in(house, operator=True) as browser:
        page = await browser.see(PATH)
        answer = await browser.client.get(PATH)
    assert rows(page) == [
        [RECEIVER, "acme", "2", "1", "the connection was refused", "0 s ago", rows(page)[0][-1]],
        ["https://gone.example.com:8443", "globex", "1", "0", "no route to host", "1 min ago", rows(page)[1][-1]],
    ]
    assert "canary" not in answer.text
    asked = [form.one("p").text for form in page.all("form", action=REDELIVER)]
    assert asked[0].startswith(
        f"2 messages that were given up and 1 that waits after a failed attempt are sent to {RECEIVER} for tenant acme"
    )
    assert asked[1].startswith("1 message that was given up is sent to https://gone.example.com:8443 for tenant globex")


async def test_what_waits_for_its_next_attempt_can_be_sent_at_once(house: House) -> None:
    for _ in range(2):
        await tried(house)
    async with signed_in(house) as browser:
        page = await browser.see(PATH)
        assert rows(page)[0][:5] == [RECEIVER, "0", "2", "the connection was refused", "0 s ago"]
        page = await browser.see(one_of(page))
        assert button(page).one("p").text.startswith(f"2 that wait after a failed attempt are sent to {RECEIVER} once")
        answer = await browser.send(button(page))
        page = await browser.see(answer.headers["location"])
        said = page.one("p", role="status").text
        assert said == "2 deliveries are owed again: 0 given up before, 2 waiting after a failed attempt."
        assert rows(page) == [[RECEIVER, "0", "2", "the connection was refused", "0 s ago", ""]], (
            "they are on their way"
        )
    assert len(await house.deliveries.claim(100, each=100)) == 2


async def test_a_receiver_is_shown_until_it_took_what_it_did_not_take_before(house: House) -> None:
    there = Receiver(answer=lambda _: 500)
    async with there.running(), sending(house, there.url) as notifier, signed_in(house) as browser:
        jobs = [await owed(house, there.url) for _ in range(2)]
        assert await sent(notifier) == ["later"] * 2
        there.answer = lambda _: 204
        assert await house.deliveries.redeliver(jobs[0].id)
        assert await sent(notifier) == ["delivered"]
        assert [row[1:4] for row in rows(await browser.see(PATH))] == [["0", "1", "answered 500"]]
        await browser.send(button(await browser.see(PATH)))
        assert await sent(notifier) == ["delivered"]
        assert "Every receiver took what was sent to it" in (await browser.see(PATH)).one(id="receivers").text


async def test_how_long_a_message_is_tried_is_what_the_notifier_does(house: House) -> None:
    there = Receiver(answer=lambda _: 500)
    async with there.running(), sending(house, there.url) as notifier:
        job, begun = await owed(house, there.url), house.clock.now()
        while await sent(notifier) == ["later"]:
            [(delivery, _)] = await house.deliveries.of(job.id)
            assert delivery.due_at
            house.clock.advance(delivery.due_at - house.clock.now())
    async with signed_in(house) as browser:
        said = re.search(r"tried (\d+) times within about (\d+) hours", (await browser.see(PATH)).text)
    assert said
    assert len(there.told) == int(said[1])
    hours = (house.clock.now() - begun) / 3_600_000
    assert 0.9 * int(said[2]) < hours < 1.1 * int(said[2])


async def test_the_messages_of_a_receiver_link_to_their_jobs_with_attempts_and_answers(house: House) -> None:
    [job] = await given_up(house, answer=HOSTILE, error=HOSTILE, prompt=HOSTILE)
    waiting = await tried(house, wait_ms=125_000)
    async with signed_in(house) as browser:
        page = await browser.see(one_of(await browser.see(PATH)))
    assert page.one("h1").text == RECEIVER
    [failed] = page.one(id="failed").all("article")
    assert failed.one("a", href=f"/status/jobs/{job.id}").text == job.id
    for told in ("job.cancelled", "given up 0 s ago", "1 attempt in all", "answered 502", HOSTILE):
        assert told in failed.text
    assert failed.one("pre").text == HOSTILE
    [later] = page.one(id="later").all("article")
    assert later.one("a", class_="id").text == waiting.id
    assert "will be tried again in 2 min" in later.text
    assert "the connection was refused" in later.text
    assert page.all("img") == []


async def test_the_messages_come_page_by_page_each_once(house: House) -> None:
    jobs = await given_up(house, times=45)
    seen: list[str] = []
    async with signed_in(house) as browser:
        address = first = one_of(await browser.see(PATH))
        while address:
            page = await browser.see(address)
            seen += [each.one("a", class_="id").text for each in page.one(id="failed").all("article")]
            older = page.all("a", rel="next")
            address = older[0].attributes["href"] if older else ""
        assert page.one("nav", class_="pager").one("a").attributes["href"] == first
    assert seen == sorted((job.id for job in jobs), reverse=True)


async def test_the_attempts_at_all_messages_of_a_page_are_asked_for_at_once(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await given_up(house, times=12)
    await tried(house)
    reads: list[object] = []
    read_once = house.db.read

    async def counted(work: Callable[[Tx], T]) -> T:
        reads.append(work)
        return await read_once(work)

    async with signed_in(house) as browser:
        address = one_of(await browser.see(PATH))
        monkeypatch.setattr(house.db, "read", counted)
        page = await browser.see(address)
    assert len(page.one(id="failed").all("article")) == 12
    assert page.one(id="later").one("article").text.count("1 attempt in all") == 1
    assert len(reads) <= 6, "whose session, the receiver, what it did not take, and the attempts"


async def test_the_button_asks_and_then_really_sends_all_again_under_the_same_ids(house: House) -> None:
    there = Receiver(answer=lambda _: 410)
    async with there.running(), sending(house, there.url) as notifier, signed_in(house, operator=True) as browser:
        jobs = [await owed(house, there.url) for _ in range(3)]
        assert await sent(notifier) == ["gave up"] * 3
        before = {told.id for told in there.told}
        there.told.clear()
        there.answer = lambda _: 204
        answer = await browser.send(button(await browser.see(PATH)))
        assert answer.status_code == 303
        page = await browser.see(answer.headers["location"])
        said = page.one("p", role="status").text
        assert said == "3 deliveries are owed again: 3 given up before, 0 waiting after a failed attempt."
        assert there.told == []
        assert await sent(notifier) == ["delivered"] * 3
        assert {told.id for told in there.told} == before
        assert {told.job_id for told in there.told} == {job.id for job in jobs}
        assert "Every receiver took what was sent to it" in (await browser.see(PATH)).one(id="receivers").text


async def test_pressed_twice_it_sends_nothing_twice(house: House) -> None:
    await given_up(house)
    async with signed_in(house) as browser:
        form = button(await browser.see(PATH))
        said = []
        for _ in range(2):
            answer = await browser.send(form)
            said.append((await browser.see(answer.headers["location"])).one("p", role="status").text)
    assert said == [
        "1 delivery is owed again: 1 given up before, 0 waiting after a failed attempt.",
        "0 deliveries are owed again: 0 given up before, 0 waiting after a failed attempt.",
    ]
    assert len(await house.deliveries.claim(100, each=100)) == 1


async def test_a_tenant_reaches_nobody_elses_receiver(house: House) -> None:
    await given_up(house, tenant="globex", times=7)
    await given_up(house)
    async with signed_in(house) as browser:
        page = await browser.see(PATH)
        assert rows(page)[0][:2] == [RECEIVER, "1"]
        assert "globex" not in page.text
        own = await browser.see(f"{PATH}?tenant=globex&receiver={RECEIVER}")
        assert len(own.one(id="failed").all("article")) == 1, "whatever the address says, it is one's own"
        form = button(page)
        for fields in ({"tenant": "globex"}, {"tenant": ""}, {"receiver": "https://no.example:443"}):
            answer = await browser.send(form, **fields)
            assert answer.status_code == 404
            assert "There is no such receiver" in read(answer.text).one("p", role="alert").text
        assert (await browser.client.get(REDELIVER)).headers["location"] == PATH, "a reload leads back"
        await browser.see(f"{PATH}?receiver=https://no.example:443", 404)
    assert await house.deliveries.claim(100, each=100) == []


async def test_one_tenants_receiver_is_told_again_and_no_other_tenants(house: House) -> None:
    await given_up(house, tenant="globex", times=2)
    await given_up(house, times=3)
    async with signed_in(house, operator=True) as browser:
        page = await browser.see(PATH)
        [form] = [
            each for each in page.all("form", action=REDELIVER) if each.all("input", name="tenant", value="globex")
        ]
        assert (await browser.send(form)).status_code == 303
    due = await house.deliveries.claim(100, each=100)
    jobs = [await house.store.job(each.job_id) for each in due]
    assert [job.tenant for job in jobs if job] == ["globex", "globex"]


@pytest.mark.parametrize(
    ("headers", "fields", "status"),
    [
        ({}, {"csrf": ""}, 403),
        ({}, {"csrf": "another"}, 403),
        ({"origin": "https://evil.example"}, {}, 403),
        ({"sec-fetch-site": "cross-site"}, {}, 403),
    ],
)
async def test_a_form_that_is_not_ours_does_nothing(
    house: House, headers: dict[str, str], fields: dict[str, str], status: int
) -> None:
    await given_up(house, HOOK)
    async with signed_in(house) as browser:
        form = button(await browser.see(PATH))
        browser.client.headers.update(headers)
        assert (await browser.send(form, **fields)).status_code == status
    async with house.client(key="") as nobody:
        answer: httpx.Response = await nobody.post(REDELIVER, data={"tenant": "acme", "receiver": RECEIVER})
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/status/sign-in")
    assert await house.deliveries.claim(100, each=100) == []


async def test_what_an_address_says_is_done_is_believed_only_as_a_number(house: House) -> None:
    async with signed_in(house) as browser:
        told = (await browser.see(f"{PATH}?done=owed-1200-34")).one("p", role="status").text
        assert told.startswith("1,234 deliveries are owed again: 1,200 given up before, 34 waiting")
        for forged in ("owed-1", "owed-<b>-1", "owed--1-1", "owed-1-1%20call%20us", "owed-1-99999999999"):
            assert (await browser.see(f"{PATH}?done={forged}")).all("p", role="status") == []


async def test_a_page_that_is_looked_at_is_told_what_changes(house: House) -> None:
    await given_up(house)
    async with signed_in(house) as browser:
        page = await browser.see(PATH)
        live = {each.attributes["id"] for each in page.all() if "data-live" in each.attributes}
        assert live == {"receivers"}
        page = await browser.see(one_of(page))
        live = {each.attributes["id"] for each in page.all() if "data-live" in each.attributes}
        assert live == {"receiver", "failed"}
