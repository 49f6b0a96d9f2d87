"""How a job ends with each behaviour of the provider: what both the stories and the soak hold jobs to."""

from __future__ import annotations

from dataclasses import dataclass

from service.model import State


@dataclass(frozen=True)
class Ending:
    """How a story ends: `history` is what happened after `queued submitting`, its last word the final state."""

    history: str
    code: str | None = None
    paid: int = 1
    told: str | None = "callback"
    downloads: int | None = None  # how often the provider was asked for an output; None: not told here
    callbacks: tuple[str, ...] = ("genuine 204",)  # what was sent, and our answer

    @property
    def state(self) -> State:
        """The final state."""
        return State(self.history.split()[-1])


KEPT = "running mirroring completed"
ADOPTED = "in_doubt mirroring completed"
UNAVAILABLE = "running mirroring failed"
RUINED = "output_unavailable"

ENDINGS: dict[str, Ending | dict[str, Ending]] = {
    "ok": Ending(KEPT, downloads=1),
    "callback-lost": Ending(KEPT, told="poll", callbacks=()),
    "callback-twice": Ending(KEPT, downloads=1, callbacks=("genuine 204", "duplicate 204")),
    "callback-late": Ending(KEPT, told="poll", downloads=1),
    "callback-early": Ending("mirroring completed", downloads=1),
    "callback-forged": Ending("running failed", "provider_failed", told="poll", callbacks=("forged 401",)),
    "callback-stale": Ending(KEPT, told="poll", callbacks=("stale 401",)),
    "accepted-then-502": Ending(ADOPTED),
    "accepted-then-hangs": Ending(ADOPTED),
    "accepted-then-reset": Ending(ADOPTED),
    "accepted-then-html": Ending(ADOPTED),
    "refused-400": Ending("failed", "invalid_request", paid=0, told=None, callbacks=()),
    "refused-402": Ending("failed", "provider_credits", paid=0, told=None, callbacks=()),
    "rate-limited": Ending("queued submitting queued submitting " + KEPT),
    "unavailable": Ending("queued submitting " + KEPT),
    "fails": Ending("running failed", "provider_failed", downloads=0),
    "fails-moderation": Ending("running failed", "content_policy", downloads=0),
    "cancelled": Ending("running cancelled", "cancelled", downloads=0),
    "expires": Ending("running expired", "expired", downloads=0),
    "never-ends": Ending("running expired", "timed_out", told=None, downloads=0, callbacks=()),
    "several-outputs": {
        "openrouter": Ending(KEPT, downloads=3),
        "llmgateway": Ending(KEPT, downloads=1),
    },
    "urls": Ending(KEPT, downloads=1),
    "html": Ending(KEPT, downloads=3),
    "html-forever": Ending(UNAVAILABLE, RUINED),
    "short-body": Ending(KEPT, downloads=3),
    "truncated": Ending(KEPT, downloads=3),
    "endless-body": Ending(UNAVAILABLE, RUINED, downloads=1),
    "redirect": Ending(KEPT, downloads=2),  # here and there
    "not-ready": Ending(KEPT, downloads=3),
    "slow": Ending(KEPT, downloads=1),
    "gone": {
        "openrouter": Ending(UNAVAILABLE, RUINED, downloads=5),  # 410
        "llmgateway": Ending(UNAVAILABLE, RUINED),  # 404, which may mean "not yet" until the retention ends
    },
    "webm": Ending(KEPT, downloads=1),
    "poll-errors": Ending(KEPT, told="poll", callbacks=()),
    "unknown-status": Ending(KEPT, told="poll", callbacks=()),
    "step-back": Ending(KEPT, told="poll", callbacks=()),
    "stale-get": Ending(KEPT),
}


def ending_of(behaviour: str, provider: str) -> Ending:
    """Return how a job ends that asks a provider for a behaviour."""
    ending = ENDINGS[behaviour]
    return ending[provider] if isinstance(ending, dict) else ending
