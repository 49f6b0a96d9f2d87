"""A server that sells outputs, and the mirror that buys there."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from service.model import Job, Status
from service.outbound import public_client
from service.providers import Location
from service.sandbox.downloads import VIDEOS
from service.storage import Storage
from service.workers.mirror import Examine, Mirror
from tests.servers import Loopback, answer
from tests.store.world import report
from tests.workers.stage import Stage

VIDEO = VIDEOS[0]
GOOD, GONE, LATER, PAGE = answer(VIDEO), answer(status=410), answer(status=409), answer(b"<html>sign in")


class Shop:
    """A server that gives its answers in turn, by path; and the mirror that buys there."""

    def __init__(self, stage: Stage, mirror: Mirror, server: Loopback, videos: Path) -> None:
        self.stage = stage
        self.mirror = mirror
        self.server = server
        self.videos = videos
        self.shelf: dict[str, list[bytes]] = {}

    def sells(self, *places: Sequence[bytes]) -> None:
        """Offer the outputs at as many places; each gives its answers in turn, the last one for ever."""
        self.shelf = {f"/{place}": list(answers) for place, answers in enumerate(places)}
        self.stage.alpha.places = [Location(self.server.url(f"{path}?index={{index}}")) for path in self.shelf]

    async def mirroring(self, outputs: int = 1) -> Job:
        """Return a job whose outputs are to be copied."""
        job = await self.stage.running()
        await self.stage.world.apply(job, report(Status.COMPLETED, f"at-{job.id}", outputs=outputs))
        return await self.stage.world.now(job)

    async def copies(self) -> list[str]:
        return await self.stage.step(self.mirror)

    def stored(self) -> list[str]:
        return sorted(str(path.relative_to(self.videos)) for path in self.videos.rglob("*") if path.is_file())


def mirror_of(
    stage: Stage, client_of: Loopback, videos: Path | str, stack: AsyncExitStack, examine: Examine | None = None
) -> Mirror:
    client = public_client([client_of.host])
    stack.push_async_callback(client.aclose)
    chance = random.Random(5)  # noqa: S311 - the same jitter in every run
    storage = Storage.open(str(videos))
    return Mirror(
        stage.world.claims, stage.paced, client, storage, stage.clock, chance, max_bytes=1_000_000, examine=examine
    )
