"""Content as the faces use it, for a job that they found themselves: links to a bucket, pictures, and any range."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
import pytest
import structlog
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from structlog.testing import CapturingLogger

from service.errors import StorageError
from service.ids import Ids
from service.model import Artifact, Footage, Job, State
from service.observer import Observers
from service.storage import Storage
from service.web.callers import Callers
from service.web.content import Content, Posters
from service.web.gate import Gate
from tests.servers import SeaweedFS, seaweedfs
from tests.web.house import VIDEO, House, serving

SHA = "cd" * 32
PICTURE = b"\xff\xd8\xff a picture"


@dataclass
class Studio:
    """Has a picture for every video, `key`, or none."""

    key: str | None = None
    available: bool = True
    asked: list[tuple[str, int]] = field(default_factory=list)

    async def poster(self, job: Job, artifact: Artifact) -> str | None:
        self.asked.append((job.id, artifact.index))
        return self.key


@dataclass
class Counter:
    """Sends `job`, whoever asks: /content is its first video, /picture the picture of it."""

    house: House
    storage: Storage
    job: Job
    posters: Posters | None = None
    link_seconds: int = 0
    logged: CapturingLogger = field(default_factory=CapturingLogger)

    def app(self) -> Starlette:
        content = Content(
            callers=Callers(self.house.keys, self.house.store),
            storage=self.storage,
            posters=self.posters,
            link_seconds=self.link_seconds,
        )

        async def video(request: Request) -> Response:
            return await content.serve(request, self.job, 0)

        async def picture(request: Request) -> Response:
            return await content.poster(request, self.job, 0)

        return Starlette(
            routes=[Route("/content", video), Route("/picture", picture)],
            middleware=[
                Middleware(
                    Gate,
                    log=structlog.wrap_logger(self.logged, processors=[]),
                    ids=Ids(self.house.clock),
                    clock=self.house.clock,
                    observer=Observers(),
                )
            ],
        )

    @asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        async with (
            serving(self.app()) as port,
            httpx.AsyncClient(trust_env=False, base_url=f"http://127.0.0.1:{port}") as client,
        ):
            yield client

    def show(self, **fields: object) -> None:
        """Say more of the video."""
        self.job = replace(self.job, artifacts=(replace(self.job.artifacts[0], **fields),))  # type: ignore[arg-type] # as the tests give them


async def chunk(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def opened(house: House, storage: Storage, content: bytes = VIDEO) -> Counter:
    job = replace(await house.queued(), state=State.COMPLETED)
    key = f"acme/2026/11/{job.id}/0.mp4"
    await storage.put(key, chunk(content), content_type="video/mp4")
    return Counter(house, storage, replace(job, artifacts=(Artifact(0, key, len(content), SHA, "video/mp4"),)))


@pytest.fixture
async def counter(house: House) -> Counter:
    return await opened(house, house.storage)


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server


@pytest.fixture
async def bucket(house: House, s3: SeaweedFS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Counter:
    """A counter in front of a bucket."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    counter = await opened(house, Storage.open(f"s3://{s3.bucket}/a/{tmp_path.name}"))
    counter.link_seconds = 60
    return counter


# Any range


@st.composite
def _ranges(draw: st.DrawFn) -> tuple[bytes, str]:
    content = draw(st.binary(max_size=300))
    first, last = draw(st.integers(0, 400)), draw(st.integers(0, 400))
    low, high = sorted((first, last))
    return content, draw(st.sampled_from([f"{low}-{high}", f"{first}-", f"-{last}"]))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=_ranges())
@example(case=(b"", "0-0"))
@example(case=(b"", "-5"))
@example(case=(b"x", "-0"))
@example(case=(b"xyz", "2-2"))
async def test_of_any_video_any_range_is_the_slice_of_it(house: House, case: tuple[bytes, str]) -> None:
    content, wanted = case
    counter = await opened(house, house.storage, content)
    first, _, last = wanted.partition("-")
    if first:
        expected = content[int(first) : int(last) + 1 if last else None]
    else:
        expected = content[-int(last) :] if int(last) else b""
    transport = httpx.ASGITransport(counter.app())
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.get("/content", headers={"range": f"bytes={wanted}"})
    size = len(content)
    if expected:
        start = int(first) if first else size - len(expected)
        assert answer.status_code == 206
        assert answer.headers["content-range"] == f"bytes {start}-{start + len(expected) - 1}/{size}"
    elif answer.status_code == 200:
        assert (size, first) == (0, "")  # the last bytes of nothing: all of it
    else:
        assert answer.status_code == 416
        assert answer.headers["content-range"] == f"bytes */{size}"
        return
    assert answer.content == expected
    assert answer.headers["content-length"] == str(len(expected))
    assert answer.headers["etag"] == f'"{SHA}"'


