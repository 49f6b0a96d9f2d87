"""A key opens a session, and the session is all that the browser keeps."""

from __future__ import annotations

import time

from playwright.async_api import expect

from tests.pages.conftest import Open
from tests.pages.studio import Studio, Tenant
from tests.pages.windows import Window


async def test_a_wrong_key_is_told_in_a_sentence(open_window: Open) -> None:
    one = await open_window("/status/sign-in", session=None)
    one.forgive_status(403)
    await one.sign_in("rk_wrong")
    await expect(one.page.get_by_role("alert")).to_contain_text("This key is unknown or was revoked")
    assert await one.context.cookies() == []


async def test_who_signs_in_comes_where_they_wanted_to_go(open_window: Open, studio: Studio) -> None:
    one = await open_window("/status/jobs?state=failed", session=None)
    await expect(one.page).to_have_title("Sign in · Reelkeeper")
    await one.sign_in(studio.operator_key)
    await expect(one.page).to_have_url(f"{studio.url}/status/jobs?state=failed")
    await expect(one.page.get_by_role("banner")).to_contain_text("operator")


async def test_the_session_is_a_cookie_that_no_script_and_no_other_site_can_use(view: Window) -> None:
    await view.open("/status")
    [cookie] = await view.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/")
    assert cookie["domain"] == "127.0.0.1"
    # Over plain http, which is for loopback alone, a Secure cookie would not come back from every browser.
    assert cookie["secure"] is False
    assert 11 * 3600 < cookie["expires"] - time.time() <= 12 * 3600
    kept = await view.page.evaluate("[document.cookie, localStorage.length, sessionStorage.length]")
    assert kept == ["", 0, 0]


async def test_who_signed_out_is_out_and_the_session_is_worth_nothing(open_window: Open, studio: Studio) -> None:
    one = await open_window("/status/sign-in", session=None)
    await one.sign_in(studio.operator_key)
    await expect(one.page).to_have_url(f"{studio.url}/status")
    kept = await one.context.storage_state()
    await one.page.get_by_role("button", name="Sign out").click()
    await expect(one.page.get_by_text("You are signed out.")).to_be_visible()
    assert await one.context.cookies() == []
    other = await open_window("/status/jobs", session=kept)
    await expect(other.page).to_have_title("Sign in · Reelkeeper")


async def test_a_page_that_is_open_leaves_when_its_session_ends(open_window: Open, studio: Studio) -> None:
    one = await open_window("/status/sign-in", session=None)
    await one.sign_in(studio.operator_key)
    await expect(one.page.get_by_text("live", exact=True)).to_be_visible()
    other = await one.context.new_page()
    await other.goto(f"{studio.url}/status/callbacks")
    await other.get_by_role("button", name="Sign out").click()
    await expect(one.page).to_have_title("Sign in · Reelkeeper")


async def test_a_tenant_sees_its_own_jobs_and_nobody_elses(open_window: Open, studio: Studio, tenant: Tenant) -> None:
    own = await tenant.asked(prompt="a kite of our own")
    stranger = await studio.tenant()
    theirs = await stranger.asked(prompt="a kite of theirs")
    one = await open_window("/status/sign-in", session=None)
    await one.sign_in(tenant.key)
    await expect(one.page.get_by_role("banner")).to_contain_text(tenant.name)
    await one.open("/status/jobs")
    await expect(one.page.get_by_role("main")).to_contain_text("a kite of our own")
    await expect(one.page.get_by_role("main")).not_to_contain_text("a kite of theirs")
    await one.open(f"/status/jobs?q={theirs}")
    await expect(one.page.get_by_role("main")).not_to_contain_text("a kite of theirs")
    for page in ("/status", "/status/callbacks", "/status/deliveries"):
        await one.open(page)
        await expect(one.page.get_by_role("main")).not_to_contain_text(stranger.name)
    one.forgive_status(404)
    await one.open(f"/status/jobs/{theirs}")
    await expect(one.page.get_by_role("main")).not_to_contain_text("a kite of theirs")
    await one.open(f"/status/jobs/{own}")
    await expect(one.page.get_by_role("heading", level=1)).to_contain_text(own)
