"""Makes the pictures of the README, of a service with a day behind it and some trouble in front of it.

python -m tests.pages.screenshots deploy/screenshots
"""

from __future__ import annotations

import asyncio
import io
import sys
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import httpx
from playwright.async_api import Page, expect

from tests.pages.scenery import set_scene
from tests.pages.studio import Studio, open_studio
from tests.pages.windows import PHONE, Window, browsing, window

_JOBS = 400
_SHOTS: Final = (  # file, page, size, dark
    ("overview.png", "overview", (1280, 960), False),
    ("job-dark.png", "job-of-the-past", (1280, 1220), True),
    ("failed-phone.png", "job-failed", PHONE, False),
)
_SETTLED = """Promise.all([
  document.fonts.ready,
  ...[...document.images].map((image) => image.decode().catch(() => null)),
  ...[...document.querySelectorAll("video")].map((video) => new Promise((then) => {
    const look = () => (video.error || video.readyState === 4) && then();
    for (const event of ["canplaythrough", "error"]) video.addEventListener(event, look);
    video.preload = "auto";
    look();
  })),
])"""


async def take(page: Page, *, whole: bool = False) -> bytes:
    """Return a picture of what a page shows (`whole`: all of it), with everything there and nothing moving, as PNG."""
    await expect(page.get_by_text("connecting", exact=True)).to_have_count(0)
    await page.evaluate(_SETTLED)
    return await page.screenshot(full_page=whole, animations="disabled", caret="hide")


def squeezed(picture: bytes) -> bytes:
    """Return the same picture in fewer bytes: what is flat needs no filter."""
    with av.open(io.BytesIO(picture), "r") as container:
        frame = next(container.decode(video=0)).reformat(format="rgb24")
    writer = av.CodecContext.create("png", "w")
    writer.width, writer.height, writer.pix_fmt, writer.time_base = frame.width, frame.height, "rgb24", Fraction(1)
    writer.options = {"compression_level": "9", "pred": "none"}
    frame.pts = 0
    return b"".join(bytes(packet) for packet in [*writer.encode(frame), *writer.encode(None)])


async def _sign_in(one: Window, studio: Studio) -> None:
    await one.open("/status/sign-in")
    await one.sign_in(studio.operator_key)
    await expect(one.page).to_have_url(f"{studio.url}/status")


async def _of_the_past(studio: Studio) -> str:
    """Return the page of a job that was done before we came, and whose caller was told at the second attempt."""
    headers = {"authorization": f"Bearer {studio.operator_key}"}
    async with httpx.AsyncClient(base_url=studio.url, headers=headers, trust_env=False) as client:
        wanted = {"tenant": "studio", "state": "completed", "model": "google/veo-3.1", "limit": "100"}
        jobs = (await client.get("/v1/jobs", params=wanted)).json()["data"]
        for job in jobs:
            [delivery] = (await client.get(f"/v1/jobs/{job['id']}/deliveries")).json()["data"]
            if len(delivery["attempts"]) > 1:
                return f"/status/jobs/{job['id']}"
    raise LookupError("no caller was told at the second attempt; choose another seed of the past")


async def main(folder: Path) -> None:
    """Make all of them in `folder`, which is there."""
    with tempfile.TemporaryDirectory() as scratch:
        async with open_studio(Path(scratch), past_jobs=_JOBS) as studio, browsing() as browser:
            places = await set_scene(studio) | {"job-of-the-past": await _of_the_past(studio)}
            for name, place, size, dark in _SHOTS:
                async with window(browser, studio.url, size=size, dark=dark, still=True) as one:
                    await _sign_in(one, studio)
                    await one.open(places[place])
                    if "job" in place:
                        await one.evaluate("paused()")
                    picture = squeezed(await take(one.page))
                (folder / name).write_bytes(picture)
                sys.stdout.write(f"{folder / name}  {len(picture)} bytes\n")


if __name__ == "__main__":
    pictures = Path(sys.argv[1])
    pictures.mkdir(parents=True, exist_ok=True)
    asyncio.run(main(pictures))
