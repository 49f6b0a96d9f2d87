"""Strangers who know real addresses for callbacks, and have overheard genuine ones."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import httpx

from service.sandbox.behaviours import Tell
from service.sandbox.dialect import Dialect
from service.sandbox.jobs import ProviderJob
from service.sandbox.links import Links
from service.sandbox.llmgateway import LLMGateway
from service.sandbox.openrouter import OpenRouter
from tests.proofs.soak_world import Heard, World, job_of

CLAIMS: Final = ("completed", "completed", "completed", "failed", "cancelled", "expired", "in_progress")
KINDS: Final = ("forged", "replayed", "misdirected", "garbage")
_LATEST: Final = 40  # jobs, which are attacked more than the others
_LOOK_S: Final = 0.05
_UNABLE: Final = 503  # what the service says when it cannot store anything


@dataclass(frozen=True, slots=True)
class Message:
    """What a stranger sends. `kind` is one of `KINDS`."""

    kind: str
    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes


class Strangers:
    """Sends about one message for each step that the soak has come, eight at a time.

    `believed` are those that were answered with a 2xx and must not have been, `broke` those that were answered with a
    5xx that is no 503; both name the job whose address was used.
    """

    def __init__(self, seed: int, world: World) -> None:
        self.believed: list[tuple[str, str]] = []
        self.broke: list[tuple[str, str]] = []
        self.answers: Counter[str] = Counter()
        self._world = world
        self._chance = chance = random.Random(f"{seed} strangers")  # noqa: S311 - it makes nothing secret
        links = Links(world.clock, chance.randbytes(32), world.place.sandbox.base_url)
        self._dialects: dict[str, Dialect] = {
            OpenRouter.name: OpenRouter(
                clock=world.clock, chance=chance, links=links, api_key=None, webhook_secret="a guess"
            ),
            LLMGateway.name: LLMGateway(clock=world.clock, chance=chance, links=links, api_key=None),
        }
        self._sent = 0

    async def run(self) -> None:
        """Send until cancelled."""
        async with (
            httpx.AsyncClient(trust_env=False, timeout=10) as client,
            asyncio.TaskGroup() as group,
        ):
            for _ in range(8):
                group.create_task(self._attack(client))

    async def _attack(self, client: httpx.AsyncClient) -> None:
        kinds: list[Callable[[], Message | None]] = [
            self._forged,
            self._forged,
            self._replayed,
            self._replayed_late,
            self._misdirected,
            self._garbage,
        ]
        while True:
            message = self._chance.choice(kinds)() if self._sent < self._world.progress else None
            if message is None:
                await asyncio.sleep(_LOOK_S)
                continue
            self._sent += 1
            await self._send(client, message)

    async def _send(self, client: httpx.AsyncClient, message: Message) -> None:
        try:
            answer = await client.request(message.method, message.url, content=message.body, headers=message.headers)
        except httpx.TransportError:  # the service is dead just now
            self.answers[f"{message.kind} none"] += 1
            return
        self.answers[f"{message.kind} {answer.status_code}"] += 1
        target = job_of(message.url)
        if answer.is_success and message.kind != "replayed":
            self.believed.append((target, f"{message.kind}, answered {answer.status_code}: {message.body[:200]!r}"))
        if answer.is_server_error and answer.status_code != _UNABLE:
            self.broke.append((target, f"{message.kind}, answered {answer.status_code}: {message.body[:200]!r}"))

    def _target(self) -> ProviderJob | None:
        made = self._world.place.made
        recent = made[-_LATEST:] if self._chance.random() < 0.5 else made
        return self._chance.choice(recent) if recent else None

    def _forged(self) -> Message | None:
        """Claim something about a job, well written and signed with a key of our own."""
        job = self._target()
        if job is None:
            return None
        message = self._dialects[job.dialect].callback(
            job, self._chance.choice(CLAIMS), self._world.clock.now(), forged=True
        )
        return Message("forged", "POST", job.callback_url or "", message.headers, message.body)

    def _replayed(self) -> Message | None:
        """Say again what the provider said a moment ago, byte for byte."""
        return self._again(self._world.heard[-_LATEST:])

    def _replayed_late(self) -> Message | None:
        """Say again what the provider said at any time."""
        return self._again(self._world.heard)

    def _again(self, heard: list[Heard]) -> Message | None:
        if not heard:
            return None
        again = self._chance.choice(heard)
        genuine = self._is_genuine(again)
        return Message("replayed" if genuine else "forged", "POST", again.url, again.headers, again.body)

    def _misdirected(self) -> Message | None:
        """Say what the provider said of one job at the address of another.

        OpenRouter signs for all jobs with one secret and its messages name no job of ours. So what never arrived is
        not misdirected here: whoever keeps a genuine message from us can make a job that is in doubt take its video.
        """
        heard = [each for each in self._world.heard[-_LATEST:] if self._arrived(each)]
        if not heard or (other := self._target()) is None:
            return None
        again = self._chance.choice(heard)
        if other.callback_url == again.url:
            return None
        return Message("misdirected", "POST", other.callback_url or "", again.headers, again.body)

    def _garbage(self) -> Message | None:
        """Send what no provider sends."""
        job = self._target()
        if job is None:
            return None
        url, chance = job.callback_url or "", self._chance
        genuine = self._dialects[job.dialect].callback(job, "completed", self._world.clock.now(), forged=True)
        headers, body = dict(genuine.headers), genuine.body
        method = "POST"
        match chance.randrange(7):
            case 0:
                body = chance.randbytes(chance.randrange(2_000))
            case 1:
                body = body[: chance.randrange(len(body))]
            case 2:
                headers = {f"x-{chance.getrandbits(32):x}": chance.randbytes(30).hex() for _ in range(20)}
            case 3:
                headers |= {name: chance.randbytes(40).hex() for name in headers if "signature" in name.lower()}
            case 4:
                url = url[:-1] + ("A" if url[-1] != "A" else "B")  # another token
            case 5:
                body = b'{"data":' * chance.randrange(30_000)
            case _:
                method, body = chance.choice(["GET", "PUT", "DELETE"]), b""
        return Message("garbage", method, url, headers, body)

    def _arrived(self, heard: Heard) -> bool:
        """Tell whether we took a message, or it is signed with a secret of its own job."""
        made = self._world.place.made_for(job_of(heard.url))
        taken = (sent.status is not None and sent.status < 300 for each in made for sent in each.callbacks)
        return bool(made) and (made[0].dialect == LLMGateway.name or any(taken))

    def _is_genuine(self, heard: Heard) -> bool:
        made = self._world.place.made_for(job_of(heard.url))
        return bool(made) and made[0].behaviour.tell not in {Tell.FORGED, Tell.STALE}
