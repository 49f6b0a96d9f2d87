"""The buttons of a job's page: what each does, what it asks before, and what it says when it cannot."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from service.model import Event, Job, State
from service.providers import Unanswered
from service.store import Created
from tests.web.house import House
from tests.web.status import scenes
from tests.web.status.browsing import Browser, Element, read, signed_in
from tests.web.status.scenes import SCENES
from tests.web.test_actions import Obliging, Says

ACTIONS = ("cancel", "retry", "redeliver", "remirror", "attach")


def path(job: Job) -> str:
    return f"/status/jobs/{job.id}"


def button(page: Element, job: Job, action: str) -> Element:
    """Return the form behind a button that can be pressed."""
    return page.one("form", action=f"{path(job)}/{action}")


def enabled(page: Element, job: Job) -> list[str]:
    return [action for action in ACTIONS if page.all("form", action=f"{path(job)}/{action}")]


def trouble(answer: httpx.Response) -> str:
    return read(answer.text).one("p", role="alert").text


async def press(browser: Browser, job: Job, action: str, **fields: str) -> httpx.Response:
    page = await browser.see(path(job))
    return await browser.send(button(page, job, action), **fields)


async def history(house: House, job: Job) -> list[Event]:
    return await house.store.events(job.id)


async def now(house: House, job: Job) -> Job:
    found = await house.store.job(job.id)
    assert found is not None
    return found


# What can be pressed


@pytest.mark.parametrize(
    ("scene", "can"),
    [
        ("queued", ["cancel"]),
        ("submitting", []),
        ("in doubt", ["attach"]),
        ("resubmitted", ["cancel", "attach"]),
        ("running", []),
        ("being copied", []),
        ("completed", []),
        ("submission unknown", ["retry", "attach"]),
        ("bound", ["retry", "attach"]),
        ("unavailable", ["retry", "remirror"]),
        ("told", ["retry", "redeliver"]),
        ("untold", ["retry", "redeliver"]),
        ("timed out", ["retry"]),
        ("failed with content_policy", ["retry"]),
    ],
)
async def test_only_what_works_now_can_be_pressed_and_all_else_says_why_not(
    house: House, scene: str, can: list[str]
) -> None:
    job = await SCENES[scene](house)
    async with signed_in(house, operator=True) as browser:
        page = await browser.see(path(job))
    assert enabled(page, job) == can
    disabled = [each for each in page.one(id="actions").all("button") if "disabled" in each.attributes]
    assert len(disabled) == len(ACTIONS) - len(can)
    for each in disabled:
        assert page.one(id=each.attributes["aria-describedby"]).text.endswith(".")


@pytest.mark.parametrize("scene", [each for each in SCENES if not each.startswith("failed with")])
async def test_what_can_be_pressed_does_something_and_what_cannot_is_refused(house: House, scene: str) -> None:
    job = await SCENES[scene](house)
    house.clock.advance(0 if "being" in scene else 60_000)  # for so long nothing is spent where there are no credits
    async with signed_in(house, operator=True) as browser:
        page = await browser.see(path(job))
        for action in ACTIONS:
            if action == "cancel" and job.state is State.CANCELLED:
                continue  # to cancel it once more is no error
            form = {"csrf": page.all("input", name="csrf")[0].attributes["value"], "provider_job_id": "gen-new"}
            before = await now(house, job), await house.count("jobs")
            answer = await browser.client.post(f"{path(job)}/{action}", data=form)
            if action in enabled(page, job):
                assert answer.status_code == 303, (action, trouble(answer))
                break  # which may have changed what else can be done
            assert answer.status_code == 409, action
            assert (await now(house, job), await house.count("jobs")) == before
            reason = page.one(id=f"why-not-{action}").text
            assert trouble(answer).startswith(reason.rstrip(".")), action


async def test_every_button_asks_before_it_does_it(house: House) -> None:
    job = await scenes.unavailable(house)
    async with signed_in(house) as browser:
        page = await browser.see(path(job))
    asked = {action: button(page, job, action).one("p").text for action in enabled(page, job)}
    assert asked == {
        "retry": "A new job asks openrouter for the same video. It may cost once more: this one cost $0.25.",
        "remirror": "The video is copied from openrouter again, and tried for a day. "
        "The provider bills nothing for it.",
    }
    for action in asked:
        holder = page.one("div", id=f"ask-{action}")
        assert "popover" in holder.attributes
        assert page.all("button", popovertarget=f"ask-{action}")[0].attributes["type"] == "button"


# What comes of it


async def test_a_queued_job_is_cancelled(house: House) -> None:
    job = await scenes.made(house)
    async with signed_in(house) as browser:
        answer = await press(browser, job, "cancel")
        assert (answer.status_code, answer.headers["location"]) == (303, f"{path(job)}?done=cancelled")
        page = await browser.see(answer.headers["location"])
    assert page.one("p", role="status").text == "The job is cancelled."
    assert (await now(house, job)).state is State.CANCELLED


@pytest.mark.parametrize(
    ("says", "status", "words"),
    [
        (True, 303, ""),
        (False, 409, "openrouter does not cancel the job any more and bills it"),
        (Unanswered("no connection"), 409, "gave no answer (no connection)"),
    ],
)
async def test_a_provider_is_asked_to_cancel_and_what_it_says_is_told(
    house: House, client: httpx.AsyncClient, says: Says, status: int, words: str
) -> None:
    house.providers["openrouter"] = provider = Obliging(house, client, says=says)
    job = await house.running()
    async with signed_in(house) as browser:
        answer = await press(browser, job, "cancel")
        assert answer.status_code == status
        if status == 303:
            page = await browser.see(answer.headers["location"])
            assert page.one("p", role="status").text == "The provider was asked to cancel the job."
        else:
            assert words in trouble(answer)
    assert provider.asked == ["gen-1"]
    assert (await now(house, job)).state is State.RUNNING


async def test_a_retry_leads_to_the_new_job(house: House) -> None:
    job = await scenes.timed_out(house)
    async with signed_in(house) as browser:
        answer = await press(browser, job, "retry")
        page = await browser.see(answer.headers["location"])
    assert page.one("p", role="status").text == "This is the new job, which repeats the one before."
    [new, _] = await house.store.jobs()
    assert answer.headers["location"] == f"{path(new)}?done=retried"
    assert (new.retry_of, new.state) == (job.id, State.QUEUED)


async def test_a_button_that_is_pressed_twice_makes_one_job_although_the_page_was_loaded_anew(house: House) -> None:
    job = await scenes.timed_out(house)
    async with signed_in(house) as browser, signed_in(house, operator=True) as other:
        form = button(await browser.see(path(job)), job, "retry")
        answers = await asyncio.gather(*(browser.send(form) for _ in range(5)))
        answers += [await press(browser, job, "retry"), await press(other, job, "retry")]
        [new] = {answer.headers["location"].partition("?")[0] for answer in answers}
        assert [answer.headers["location"].partition("?done=")[2] for answer in answers].count("retried") == 1
        assert await house.count("jobs") == 2
        page = await browser.see(answers[-1].headers["location"])
        assert "no other one was made" in page.one("p", role="status").text
    assert new == path((await house.store.jobs())[0])


async def test_the_new_job_is_retried_with_its_own_button(house: House) -> None:
    job = await scenes.timed_out(house)
    async with signed_in(house) as browser:
        await press(browser, job, "retry")
        [new] = await house.claims.claim_queued("openrouter", 1)
        assert await house.claims.refused(new, scenes.REFUSED)
        house.clock.advance(1_000)
        await press(browser, new, "retry")
    assert [each.retry_of for each in await house.store.jobs()] == [new.id, job.id, None]


async def test_a_job_and_those_that_repeat_it_lead_to_each_other(house: House) -> None:
    job = await scenes.timed_out(house)
    async with signed_in(house) as browser:
        assert "repeat" not in (await browser.see(path(job))).one(id="now").text
        for _ in range(2):
            house.clock.advance(1_000)
            assert isinstance(await house.store.retry(job), Created)
        [second, first, _] = await house.store.jobs()
        now = (await browser.see(path(job))).one(id="now")
        assert f"It is repeated by {second.id} , {first.id} ." in now.text
        assert [each.attributes["href"] for each in now.all("a", class_="id")] == [path(second), path(first)]
        assert f"It repeats {job.id} ." in (await browser.see(path(first))).one(id="now").text


async def test_a_retry_whose_job_was_deleted_says_so_and_pays_for_no_other_one(house: House) -> None:
    job = await scenes.timed_out(house)
    async with signed_in(house) as browser:
        await press(browser, job, "retry")
        [new, _] = await house.store.jobs()
        assert await house.store.delete(await now(house, await house.store.cancel(new.id) or new))
        answer = await press(browser, job, "retry")
    assert answer.status_code == 409
    assert trouble(answer).startswith("It was retried before, and that job was deleted since.")
    assert await house.count("jobs") == 1


async def test_a_retry_counts_against_the_limit_of_the_key_and_says_so(house: House) -> None:
    _, key = await house.keys.create("slow", "acme", creates_per_minute=1)
    job, other = await scenes.timed_out(house), await scenes.untold(house)
    async with signed_in(house) as browser:
        await browser.client.post("/status/sign-in", data={"key": key, "next": "/status"})
        assert (await press(browser, job, "retry")).status_code == 303
        answer = await press(browser, other, "retry")
    assert answer.status_code == 409
    assert "send it again in" in trouble(answer)
    assert await house.count("jobs") == 3


async def test_a_caller_is_told_once_more(house: House) -> None:
    job = await scenes.untold(house)
    async with signed_in(house) as browser:
        answer = await press(browser, job, "redeliver")
        page = await browser.see(answer.headers["location"])
        assert page.one("p", role="status").text == "The caller will be told once more."
        assert await house.deliveries.claim(1, each=1)
        csrf = page.all("input", name="csrf")[0].attributes["value"]
        again = await browser.client.post(f"{path(job)}/redeliver", data={"csrf": csrf})
    assert again.status_code == 409
    assert "being sent just now" in trouble(again)


@pytest.mark.parametrize("source", ["operator", "caller"])
async def test_a_video_is_copied_again_and_the_story_says_on_whose_wish(house: House, source: str) -> None:
    job = await scenes.unavailable(house)
    async with signed_in(house, operator=source == "operator") as browser:
        answer = await press(browser, job, "remirror")
        page = await browser.see(answer.headers["location"])
    assert page.one("p", role="status").text == "The output will be copied once more."
    assert (await now(house, job)).state is State.MIRRORING
    assert (await history(house, job))[-2].data == {"source": source}


async def test_an_id_that_was_found_is_bound(house: House) -> None:
    job = await scenes.in_doubt(house)
    async with signed_in(house, operator=True) as browser:
        answer = await press(browser, job, "attach", provider_job_id=" gen-found ")
        page = await browser.see(answer.headers["location"])
    assert page.one("p", role="status").text == "The provider's id is bound to the job."
    after = await now(house, job)
    assert (after.state, after.provider_job_id) == (State.RUNNING, "gen-found")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "The provider's id must be 1 to 512 letters"),
        ("has a space", "The provider's id must be 1 to 512 letters"),
        ("gen-1", "Another job is bound to gen-1 already"),
    ],
)
async def test_an_id_that_cannot_be_bound_is_told(house: House, text: str, words: str) -> None:
    await house.running()
    job = await scenes.in_doubt(house)
    async with signed_in(house, operator=True) as browser:
        answer = await press(browser, job, "attach", provider_job_id=text)
    assert answer.status_code == 409
    assert trouble(answer).startswith(words)
    assert await now(house, job) == job


async def test_an_operator_acts_on_every_tenants_jobs_and_whose_they_are_stays(house: House) -> None:
    job = await scenes.timed_out(house)
    async with signed_in(house, "globex", operator=True) as browser:
        await press(browser, job, "retry")
    assert [each.tenant for each in await house.store.jobs()] == ["acme", "acme"]


# What is not done


async def test_a_tenant_does_not_attach_although_it_knows_the_address(house: House) -> None:
    job = await scenes.in_doubt(house)
    async with signed_in(house) as browser:
        csrf = (await browser.see(path(job))).all("input", name="csrf")[0].attributes["value"]
        answer = await browser.client.post(f"{path(job)}/attach", data={"csrf": csrf, "provider_job_id": "gen-found"})
    assert answer.status_code == 409
    assert await now(house, job) == job


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("wrong", ["no token", "another session's token", "another site"])
async def test_a_form_that_is_not_ours_changes_nothing(house: House, action: str, wrong: str) -> None:
    scene = {"cancel": "queued", "redeliver": "untold", "remirror": "unavailable", "attach": "in doubt"}
    job = await SCENES[scene.get(action, "timed out")](house)
    before = await now(house, job), await house.count("jobs"), await house.count("events")
    async with signed_in(house, operator=True) as browser, signed_in(house, operator=True) as other:
        form = button(await browser.see(path(job)), job, action)
        fields = {"provider_job_id": "gen-found"}
        if wrong == "no token":
            form.all("input", name="csrf")[0].attributes["name"] = "nothing"
        elif wrong == "another session's token":
            fields["csrf"] = (await other.see(path(job))).all("input", name="csrf")[0].attributes["value"]
        else:
            browser.client.headers.update({"origin": "https://evil.example.com", "sec-fetch-site": "cross-site"})
        answer = await browser.send(form, **fields)
    assert answer.status_code == 403
    assert (await now(house, job), await house.count("jobs"), await house.count("events")) == before


async def test_without_a_session_nothing_is_done(house: House) -> None:
    job = await scenes.made(house)
    async with house.client(key="") as client:
        answer = await client.post(f"{path(job)}/cancel", data={"csrf": "x"})
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/status/sign-in")
    assert await now(house, job) == job


async def test_what_is_refused_is_said_on_the_jobs_own_page_to_which_a_reload_leads_back(house: House) -> None:
    job = await scenes.made(house)
    async with signed_in(house) as browser:
        form = button(await browser.see(path(job)), job, "cancel")
        [claimed] = await house.claims.claim_queued("openrouter", 1)
        answer = await browser.send(form)
        assert answer.status_code == 409
        page = read(answer.text)
        assert page.one("h1").one("code").text == job.id
        assert page.one(id="now").all("span", class_="state")[0].text == "submitting"
        assert "has no way to cancel it" in trouble(answer)
        again = await browser.client.get(f"{path(job)}/cancel")
        assert (again.status_code, again.headers["location"]) == (303, path(job))
    assert await now(house, job) == await now(house, claimed)


async def test_there_are_no_other_buttons(house: House) -> None:
    job = await scenes.made(house)
    async with signed_in(house, operator=True) as browser:
        csrf = (await browser.see(path(job))).all("input", name="csrf")[0].attributes["value"]
        answer = await browser.client.post(f"{path(job)}/delete", data={"csrf": csrf})
    assert answer.status_code == 409
    assert "There is no such button." in trouble(answer)
    assert await now(house, job) == job
