"""What dead processes left in storage is found by its age and its name, and nothing else is touched."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import textwrap
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from obstore.store import MemoryStore

from service.errors import StorageError
from service.storage import Storage, Swept
from service.storage.uploads import Uploads
from tests.faulty_bucket import Call, Fault, FaultyBucket, Way
from tests.servers import SeaweedFS, answer, loopback
from tests.test_storage_faults import chunks, everything, put

JOB = "acme/2026/11/job_01kaz9d4m6xwq2v8t5n3c7rb0e"
KEY = f"{JOB}/0.mp4"
PROBE = "reelkeeper-check/00ff00ff00ff00ff.txt"
LATER = timedelta(hours=1)
A_DAY = timedelta(days=1)
NO_ABORT = Fault(Way.REFUSED, {Call.PART, Call.ABORT}, 403, "AccessDenied")


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def url(s3: SeaweedFS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{s3.bucket}/{tmp_path.name}"


async def die_half_way(url: str, key: str = KEY) -> None:
    """Begin to store something in a process of its own, and kill that."""
    program = """
        import asyncio, sys
        from service.storage import Storage

        async def source():
            for _ in range(20):
                yield bytes(1024 * 1024)
            print("half", flush=True)
            await asyncio.Event().wait()

        asyncio.run(Storage.open(sys.argv[1]).put(sys.argv[2], source(), content_type="video/mp4"))
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", textwrap.dedent(program), url, key,
        stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )  # fmt: skip
    assert process.stdout is not None
    assert await process.stdout.readline() == b"half\n"
    process.kill()
    await process.wait()


async def abandon(s3: SeaweedFS, monkeypatch: pytest.MonkeyPatch, url: str, *keys: str) -> None:
    """Begin uploads in a bucket that then lets nobody abort them."""
    bucket = FaultyBucket(s3, fault=NO_ABORT)
    async with bucket.running():
        monkeypatch.setenv("AWS_ENDPOINT_URL", bucket.endpoint)
        storage = Storage.open(url)
        for key in keys:
            with pytest.raises(StorageError):
                await put(storage, b"some bytes", key=key)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint)


# Buckets


async def test_the_upload_of_a_killed_process_is_aborted_when_it_is_old(s3: SeaweedFS, url: str) -> None:
    await die_half_way(url)
    storage = Storage.open(url)
    own = f"{url.rpartition('/')[2]}/{KEY}"
    assert await storage.sweep(now() - A_DAY) == Swept()
    assert own in s3.unfinished_uploads()
    assert await storage.sweep(now() + LATER) == Swept(uploads=1)
    assert own not in s3.unfinished_uploads()


async def test_uploads_that_are_not_ours_are_nobodys_business(
    s3: SeaweedFS, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = JOB.rpartition("/")[2]
    foreign = ["film.mp4", "acme/2026/11/film/0.mp4", "acme/2026/11/job_notes/0.mp4", f"acme/2026/{job}/0.mp4"]
    foreign += [f"a/{KEY}", f"acme/2026/13/{job}/0.mp4"]
    await abandon(s3, monkeypatch, url, *foreign, KEY)
    await abandon(s3, monkeypatch, f"{url}-beside", KEY)
    assert await Storage.open(url).sweep(now() + LATER) == Swept(uploads=1)
    prefix = url.rpartition("/")[2]
    left = [key for key in s3.unfinished_uploads() if key.startswith(prefix)]
    assert sorted(left) == sorted([*(f"{prefix}/{key}" for key in foreign), f"{prefix}-beside/{KEY}"])


async def test_uploads_are_found_on_every_page_and_in_a_bucket_without_a_prefix(
    s3: SeaweedFS, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = url.rpartition("/")[2]
    root = url.rpartition("/")[0]
    keys = [f"{tenant}/2026/11/{JOB.rpartition('/')[2][:-1]}{number}/0.mp4" for number in range(5)]
    await abandon(s3, monkeypatch, root, *keys)
    assert await Uploads(s3.bucket, page=2).abort(now() - A_DAY) == 0
    assert await Uploads(s3.bucket, page=2).abort(now() + LATER) >= 5
    assert not set(keys) & set(s3.unfinished_uploads())


async def test_old_probes_are_removed_from_a_bucket(s3: SeaweedFS, url: str) -> None:
    storage = Storage.open(url)
    await storage.put(PROBE, chunks(b"a probe"), content_type="text/plain")
    await storage.put(KEY, chunks(b"a video"), content_type="video/mp4")
    assert await storage.sweep(now() - A_DAY) == Swept()
    assert await storage.sweep(now() + LATER) == Swept(files=1)
    assert everything(FaultyBucket(s3), url) == [KEY]


async def test_of_the_folder_of_the_probes_nothing_but_probes_is_removed_from_a_bucket() -> None:
    storage = Storage(MemoryStore(), "a bucket in memory", scheme="s3")
    stays = [f"reelkeeper-check/{KEY.partition('/')[2]}", "reelkeeper-check/notes.txt", "reelkeeper-check/00ff.txt"]
    stays += [f"{PROBE}.bak", f"acme/{PROBE}", f"reelkeeper-check/{PROBE}", "reelkeeper-check.txt"]
    for key in (PROBE, *stays):
        await storage.put(key, chunks(b"some bytes"), content_type="text/plain")
    assert await storage.sweep(now() + LATER) == Swept(files=1)
    assert [await storage.size(key) for key in (PROBE, *stays)] == [None, *[10] * len(stays)]


@pytest.mark.parametrize(
    ("environment", "root"),
    [
        ({}, "https://s3.eu-central-1.amazonaws.com/films"),
        ({"AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true"}, "https://films.s3.eu-central-1.amazonaws.com"),
        ({"AWS_ENDPOINT_URL": "https://minio.internal:9000"}, "https://minio.internal:9000/films"),
        ({"AWS_ENDPOINT_URL_S3": "https://films.example.com", "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true"},
         "https://films.example.com"),
    ],
)  # fmt: skip
async def test_a_bucket_is_asked_where_and_as_whom_the_library_would_ask_it(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], root: str
) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "canary", "AWS_SESSION_TOKEN": "token/+="}
    for name, value in {**keys, "AWS_REGION": "eu-central-1", **environment}.items():
        monkeypatch.setenv(name, value)
    uploads = Uploads("films", "a/b")
    assert await uploads._root() == root
    signed = await uploads._signed("DELETE", f"{root}/a/b/0.mp4?uploadId=x%2Fy")

    assert signed.startswith(f"{root}/a/b/0.mp4?uploadId=x%2Fy&X-Amz-Algorithm=AWS4-HMAC-SHA256&")
    for part in ("Credential=id%2F", "%2Feu-central-1%2Fs3%2F", "Security-Token=token%2F%2B%3D", "&X-Amz-Signature="):
        assert part in signed
    assert "#" not in signed
    assert "canary" not in signed


