"""Our secrets come back in no text of a provider's, and whatever is no text for people comes back as it was said."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from service import signing
from service.clock import ManualClock
from service.model import Report, Status, VideoRequest
from service.providers import Accepted, Callback, Refused
from service.providers.llmgateway import LLMGateway
from service.providers.openrouter import OpenRouter
from service.vault import Vault
from tests.providers.loopback import Loopback, a_job

PROVIDERS = ("openrouter", "llmgateway")
WORDS = ("k", "any", "e", "1", "video", "id", "data", '"', "status", "://", "complet", "\\")
LONG = "sk-canary/of+an=account"
URL = "https://files.example/any/video-1.mp4?sig=ek1%2F"
ID = "gen-any-video-k-1"
CLOCK = ManualClock(1_795_248_512_000)
VAULT = Vault([b"n" * 32])


def adapter(name: str, key: str, client: httpx.AsyncClient, url: str) -> OpenRouter | LLMGateway:
    if name == "openrouter":
        return OpenRouter(client, base_url=url, api_key=key, webhook_secrets=["whsec"], clock=CLOCK)
    return LLMGateway(client, base_url=url, api_key=key, vault=VAULT, clock=CLOCK)


def job(**more: object) -> dict[str, Any]:
    return {"id": ID, "status": "completed", "urls": [URL], "usage": {"cost": 1.1}, **more}


def told(name: str, job_id: str, data: dict[str, Any], end: str) -> Callback:
    kind = {"openrouter": "video.generation.", "llmgateway": "video."}[name] + end
    raw = json.dumps({"id": "evt_any", "type": kind, "data": data}).encode()
    if name == "openrouter":
        header = signing.sign_openrouter(signing.key_of("whsec"), raw, CLOCK.now())
        return Callback(job_id, {signing.OPENROUTER_SIGNATURE: header}, raw, CLOCK.now())
    key = signing.key_of(VAULT.callback_secret(job_id))
    return Callback(job_id, signing.sign_standard(key, "evt_any", raw, CLOCK.now()), raw, CLOCK.now())


@pytest.mark.parametrize("key", [*WORDS, ID, "completed", "urls", "https://"])
@pytest.mark.parametrize("name", PROVIDERS)
async def test_a_key_that_is_a_word_changes_no_job(
    client: httpx.AsyncClient, server: Loopback, name: str, key: str
) -> None:
    provider = adapter(name, key, client, server.url)
    ours = a_job(VideoRequest("m", "p", 4), name)
    server.will_answer(200, job())
    accepted = await provider.submit(ours, "https://us.example/callbacks/x/job_1/token")
    assert isinstance(accepted, Accepted)
    assert accepted.provider_job_id == ID
    server.will_answer(200, job())
    for report in (
        accepted.report, await provider.poll(ID), provider.receive(told(name, ours.id, job(), "completed"))
    ):  # fmt: skip
        assert isinstance(report, Report)
        assert (report.status, report.word, report.provider_job_id) == (Status.COMPLETED, "completed", ID)
        if name == "openrouter" and key != "https://":
            assert [output.url for output in report.outputs] == [URL]


@pytest.mark.parametrize("spell", [str, lambda key: json.dumps({"k": key}).replace("/", "\\/")])
@pytest.mark.parametrize("name", PROVIDERS)
async def test_a_key_comes_back_in_no_text_however_it_is_spelt(
    client: httpx.AsyncClient, server: Loopback, name: str, spell: Callable[[str], str]
) -> None:
    said = spell(LONG)
    error = {"message": said, "code": said, "type": "x", "details": {"message": said}}
    provider, ours = adapter(name, LONG, client, server.url), a_job(VideoRequest("m", "p", 4), name)
    server.will_answer(200, job(status="failed", error=error))
    failed = await provider.poll(ID)
    server.will_answer(200, job(status=f"half {said}", urls=[f"https://x.example/?key={LONG}"]))
    strange = await provider.poll(ID)
    assert isinstance(strange, Report)
    assert "[hidden]" in strange.word
    server.will_answer(400, {"error": {**error, "code": 400, "metadata": {"error_type": said}}})
    refused = await provider.submit(ours, "https://us.example/callbacks/x/job_1/token")
    assert isinstance(refused, Refused)
    server.will_answer(400, {"error": {"name": "ZodError", "issues": [{"path": [said], "message": said}]}})
    schema = await provider.submit(ours, "https://us.example/callbacks/x/job_1/token")
    event = provider.receive(told(name, ours.id, job(status="failed", error=error), "failed"))
    holds = provider.receive(told(name, ours.id, job(urls=[f"https://x.example/?key={LONG}"]), "completed"))
    assert isinstance(holds, Report)
    assert len(holds.outputs) == 1
    for each in (failed, strange, refused, schema, event, holds):
        assert LONG not in repr(each)
        assert "canary" not in repr(each)
    for told_of in (failed, event):
        assert isinstance(told_of, Report)
        assert told_of.error is not None
        assert "[hidden]" in str(told_of.error.provider_message)


@pytest.mark.parametrize("name", PROVIDERS)
async def test_a_model_is_listed_under_its_own_id(client: httpx.AsyncClient, server: Loopback, name: str) -> None:
    entry = {"id": "sandbox-model/any", "description": "for sandbox-model", "architecture": {}}
    entry["architecture"] = {"output_modalities": ["video"]}
    server.will_answer(200, {"data": [entry]})
    models = await adapter(name, "sandbox-model", client, server.url).models()
    assert isinstance(models, list)
    assert [(model.id, model.entry["id"], model.description) for model in models] == [
        ("sandbox-model/any", "sandbox-model/any", "for [hidden]")
    ]
