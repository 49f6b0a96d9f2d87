"""Which of our error codes a provider's refusal or failure means, and whether it is billed.

The codes and the words to look for are OpenRouter's and LLM Gateway's, documented and observed; both also pass on
what the provider behind them says, so a phrase is looked for in either's text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from service.logs import redact
from service.model import Billable, ErrorCode, JobError, Problem, Status

REFUSALS = frozenset({400, 401, 402, 403, 404, 405, 410, 413, 415, 422})
"""Statuses that say no before anything is spent. 408, 409 and 499 are not among them: the work may have begun."""

# "OutputVideoSensitiveContentDetected" is a code that LLM Gateway was observed to pass on.
_POLICY = re.compile(
    r"moderation|moderated|guardrail|nsfw|sensitive.?(content|info)"
    r"|content.?(polic|filter|safety)|(usage|safety).?polic|safety.?(filter|system|check)|policy.?violation",
    re.IGNORECASE,
)
# Under 403 a bare "policy" is about content too, unless it is a rule on who may call or where data may go.
_FORBIDDEN_CONTENT = re.compile(r"safety|(?<!iam )(?<!data )(?<!access )policy", re.IGNORECASE)
_MODEL = re.compile(
    r"(unsupported|unknown|invalid|not a valid) (video )?model"
    r"|model (\S+ )?(has been deactivated|does not exist|(is )?(not found|not available|no longer available))"
    r"|no endpoints found",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Complaint:
    """What an answer in a provider's own error shape says."""

    code: str | None
    message: str


def refusal(status: int, complaint: Complaint, sentences: Mapping[ErrorCode, str]) -> JobError:
    """Return the error of a request that was refused with one of REFUSALS; `sentences` say it in our words."""
    ours = _refusal_code(status, f"{complaint.code} {complaint.message}")
    return JobError(
        code=ours,
        message=sentences[ours],
        retryable=ours in (ErrorCode.PROVIDER_AUTH, ErrorCode.PROVIDER_CREDITS),  # once the operator has acted
        billable=Billable.NO,
        provider_code=_quoted(complaint.code),
        provider_message=_quoted(complaint.message),
    )


def unsendable(problems: Sequence[Problem]) -> JobError:
    """Return the error of a request that a provider's wire form cannot say, and that was therefore not sent."""
    named = "; ".join(f"{problem.field}: {problem.message}" for problem in problems)
    return JobError(ErrorCode.INVALID_REQUEST, f"The request was not sent: {named}.", billable=Billable.NO)


def ended(company: str, status: Status, code: str | None, message: str | None, cost: float | None) -> JobError | None:
    """Return the error of an accepted job that ended without a video; None when it did not end so."""
    if status is Status.CANCELLED:
        ours, sentence = ErrorCode.CANCELLED, f"{company} reports the job as cancelled."
    elif status is Status.EXPIRED:
        ours, sentence = ErrorCode.EXPIRED, f"{company} gave the job up as expired; send a new one."
    elif status is not Status.FAILED:
        return None
    elif _POLICY.search(f"{code} {message}"):
        ours, sentence = (
            ErrorCode.CONTENT_POLICY,
            "The content was refused by a policy; change the prompt or the input.",
        )
    else:
        ours, sentence = ErrorCode.PROVIDER_FAILED, f"{company} reports the job as failed; see the provider's message."
    return JobError(
        code=ours,
        message=sentence,
        retryable=ours is not ErrorCode.CONTENT_POLICY,
        billable=billable(cost),
        provider_code=_quoted(code),
        provider_message=_quoted(message),
    )


def _quoted(text: str | None) -> str | None:
    """Return words of theirs as a caller may see them: without signed URLs, keys and addresses of callbacks."""
    return None if text is None else str(redact(text))


def billable(cost: float | None) -> Billable:
    """Tell from the cost that the provider reported, if it did."""
    if cost is None:
        return Billable.UNKNOWN
    return Billable.YES if cost > 0 else Billable.NO


def _refusal_code(status: int, said: str) -> ErrorCode:
    lowered = said.lower()
    forbidden, gone = status == HTTPStatus.FORBIDDEN, status == HTTPStatus.GONE
    code = ErrorCode.INVALID_REQUEST
    if status == HTTPStatus.UNAUTHORIZED:
        code = ErrorCode.PROVIDER_AUTH
    elif status == HTTPStatus.PAYMENT_REQUIRED:
        code = ErrorCode.PROVIDER_CREDITS
    elif _POLICY.search(said) or (forbidden and _FORBIDDEN_CONTENT.search(said)):
        code = ErrorCode.CONTENT_POLICY
    elif forbidden or (gone and "project" in lowered):  # LLM Gateway says 410 for an archived project, too
        code = ErrorCode.PROVIDER_AUTH
    elif gone or (status == HTTPStatus.NOT_FOUND and "model" in lowered) or _MODEL.search(said):
        code = ErrorCode.UNSUPPORTED_MODEL
    return code
