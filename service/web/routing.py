"""Which provider a request goes to that came in a provider's dialect: any face can reach any of them."""

from __future__ import annotations

from collections.abc import Collection

from service.model import Problem
from service.store import Catalogue
from service.web.refusals import invalid_request, not_a_name, shown


class Routing:
    """Chooses between the configured `providers`, by what they list."""

    def __init__(self, catalogue: Catalogue, providers: Collection[str], default_provider: str) -> None:
        self._catalogue = catalogue
        self._providers = tuple(providers)
        self._default = default_provider

    async def provider_for(self, model: str, *, wanted: str | None, own: str) -> str:
        """Return the name of the provider that a request for `model` goes to.

        That is the one that the caller `wanted`; else the dialect's `own` one, unless it is known not to offer the
        model and another is known to; else the default one. It is decided by what was last listed, never by asking.
        Raises RefusalError (400) when the one that was wanted is not configured.
        """
        if wanted is not None:
            if wanted not in self._providers:
                said = not_a_name(shown(wanted), self._providers, "a provider of this service")
                raise invalid_request([Problem("provider", said)])
            return wanted
        offering = [name for name in await self._catalogue.providers_of(model) if name in self._providers]
        if own not in self._providers:
            return self._best(offering) or self._default
        if own in offering or not offering or not await self._catalogue.lists(own):
            # A provider that never answered yet keeps what is addressed to it: where a request goes, and which account
            # pays, must not hang on who was listed first after the first start.
            return own
        return self._best(offering) or own

    def _best(self, offering: Collection[str]) -> str | None:
        """Return the first of those that offer a model, as they are configured; the default one before all."""
        return min(offering, key=lambda name: (name != self._default, self._providers.index(name)), default=None)
