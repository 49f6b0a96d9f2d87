"""The providers as workers see them: each with a pace that submissions, polls and downloads share."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable, Iterable

from service.clock import Clock
from service.model import Job
from service.pace import Pace
from service.providers import Provider
from service.workers import About


def about_job(job: Job) -> About:
    """Say which job it is that a provider is asked about."""
    return About(job.id, job.provider, attempt=job.attempt)


class PacedProviders:
    """Finds providers by name, and lets no more work be claimed than they may be asked for."""

    def __init__(self, providers: Iterable[Provider], clock: Clock) -> None:
        self._providers = {provider.name: provider for provider in providers}
        self._paces = {
            name: Pace(clock, provider.manners.per_minute, provider.manners.burst)
            for name, provider in self._providers.items()
        }
        self._claiming = asyncio.Lock()

    def each(self) -> dict[str, PacedProviders]:
        """Return a view of every provider alone. They share the paces: what one of them spends, none has any more."""
        views = {}
        for name, pace in self._paces.items():
            views[name] = copy.copy(self)
            views[name]._paces = {name: pace}  # noqa: SLF001 - a copy of ourselves
        return views

    def __getitem__(self, name: str) -> Provider:
        """Return the provider of that name; KeyError when it is not configured."""
        return self._providers[name]

    async def claim(
        self, claim: Callable[[str, int], Awaitable[list[Job]]], limit: int, *, reserve: float = 0.0
    ) -> list[Job]:
        """Claim at most `limit` jobs, of each provider as many as it may be asked now, one call for each.

        `reserve` is the share (0 to 1) of each provider's burst that is left to others.
        """
        jobs: list[Job] = []
        async with self._claiming:  # what one worker finds free, no other may take before it is spent
            for name, pace in self._paces.items():
                room = min(limit - len(jobs), pace.free(reserve=reserve))
                if room > 0:
                    claimed = await claim(name, room)
                    pace.spend(len(claimed))
                    jobs += claimed
        return jobs

    def spend(self, name: str, calls: int) -> None:
        """Note calls beyond the one that the claim of a job stands for."""
        self._paces[name].spend(calls)

    def close_for(self, name: str, milliseconds: int | None) -> None:
        """Ask a provider nothing for a while: it said `Retry-After`."""
        self._paces[name].close_for(milliseconds or 0)
