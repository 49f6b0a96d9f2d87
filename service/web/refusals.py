"""What the API says when it does not do what was asked: one shape for every error of a face.

    {"error": {"code": "invalid_request", "message": "…", "problems": [{"field": "duration", "message": "…"}]}}

`message` tells the reader what to do; `problems` is there when fields of the request are wrong, and names all of them.
The compatible faces say the same in the shapes that their clients parse, which the path of the request decides.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict

from service.model import Problem
from service.web.answers import JSONResponse

MOST_PROBLEMS = 50
_MOST_TOLD = 5
_LONGEST_NAME = 80


class RefusalError(Exception):
    """A request that is answered with an error: the HTTP status, a code for programs and a message for people."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        problems: Sequence[Problem] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.problems = problems
        self.headers = headers

    def response(self, path: str = "") -> JSONResponse:
        """Return the answer in the shape of the face that `path` belongs to."""
        headers = dict(self.headers or {})
        if self.status in _FINAL_ANSWERS:
            headers["x-should-retry"] = "false"
        error = next((shape for prefix, shape in _SHAPES if path.startswith(prefix)), _native)(self)
        return JSONResponse({"error": error}, self.status, headers)


def _native(refusal: RefusalError) -> dict[str, object]:
    return {"code": refusal.code, "message": refusal.message, **_problems(refusal)}


def _openrouter(refusal: RefusalError) -> dict[str, object]:
    """OpenRouter's SDKs want the status as an integer `code`; of all else they keep `metadata` alone."""
    metadata = {"error_type": refusal.code, **_problems(refusal)}
    return {"code": refusal.status, "message": refusal.message, "metadata": metadata}


def _openai(refusal: RefusalError) -> dict[str, object]:
    """OpenAI's and LLM Gateway's shape: `type` is a kind of error, `code` the error, `param` the first wrong field."""
    kind = _KINDS.get(refusal.status, "invalid_request_error" if refusal.status < _OUR_FAULT else "server_error")
    param = refusal.problems[0].field if refusal.problems else None
    return {"message": refusal.message, "type": kind, "param": param, "code": refusal.code, **_problems(refusal)}


def _problems(refusal: RefusalError) -> dict[str, object]:
    return {"problems": [asdict(problem) for problem in refusal.problems]} if refusal.problems else {}


_SHAPES = (
    ("/api/v1/", _openrouter),
    ("/v1/videos", _openai),
    ("/v1/models", _openai),
    ("/videos", _openrouter),  # SDKs with a wrong base URL: this shape is what each of them can read
)
_OUR_FAULT = 500
_KINDS = {401: "authentication_error", 402: "billing_error", 403: "permission_error", 429: "rate_limit_error"}
_FINAL_ANSWERS = frozenset({400, 401, 402, 403, 404, 405, 409, 410, 413, 415, 416, 422, 501})
"""Statuses to which the same request would get the same answer. Stainless SDKs repeat a 409 unless told not to."""


def invalid_request(problems: Sequence[Problem], advice: str = "") -> RefusalError:
    """Return the error that names everything that is wrong with a request, or as much of it as anybody reads.

    `advice` is a sentence for all problems together.
    """
    problems = problems[:MOST_PROBLEMS]
    told = ["Nothing was done; correct this and send it again."]
    told += [_ended(f"{problem.field}: {problem.message}") for problem in problems[:_MOST_TOLD]]
    if len(problems) > _MOST_TOLD:
        told.append(f"And {len(problems) - _MOST_TOLD} more, see problems.")
    if advice:
        told.append(advice)
    return RefusalError(400, "invalid_request", " ".join(told), problems=problems)


def not_a_name(name: str, names: Collection[str], what: str, *, listed: bool = True) -> str:
    """Say that `name` is not one of `names`, which are `what` ("a field"), and what was probably meant.

    When nothing is near, `names` are listed, or `what` is all that is said.
    """
    near = difflib.get_close_matches(name[:_LONGEST_NAME], names, n=1, cutoff=0.6)
    if near:
        return f"is not {what}; did you mean {near[0]}?"
    return f"is not {what}; known are {', '.join(names)}" if listed else f"is not {what}"


def _ended(text: str) -> str:
    return text if text.endswith("?") else f"{text}."


def shown(text: str) -> str:
    """Return a stranger's text so that it can stand in an answer: cut, on one line, without halves of characters."""
    cut = text if len(text) <= _LONGEST_NAME else f"{text[:_LONGEST_NAME]}…"
    return "".join(each if each.isprintable() else "\ufffd" for each in cut)
