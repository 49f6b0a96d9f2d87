"""What callers and providers write is text, whatever it looks like."""

from __future__ import annotations

from playwright.async_api import expect

from tests.pages.scenery import HOSTILE
from tests.pages.studio import Tenant
from tests.pages.windows import Window


async def test_a_hostile_prompt_stays_text_on_every_page(view: Window, tenant: Tenant) -> None:
    job_id = await tenant.asked(prompt=HOSTILE, metadata={HOSTILE: HOSTILE})
    for path in (f"/status/jobs?tenant={tenant.name}", f"/status/jobs/{job_id}", "/status", "/status/deliveries"):
        await view.open(path)
        await expect(view.page.get_by_role("heading", level=1)).to_be_visible()
        await expect(view.page.get_by_text("live", exact=True)).to_be_visible()
        assert await view.page.locator("img[onerror], main script, main iframe").count() == 0
    await view.open(f"/status/jobs/{job_id}")
    await expect(view.page.get_by_role("main")).to_contain_text(HOSTILE)


async def test_a_hostile_search_and_a_hostile_next_stay_text(view: Window) -> None:
    await view.open("/status/jobs")
    await view.page.get_by_label("Words or ids").fill(HOSTILE)
    await view.page.get_by_role("button", name="Find").click()
    await expect(view.page.get_by_label("Words or ids")).to_have_value(HOSTILE)
    assert await view.page.locator("img[onerror], main script").count() == 0
    for path in ("//example.com/", "https://example.com/", "/\\example.com"):
        await view.open(f"/status/sign-in?next={path}")
        await expect(view.page).to_have_url(f"{view.url}/status")


async def test_what_arrives_while_we_look_stays_text_too(view: Window, tenant: Tenant) -> None:
    await view.open(f"/status/jobs?tenant={tenant.name}")
    await expect(view.page.get_by_text("live", exact=True)).to_be_visible()
    await tenant.ask(prompt=HOSTILE)
    await expect(view.page.get_by_role("table")).to_contain_text(HOSTILE[:20])
    assert await view.page.locator("img[onerror], main script").count() == 0
