"""Debian's Chromium, and windows of it that tell what went wrong in them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Dialog,
    Page,
    Request,
    StorageState,
    async_playwright,
    expect,
)

from tests.servers import find_program

# Nothing of the browser's own goes anywhere, and no name but loopback's is looked up.
_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
_WATCH_CSP = """
document.addEventListener("securitypolicyviolation", (it) =>
  console.error(`the policy forbids ${it.violatedDirective}: ${it.blockedURI} ${it.sample}`));
"""
_CUT_OFF = r"Failed to load resource: net::ERR_(CONNECTION_REFUSED|CONNECTION_RESET|INCOMPLETE_CHUNKED_ENCODING)"
_LOOKS = Path(__file__).with_name("looks.js").read_text(encoding="utf-8")

WIDE, PHONE = (1280, 900), (390, 844)  # CSS pixels

_PATIENCE = 60_000  # ms; the processors may have other things to do
expect.set_options(timeout=_PATIENCE)


class Window:
    """One page in a browser that has no memory of others.

    `troubles` are errors on its console, exceptions of its scripts, what its policy forbade, dialogs, and requests that
    left this machine.
    """

    def __init__(self, context: BrowserContext, page: Page, url: str) -> None:
        self.context = context
        self.page = page
        self.url = url
        self.troubles: list[str] = []
        self._forgiven: list[str] = []
        context.on("request", self._asked)
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.troubles.append(f"a script broke: {error}"))
        page.on("dialog", self._asked_back)

    async def open(self, path: str) -> None:
        """Go to a page of the service."""
        await self.page.goto(self.url + path)

    async def sign_in(self, key: str) -> None:
        """Type a key where one is asked for."""
        await self.page.get_by_label("Key").fill(key)
        await self.page.get_by_role("button", name="Sign in").click()

    def forgive(self, pattern: str) -> None:
        """Let a trouble pass that the test makes on purpose."""
        self._forgiven.append(pattern)

    def forgive_status(self, status: int) -> None:
        """Let an answer pass with which the browser finds fault."""
        self.forgive(f"the server responded with a status of {status} ")

    def forgive_cut_off(self) -> None:
        """Let it pass that the service is away."""
        self.forgive(_CUT_OFF)

    async def is_as_wide_as_the_screen(self) -> bool:
        """Tell whether the whole page can be read without moving it sideways."""
        wide: int = await self.page.evaluate("document.scrollingElement.scrollWidth - innerWidth")
        return wide <= 0

    async def too_wide(self) -> list[str]:
        """Return what reaches over the edge of the screen."""
        found: list[str] = await self.evaluate("tooWide()")
        return found

    async def poorly_legible(self) -> list[str]:
        """Return each text whose contrast is below WCAG's AA, with its colours."""
        found: list[str] = await self.evaluate("poorlyLegible()")
        return found

    async def evaluate(self, expression: str) -> Any:  # noqa: ANN401 - whatever it is in the page
        """Return the value of an expression that may use what is in `looks.js`."""
        return await self.page.evaluate(f"(() => {{ {_LOOKS}\nreturn {expression} }})()")

    def _asked(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in {"data", "blob", "about"} and parts.hostname != "127.0.0.1":
            self.troubles.append(f"asked another host: {request.url}")

    async def _asked_back(self, dialog: Dialog) -> None:
        self.troubles.append(f"a dialog opened: {dialog.message}")
        await dialog.dismiss()

    def _said(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not any(re.search(each, message.text) for each in self._forgiven):
            self.troubles.append(f"on the console: {message.text} ({message.location.get('url')})")


@contextlib.asynccontextmanager
async def browsing() -> AsyncIterator[Browser]:
    """Run Chromium, without a screen, while the block lasts."""
    program = find_program("chromium", "apt-get install chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=_ARGUMENTS)
        try:
            yield browser
        finally:
            await browser.close()


@contextlib.asynccontextmanager
async def window(
    browser: Browser,
    url: str,
    *,
    session: StorageState | None = None,
    size: tuple[int, int] = WIDE,
    dark: bool = False,
    still: bool = False,
    scripts: bool = True,
) -> AsyncIterator[Window]:
    """Open a window onto the service at `url`; when it is closed, everything must have gone well in it.

    `session` is what a window that signed in has kept, `still` readers want nothing to move, and without `scripts`
    none runs.
    """
    context = await browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if dark else "light",
        reduced_motion="reduce" if still else "no-preference",
        java_script_enabled=scripts,
        has_touch=size == PHONE,
        service_workers="block",
        storage_state=session,
    )
    try:
        context.set_default_timeout(_PATIENCE)
        if scripts:
            await context.add_init_script(_WATCH_CSP)
        opened = Window(context, await context.new_page(), url)
        yield opened
        assert not opened.troubles, "\n".join(opened.troubles)
    finally:
        await context.close()
