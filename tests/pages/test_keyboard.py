"""Everything can be reached and pressed without a mouse, and one always sees where one is."""

from __future__ import annotations

from playwright.async_api import expect

from tests.pages.conftest import Open
from tests.pages.studio import Studio, Tenant
from tests.pages.windows import Window


async def walk(view: Window, until: str, most: int = 80) -> list[str]:
    """Press Tab until what is focused has that name; return the names on the way, each of which must be seen."""
    names: list[str] = []
    for _ in range(most):
        await view.page.keyboard.press("Tab")
        name, seen = await view.evaluate("focused()")
        names.append(name)
        assert seen, f"where the focus is cannot be seen: {names}"
        if name == until:
            return names
    raise AssertionError(f"{until!r} is not reached: {names}")


async def test_one_signs_in_without_a_mouse(open_window: Open, studio: Studio) -> None:
    one = await open_window("/status/sign-in", session=None)
    await expect(one.page.get_by_label("API key")).to_be_focused()
    await one.page.keyboard.type(studio.operator_key)
    await one.page.keyboard.press("Enter")
    await expect(one.page).to_have_url(f"{studio.url}/status")


async def test_the_way_leads_past_the_skip_link_the_pages_and_signing_out(view: Window) -> None:
    await view.open("/status/jobs")
    names = await walk(view, "Sign out")
    assert names[0] == "Skip to the content"
    assert names[-5:] == ["Overview", "Jobs", "Callbacks", "Deliveries", "Sign out"]
    await view.open("/status/jobs")
    await view.page.keyboard.press("Tab")
    await view.page.keyboard.press("Enter")
    await view.page.keyboard.press("Tab")
    await expect(view.page.get_by_label("Words or ids")).to_be_focused()


async def test_a_confirmation_opens_with_enter_and_closes_with_escape(view: Window, tenant: Tenant) -> None:
    job_id = await tenant.asked("fails", ends="failed")
    await view.open(f"/status/jobs/{job_id}")
    await walk(view, "Retry")
    await view.page.keyboard.press("Enter")
    asking = view.page.get_by_role("dialog")
    await expect(asking).to_be_visible()
    names = await walk(view, "Leave it", 6)
    assert "Retry" in names
    await view.page.keyboard.press("Escape")
    await expect(asking).to_be_hidden()
    await expect(view.page.get_by_role("button", name="Retry")).to_be_focused()
    await view.page.keyboard.press("Enter")
    await walk(view, "Retry", 4)
    await view.page.keyboard.press("Enter")
    await expect(view.page.get_by_text("This is the new job")).to_be_visible()


async def test_what_scrolls_by_itself_can_be_scrolled_with_keys(open_window: Open, scene: dict[str, str]) -> None:
    one = await open_window(size=(700, 900))
    one.forgive_status(404)
    for name, path in scene.items():
        if name != "sign-in":
            await one.open(path)
            assert await one.evaluate("unreachable()") == [], name
