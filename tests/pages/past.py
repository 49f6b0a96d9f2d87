"""A day that a service has behind it, told to its database by a clock that goes as fast as we like: what pages show."""

from __future__ import annotations

import hashlib
import heapq
import json
import random
import secrets
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Final

from service.clock import ManualClock, SystemClock
from service.config import Config
from service.model import (
    Artifact,
    Billable,
    Delivery,
    DeliveryAttempt,
    ErrorCode,
    Footage,
    Job,
    JobError,
    Output,
    Report,
    Source,
    Status,
    VideoRequest,
)
from service.records import Records, open_records
from service.sandbox.downloads import VIDEOS
from service.storage import Storage
from service.store import Created, NewJob, Receipt

_S, _MIN, _H = 1_000, 60_000, 3_600_000  # ms
_DAY = 24 * _H
_POLLS: Final = {"poll_ms": 30 * _S, "retention_ms": _DAY}


@dataclass(frozen=True, slots=True)
class _Offer:
    """A model: who has it, what a video costs (USD), how long it usually takes (s), and how often it is asked for."""

    provider: str
    model: str
    cost: float
    takes: int
    share: int


_OFFERS: Final = (
    _Offer("openrouter", "google/veo-3.1", 3.2, 95, 6),
    _Offer("openrouter", "google/veo-3.1-fast", 1.2, 48, 8),
    _Offer("openrouter", "openai/sora-2-pro", 2.4, 160, 3),
    _Offer("openrouter", "bytedance/seedance-1.5-pro", 0.52, 70, 3),
    _Offer("llmgateway", "veo-3.1-generate-preview", 3.2, 100, 4),
    _Offer("llmgateway", "veo-3.1-fast-generate-preview", 1.2, 52, 5),
)
_RECEIVERS: Final = {
    "studio": "https://studio.example/hooks/videos",
    "newsroom": "https://desk.newsroom.example/told",
    "shop": "https://shop.example/api/video-ready",
}
_PROMPTS: Final = (
    "A red kite circles over a stormy sea, low sun behind the clouds, handheld camera",
    "Slow dolly through a rain-soaked Lisbon street at night, neon in the puddles",
    "A ceramic cup is filled with coffee in one long close-up, steam rising",
    "Time lapse of a harbour waking up, fog lifting from the cranes",
    "An origami fox unfolds itself on a walnut desk and looks into the camera",
    "Drone shot along a glacier's edge, crevasses glowing blue",
    "A watchmaker's hands set a tiny gear, macro, shallow depth of field",
    "Paper boats race down a gutter after summer rain, children laughing off-screen",
    "A sprinter's shoes in ultra slow motion, chalk dust, stadium lights",
    "Opening titles: ink drops in water form the letters of a mountain range",
    "A train crosses a viaduct in autumn, seen from the valley, birds scatter",
    "Product turntable of a green enamel kettle on white, soft shadow",
)
_REFUSED: Final = JobError(
    ErrorCode.CONTENT_POLICY,
    "The provider's safety filter refused the prompt.",
    billable=Billable.NO,
    provider_code="content_policy_violation",
    provider_message="Your request was blocked by our safety system: it names a living person.",
)
_BROKE: Final = JobError(
    ErrorCode.PROVIDER_FAILED,
    "The provider could not make the video.",
    retryable=True,
    billable=Billable.NO,
    provider_code="internal_error",
    provider_message="Generation failed after 3 attempts: worker lost its GPU. Please try again.",
)


