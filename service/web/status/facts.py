"""What the page of a job shows of it, made ready for its template: texts without secrets, buttons, commands to copy."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from service.clock import Clock
from service.logs import redact
from service.model import Billable, Delivery, Job, State
from service.store import Deliveries, Rejections, Store, taken_out
from service.web.acting import PROVIDER_JOB_ID, Acting
from service.web.status.advice import ON_PAGES, advice, waiting
from service.web.status.timeline import timeline
from service.web.views import receipt_text

_KEY = '-H "Authorization: Bearer $KEY"'
_MOST_REJECTIONS = 20
_LONGEST_BODY = 8_000  # characters of a callback
_MOST_SAID = 64  # callbacks, of 256 KiB each, whose texts are remembered
_READ = (("Read", ""), ("Events", "/events"), ("Receipts", "/receipts"), ("Deliveries", "/deliveries"))


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a request; a `block` is a text of several lines."""

    name: str
    text: str
    block: bool = False


@dataclass(frozen=True, slots=True)
class Button:
    """Something to press: what it is for, what it asks first, and why it cannot be pressed now (None: it can)."""

    action: str
    label: str
    meaning: str
    question: str
    why_not: str | None


@dataclass(frozen=True, slots=True)
class Command:
    """A command line to copy, and why it would do nothing now (None: it would)."""

    label: str
    text: str
    why_not: str | None = None


class Facts:
    """Looks up what is known of a job. `providers` are those that are configured."""

    def __init__(
        self,
        *,
        store: Store,
        deliveries: Deliveries,
        rejections: Rejections,
        acting: Acting,
        clock: Clock,
        public_url: str,
        providers: Collection[str],
    ) -> None:
        self._store = store
        self._deliveries = deliveries
        self._rejections = rejections
        self._acting = acting
        self._clock = clock
        self._public_url = public_url
        self._providers = providers
        # A page that is looked at shows the same callbacks again every second.
        self._said = lru_cache(maxsize=_MOST_SAID)(_said)

    async def about(self, job: Job, *, operator: bool) -> dict[str, Any]:
        """Return all that the page of a job shows, to an operator or to its tenant."""
        events, receipts, owed, rejected, retries = await asyncio.gather(
            self._store.events(job.id),
            self._store.receipts(job.id),
            self._deliveries.of(job.id),
            self._rejections.page(job.tenant, job_id=job.id, limit=_MOST_REJECTIONS),
            self._store.retries(job.id),
        )
        messages = [delivery for delivery, _ in owed]
        hindrances = self._acting.hindrances(job, messages)
        if not operator:
            del hindrances["attach"]
        return {
            "job": job,
            "retries": retries,
            "waits": waiting(job, self._clock.now(), self._providers),
            "advice": advice(job.error.code, job.provider, ON_PAGES) if job.error else None,
            "moments": timeline(events, owed),
            "fields": fields(job),
            "notify_url": None if job.notify_url is None else str(redact(job.notify_url)),
            "metadata": pretty(job.metadata) if job.metadata else None,
            "receipts": [(each, self._said(each.body)) for each in receipts],
            "rejections": rejected,
            "owed": owed,
            "buttons": buttons(job, messages, hindrances),
            "commands": commands(job, self._public_url, hindrances),
            "id_form": PROVIDER_JOB_ID,
        }


def _said(body: bytes) -> str | None:
    """Return what a callback said, as much of it as anybody reads here; None when it is no text."""
    text = receipt_text(body, indent=2)
    if text is None or len(text) <= _LONGEST_BODY:
        return text
    return f"{text[:_LONGEST_BODY]}\n… ({len(text):,} characters)"


def fields(job: Job) -> list[Field]:
    """Return what was asked for beside the prompt, in the order of the API; media and signed addresses are cut."""
    found: list[Field] = []
    for name, value in taken_out(job.request)[0].fields().items():
        match value:
            case _ if name == "prompt":
                continue
            case list():
                lines = [f"{each['type']}: {redact(each['url'])}" for each in value]
                found.append(Field(name, "\n".join(lines), block=True))
            case Mapping():
                found.append(Field(name, pretty(value), block=True))
            case bool():
                found.append(Field(name, "yes" if value else "no"))
            case _:
                unit = " s" if name == "duration" else ""
                found.append(Field(name, f"{redact(value)}{unit}"))
    return found


def pretty(value: object) -> str:
    """Return what JSON can say on several lines, without secrets."""
    return json.dumps(redact(value), ensure_ascii=False, indent=2)


def buttons(job: Job, owed: Sequence[Delivery], hindrances: Mapping[str, str | None]) -> list[Button]:
    """Return what can be pressed about a job, for each of `hindrances`; `owed` is what its caller is told of it."""
    newest = f", job.{owed[-1].ended}, is sent to {owed[-1].receiver}" if owed else " is sent to its caller"
    undone = "; an id that no report has confirmed yet can be replaced. Compare time, model and prompt there first."
    asks = {
        "cancel": (
            "Cancel",
            "Ends the job before its provider makes the video.",
            "It is not at its provider as far as anybody knows: the job ends here. This cannot be undone."
            if job.state is State.QUEUED
            else f"{job.provider} is asked to cancel it, and says whether it bills it. This cannot be undone.",
        ),
        "retry": (
            "Retry",
            "Asks for the same video once more, in a new job; it may cost once more.",
            f"A new job asks {job.provider} for the same video. It may cost once more: {_price(job)}.",
        ),
        "redeliver": (
            "Redeliver",
            "Tells the caller once more how the job ended.",
            f"The newest message about the job{newest} once more, from the first attempt on.",
        ),
        "remirror": (
            "Remirror",
            "Copies the video again, which is paid for already.",
            f"The video is copied from {job.provider} again, and tried for a day. The provider bills nothing for it.",
        ),
        "attach": (
            "Attach",
            f"Binds an id that you found at {job.provider}, when the answer to the submission was lost.",
            f"What {job.provider} has under this id becomes this job's video{undone}",
        ),
    }
    return [Button(action, *asks[action], why) for action, why in hindrances.items()]


def _price(job: Job) -> str:
    if job.cost is not None:
        return f"this one cost ${job.cost:,.4g}"
    match job.error.billable if job.error else Billable.UNKNOWN:
        case Billable.YES:
            return f"{job.provider} bills this one, too"
        case Billable.NO:
            return "this one is not billed"
        case Billable.UNKNOWN:
            return "whether this one is billed is not known"


def commands(job: Job, public_url: str, hindrances: Mapping[str, str | None]) -> list[Command]:
    """Return how to read a job over HTTP, and how to do each of `hindrances`; `$KEY` stands for an API key."""
    url = f"{public_url}/v1/jobs/{job.id}"
    found = [Command(label, f"curl -s {url}{path} {_KEY}") for label, path in _READ]
    found += [
        Command("Video" if len(job.artifacts) == 1 else f"Video {each.index}", _download(url, job, each.index))
        for each in job.artifacts
    ]
    for action, why_not in hindrances.items():
        body = ' -H "Content-Type: application/json" -d \'{"provider_job_id": "gen-1a2b3c"}\''
        once = ' -H "Idempotency-Key: $(uuidgen)"'
        more = {"attach": body, "retry": once}.get(action, "")
        found.append(Command(action.capitalize(), f"curl -s -X POST {url}/{action} {_KEY}{more}", why_not))
    return found


def _download(url: str, job: Job, index: int) -> str:
    name = f"{job.id}-{index}.mp4"
    return f'curl -sSfL "{url}/content?index={index}" {_KEY} -o {name}'
