"""The page of jobs: found by words and filters that stand in its address, page by page."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest

from service.model import ErrorCode, Job, JobError, State, VideoRequest
from service.store import Created, Found, NewJob, Wanted
from tests.web.house import House, serving
from tests.web.status.browsing import Element, read, signed_in

PATH = "/status/jobs"
NOBODYS = "job_" + "0" * 26
HOSTILE = "\"><script>alert(1)</script><img src=x onerror=alert(1)> \u202e' & {{ 7 * 7 }}"


async def made(house: House, prompt: str | None = "a red kite", tenant: str = "acme", **more: object) -> Job:
    new = NewJob(tenant, "openrouter", VideoRequest("google/veo-3.1", prompt=prompt))
    created = await house.store.create_job(replace(new, **more))  # type: ignore[arg-type] # fields of NewJob
    assert isinstance(created, Created)
    house.clock.advance(1_000)
    return created.job


async def failed(house: House) -> Job:
    job = await house.running()
    house.clock.advance(90_000)
    await house.call_back(job, "failed")
    return job


def rows(page: Element) -> list[Element]:
    return [row for body in page.one(id="jobs").all("tbody") for row in body.all("tr")]


def prompts(page: Element) -> list[str]:
    return [row.one("td", class_="of-prompt").text for row in rows(page)]


def empty(page: Element) -> str:
    assert rows(page) == []
    return page.one(id="jobs").one("p", class_="empty").text


def link(page: Element, text: str) -> str:
    [found] = [each for each in page.all("a") if each.text == text]
    return found.attributes["href"]


async def test_a_row_tells_what_one_looks_for(house: House) -> None:
    job = await failed(house)
    async with signed_in(house, operator=True) as browser:
        [row] = rows(await browser.see(PATH))
    assert [cell.text for cell in row.all("td")] == [
        "failed provider_failed",
        f"…{job.id[-8:]}",
        "a cat",
        "openrouter google/veo-3.1",
        "acme",
        "1 min ago",
        "1 min 30 s",
    ]
    assert row.one("a").attributes | {"class": "", "title": ""} == {
        "class": "",
        "title": "",
        "href": f"{PATH}/{job.id}",
        "aria-label": job.id,
    }
    assert row.one("time").attributes["datetime"] == "2026-09-21T14:13:20.000Z"


async def test_newest_jobs_come_first_and_the_list_is_live(house: House) -> None:
    for number in range(3):
        await made(house, f"kite {number}")
    async with signed_in(house) as browser:
        page = await browser.see(PATH)
    assert prompts(page) == ["kite 2", "kite 1", "kite 0"]
    assert "data-live" in page.one(id="jobs").attributes


async def test_a_tenant_sees_its_own_jobs_whatever_it_asks_for(house: House) -> None:
    await made(house, "ours")
    theirs = await made(house, "theirs", tenant="globex")
    async with signed_in(house) as browser:
        for path in (PATH, f"{PATH}?tenant=globex", f"{PATH}?tenant="):
            page = await browser.see(path)
            assert prompts(page) == ["ours"]
            assert page.all(id="tenant") == []
        assert "No job fits" in empty(await browser.see(f"{PATH}?q={theirs.id}"))


async def test_an_operator_sees_everybodys_jobs_and_can_choose_a_tenant(house: House) -> None:
    await made(house, "ours")
    await made(house, "theirs", tenant="globex")
    async with signed_in(house, operator=True) as browser:
        assert prompts(await browser.see(PATH)) == ["theirs", "ours"]
        assert prompts(await browser.see(f"{PATH}?tenant=globex")) == ["theirs"]


@pytest.mark.parametrize(
    "query",
    [
        "q=umbrel",
        "q=yellow+umbrella",
        "q={id}",
        "q=  {id}  ",
        "state=cancelled",
        "provider=llmgateway",
        "model=veo-2",
        "tenant=globex",
        "error=cancelled",
        "created_after=2026-09-21+14:13:21",
        "created_after=2026-09-21T16:13:21%2B02:00",
        "state=cancelled&q=umbrella&provider=llmgateway",
    ],
)
async def test_each_filter_finds_the_job_that_it_fits_and_no_other(house: House, query: str) -> None:
    await made(house)
    request = VideoRequest("veo-2", prompt="a yellow umbrella")
    wanted = await made(house, tenant="globex", provider="llmgateway", request=request)
    await house.store.cancel(wanted.id)
    async with signed_in(house, operator=True) as browser:
        page = await browser.see(f"{PATH}?{query.format(id=wanted.id)}")
    assert prompts(page) == ["a yellow umbrella"]


async def test_what_was_created_before_a_moment_is_found(house: House) -> None:
    await made(house, "early")
    house.clock.advance(86_400_000)
    await made(house, "late")
    async with signed_in(house) as browser:
        assert prompts(await browser.see(f"{PATH}?created_before=2026-09-22")) == ["early"]
        assert prompts(await browser.see(f"{PATH}?created_after=2026-09-22")) == ["late"]


async def test_the_form_shows_what_was_asked_for_and_each_filter_can_be_removed(house: House) -> None:
    await made(house)
    async with signed_in(house, operator=True) as browser:
        page = await browser.see(f"{PATH}?q=red+kite&state=queued&tenant=acme")
        form = page.one("form", role="search")
        assert form.one(id="q").attributes["value"] == "red kite"
        assert form.one(id="tenant").attributes["value"] == "acme"
        [chosen] = [each.text for each in form.one(id="state").all("option") if "selected" in each.attributes]
        assert chosen == "queued"
        chips = {each.attributes["aria-label"]: each.attributes["href"] for each in page.all("a", class_="chip")}
        assert chips == {
            "Remove the filter words: red kite": f"{PATH}?state=queued&tenant=acme",
            "Remove the filter state: queued": f"{PATH}?q=red+kite&tenant=acme",
            "Remove the filter tenant: acme": f"{PATH}?q=red+kite&state=queued",
        }
        assert link(page, "Clear all") == PATH
        assert "open" in form.one("details").attributes
        assert "open" not in (await browser.see(f"{PATH}?q=kite")).one("details").attributes


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("state", "finished", "This must be one of queued, submitting"),
        ("error", "broken", "This must be one of invalid_request"),
        ("created_after", "yesterday", "This must be a time in UTC such as 2026-11-21 10:00"),
        ("created_before", "2026-13-01", "This must be a time in UTC"),
        ("tenant", "Studio", "This must be the name of a tenant, for example studio."),
        ("q", "x" * 201, "This must have 1 to 200 characters."),
        ("model", "x" * 201, "This must have 1 to 200 characters"),
    ],
)
async def test_a_filter_that_means_nothing_is_told_at_its_field_and_nothing_is_looked_for(
    house: House, name: str, text: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await made(house)
    monkeypatch.setattr(house.store, "find", None)  # whoever calls it fails
    async with signed_in(house, operator=True) as browser:
        answer = await browser.client.get(PATH, params={name: text})
    assert answer.status_code == 200
    page = read(answer.text)
    told = page.one("p", class_="wrong")
    assert told.text.startswith(words)
    assert page.one(id=name).attributes["aria-invalid"] == "true"
    assert page.one(id=name).attributes["aria-describedby"] == told.attributes["id"]
    assert "Nothing was looked for" in empty(page)


@pytest.mark.parametrize("query", ["unknown=1", "before=x", "before=job_x&past=y.z", "done=%3Cb%3E", "state=&q=++"])
async def test_an_address_that_says_nothing_more_shows_all(house: House, query: str) -> None:
    await made(house)
    async with signed_in(house) as browser:
        assert prompts(await browser.see(f"{PATH}?{query}")) == ["a red kite"]


async def test_pages_lead_to_older_jobs_and_back(house: House) -> None:
    for number in range(120):
        await made(house, f"kite {number}")
    numbers = [f"kite {number}" for number in reversed(range(120))]
    async with signed_in(house) as browser:
        first = await browser.see(f"{PATH}?q=kite")
        assert prompts(first) == numbers[:50]
        assert [each.text for each in first.one("nav", class_="pager").all("a")] == ["Older"]
        second = await browser.see(link(first, "Older"))
        assert prompts(second) == numbers[50:100]
        third = await browser.see(link(second, "Older"))
        assert prompts(third) == numbers[100:]
        assert [each.text for each in third.one("nav", class_="pager").all("a")] == ["Newest", "Newer"]
        assert prompts(await browser.see(link(third, "Newer"))) == numbers[50:100]
        assert prompts(await browser.see(link(second, "Newer"))) == numbers[:50]
        assert link(third, "Newest") == f"{PATH}?q=kite"


async def test_another_filter_begins_with_the_first_page(house: House) -> None:
    for number in range(60):
        await made(house, f"kite {number}")
    async with signed_in(house) as browser:
        second = await browser.see(link(await browser.see(f"{PATH}?q=kite&state=queued"), "Older"))
    [chip, _] = second.all("a", class_="chip")
    assert chip.attributes["href"] == f"{PATH}?state=queued"
    assert [each.attributes["name"] for each in second.one("form", role="search").all("input")] == [
        *("q", "model", "created_after", "created_before")
    ]


async def test_nothing_found_is_told_with_what_to_do(house: House) -> None:
    async with signed_in(house) as browser:
        assert empty(await browser.see(PATH)).startswith("There are no jobs yet.")
        job = await made(house)
        assert empty(await browser.see(f"{PATH}?q=zyzzyva")).startswith("No job fits. Remove a filter")
        assert empty(await browser.see(f"{PATH}?before={job.id}")) == "There are no older jobs."


async def test_a_search_that_stopped_says_so_and_goes_on_from_there(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stopped(*_: object, **__: object) -> Found:
        return Found([], NOBODYS, looked_at_all=False)

    monkeypatch.setattr(house.store, "find", stopped)
    async with signed_in(house) as browser:
        page = await browser.see(f"{PATH}?model=rare")
    assert empty(page) == "No job was found so far."
    assert "Only the newest jobs that could fit were looked at" in page.one("p", class_="notice").text
    assert link(page, "Look further back") == f"{PATH}?model=rare&before={NOBODYS}"


async def test_the_store_is_asked_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    find, asked = house.store.find, list[tuple[object, ...]]()

    async def spied(tenant: str | None, wanted: Wanted, *, before_id: str | None, limit: int, index: bool) -> Found:
        asked.append((tenant, wanted, before_id, limit, index))
        return await find(tenant, wanted, before_id=before_id, limit=limit, index=index)

    monkeypatch.setattr(house.store, "find", spied)
    async with signed_in(house) as browser:
        await browser.see(f"{PATH}?error=rate_limited&before={NOBODYS}")
    assert asked == [("acme", Wanted(error=ErrorCode.RATE_LIMITED), NOBODYS, 50, True)]


async def test_what_callers_write_stays_text(house: House) -> None:
    await made(
        house,
        tenant=HOSTILE,
        request=VideoRequest(f"{HOSTILE}{'m' * 100}", prompt=f"{HOSTILE}\n\tover two lines {'x' * 5_000}"),
    )
    async with signed_in(house, operator=True) as browser:
        page = await browser.see(PATH)
        [row] = rows(page)
        assert row.one("td", class_="of-prompt").text.startswith(f"{HOSTILE} over two lines xxx")
        assert len(row.one("td", class_="of-prompt").text) < 200
        assert row.one("td", class_="of-tenant").text == HOSTILE
        answer = await browser.client.get(PATH, params={"q": HOSTILE, "provider": HOSTILE, "model": HOSTILE})
        asked = read(answer.text)
    assert asked.one(id="q").attributes["value"] == HOSTILE
    for each in (page, asked):
        assert each.one("main").all("script") + each.one("main").all("img") == []
        assert [element for element in each.walk() if any(name.startswith("on") for name in element.attributes)] == []


async def test_a_job_without_a_prompt_has_a_row(house: House) -> None:
    await made(house, None)
    async with signed_in(house) as browser:
        assert prompts(await browser.see(PATH)) == ["none"]


async def test_the_code_of_an_error_is_not_told_twice(house: House) -> None:
    cancelled = await made(house)
    await house.store.cancel(cancelled.id)
    refused = await house.submitting()
    await house.claims.refused(refused, JobError(ErrorCode.CONTENT_POLICY, "no"))
    async with signed_in(house) as browser:
        states = [row.one("td", class_="of-state").text for row in rows(await browser.see(PATH))]
    assert states == [f"{State.FAILED} content_policy", f"{State.CANCELLED}"]


async def test_whoever_is_not_signed_in_is_sent_to_sign_in_and_comes_back(house: House) -> None:
    async with house.client(key="") as client:
        answer = await client.get(f"{PATH}?q=kite", headers={"accept": "text/html"})
    assert answer.status_code == 303
    assert answer.headers["location"] == f"/status/sign-in?next={PATH}%3Fq%3Dkite"


async def test_times_before_the_clock_and_after_the_calendar_are_times(house: House) -> None:
    await made(house)
    async with signed_in(house) as browser:
        for moment, over in (
            ("0001-01-01", True),
            ("9999-12-31T23:59:59-23:59", False),
            ("1969-12-31T23:59:59Z", True),
        ):
            for name in ("created_after", "created_before"):
                page = await browser.see(str(httpx.URL(PATH, params={name: moment})))
                assert prompts(page) == (["a red kite"] if over is (name == "created_after") else [])
                assert page.all("p", class_="wrong") == []


async def test_the_page_tells_by_itself_of_a_job_that_comes(house: House) -> None:
    async with signed_in(house) as browser, serving(house.app()) as port:
        cookie = "; ".join(f"{each.name}={each.value}" for each in browser.client.cookies.jar)
        headers = {"accept": "text/event-stream", "cookie": cookie}
        async with (
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, trust_env=False) as client,
            client.stream("GET", PATH) as answer,
        ):
            lines = answer.aiter_lines()
            assert await told(lines) == []
            job = await made(house)
            assert await told(lines) == [job.id]


async def told(lines: AsyncIterator[str]) -> list[str]:
    """Return the jobs that the next event of a stream tells of."""
    async for line in lines:
        if line.startswith("data: ") and (parts := json.loads(line.removeprefix("data: "))):
            return [row.attributes["id"] for row in read(parts["jobs"]).all("tr") if "id" in row.attributes]
    raise AssertionError("the stream ended")
