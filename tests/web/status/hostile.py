"""A house in which every text that is stored wants to be more than text."""

from __future__ import annotations

from dataclasses import dataclass

from service.model import (
    Artifact,
    ErrorCode,
    Footage,
    Job,
    JobError,
    Output,
    Reference,
    Report,
    Source,
    Status,
    VideoRequest,
)
from service.store import Created, NewJob, Reason, Receipt, Rejection, Wanted
from tests.web.debts import given_up, tried
from tests.web.house import House

TAGS = (
    "<img src=x onerror=alert(1)>\"' evil=1 ><x-evil evil='1'></x-evil></title></script></textarea></pre><!--"
    " {{ 7 * 7 }} javascript:alert(1) `<x-evil>`"
)
EVIL = f"{TAGS} \u202e\u2066\x07\x1b[31m\x85"
"""What breaks out of everything that does not escape it: an element, an attribute, a text, a line of a terminal."""

EVIL_HOST = "https://<x-evil>\"'<img%20onerror=alert(1)>"


@dataclass(frozen=True)
class Belongings:
    """What a tenant has, and nobody else: `said` is in all of its texts."""

    tenant: str
    said: str
    host: str
    queued: int  # jobs
    cost: float
    bytes: int


ACME = Belongings("acme", f"{EVIL} acmesword", f"{EVIL_HOST}.acmes.example", 60, 12.34, 456_789)
GLOBEX = Belongings("globex", f"{EVIL} globexword", f"{EVIL_HOST}.globexhooks.example", 137, 91.73, 918_273_645)


async def furnish(house: House, its: Belongings) -> list[Job]:
    """Give a tenant jobs in many states, rejected callbacks and failing deliveries; return a job of each state."""
    furnisher = _Furnisher(house, its)
    await given_up(house, its.host, tenant=its.tenant, times=30, error=its.said, answer=its.said, prompt=its.said)
    await tried(house, its.host, tenant=its.tenant)
    jobs = [
        await furnisher.failed(),
        await furnisher.in_doubt(),
        await furnisher.called_back(),
        await furnisher.completed(),
        await furnisher.unserved(),
    ]
    jobs += [await furnisher.asked(notify_url=its.host) for _ in range(its.queued)][-1:]
    found = await house.store.find(its.tenant, Wanted(), limit=100)
    return [*jobs, *(job for job in found.jobs if job.state.final)][:8]


class _Furnisher:
    def __init__(self, house: House, its: Belongings) -> None:
        self.house = house
        self.its = its

    async def asked(self, provider: str = "openrouter", notify_url: str | None = None) -> Job:
        said = self.its.said
        request = VideoRequest(
            said,
            prompt=said,
            aspect_ratio=said,
            resolution=said,
            size=said,
            first_frame=said,
            last_frame=said,
            references=(Reference("image", said),),
            provider_options={said: said},
        )
        new = NewJob(self.its.tenant, provider, request, metadata={said: said}, notify_url=notify_url)
        created = await self.house.store.create_job(new)
        assert isinstance(created, Created)
        return created.job

    async def submitting(self) -> Job:
        job = await self.asked()
        claimed = {each.id: each for each in await self.house.claims.claim_queued("openrouter", 1_000)}
        return claimed[job.id]

    async def running(self) -> Job:
        job = await self.submitting()
        bound = await self.house.store.submitted(
            job.id, f"{job.id} {self.its.said}", self.its.said, first_poll_ms=60_000
        )
        assert bound is not None
        return bound

    async def failed(self) -> Job:
        job = await self.submitting()
        error = JobError(
            ErrorCode.PROVIDER_FAILED, self.its.said, provider_code=self.its.said, provider_message=self.its.said
        )
        assert await self.house.claims.refused(job, error)
        return job

    async def in_doubt(self) -> Job:
        job = await self.submitting()
        assert await self.house.claims.in_doubt(job, self.its.said)
        return job

    async def unserved(self) -> Job:
        return await self.asked(TAGS)  # the name of a provider is no stranger's, but it is text, too

    async def called_back(self) -> Job:
        """Return a job about which there are receipts, with words that nobody knows, and rejections."""
        job, said = await self.running(), self.its.said
        receipt = Receipt({said: said}, said.encode() + b"\xff", self.house.clock.now())
        report = Report(Status.RUNNING, said, job.provider_job_id, understood=False)
        await self.house.store.receive(job.id, report, receipt, poll_ms=1, retention_ms=1)
        await self.house.rejections.keep(
            [
                Rejection(
                    job.id, job.provider, reason, f"{said} {number}", 4_711, 0, number, {said: said}, self.its.bytes
                )
                for number, reason in enumerate(Reason)
            ]
        )
        return job

    async def completed(self) -> Job:
        job, said = await self.running(), self.its.said
        outputs = tuple(Output(index, f"https://cdn.example/{said}") for index in range(2))
        report = Report(Status.COMPLETED, said, job.provider_job_id, outputs, cost=self.its.cost)
        await self.house.store.apply(job.id, report, Source.POLL, poll_ms=1, retention_ms=1_000_000)
        [copying] = await self.house.claims.claim_mirrors("openrouter", 1)
        for index in range(2):
            footage = Footage(4_000, 640, 360, said, said if index else None)
            artifact = Artifact(index, f"{said}.mp4", self.its.bytes + index, "ab" * 32, said, footage)
            assert await self.house.claims.keep_artifact(copying, artifact)
        assert await self.house.claims.mirrored(copying)
        return job
