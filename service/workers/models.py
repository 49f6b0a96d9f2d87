"""What providers offer is asked for now and then, and what they last said is kept when they say nothing."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service.backoff import Backoff, spread_ms
from service.clock import Clock
from service.errors import InterruptedWorkError
from service.providers import ListsModels, Unanswered
from service.store import Catalogue
from service.workers import About, Outcome

_EVERY_MS = 600_000
_JITTER = 0.1
_FAILED = Backoff(first_ms=30_000, most_ms=_EVERY_MS)


@dataclass(frozen=True, slots=True)
class Listing:
    """One provider's list, to be asked for; `id` is the provider's name."""

    id: str


class ModelLister:
    """Keeps the catalogue fresh.

    When to ask next is kept in memory alone: whoever starts the service anew wants to know at once. It asks beside the
    providers' paces, which are for jobs: neither provider counts its catalogue against a limit of theirs.
    """

    name = "models"

    def __init__(
        self, catalogue: Catalogue, providers: Mapping[str, ListsModels], clock: Clock, chance: random.Random
    ) -> None:
        self._catalogue = catalogue
        self._providers = providers
        self._clock = clock
        self._chance = chance
        self._due = dict.fromkeys(providers, 0)  # unix ms; a provider that is being asked has no time
        self._failures = dict.fromkeys(providers, 0)  # in a row

    async def claim(self, limit: int) -> Sequence[Listing]:
        """Take the providers whose time has come."""
        now = self._clock.now()
        due = [name for name, at in self._due.items() if at <= now][:limit]
        for name in due:
            del self._due[name]
        return [Listing(name) for name in due]

    async def renew(self, item: Listing) -> bool:  # noqa: ARG002 - nobody else could take it
        """Keep what only this process knows of."""
        return True

    def about(self, item: Listing) -> About:
        """Say whose list it is."""
        return About(provider=item.id)

    async def handle(self, item: Listing) -> Outcome:
        """Ask for the list and keep it; an empty one after a full one is a fault of theirs, not an offer."""
        answer = await self._providers[item.id].models()
        if not isinstance(answer, Unanswered) and not answer and await self._catalogue.lists(item.id):
            answer = Unanswered("a list of no models, where there were some")
        if isinstance(answer, Unanswered):
            self._later(item.id, answer.retry_after_ms)
            return Outcome("unanswered", answer.reason)
        await self._catalogue.replace(item.id, answer)
        self._failures[item.id] = 0
        self._wait(item.id, spread_ms(_EVERY_MS, _JITTER, self._chance))
        return Outcome("listed", f"{len(answer)} models")

    async def failed(self, item: Listing, error: Exception) -> Outcome:
        """Ask again: at once when it was only interrupted, later and later after a fault of ours."""
        if isinstance(error, InterruptedWorkError):
            self._wait(item.id, 0)
            return Outcome("interrupted")
        self._later(item.id, None)
        return Outcome("later")

    def _later(self, provider: str, retry_after_ms: int | None) -> None:
        self._failures[provider] += 1
        self._wait(provider, max(retry_after_ms or 0, _FAILED.delay_ms(self._failures[provider], self._chance)))

    def _wait(self, provider: str, milliseconds: int) -> None:
        self._due[provider] = self._clock.now() + milliseconds
