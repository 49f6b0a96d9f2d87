"""The tests' own eyes: a window tells what goes wrong in it, and the looks are measured rightly."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser

from tests.pages.windows import PHONE, WIDE, Window, window
from tests.servers import answer, loopback

_PAGE = "<!doctype html><html lang=en><title>a page</title><body>"
_POLICY = "Content-Security-Policy: default-src 'none'; img-src http:"


@contextlib.asynccontextmanager
async def _showing(browser: Browser, body: str, *headers: str, size: tuple[int, int] = WIDE) -> AsyncIterator[Window]:
    page = answer((_PAGE + body).encode(), "Content-Type: text/html", *headers)
    async with loopback(page) as server, window(browser, server.url(""), size=size) as one:
        await one.open("/")
        yield one


@pytest.mark.parametrize(
    ("body", "trouble"),
    [
        ("<script>throw new Error('no')</script>", "a script broke: no"),
        ("<script>console.error('no')</script>", "on the console: no"),
        ("<script>alert(1)</script>", "a dialog opened: 1"),
        ("<img src='http://example.com/1.png'>", "asked another host: http://example.com/1.png"),
        ("<img src='http://10.0.0.1/1.png'>", "asked another host: http://10.0.0.1/1.png"),
        ("<p style='color: red'>red</p>", "the policy forbids style-src-attr"),
    ],
)
async def test_what_goes_wrong_in_a_page_is_told(browser: Browser, body: str, trouble: str) -> None:
    policy = [_POLICY] if "policy" in trouble else []

    async def look() -> None:
        async with _showing(browser, body, *policy) as one:
            await one.page.wait_for_load_state("networkidle")

    with pytest.raises(AssertionError, match=re.escape(trouble)):
        await look()


async def test_contrast_is_measured_as_wcag_does(browser: Browser) -> None:
    body = (
        "<p style='color: #777; background: #fff'>grey</p>"  # 4.48
        "<p style='color: #767676; background: #fff'>less grey</p>"  # 4.54
        "<p style='color: #949494; background: #fff; font-size: 24px'>large</p>"  # 3.03
        "<div style='background: #000'><p style='color: #fff; opacity: 0.4'>faint</p></div>"
        "<p style='color: #000; background: rgb(0 0 0 / 80%)'>under a veil</p>"
        "<p style='color: #eee; display: none'>not there</p>"
        "<details><summary>more</summary><p style='color: #999; background: #fff'>folded</p></details>"
        "<div popover style='color: #aaa; background: #fff'>asked</div>"
    )
    async with _showing(browser, body) as one:
        found = await one.poorly_legible()
    assert [each.split('"')[1] for each in found] == ["grey", "faint", "under a veil", "folded", "asked"]
    assert found[0].startswith("4.48")


async def test_a_page_that_is_wider_than_the_screen_is_found(browser: Browser) -> None:
    for wide, fits in ((390, True), (391, False)):
        body = f"<meta name=viewport content='width=device-width'><p style='width: {wide}px; margin: 0 -8px'>wide</p>"
        async with _showing(browser, body, size=PHONE) as one:
            assert await one.is_as_wide_as_the_screen() is fits
            assert bool(await one.too_wide()) is not fits
