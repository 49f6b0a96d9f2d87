"""A scripted server and a client for it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.providers.loopback import Loopback, listening


@pytest.fixture
async def server() -> AsyncIterator[Loopback]:
    async with listening() as loopback:
        yield loopback


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
        yield client
