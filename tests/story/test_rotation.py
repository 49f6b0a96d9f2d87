"""Secrets are changed while jobs are in flight: nothing is lost, and what was dropped too early is said."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service import signing
from service.errors import BadSignatureError
from service.model import DeliveryState, State
from service.vault import Vault
from tests.receiver import Receiver
from tests.story.world import TENANT, WEBHOOK_SECRET, World, open_world

OLD, NEW, OTHER = bytes(range(32)).hex(), bytes(range(32, 64)).hex(), bytes(range(64, 96)).hex()


def believes(backend: Receiver, key: bytes, at: int) -> bool:
    """Tell whether the last message was signed with the key."""
    last = backend.told[-1]
    try:
        signing.verify_standard([key], last.headers, last.body, at)
    except BadSignatureError:
        return False
    return True


@pytest.fixture
async def backend() -> AsyncIterator[Receiver]:
    backend = Receiver()
    async with backend.running():
        yield backend


@pytest.fixture
async def world(tmp_path: Path, backend: Receiver) -> AsyncIterator[World]:
    async with open_world(tmp_path, settings={"REELKEEPER_SECRET_KEY": OLD}) as world:
        await again(world, REELKEEPER_SECRET_KEY=OLD, **allowed(world, backend))
        yield world


def allowed(world: World, backend: Receiver) -> dict[str, str]:
    hosts = f"localhost:{httpx.URL(world.sandbox.base_url).port},{backend.host}"
    return {"REELKEEPER_ALLOWED_PRIVATE_HOSTS": hosts}


async def again(world: World, **settings: str) -> None:
    """Restart the service with other settings."""
    await world.crash()
    world._settings = {**world._settings, **settings}
    await world.start()


def said(world: World, event: str) -> list[dict[str, Any]]:
    return [dict(call.kwargs) for call in world.logged.calls if call.kwargs["event"] == event]


async def in_every_state(world: World, provider: str, notify_url: str) -> dict[str, str]:
    """Bring a job into every state in which it can be for a while; return their ids by the state."""
    asked = {"notify_url": notify_url}
    jobs = {"mirroring": await world.ask(provider, "ok", **asked)}
    await world.until(jobs["mirroring"], State.MIRRORING)
    world.callbacks_arrive = False
    jobs["submitting"] = await world.ask(provider, "accepted-then-502", **asked)
    jobs["running"] = await world.ask(provider, "ok", **asked)
    await world.run("submit")
    jobs["queued"] = await world.ask(provider, "ok", **asked)
    assert {state: (await world.job(job_id)).state for state, job_id in jobs.items()} == {each: each for each in jobs}
    return jobs


async def test_jobs_in_every_state_go_on_through_a_rotation_of_the_secret_key(
    world: World, backend: Receiver, provider: str
) -> None:
    jobs = await in_every_state(world, provider, backend.url)
    await again(world, REELKEEPER_SECRET_KEY=f"{NEW},{OLD}")
    assert said(world, "serve.key_missing") == []
    world.callbacks_arrive = True
    await world.settle(*jobs.values())
    await world.run("notify")
    assert await world.told_by(jobs["submitting"]) == "callback"  # nothing else could adopt it
    for job_id in jobs.values():
        assert (await world.job(job_id)).state == "completed", await world.tell(job_id)
        assert [delivery.state for delivery, _ in await world.service.records.deliveries.of(job_id)] == ["delivered"]
    for made in world.sandbox.ledger.jobs():
        assert [sent.status for sent in made.callbacks] == [204]
    assert {told.job_id for told in backend.told} == set(jobs.values())


async def test_what_was_made_before_a_rotation_ends_before_the_old_key_is_dropped_and_what_is_new_needs_it_not(
    world: World, provider: str
) -> None:
    await again(world, REELKEEPER_SECRET_KEY=f"{NEW},{OLD}")
    job_id = await world.ask(provider, "ok")
    await world.run("submit")
    await again(world, REELKEEPER_SECRET_KEY=NEW)
    assert said(world, "serve.key_missing") == []
    await world.settle(job_id)
    assert (await world.told_by(job_id), (await world.job(job_id)).state) == ("callback", "completed")


async def test_a_key_that_was_dropped_too_early_is_said_and_polls_end_the_jobs(world: World, provider: str) -> None:
    job_id = await world.ask(provider, "ok")
    await world.run("submit")
    await again(world, REELKEEPER_SECRET_KEY=NEW)
    [missing] = said(world, "serve.key_missing")
    assert missing["jobs"] == 1
    assert "Write it at the end of the list again, for example new-key,old-key" in missing["advice"]
    await world.settle(job_id)
    assert (await world.told_by(job_id), (await world.job(job_id)).state) == ("poll", "completed")
    [made] = world.made(job_id)
    assert {sent.status for sent in made.callbacks} == {404}


async def test_a_submission_in_doubt_without_its_key_is_given_up_and_kept_when_the_key_is_back(
    world: World, provider: str
) -> None:
    world.callbacks_arrive = False
    job_id = await world.ask(provider, "accepted-then-502")
    await world.run("submit")
    await again(world, REELKEEPER_SECRET_KEY=NEW)
    assert [each["jobs"] for each in said(world, "serve.key_missing")] == [1]
    await world.settle(job_id)
    job = await world.job(job_id)
    assert job.error is not None
    assert job.error.code == "submission_unknown"
    await again(world, REELKEEPER_SECRET_KEY=f"{NEW},{OLD}")
    world.callbacks_arrive = True
    await world.until(job_id, State.COMPLETED)
    assert len(world.made(job_id)) == 1


async def test_a_secret_key_that_is_lost_altogether_costs_callbacks_and_no_job(world: World, provider: str) -> None:
    """Callbacks of what was submitted are rejected; everything else goes on, and new jobs know nothing of it."""
    lost = await world.ask(provider, "ok")
    await world.run("submit")
    queued = await world.ask(provider, "ok")
    await again(world, REELKEEPER_SECRET_KEY=OTHER)
    assert [each["jobs"] for each in said(world, "serve.key_missing")] == [1]
    new = await world.ask(provider, "ok")
    await world.settle(lost, queued, new)
    assert {(await world.job(each)).state for each in (lost, queued, new)} == {State.COMPLETED}
    assert [await world.told_by(each) for each in (lost, queued, new)] == ["poll", "callback", "callback"]
    await again(world, REELKEEPER_SECRET_KEY=OTHER)
    assert len(said(world, "serve.key_missing")) == 1  # not again: there is nothing left to wait for


async def test_a_rotation_back_is_a_rotation(world: World) -> None:
    for keys in (f"{NEW},{OLD}", f"{OLD},{NEW}", f"{NEW},{OLD}"):
        await again(world, REELKEEPER_SECRET_KEY=keys)
        job_id = await world.ask("llmgateway", "ok")
        await world.run("submit")
        world.clock.advance(1)
    await again(world, REELKEEPER_SECRET_KEY=NEW)
    assert [each["jobs"] for each in said(world, "serve.key_missing")] == [1]
    await world.settle(job_id)


async def test_receivers_verify_with_either_secret_while_the_key_is_rotated(world: World, backend: Receiver) -> None:
    job_id = await world.ask("openrouter", "ok", notify_url=backend.url)
    await again(world, REELKEEPER_SECRET_KEY=f"{NEW},{OLD}")
    await world.settle(job_id)
    await world.run("notify")
    [told] = backend.told
    secrets = [Vault([bytes.fromhex(key)]).delivery_secrets(TENANT)[0] for key in (OLD, NEW, OTHER)]
    keys = [base64.b64decode(secret.removeprefix("whsec_")) for secret in secrets]
    assert [believes(backend, key, world.clock.now()) for key in keys] == [True, True, False]
    assert json.loads(told.body)["type"] == "job.completed"
    assert len(told.headers["webhook-signature"].split()) == 2


async def test_a_callers_own_secret_opens_after_a_rotation_and_waits_for_a_key_that_was_dropped_too_early(
    world: World, backend: Receiver
) -> None:
    asked = {
        "model": "sandbox/ok",
        "prompt": "a red kite",
        "seconds": "4",
        "callback_url": backend.url,
        "callback_secret": "the-callers-own",
    }
    jobs = [str((await world.http.post("/v1/videos", json=asked)).json()["id"]) for _ in range(2)]
    await again(world, REELKEEPER_SECRET_KEY=f"{NEW},{OLD}")
    await world.settle(jobs[0])
    await world.run("notify")
    assert believes(backend, b"the-callers-own", world.clock.now())

    backend.told.clear()
    await world.service.records.deliveries.redeliver(jobs[1])
    await again(world, REELKEEPER_SECRET_KEY=NEW)
    await world.service.records.deliveries.redeliver(jobs[1])
    await world.run("notify")
    [(delivery, attempts)] = await world.service.records.deliveries.of(jobs[1])
    assert (delivery.state, backend.told) == (DeliveryState.PENDING, [])
    assert "write that key at the end of the list again" in str(attempts[-1].error)

    await again(world, REELKEEPER_SECRET_KEY=f"{NEW},{OLD}")
    assert delivery.due_at is not None
    world.clock.advance(max(0, delivery.due_at - world.clock.now()))
    await world.run("notify")
    assert believes(backend, b"the-callers-own", world.clock.now())


@pytest.mark.parametrize(
    "secrets", [f"the-new-one,{WEBHOOK_SECRET}", f"{WEBHOOK_SECRET},the-new-one", f"a, b ,{WEBHOOK_SECRET}"]
)
async def test_a_webhook_secret_is_rotated_as_a_list_in_any_order(world: World, secrets: str) -> None:
    job_id = await world.ask("openrouter", "ok")
    await world.run("submit")
    await again(world, OPENROUTER_WEBHOOK_SECRET=secrets)
    await world.settle(job_id)
    assert await world.told_by(job_id) == "callback"


async def test_callbacks_are_rejected_while_a_webhook_secret_that_was_replaced_too_early_is_not_back(
    world: World,
) -> None:
    job_id, later = await world.ask("openrouter", "ok"), await world.ask("openrouter", "ok")
    await world.run("submit")
    await again(world, OPENROUTER_WEBHOOK_SECRET="the-new-one")
    await world.settle(job_id, later)
    assert [await world.told_by(each) for each in (job_id, later)] == ["poll", "poll"]
    assert {sent.status for made in world.made(job_id) for sent in made.callbacks} == {401}
    await again(world, OPENROUTER_WEBHOOK_SECRET=f"the-new-one,{WEBHOOK_SECRET}")
    last = await world.ask("openrouter", "ok")
    await world.settle(last)
    assert await world.told_by(last) == "callback"


async def test_a_providers_key_is_changed_while_jobs_run(world: World, provider: str) -> None:
    world.callbacks_arrive = False
    running = await world.ask(provider, "ok")
    mirroring = await world.ask(provider, "ok")
    await world.run("submit")
    world.callbacks_arrive = True
    for dialect in (world.sandbox._openrouter, world.sandbox._llmgateway):
        dialect._api_key = "sk-the-new-one"  # polls and downloads are refused from now on
    await world.until(mirroring, State.MIRRORING)
    await world.pass_time(30_000)
    assert not (await world.job(running)).state.final
    assert not (await world.job(mirroring)).state.final
    await again(world, OPENROUTER_API_KEY="sk-the-new-one", LLMGATEWAY_API_KEY="sk-the-new-one")
    queued = await world.ask(provider, "ok")
    await world.settle(running, mirroring, queued)
    assert {(await world.job(each)).state for each in (running, mirroring, queued)} == {State.COMPLETED}


async def test_an_api_key_is_replaced_and_its_tenant_has_the_same_jobs_and_promises(world: World) -> None:
    keys = world.service.records.keys
    wish = {"provider": "openrouter", "model": "sandbox/ok", "prompt": "a red kite", "duration": 4}
    promise = {"idempotency-key": "one-wish"}
    made = await world.http.post("/v1/jobs", json=wish, headers=promise)
    [old] = await keys.all()
    _, secret = await keys.create("backend, new", TENANT)
    new = {"authorization": f"Bearer {secret}"}
    assert (await world.http.get("/v1/jobs")).json()["data"] == (await world.http.get("/v1/jobs", headers=new)).json()[
        "data"
    ]
    await keys.revoke(old.id)
    assert (await world.http.get("/v1/jobs")).status_code == 401
    repeated = await world.http.post("/v1/jobs", json=wish, headers=promise | new)
    assert repeated.json()["id"] == made.json()["id"]
    assert (await world.http.get(f"/v1/jobs/{made.json()['id']}", headers=new)).status_code == 200
    assert len(await world.service.records.store.jobs()) == 1
    await world.settle(made.json()["id"])
