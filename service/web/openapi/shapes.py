"""How schemas are written, and what several of them have in common."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

Schema = Mapping[str, Any]


def ref(name: str) -> Schema:
    """Return what stands for the schema `name`."""
    return {"$ref": f"#/components/schemas/{name}"}


def record(
    description: str, fields: Mapping[str, Schema], *, optional: Collection[str] = (), more: bool = False
) -> Schema:
    """Return an object that has all `fields` but the `optional` ones, and others only if there may be `more`."""
    closed = {} if more else {"additionalProperties": False}
    required = [name for name in fields if name not in optional]
    return {"description": description, "type": "object", "required": required, "properties": fields, **closed}


def text(description: str = "", **more: object) -> Schema:
    """Return a string."""
    return _described({"type": "string", **more}, description)


def whole(description: str = "", **more: object) -> Schema:
    """Return a whole number that is not negative, unless `more` says otherwise."""
    return _described({"type": "integer", "minimum": 0, **more}, description)


def number(description: str = "") -> Schema:
    """Return a number that is not negative."""
    return _described({"type": "number", "minimum": 0}, description)


def one_of(words: Iterable[str], description: str = "") -> Schema:
    """Return a string that is one of `words`."""
    return _described({"type": "string", "enum": [str(word) for word in words]}, description)


def several(items: Schema, description: str = "") -> Schema:
    """Return an array."""
    return _described({"type": "array", "items": items}, description)


def each(values: Schema, description: str = "") -> Schema:
    """Return an object with any names."""
    return _described({"type": "object", "additionalProperties": values}, description)


def or_null(schema: Schema) -> Schema:
    """Return a schema that also takes null."""
    if "$ref" in schema:
        return {"anyOf": [schema, {"type": "null"}]}
    return {**schema, "type": [schema["type"], "null"]}


def _described(schema: Schema, description: str) -> Schema:
    return {"description": description, **schema} if description else schema


def listed(items: str, description: str, **more: Schema) -> Schema:
    """Return a list as ours and OpenAI's are."""
    return record(description, {"object": {"const": "list"}, "data": several(ref(items)), **more})


JOB_ID = text(pattern="^job_[0-9a-z]{26}$", examples=["job_01kzzzzzzzzzzzzzzzzzzzzzzz"])
FLAG: Schema = {"type": "boolean"}
ANY_OBJECT: Schema = {"type": "object"}
URL = text(format="uri")
TIME = text("RFC 3339, UTC, with milliseconds", format="date-time")
SECONDS = whole("unix seconds")
CODE = text("the error, for programs", pattern="^[a-z_]+$", examples=["invalid_request"])
MESSAGE = text("what to do, for people")
PROBLEMS = several(ref("Problem"), "everything that is wrong with the request; only there when fields of it are wrong")
COST = or_null(number("USD, as the provider said"))
METADATA = {**ANY_OBJECT, "description": "yours, as you sent it"}

_FOOTAGE: Mapping[str, Schema] = {
    "duration": or_null(number("s")),
    "width": or_null(whole("pixels")),
    "height": or_null(whole("pixels")),
    "codec": or_null(text("as FFmpeg names it", examples=["h264"])),
}
FILE: Mapping[str, Schema] = {
    "bytes": whole(),
    "sha256": text(pattern="^[0-9a-f]{64}$"),
    "content_type": text("what it is, by its bytes", examples=["video/mp4"]),
    **_FOOTAGE,
}
