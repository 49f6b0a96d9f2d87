"""The calls of `/v1/receivers`, in the words of the README, and what they answer."""

from __future__ import annotations

from collections.abc import Mapping

from service.web.openapi import bodies
from service.web.openapi.operations import FOUND, NATIVE, SEEN, SENT, Operation
from service.web.openapi.responses import answered
from service.web.openapi.shapes import FLAG, Schema, or_null, record, ref, several, text, whole

_RECEIVER = text("scheme, host and port", examples=["https://hooks.example.com:443"])
_TENANT = text("whose it is")

RECEIVERS: Mapping[str, Schema] = {
    "Receiver": record(
        "Who does not take what they are told.",
        {
            "object": {"const": "receiver"},
            "tenant": _TENANT,
            "receiver": _RECEIVER,
            "failed": whole("messages that were given up"),
            "pending": whole("messages that are still being tried, or were not tried yet"),
            "last_error": or_null(text("why no answer came, the last time that a message was not taken")),
            "last_status": or_null(whole("of HTTP; null when no answer came")),
            "last_at": or_null(text("RFC 3339, UTC, with milliseconds", format="date-time")),
        },
    ),
    "ReceiverList": record(
        "Receivers that fail.",
        {"object": {"const": "list"}, "data": several(ref("Receiver")), "has_more": FLAG},
    ),
    "Redelivery": record(
        "What is sent once more.",
        {
            "object": {"const": "redelivery"},
            "tenant": _TENANT,
            "receiver": _RECEIVER,
            "redelivered": whole("messages that are sent again, of both kinds"),
            "given_up": whole("messages that had been given up"),
            "waiting": whole("messages that waited for their next attempt, after one that failed"),
        },
    ),
}


def receivers() -> list[Operation]:
    """Return the calls."""
    return [
        Operation(
            "GET",
            "/v1/receivers",
            "listReceivers",
            NATIVE,
            "Receivers of your messages that do not take them; an operator key sees those of all",
            {200: answered("Them.", "ReceiverList")},
            (400, *SEEN),
            ("limit",),
        ),
        Operation(
            "POST",
            "/v1/receivers/redeliver",
            "redeliverAll",
            NATIVE,
            "Send a receiver all again that it did not take: what was given up, and at once what waits after a failed "
            "attempt; called twice, it sends nothing twice",
            {200: answered("How much is sent again; 0 when there is nothing that it did not take.", "Redelivery")},
            (*SENT, *FOUND),
            sent=bodies.REDELIVER,
            meaning={404: "You have no such receiver (`receiver_not_found`)."},
        ),
    ]
