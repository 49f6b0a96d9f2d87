"""What the demonstration finds in the ledger and in the files, and how it says so."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from rich.text import Text

from service.sandbox.behaviours import BEHAVIOURS, PREFIX
from service.sandbox.demo import SCENES, Scene, _Act, audit, report

ID = "job_01m7z07nt2gchfx74thmdtz7c4"
VIDEO = b"the bytes of a video"


def act(scene: Scene, state: str = "completed", code: str | None = None) -> _Act:
    artifacts = [{"index": 0, "bytes": len(VIDEO), "sha256": hashlib.sha256(VIDEO).hexdigest()}]
    job = {
        "id": ID,
        "state": state,
        "error": code and {"code": code},
        "created_at": "2026-11-21T12:00:00.000Z",
        "finished_at": "2026-11-21T12:00:15.250Z",
        "artifacts": artifacts if state == "completed" else [],
    }
    return _Act(scene, job, [{"data": {"source": "callback"}}, {"data": {}}])


def ledger(*, kind: str = "genuine", status: int = 204, elsewhere: bool = False, paid: int = 1) -> dict[str, Any]:
    made = {
        "request": {"callback_url": f"http://127.0.0.1/callbacks/openrouter/{ID}/token"},
        "callbacks": [{"kind": kind, "status": status}],
        "downloads": [{"via": "content", "authorization": True}, {"via": "elsewhere", "authorization": elsewhere}],
    }
    other = {"request": {"callback_url": "http://127.0.0.1/callbacks/openrouter/job_other/token"}}
    return {"jobs": [made] * paid + [other]}


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "a folder [red] with a long name that would not fit" / ID
    folder.mkdir(parents=True)
    (folder / "0.mp4").write_bytes(VIDEO)
    return tmp_path


def said(acts: list[_Act]) -> list[str]:
    return [line for text in report(acts) for line in Text.from_markup(text).plain.split("\n")]


def test_a_job_that_went_well_is_told_with_its_file(videos: Path) -> None:
    found = act(Scene("openrouter", "ok"))
    audit([found], ledger(), videos)
    assert found.complaints == []
    lines = said([found])
    assert lines[1] == "✓ ok                  openrouter completed                callback      1  15.2"
    sha256 = hashlib.sha256(VIDEO).hexdigest()
    where = lines.index(f"In {videos}/a folder [red] with a long name that would not fit:")
    assert lines[where + 1] == f"    20  {sha256}  {ID}/0.mp4"
    assert len(lines[where + 1]) <= 120
    assert lines[-4:] == [
        "1 jobs asked for, 1 provider jobs created, never more than 1 for one.",
        "Callbacks: 1 genuine, 0 doubled, 0 forged (0 believed).",
        "1 files kept, all whole by their length and SHA-256.",
        "1 of 1 jobs ended as they should.",
    ]


def test_jobs_that_nobody_reported_are_counted_with_their_names(videos: Path) -> None:
    found = act(Scene("openrouter", "callback-forged"))
    audit([found], ledger(kind="forged", status=401), videos)
    assert said([found])[-4:-2] == [
        "Callbacks: 0 genuine, 0 doubled, 1 forged (0 believed).",
        "No genuine one came for 1 jobs: callback-forged.",
    ]


def test_a_second_paid_job_is_found(videos: Path) -> None:
    found = act(Scene("openrouter", "ok"))
    audit([found], ledger(paid=2), videos)
    assert found.complaints == ["it should have cost 1 provider jobs, and cost 2"]
    assert f"  {ID}: it should have cost 1 provider jobs, and cost 2" in said([found])
    assert said([found])[1].startswith("✗ ok")
    assert said([found])[-1] == "0 of 1 jobs ended as they should."


def test_a_believed_forgery_is_found(videos: Path) -> None:
    found = act(Scene("openrouter", "ok"))
    audit([found], ledger(kind="forged", status=401), videos)
    assert found.complaints == []
    found = act(Scene("openrouter", "ok"))
    audit([found], ledger(kind="forged", status=204), videos)
    assert found.complaints == ["a forged callback was believed"]


def test_a_key_that_went_to_another_origin_is_found(videos: Path) -> None:
    found = act(Scene("openrouter", "redirect"))
    audit([found], ledger(elsewhere=True), videos)
    assert found.complaints == ["the provider's API key was sent to another origin"]


@pytest.mark.parametrize("content", [None, b"", VIDEO[:-1], VIDEO[:-1] + b"!"])
def test_a_file_that_is_not_what_the_service_says_is_found(content: bytes | None, videos: Path) -> None:
    [path] = videos.rglob("0.mp4")
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    found = act(Scene("openrouter", "ok"))
    audit([found], ledger(), videos)
    assert found.complaints == ["1 whole files should have been kept, 0 were"]


def test_another_ending_is_found(videos: Path) -> None:
    found = act(Scene("openrouter", "ok"), "failed", "provider_unavailable")
    audit([found], ledger(), videos)
    assert "it should have ended as completed" in found.complaints
    assert said([found])[1].startswith("✗ ok                  openrouter failed: provider_unavailable")


def test_every_line_but_those_with_an_id_fits_80_columns() -> None:
    lines = said([act(scene, scene.ends, None if scene.ends == "completed" else "provider_failed") for scene in SCENES])
    told = [line for line in lines if ID not in line]
    assert len(told) > 2 * len(SCENES)
    assert max(map(len, told)) <= 80


def test_every_scene_plays_a_behaviour_that_there_is() -> None:
    assert {PREFIX + scene.behaviour for scene in SCENES} <= set(BEHAVIOURS)
    assert len({(scene.provider, scene.behaviour) for scene in SCENES}) == len(SCENES) >= 12
