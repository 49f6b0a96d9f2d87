"""Every page and every form works in a browser that runs no scripts."""

from __future__ import annotations

from playwright.async_api import expect

from tests.pages.conftest import Open
from tests.pages.studio import Studio, Tenant


async def test_one_signs_in_finds_a_job_retries_it_and_signs_out(
    open_window: Open, studio: Studio, tenant: Tenant
) -> None:
    job_id = await tenant.asked("fails", ends="failed", prompt=f"a scriptless {tenant.name}")
    one = await open_window("/status/jobs", session=None, scripts=False)
    await one.sign_in(studio.operator_key)
    await one.page.get_by_label("Words or ids").fill(f"scriptless {tenant.name}")
    await one.page.get_by_role("button", name="Find").click()
    await one.page.get_by_role("link", name=job_id).click()
    await one.page.get_by_role("button", name="Retry").click()
    await one.page.get_by_role("dialog").get_by_role("button", name="Retry").click()
    await expect(one.page.get_by_text("This is the new job")).to_be_visible()
    assert one.page.url != f"{studio.url}/status/jobs/{job_id}"
    await one.page.get_by_role("button", name="Sign out").click()
    await expect(one.page.get_by_text("You are signed out.")).to_be_visible()


async def test_every_page_is_there(open_window: Open, scene: dict[str, str]) -> None:
    one = await open_window(scripts=False)
    one.forgive_status(404)
    for path in scene.values():
        await one.open(path)
        await expect(one.page.get_by_role("heading", level=1)).to_be_visible()
        # What needs a script is not offered, and nothing claims to be live.
        await expect(one.page.get_by_role("button", name="Copy")).to_have_count(0)
        await expect(one.page.get_by_text("live", exact=True)).to_have_count(0)