# Links to a bucket


async def test_a_bucket_is_linked_to_and_the_link_is_a_secret(bucket: Counter, s3: SeaweedFS) -> None:
    async with bucket.client() as client:
        answer = await client.get("/content", headers={"authorization": "Bearer rk_canary"})
        assert answer.status_code == 302
        assert answer.headers["cache-control"] == "private, no-store"
        assert answer.content == b""
        link = answer.headers["location"]
        assert link.startswith(f"{s3.endpoint}/{s3.bucket}/a/")
        found = await client.get(link)
    assert (found.status_code, found.content, found.headers["content-type"]) == (200, VIDEO, "video/mp4")
    secret = link.rpartition("X-Amz-Signature=")[2]
    assert len(secret) == 64
    assert bucket.logged.calls
    assert secret not in repr(bucket.logged.calls)


async def test_clients_that_follow_get_the_video_and_the_part_that_they_want(bucket: Counter) -> None:
    async with bucket.client() as client:
        whole = await client.get("/content?redirect=yes", follow_redirects=True)
        part = await client.get("/content", follow_redirects=True, headers={"range": "bytes=10-19"})
    assert (whole.status_code, whole.content) == (200, VIDEO)
    assert (part.status_code, part.content) == (206, VIDEO[10:20])


@pytest.mark.parametrize("query", ["redirect=false", "redirect=0", "redirect=no", "redirect=False"])
async def test_who_wants_no_link_gets_the_bytes_of_the_bucket(bucket: Counter, query: str) -> None:
    async with bucket.client() as client:
        answer = await client.get(f"/content?{query}")
        part = await client.get(f"/content?{query}", headers={"range": "bytes=-10"})
    assert (answer.status_code, answer.content) == (200, VIDEO)
    assert (part.status_code, part.content) == (206, VIDEO[-10:])


async def test_a_head_gets_no_link_because_it_would_not_be_good_for_it(bucket: Counter) -> None:
    async with bucket.client() as client:
        answer = await client.head("/content")
    assert answer.status_code == 200
    assert answer.headers["content-length"] == str(len(VIDEO))


async def test_who_names_our_version_is_answered_by_us_and_who_names_the_buckets_by_the_bucket(
    bucket: Counter,
) -> None:
    async with bucket.client() as client:
        theirs = (await client.get("/content", follow_redirects=True)).headers["etag"]
        assert theirs != f'"{SHA}"'
        for tag, hops in ((f'"{SHA}"', 0), (theirs, 1)):
            part = {"range": "bytes=10-", "if-range": tag}
            resumed = await client.get("/content", headers=part, follow_redirects=True)
            assert (resumed.status_code, resumed.content, len(resumed.history)) == (206, VIDEO[10:], hops)
            known = await client.get("/content", headers={"if-none-match": tag}, follow_redirects=True)
            assert (known.status_code, len(known.history)) == (304, hops)
            same = await client.get("/content", headers={"if-match": tag}, follow_redirects=True)
            assert (same.status_code, same.content, len(same.history)) == (200, VIDEO, hops)


async def test_links_can_be_switched_off(bucket: Counter) -> None:
    bucket.link_seconds = 0
    async with bucket.client() as client:
        assert (await client.get("/content?redirect=true")).content == VIDEO


async def test_a_folder_cannot_be_linked_to(counter: Counter) -> None:
    counter.link_seconds = 60
    async with counter.client() as client:
        assert (await client.get("/content")).content == VIDEO


async def test_nothing_that_is_gone_is_linked_to(bucket: Counter) -> None:
    await bucket.storage.put(bucket.job.artifacts[0].key, chunk(VIDEO[1:]), content_type="video/mp4")
    async with bucket.client() as client:
        cut = await client.get("/content")
        await bucket.storage.delete(bucket.job.artifacts[0].key)
        gone = await client.get("/content")
    assert [cut.status_code, gone.status_code] == [410, 410]


