"""The calls of the native API, `/v1/jobs`, in the words of the README."""

from __future__ import annotations

from collections.abc import Sequence

from service.web.openapi import bodies, parameters
from service.web.openapi.operations import CALL, FOUND, MADE, MAKING, NATIVE, REUSED, SEEN, SENT, Operation, content
from service.web.openapi.responses import CREATED, EVENT_STREAM, JSON, answered
from service.web.openapi.shapes import ref, text


def native(providers: Sequence[str]) -> list[Operation]:
    """Return the calls."""
    job = "/v1/jobs/{job_id}"
    accepted = answered("It is on disk; nothing was spent before.", "Job", told=CREATED)
    history = {JSON: ref("EventList"), EVENT_STREAM: text("events as they happen, each with its `Event` as `data`")}
    return [
        Operation(
            "POST",
            "/v1/jobs",
            "createJob",
            NATIVE,
            "Create; `Idempotency-Key` makes repeated calls one job",
            {202: accepted},
            MADE,
            (*CALL, parameters.named_provider(providers)),
            bodies.CREATE,
            MAKING,
        ),
        Operation(
            "GET",
            "/v1/jobs",
            "listJobs",
            NATIVE,
            "List, newest first",
            {200: answered("A page of jobs.", "JobList")},
            (400, 403, *SEEN),
            (
                "state",
                "provider",
                "model",
                "error",
                "tenant",
                "q",
                "created_after",
                "created_before",
                "limit",
                "cursor",
            ),
            meaning={403: "The tenant is another one, and the API key not an operator's (`operators_only`)."},
        ),
        Operation(
            "POST",
            "/v1/jobs/batch",
            "createJobs",
            NATIVE,
            "Create up to 100; each is accepted or refused by itself",
            {200: answered("What became of each.", "BatchResults")},
            (*SENT, *SEEN),
            (*CALL, parameters.named_provider(providers)),
            bodies.BATCH,
        ),
        Operation("GET", job, "readJob", NATIVE, "Read", {200: answered("The job.", "Job")}, FOUND, ("job_id",)),
        Operation(
            "GET",
            f"{job}/events",
            "readJobEvents",
            NATIVE,
            "What happened, oldest first; with `Accept: text/event-stream` as it happens",
            {
                200: answered("The history.", history, told=("vary",)),
                204: answered("Of a stream: the job has ended, and all was told before.", told=("vary",)),
            },
            (400, 429, *FOUND),
            ("job_id", parameters.AFTER_EVENT, "Last-Event-ID"),
            meaning={429: "All streams that there can be, or that a tenant can have, are open (`too_many_streams`)."},
        ),
        Operation(
            "GET",
            f"{job}/deliveries",
            "readJobDeliveries",
            NATIVE,
            "What the caller was told, attempt by attempt",
            {200: answered("The deliveries.", "DeliveryList")},
            FOUND,
            ("job_id",),
        ),
        Operation(
            "GET",
            f"{job}/receipts",
            "readJobReceipts",
            NATIVE,
            "Genuine callbacks about the job, and what came of each",
            {200: answered("The callbacks.", "ReceiptList")},
            FOUND,
            ("job_id",),
        ),
        Operation(
            "POST",
            f"{job}/cancel",
            "cancelJob",
            NATIVE,
            "Cancel; the answer's `cancellation` says what that meant",
            {
                200: answered("It is cancelled.", "CancelledJob"),
                202: answered("Its provider was asked; the job goes on until it says how it ended.", "CancelledJob"),
            },
            (409, *FOUND),
            ("job_id",),
            meaning={
                409: "The provider cannot and bills it, or the job has ended (`cannot_cancel`).",
                503: "The provider gave no answer (`provider_unavailable`), or the database did not.",
            },
        ),
        Operation(
            "POST",
            f"{job}/retry",
            "retryJob",
            NATIVE,
            "A new job like one that brought no video; it may cost once more",
            {202: answered("The new job; its `retry_of` names the old one.", "Job", told=CREATED)},
            (400, 401, 402, 404, 409, 410, 429, 500, 503),
            ("job_id", *CALL),
            meaning={**MAKING, 409: f"The job may yet bring its video, or has (`cannot_retry`). {REUSED}"},
        ),
        Operation(
            "POST",
            f"{job}/redeliver",
            "redeliverJob",
            NATIVE,
            "Tell the caller once more",
            {202: answered("The newest message about the job, which is sent again.", "Delivery")},
            (409, *FOUND),
            ("job_id",),
            meaning={409: "There is nothing to tell (`nothing_to_deliver`), or it is being told (`being_delivered`)."},
        ),
        Operation(
            "POST",
            f"{job}/remirror",
            "remirrorJob",
            NATIVE,
            "Copy an output again that was given up",
            {202: answered("The job; it is tried for a day.", "Job")},
            (409, *FOUND),
            ("job_id",),
            meaning={409: "The job did not end with `output_unavailable` (`cannot_remirror`)."},
        ),
        Operation(
            "POST",
            f"{job}/attach",
            "attachJob",
            NATIVE,
            "Bind the provider's id to a job whose submission has an unknown outcome; with an operator key",
            {200: answered("The job, about which the provider is asked at once.", "Job")},
            (*SENT, 403, 409, *FOUND),
            ("job_id",),
            bodies.ATTACH,
            {
                409: "The job is bound to an id that a report has confirmed, was never submitted or is just being "
                "submitted, or another job has this id (`cannot_attach`)."
            },
        ),
        *content(f"{job}/content", "readJobContent", NATIVE, ("index", "redirect")),
    ]
