"""The overview: as a page for people, as JSON for programs, and to tenants what is theirs."""

from __future__ import annotations

import httpx
import pytest

from service.model import ErrorCode, Source, State, Status
from service.model import Report as ProviderReport
from service.store import Reason, Rejection
from tests.web.debts import given_up
from tests.web.house import House
from tests.web.status import scenes
from tests.web.status.browsing import Element, signed_in

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


async def operator_of(house: House) -> str:
    _, key = await house.keys.create("ops", "acme", operator=True)
    return key


async def settled(house: House, provider_job_id: str, source: Source) -> None:
    job = await house.running(provider_job_id=provider_job_id)
    report = ProviderReport(Status.FAILED, "failed", provider_job_id)
    await house.store.apply(job.id, report, source, poll_ms=1, retention_ms=1)


def parts_of(page: Element, name: str) -> list[str]:
    return [each.text for each in page.one(id=name).all("li")]


# As JSON


async def test_the_status_counts_everything_zeros_too(house: House) -> None:
    app = house.app()
    await house.running(provider_job_id="gen-3")
    await house.completed()
    await settled(house, "gen-2", Source.POLL)
    await house.queued("llmgateway")
    await house.queued("removed")
    house.clock.advance(90_500)
    async with house.client(app, key=await operator_of(house)) as client:
        answer = await client.get("/status")

    assert answer.status_code == 200
    status = answer.json()
    none = dict.fromkeys(State, 0)
    assert status["jobs"] == {
        "openrouter": none | {"completed": 1, "failed": 1, "running": 1},
        "llmgateway": none | {"queued": 1},
        "removed": none | {"queued": 1},
    }
    assert status["unserved"] == {"removed": 1}
    assert status["unknown_words"] == {}
    assert status["overdue_seconds"] == {"submit": 90.5, "resolve": 0, "poll": 30.5, "mirror": 0, "notify": 0}
    assert {(each["step"], each["provider"]) for each in status["waiting"]} == {
        ("submit", "llmgateway"),
        ("submit", "removed"),
        ("poll", "openrouter"),
    }
    reports = status["reports"]["openrouter"]
    assert sum(reports.pop("course")["poll"]) == 1
    assert reports == {"callback": 1, "poll": 1, "submission": 0, "callback_share": 0.5}
    assert status["reports"]["llmgateway"]["callback_share"] is None
    assert status["ended"]["openrouter"] == {
        "completed": 1,
        "failed": 1,
        "cancelled": 0,
        "expired": 0,
        "success_rate": 0.5,
    }
    assert sum(status["entered"]["openrouter"]["job.queued"]) == 3
    assert status["kept"]["openrouter"]["jobs"] == 1
    assert status["storage"]["files"] == 1
    assert status["spend"][0]["priced"] == 1
    assert status["workers"] == {"submit": "ok", "poll": "ok", "mirror": "ok"}
    assert status["parts"]["database"] == status["parts"]["storage"] == "ok"
    assert status["uptime_seconds"] == 90
    assert status["now"] == "2026-09-21T14:14:50.500Z"
    assert status["version"]
    assert status["tenant"] is None


async def test_a_tenant_sees_its_own_numbers_and_nothing_of_the_service(
    house: House, client: httpx.AsyncClient
) -> None:
    await house.queued()
    await house.queued("llmgateway", tenant="globex")
    house.troubles["submit"] = "died of OSError, is being started again"
    status = (await client.get("/status")).json()
    assert status["tenant"] == "acme"
    assert status["jobs"] == {"openrouter": dict.fromkeys(State, 0) | {"queued": 1}}
    assert "globex" not in repr(status)
    assert not {"parts", "workers", "unserved", "rejected_callbacks", "unknown_words"} & set(status)
    async with signed_in(house, tenant="globex") as browser:
        page = await browser.see("/status")
        assert page.one("h1").text == "globex"
        assert "openrouter" not in page.one("main").text
        assert page.all(id="parts") == []
        assert "OSError" not in page.text


async def test_the_status_is_for_whoever_has_a_key(house: House) -> None:
    async with house.client(key="") as stranger:
        for path in ("/status", "/status.json"):
            assert (await stranger.get(path)).status_code == 401


async def test_a_session_may_read_the_json_and_a_key_goes_before_it(house: House) -> None:
    async with signed_in(house, operator=True) as browser:
        assert (await browser.client.get("/status.json")).json()["tenant"] is None
        headers = {"authorization": f"Bearer {house.key}"}
        assert (await browser.client.get("/status.json", headers=headers)).json()["tenant"] == "acme"


