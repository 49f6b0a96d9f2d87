"""The backends of a soak: they ask in three dialects until they have an answer, and are told, or poll."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from service import signing
from service.assembly import http_server, listen
from service.errors import BadSignatureError
from service.model import FINAL, Face
from service.sandbox.behaviours import PREFIX
from tests.clocks import FastClock
from tests.proofs.soak_mix import RECEIVERS, Wish
from tests.proofs.soak_world import World

PATHS: Final = {Face.NATIVE: "/v1/jobs", Face.OPENROUTER: "/api/v1/videos", Face.OPENAI: "/v1/videos"}
TENANT: Final = "studio"

_AGAIN: Final = frozenset({402, 429})  # and every 5xx: the call is made again
_AT_ONCE: Final = 32  # creates
_LOOK_S: Final = 0.02
_HANGS_S: Final = 1.5
_POLL_S: Final = 1.5
_PATIENCE_S: Final = 180.0  # after which a caller gives up that was never given an answer


@dataclass(frozen=True, slots=True)
class Told:
    """One message as it came: `id` names it in every attempt, `state` is what it says, in its dialect's words."""

    id: str
    job_id: str
    state: str
    genuine: bool
    taken: bool


@dataclass(slots=True)
class Diary:
    """What a caller lived through. `cancelled` is what it was told when it changed its mind (None: it did not)."""

    job_id: str | None = None
    words: list[str] = field(default_factory=list)
    cancelled: int | None = None
    told: list[Told] = field(default_factory=list)


