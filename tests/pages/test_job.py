"""One job: its video is played, and what can be done with it is done, after a question."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Locator, Response, expect

from tests.pages.conftest import Open
from tests.pages.studio import Studio, Tenant
from tests.pages.windows import Window


async def press(view: Window, name: str) -> Locator:
    """Press a button that asks back; return the question."""
    await view.page.get_by_role("button", name=name, exact=True).click()
    asking = view.page.get_by_role("dialog")
    await expect(asking).to_be_visible()
    return asking


def badge(view: Window) -> Locator:
    return view.page.get_by_label("How it is now").locator(".state")


async def test_the_video_plays_and_is_fetched_in_parts_that_are_asked_for(view: Window, tenant: Tenant) -> None:
    job_id = await tenant.asked()
    parts: list[Response] = []
    view.page.on("response", lambda answer: parts.append(answer) if "/content" in answer.url else None)
    await view.open(f"/status/jobs/{job_id}")
    video = view.page.locator("video")
    await expect(video).to_be_visible()
    assert await view.evaluate("played()") == 320  # pixels wide
    assert await video.evaluate("(video) => video.readyState") >= 2
    assert 1.5 <= await view.evaluate("sought(1.5)") <= 2
    assert parts
    assert {each.status for each in parts} == {206}
    for each in parts:
        assert (await each.request.all_headers())["range"].startswith("bytes=")
    assert await view.evaluate(f"part('/status/jobs/{job_id}/content?index=0', 'bytes=-10')") == [206, 10]


async def test_a_video_has_a_poster_its_size_and_its_hash(view: Window, tenant: Tenant) -> None:
    job_id = await tenant.asked()
    [artifact] = (await tenant.job(job_id))["artifacts"]
    await view.open(f"/status/jobs/{job_id}")
    videos = view.page.get_by_role("region", name="Video")
    await expect(videos).to_contain_text(artifact["sha256"])
    await expect(videos).to_contain_text(re.compile("320 . 180"))
    assert await view.evaluate("widthOf(document.querySelector('video').poster)") == 320


async def test_every_output_has_a_player(view: Window, tenant: Tenant) -> None:
    job_id = await tenant.asked("several-outputs")
    await view.open(f"/status/jobs/{job_id}")
    await expect(view.page.locator("video")).to_have_count(3)
    artifacts = (await tenant.job(job_id))["artifacts"]
    sizes = [(await view.evaluate(f"part(videoAt({index}).src, 'bytes=0-')"))[1] for index in range(3)]
    assert sizes == [each["bytes"] for each in artifacts]
    assert len(set(sizes)) == 3


async def test_a_failed_job_is_retried_after_a_question(view: Window, studio: Studio, tenant: Tenant) -> None:
    job_id = await tenant.asked("fails", ends="failed", prompt="a kite that falls")
    await view.open(f"/status/jobs/{job_id}")
    asking = await press(view, "Retry")
    assert len(studio.place.made_for(job_id)) == 1
    await asking.get_by_role("button", name="Retry").click()
    await expect(view.page.get_by_text("This is the new job")).to_be_visible()
    new_id = view.page.url.rpartition("/")[2]
    assert (await tenant.job(new_id))["retry_of"] == job_id
    await expect(view.page.get_by_label("How it is now").get_by_role("link", name=job_id)).to_be_visible()
    await expect(badge(view)).to_have_text("failed")
    # What was done is said once, and not by the address that somebody may pass on.
    await view.page.reload()
    await expect(view.page.get_by_text("This is the new job")).to_have_count(0)


@pytest.mark.parametrize("how", ["comes back", "waits a while"])
async def test_whoever_stopped_what_was_pressed_can_press_again(view: Window, tenant: Tenant, how: str) -> None:
    job_id = await tenant.asked("fails", ends="failed")
    await view.page.clock.install()
    await view.open(f"/status/jobs/{job_id}")
    view.forgive("net::ERR_ABORTED")
    await view.page.route("**/retry", lambda route: route.abort("aborted"))
    asking = await press(view, "Retry")
    button = asking.get_by_role("button", name="Retry")
    await button.click()
    await expect(button).to_be_disabled()
    if how == "comes back":
        await view.page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
    else:
        await view.page.clock.fast_forward(20_000)
    await expect(button).to_be_enabled()
    await view.page.unroute("**/retry")
    await button.click()
    await expect(view.page.get_by_text("This is the new job")).to_be_visible()


async def test_the_state_of_a_job_is_announced_as_it_changes(view: Window, studio: Studio, tenant: Tenant) -> None:
    async with studio.provider_away():
        job_id = await tenant.ask()
        await view.open(f"/status/jobs/{job_id}")
        announced = view.page.get_by_label("How it is now").get_by_role("status")
        await expect(announced).to_have_text("queued")
        await announced.evaluate("(element) => { window.announced = element; }")
    await expect(announced).to_have_text("completed")
    assert await view.page.evaluate("window.announced.isConnected"), "else nothing is announced"


async def test_to_leave_it_does_nothing(view: Window, tenant: Tenant) -> None:
    job_id = await tenant.asked("fails", ends="failed")
    await view.open(f"/status/jobs/{job_id}")
    asking = await press(view, "Retry")
    await asking.get_by_role("button", name="Leave it").click()
    await expect(asking).to_be_hidden()
    jobs = (await tenant.http.get("/v1/jobs")).json()["data"]
    assert [each["id"] for each in jobs] == [job_id]


async def test_a_queued_job_is_cancelled(view: Window, studio: Studio, tenant: Tenant) -> None:
    async with studio.provider_away():
        job_id = await tenant.ask()
        await view.open(f"/status/jobs/{job_id}")
        await expect(badge(view)).to_have_text("queued")
        await (await press(view, "Cancel")).get_by_role("button", name="Cancel").click()
        await expect(view.page.get_by_text("The job is cancelled.")).to_be_visible()
        await expect(badge(view)).to_have_text("cancelled")
    assert studio.place.made_for(job_id) == []


async def test_what_cannot_be_done_any_more_is_told_and_not_done(view: Window, studio: Studio, tenant: Tenant) -> None:
    view.forgive_status(409)
    async with studio.provider_away():
        job_id = await tenant.ask()
        await view.open(f"/status/jobs/{job_id}")
        asking = await press(view, "Cancel")
        answer = await tenant.http.post(f"/v1/jobs/{job_id}/cancel")
        assert answer.status_code == 200
        await expect(badge(view)).to_have_text("cancelled")
    await expect(asking).to_be_hidden()
    await expect(view.page.get_by_role("button", name="Cancel", exact=True)).to_be_disabled()


async def test_a_caller_is_told_again(view: Window, studio: Studio, tenant: Tenant) -> None:
    with studio.receiver_gone():
        job_id = await tenant.asked(notify_url=studio.receiver.url)
        await tenant.until_given_up(job_id)
        await view.open(f"/status/jobs/{job_id}")
        deliveries = view.page.get_by_role("region", name="Deliveries to the caller")
        await expect(deliveries).to_contain_text("410")
    await (await press(view, "Redeliver")).get_by_role("button", name="Redeliver").click()
    await expect(view.page.get_by_text("The caller will be told once more.")).to_be_visible()
    await expect(deliveries.locator(".state")).to_have_text("delivered")
    await expect(deliveries).to_contain_text("204")
    assert [told.state for told in studio.receiver.about(job_id)] == ["completed", "completed"]


async def test_a_providers_id_that_an_operator_found_is_attached(view: Window, studio: Studio, tenant: Tenant) -> None:
    with studio.callbacks_lost():
        job_id = await tenant.ask("accepted-then-502")
        await tenant.until_event(job_id, "job.in_doubt")
        [made] = studio.place.made_for(job_id)
        await view.open(f"/status/jobs/{job_id}")
        await expect(badge(view)).to_have_text("submitting")
        asking = await press(view, "Attach")
        await asking.get_by_label("The id at openrouter").fill(made.id)
        await asking.get_by_role("button", name="Attach").click()
        await expect(view.page.get_by_text("The provider's id is bound to the job.")).to_be_visible()
        await expect(badge(view)).to_have_text("completed")
    await expect(view.page.locator("video")).to_be_visible()
    # What was done stays to be read, although a part of the page came that was not there.
    await expect(view.page.get_by_text("The provider's id is bound to the job.")).to_be_visible()
    assert len(studio.place.made_for(job_id)) == 1


async def test_a_tenant_is_not_offered_what_operators_do(open_window: Open, studio: Studio, tenant: Tenant) -> None:
    with studio.callbacks_lost():
        job_id = await tenant.ask("accepted-then-502")
        await tenant.until_event(job_id, "job.in_doubt")
        one = await open_window(f"/status/jobs/{job_id}", session=None)
        await one.sign_in(tenant.key)
        await expect(badge(one)).to_have_text("submitting")
        await expect(one.page.get_by_role("button", name="Attach")).to_have_count(0)


async def test_the_page_tells_what_was_said_about_the_job(view: Window, studio: Studio, tenant: Tenant) -> None:
    job_id = await tenant.asked("fails", ends="failed")
    await view.open(f"/status/jobs/{job_id}")
    await expect(view.page.get_by_label("Timeline").get_by_role("listitem")).to_have_count(4)
    [made] = studio.place.made_for(job_id)
    provider = view.page.get_by_role("region", name="At openrouter")
    await expect(provider).to_contain_text(made.id)
    callbacks = view.page.get_by_role("region", name="Callbacks")
    await callbacks.get_by_text("What it said").click()
    await expect(callbacks.locator("pre")).to_contain_text("video.generation.failed")


async def test_a_command_is_copied(open_window: Open, tenant: Tenant) -> None:
    job_id = await tenant.asked()
    one = await open_window()
    await one.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await one.open(f"/status/jobs/{job_id}")
    commands = one.page.get_by_role("region", name="The same from a shell")
    await commands.get_by_text("The same from a shell").click()
    await commands.get_by_role("button", name="Copy").first.click()
    await expect(commands.get_by_role("button", name="Copied")).to_be_visible()
    copied = await one.page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("curl")
    assert job_id in copied
