"""How the pages look: legible, within the screen, in light and in dark, on a desk and on a phone; pictures are kept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.pages.conftest import Open
from tests.pages.screenshots import take
from tests.pages.windows import PHONE, WIDE


@pytest.fixture(scope="package")
def pictures() -> Path:
    """Return where the pictures of the last run stay."""
    root = Path(__file__).parents[2]
    folder = Path(os.environ.get("REELKEEPER_TEST_SCREENSHOTS", root / "var" / "screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
async def test_every_page_is_legible_and_no_wider_than_the_screen(
    open_window: Open, scene: dict[str, str], pictures: Path, size: tuple[int, int], scheme: str
) -> None:
    view = await open_window(size=size, dark=scheme == "dark")
    stranger = await open_window(size=size, dark=scheme == "dark", session=None)
    view.forgive_status(404)
    found = []
    for name, path in scene.items():
        one = stranger if name == "sign-in" else view
        await one.open(path)
        await expect(one.page.get_by_role("heading", level=1)).to_have_count(1)
        picture = await take(one.page, whole=True)
        (pictures / f"{name}-{scheme}-{size[0]}.png").write_bytes(picture)
        found += [f"{name}: {each}" for each in await one.poorly_legible()]
        if not await one.is_as_wide_as_the_screen():
            found.append(f"{name}: wider than the screen: {await one.too_wide()}")
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