class _Past:
    """Lets jobs live one beside the other: each is a generator that yields how long it waits, in ms."""

    def __init__(self, records: Records, storage: Storage, clock: ManualClock, chance: random.Random) -> None:
        self._records = records
        self._storage = storage
        self._clock = clock
        self._chance = chance

    async def live(self, jobs: int, until: int) -> None:
        """Let `jobs` jobs come and go before `until` (unix ms), more of them by day than by night."""
        places = count()
        waiting = [(self._somewhen(until), next(places), self._life(until)) for _ in range(jobs)]
        heapq.heapify(waiting)
        while waiting:
            at, _, life = heapq.heappop(waiting)
            self._clock.advance(max(0, at - self._clock.now()))
            async for wait in life:
                heapq.heappush(waiting, (self._clock.now() + wait, next(places), life))
                break

    def _somewhen(self, until: int) -> int:
        while True:
            ago = self._chance.randrange(6 * _MIN, _DAY - 20 * _MIN)
            busy = 0.25 + 0.75 * abs(1 - ago / (_DAY / 2))
            if self._chance.random() < busy:
                return until - ago

    async def _life(self, until: int) -> AsyncIterator[int]:
        offer = self._chance.choices(_OFFERS, [each.share for each in _OFFERS])[0]
        tenant = self._chance.choice(list(_RECEIVERS))
        claims, store = self._records.claims, self._records.store
        request = VideoRequest(
            model=offer.model, prompt=self._chance.choice(_PROMPTS), duration=8, aspect_ratio="16:9", resolution="1080p"
        )
        metadata = {
            "campaign": self._chance.choice(["autumn", "launch", "archive"]),
            "scene": self._chance.randrange(40),
        }
        created = await store.create_job(
            NewJob(tenant, offer.provider, request, metadata=metadata, notify_url=_RECEIVERS[tenant])
        )
        assert isinstance(created, Created)
        yield self._chance.randrange(80, 600)
        held = {each.id: each for each in await claims.claim_queued(offer.provider, 100)}
        job = held[created.job.id]
        fate = self._chance.random()
        yield self._chance.randrange(300, 1_500)
        if fate < 0.02:
            await claims.refused(job, _REFUSED)
            yield 200
            await self._tell()
            return
        provider_job_id = f"gen-{self._chance.randrange(10**9, 10**10)}-{secrets.token_hex(6)}"
        await store.submitted(job.id, provider_job_id, "queued", first_poll_ms=_DAY)
        yield round(offer.takes * _S * self._chance.lognormvariate(0, 0.25))
        report = Report(Status.FAILED, "failed", provider_job_id, error=_BROKE)
        if fate > 0.05:
            report = Report(Status.COMPLETED, "completed", provider_job_id, (Output(0),), offer.cost)
        # One provider's callbacks stopped coming a few hours ago, which nobody notices who looks at jobs alone.
        silent = offer.provider == "llmgateway" and until - self._clock.now() < 5 * _H
        await self._reported(job, report, polled=silent or self._chance.random() < 0.03)
        if report.status is Status.COMPLETED:
            yield self._chance.randrange(900, 4_000)
            await self._mirror(offer.provider)
        yield self._chance.randrange(100, 900)
        await self._tell()

    async def _reported(self, job: Job, report: Report, *, polled: bool) -> None:
        if polled:
            await self._records.store.apply(job.id, report, Source.POLL, **_POLLS)
            return
        data = {"id": report.provider_job_id, "status": report.word, "usage": {"cost": report.cost}}
        body = json.dumps({"type": f"video.generation.{report.word}", "data": data}).encode()
        headers = {"content-type": "application/json", "user-agent": f"{job.provider}-webhooks/1"}
        receipt = Receipt(headers, body, self._clock.now())
        await self._records.store.receive(job.id, report, receipt, **_POLLS)

    async def _mirror(self, provider: str) -> None:
        for job in await self._records.claims.claim_mirrors(provider, 100):
            content = self._chance.choice(VIDEOS)
            key = f"{job.tenant}/2026/11/{job.id}/0.mp4"
            await self._storage.put(key, _once(content), content_type="video/mp4")
            sha256 = hashlib.sha256(content).hexdigest()
            artifact = Artifact(0, key, len(content), sha256, "video/mp4", Footage(2_000, 320, 180, "h264", None))
            await self._records.claims.keep_artifact(job, artifact)
            await self._records.claims.mirrored(job)

    async def _tell(self) -> None:
        deliveries = self._records.deliveries
        for each in await deliveries.claim(100, each=4):
            at, took = self._clock.now(), self._chance.randrange(40, 400)
            if "newsroom" in each.receiver and self._chance.random() < 0.3:
                gone = DeliveryAttempt(at, took, 410, None, "This endpoint was removed on 2026-11-20.")
                await deliveries.gave_up(each, gone)
            elif each.attempt == 1 and self._chance.random() < 0.1:
                await self._wait(each, DeliveryAttempt(at, took, 503, None, "upstream restarting"))
            else:
                await deliveries.delivered(each, DeliveryAttempt(at, took, 204, None, ""))

    async def _wait(self, delivery: Delivery, attempt: DeliveryAttempt) -> None:
        await self._records.deliveries.try_again(delivery, attempt, self._clock.now() + 5 * _S)


async def live_through(settings: Mapping[str, str], jobs: int, seed: int = 3) -> None:
    """Write a day with so many jobs into the database and the storage of a service that does not run just now."""
    now = SystemClock().now()
    clock, chance = ManualClock(now - _DAY), random.Random(seed)  # noqa: S311 - the same day every time
    config = Config.read(settings)
    async with open_records(config, clock=clock, chance=chance) as records:
        past = _Past(records, Storage.open(config.storage), clock, chance)
        await past.live(jobs, now)


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content
