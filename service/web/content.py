"""The bytes of a kept video and of its picture: a link to object storage, or a stream with flat memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from service.errors import StorageError
from service.model import Artifact, Job
from service.storage import Storage
from service.web.callers import Callers, note
from service.web.filters import read_index, read_redirect
from service.web.ranges import forbidden, known, named, read_range
from service.web.refusals import RefusalError

_SIGN_SECONDS = 3.0


class Posters(Protocol):
    """Makes pictures of videos."""

    @property
    def available(self) -> bool:
        """Whether what it takes is installed."""
        ...

    async def poster(self, job: Job, artifact: Artifact) -> str | None:
        """Return the key of a JPEG in storage, which is made now if need be; None when the video gives none."""
        ...


@dataclass(frozen=True, slots=True)
class _Kept:
    """What lies in storage, and how it is labelled."""

    key: str
    size: int  # bytes
    tag: str  # strong entity tag, quoted
    content_type: str
    name: str  # for whoever saves it as a file


class Content:
    """Serves artifacts to the caller whose job made them.

    `link_seconds` is how long a link to object storage is good; 0 streams always, for callers who cannot reach it.
    """

    def __init__(
        self, *, callers: Callers, storage: Storage, posters: Posters | None = None, link_seconds: int = 0
    ) -> None:
        self._callers = callers
        self._storage = storage
        self._posters = posters
        self.link_seconds = link_seconds

    async def read(self, request: Request) -> Response:
        """Send artifact `?index=` (0 when left out) of the job that the path names."""
        job = await self._callers.job(request)
        return await self.serve(request, job, read_index(request))

    async def serve(self, request: Request, job: Job, index: int, *, stream: bool = False) -> Response:
        """Send artifact `index` of `job`, to GET or HEAD. `?redirect=false` or `stream` ask for the bytes themselves.

        Raises RefusalError: 400, 404 `artifact_not_found`, 409 `not_ready`, 410 `gone`, 412 `precondition_failed`,
        416 `range_not_satisfiable`; and StorageError.
        """
        redirect = read_redirect(request) and not stream
        artifact = self._artifact(job, index)
        if await self._storage.size(artifact.key) != artifact.bytes:
            raise _gone("The video is no longer in storage as it was kept; the operator must look after the storage.")
        name = f"{job.id}-{artifact.index}{PurePosixPath(artifact.key).suffix}"
        kept = _Kept(artifact.key, artifact.bytes, f'"{artifact.sha256}"', artifact.content_type, name)
        return await self._send(request, kept, redirect=redirect)

    async def poster(self, request: Request, job: Job, index: int, *, stream: bool = False) -> Response:
        """Send one picture of artifact `index` of `job`, as `serve` sends the video.

        Raises RefusalError as `serve` does, and 404 `no_thumbnail`, 501 `media_not_installed`.
        """
        redirect = read_redirect(request) and not stream
        artifact = self._artifact(job, index)
        key = artifact.footage.poster if artifact.footage is not None else None
        key = key or await self._make_poster(job, artifact)
        size = await self._storage.size(key)
        if size is None:
            raise _gone("The thumbnail is no longer in storage; the operator must look after the storage.")
        kept = _Kept(key, size, f'"{artifact.sha256}-poster"', "image/jpeg", f"{job.id}-{artifact.index}.jpg")
        return await self._send(request, kept, redirect=redirect)

    async def links(self, request: Request, keys: Sequence[str]) -> list[str]:
        """Return a link to each of `keys` in storage, good for `link_seconds`; none at all when one cannot be made."""
        if not self.link_seconds:
            return []
        try:
            async with asyncio.timeout(_SIGN_SECONDS):
                links = [await self._storage.sign(key, self.link_seconds) for key in keys]
        except (StorageError, TimeoutError) as error:
            note(request, unsigned=str(error) or "the storage took too long to sign a link")
            return []  # some credentials read and cannot sign
        made = [link for link in links if link is not None]
        return made if len(made) == len(links) else []

    def _artifact(self, job: Job, index: int) -> Artifact:
        if not job.state.final:
            raise RefusalError(
                409,
                "not_ready",
                f"The job is {job.state}; read the job until it is completed, then ask for this again.",
            )
        if not job.artifacts:
            raise _gone(f"The job has ended as {job.state} and kept no video; its error says why.")
        for artifact in job.artifacts:
            if artifact.index == index:
                return artifact
        there = ", ".join(str(artifact.index) for artifact in job.artifacts)
        only = f"index {there}" if len(job.artifacts) == 1 else f"the indexes {there}"
        raise RefusalError(404, "artifact_not_found", f"The job has no artifact {index}; it has only {only}.")

    async def _make_poster(self, job: Job, artifact: Artifact) -> str:
        if self._posters is None or not self._posters.available:
            raise RefusalError(
                501,
                "media_not_installed",
                "This service makes no thumbnails; its operator can install what it takes: "
                "pip install 'reelkeeper[media]'.",
            )
        key = await self._posters.poster(job, artifact)
        if key is None:
            raise RefusalError(404, "no_thumbnail", "No picture could be made of this video; the video itself is kept.")
        return key

    async def _send(self, request: Request, kept: _Kept, *, redirect: bool) -> Response:
        # A client that names our tag is answered here: the bucket has tags of its own, and would not know it.
        if redirect and request.method == "GET" and not named(request.headers, kept.tag):
            links = await self.links(request, [kept.key])
            if links:
                headers = {"location": links[0], "cache-control": "private, no-store"}
                return Response(status_code=302, headers=headers)
        headers = {"etag": kept.tag, "cache-control": "private, no-cache", "accept-ranges": "bytes"}
        if forbidden(request.headers, kept.tag):
            raise RefusalError(
                412,
                "precondition_failed",
                f"If-Match asks for another version; what is kept is {kept.tag}.",
                headers=headers,
            )
        if known(request.headers, kept.tag):
            return Response(status_code=304, headers=headers)
        headers |= {
            "content-type": kept.content_type,
            "content-length": str(kept.size),
            "content-disposition": f'inline; filename="{kept.name}"',
            "x-content-type-options": "nosniff",
        }
        # Range is for GET alone.
        span = read_range(request.headers, kept.size, kept.tag) if request.method == "GET" else None
        start, end = (span.start, span.end) if span else (0, kept.size)
        if span:
            headers["content-range"] = f"bytes {start}-{end - 1}/{kept.size}"
            headers["content-length"] = str(end - start)
        if request.method == "HEAD" or start == end:
            return Response(headers=headers)
        chunks = self._pull(kept, start, end)
        # A storage that fails now still gets an answer; one that fails later can only break the connection.
        first = await anext(chunks)
        return StreamingResponse(_joined(first, chunks), 206 if span else 200, headers)

    async def _pull(self, kept: _Kept, start: int, end: int) -> AsyncIterator[bytes]:
        """Yield the bytes from `start` up to, not including, `end`: all of them, or StorageError.

        A bucket's answer has a time limit (30 s, and a few retries), which a client that reads slowly passes. So a
        read that broke is taken up where it broke, as long as each brings something.
        """
        at = start
        while at < end:
            begun = at
            try:
                async for chunk in self._storage.read(kept.key, at, end):
                    at += len(chunk)
                    if at > end:
                        break
                    yield chunk
            except StorageError:
                if at == begun or await self._storage.size(kept.key) != kept.size:
                    raise
            else:
                if at != end:
                    raise StorageError(f"{self._storage.describe()} has other bytes under {kept.key} than it said")


async def _joined(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk


def _gone(message: str) -> RefusalError:
    return RefusalError(410, "gone", message)
