"""Posters on demand: made once, however many ask."""

from __future__ import annotations

import asyncio
import fcntl
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from service.clock import ManualClock
from service.errors import StoreUnavailableError
from service.media import Examiner, Posters
from service.model import Artifact, Footage, Job, VideoRequest
from service.sandbox.downloads import VIDEOS
from service.storage import Storage
from tests.media.films import POSTER, keep
from tests.providers.loopback import a_job
from tests.turns import until

FOOTAGE = Footage(2000, 320, 180, "h264", POSTER)
MINUTES = 60_000
# Counts itself in a folder, argv[1], and waits to be let go: for the lock on its `go`.
COUNTED = """
import fcntl, os, sys
open(f"{sys.argv[1]}/{os.getpid()}", "x").close()
fcntl.flock(os.open(f"{sys.argv[1]}/go", os.O_RDONLY), fcntl.LOCK_SH)
print("nothing at all", flush=True)
"""


class Notes:
    """Stands for the store."""

    def __init__(self) -> None:
        self.kept: list[tuple[str, int, Footage]] = []
        self.answers: list[bool | Exception] = []

    async def keep(self, job_id: str, index: int, footage: Footage) -> bool:
        self.kept.append((job_id, index, footage))
        answer = self.answers.pop(0) if self.answers else True
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def posters(examiner: Examiner, notes: Notes, clock: ManualClock) -> Posters:
    return Posters(examiner, notes.keep, clock=clock)


@pytest.fixture
def job() -> Job:
    return a_job(VideoRequest("m"), "alpha")


@pytest.fixture
async def artifact(storage: Storage) -> Artifact:
    return await keep(storage, VIDEOS[0])


@pytest.fixture
def counted(tmp_path: Path) -> Path:
    folder = tmp_path / "counted"
    folder.mkdir()
    (folder / "go").touch()
    return folder


def count(folder: Path) -> int:
    return sum(path.name != "go" for path in folder.iterdir())


async def test_a_poster_that_is_there_is_not_made(posters: Posters, notes: Notes, job: Job) -> None:
    artifact = Artifact(0, "not/there.mp4", 1, "ab", "video/mp4", replace(FOOTAGE, poster="its/poster.jpg"))
    assert await posters.poster(job, artifact) == "its/poster.jpg"
    assert notes.kept == []


@pytest.mark.parametrize("footage", [None, replace(FOOTAGE, poster=None)])
async def test_a_missing_poster_is_made_and_noted(
    posters: Posters, notes: Notes, videos: Path, job: Job, artifact: Artifact, footage: Footage | None
) -> None:
    assert await posters.poster(job, replace(artifact, footage=footage)) == POSTER
    assert notes.kept == [(job.id, 0, FOOTAGE)]
    assert (videos / POSTER).exists()


async def test_all_who_ask_at_once_share_one_examination_that_outlives_who_gives_up(
    scripted: Callable[..., Examiner], notes: Notes, job: Job, artifact: Artifact, counted: Path
) -> None:
    posters = Posters(scripted(COUNTED, str(counted)), notes.keep)
    with (counted / "go").open() as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)
        asking = [asyncio.create_task(posters.poster(job, artifact)) for _ in range(10)]
        await until(lambda: count(counted))
        asking[0].cancel()
    assert await asyncio.gather(*asking[1:]) == [None] * 9
    assert count(counted) == 1
    assert asking[0].cancelled()


async def test_a_failure_is_remembered_for_ten_minutes(
    scripted: Callable[..., Examiner], notes: Notes, clock: ManualClock, job: Job, artifact: Artifact, counted: Path
) -> None:
    posters = Posters(scripted(COUNTED, str(counted)), notes.keep, clock=clock)
    for minutes, examinations in [(0, 1), (5, 1), (4, 1), (1, 2), (9, 2), (1, 3)]:
        clock.advance(minutes * MINUTES)
        assert await posters.poster(job, artifact) is None
        assert count(counted) == examinations
    assert notes.kept == []


async def test_a_failure_of_one_video_is_not_anothers(
    scripted: Callable[..., Examiner], notes: Notes, job: Job, artifact: Artifact, counted: Path
) -> None:
    posters = Posters(scripted(COUNTED, str(counted)), notes.keep)
    await posters.poster(job, artifact)
    await posters.poster(job, replace(artifact, key="acme/2026/11/job_02cd/0.mp4"))
    assert count(counted) == 2


async def test_what_is_known_without_a_poster_is_noted_too(
    posters: Posters, notes: Notes, videos: Path, job: Job, artifact: Artifact
) -> None:
    (videos / POSTER).mkdir()
    assert await posters.poster(job, artifact) is None
    assert notes.kept == [(job.id, 0, replace(FOOTAGE, poster=None))]
    (videos / POSTER).rmdir()
    assert await posters.poster(job, artifact) is None  # remembered


async def test_the_poster_of_a_job_that_was_deleted_meanwhile_is_removed(
    posters: Posters, notes: Notes, videos: Path, job: Job, artifact: Artifact
) -> None:
    notes.answers = [False]
    assert await posters.poster(job, artifact) is None
    assert not (videos / POSTER).exists()


async def test_a_store_that_is_away_is_told_and_not_held_against_the_video(
    posters: Posters, notes: Notes, job: Job, artifact: Artifact
) -> None:
    notes.answers = [StoreUnavailableError("the disk is full")]
    with pytest.raises(StoreUnavailableError):
        await posters.poster(job, artifact)
    assert await posters.poster(job, artifact) == POSTER


async def test_without_pyav_there_are_only_the_posters_that_were_made(
    storage: Storage, notes: Notes, monkeypatch: pytest.MonkeyPatch, job: Job, artifact: Artifact
) -> None:
    monkeypatch.setattr("service.media.find_spec", lambda name: None if name == "av" else name)
    posters = Posters(Examiner(storage), notes.keep)
    assert not posters.available
    assert await posters.poster(job, artifact) is None
    assert await posters.poster(job, replace(artifact, footage=FOOTAGE)) == POSTER
