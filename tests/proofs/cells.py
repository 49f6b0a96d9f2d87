"""How a proof tries its cells: a few at once, and whatever becomes of one, the others go on."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Sequence
from pathlib import Path
from traceback import format_exception
from typing import Any, Protocol, TypeVar

import pytest

from tests.places import Place
from tests.servers import SeaweedFS, seaweedfs


class Outcome(Protocol):
    """What became of a cell: why it is `skipped` here, or what is `wrong`, and the `story` if anything is."""

    skipped: str
    story: str

    @property
    def wrong(self) -> Collection[str]:
        """All complaints."""
        ...

    def complain(self, sentence: str) -> None:
        """Add one."""
        ...


Found = TypeVar("Found", bound=Outcome)


async def measured(
    outcomes: Sequence[Found], measure: Callable[[Found], Awaitable[None]], at_once: int
) -> Sequence[Found]:
    """Have `measure` fill in all outcomes, so many at once; one that raises has a complaint more, or is skipped."""
    places = asyncio.Semaphore(at_once)

    async def one(outcome: Found) -> None:
        async with places:
            try:
                await measure(outcome)
            except pytest.skip.Exception as skipped:
                outcome.skipped = str(skipped)
            except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001 - it must not end the others
                _broke(outcome, error)

    await asyncio.gather(*(one(outcome) for outcome in outcomes))
    return outcomes


@contextlib.contextmanager
def bucket_if(needed: bool) -> Iterator[SeaweedFS | None]:  # noqa: FBT001 - its name says what is asked
    """Run an object store while the block lasts, if one is needed."""
    if not needed:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder, seaweedfs(Path(folder)) as server:
        yield server


@contextlib.asynccontextmanager
async def telling(outcome: Outcome, place: Place, accepted: Collection[str] = ()) -> AsyncIterator[None]:
    """Add to the story, if anything is wrong by then, all that is known of all jobs; what raises is wrong, too.

    `accepted` are jobs that the service has promised, and may not have.
    """
    try:
        yield
    except Exception as error:  # noqa: BLE001 - only here the jobs can still be told
        _broke(outcome, error)
    if outcome.wrong:
        jobs = dict.fromkeys([*(job.id for job in await place.jobs()), *accepted])
        outcome.story += "\n".join([await place.tell(job_id) for job_id in jobs])


def _broke(outcome: Outcome, error: BaseException) -> None:
    outcome.complain(repr(error))
    outcome.story += "".join(format_exception(error))


def wanted(request: pytest.FixtureRequest, parameter: str) -> list[Any]:
    """Return the values of a parameter with which the tests of this run are called that are in the same file."""
    here = [item for item in request.session.items if item.path == request.path and isinstance(item, pytest.Function)]
    return [item.callspec.params[parameter] for item in here if hasattr(item, "callspec")]
