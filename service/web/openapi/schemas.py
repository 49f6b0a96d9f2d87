"""What answers look like: strict where the form is ours, open where a provider's own entry is passed on."""

from __future__ import annotations

from collections.abc import Mapping

from service.model import EVENTS, Billable, DeliveryState, ErrorCode, Face, State
from service.store import Reason, Verdict
from service.web.openapi.dialects import OPENAI, OPENROUTER
from service.web.openapi.shapes import (
    ANY_OBJECT,
    CODE,
    COST,
    FILE,
    FLAG,
    JOB_ID,
    MESSAGE,
    METADATA,
    PROBLEMS,
    TIME,
    URL,
    Schema,
    each,
    listed,
    one_of,
    or_null,
    record,
    ref,
    several,
    text,
    whole,
)

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
    "created_at": TIME,
    "finished_at": or_null(TIME),
    "cost": COST,
    "artifacts": several(ref("Artifact"), "what is kept"),
    "retry_of": or_null(JOB_ID),
    "notify_url": or_null(text("where you are told of the job's end, without what may be secret in it")),
    "metadata": METADATA,
    "links": record("what can be read of the job, and done with it", dict.fromkeys(_LINKS, URL)),
    "error": or_null(ref("JobError")),
}

_KEY: Mapping[str, Schema] = {
    "id": text(pattern="^key_[0-9a-z]{26}$", examples=["key_01kzzzzzzzzzzzzzzzzzzzzzzz"]),
    "object": {"const": "key"},
    "name": text("whose it is, for people"),
    "tenant": text("who owns the jobs that are made with it"),
    "operator": {**FLAG, "description": "whether it sees and operates the whole service"},
    "created_at": TIME,
    "revoked_at": or_null(TIME),
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
        {"error": record("", {"code": CODE, "message": MESSAGE, "problems": PROBLEMS}, optional=["problems"])},
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
    "Artifact": record("A kept output.", {"index": whole(), **FILE, "url": URL}),
    "JobError": record(
        "Why a job ended without a kept video.",
        {
            "code": one_of(ErrorCode),
            "message": MESSAGE,
            "retryable": FLAG,
            "billable": one_of(Billable, "whether the provider charges for it"),
            "provider_code": or_null(text()),
            "provider_message": or_null(text()),
        },
    ),
    "JobList": listed(
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
        {"id": whole("counts from 1 within the job", minimum=1), "type": one_of(sorted(EVENTS)), "at": TIME}
        | {"data": ANY_OBJECT},
    ),
    "EventList": listed("Event", "What happened, oldest first."),
    "Receipt": record(
        "A genuine callback about your job, or several that say the same.",
        {
            "object": {"const": "receipt"},
            "verdict": one_of(Verdict, "whether it moved the job on, said nothing new, or spoke of another job"),
            "provider_job_id": text("the provider's name for the job that it speaks of"),
            "provider_status": text("the provider's own word"),
            "times": whole("how often it came", minimum=1),
            "first_at": TIME,
            "last_at": TIME,
            "headers": each(text(), "those that were kept"),
            "bytes": whole("of the body, as it was signed"),
            "body": or_null(text("as text, without what may be secret in it; null when it is no text")),
        },
    ),
    "ReceiptList": listed("Receipt", "What your job's provider told us, oldest first."),
    "Delivery": record(
        "A message that is owed to you about an end of your job.",
        {
            "id": text("the event's, the same in every attempt"),
            "object": {"const": "delivery"},
            "state": one_of(DeliveryState),
            "event": one_of([f"job.{state}" for state in State if state.final]),
            "receiver": text("scheme, host and port"),
            "created_at": TIME,
            "due_at": or_null(TIME),
            "attempts_made": whole("how often it was tried over its whole life, with every redelivery"),
            "attempts": several(ref("DeliveryAttempt"), "the newest 50, oldest first"),
        },
    ),
    "DeliveryAttempt": record(
        "One try to deliver.",
        {
            "number": whole("counts from 1", minimum=1),
            "at": TIME,
            "duration_ms": whole(),
            "status": or_null(whole("of HTTP; null when no answer came")),
            "error": or_null(text("why no answer came")),
            "answer": or_null(text("the first bytes of its body; null for a private host")),
        },
    ),
    "DeliveryList": listed("Delivery", "What you were told, oldest first."),
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
            "first_at": TIME,
            "last_at": TIME,
            "headers": each(text(), "a few of the last one, never a signature"),
            "bytes": or_null(whole("of the last one's body; null when it was not read")),
        },
    ),
    "RejectedCallbacksList": listed(
        "RejectedCallbacks", "Newest first.", has_more=FLAG, next_cursor=or_null(text("the `cursor` of the next page"))
    ),
    "Key": record("An API key, without the key itself.", _KEY),
    "NewKey": record("An API key that was just made.", {**_KEY, "key": text("the key itself, this once")}),
    "KeyList": listed("Key", "API keys, oldest first."),
    "Health": record("", {"status": {"const": "ok"}}),
    "Illness": record("What is ill, each with why.", {"status": {"const": "ill"}, "troubles": each(text())}),
}

ERRORS: Mapping[Face, str] = {Face.NATIVE: "Error", Face.OPENROUTER: "OpenRouterError", Face.OPENAI: "OpenAIError"}
"""The schema of each face's errors."""

SCHEMAS: Mapping[str, Schema] = {**NATIVE, **OPENROUTER, **OPENAI, **OPERATORS}