@pytest.mark.parametrize(
    ("reply", "left"),
    [
        (answer(b"<Error><Code>AccessDenied</Code></Error>", status=403), "403 AccessDenied; give it a"),
        (answer(b"<Error><Code>NotImplemented</Code></Error>", status=501), "501 NotImplemented; give it a"),
        (answer(b"<Error><Code>SlowDown</Code></Error>", status=503), None),
        (answer(b"<html>sign in</html"), None),
        (answer(b"<ListMultipartUploadsResult><Upload><Key>canary</Key></Upload></ListMultipartUploadsResult>"), None),
        (b"", None),
    ],
    ids=["denied", "never", "slow-down", "no-xml", "no-time", "nothing"],
)  # fmt: skip
async def test_a_bucket_that_never_lists_uploads_is_told_from_one_that_is_ill(
    monkeypatch: pytest.MonkeyPatch, reply: bytes, left: str | None
) -> None:
    async def talk(head: str, writer: asyncio.StreamWriter) -> None:
        writer.write(reply if "?uploads" in head else answer(b"<ListBucketResult></ListBucketResult>"))

    async with loopback(talk) as server:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "canary")
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url().rstrip("/"))
        monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
        storage = Storage.open("s3://videos")
        if left is not None:
            assert left in str((await storage.sweep(now())).left)
            return
        with pytest.raises(StorageError, match="s3://videos ") as caught:
            await storage.sweep(now())
        assert "canary" not in str(caught.value)


async def test_a_bucket_that_answers_through_a_proxy_alone_is_left_to_a_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    async with loopback(answer(b"<ListBucketResult></ListBucketResult>")) as proxy:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "canary")
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://bucket.invalid")
        monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
        monkeypatch.setenv("http_proxy", proxy.url())
        swept = await Storage.open("s3://videos").sweep(now())
    assert [head.split()[1].partition("?")[0] for head in proxy.requests] == ["http://bucket.invalid/videos"]
    assert "it answers only through a proxy, perhaps, and none is used for this (connect error: " in str(swept.left)
    assert "give it a lifecycle rule" in str(swept.left)


async def test_uploads_to_googles_storage_are_left_to_a_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    async with loopback(answer(b"<ListBucketResult></ListBucketResult>")) as server:
        account = {"gcs_base_url": server.url().rstrip("/"), "disable_oauth": True, "client_email": "a@b"}
        key = {"private_key": "", "private_key_id": ""}
        monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", json.dumps(account | key))
        monkeypatch.setenv("GOOGLE_ALLOW_HTTP", "true")
        swept = await Storage.open("gs://videos").sweep(now())
    assert "cannot be listed; give it a lifecycle rule" in str(swept.left)


# Folders


def age(path: Path, days: float) -> None:
    then = (now() - timedelta(days=days)).timestamp()
    os.utime(path, (then, then))


