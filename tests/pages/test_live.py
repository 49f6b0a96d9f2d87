"""A page that is looked at stays true by itself, and says when it cannot."""

from __future__ import annotations

from pathlib import Path

from playwright.async_api import Browser, expect

from tests.pages.scenery import unsigned_callback
from tests.pages.studio import Studio, Tenant, open_studio
from tests.pages.windows import Window, window

_MARK = "window.stillTheSamePage = true"
_LOOK = "window.stillTheSamePage"


async def test_a_job_comes_and_goes_from_queued_to_completed_in_the_table_without_a_reload(
    view: Window, studio: Studio, tenant: Tenant
) -> None:
    await view.open(f"/status/jobs?tenant={tenant.name}")
    await view.page.evaluate(_MARK)
    async with studio.provider_away():
        job_id = await tenant.ask(prompt="a kite that comes while we look")
        row = view.page.get_by_role("row").filter(has_text="a kite that comes while we look")
        await expect(row).to_contain_text("queued")
    await expect(row).to_contain_text("completed")
    await expect(row.get_by_role("link", name=job_id)).to_be_visible()
    assert await view.page.evaluate(_LOOK)


async def test_a_jobs_page_tells_what_becomes_of_it_without_a_reload(
    view: Window, studio: Studio, tenant: Tenant
) -> None:
    async with studio.provider_away():
        job_id = await tenant.ask()
        await view.open(f"/status/jobs/{job_id}")
        await view.page.evaluate(_MARK)
        await expect(view.page.get_by_role("main")).to_contain_text("queued")
    await expect(view.page.get_by_label("Timeline")).to_contain_text("completed")
    await expect(view.page.locator("video")).to_be_visible()
    assert await view.page.evaluate(_LOOK)


async def test_the_overview_counts_on_without_a_reload(view: Window, tenant: Tenant) -> None:
    await view.open("/status")
    await view.page.evaluate(_MARK)
    before = await view.page.get_by_role("main").inner_text()
    await tenant.asked()
    await expect(view.page.get_by_role("main")).not_to_have_text(before, use_inner_text=True)
    assert await view.page.evaluate(_LOOK)


async def test_what_is_open_and_focused_stays_so_while_the_page_changes(
    view: Window, studio: Studio, tenant: Tenant
) -> None:
    job_id = await tenant.asked("fails", ends="failed")
    await view.open(f"/status/jobs/{job_id}")
    callbacks = view.page.get_by_role("region", name="Callbacks")
    await callbacks.get_by_text("What it said").click()
    await view.page.get_by_role("button", name="Retry", exact=True).click()
    leave = view.page.get_by_role("dialog").get_by_role("button", name="Leave it")
    await leave.focus()
    await unsigned_callback(studio, job_id)
    await expect(callbacks).to_contain_text("missing_header")
    await expect(leave).to_be_focused()
    await expect(leave).to_be_visible()
    await expect(callbacks.locator("pre")).to_be_visible()


async def test_a_video_plays_on_while_the_page_changes(view: Window, studio: Studio, tenant: Tenant) -> None:
    job_id = await tenant.asked()
    await view.open(f"/status/jobs/{job_id}")
    await view.evaluate("played()")
    await view.page.locator("video").evaluate("(video) => { window.sameVideo = video; video.loop = true; }")
    await unsigned_callback(studio, job_id)
    await expect(view.page.get_by_role("region", name="Callbacks")).to_contain_text("missing_header")
    assert await view.page.evaluate("window.sameVideo.isConnected && !window.sameVideo.paused")


async def test_a_page_says_that_it_is_cut_off_and_is_live_again_when_the_service_is_back(
    browser: Browser, tmp_path: Path
) -> None:
    async with open_studio(tmp_path) as studio, window(browser, studio.url) as one:
        tenant = await studio.tenant()
        await one.open("/status/jobs")
        await one.sign_in(studio.operator_key)
        await expect(one.page.get_by_text("live", exact=True)).to_be_visible()
        await one.page.evaluate(_MARK)
        one.forgive_cut_off()
        await studio.stop()
        await expect(one.page.get_by_text("disconnected", exact=True)).to_be_visible()
        async with studio.started_again():
            await expect(one.page.get_by_text("live", exact=True)).to_be_visible()
            await tenant.asked(prompt="a kite after the storm")
            await expect(one.page.get_by_role("row").filter(has_text="after the storm")).to_contain_text("completed")
            assert await one.page.evaluate(_LOOK)
