"""The calls of providers and operators, in the words of the README."""

from __future__ import annotations

from collections.abc import Sequence

from service.web.openapi import bodies, parameters
from service.web.openapi.operations import CALLBACKS, FOUND, MATCH, OPERATORS, SEEN, SENT, Operation
from service.web.openapi.responses import EXPOSITIONS, JSON, answered, bare
from service.web.openapi.shapes import text


def others(providers: Sequence[str]) -> list[Operation]:
    """Return the calls, of which one is where `providers` report."""
    signatures = ("X-OpenRouter-Signature", "webhook-id", "webhook-timestamp", "webhook-signature")
    healthy, ill = answered("It is.", "Health"), answered("It is not.", "Illness")
    return [
        Operation(
            "POST",
            "/callbacks/{provider}/{job_id}/{token}",
            "receiveCallback",
            CALLBACKS,
            "Where providers report; each job's address is made by us and told to its provider",
            {204: answered("It is on disk: new, doubled, late and out-of-order reports alike.")},
            (400, 401, 404, 408, 413, 415, 429, 500, 503),
            (parameters.reporting_provider(providers), "job_id", "token", *signatures),
            bodies.CALLBACK,
            {
                400: "It is genuine, and says nothing that we understand (`bad_callback`).",
                401: "Its signature is missing, wrong or too old (`bad_signature`).",
                404: "There is no such address, or it is another job's (`mismatched`).",
                429: "Many are rejected at this address, so it was not read; try again later (`too_many_rejections`).",
                503: "It could not be stored; send it again.",
            },
            keyless=True,
        ),
        Operation(
            "GET",
            "/v1/callbacks/rejected",
            "listRejectedCallbacks",
            CALLBACKS,
            "Callbacks that were not believed or not understood, with the reason; an operator key sees those of all",
            {200: answered("A page of them.", "RejectedCallbacksList")},
            (400, *SEEN),
            ("job", "limit", "cursor"),
        ),
        Operation("GET", "/healthz", "readHealth", OPERATORS, "The process is up", {200: healthy}, (), keyless=True),
        Operation(
            "GET",
            "/readyz",
            "readReadiness",
            OPERATORS,
            "It can write to the database and to storage",
            {200: healthy, 503: ill},
            (),
            keyless=True,
        ),
        Operation(
            "GET",
            "/v1/keys",
            "listKeys",
            OPERATORS,
            "Every API key, without the keys themselves; for operators, as all of `/v1/keys`",
            {200: answered("The keys, oldest first.", "KeyList")},
            (403, *SEEN),
        ),
        Operation(
            "POST",
            "/v1/keys",
            "createKey",
            OPERATORS,
            "Make an API key",
            {201: answered("The key itself is in `key`, this once.", "NewKey")},
            (403, *SENT, *SEEN),
            sent=bodies.KEY,
        ),
        Operation(
            "POST",
            "/v1/keys/{key_id}/revoke",
            "revokeKey",
            OPERATORS,
            "Make an API key useless, at once; once more changes nothing",
            {200: answered("It is revoked.", "Key")},
            (403, *FOUND),
            ("key_id",),
            meaning={404: "There is no such key (`key_not_found`)."},
        ),
        Operation(
            "GET",
            "/metrics",
            "readMetrics",
            OPERATORS,
            "The numbers for Prometheus, of the process that answers; with an operator key",
            {200: answered("They, in the form that `Accept` asks for.", {media: text() for media in EXPOSITIONS})},
            (403, *SEEN),
        ),
        Operation(
            "GET",
            "/openapi.json",
            "readDescription",
            OPERATORS,
            "All of this, for programs",
            {
                200: answered("This.", {JSON: {"type": "object"}}, told=("etag",)),
                304: bare("You have it.", 304),
            },
            (),
            MATCH,
            keyless=True,
        ),
    ]
