"""What the API says when it does not do what was asked: one shape for every error.

    {"error": {"code": "invalid_request", "message": "…", "problems": [{"field": "duration", "message": "…"}]}}

`message` tells the reader what to do; `problems` is there when fields of the request are wrong, and names all of them.
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

    def response(self) -> JSONResponse:
        """Return the answer in the shape above."""
        error: dict[str, object] = {"code": self.code, "message": self.message}
        if self.problems:
            error["problems"] = [asdict(problem) for problem in self.problems]
        return JSONResponse({"error": error}, self.status, self.headers)


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
