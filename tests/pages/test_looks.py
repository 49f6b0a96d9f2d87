"""How the pages look: legible, within the screen, in light and in dark, on a desk and on a phone; pictures are kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, Literal

import pytest
from playwright.async_api import expect

from tests.pages.conftest import Open
from tests.pages.scenery import PAGES
from tests.pages.screenshots import take
from tests.pages.windows import PHONE, WIDE

SCHEMES: Final[tuple[Literal["light", "dark"], ...]] = ("light", "dark")


@pytest.fixture(scope="package")
def pictures() -> Path:
    """Return where the pictures of the last run stay."""
    root = Path(__file__).parents[2]
    folder = Path(os.environ.get("REELKEEPER_TEST_SCREENSHOTS", root / "var" / "screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.mark.parametrize("name", PAGES)
async def test_a_page_is_legible_and_no_wider_than_the_screen(
    open_window: Open, scene: dict[str, str], pictures: Path, name: str
) -> None:
    one = await open_window(still=True, **({"session": None} if name == "sign-in" else {}))
    one.forgive_status(404)
    await one.open(scene[name])
    await expect(one.page.get_by_role("heading", level=1)).to_have_count(1)
    found = []
    for width, height in (WIDE, PHONE):
        await one.page.set_viewport_size({"width": width, "height": height})
        for scheme in SCHEMES:
            await one.page.emulate_media(color_scheme=scheme)
            picture = await take(one.page, whole=True)
            (pictures / f"{name}-{scheme}-{width}.png").write_bytes(picture)
        if not await one.is_as_wide_as_the_screen():
            found.append(f"{width}: wider than the screen: {await one.too_wide()}")
    for scheme in SCHEMES:
        await one.page.emulate_media(color_scheme=scheme)
        found += [f"{scheme}: {each}" for each in await one.poorly_legible()]
    assert found == []


async def test_the_colours_are_those_that_the_reader_prefers(open_window: Open) -> None:
    brightness = []
    for dark in (False, True):
        one = await open_window("/status", dark=dark)
        brightness.append(await one.evaluate("luminance(background(document.body))"))
    assert brightness[0] > 0.8
    assert brightness[1] < 0.05


async def test_nothing_moves_for_who_wants_it_still(open_window: Open, scene: dict[str, str]) -> None:
    for still, moving in ((True, 0), (False, 1)):
        one = await open_window(scene["overview"], still=still)
        await expect(one.page.get_by_text("live", exact=True)).to_be_visible()
        lasting = await one.evaluate("document.getAnimations().filter((each) => each.playState == 'running').length")
        assert lasting >= moving if moving else lasting == 0


async def test_a_state_is_told_by_its_word_and_not_by_its_colour_alone(open_window: Open) -> None:
    one = await open_window("/status/jobs")
    words = set(await one.page.locator("tbody .state").all_inner_texts())
    assert words <= {"queued", "submitting", "running", "mirroring", "completed", "failed", "cancelled", "expired"}
    assert {"completed", "failed"} <= words
