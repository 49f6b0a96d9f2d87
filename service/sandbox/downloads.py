"""Serves outputs: whole, or spoilt in the way that the job's behaviour asks for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from importlib import resources
from typing import Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from service.clock import Clock
from service.sandbox.behaviours import Serve
from service.sandbox.connection import close_after
from service.sandbox.dialect import Dialect
from service.sandbox.jobs import Download, Ledger, ProviderJob
from service.sandbox.links import Links

_FOLDER: Final = resources.files("service.sandbox") / "videos"
VIDEOS: Final = tuple((_FOLDER / name).read_bytes() for name in ("colour-bars.mp4", "moving-box.mp4", "countdown.mp4"))
"""What jobs and their outputs get in turn: H.264 in MP4, two seconds, 320x180."""
WEBM: Final = (_FOLDER / "moving-box.webm").read_bytes()

PAGE: Final = (
    b"<!doctype html>\n<html><head><title>Just a moment...</title></head>"
    b"<body><h1>Checking your connection before you proceed</h1></body></html>\n"
)
_SLOW_S: Final = 2.0
_DROPS: Final = 20
_LINK_LIVES_S: Final = 600
_ENDLESS_CHUNK: Final = (65_536).to_bytes(4, "big") + b"free" + bytes(65_528)  # one more box, so that it stays an MP4


class Downloads:
    """Serves the outputs of one sandbox and notes every download in the ledger."""

    def __init__(self, *, clock: Clock, links: Links, ledger: Ledger, speed: float) -> None:
        self._clock = clock
        self._links = links
        self._ledger = ledger
        self._speed = speed

    def serve(self, request: Request, job: ProviderJob, dialect: Dialect, index: int, *, via: str) -> Response:
        """Answer a download of a completed job's output. HEAD is answered as for a whole video, and not noted."""
        data, kind = _output(job, index)
        headers = dialect.content_headers()
        if request.method == "HEAD":
            return Response(headers={"content-length": str(len(data)), **headers}, media_type=kind)
        note = self._note(request, job, index, via)
        job.served += 1
        spoilt = job.behaviour.servings is None or job.served <= job.behaviour.servings
        response = self._spoilt(job, dialect, index, data, note) if spoilt else None
        if response is None:
            note.bytes = len(data)
            return Response(data, headers=headers, media_type=kind)
        note.status = response.status_code
        return response

    async def elsewhere(self, request: Request) -> Response:
        """Serve a signed link on the other origin, always whole: no key is needed, and none should come."""
        job_id, index = request.path_params["job_id"], request.path_params["index"]
        job = self._ledger.find(job_id)
        if job is None or not self._links.allows(request.query_params.get("token", ""), f"{job_id}/{index}"):
            return PlainTextResponse("This link is wrong or has expired.\n", 403)
        data, kind = _output(job, index)
        self._note(request, job, index, "elsewhere").bytes = len(data)
        return Response(data, media_type=kind)

    def _note(self, request: Request, job: ProviderJob, index: int, via: str) -> Download:
        note = Download(
            via=via,
            index=index,
            host=request.headers.get("host", "")[:200],
            authorization="authorization" in request.headers or "x-api-key" in request.headers,
            at=self._clock.now(),
            status=200,
        )
        job.downloads.append(note)
        return note

    def _spoilt(self, job: ProviderJob, dialect: Dialect, index: int, data: bytes, note: Download) -> Response | None:
        """Return the spoilt answer, None if the whole video is right."""
        headers = dialect.content_headers()
        length = {"content-length": str(len(data)), **headers}
        response: Response | None = None
        match job.behaviour.serve:
            case Serve.HTML:
                note.bytes = len(PAGE)
                response = Response(PAGE, headers=headers, media_type="text/html")
            case Serve.NOT_READY:
                response = dialect.not_ready("in_progress")
            case Serve.GONE:
                response = dialect.error(410)
            case Serve.REDIRECT:
                expires_at = self._clock.now() // 1000 + _LINK_LIVES_S
                response = RedirectResponse(self._links.output(job.id, index, expires_at), 302)
            case Serve.SHORT:
                response = _CutShort(data, note, length)
            case Serve.TRUNCATED:
                response = _stream(_once(data[: len(data) // 2], note), headers)
            case Serve.ENDLESS:
                response = _stream(_endless(data, note), headers)
            case Serve.SLOW:
                response = _stream(_drops(data, note, _SLOW_S / self._speed), length)
        return response


def _output(job: ProviderJob, index: int) -> tuple[bytes, str]:
    """Return an output's bytes and the content type that is claimed for it."""
    if job.behaviour.serve is Serve.WEBM:
        return WEBM, "application/octet-stream"
    return VIDEOS[(job.number + index) % len(VIDEOS)], "video/mp4"


class _CutShort(Response):
    """Declares a length, sends half of it and closes the connection."""

    def __init__(self, data: bytes, note: Download, headers: Mapping[str, str]) -> None:
        super().__init__(headers=headers, media_type="video/mp4")
        self._half = data[: len(data) // 2]
        self._note = note

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the half, then hang up."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self._half, "more_body": True})
        self._note.bytes = len(self._half)
        await close_after(scope, receive)


def _stream(chunks: AsyncIterator[bytes], headers: Mapping[str, str]) -> Response:
    return StreamingResponse(chunks, headers=headers, media_type="video/mp4")


async def _once(data: bytes, note: Download) -> AsyncIterator[bytes]:
    note.bytes += len(data)
    yield data


async def _endless(data: bytes, note: Download) -> AsyncIterator[bytes]:
    chunk = data
    while True:
        note.bytes += len(chunk)
        yield chunk
        chunk = _ENDLESS_CHUNK
        await asyncio.sleep(0)  # a fast reader must not keep everybody else waiting


async def _drops(data: bytes, note: Download, seconds: float) -> AsyncIterator[bytes]:
    size = -(-len(data) // _DROPS)
    for start in range(0, len(data), size):
        await asyncio.sleep(seconds / _DROPS)
        drop = data[start : start + size]
        note.bytes += len(drop)
        yield drop
