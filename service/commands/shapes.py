"""What commands read of a service's answers: the answer of somebody else, or of another version, is told as one.

Fields that no command reads are not looked at, so that a service may say more than is known here.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from service.web.callers import is_job_id

T = TypeVar("T", bound=BaseModel)


def parse(body: bytes) -> Any:  # noqa: ANN401 - what JSON holds
    """Read JSON that a stranger may have written, however deep. Raises ValueError."""
    return from_json(body, allow_inf_nan=False)


def misfit(answer: object, shape: type[BaseModel]) -> str | None:
    """Return what an answer has not that its `shape` has, None when it fits."""
    try:
        shape.model_validate(answer)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))
        return f"{where}: {first['msg']}" if where else first["msg"]
    return None


def _moment(text: str) -> str:
    try:
        datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        raise ValueError("no time") from None
    return text


def _job_id(text: str) -> str:
    if not is_job_id(text):
        raise ValueError("no id of a job")  # it becomes part of commands that people copy
    return text


Moment = Annotated[str, AfterValidator(_moment)]
JobId = Annotated[str, AfterValidator(_job_id)]
Count = Annotated[int, Field(ge=0, lt=2**53)]


class Shape(BaseModel):
    """Part of an answer."""

    model_config = ConfigDict(strict=True, defer_build=True)


class Listed(Shape, Generic[T]):
    """A page of a list."""

    data: list[T]
    next_cursor: str | None = None
    has_more: bool = False


class JobError(Shape):
    """Why a job has no video."""

    code: str
    message: str
    billable: str
    provider_code: str | None
    provider_message: str | None


class Artifact(Shape):
    """A video that is kept."""

    index: Count
    bytes: Count
    sha256: str
    content_type: str
    width: Count | None
    height: Count | None
    duration: Annotated[float, Field(ge=0, le=1e9)] | None
    url: str


class Request(Shape):
    """What a caller asked for."""

    prompt: str | None = None


class Job(Shape):
    """A job."""

    id: JobId
    state: str
    tenant: str
    provider: str
    provider_job_id: str | None
    provider_status: str | None
    model: str
    request: Request
    created_at: Moment
    finished_at: Moment | None
    cost: float | None
    artifacts: list[Artifact]
    retry_of: str | None
    notify_url: str | None
    metadata: dict[str, Any]
    error: JobError | None


class Said(Shape):
    """What somebody else says."""

    message: str


class Cancelled(Job):
    """A job that was to be cancelled."""

    cancellation: Said


class Event(Shape):
    """What happened to a job."""

    id: Count
    type: str
    at: Moment
    data: dict[str, Any]


class Receipt(Shape):
    """A callback that was believed."""

    verdict: str
    provider_status: str
    times: Count
    first_at: Moment


class Rejection(Shape):
    """Callbacks that were not believed."""

    job: str
    provider: str
    reason: str
    message: str
    times: Count
    last_at: Moment


class Attempt(Shape):
    """A try to tell a job's caller."""

    number: Count
    at: Moment
    duration_ms: Count
    status: Count | None
    error: str | None
    answer: str | None


class Delivery(Shape):
    """What a job's caller is told."""

    id: str
    state: str
    event: str
    receiver: str
    created_at: Moment
    attempts: list[Attempt]


class Receiver(Shape):
    """Who does not take what it is told."""

    receiver: str
    tenant: str
    failed: Count
    pending: Count
    last_status: Count | None
    last_error: str | None
    last_at: Moment | None


class Redelivery(Shape):
    """How much is owed to a receiver again."""

    receiver: str
    tenant: str
    redelivered: Count
    given_up: Count
    waiting: Count


class Key(Shape):
    """An API key, without the key itself."""

    id: str
    name: str
    tenant: str
    operator: bool
    created_at: Moment
    revoked_at: Moment | None
    dedupe_window: Count
    per_minute: Count | None


class RevokedKey(Key):
    """An API key that is useless."""

    revoked_at: Moment


class NewKey(Key):
    """An API key with the key itself."""

    key: str


class Waiting(Shape):
    """What waits longest for a step."""

    step: str
    provider: str | None
    job: str
    due_at: Moment


class Concern(Shape):
    """What somebody should look at."""

    kind: str
    message: str


class Status(Shape):
    """How a service is."""

    version: str
    now: Moment
    uptime_seconds: Count
    tenant: str | None
    waiting: list[Waiting]
    concerns: list[Concern]


class Ready(Shape):
    """Whether a service can work."""

    status: str
    troubles: dict[str, Any] = {}


class Complaint(Shape):
    """Why something is refused."""

    code: str
    message: str


class Refusal(Shape):
    """What a service answers when it does not do something."""

    error: Complaint