@pytest.mark.parametrize(
    ("accept", "page"),
    [
        (None, False),
        ("*/*", False),
        ("application/json", False),
        ("application/json, text/html;q=0.9", False),
        ("text/html;q=0, */*", False),
        ("text/html", True),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8", True),
        ("application/json;q=0.5, TEXT/HTML;q=0.9", True),
    ],
)
async def test_browsers_get_a_page_and_all_others_json(house: House, accept: str | None, *, page: bool) -> None:
    async with signed_in(house) as browser:
        del browser.client.headers["accept"]
        answer = await browser.client.get("/status", headers={} if accept is None else {"accept": accept})
    assert answer.headers["content-type"].startswith("text/html" if page else "application/json")
    assert answer.headers["vary"] == "Accept"
    assert answer.headers["cache-control"] == "no-store"


# As a page


async def test_the_page_tells_jobs_by_state_in_words_and_pictures_that_have_words(house: House) -> None:
    await house.completed()
    await house.queued()
    async with signed_in(house, operator=True) as browser:
        page = await browser.see("/status")
    assert parts_of(page, "tiles") == [f"{state} {int(state in ('queued', 'completed'))}" for state in State]
    [spark] = [each for each in page.all("svg", role="img") if "Became completed" in each.attributes["aria-label"]]
    assert spark.attributes["aria-label"] == "Became completed: 1 in the last 24 h, 1 in the last hour"
    assert "M190 32.0v-32.0h2v32.0z" in spark.all("path")[1].attributes["d"]


async def test_the_page_tells_what_waits_longest_and_leads_to_it(house: House) -> None:
    job = await house.queued()
    house.clock.advance(59_999)
    async with signed_in(house, operator=True) as browser:
        row = (await browser.see("/status")).one(id="waiting").all("tr")[1]
        assert row.text == f"submit openrouter {job.id} 59 s 59 s ago"
        assert row.one("a").attributes["href"] == f"/status/jobs/{job.id}"
        house.clock.advance(3_600_000)
        page = await browser.see("/status")
    assert page.one(id="waiting").all("tr")[1].text == f"submit openrouter {job.id} 1 h overdue 1 h"
    assert "The step submit is 1 h overdue" in page.one(id="concerns").text


async def test_a_part_that_is_ill_stands_above_everything_with_what_to_do(house: House) -> None:
    house.troubles["poll"] = "died of OSError, is being started again"
    async with signed_in(house, operator=True) as browser:
        page = await browser.see("/status")
    assert page.one(id="well").text == "ill"
    assert page.one(id="concerns").text.startswith("Worker poll: died of OSError, is being started again. worker.died")
    assert parts_of(page, "parts")[:3] == ["database ok", "storage ok", "worker poll ill"]


async def test_rejected_callbacks_of_the_last_day_are_told_with_where_to_look(house: House) -> None:
    job = await house.running()
    now = house.clock.now()
    await house.rejections.keep(
        [Rejection(job.id, "openrouter", Reason.WRONG_SECRET, "Compare the secret.", 2, now, now, {}, 3)]
    )
    async with signed_in(house) as browser:
        concerns = (await browser.see("/status")).one(id="concerns")
        assert "about jobs of openrouter were rejected in the last day: wrong secret." in concerns.text
        assert concerns.one("a").attributes["href"] == "/status/callbacks"
        page = await browser.see("/status")
        assert page.one(id="well").text == "needs a look"
        assert page.one(id="providers").one("span", class_="state").text == "callbacks rejected"
        house.clock.advance(900_000)
        await house.call_back(job, "failed")
        page = await browser.see("/status")
        assert "The last one came 15 min ago, and none since; genuine ones came since" in page.one(id="concerns").text
        assert page.one(id="well").text == "all well"
        assert (await browser.client.get("/status.json")).json()["concerns"][0]["mended"] is True
    house.clock.advance(86_400_000)
    async with signed_in(house) as browser:
        assert "rejected" not in (await browser.see("/status")).one(id="concerns").text


async def test_receivers_that_do_not_take_what_they_are_told_need_a_look_for_a_day(house: House) -> None:
    await given_up(house, times=2)
    await given_up(house, "https://gone.example.com:8443/x", tenant="globex", status=None, error="no route to host")
    async with signed_in(house) as browser:
        [concern] = (await browser.client.get("/status.json")).json()["concerns"]
        assert "globex" not in concern["message"]
        assert concern["message"].startswith("1 receiver did not take what it was told in the last day: 2 given up, 0")
    async with signed_in(house, operator=True) as browser:
        page = await browser.see("/status")
        assert page.one(id="well").text == "needs a look"
        told = page.one(id="concerns")
        assert told.one("a").attributes["href"] == "/status/deliveries"
        assert told.text.startswith("2 receivers did not take what they were told in the last day: 3 given up, 0 not")
        [concern] = (await browser.client.get("/status.json")).json()["concerns"]
        assert (concern["kind"], concern["provider"], concern["mended"]) == ("receivers_failing", None, False)
    house.clock.advance(86_400_000)
    async with signed_in(house, operator=True) as browser:
        assert (await browser.client.get("/status.json")).json()["concerns"] == []


