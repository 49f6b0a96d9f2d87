"""The calls of the status that programs make, in the words of the README, and what they answer."""

from __future__ import annotations

from collections.abc import Mapping

from service.model import DeliveryState, Source, State
from service.web.openapi.operations import OPERATORS, SEEN, Operation
from service.web.openapi.responses import HTML, JSON, answered
from service.web.openapi.shapes import (
    FLAG,
    JOB_ID,
    Schema,
    each,
    number,
    one_of,
    or_null,
    record,
    ref,
    several,
    text,
    whole,
)

_TIME = text("RFC 3339, UTC, with milliseconds", format="date-time")
_SHARE = or_null(number("0 to 1; null when there is nothing to share"))
_COURSE = several(whole(), "per quarter of an hour of the last 24 h, oldest first; the last one has only begun")
_WELL = text("`ok`, or what is wrong and what to do")
_ENDS = [state for state in State if state.final]
_OPERATORS_ONLY = ("uptime_seconds", "parts", "workers", "unserved", "rejected_callbacks", "unknown_words")

STATUS: Mapping[str, Schema] = {
    "Status": record(
        "How the service is, or how the jobs of one tenant are. By provider, where it makes sense.",
        {
            "object": {"const": "status"},
            "tenant": or_null(text("whose jobs these are; null: everybody's")),
            "version": text(),
            "now": _TIME,
            "uptime_seconds": whole(),
            "jobs": each(record("", dict.fromkeys(State, whole())), "how many are in each state now"),
            "entered": each(each(_COURSE), "how often which event happened"),
            "ended": each(
                record("", {**dict.fromkeys(_ENDS, whole()), "success_rate": _SHARE}),
                "how jobs ended in the last 24 h; the rate leaves those out that were cancelled",
            ),
            "reports": each(
                record(
                    "",
                    {
                        **dict.fromkeys(Source, whole()),
                        "callback_share": _SHARE,
                        "course": record("", dict.fromkeys(Source, _COURSE)),
                    },
                ),
                "how the last word about the jobs came that were settled in the last 24 h",
            ),
            "overdue_seconds": each(number(), "for how long the oldest item of each step has been due"),
            "waiting": several(
                record(
                    "",
                    {
                        "step": text("submit, resolve, poll, mirror or notify"),
                        "provider": or_null(text()),
                        "id": text("of the job or the delivery"),
                        "job": JOB_ID,
                        "due_at": _TIME,
                        "since": _TIME,
                    },
                ),
                "what waits longest, by step and provider",
            ),
            "kept": each(
                record("", {"jobs": whole(), "p50_seconds": number(), "p95_seconds": number()}),
                "from submission to kept video, in the last 24 h, within about a tenth",
            ),
            "spend": several(
                record(
                    "",
                    {
                        "provider": text(),
                        "model": text(),
                        "jobs": whole(),
                        "priced": whole("how many the provider told the price of"),
                        "cost": or_null(number("USD, null while `priced` is 0")),
                    },
                ),
                "of the last 30 days, the dearest first, 50 at most",
            ),
            "storage": record("", {"files": whole(), "bytes": whole()}),
            "deliveries": record("", dict.fromkeys(DeliveryState, whole())),
            "concerns": several(
                record(
                    "",
                    {
                        "kind": one_of(
                            [
                                "callbacks_stopped",
                                "callbacks_rejected",
                                "failing",
                                "overdue",
                                "receivers_failing",
                                "unserved",
                            ],
                            "for programs",
                        ),
                        "provider": or_null(text()),
                        "message": text("for people"),
                        "mended": {**FLAG, "description": "it is told for a day, and nobody must look any more"},
                    },
                ),
                "what somebody should look at",
            ),
            "parts": each(_WELL, "database, storage and each worker"),
            "workers": each(_WELL),
            "unserved": each(whole(), "open jobs of a provider that is not configured any more"),
            "rejected_callbacks": each(
                each(whole(minimum=1)),
                "callbacks of a provider that were not believed or not understood: how often for which reason, "
                "counted over the newest 1,000 entries of `GET /v1/callbacks/rejected`, which are all that is kept",
            ),
            "unknown_words": each(
                each(whole()), "status words of a provider that nobody knows, and how often they came"
            ),
        },
        optional=_OPERATORS_ONLY,
    )
}


def status() -> list[Operation]:
    """Return the calls."""
    about = "How the service is, to an operator key; to any other, how its own jobs are"
    page = {JSON: ref("Status"), HTML: text()}
    return [
        Operation(
            "GET",
            "/status",
            "readStatusPage",
            OPERATORS,
            f"{about}; to browsers as a page",
            {200: answered("The numbers.", page, told=("vary",))},
            SEEN,
        ),
        Operation(
            "GET",
            "/status.json",
            "readStatus",
            OPERATORS,
            about,
            {200: answered("The numbers.", "Status", told=("vary",))},
            SEEN,
        ),
    ]
