"""Finished outputs become artifacts: streamed from the provider into our own object storage, whole and hashed."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import httpx

from service.backoff import Backoff
from service.clock import Clock
from service.errors import (
    InterruptedWorkError,
    OutputError,
    OutputGoneError,
    OutputNotReadyError,
    OutputTooLargeError,
    StorageError,
    StoreUnavailableError,
)
from service.model import Artifact, Billable, ErrorCode, Footage, Job, JobError, Output, Report
from service.outbound import open_download
from service.providers import Unanswered
from service.storage import Storage
from service.store import Claims
from service.workers import About, Outcome
from service.workers.asking import PacedProviders, about_job
from service.workers.copying import Held, copy_output

_NOT_READY = Backoff(first_ms=1_000, most_ms=600_000)
_FAILED = Backoff(first_ms=5_000, most_ms=600_000)
_STORAGE_WELL_MS = 3_600_000  # for so long after a fault of ours, one of theirs is not the end
_GONE_ATTEMPTS = 5  # a 410 may be a mistake of a proxy, and some of the attempts may have failed otherwise


Examine = Callable[[Artifact], Awaitable[Footage | None]]
"""Tells what an artifact shows; None when that cannot be found out."""


class Mirror:
    """Copies outputs of at most `max_bytes` each, and has each copy looked at by `examine`, if that is given."""

    name = "mirror"

    def __init__(
        self,
        claims: Claims,
        providers: PacedProviders,
        client: httpx.AsyncClient,
        storage: Storage,
        clock: Clock,
        chance: random.Random,
        *,
        max_bytes: int,
        examine: Examine | None = None,
    ) -> None:
        self._claims = claims
        self._providers = providers
        self._client = client
        self._storage = storage
        self._clock = clock
        self._chance = chance
        self._max_bytes = max_bytes
        self._examine = examine

    async def claim(self, limit: int) -> Sequence[Job]:
        """Lease as many jobs as their providers may be asked for an output now."""
        return await self._providers.claim(self._claims.claim_mirrors, limit)

    async def renew(self, item: Job) -> bool:
        """Keep the lease while bytes flow."""
        return await self._claims.renew(item)

    def about(self, item: Job) -> About:
        """Say which job it is, and of whom."""
        return about_job(item)

    async def handle(self, item: Job) -> Outcome:
        """Copy every output that has no artifact yet; complete the job when all have one."""
        kept = {artifact.index for artifact in item.artifacts}
        missing = [output for output in item.outputs if output.index not in kept]
        self._providers.spend(item.provider, len(missing) - 1)  # the claim spent the first
        errors: list[OutputError] = []
        for output in missing:
            try:
                artifact = await self._copy(item, output)
            except OutputError as error:
                errors.append(error)  # one bad output must not keep the others from being kept
                continue
            if not await self._claims.keep_artifact(item, await self._examined(artifact)):
                return Outcome("lease lost")
        if errors:
            raise _most_hopeful(errors)
        return Outcome("completed" if await self._claims.mirrored(item) else "lease lost")

    async def failed(self, item: Job, error: Exception) -> Outcome:
        """Copy again while the provider can be expected to serve the output; a fault of our storage never gives up."""
        now = self._clock.now()
        if isinstance(error, InterruptedWorkError):
            await self._claims.mirror_again(item, now)
            return Outcome("interrupted")
        ours = isinstance(error, StorageError | StoreUnavailableError)
        if not ours and self._hopeless(item, error, now):
            told = str(error) if isinstance(error, OutputError) else "the service could not copy it; its log says why"
            reason = JobError(ErrorCode.OUTPUT_UNAVAILABLE, told, billable=Billable.YES)
            await self._claims.give_up_mirror(item, reason)
            return Outcome("gave up", told)
        backoff = _NOT_READY if isinstance(error, OutputNotReadyError) else _FAILED
        wait = backoff.delay_ms(item.attempt, self._chance)
        if isinstance(error, OutputError) and error.retry_after_ms:
            wait = max(wait, error.retry_after_ms)
        await self._claims.mirror_again(item, now + wait, now + wait + _STORAGE_WELL_MS if ours else None)
        return Outcome("later")

    async def _copy(self, job: Job, output: Output) -> Artifact:
        try:
            return await self._copy_from(job, output)
        except OutputError as error:
            fresh = await self._ask_again(job, output, error)
            if fresh is None:
                raise
            return await self._copy_from(job, fresh)

    async def _copy_from(self, job: Job, output: Output) -> Artifact:
        created = datetime.fromtimestamp(job.created_at / 1000, UTC)
        stem = f"{job.tenant}/{created:%Y/%m}/{job.id}"
        errors: list[OutputError] = []
        for location in self._providers[job.provider].locations(job, output):
            held = Held()
            try:
                async with open_download(self._client, location.url, location.headers, clock=self._clock) as download:
                    return await copy_output(
                        download, self._storage, stem, index=output.index, max_bytes=self._max_bytes, held=held
                    )
            except OutputError as error:
                if held.too_long and not isinstance(error, OutputTooLargeError):
                    raise StorageError(
                        f"{self._storage.describe()} took {held.seconds:.0f} s for what came, and {error}; "
                        "check what slows it down"
                    ) from error
                errors.append(error)
        raise _most_hopeful(errors)

    async def _examined(self, artifact: Artifact) -> Artifact:
        try:
            footage = None if self._examine is None else await self._examine(artifact)
        except Exception:  # noqa: BLE001 - what a video shows is worth less than that it is kept
            return artifact
        return replace(artifact, footage=footage)

    async def _ask_again(self, job: Job, output: Output, error: OutputError) -> Output | None:
        """Return the output as a poll shows it now, if that names a place that we have not tried.

        OpenRouter's callbacks leave out the signed links to its stored copy, which its polls show.
        """
        if isinstance(error, OutputTooLargeError) or (job.attempt == 1 and not isinstance(error, OutputGoneError)):
            return None
        self._providers.spend(job.provider, 1)
        answer = await self._providers[job.provider].poll(job.provider_job_id or "")
        if isinstance(answer, Unanswered):
            self._providers.close_for(job.provider, answer.retry_after_ms)
        shown = answer.outputs if isinstance(answer, Report) else ()
        return next((each for each in shown if each.index == output.index and each.url not in (None, output.url)), None)

    @staticmethod
    def _hopeless(job: Job, error: Exception, now: int) -> bool:
        return (
            isinstance(error, OutputTooLargeError)
            or (isinstance(error, OutputGoneError) and job.attempt >= _GONE_ATTEMPTS)
            or now >= (job.mirror_until or 0)
        )


def _most_hopeful(errors: Sequence[OutputError]) -> OutputError:
    """Return the error that decides what follows: gone or too large at one place is not so at all of them."""
    return next((error for error in errors if not isinstance(error, OutputGoneError | OutputTooLargeError)), errors[0])
