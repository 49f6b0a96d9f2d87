"""Where is this job? Found by its id, by words of its prompt, by filters, and page by page."""

from __future__ import annotations

import pytest
from playwright.async_api import Locator, expect

from tests.pages.conftest import Open
from tests.pages.studio import Tenant
from tests.pages.windows import Window


def rows(view: Window) -> Locator:
    return view.page.get_by_role("table").get_by_role("row").filter(has=view.page.get_by_role("cell"))


async def find(view: Window, words: str) -> None:
    await view.page.get_by_label("Words or ids").fill(words)
    await view.page.get_by_role("button", name="Find").click()


@pytest.mark.parametrize("what", ["id", "beginning of the id", "provider's id", "prompt", "model", "metadata"])
async def test_a_job_is_found(view: Window, tenant: Tenant, what: str) -> None:
    job_id = await tenant.asked(
        "webm", prompt=f"an umbrella called {tenant.name}xyz", metadata={"order": f"order{tenant.name}"}
    )
    await tenant.asked(prompt="something else")
    provider_job_id = (await tenant.job(job_id))["provider_job_id"]
    words = {
        "id": job_id,
        "beginning of the id": job_id[:24],
        "provider's id": provider_job_id,
        "prompt": f"umbrella {tenant.name}xy",
        "model": f"webm {tenant.name}xyz",
        "metadata": f"order{tenant.name}",
    }[what]
    await view.open("/status/jobs")
    await find(view, words)
    await expect(rows(view)).to_have_count(1)
    await rows(view).get_by_role("link", name=job_id).click()
    await expect(view.page).to_have_url(f"{view.url}/status/jobs/{job_id}")
    await expect(view.page.get_by_role("main")).to_contain_text(provider_job_id)


async def test_what_is_not_there_is_told(view: Window) -> None:
    await view.open("/status/jobs")
    await find(view, "zyzzyva unheard-of")
    await expect(view.page.get_by_role("main")).to_contain_text("No job fits")


async def test_jobs_are_narrowed_by_filters_that_stand_in_the_address(view: Window, tenant: Tenant) -> None:
    failed = await tenant.asked("fails", ends="failed", provider="llmgateway")
    moderated = await tenant.asked("fails-moderation", ends="failed")
    await tenant.asked()
    await view.open(f"/status/jobs?tenant={tenant.name}")
    await expect(rows(view)).to_have_count(3)
    await view.page.get_by_label("State", exact=True).select_option("failed")
    await view.page.get_by_role("button", name="Find").click()
    await expect(rows(view)).to_have_count(2)
    await view.page.get_by_label("Provider", exact=True).select_option("llmgateway")
    await view.page.get_by_role("button", name="Find").click()
    await expect(rows(view)).to_have_count(1)
    await expect(rows(view).get_by_role("link", name=failed)).to_be_visible()
    address = view.page.url
    assert "state=failed" in address
    assert "provider=llmgateway" in address
    await view.page.get_by_role("link", name="Remove the filter Provider").click()
    await expect(rows(view)).to_have_count(2)
    await view.page.goto(address)
    await expect(rows(view)).to_have_count(1)
    await view.open(f"/status/jobs?tenant={tenant.name}&error=content_policy")
    await expect(rows(view)).to_have_count(1)
    await expect(rows(view).get_by_role("link", name=moderated)).to_be_visible()


async def test_a_filter_that_means_nothing_is_told_where_it_stands(view: Window) -> None:
    await view.open("/status/jobs?created_after=yesterday")
    await expect(view.page.get_by_label("Created since (UTC)")).to_have_attribute("aria-invalid", "true")
    await expect(view.page.get_by_label("Created since (UTC)")).to_be_visible()


async def test_the_table_has_pages(open_window: Open, tenant: Tenant) -> None:
    body = {"provider": "openrouter", "model": "sandbox/refused-400", "prompt": "one of many", "duration": 4}
    for _ in range(2):
        answer = await tenant.http.post("/v1/jobs/batch", json={"jobs": [body] * 60})
        assert answer.is_success
    view = await open_window(f"/status/jobs?tenant={tenant.name}")
    seen: list[str] = []
    for count in (50, 50, 20):
        await expect(rows(view)).to_have_count(count)
        links = rows(view).get_by_role("link")
        seen += [each or "" for each in await links.evaluate_all("(links) => links.map((link) => link.title)")]
        older = view.page.get_by_role("link", name="Older")
        if count == 50:
            await older.click()
    await expect(older).to_have_count(0)
    assert len(set(seen)) == 120
    assert seen == sorted(seen, reverse=True)
    await view.page.get_by_role("link", name="Newer").click()
    await expect(rows(view)).to_have_count(50)
    await view.page.get_by_role("link", name="Newer").click()
    await expect(rows(view).first.get_by_role("link")).to_have_attribute("title", seen[0])
