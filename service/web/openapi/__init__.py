"""`GET /openapi.json`: all of the API, for programs, as OpenAPI 3.1.

The calls are in `native`, `faces` and `operators`; what they take is in `parameters` and `bodies`, and what they answer
in `responses` and `schemas`, those of the two compatible faces in `dialects`; `shapes` is how a schema is written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from service.model import Face
from service.web import ranges
from service.web.answers import JSONResponse
from service.web.openapi import responses
from service.web.openapi.bodies import forms
from service.web.openapi.faces import openai, openrouter
from service.web.openapi.native import native
from service.web.openapi.operations import FACES, TAGS, Operation
from service.web.openapi.operators import others
from service.web.openapi.parameters import PARAMETERS
from service.web.openapi.receivers import RECEIVERS, receivers
from service.web.openapi.schemas import SCHEMAS
from service.web.openapi.status import STATUS, status
from service.web.status.health import version

_ABOUT = """\
Ask for a video once: Reelkeeper makes one paid job of it, and keeps the whole, hashed video in your own storage.

A `2xx` to a create means: on disk. A job is always waiting for exactly one thing; its `state` names the thing.
Where there is a `GET`, there is a `HEAD`. A method that a path does not take is a `405`, a head of more than 64 KiB a
`431`."""


class Description:
    """Serves the description of a service at `public_url`, which is written once, when the service starts."""

    def __init__(self, public_url: str, providers: Sequence[str]) -> None:
        self._body = _written(public_url, tuple(providers))
        self._tag = f'"{hashlib.sha256(self._body).hexdigest()[:32]}"'

    async def read(self, request: Request) -> Response:
        """Send it, to anybody; 304 to who has it."""
        headers = {"etag": self._tag, "cache-control": "no-cache"}
        if ranges.known(request.headers, self._tag):
            return Response(status_code=304, headers=headers)
        return Response(self._body, media_type="application/json", headers=headers)


def describe(public_url: str, providers: Sequence[str]) -> dict[str, Any]:
    """Return the description, with `public_url` as the server and `providers` as those that a request can name."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in (
        *native(providers),
        *receivers(),
        *openrouter(providers),
        *openai(providers),
        *others(providers),
        *status(),
    ):
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Reelkeeper",
            "version": version(),
            "summary": "One call, one paid job, one kept video, one true answer.",
            "description": _ABOUT,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": public_url}],
        "security": [{"bearer": []}, {"x-api-key": []}],
        "tags": [{"name": name, "description": said} for name, said in TAGS.items()],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer rk_…`"},
                "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
            "schemas": {**SCHEMAS, **RECEIVERS, **STATUS, **forms(providers)},
            "responses": responses.refusals(),
            "headers": responses.headers(),
        },
    }


@cache
def _written(public_url: str, providers: tuple[str, ...]) -> bytes:
    return bytes(JSONResponse(describe(public_url, providers)).body)


def _described(operation: Operation) -> dict[str, Any]:
    face = FACES.get(operation.tag, Face.NATIVE)
    head = operation.method == "HEAD"
    answers: dict[int, Mapping[str, Any]] = {
        **operation.answers,
        **{
            status: responses.refused(face, status, head=head, why=operation.meaning.get(status, ""))
            for status in operation.refuses
        },
    }
    described: dict[str, Any] = {
        "operationId": operation.name,
        "tags": [operation.tag],
        "summary": operation.summary,
        "parameters": [PARAMETERS[each] if isinstance(each, str) else each for each in operation.takes],
        "responses": {str(status): answers[status] for status in sorted(answers)},
    }
    if operation.sent is not None:
        described["requestBody"] = operation.sent
    if operation.keyless:
        described["security"] = []
    return described
