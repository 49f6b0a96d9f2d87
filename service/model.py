"""The words of the domain, and what may follow what. Nothing here knows a database, a network or a clock.

A job is always waiting for exactly one thing; its `State` names the thing. `TRANSITIONS` is the only list of what may
follow what: the SQL guards repeat it, a trigger in the database enforces it, and a test walks every pair of states.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Self


class State(StrEnum):
    """What a job is waiting for."""

    QUEUED = "queued"  # accepted; nothing spent
    SUBMITTING = "submitting"  # the provider may or may not have it
    RUNNING = "running"  # the provider has it
    MIRRORING = "mirroring"  # the output exists there, not yet here
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def final(self) -> bool:
        """Whether nobody moves the job on any more (a job that we gave up on can still be recovered)."""
        return self in FINAL


FINAL = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED, State.EXPIRED})

TRANSITIONS: Mapping[State, frozenset[State]] = {
    # A verified report may find a job `queued`: the provider turned a submission away, we put the job back, and yet
    # it had been accepted. Believing the report is the only way to keep that one paid job from becoming two, so a
    # queued job that was submitted before may also go where a submitting one goes.
    State.QUEUED: frozenset(
        {State.SUBMITTING, State.RUNNING, State.MIRRORING, State.FAILED, State.CANCELLED, State.EXPIRED}
    ),
    State.SUBMITTING: frozenset(
        {State.RUNNING, State.QUEUED, State.MIRRORING, State.FAILED, State.CANCELLED, State.EXPIRED}
    ),
    State.RUNNING: frozenset({State.MIRRORING, State.FAILED, State.CANCELLED, State.EXPIRED}),
    # Not cancelled: the video exists and is paid for, so it is kept.
    State.MIRRORING: frozenset({State.COMPLETED, State.FAILED}),
    State.COMPLETED: frozenset(),
    State.CANCELLED: frozenset(),
    # We gave up (see GAVE_UP), and the video came after all: a paid video is never thrown away.
    State.FAILED: frozenset({State.MIRRORING}),
    State.EXPIRED: frozenset({State.MIRRORING}),
}


class ErrorCode(StrEnum):
    """Why a job did not become a kept video."""

    INVALID_REQUEST = "invalid_request"
    UNSUPPORTED_MODEL = "unsupported_model"
    CONTENT_POLICY = "content_policy"
    PROVIDER_AUTH = "provider_auth"
    PROVIDER_CREDITS = "provider_credits"
    RATE_LIMITED = "rate_limited"
    PROVIDER_UNAVAILABLE = "provider_unavailable"
    PROVIDER_FAILED = "provider_failed"
    TIMED_OUT = "timed_out"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    SUBMISSION_UNKNOWN = "submission_unknown"
    OUTPUT_UNAVAILABLE = "output_unavailable"
    INTERNAL = "internal"


GAVE_UP = frozenset({ErrorCode.SUBMISSION_UNKNOWN, ErrorCode.OUTPUT_UNAVAILABLE})
"""Codes of a `failed` job that we gave up on, which a finished video still recovers.

With any code it recovers a job that was submitted twice on its caller's wish: the other submission brought it."""


class Billable(StrEnum):
    """Whether the provider charges for a job that brought no video."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


class Face(StrEnum):
    """The dialect in which a caller asked for a job, and in which it is told how the job ended."""

    NATIVE = "native"  # /v1/jobs
    OPENROUTER = "openrouter"  # /api/v1/videos
    OPENAI = "openai"  # /v1/videos, with LLM Gateway's extensions


class OnUnknown(StrEnum):
    """What to do when the provider's answer to a submission was lost and no callback came."""

    WAIT = "wait"  # at most one paid job
    RESUBMIT = "resubmit"  # a second bill is better than no video


class Status(StrEnum):
    """What a provider's status word means, whatever the word was."""

    RUNNING = "running"  # also every word that we do not know: never a verdict
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class Source(StrEnum):
    """How a report reached us."""

    CALLBACK = "callback"
    POLL = "poll"
    SUBMISSION = "submission"  # some providers answer a submission with the finished job


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a job ended without a kept video; `provider_*` are the provider's own words."""

    code: ErrorCode
    message: str
    retryable: bool = False
    billable: Billable = Billable.UNKNOWN
    provider_code: str | None = None
    provider_message: str | None = None