async def test_most_jobs_that_fail_are_told_with_their_errors_and_what_is_ours_to_mend(house: House) -> None:
    codes = [ErrorCode.PROVIDER_FAILED] * 2 + [ErrorCode.PROVIDER_CREDITS]
    for code in (ErrorCode.INTERNAL, *codes):
        await scenes.SCENES[f"failed with {code}"](house)
        house.clock.advance(3_600_000 if code is ErrorCode.INTERNAL else 1)
    async with signed_in(house) as browser:
        [concern] = (await browser.client.get("/status.json")).json()["concerns"]
    assert concern["message"] == (
        "Most jobs of openrouter failed in the last hour: 3 of 3 that ended (the newest: 2 provider_failed, "
        "1 provider_credits). The account at openrouter is out of credits: add some there."
    )


async def test_hostile_names_stay_text(house: House) -> None:
    await house.queued(model=HOSTILE, provider=HOSTILE, tenant=HOSTILE)
    await house.running()
    async with signed_in(house, tenant=HOSTILE, name=HOSTILE, operator=True) as browser:
        answer = await browser.client.get("/status")
        page = await browser.see("/status")
    assert "<script>alert" not in answer.text
    assert HOSTILE in page.one(id="providers").text
    assert HOSTILE in page.one("header").text
    assert page.all("img") == []
    async with signed_in(house, tenant=HOSTILE, name=HOSTILE) as browser:
        page = await browser.see("/status")
        assert page.one("h1").text == HOSTILE
        assert page.all("img") == []


async def test_deliveries_and_storage_are_named_as_the_api_names_them(house: House) -> None:
    await house.completed()
    async with signed_in(house, operator=True) as browser:
        page = await browser.see("/status")
        status = (await browser.client.get("/status.json")).json()
    shown = {each.one("dt").text: each.one("dd").text for each in page.one(id="deliveries").all("div")}
    assert shown == {name: str(count) for name, count in status["deliveries"].items()}
    assert [each.text for each in page.one(id="storage").all("dt")] == ["used", "files"]


async def test_an_empty_service_says_so(house: House) -> None:
    async with signed_in(house, operator=True) as browser:
        page = await browser.see("/status")
    assert page.one(id="well").text == "all well"
    assert page.one(id="waiting").text == "Nothing waits."
    assert page.one(id="spend").text == "No job was submitted."


async def test_what_was_spent_is_summed_up_by_provider_with_how_many_prices_are_known(house: House) -> None:
    kept = await house.completed()
    for model in "abcdefgh":
        await house.queued("llmgateway", model=model)
        [job] = await house.claims.claim_queued("llmgateway", 1)
        await house.store.submitted(job.id, model, "pending", first_poll_ms=1)
    async with signed_in(house, operator=True) as browser:
        section = (await browser.see("/status")).one(id="spend")
        told = (await browser.client.get("/status.json")).json()["spend"]
    cost = f"${kept.cost:,.2f}"
    rows = [row.text for row in section.all("tr")]
    assert rows[1] == f"{kept.model} openrouter {cost} price known for 1 of 1 job"
    assert rows[2] == "a llmgateway price not told for 0 of 1 job"
    assert section.one("summary").text == "1 more"
    assert rows[-3:] == [
        "llmgateway price not told for 0 of 8 jobs",
        f"openrouter {cost} price known for 1 of 1 job",
        f"Together {cost} price known for 1 of 9 jobs",
    ]
    assert [each["cost"] for each in told] == [kept.cost, *[None] * 8]


async def test_a_database_that_is_away_is_told_on_a_page(house: House) -> None:
    async with signed_in(house) as browser:
        await house.db.close()
        page = await browser.see("/status", 503)
        assert "The database could not take it" in page.one(role="alert").text
        assert (await browser.client.get("/status.json")).headers["content-type"] == "application/json"
    assert house.lines()[-1]["status"] == 503


async def test_an_address_without_a_page_is_told_on_a_page(house: House) -> None:
    async with signed_in(house) as browser:
        page = await browser.see("/status/nothing", 404)
    assert page.one(role="alert").text == "There is no page at this address."
    assert page.one("main").one("a").attributes["href"] == "/status"
