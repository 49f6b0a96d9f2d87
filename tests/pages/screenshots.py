"""Makes the pictures of the README, of a service with a day behind it and some trouble in front of it.

python -m tests.pages.screenshots deploy/screenshots
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Final

from playwright.async_api import Page, expect

from tests.pages.scenery import set_scene
from tests.pages.studio import Studio, open_studio
from tests.pages.windows import PHONE, Window, browsing, window

_JOBS = 400
_SHOTS: Final = (  # file, page, size, dark
    ("overview.png", "overview", (1280, 960), False),
    ("job-dark.png", "job-completed", (1280, 1100), True),
    ("jobs-phone.png", "jobs", PHONE, False),
)
_SETTLED = """Promise.all([
  document.fonts.ready,
  ...[...document.images].map((image) => image.decode().catch(() => null)),
  ...[...document.querySelectorAll("video")].map((video) => video.readyState >= 2 || new Promise((then) => {
    video.addEventListener("loadeddata", then);
    video.addEventListener("error", then);
    video.preload = "auto";
  })),
])"""


async def take(page: Page, path: Path, *, whole: bool = False) -> None:
    """Keep a picture of what a page shows (`whole`: all of it), in which nothing moves, and the video is there."""
    await page.evaluate(_SETTLED)
    await page.screenshot(path=path, full_page=whole, animations="disabled", caret="hide")


async def sign_in(one: Window, studio: Studio) -> None:
    """Sign in as an operator."""
    await one.open("/status/sign-in")
    await one.sign_in(studio.operator_key)
    await expect(one.page).to_have_url(f"{studio.url}/status")


async def main(folder: Path) -> None:
    """Make all of them in `folder`, which is there."""
    with tempfile.TemporaryDirectory() as scratch:
        async with open_studio(Path(scratch), past_jobs=_JOBS) as studio, browsing() as browser:
            places = await set_scene(studio)
            for name, place, size, dark in _SHOTS:
                async with window(browser, studio.url, size=size, dark=dark, still=True) as one:
                    await sign_in(one, studio)
                    await one.open(places[place])
                    await take(one.page, folder / name)
                sys.stdout.write(f"{folder / name}  {(folder / name).stat().st_size} bytes\n")


if __name__ == "__main__":
    pictures = Path(sys.argv[1])
    pictures.mkdir(parents=True, exist_ok=True)
    asyncio.run(main(pictures))
