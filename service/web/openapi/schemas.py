"""What answers look like: strict where the form is ours, open where a provider's own entry is passed on."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from service.model import EVENTS, Billable, DeliveryState, ErrorCode, Face, State
from service.store import Reason, Verdict

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


def _list(items: str, description: str, **more: Schema) -> Schema:
    return record(description, {"object": {"const": "list"}, "data": several(ref(items)), **more})


JOB_ID = text(pattern="^job_[0-9a-z]{26}$", examples=["job_01kzzzzzzzzzzzzzzzzzzzzzzz"])
FLAG: Schema = {"type": "boolean"}
ANY_OBJECT: Schema = {"type": "object"}
_URL = text(format="uri")
_TIME = text("RFC 3339, UTC, with milliseconds", format="date-time")
_SECONDS = whole("unix seconds")
_CODE = text("the error, for programs", pattern="^[a-z_]+$", examples=["invalid_request"])
_MESSAGE = text("what to do, for people")
_PROBLEMS = several(ref("Problem"), "everything that is wrong with the request; only there when fields of it are wrong")
_COST = or_null(number("USD, as the provider said"))
_METADATA = {**ANY_OBJECT, "description": "yours, as you sent it"}

_FOOTAGE: Mapping[str, Schema] = {
    "duration": or_null(number("s")),
    "width": or_null(whole("pixels")),
    "height": or_null(whole("pixels")),
    "codec": or_null(text("as FFmpeg names it", examples=["h264"])),
}
_FILE: Mapping[str, Schema] = {
    "bytes": whole(),
    "sha256": text(pattern="^[0-9a-f]{64}$"),
    "content_type": text("what it is, by its bytes", examples=["video/mp4"]),
    **_FOOTAGE,
}
_LINKS = ("self", "events", "receipts", "deliveries", "cancel", "retry", "redeliver", "remirror", "content")

_JOB: Mapping[str, Schema] = {
    "id": JOB_ID,
    "object": {"const": "job"},
    "tenant": text("who owns it"),
    "state": one_of(State, "what the job is waiting for; the last four are final"),
    "provider": text(),
    "provider_job_id": or_null(text("the provider's name for the job")),
    "provider_status": or_null(text("the provider's own word")),
    "model": text(),
    "request": ref("VideoRequest"),
    "created_at": _TIME,
    "finished_at": or_null(_TIME),
    "cost": _COST,
    "artifacts": several(ref("Artifact"), "what is kept"),
    "retry_of": or_null(JOB_ID),
    "notify_url": or_null(text("where you are told of the job's end, without what may be secret in it")),
    "metadata": _METADATA,
    "links": record("what can be read of the job, and done with it", dict.fromkeys(_LINKS, _URL)),
    "error": or_null(ref("JobError")),
}

_KEY: Mapping[str, Schema] = {
    "id": text(pattern="^key_[0-9a-z]{26}$", examples=["key_01kzzzzzzzzzzzzzzzzzzzzzzz"]),
    "object": {"const": "key"},
    "name": text("whose it is, for people"),
    "tenant": text("who owns the jobs that are made with it"),
    "operator": {**FLAG, "description": "whether it sees and operates the whole service"},
    "created_at": _TIME,
    "revoked_at": or_null(_TIME),
    "dedupe_window": whole("s, in which identical creates are one job"),
    "per_minute": or_null(whole("how many videos may be asked for a minute", minimum=1)),
}

_CANCELLATION = record(
    "what the cancelling meant",
    {"outcome": one_of(("cancelled", "asked_provider")), "message": text("and whether the job is billed")},
)

_BATCH_RESULT = {"index": whole("its place in the request", maximum=99), "status": whole("as it would be for one job")}

NATIVE: Mapping[str, Schema] = {
    "Error": record(
        "What was not done, and what to do about it.",
        {"error": record("", {"code": _CODE, "message": _MESSAGE, "problems": _PROBLEMS}, optional=["problems"])},
    ),
    "Problem": record("One thing that is wrong with a request.", {"field": text(), "message": text()}),
    "Job": record("One request for one video.", _JOB),
    "CancelledJob": record("A job, and what became of cancelling it.", {**_JOB, "cancellation": _CANCELLATION}),
    "VideoRequest": record(
        "What was asked for; media and texts of more than 1,000 characters are abbreviated, but for the prompt.",
        {
            "model": text(),
            "prompt": text(),
            "duration": whole("s"),
            "aspect_ratio": text(),
            "resolution": text(),
            "size": text(),
            "seed": {"type": "integer"},
            "generate_audio": FLAG,
            "first_frame": text(),
            "last_frame": text(),
            "references": several(
                record("", {"type": one_of(("image", "video", "audio")), "url": text()}),
            ),
            "provider_options": ANY_OBJECT,
        },
        optional=[
            *("prompt", "duration", "aspect_ratio", "resolution", "size", "seed", "generate_audio"),
            *("first_frame", "last_frame", "references", "provider_options"),
        ],
    ),
    "Artifact": record("A kept output.", {"index": whole(), **_FILE, "url": _URL}),
    "JobError": record(
        "Why a job ended without a kept video.",
        {
            "code": one_of(ErrorCode),
            "message": _MESSAGE,
            "retryable": FLAG,
            "billable": one_of(Billable, "whether the provider charges for it"),
            "provider_code": or_null(text()),
            "provider_message": or_null(text()),
        },
    ),
    "JobList": _list(
        "Job", "Jobs, newest first.", has_more=FLAG, next_cursor=or_null(text("the `cursor` of the next page"))
    ),
    "BatchResults": record(
        "What became of each job, in the order in which they were sent.",
        {
            "object": {"const": "list"},
            "data": several({"oneOf": [ref("BatchAccepted"), ref("BatchRefused")]}),
        },
    ),
    "BatchAccepted": record(
        "A job that was accepted, or is there from an earlier call.",
        {**_BATCH_RESULT, "status": {"const": 202}, "replayed": {"const": True}, "job": ref("Job")},
        optional=["replayed"],
    ),
    "BatchRefused": record(
        "A job that was refused.",
        {**_BATCH_RESULT, "error": {"$ref": "#/components/schemas/Error/properties/error"}},
    ),
    "Event": record(
        "A fact about a job.",
        {"id": whole("counts from 1 within the job", minimum=1), "type": one_of(sorted(EVENTS)), "at": _TIME}
        | {"data": ANY_OBJECT},
    ),
    "EventList": _list("Event", "What happened, oldest first."),
    "Receipt": record(
        "A genuine callback about your job, or several that say the same.",
        {
            "object": {"const": "receipt"},
            "verdict": one_of(Verdict, "whether it moved the job on, said nothing new, or spoke of another job"),
            "provider_job_id": text("the provider's name for the job that it speaks of"),
            "provider_status": text("the provider's own word"),
            "times": whole("how often it came", minimum=1),
            "first_at": _TIME,
            "last_at": _TIME,
            "headers": each(text(), "those that were kept"),
            "bytes": whole("of the body, as it was signed"),
            "body": or_null(text("as text, without what may be secret in it; null when it is no text")),
        },
    ),
    "ReceiptList": _list("Receipt", "What your job's provider told us, oldest first."),
    "Delivery": record(
        "A message that is owed to you about an end of your job.",
        {
            "id": text("the event's, the same in every attempt"),
            "object": {"const": "delivery"},
            "state": one_of(DeliveryState),
            "event": one_of([f"job.{state}" for state in State if state.final]),
            "receiver": text("scheme, host and port"),
            "created_at": _TIME,
            "due_at": or_null(_TIME),
            "attempts": several(ref("DeliveryAttempt")),
        },
    ),
    "DeliveryAttempt": record(
        "One try to deliver.",
        {
            "number": whole("counts from 1", minimum=1),
            "at": _TIME,
            "duration_ms": whole(),
            "status": or_null(whole("of HTTP; null when no answer came")),
            "error": or_null(text("why no answer came")),
            "answer": or_null(text("the first bytes of its body; null for a private host")),
        },
    ),
    "DeliveryList": _list("Delivery", "What you were told, oldest first."),
}

OPENROUTER: Mapping[str, Schema] = {
    "OpenRouterError": record(
        "OpenRouter's form of an error.",
        {
            "error": record(
                "",
                {
                    "code": whole("the HTTP status"),
                    "message": _MESSAGE,
                    "metadata": record("", {"error_type": _CODE, "problems": _PROBLEMS}, optional=["problems"]),
                },
            )
        },
    ),
    "VideoGenerationResponse": record(
        "A job as OpenRouter shows it; what is not known is left out.",
        {
            "id": JOB_ID,
            "polling_url": _URL,
            "status": one_of(("pending", "in_progress", "completed", "failed", "cancelled", "expired")),
            "unsigned_urls": several(_URL, "where the kept outputs are read, with your API key"),
            "urls": several(_URL, "links to object storage that need no key, until `expires_at`"),
            "expires_at": _SECONDS,
            "error": text("why it ended without a video"),
            "usage": record("", {"cost": number("USD")}),
        },
        optional=["unsigned_urls", "urls", "expires_at", "error", "usage"],
    ),
    "OpenRouterModelList": record("Models.", {"data": several(ref("VideoModel"))}),
    "VideoModel": record(
        "A model as OpenRouter lists it: its own entry, or what is known of another provider's model.",
        {
            "id": text(),
            "canonical_slug": text(),
            "name": text(),
            "created": _SECONDS,
            "description": text(),
            "hugging_face_id": or_null(text()),
            "supported_resolutions": or_null(several(text())),
            "supported_aspect_ratios": or_null(several(text())),
            "supported_sizes": or_null(several(text())),
            "supported_durations": or_null(several(whole("s"))),
            "supported_frame_images": or_null(several(text())),
            "allowed_passthrough_parameters": several(text()),
            "generate_audio": or_null(FLAG),
            "seed": or_null(FLAG),
            "upscale_factor": or_null(ANY_OBJECT),
            "creativity": or_null(several({"type": "integer"})),
            "pricing_skus": or_null(each(text("USD"))),
        },
        optional=["description", "hugging_face_id", "pricing_skus"],
        more=True,
    ),
}

OPENAI: Mapping[str, Schema] = {
    "OpenAIError": record(
        "OpenAI's and LLM Gateway's form of an error.",
        {
            "error": record(
                "",
                {
                    "message": _MESSAGE,
                    "type": text("the kind of error", examples=["invalid_request_error"]),
                    "param": or_null(text("the first field that is wrong")),
                    "code": _CODE,
                    "problems": _PROBLEMS,
                },
                optional=["problems"],
            )
        },
    ),
    "Video": record(
        "A job as a video object: times in unix s, `seconds` a string, null for what is not known.",
        {
            "id": JOB_ID,
            "object": {"const": "video"},
            "status": one_of(("queued", "in_progress", "completed", "failed")),
            "model": text(),
            "prompt": or_null(text()),
            "progress": whole("a stage, not a forecast", maximum=100),
            "created_at": _SECONDS,
            "completed_at": or_null(_SECONDS),
            "expires_at": {"type": "null", "description": "the video is kept"},
            "seconds": or_null(text(pattern="^[0-9]+$")),
            "size": or_null(text("WIDTHxHEIGHT in pixels")),
            "error": or_null(ref("JobError")),
            "remixed_from_video_id": {"type": "null"},
            "provider": text(),
            "provider_job_id": or_null(text()),
            "provider_status": or_null(text()),
            "cost": _COST,
            "outputs": several(ref("VideoOutput")),
            "metadata": _METADATA,
            "content": several(
                record("", {"type": {"const": "video"}, "url": _URL, "mime_type": text()}), "of a completed video"
            ),
            "usage": record("", {"cost": number("USD")}),
            "callback": record("", {"url": text("without what may be secret in it")}),
        },
        optional=["content", "usage", "callback"],
    ),
    "VideoOutput": record("A kept output.", {"index": whole(), "url": _URL, **_FILE}),
    "VideoList": _list("Video", "Videos.", has_more=FLAG, first_id=or_null(JOB_ID), last_id=or_null(JOB_ID)),
    "VideoDeleted": record(
        "It is gone.", {"id": JOB_ID, "object": {"const": "video.deleted"}, "deleted": {"const": True}}
    ),
    "Model": record(
        "A model as OpenAI lists it, with what LLM Gateway's catalogue says beyond that.",
        {"id": text(), "object": {"const": "model"}, "created": _SECONDS, "owned_by": text()},
        more=True,
    ),
    "ModelList": _list("Model", "Models."),
}

OPERATORS: Mapping[str, Schema] = {
    "RejectedCallbacks": record(
        "All callbacks to a job's own address that were rejected for one reason; the newest 1,000 such are kept.",
        {
            "object": {"const": "rejected_callbacks"},
            "job": JOB_ID,
            "provider": text(),
            "reason": one_of(Reason),
            "message": text("what the last one tells, and what to do"),
            "times": whole(minimum=1),
            "first_at": _TIME,
            "last_at": _TIME,
            "headers": each(text(), "a few of the last one, never a signature"),
            "bytes": or_null(whole("of the last one's body; null when it was not read")),
        },
    ),
    "RejectedCallbacksList": _list(
        "RejectedCallbacks", "Newest first.", has_more=FLAG, next_cursor=or_null(text("the `cursor` of the next page"))
    ),
    "Key": record("An API key, without the key itself.", _KEY),
    "NewKey": record("An API key that was just made.", {**_KEY, "key": text("the key itself, this once")}),
    "KeyList": _list("Key", "API keys, oldest first."),
    "Health": record("", {"status": {"const": "ok"}}),
    "Illness": record("What is ill, each with why.", {"status": {"const": "ill"}, "troubles": each(text())}),
}

ERRORS: Mapping[Face, str] = {Face.NATIVE: "Error", Face.OPENROUTER: "OpenRouterError", Face.OPENAI: "OpenAIError"}
"""The schema of each face's errors."""

SCHEMAS: Mapping[str, Schema] = {**NATIVE, **OPENROUTER, **OPENAI, **OPERATORS}
