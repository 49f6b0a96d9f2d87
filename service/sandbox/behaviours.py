"""What the sandbox can do to its caller: one model name per behaviour, the same names in both dialects.

A behaviour is data: how the submission is answered, how the status changes with time, what becomes of the callback, and
how the bytes are served. Times are milliseconds at speed 1, counted from the submission.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

PREFIX: Final = "sandbox/"
ENDS_AT_MS: Final = 2_000

Timeline = tuple[tuple[int, str], ...]
"""Statuses and when each begins, in LLM Gateway's words with our `cancelled`; the last one stays for ever."""


class Submit(Enum):
    """How a submission is answered."""

    ACCEPT = auto()
    AFTER_CALLBACK = auto()  # the callback is delivered first
    BAD_GATEWAY = auto()  # accepted, and a proxy's 502
    HANG = auto()  # accepted, and no answer
    RESET = auto()  # accepted, and the connection is reset
    PAGE = auto()  # accepted, and a web page with status 200
    REFUSE = auto()  # `refusal` is the HTTP status, `refusals` how often (None: always)


class Tell(Enum):
    """What becomes of the callback."""

    GENUINE = auto()
    TWICE = auto()
    NEVER = auto()
    FORGED = auto()
    STALE = auto()


class Serve(Enum):
    """What a download brings."""

    WHOLE = auto()
    HTML = auto()
    SHORT = auto()
    TRUNCATED = auto()
    ENDLESS = auto()
    REDIRECT = auto()
    NOT_READY = auto()
    SLOW = auto()
    GONE = auto()
    WEBM = auto()


class Failure(Enum):
    """Why a job failed; each dialect has its own words for it."""

    INTERNAL = auto()
    MODERATION = auto()


def _ending(status: str) -> Timeline:
    return (0, "queued"), (500, "in_progress"), (ENDS_AT_MS, status)


