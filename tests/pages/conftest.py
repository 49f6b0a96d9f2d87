"""One browser and one service for all tests of the pages, which have one event loop; windows are each test's own."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, StorageState

from tests.pages.scenery import set_scene
from tests.pages.studio import Studio, Tenant, open_studio
from tests.pages.windows import Window, browsing, window

_PAST = 60  # jobs
_HERE = Path(__file__).parent
Open = Callable[..., Awaitable[Window]]
"""Opens a window with what `windows.window` takes, signed in with the operator's key unless told otherwise."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _HERE in item.path.parents and inspect.iscoroutinefunction(getattr(item, "function", None)):
            item.add_marker(pytest.mark.asyncio(loop_scope="package"), append=False)


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def browser() -> AsyncIterator[Browser]:
    async with browsing() as browser:
        yield browser


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def studio(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Studio]:
    async with open_studio(tmp_path_factory.mktemp("studio"), past_jobs=_PAST) as studio:
        yield studio


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def session(browser: Browser, studio: Studio) -> StorageState:
    """Return what the operator's browser keeps of signing in."""
    async with window(browser, studio.url) as first:
        await first.open("/status/sign-in")
        await first.sign_in(studio.operator_key)
        await first.page.wait_for_url("**/status")
        return await first.context.storage_state()


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def scene(studio: Studio) -> dict[str, str]:
    """Return the path of every page with something on it, by a name for it."""
    return await set_scene(studio)


@pytest_asyncio.fixture(loop_scope="package")
async def tenant(studio: Studio) -> Tenant:
    return await studio.tenant()


@pytest_asyncio.fixture(loop_scope="package")
async def open_window(browser: Browser, studio: Studio, session: StorageState) -> AsyncIterator[Open]:
    async with contextlib.AsyncExitStack() as stack:

        async def opened(path: str = "", **more: object) -> Window:
            one = await stack.enter_async_context(window(browser, studio.url, **{"session": session, **more}))  # type: ignore[arg-type]
            if path:
                await one.open(path)
            return one

        yield opened


@pytest_asyncio.fixture(loop_scope="package")
async def view(open_window: Open) -> Window:
    """Return a window of the operator's, wide and light."""
    return await open_window()