@pytest.mark.parametrize("hangs", [False, True])
async def test_credentials_that_cannot_sign_are_logged_and_the_video_is_streamed(
    house: House, monkeypatch: pytest.MonkeyPatch, *, hangs: bool
) -> None:
    class Keyless(Storage):
        async def sign(self, key: str, seconds: int) -> str | None:
            if hangs:
                await asyncio.Event().wait()
            raise StorageError(f"could not sign a link to {key} for {seconds} s")

    monkeypatch.setattr("service.web.content._SIGN_SECONDS", 0.0)
    counter = await opened(house, Keyless.open(str(house.folder / "videos")))
    counter.link_seconds = 60
    async with counter.client() as client:
        assert (await client.get("/content")).content == VIDEO
    assert "sign a link" in counter.logged.calls[-1].kwargs["unsigned"]


# Pictures


async def test_the_picture_that_was_made_is_sent_by_itself(counter: Counter) -> None:
    key = "acme/picture.jpg"
    await counter.storage.put(key, chunk(PICTURE), content_type="image/jpeg")
    counter.show(footage=Footage(1000, 16, 9, "h264", key))
    async with counter.client() as client:
        answer = await client.get("/picture")
        part = await client.get("/picture", headers={"range": "bytes=0-1", "if-range": answer.headers["etag"]})
        known = await client.get("/picture", headers={"if-none-match": answer.headers["etag"]})
        head = await client.head("/picture")
    assert (answer.status_code, answer.content) == (200, PICTURE)
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["etag"] == f'"{SHA}-poster"'
    assert answer.headers["content-disposition"] == f'inline; filename="{counter.job.id}-0.jpg"'
    assert (part.status_code, part.content) == (206, PICTURE[:2])
    assert known.status_code == 304
    assert (head.headers["content-length"], head.content) == (str(len(PICTURE)), b"")
    await counter.storage.delete(key)
    async with counter.client() as client:
        assert (await client.get("/picture")).status_code == 410


@pytest.mark.parametrize("footage", [None, Footage(None, 16, 9, "vp9", None)])
async def test_a_picture_that_was_not_made_is_made_now(counter: Counter, footage: Footage | None) -> None:
    await counter.storage.put("acme/new.jpg", chunk(PICTURE), content_type="image/jpeg")
    counter.posters = studio = Studio("acme/new.jpg")
    counter.show(footage=footage)
    async with counter.client() as client:
        assert (await client.get("/picture")).content == PICTURE
    assert studio.asked == [(counter.job.id, 0)]


async def test_a_picture_in_a_bucket_is_linked_to(bucket: Counter) -> None:
    await bucket.storage.put("acme/new.jpg", chunk(PICTURE), content_type="image/jpeg")
    bucket.posters = Studio("acme/new.jpg")
    async with bucket.client() as client:
        answer = await client.get("/picture", follow_redirects=True)
        streamed = await client.get("/picture?redirect=no")
    assert [each.status_code for each in answer.history] == [302]
    assert (answer.content, answer.headers["content-type"]) == (PICTURE, "image/jpeg")
    assert (streamed.status_code, streamed.content) == (200, PICTURE)


@pytest.mark.parametrize(
    ("posters", "status", "code", "told"),
    [
        (None, 501, "media_not_installed", "pip install 'reelkeeper[media]'"),
        (Studio(available=False), 501, "media_not_installed", "pip install 'reelkeeper[media]'"),
        (Studio(), 404, "no_thumbnail", "the video itself is kept"),
    ],
)
async def test_why_there_is_no_picture_is_told(
    counter: Counter, posters: Studio | None, status: int, code: str, told: str
) -> None:
    counter.posters = posters
    async with counter.client() as client:
        answer = await client.get("/picture")
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert told in answer.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/content", "/picture"])
async def test_pictures_and_videos_are_there_at_the_same_time(counter: Counter, path: str) -> None:
    kept = counter.job
    async with counter.client() as client:
        for change, status, code in (
            ({"state": State.MIRRORING}, 409, "not_ready"),
            ({"state": State.FAILED, "artifacts": ()}, 410, "gone"),
            ({"artifacts": (replace(kept.artifacts[0], index=3),)}, 404, "artifact_not_found"),
        ):
            counter.job = replace(kept, **change)
            answer = await client.get(path)
            assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
        counter.job = kept
        wrong = await client.get(f"{path}?variant=video&redirect=perhaps")
    assert wrong.status_code == 400
    assert [each["field"] for each in wrong.json()["error"]["problems"]] == ["redirect"]