_COMPLETES: Final = _ending("completed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """One way to treat a caller, named by the model that is asked for."""

    name: str
    sentence: str
    submit: Submit = Submit.ACCEPT
    refusal: int = 0
    refusals: int | None = None
    timeline: Timeline = _COMPLETES
    tell: Tell = Tell.GENUINE
    tell_after_ms: int = 0  # after the end; negative: before it
    poll_errors: bool = False  # the first polls bring a 500, a proxy's page and a 429
    stale_get_ms: int = 0  # how long GET lags behind the callback
    serve: Serve = Serve.WHOLE
    servings: int | None = None  # how many downloads are served that way (None: all)
    outputs: int = 1  # LLM Gateway never has more than one
    links: bool = False  # OpenRouter's `urls` and `expires_at`
    failure: Failure = Failure.INTERNAL

    @property
    def model(self) -> str:
        """The model name that asks for this behaviour, for example `sandbox/ok`."""
        return PREFIX + self.name

    @property
    def ends_at_ms(self) -> int:
        """When the last status begins."""
        return self.timeline[-1][0]


_TABLE: Final = (
    Behaviour(
        name="ok", sentence="Answers normally: the job completes after two seconds and one genuine callback says so."
    ),
    Behaviour(name="callback-lost", sentence="Completes, and the callback never comes.", tell=Tell.NEVER),
    Behaviour(name="callback-twice", sentence="Sends the same callback twice at once, byte for byte.", tell=Tell.TWICE),
    Behaviour(
        name="callback-late", sentence="Sends the callback a minute after the job completed.", tell_after_ms=60_000
    ),
    Behaviour(
        name="callback-early",
        sentence="Delivers the callback first, and only then answers the submission.",
        submit=Submit.AFTER_CALLBACK,
        timeline=((0, "completed"),),
    ),
    Behaviour(
        name="callback-forged",
        sentence="A callback signed with a wrong key claims completion; the job fails, which only a poll tells.",
        timeline=_ending("failed"),
        tell=Tell.FORGED,
        tell_after_ms=-1_000,
    ),
    Behaviour(
        name="callback-stale",
        sentence="The callback has the right key and a timestamp ten minutes old; a poll tells the same.",
        tell=Tell.STALE,
    ),
    Behaviour(
        name="accepted-then-502",
        sentence="Accepts the job and answers with a proxy's 502 page; the callback comes.",
        submit=Submit.BAD_GATEWAY,
    ),
    Behaviour(
        name="accepted-then-hangs",
        sentence="Accepts the job and never answers; the callback comes.",
        submit=Submit.HANG,
    ),
    Behaviour(
        name="accepted-then-reset",
        sentence="Accepts the job and resets the connection; the callback comes.",
        submit=Submit.RESET,
    ),
    Behaviour(
        name="accepted-then-html",
        sentence="Accepts the job and answers with a web page and status 200; the callback comes.",
        submit=Submit.PAGE,
    ),
    Behaviour(name="refused-400", sentence="Refuses the request as invalid.", submit=Submit.REFUSE, refusal=400),
    Behaviour(name="refused-402", sentence="Refuses for want of credits.", submit=Submit.REFUSE, refusal=402),
    Behaviour(
        name="rate-limited",
        sentence="Answers the first two submissions of a prompt with 429 and Retry-After, then accepts.",
        submit=Submit.REFUSE,
        refusal=429,
        refusals=2,
    ),
    Behaviour(
        name="unavailable",
        sentence="Answers the first submission of a prompt with its own 503, then accepts.",
        submit=Submit.REFUSE,
        refusal=503,
        refusals=1,
    ),
    Behaviour(name="fails", sentence="Fails with the provider's own words.", timeline=_ending("failed")),
    Behaviour(
        name="fails-moderation",
        sentence="Fails because the output was found to be sensitive.",
        timeline=_ending("failed"),
        failure=Failure.MODERATION,
    ),
    Behaviour(name="cancelled", sentence="Is cancelled by the provider.", timeline=_ending("cancelled")),
    Behaviour(name="expires", sentence="Expires at the provider.", timeline=_ending("expired")),
    Behaviour(
        name="never-ends",
        sentence="Stays in progress for ever.",
        timeline=((0, "queued"), (500, "in_progress")),
        tell=Tell.NEVER,
    ),
    Behaviour(name="several-outputs", sentence="Has three outputs (one in LLM Gateway's dialect).", outputs=3),
    Behaviour(
        name="urls",
        sentence="Also gives signed links on another origin that need no key and expire (OpenRouter's dialect).",
        links=True,
    ),
    Behaviour(
        name="html",
        sentence="Serves a web page with status 200 for the first two downloads, then the video.",
        serve=Serve.HTML,
        servings=2,
    ),
    Behaviour(name="html-forever", sentence="Serves a web page instead of the video, always.", serve=Serve.HTML),
    Behaviour(
        name="short-body",
        sentence="Closes the connection half-way through the declared length for two downloads, then serves all.",
        serve=Serve.SHORT,
        servings=2,
    ),
    Behaviour(
        name="truncated",
        sentence="Declares no length and ends cleanly half-way for two downloads, then serves all.",
        serve=Serve.TRUNCATED,
        servings=2,
    ),
    Behaviour(name="endless-body", sentence="The video's bytes never end.", serve=Serve.ENDLESS),
    Behaviour(
        name="redirect",
        sentence="Redirects the download to another origin, which notes whether it was sent the key.",
        serve=Serve.REDIRECT,
    ),
    Behaviour(
        name="not-ready",
        sentence="Answers the first two downloads with 409, then serves the video.",
        serve=Serve.NOT_READY,
        servings=2,
    ),
    Behaviour(name="slow", sentence="Serves the video in drops, two seconds in all.", serve=Serve.SLOW),
    Behaviour(
        name="gone",
        sentence="Never serves the output: 410 in OpenRouter's dialect, 404 in LLM Gateway's.",
        serve=Serve.GONE,
    ),
    Behaviour(name="webm", sentence="Serves a WebM as application/octet-stream.", serve=Serve.WEBM),
    Behaviour(
        name="poll-errors",
        sentence="The first three polls bring a 500, a proxy's page and a 429; the callback is lost.",
        tell=Tell.NEVER,
        poll_errors=True,
    ),
    Behaviour(
        name="unknown-status",
        sentence="Shows a status that nobody has heard of before it completes; the callback is lost.",
        timeline=((0, "queued"), (500, "rendering_on_the_moon"), (ENDS_AT_MS, "completed")),
        tell=Tell.NEVER,
    ),
    Behaviour(
        name="step-back",
        sentence="Goes from in progress back to queued before it completes; the callback is lost.",
        timeline=(
            (0, "queued"),
            (500, "in_progress"),
            (1_000, "queued"),
            (1_500, "in_progress"),
            (ENDS_AT_MS, "completed"),
        ),
        tell=Tell.NEVER,
    ),
    Behaviour(
        name="stale-get",
        sentence="For two seconds after the callback a poll still says in progress and a download 409.",
        stale_get_ms=2_000,
    ),
)

BEHAVIOURS: Final[Mapping[str, Behaviour]] = {behaviour.model: behaviour for behaviour in _TABLE}
"""Every behaviour by the model name that asks for it."""