class Backends:
    """The addresses where callers are told, and what each of them lived through.

    `secret` is what the service signs with for them.
    """

    def __init__(self, wishes: Sequence[Wish], clock: FastClock, secret: str) -> None:
        self.wishes = wishes
        self.diaries: dict[int, Diary] = defaultdict(Diary)
        self.hosts: list[str] = []
        self._clock = clock
        self._secret = secret
        self._moods: Counter[str] = Counter()

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Let callers be told while the block lasts."""
        app = Starlette(routes=[Route("/told/{wish:int}", self._take, methods=["POST"])])
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(RECEIVERS):
                listener = stack.enter_context(listen("127.0.0.1", 0))
                self.hosts.append(f"127.0.0.1:{listener.getsockname()[1]}")
                server = http_server(app)
                serving = asyncio.create_task(server.serve(sockets=[listener]))
                stack.push_async_callback(_stop, server, serving)
            yield

    async def _take(self, request: Request) -> Response:
        try:
            body = await request.body()
        except ClientDisconnect:  # the service died while it told us
            return Response(status_code=500)
        wish = self.wishes[int(request.path_params["wish"])]
        headers = {name.lower(): value for name, value in request.headers.items()}
        said = json.loads(body)
        match wish.face:
            case Face.NATIVE | Face.OPENAI:
                name = headers.get("webhook-id", "")
            case Face.OPENROUTER:
                name = headers.get("x-openrouter-idempotency-key", "")
        self._moods[name] += 1
        before = self._moods[name] - 1
        mood = wish.moods[before] if before < len(wish.moods) else None
        genuine = self._believes(wish, headers, body)
        told = Told(name, str(said["data"]["id"]), word_of(said["data"]), genuine, taken=mood is None)
        self.diaries[wish.number].told.append(told)
        if mood == "hang":
            await asyncio.sleep(_HANGS_S)
        return Response(status_code=204 if mood is None else 500)

    def _believes(self, wish: Wish, headers: dict[str, str], body: bytes) -> bool:
        now = self._clock.now()
        try:
            match wish.face:
                case Face.NATIVE:
                    key = base64.b64decode(self._secret.removeprefix("whsec_"))
                    signing.verify_standard([key], headers, body, now)
                case Face.OPENROUTER:
                    key = signing.key_of(self._secret)
                    signing.verify_openrouter([key], headers.get("x-openrouter-signature"), body, now)
                case Face.OPENAI:
                    signing.verify_standard([signing.key_of(_secret_of(wish))], headers, body, now)
        except BadSignatureError:
            return False
        return True


class Callers:
    """Make the wishes of all backends, with `most_under_way` jobs at once at most."""

    def __init__(self, seed: int, world: World, backends: Backends, most_under_way: int) -> None:
        self._world = world
        self._backends = backends
        self._most_under_way = most_under_way
        self._chance = random.Random(f"{seed} callers")  # noqa: S311 - it makes nothing secret
        self._creating = 0

    async def run(self) -> None:
        """Make every wish, in order; return when who polls has seen the end."""
        world = self._world
        headers = {"authorization": f"Bearer {world.place.key}"}
        limits = httpx.Limits(max_connections=64, max_keepalive_connections=16)
        async with (
            httpx.AsyncClient(
                base_url=world.place.url, headers=headers, trust_env=False, timeout=60, limits=limits
            ) as client,
            asyncio.TaskGroup() as group,
        ):
            for wish in self._backends.wishes:
                most = min(_AT_ONCE, self._most_under_way - world.under_way)
                while self._creating >= most:
                    await asyncio.sleep(_LOOK_S)
                    most = min(_AT_ONCE, self._most_under_way - world.under_way)
                    await asyncio.sleep(_LOOK_S)
                self._creating += 1
                group.create_task(self._live(client, wish))

    async def _live(self, client: httpx.AsyncClient, wish: Wish) -> None:
        try:
            try:
                await self._create(client, wish)
            finally:
                self._creating -= 1
            await self._follow(client, wish)
        except Exception as error:
            job_id = self._backends.diaries[wish.number].job_id
            error.add_note(f"{wish}\n{await self._world.tell([job_id] if job_id else [])}")
            raise

    async def _create(self, client: httpx.AsyncClient, wish: Wish) -> None:
        headers = {} if wish.key is None else {"idempotency-key": wish.key}
        if wish.face is Face.OPENROUTER:
            headers["x-reelkeeper-provider"] = wish.provider
        body = self._body(wish)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_S):
                answer = await self._until_answered(client, "POST", PATHS[wish.face], json=body, headers=headers)
                if answer.status_code == 202:
                    job_id = str(answer.json()["id"])
                    self._backends.diaries[wish.number].job_id = job_id
                    self._world.accepted[wish.number] = job_id
                else:
                    self._world.seen[f"creates answered {answer.status_code}"] += 1

    def _body(self, wish: Wish) -> dict[str, Any]:
        body: dict[str, Any] = {"model": PREFIX + wish.behaviour, "prompt": wish.prompt}
        url = None if wish.receiver is None else f"http://{self._backends.hosts[wish.receiver]}/told/{wish.number}"
        match wish.face:
            case Face.NATIVE:
                body |= {"provider": wish.provider, "duration": 4}
                body |= {"notify_url": url} if url else {}
            case Face.OPENROUTER:
                body |= {"duration": 4}
                body |= {"callback_url": url} if url else {}
            case Face.OPENAI:
                body |= {"seconds": "4", "provider": wish.provider}
                body |= {"callback_url": url, "callback_secret": _secret_of(wish)} if url else {}
        return body

    async def _until_answered(
        self,
        client: httpx.AsyncClient,
        method: str,
        path: str,
        **rest: Any,  # noqa: ANN401 - as httpx has it
    ) -> httpx.Response:
        """Make a call again and again, as a backend does, while it breaks or the service says that it cannot now."""
        while True:
            try:
                answer = await client.request(method, path, **rest)
            except httpx.TransportError:
                self._world.seen["calls that broke"] += 1
            else:
                if answer.status_code < 500 and answer.status_code not in _AGAIN:
                    return answer
                self._world.seen[f"calls answered {answer.status_code}"] += 1
            await asyncio.sleep(self._chance.uniform(0.1, 0.4))

    async def _follow(self, client: httpx.AsyncClient, wish: Wish) -> None:
        diary = self._backends.diaries[wish.number]
        if diary.job_id is None:
            return
        if wish.cancels:
            answer = await self._until_answered(client, "POST", f"/v1/jobs/{diary.job_id}/cancel")
            diary.cancelled = answer.status_code
        while wish.receiver is None and not (diary.words and diary.words[-1] in FINAL):
            answer = await self._until_answered(client, "GET", f"{PATHS[wish.face]}/{diary.job_id}")
            diary.words.append(word_of(answer.json()) if answer.status_code == 200 else str(answer.status_code))
            if diary.words[-1].isdigit():
                return
            await asyncio.sleep(self._chance.uniform(0.5, 1.5) * _POLL_S)


def word_of(shown: dict[str, Any]) -> str:
    """Return the state of a job as a dialect shows it."""
    return str(shown["state"] if shown.get("object") == "job" else shown["status"])


def _secret_of(wish: Wish) -> str:
    return f"the secret of wish {wish.number}"


async def _stop(server: Any, serving: asyncio.Task[None]) -> None:  # noqa: ANN401 - uvicorn's
    server.should_exit = True
    await serving
