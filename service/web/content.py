"""The bytes of a kept video, streamed from object storage with flat memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import PurePosixPath

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from service.model import Artifact, Job
from service.storage import Storage
from service.web.callers import Callers
from service.web.filters import read_index
from service.web.refusals import RefusalError
from service.web.views import Views


class Content:
    """Serves artifacts to the caller whose job made them. `Range` is not obeyed: the whole is sent."""

    def __init__(self, *, callers: Callers, storage: Storage, views: Views) -> None:
        self._callers = callers
        self._storage = storage
        self._views = views

    async def read(self, request: Request) -> Response:
        """Send artifact `?index=` (0 when left out)."""
        job = await self._callers.job(request)
        artifact = self._artifact(job, read_index(request))
        if await self._storage.size(artifact.key) != artifact.bytes:
            raise _gone("The video is no longer in storage as it was kept; the operator must look after the storage.")
        headers = {
            "content-type": artifact.content_type,
            "content-length": str(artifact.bytes),
            "content-disposition": f'inline; filename="{job.id}-{artifact.index}{PurePosixPath(artifact.key).suffix}"',
            "etag": f'"{artifact.sha256}"',
            "x-content-type-options": "nosniff",
        }
        if request.method == "HEAD":
            return Response(headers=headers)
        chunks = self._storage.read(artifact.key)
        # A storage that fails now still gets an answer; one that fails later can only break the connection.
        first = await anext(chunks)
        return StreamingResponse(_joined(first, chunks), headers=headers)

    def _artifact(self, job: Job, index: int) -> Artifact:
        if not job.state.final:
            raise RefusalError(
                409, "not_ready", f"The job is {job.state}; read {self._views.url(job)} until its state is completed."
            )
        if not job.artifacts:
            raise _gone(f"The job has ended as {job.state} and kept no video; its error says why.")
        for artifact in job.artifacts:
            if artifact.index == index:
                return artifact
        there = ", ".join(str(artifact.index) for artifact in job.artifacts)
        only = f"index {there}" if len(job.artifacts) == 1 else f"the indexes {there}"
        raise RefusalError(404, "artifact_not_found", f"The job has no artifact {index}; it has only {only}.")


async def _joined(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk


def _gone(message: str) -> RefusalError:
    return RefusalError(410, "gone", message)
