"""LLM Gateway's own check of a create body: what its schema library says, in that library's words and key order.

Source: its published request schema; one issue observed, the others in the words of the library's version 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

SIZES: Final = (
    "848x480",
    "854x480",
    "480x854",
    "1280x720",
    "1696x960",
    "720x1280",
    "1366x768",
    "768x1366",
    "1920x1080",
    "1080x1920",
    "3840x2160",
    "2160x3840",
    "1792x1024",
    "1024x1792",
)

Issue = dict[str, Any]

_MISSING: Final = object()
# What each field must be, in the schema's order; a field that is not here is dropped silently.
_WANTED: Final = {
    "model": "string",
    "prompt": "string",
    "size": "string",
    "callback_url": "string",
    "callback_secret": "string",
    "seconds": "number",
    "audio": "boolean",
    "n": "number",
}
_REQUIRED: Final = frozenset({"prompt", "seconds"})
_NOT_EMPTY: Final = frozenset({"prompt", "callback_secret"})
_FRAMES: Final = ("image", "last_frame")
_REFERENCES: Final = ("reference_images", "input_reference", "reference_videos", "reference_audios")


def issues(request: Mapping[str, Any]) -> list[Issue]:
    """Return everything that the schema finds wrong; what concerns several fields only if each by itself is right."""
    found: list[Issue] = []
    for name, wanted in _WANTED.items():
        value = request.get(name, _MISSING)
        if value is _MISSING and name not in _REQUIRED:
            continue
        issue = _wrong_type(value, wanted) or _wrong_value(name, value)
        if issue:
            found.append(issue | {"path": [name]})
    return found or _refinements(request)


def _wrong_type(value: object, wanted: str) -> Issue | None:
    received = _type_of(value)
    if received == wanted:
        return None
    message = "Required" if value is _MISSING else f"Expected {wanted}, received {received}"
    return {"code": "invalid_type", "expected": wanted, "received": received, "path": [], "message": message}


def _wrong_value(name: str, value: Any) -> Issue | None:  # noqa: ANN401 - any JSON value
    if name in _NOT_EMPTY and not value:
        message = "String must contain at least 1 character(s)"
        return _too_small("string", message)
    if name == "callback_url" and not _is_url(value):
        return {"validation": "url", "code": "invalid_string", "message": "Invalid url"}
    if name in {"seconds", "n"} and isinstance(value, float) and not value.is_integer():
        message = "Expected integer, received float"
        return {"code": "invalid_type", "expected": "integer", "received": "float", "message": message}
    if name == "seconds" and value < 1:
        return _too_small("number", "Number must be greater than or equal to 1")
    return None


def _too_small(kind: str, message: str) -> Issue:
    return {"code": "too_small", "minimum": 1, "type": kind, "inclusive": True, "exact": False, "message": message}


def _refinements(request: Mapping[str, Any]) -> list[Issue]:
    frames = any(name in request for name in _FRAMES)
    references = any(name in request for name in _REFERENCES)
    both = "callback_url and callback_secret must either both be provided or both be omitted"
    rules = (
        ("callback_url" in request and "callback_secret" not in request, both, "callback_secret"),
        ("callback_secret" in request and "callback_url" not in request, both, "callback_url"),
        (request.get("n", 1) != 1, "Only n=1 is supported for Veo 3.1 preview models", "n"),
        (request.get("size", SIZES[0]) not in SIZES, f"size must be one of {', '.join(SIZES)}", "size"),
        (
            "last_frame" in request and "image" not in request,
            "last_frame requires image to also be provided",
            "last_frame",
        ),
        (
            "reference_images" in request and "input_reference" in request,
            "Only one of reference_images or input_reference can be provided for a video request",
            "reference_images",
        ),
        (
            frames and references,
            "Frame inputs (image/last_frame) cannot be combined with reference image inputs",
            "image",
        ),
    )
    return [{"code": "custom", "message": message, "path": [name]} for broken, message, name in rules if broken]


def _type_of(value: object) -> str:
    if value is _MISSING:
        return "undefined"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def _is_url(text: str) -> bool:
    """Whether JavaScript's `URL` takes it, nearly: any scheme, and a host where the scheme needs one (observed)."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return bool(parts.scheme) and bool(parts.netloc or parts.path)
