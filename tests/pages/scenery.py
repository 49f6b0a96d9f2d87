"""Every page with something on it that is worth a look."""

from __future__ import annotations

import json
from typing import Final
from urllib.parse import urlencode

import httpx

from service.config import Config
from service.vault import Vault
from tests.pages.studio import Studio
from tests.places import until

HOSTILE = '<img src=x onerror="alert(1)"> {{ 7 * 7 }} </script><script>alert(2)</script> & "quotes"'


PAGES: Final = (
    "sign-in",
    "overview",
    "jobs",
    "jobs-none",
    "job-completed",
    "job-several-outputs",
    "job-untold",
    "job-failed",
    "job-hostile",
    "job-in-doubt",
    "job-running",
    "job-missing",
    "callbacks",
    "deliveries",
    "receiver",
)


async def set_scene(studio: Studio) -> dict[str, str]:
    """Let things happen that people come to the pages for; return the path of each of `PAGES`."""
    tenant = await studio.tenant("newsroom")
    told = studio.receiver.url
    completed = await tenant.asked(prompt="Drone shot along a glacier's edge, crevasses glowing blue", notify_url=told)
    outputs = await tenant.asked("several-outputs", prompt="Three takes of one scene: a lighthouse in a gale")
    with studio.receiver_gone():
        untold = await tenant.asked(prompt="Slow dolly through a rain-soaked street", notify_url=told)
        await tenant.until_given_up(untold)
    failed = await tenant.asked("fails", ends="failed", prompt="A watchmaker's hands set a tiny gear, macro")
    await tenant.asked("fails-moderation", ends="failed", prompt="A living person says what they never said")
    await tenant.asked("callback-forged", ends="failed", prompt="Ink drops in water form a mountain range")
    await tenant.asked("callback-stale", prompt="A train crosses a viaduct in autumn")
    hostile = await tenant.asked(prompt=HOSTILE, metadata={HOSTILE: HOSTILE})
    await unsigned_callback(studio, completed)
    with studio.callbacks_lost():
        doubted = await tenant.ask("accepted-then-502", prompt="Paper boats race down a gutter after summer rain")
        await tenant.until_event(doubted, "job.in_doubt")
        await until(lambda: studio.place.made_for(doubted)[0].told_at)
    running = await tenant.ask("never-ends", prompt="A sprinter's shoes in ultra slow motion, chalk dust")
    await tenant.until(running, "running")
    receiver = {"receiver": f"http://{studio.receiver.host}", "tenant": tenant.name}
    paths = (
        "/status/sign-in",
        "/status",
        "/status/jobs",
        "/status/jobs?q=nothing-like-this",
        *(f"/status/jobs/{each}" for each in (completed, outputs, untold, failed, hostile, doubted, running)),
        f"/status/jobs/job_{'0' * 26}",
        "/status/callbacks",
        "/status/deliveries",
        f"/status/deliveries?{urlencode(receiver)}",
    )
    return dict(zip(PAGES, paths, strict=True))


async def unsigned_callback(studio: Studio, job_id: str) -> None:
    """Report on a job as nobody can who has no secret."""
    token = Vault(Config.read(studio.place.settings).secret_keys).callback_token(job_id)
    body = json.dumps({"type": "video.generation.completed", "data": {"id": "gen-1", "status": "completed"}})
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.post(
            f"{studio.url}/callbacks/openrouter/{job_id}/{token}",
            content=body,
            headers={"content-type": "application/json"},
        )
    assert answer.status_code == 401
