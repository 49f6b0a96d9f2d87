"""A world for every story."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.providers.llmgateway import LLMGateway
from service.providers.openrouter import OpenRouter
from tests.story.world import World, open_world


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody wait long for an answer that never comes: sockets are the only thing here that takes real time."""
    for provider in (OpenRouter, LLMGateway):
        monkeypatch.setattr(provider, "submit_seconds", 0.25)


@pytest.fixture(params=["openrouter", "llmgateway"])
def provider(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as world:
        yield world
