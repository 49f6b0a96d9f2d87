"""What can be answered: by status, with the headers that matter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from service.model import Face
from service.web.openapi.schemas import ERRORS
from service.web.openapi.shapes import Schema, one_of, ref, text

Response = Mapping[str, Any]

JSON = "application/json"
HTML = "text/html"
EVENT_STREAM = "text/event-stream"
VIDEO = "video/*"
PICTURE = "image/jpeg"
EXPOSITIONS = ("text/plain", "application/openmetrics-text")
CREATED = ("location", "idempotency-replayed")
"""Headers of an answer to a create."""

_HEADERS: Mapping[str, tuple[Schema, str]] = {
    "x-request-id": (text(pattern="^[A-Za-z0-9._:-]{1,128}$"), "names the request in the service's log"),
    "x-should-retry": (one_of(["false"]), "the same request would get the same answer"),
    "www-authenticate": (text(), "says that an API key is wanted"),
    "retry-after": (text(pattern="^[0-9]+$"), "s, after which to try again"),
    "location": (text(format="uri"), "where the job is read"),
    "idempotency-replayed": (one_of(["true"]), "the job is there from an earlier call"),
    "openai-poll-after-ms": (text(pattern="^[0-9]+$"), "ms, after which to look again; not on a final job"),
    "link": (text(format="uri"), "the bytes in the bucket, for `REELKEEPER_SIGNED_LINKS` seconds"),
    "etag": (text(pattern='^"[^"]+"$'), "names these bytes"),
    "accept-ranges": (one_of(["bytes"]), "parts can be asked for"),
    "content-range": (text(pattern=r"^bytes ([0-9]+-[0-9]+|\*)/[0-9]+$"), "which part it is, and of how many bytes"),
    "content-length": (text(pattern="^[0-9]+$"), "bytes"),
    "content-disposition": (text(), "a name for a file"),
    "vary": (one_of(["Accept"]), "the answer depends on `Accept`"),
}
_SPELLED = {"etag": "ETag"}
_SOMETIMES = {"idempotency-replayed", "openai-poll-after-ms", "www-authenticate"}

_FILE = ("etag", "accept-ranges", "content-length", "content-disposition")
_ALWAYS: Mapping[int, Sequence[str]] = {
    302: ("link",),
    304: ("etag",),
    401: ("www-authenticate",),
    416: ("content-range",),
    429: ("retry-after",),
    503: ("retry-after",),
}
_WORTH_RETRYING = {408, 412, 429, 500, 503}

_MEANINGS: Mapping[int, str] = {
    400: "A field, a parameter or a header is wrong, or the body cannot be read; everything wrong is named at once.",
    401: "There is no API key, or it is unknown or was revoked.",
    402: "The service's account at the provider is out of credits (`provider_credits`).",
    403: "The API key is not an operator's (`operators_only`).",
    404: "There is nothing here under this API key: another tenant's job does not exist.",
    408: "The body did not arrive in time (`body_too_slow`).",
    409: "The job's state does not allow it.",
    410: "It is gone.",
    412: "`If-Match` asks for another version (`precondition_failed`).",
    413: "The body is too large (`body_too_large`).",
    415: "The body is not what it should be, by its Content-Type (`unsupported_media_type`).",
    416: "There is no byte in the range (`range_not_satisfiable`).",
    429: "Too much at once.",
    500: "The service made a mistake, which is in its log under the `x-request-id` of this answer (`internal`).",
    501: "Not here: the service lacks what it takes.",
    503: "The database or the storage does not answer (`store_unavailable`, `storage_unavailable`), or what you look "
    "for takes too long to find (`took_too_long`).",
}


def headers() -> Mapping[str, Schema]:
    """Return every header of an answer that matters, by the name under which it is referred to."""
    return {
        name: {"description": said, "required": name not in _SOMETIMES, "schema": schema}
        for name, (schema, said) in _HEADERS.items()
    }


def answered(
    description: str, content: Mapping[str, Schema] | str | None = None, *, told: Sequence[str] = ()
) -> Response:
    """Return an answer whose `content` is a schema by its name, or schemas by their media types, or nothing."""
    if isinstance(content, str):
        content = {JSON: ref(content)}
    response: dict[str, Any] = {"description": description, "headers": _headers(("x-request-id", *told))}
    if content is not None:
        response["content"] = {media: {"schema": schema} for media, schema in content.items()}
    return response


def file(description: str, media: Sequence[str], *, status: int, head: bool) -> Response:
    """Return an answer that is the bytes of a file, or what would be said about them."""
    told = ("content-range", *_FILE) if status == 206 else _FILE  # noqa: PLR2004 - partial content
    binary = {each: text(format="binary") for each in media}
    return answered(description, None if head else binary, told=told)


def bare(description: str, status: int) -> Response:
    """Return an answer without a body."""
    return answered(description, told=_ALWAYS.get(status, ()))


def refusals() -> Mapping[str, Response]:
    """Return every refusal of every face, by the name that `refused` refers to."""
    return {f"{_name(face)}{status}": _refusal(face, status) for face in Face for status in _MEANINGS}


def refused(face: Face, status: int, *, head: bool = False, why: str = "") -> Response:
    """Return the refusal with `status`; `why` says what it means here, when that is not what it means elsewhere."""
    if head:
        return {**_refusal(face, status, head=True), **({"description": why} if why else {})}
    reference = {"$ref": f"#/components/responses/{_name(face)}{status}"}
    return {**reference, "description": why} if why else reference


def _refusal(face: Face, status: int, *, head: bool = False) -> Response:
    told = [*_ALWAYS.get(status, ()), *([] if status in _WORTH_RETRYING else ["x-should-retry"])]
    return answered(_MEANINGS[status], None if head else ERRORS[face], told=told)


def _name(face: Face) -> str:
    return ERRORS[face].removesuffix("Error") or "Native"


def _headers(names: Sequence[str]) -> Mapping[str, Schema]:
    spelled = {name: _SPELLED.get(name, "Location" if name == "link" else name) for name in names}
    return {spelled[name]: {"$ref": f"#/components/headers/{name}"} for name in names}