@dataclass(frozen=True, slots=True)
class Reference:
    """Something to look at or listen to while generating; `type` is image, video or audio, `url` https or `data:`."""

    type: str
    url: str


@dataclass(frozen=True, slots=True)
class VideoRequest:
    """What a caller asks for, in no provider's dialect. An adapter turns it into its provider's wire form."""

    model: str
    prompt: str | None = None
    duration: int | None = None  # s
    aspect_ratio: str | None = None  # "16:9"
    resolution: str | None = None  # "1080p"
    size: str | None = None  # "1920x1080"
    seed: int | None = None
    generate_audio: bool | None = None
    first_frame: str | None = None  # URL, https or data:
    last_frame: str | None = None
    references: tuple[Reference, ...] = ()
    provider_options: Mapping[str, Any] = field(default_factory=dict)  # fields of the provider's own request, verbatim

    def to_json(self) -> str:
        """Return the request as canonical JSON, without what was not asked for: the form that is stored."""
        return json.dumps(self.fields(), sort_keys=True, ensure_ascii=False, separators=(",", ":"))

    def fields(self) -> dict[str, Any]:
        """Return what was asked for, as JSON has it. Values are shared, not copied: a request may be large."""
        found = {name: getattr(self, name) for name in self.__dataclass_fields__}
        found["references"] = [asdict(reference) for reference in self.references]
        return {name: value for name, value in found.items() if value not in (None, [], {})}

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote."""
        fields = json.loads(text)
        fields["references"] = tuple(Reference(**reference) for reference in fields.get("references", ()))
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a request: which field, and what to write instead."""

    field: str
    message: str


@dataclass(frozen=True, slots=True)
class Output:
    """A file at the provider. `url` is set when the provider gave one that needs no key, and is a secret."""

    index: int
    url: str | None = None
    expires_at: int | None = None  # unix ms


@dataclass(frozen=True, slots=True)
class Report:
    """What a provider says about a job, by callback, poll or submission."""

    status: Status
    word: str  # the provider's own status word
    provider_job_id: str | None = None
    outputs: tuple[Output, ...] = ()  # one or more when completed
    cost: float | None = None  # USD
    error: JobError | None = None  # set when failed, cancelled or expired
    understood: bool = True  # False: `word` is none that the adapter knows


@dataclass(frozen=True, slots=True)
class Footage:
    """What a video shows, as far as its decoder could tell, and where one picture of it is."""

    duration_ms: int | None
    width: int  # pixels, as shown
    height: int
    codec: str  # "h264", as FFmpeg names it
    poster: str | None  # the picture's key in object storage, a JPEG


@dataclass(frozen=True, slots=True)
class Artifact:
    """Our stored copy of an output."""

    index: int
    key: str  # in object storage
    bytes: int
    sha256: str  # hex
    content_type: str
    footage: Footage | None = None  # None: nobody looked inside, or nothing was understood


@dataclass(frozen=True, slots=True)
class Event:
    """A fact about a job, appended in the transaction that made it true."""

    id: int  # ascending
    job_id: str
    type: str  # "job.completed"
    at: int  # unix ms
    data: Mapping[str, Any]


ATTACHED = "attached"
"""The status word of a job whose provider_job_id an operator attached, until the provider says a word about it."""


