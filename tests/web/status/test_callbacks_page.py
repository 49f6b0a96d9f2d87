"""The page of rejected callbacks, as people see it."""

from __future__ import annotations

import pytest

from service.model import Job
from service.store import Reason, Rejection
from service.web.status.callbacks import TITLES, grouped
from tests.web.house import House
from tests.web.status.browsing import Browser, Element, signed_in

PATH = "/status/callbacks"
HOSTILE = "<img src=x onerror=alert(1)>\"'"


def rejection(
    job: Job, reason: Reason = Reason.WRONG_SECRET, *, times: int = 1, at: int = 0, message: str = "Compare the secret."
) -> Rejection:
    headers = {"via": "1.1 corporate-proxy", "user-agent": HOSTILE}
    return Rejection(job.id, job.provider, reason, message, times, at, at, headers, 1_234)


def listed(page: Element) -> list[str]:
    return [each.one("h3").text for each in page.all("article")]


async def test_an_empty_page_says_what_that_means_and_where_to_look_next(house: House) -> None:
    async with signed_in(house, operator=True) as browser:
        page = await browser.see(PATH)
    assert page.one("h1").text == "Rejected callbacks"
    said = page.one(id="nothing").text
    assert said.startswith("No callback was rejected")
    for place in ("does not say that callbacks arrive", "reelkeeper check", "404 on /callbacks/", "serve.key_missing"):
        assert place in said
    assert page.all("form", method="get") == [], "there is nothing to narrow"


async def test_a_real_callback_without_a_signature_is_there_with_all_that_is_known(house: House) -> None:
    job = await house.running()
    async with house.client(key="") as client:
        headers = {"content-type": "application/json", "user-agent": HOSTILE, "via": "1.1 corporate-proxy"}
        for _ in range(3):
            await client.post(house.address(job), content=b"{}", headers=headers)
    await house.tally.flush()
    async with signed_in(house) as browser:
        page = await browser.see(PATH)
    [row] = page.all("article")
    assert row.one("h3").text == "No signature missing_header"
    assert row.one("a", href=f"/status/jobs/{job.id}").text == job.id
    for told in ("openrouter", "3 times", "is missing: the callback is not signed", "2026-09-21 14:13:20 UTC", "2 B"):
        assert told in row.text
    assert row.all("dd")[-1].text == "1.1 corporate-proxy"
    assert HOSTILE in row.text, "it is text, and nothing else"
    assert page.all("img") == []
    assert page.one(id="first").text.startswith(
        "Do this first No signature, from openrouter: x-openrouter-signature is missing:"
    )


async def test_what_most_jobs_suffer_from_is_to_be_done_first_however_often_one_job_is_called(house: House) -> None:
    flooded, *others = [await house.running(provider_job_id=f"gen-{number}") for number in range(4)]
    skewed = [
        rejection(job, Reason.CLOCK_SKEW, at=at, message=f"Set the clock, {at}.") for at, job in enumerate(others)
    ]
    await house.rejections.keep([rejection(flooded, times=5_000, at=99), *skewed])
    async with signed_in(house, operator=True) as browser:
        page = await browser.see(PATH)
    assert (
        "Clock is off, from openrouter: Set the clock, 2. 3 jobs have callbacks with this fault"
        in page.one(id="first").text
    )
    rows = [[cell.text for cell in row.all("td")][:4] for row in page.one(id="sums").one("tbody").all("tr")]
    assert rows == [
        ["Clock is off clock_skew", "openrouter", "3", "3"],
        ["Wrong secret wrong_secret", "openrouter", "1", "5,000"],
    ]


async def test_of_two_faults_that_as_many_jobs_have_the_newer_comes_first(house: House) -> None:
    one, other = await house.running(), await house.running("llmgateway", "vid-1")
    for later, group in ((one, "openrouter"), (other, "llmgateway")):
        found = grouped([rejection(job, at=2 if job is later else 1) for job in (one, other)])
        assert found[0].provider == group


