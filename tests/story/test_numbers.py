"""What is told of jobs that go their whole way: numbers for Prometheus, and lines that can be found by the job."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.model import State
from tests.receiver import Receiver
from tests.story.world import MINUTE, World, open_world


@pytest.fixture
async def backend() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    async with receiver.running():
        yield receiver


@pytest.fixture
async def world(tmp_path: Path, backend: Receiver) -> AsyncIterator[World]:
    async with open_world(tmp_path) as world:
        hosts = f"localhost:{httpx.URL(world.sandbox.base_url).port},{backend.host}"
        world._settings = {"REELKEEPER_ALLOWED_PRIVATE_HOSTS": hosts}
        await world.crash()
        await world.start()
        yield world


async def numbers(world: World) -> dict[str, float]:
    """Scrape as Prometheus does; return every number by its name and the values of its labels."""
    _, key = await world.service.records.keys.create("prometheus", "ops", operator=True)
    answer = await world.http.get("/metrics", headers={"authorization": f"Bearer {key}"})
    assert answer.status_code == 200, answer.text
    return {
        " ".join([sample.name.removeprefix("reelkeeper_"), *sample.labels.values()]): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def handled(world: World, step: str) -> list[dict[str, Any]]:
    lines = [call.kwargs for call in world.logged.calls if call.kwargs["event"] == "worker.handled"]
    return [line for line in lines if line["step"] == step]


async def test_a_job_that_is_called_back_leaves_numbers_and_lines_on_its_whole_way(
    world: World, backend: Receiver, provider: str
) -> None:
    job_id = await world.ask(provider, "ok", notify_url=backend.url)
    await world.settle(job_id)
    await world.round()
    job = await world.job(job_id)
    now = await numbers(world)
    for state in ("queued", "submitting", "running", "mirroring", "completed"):
        assert now[f"jobs_entered_total {provider} {state}"] == 1
    for step, word in (("submit", "accepted"), ("mirror", "completed")):
        assert now[f"step_duration_seconds_count {word} {provider} {step}"] == 1
    assert now[f"callbacks_total {provider} applied"] == 1
    assert now["delivery_attempts_total delivered"] == now["deliveries delivered"] == 1
    assert now[f"mirrored_bytes_total {provider}"] == now["storage_bytes"] == sum(each.bytes for each in job.artifacts)
    assert now[f"submit_to_kept_seconds_count {provider}"] == now["database_up"] == now["storage_files"] == 1
    assert now[f"jobs {provider} completed"] == 1
    for step in ("submit", "mirror"):
        [line] = handled(world, step)
        assert (line["job"], line["provider"], line["attempt"]) == (job_id, provider, 1)
    [told] = handled(world, "notify")
    assert (told["job"], told["delivery"]) == (job_id, backend.told[0].id)
    assert told["delivery"].startswith("evt_")


async def test_a_silent_provider_is_seen_in_polls_and_in_what_is_due(world: World) -> None:
    world.callbacks_arrive = False
    job_id = await world.ask("openrouter", "ok")
    for _ in range(3):
        await world.run("submit")
    world.clock.advance(5 * MINUTE)
    assert (await numbers(world))["overdue_seconds openrouter poll"] > 200
    await world.settle(job_id)
    now = await numbers(world)
    assert now["polls_total completed openrouter"] == 1
    assert now.get("overdue_seconds openrouter poll", 0) == 0
    assert "callbacks_total openrouter applied" not in now


async def test_a_job_that_fails_is_counted_by_its_error(world: World, provider: str) -> None:
    job_id = await world.ask(provider, "refused-402")
    await world.settle(job_id)
    now = await numbers(world)
    assert now[f"jobs_failed_total provider_credits {provider}"] == 1
    assert now[f"provider_errors_total refused {provider}"] == 1
    [line] = handled(world, "submit")
    assert (line["outcome"], line["reason"]) == ("refused", "provider_credits")


async def test_a_receiver_that_does_not_take_it_is_seen(world: World, backend: Receiver) -> None:
    backend.answer = lambda _: 500
    job_id = await world.ask("openrouter", "ok", notify_url=backend.url)
    await world.settle(job_id)
    await world.round()
    now = await numbers(world)
    assert (now["delivery_attempts_total later"], now["deliveries pending"], now["receivers_failing"]) == (1, 1, 1)
    [line] = handled(world, "notify")
    assert (line["outcome"], line["reason"], line["job"]) == ("later", "the answer was 500", job_id)


async def test_the_files_of_a_deleted_job_are_told_with_its_id(world: World) -> None:
    job_id = await world.ask("openrouter", "ok")
    await world.until(job_id, State.COMPLETED)
    answer = await world.http.delete(f"/v1/videos/{job_id}")
    assert answer.status_code == httpx.codes.OK, answer.text
    await world.run("erase")
    assert {(line["job"], line["outcome"]) for line in handled(world, "erase")} == {(job_id, "erased")}
    assert (await numbers(world))["storage_files"] == 0


async def test_every_line_about_a_job_has_its_id(world: World, backend: Receiver, provider: str) -> None:
    ids = [
        await world.ask(provider, behaviour, notify_url=backend.url)
        for behaviour in ("ok", "fails", "callback-lost", "callback-forged")
    ]
    await world.settle(*ids)
    await world.pass_time(2_000)
    for call in world.logged.calls:
        line = call.kwargs
        if any(job_id in repr(line) for job_id in ids):
            assert line["job"] in ids, line
        assert "job" not in line or line["job"].startswith("job_"), line