@dataclass(frozen=True, slots=True)
class Job:
    """One request for one video."""

    id: str
    tenant: str
    state: State
    attempt: int
    due_at: int | None  # unix ms, when its worker looks at it next
    lease: str | None
    leased_until: int | None
    provider: str
    provider_job_id: str | None
    provider_status: str | None
    model: str
    request: VideoRequest
    on_unknown: OnUnknown
    metadata: Mapping[str, Any]
    created_at: int
    submitted_at: int | None  # unix ms, when the last paid call was begun
    doubted_at: int | None  # unix ms, when its outcome was found to be unknown
    deadline_at: int  # unix ms, when we stop waiting for a word
    mirror_until: int | None  # unix ms, how long the provider is expected to serve the outputs
    finished_at: int | None
    doubts: int  # how many submissions had an unknown outcome
    outputs: tuple[Output, ...]
    cost: float | None  # USD
    error: JobError | None
    artifacts: tuple[Artifact, ...]  # ascending by index
    face: Face = Face.NATIVE
    notify_url: str | None = None  # where its caller wants to be told of its end; may be a secret
    notify_secret: str | None = field(default=None, repr=False)  # sealed: the caller's own, with which to sign
    retry_of: str | None = None  # the job that this one repeats on its caller's wish

    @property
    def unconfirmed(self) -> bool:
        """Whether an operator named its provider_job_id, and no report has confirmed that: it yields to another one."""
        return self.provider_status == ATTACHED


class DeliveryState(StrEnum):
    """What has become of a delivery."""

    PENDING = "pending"
    DELIVERED = "delivered"  # the receiver answered 2xx
    FAILED = "failed"  # it was given up, or the receiver said 410


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message that is owed to a caller: its job has ended, as `ended` and `error` say, at `created_at`.

    It stays true when the job is recovered later: that is another event, with a delivery of its own.
    """

    id: str  # the event's, the same in every attempt
    state: DeliveryState
    attempt: int  # since it was last asked for; the first is 1
    due_at: int | None  # unix ms
    lease: str | None
    leased_until: int | None
    job_id: str
    receiver: str  # scheme, host and port, which share what is sent at once
    ended: State
    error: JobError | None
    created_at: int
    finished_at: int | None


@dataclass(frozen=True, slots=True)
class DeliveryAttempt:
    """One try to deliver. `status` is None when no answer came, and `error` says why."""

    at: int  # unix ms
    duration_ms: int
    status: int | None
    error: str | None
    answer: str | None  # the first bytes of its body, as text
    number: int = 0  # counts from 1 over the delivery's whole life; the store gives it to what it keeps


@dataclass(frozen=True, slots=True)
class Model:
    """A model that a provider offers. None: the provider does not say.

    `entry` is the provider's own description of it, for callers who speak that provider's dialect.
    """

    id: str
    provider: str
    name: str
    description: str | None = None
    created: int | None = None  # unix s
    sizes: tuple[str, ...] | None = None  # "1280x720"
    resolutions: tuple[str, ...] | None = None  # "720p"
    aspect_ratios: tuple[str, ...] | None = None  # "16:9"
    durations: tuple[int, ...] | None = None  # s
    generate_audio: bool | None = None
    entry: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A caller's credential, without the secret: only its SHA-256 is stored."""

    id: str
    name: str
    tenant: str  # the owner of the jobs that are made with it
    operator: bool  # may see the whole service
    created_at: int
    revoked_at: int | None
    dedupe_window_ms: int = 0  # for so long an identical create without an idempotency key is the same job
    creates_per_minute: int | None = None  # None: no limit


EVENTS = frozenset({f"job.{state}" for state in State} | {"job.recovered", "job.in_doubt", "job.bound"})
"""Every event type: one per state entered, and
`job.recovered` (we had given up and the video came), `job.in_doubt` (nobody knows whether the provider accepted it),
`job.bound` (the provider's id became known,
or another one than was attached)."""

TENANT = r"[a-z0-9][a-z0-9_-]{0,62}"
"""What a tenant's name looks like, as a regular expression: it is a folder in storage."""

PROBES = "reelkeeper-check"
"""The folder beside those of the tenants, in which the storage is tried out."""

_TENANT = re.compile(TENANT, re.ASCII)
_PROVIDER_JOB_ID = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._~:/-]{1,512}", re.ASCII)


def is_provider_job_id(text: str) -> bool:
    """Tell whether a provider's name for a job can be `text`: 1 to 512 characters that need no escape in a URL."""
    return _PROVIDER_JOB_ID.fullmatch(text) is not None


def is_tenant(text: str) -> bool:
    """Tell whether a tenant's name can be `text`: 1 to 63 lower-case letters, digits, - or _, and not `PROBES`."""
    return _TENANT.fullmatch(text) is not None and text != PROBES