async def test_links_and_filters_narrow_the_list(house: House) -> None:
    one, other = await house.running(), await house.running("llmgateway", "vid-1")
    await house.rejections.keep(
        [
            rejection(one, at=1),
            rejection(one, Reason.CLOCK_SKEW, at=2),
            rejection(other, at=3),
            rejection(other, Reason.TOO_SLOW),
        ]
    )

    async def shown(browser: Browser, query: str) -> list[str]:
        return listed(await browser.see(f"{PATH}{query}"))

    async with signed_in(house) as browser:
        page = await browser.see(PATH)
        assert listed(page) == [
            "Wrong secret wrong_secret",
            "Clock is off clock_skew",
            "Wrong secret wrong_secret",
            "Too slow too_slow",
        ]
        assert len(await shown(browser, f"?job={one.id}")) == 2
        assert len(await shown(browser, f"?job=%20{one.id}%20&provider=&reason=")) == 2
        assert await shown(browser, "?provider=llmgateway&reason=too_slow") == ["Too slow too_slow"]
        [link] = [each for each in page.one(id="sums").all("a") if each.text == "Too slow"]
        assert await shown(browser, link.attributes["href"].removeprefix(PATH)) == ["Too slow too_slow"]
        narrowed = await browser.see(f"{PATH}?reason=too_slow")
        [chosen] = [
            each for each in narrowed.one("select", id="by-reason").all("option") if "selected" in each.attributes
        ]
        assert chosen.text == "Too slow"
        assert narrowed.one("a", href=PATH, class_="button").text == "Show all"
        nothing = await browser.see(f"{PATH}?provider=openrouter&reason=too_slow")
        assert "No rejected callback fits this." in nothing.one(id="list").text
        assert nothing.all(id="nothing") == []


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("job=gen-1", "A job's id begins with job_"),
        ("provider=hollywood", "The provider must be one of llmgateway, openrouter."),
        ("reason=<img>", "The reason must be one of missing_header,"),
    ],
)
async def test_a_filter_that_fits_nothing_ever_says_what_would(house: House, query: str, says: str) -> None:
    await house.rejections.keep([rejection(await house.running())])
    async with signed_in(house) as browser:
        page = await browser.see(f"{PATH}?{query}")
    assert says in page.one(id="problem").text
    assert listed(page) == []


async def test_page_by_page_each_is_shown_once_newest_first(house: House) -> None:
    jobs = [await house.running(provider_job_id=f"gen-{number}") for number in range(45)]
    await house.rejections.keep([rejection(job, at=number // 2) for number, job in enumerate(jobs)])
    seen: list[str] = []
    address = f"{PATH}?reason=wrong_secret"
    async with signed_in(house) as browser:
        while address:
            page = await browser.see(address)
            seen += [each.one("a", class_="id").text for each in page.all("article")]
            older = page.all("a", rel="next")
            address = older[0].attributes["href"] if older else ""
            assert not older or "reason=wrong_secret" in address
        assert page.one("nav", class_="pager").one("a").attributes["href"] == f"{PATH}?reason=wrong_secret"
        assert len(listed(await browser.see(f"{PATH}?before=somebody-cut-it"))) == 20
    kept = await house.rejections.page(limit=100)
    assert seen == [each.job_id for each in kept]
    assert len(seen) == 45


async def test_tenants_see_their_own_and_nothing_of_the_service(house: House) -> None:
    own, theirs = await house.queued(), await house.queued(tenant="globex")
    await house.rejections.keep([rejection(own), rejection(theirs, Reason.CLOCK_SKEW, times=77)])
    async with signed_in(house) as browser:
        page = await browser.see(PATH)
        assert listed(page) == ["Wrong secret wrong_secret"]
        for foreign in (theirs.id, "clock_skew clock_skew", "77"):
            assert foreign not in page.text
        assert listed(await browser.see(f"{PATH}?job={theirs.id}")) == []
    async with signed_in(house, operator=True) as browser:
        assert len(listed(await browser.see(PATH))) == 2
    async with signed_in(house, "initech") as browser:
        said = (await browser.see(PATH)).one(id="nothing").text
        assert "tell whoever runs this service" in said
        assert "serve.key_missing" not in said


async def test_when_all_that_can_be_kept_is_kept_the_page_says_so(house: House) -> None:
    house.rejections.most = 3  # as if a thousand were three
    jobs = [await house.running(provider_job_id=f"gen-{number}") for number in range(4)]
    await house.rejections.keep([rejection(job, at=at) for at, job in enumerate(jobs)])
    async with signed_in(house) as browser:
        page = await browser.see(PATH)
    assert len(page.all("article")) == 3
    assert "Only the newest 3 entries are kept" in page.one(id="sums").text


async def test_whoever_has_no_session_is_sent_to_sign_in_and_back(house: House) -> None:
    async with house.client(key="") as client:
        answer = await client.get(f"{PATH}?reason=too_slow", headers={"accept": "text/html"})
    assert answer.status_code == 303
    assert answer.headers["location"] == "/status/sign-in?next=/status/callbacks%3Freason%3Dtoo_slow"


def test_every_reason_has_a_title_of_its_own() -> None:
    assert set(TITLES) == set(Reason)
    assert len(set(TITLES.values())) == len(TITLES)
