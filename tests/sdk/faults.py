"""What can go wrong around one call that asks for a video, and how many videos the provider makes of it.

Each fault is measured in a place of its own, with a real SDK and its default retries: `directly` against the provider,
`behind` Reelkeeper. Waits between retries are the SDKs' own, in real time.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import openai

from service.sandbox.behaviours import PREFIX
from tests.places import Place, bytes_of, losing_one_answer, open_place, playing, until
from tests.sdk.callers import Caller, OpenAICaller, OpenRouterCaller

SDKS: Final[Mapping[str, Callable[[str, str, float | None], Caller]]] = {
    "openai": OpenAICaller,
    "openrouter": OpenRouterCaller,
}
WATCHED: Final = 20.0  # s, after which a direct call that still goes on is left alone
SHORTENED: Final = 2.0  # s, for the 600 after which `openai` times out; `openrouter` keeps its 5
WINDOW: Final = 60  # s, of a key that has a dedupe window

_TIMEOUTS = {"openai": SHORTENED, "openrouter": 5.0}
_RETRIES_WITHIN = 2.5  # s after a timeout, in which either SDK has called again
_MOST_CALLS = 3
_SETTLED_WITHIN = 150.0  # s, for the longest: a lease of a minute that must lapse
_AT_ONCE = 6
_SLOW = 0.4  # leaves time to a service that would submit again what the provider has already


async def _killed_while_the_provider_is_called(place: Place, _: float) -> None:
    await until(lambda: place.made)
    place.signal(signal.SIGKILL)


async def _halted_before_it_reads(place: Place, patience: float) -> None:
    # The SDK's own clock must run out, which is the machine's: a halted service shows nothing that could be waited for.
    place.signal(signal.SIGSTOP)
    await asyncio.sleep(patience + _RETRIES_WITHIN)
    place.signal(signal.SIGCONT)


async def _halted_before_it_answers(place: Place, patience: float) -> None:
    await until(lambda: place.halted)
    await asyncio.sleep(patience + _RETRIES_WITHIN)
    place.signal(signal.SIGCONT)


@dataclass(frozen=True)
class Fault:
    """A row: what goes wrong, and where.

    `model` is how the provider behaves, and `speed` how much faster than usual. `point` is where the service dies.
    `meanwhile` is what happens to the service while the call is made; it is told after how many seconds the call times
    out. `deadline` (s) is the service's.
    """

    name: str
    says: str
    model: str = "ok"
    speed: float = 1.0
    point: str | None = None
    meanwhile: Callable[[Place, float], Awaitable[None]] | None = None
    proxy: bool = False
    window: int = 0
    deadline: int = 7200

    @property
    def ours(self) -> bool:
        """Whether it befalls the service, so that there is nothing to measure without one."""
        return self.point is not None or self.meanwhile is not None or bool(self.window)


CLAIMED: Final = "claimed"
"""The fault after which nobody can know whether the provider was called; its place takes more than a minute."""

FAULTS: Final = (
    Fault("nothing", "nothing"),
    Fault("502", "the provider accepts, and answers 502", "accepted-then-502", _SLOW),
    Fault("hangs", "the provider accepts, and never answers", "accepted-then-hangs", _SLOW),
    Fault("resets", "the provider accepts, and resets the connection", "accepted-then-reset", _SLOW),
    Fault("html", "the provider accepts, and answers with a web page", "accepted-then-html", _SLOW),
    Fault("429", "the provider answers 429 twice, then accepts", "rate-limited"),
    Fault("killed-before", "we are killed before we call the provider", point="answered"),
    Fault(CLAIMED, "we are killed when we have noted that we call it, and have not", point="claimed", deadline=20),
    Fault(
        "killed-during",
        "we are killed while the provider has our call and no answer came",
        "accepted-then-hangs",
        _SLOW,
        meanwhile=_killed_while_the_provider_is_called,
    ),
    Fault("killed-after", "we are killed with the provider's answer in hand", speed=_SLOW, point="called"),
    Fault("killed-unanswered", "we are killed between our commit and our 202", point="committed"),
    Fault("killed-overtaken", "the same, and the provider has the job already", point="overtaken"),
    Fault("slow-to-read", "the client times out while we are slow to read its call", meanwhile=_halted_before_it_reads),
    Fault(
        "slow-to-answer",
        "the client times out between our commit and our 202",
        point="halted",
        meanwhile=_halted_before_it_answers,
    ),
    Fault("proxy", "a proxy loses the answer after the acceptance, and says 502", proxy=True),
    Fault("proxy-window", "the same, with a key that has a dedupe window", proxy=True, window=WINDOW),
)


@dataclass(frozen=True)
class Outcome:
    """What became of one call.

    `made` counts the jobs at the provider, `calls` how often the backend had to call before it had an id, `error` is
    what the SDK raised before that or instead. `states` are those of our own jobs, `status` is what the SDK reads of
    the id that the backend has, and `whole` tells that what it downloads is what the provider made.
    """

    made: int
    calls: int = 1
    error: str | None = None
    goes_on: bool = False  # the SDK was still trying when it was left alone
    states: tuple[str, ...] = ()
    status: str = ""
    whole: bool = False


Cell = tuple[Fault, str]
"""A fault, and the name of an SDK."""


async def measured(
    cells: Sequence[Cell], measure: Callable[[Fault, str], Awaitable[Outcome]]
) -> Mapping[tuple[str, str], Outcome]:
    """Measure several cells at once; the outcomes by the names of fault and SDK."""
    places = asyncio.Semaphore(_AT_ONCE)

    async def one(fault: Fault, sdk: str) -> Outcome:
        async with places:
            return await measure(fault, sdk)

    outcomes = await asyncio.gather(*(one(fault, sdk) for fault, sdk in cells))
    return {(fault.name, sdk): outcome for (fault, sdk), outcome in zip(cells, outcomes, strict=True)}


async def directly(fault: Fault, sdk: str) -> Outcome:
    """Call the provider itself, once, and look for as long as `WATCHED` what comes of it."""
    shortened = fault.name == "hangs" and sdk == "openai"
    async with playing() as sandbox, _proxied(sandbox.base_url, proxy=fault.proxy) as url:
        caller = SDKS[sdk](url, "any", SHORTENED if shortened else None)
        calling = asyncio.create_task(caller.create(PREFIX + fault.model))
        await asyncio.wait({calling}, timeout=WATCHED)
        goes_on = not calling.done()
        calling.cancel()
        await asyncio.wait({calling})
        await caller.close()
        error = None if goes_on else calling.exception()
        said = None if error is None else type(error).__name__
        return Outcome(len(sandbox.ledger.jobs()), error=said, goes_on=goes_on)


async def behind(fault: Fault, sdk: str) -> Outcome:
    """Call Reelkeeper, as often as a backend must to get an answer, and wait until the job has ended."""
    shortened = fault.meanwhile is not None and sdk == "openai"
    with tempfile.TemporaryDirectory() as folder:
        opening = open_place(
            Path(folder), fault.point, dedupe_window=fault.window, deadline=fault.deadline, speed=fault.speed
        )
        async with opening as place, _proxied(place.url, proxy=fault.proxy) as url:
            caller = SDKS[sdk](url, place.key, SHORTENED if shortened else None)
            meanwhile = asyncio.create_task(_meanwhile(fault, place, _TIMEOUTS[sdk]))
            try:
                video_id, calls, error = await _asked(caller, PREFIX + fault.model)
                await meanwhile
                status = await _settled(place, caller, video_id)
                content = await caller.content(video_id) if status == "completed" else None
            finally:
                meanwhile.cancel()
                await asyncio.wait({meanwhile})
                await caller.close()
            jobs = {job.id: job for job in await place.jobs()}
            ours = [bytes_of(made) for made in place.made if made.id == jobs[video_id].provider_job_id]
            states = tuple(job.state.value for job in jobs.values())
            return Outcome(len(place.made), calls, error, states=states, status=status, whole=ours == [content])


async def _meanwhile(fault: Fault, place: Place, patience: float) -> None:
    if fault.meanwhile is not None:
        await fault.meanwhile(place, patience)


async def _asked(caller: Caller, model: str) -> tuple[str, int, str | None]:
    """Ask until there is an id; an SDK may give up, and a backend that needs the video calls again then."""
    error = None
    for calls in range(1, _MOST_CALLS + 1):
        try:
            return await caller.create(model), calls, error
        except (httpx.TransportError, openai.APIConnectionError) as caught:
            error = type(caught).__name__
        await asyncio.sleep(1)  # as a backend would before it calls again, while another process is started
    raise RuntimeError(f"the service never answered: {error}")


async def _settled(place: Place, caller: Caller, video_id: str) -> str:
    """Wait until every job of ours has ended; return what the SDK reads about this one."""
    status = ""
    async with asyncio.timeout(_SETTLED_WITHIN):
        while status not in ("completed", "failed") or not all(job.state.final for job in await place.jobs()):
            with contextlib.suppress(httpx.TransportError, openai.APIConnectionError):  # it may be dead just now
                status = await caller.status(video_id)
            await asyncio.sleep(0.2)  # as a backend polls: the service is another process
    return status


@contextlib.asynccontextmanager
async def _proxied(url: str, *, proxy: bool) -> AsyncIterator[str]:
    if not proxy:
        yield url
        return
    async with losing_one_answer(url) as lossy:
        yield lossy
