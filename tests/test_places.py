"""The place in which the service is attacked tells the truth about it."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.places import environment, open_place, until


async def test_all_that_is_known_of_a_job_is_told(tmp_path: Path) -> None:
    async with open_place(tmp_path) as place, place.calling() as client:
        wish = {"provider": "openrouter", "model": "sandbox/never-ends", "prompt": "a red kite", "duration": 4}
        job_id = str((await client.post("/v1/jobs", json=wish)).raise_for_status().json()["id"])
        await until(lambda: place.made)
        [made] = place.made
        forged = await client.post(made.callback_url or "", json={"type": "video.generation.completed"})
        assert forged.status_code == httpx.codes.UNAUTHORIZED

        async def told() -> bool:
            return "  rejected: Rejection(" in await place.tell(job_id)

        await until(told)
        story = await place.tell(job_id)
    for word in ("job.queued", "job.running", f"at the provider: {{'id': '{made.id}'", "missing_header", "  log: {"):
        assert word in story


def test_a_process_has_the_settings_that_it_is_given_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REELKEEPER_STORAGE", "elsewhere")
    monkeypatch.setenv("UNRELATED", "yes")
    found = environment({"REELKEEPER_PUBLIC_URL": "https://x.example"})
    assert "REELKEEPER_STORAGE" not in found
    assert (found["REELKEEPER_PUBLIC_URL"], found["UNRELATED"]) == ("https://x.example", "yes")