def found(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


async def test_the_file_of_a_killed_process_is_removed_when_it_is_old_with_the_folders_it_was_in(
    tmp_path: Path,
) -> None:
    await die_half_way(str(tmp_path))
    [part] = [tmp_path / name for name in found(tmp_path) if ".part" in name]
    storage = Storage.open(str(tmp_path))
    assert await storage.sweep(now() - A_DAY) == Swept()
    assert part.exists()
    for path in (part, *list(part.parents)[:4]):
        age(path, 2)
    assert await storage.sweep(now() - A_DAY) == Swept(files=5)
    assert found(tmp_path) == []


def write(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")


async def test_what_is_young_kept_or_not_ours_stays(tmp_path: Path) -> None:
    storage = Storage.open(str(tmp_path))
    await put(storage, b"a video", key=KEY)
    mine = tmp_path / JOB
    stays = [mine / "notes.part", mine / "0.mp4.part", tmp_path / "acme/film.mp4.0123abcd.part"]
    stays += [tmp_path / "acme/2026/11/film/0.mp4.0123abcd.part", tmp_path / "reelkeeper-check.txt"]
    stays += [tmp_path / f"acme/2026/11/{name}/0.mp4.0123abcd.part" for name in ("job_notes", f"{mine.name}0")]
    stays += [tmp_path / "reelkeeper-check" / name for name in ("00ff.txt", "notes.txt", f"x/{PROBE}", "0.mp4")]
    stays += [tmp_path / f"reelkeeper-check/{KEY.partition('/')[2]}"]
    young = mine / "1.mp4.0123abcd.part"
    goes = [mine / "0.mp4.0123abcd.part", mine / "0.mp4.0123abcd.part#1", tmp_path / PROBE]
    goes += [tmp_path / f"{PROBE}.0123abcd.part"]
    write(*stays, *goes, young)
    outside = tmp_path.parent / "outside"
    (outside / JOB.partition("/")[2]).mkdir(parents=True)
    (tmp_path / "linked").symlink_to(outside)
    for name in found(tmp_path):
        if name not in ("linked", str(young.relative_to(tmp_path))):
            age(tmp_path / name, 2)
    assert await storage.sweep(now() - A_DAY) == Swept(files=len(goes))
    assert [path.exists() for path in goes] == [False] * len(goes)
    assert all(path.exists() for path in (*stays, young, mine / "0.mp4", outside / JOB.partition("/")[2]))


@pytest.mark.parametrize(
    "name",
    [
        "lost+found", "incoming/2026/11", "2025", "acme/2025", "acme/2026/12", "backups/2025/01/job_notes",
        f"acme/2026/{JOB.rpartition('/')[2]}", f"acme/2026/13/{JOB.rpartition('/')[2]}", f"x/{JOB}", f"X.Y/{JOB}",
        "acme/2026/11/job_01KAZ9D4M6XWQ2V8T5N3C7RB0E", f"{JOB}/frames", "reelkeeper-check", f"lost+found/{JOB}",
    ],
)  # fmt: skip
async def test_an_empty_folder_that_is_no_jobs_is_somebody_elses(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir(parents=True)
    before = found(tmp_path)
    for each in before:
        age(tmp_path / each, 2)
    assert await Storage.open(str(tmp_path)).sweep(now() - A_DAY) == Swept()
    assert found(tmp_path) == before


async def test_an_old_empty_folder_of_a_job_goes_with_those_above_it_that_it_leaves_empty(tmp_path: Path) -> None:
    for name in (JOB, "acme/2025", f"studio{JOB.removeprefix('acme')}", f"young{JOB.removeprefix('acme')}"):
        (tmp_path / name).mkdir(parents=True)
    for each in found(tmp_path):
        age(tmp_path / each, 2)
    age(tmp_path / "young/2026", 0)
    assert await Storage.open(str(tmp_path)).sweep(now() - A_DAY) == Swept(files=3 + 4 + 2)
    assert found(tmp_path) == ["acme", "acme/2025", "young", "young/2026"]


async def test_a_deleted_video_leaves_no_folder(tmp_path: Path) -> None:
    storage = Storage.open(str(tmp_path))
    other = KEY.replace("0e/", "0f/")
    for key in (KEY, other):
        await put(storage, b"a video", key=key)
    await storage.delete(KEY)
    assert [name for name in found(tmp_path) if "job_" in name] == [other.removesuffix("/0.mp4"), other]
    await storage.delete(other)
    assert found(tmp_path) == []
    await put(storage, b"again", key=KEY)
    assert KEY in found(tmp_path)


async def test_a_folder_that_is_away_is_not_swept(tmp_path: Path) -> None:
    storage = Storage.open(str(tmp_path / "videos"))
    (tmp_path / "videos").rmdir()
    with pytest.raises(StorageError, match="it is not there any more"):
        await storage.sweep(now())
