"""What went wrong between us and others: callbacks that nobody believed, and receivers that take nothing."""

from __future__ import annotations

from playwright.async_api import expect

from tests.pages.scenery import unsigned_callback
from tests.pages.studio import Studio, Tenant
from tests.pages.windows import Window


async def test_a_rejected_callback_is_shown_with_its_reason_while_we_look(
    view: Window, studio: Studio, tenant: Tenant
) -> None:
    job_id = await tenant.asked()
    await unsigned_callback(studio, job_id)
    await view.open("/status/callbacks")
    main = view.page.get_by_role("main")
    await expect(main).to_contain_text("missing_header")
    await expect(main.get_by_role("link", name=job_id).first).to_be_visible()
    later = await tenant.asked()
    await unsigned_callback(studio, later)
    await expect(main.get_by_role("link", name=later).first).to_be_visible()
    await view.page.get_by_label("Job", exact=True).fill(job_id)
    await view.page.get_by_role("button", name="Show").click()
    await expect(main.get_by_role("link", name=job_id).first).to_be_visible()
    await expect(main.get_by_role("link", name=later)).to_have_count(0)


async def test_all_messages_that_a_receiver_did_not_take_are_sent_again_at_once(
    view: Window, studio: Studio, tenant: Tenant
) -> None:
    with studio.receiver_gone():
        jobs = [await tenant.asked(notify_url=studio.receiver.url) for _ in range(3)]
        for job_id in jobs:
            await tenant.until_given_up(job_id)
    await view.open("/status/deliveries")
    row = view.page.get_by_role("row").filter(has_text=tenant.name)
    await expect(row).to_contain_text("410")
    await row.get_by_role("button", name="Send all again").click()
    asking = view.page.get_by_role("dialog").filter(has_text="3 messages")
    await expect(asking).to_be_visible()
    assert [len(studio.receiver.about(job_id)) for job_id in jobs] == [1, 1, 1]
    await asking.get_by_role("button", name="Send all again").click()
    await expect(view.page.get_by_role("status").filter(has_text="3")).to_be_visible()
    await expect(view.page.get_by_role("row").filter(has_text=tenant.name)).to_have_count(0)
    for job_id in jobs:
        assert [told.state for told in studio.receiver.about(job_id)] == ["completed", "completed"]
        assert [each["state"] for each in await tenant.deliveries(job_id)] == ["delivered"]
