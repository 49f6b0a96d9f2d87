"""A child that misbehaves, however it does: it costs its own video's footage, and nothing else."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from service.media import Examiner
from service.media.process import Process
from service.model import Artifact, Footage
from service.sandbox.downloads import VIDEOS
from service.storage import Storage
from tests.media.films import POSTER, children, film, keep
from tests.turns import Turn, until

Scripted = Callable[..., Examiner]
Reasons = Callable[[], list[str]]

CHILD = str(Path(__file__).parents[2] / "service" / "media" / "child.py")
TOLD = 'print(\'footage {"duration_ms": 2000, "width": 320, "height": 180, "codec": "h264"}\', flush=True)\n'
HANG = "import os, sys, threading\nopen(f'{sys.argv[1]}/{os.getpid()}', 'x').close()\nthreading.Event().wait()"
SPOKEN_TO = "import sys\nprint('read 0 5', flush=True)\nsys.stdin.buffer.read(5)\n"
# The decoder itself, with one of its parts replaced: what remains is under its limits.
REPLACED = f"import sys\nsys.path.insert(0, {str(Path(CHILD).parent)!r})\nimport child\n"


@pytest.fixture
async def artifact(storage: Storage) -> Artifact:
    return await keep(storage, VIDEOS[0])


@pytest.fixture
def started(tmp_path: Path) -> Path:
    """Return where a child that hangs leaves its number."""
    folder = tmp_path / "started"
    folder.mkdir()
    return folder


def count(started: Path) -> int:
    return len(list(started.iterdir()))


def alive(started: Path) -> set[int]:
    """Return the children that hang and are not yet reaped."""
    return {int(path.name) for path in started.iterdir()} & children()


# Dying and hanging


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "the decoder died of SIGSEGV"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "the decoder died of SIGKILL"),
        ("raise SystemExit(3)", "the decoder ended with status 3"),
        ("", "the decoder ended with status 0"),
        ("print('read 0 10', flush=True); import sys; sys.stdin.close()", "the decoder ended with status 0"),
    ],
)
async def test_a_child_that_dies_is_no_footage(
    artifact: Artifact, scripted: Scripted, reasons: Reasons, script: str, reason: str
) -> None:
    assert await scripted(script).examine(artifact) is None
    assert reasons() == [reason]


async def test_what_was_told_before_the_death_stays(artifact: Artifact, scripted: Scripted, reasons: Reasons) -> None:
    script = f"{TOLD}import os, signal; os.kill(os.getpid(), signal.SIGABRT)"
    assert await scripted(script).examine(artifact) == Footage(2000, 320, 180, "h264", None)
    assert reasons() == ["the decoder died of SIGABRT"]


async def test_a_child_that_takes_too_long_is_killed(
    artifact: Artifact, scripted: Scripted, reasons: Reasons, started: Path
) -> None:
    assert await scripted(HANG, str(started), seconds=0.5).examine(artifact) is None
    assert reasons() == ["it took longer than 0.5 s"]
    assert count(started) == 1
    assert not alive(started)


async def test_a_child_that_closes_its_output_and_hangs_is_killed(
    artifact: Artifact, scripted: Scripted, reasons: Reasons, started: Path
) -> None:
    script = f"import os\nos.close(1)\n{HANG}"
    assert await scripted(script, str(started), seconds=0.5).examine(artifact) is None
    assert reasons() == ["it took longer than 0.5 s"]
    assert not alive(started)


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_cancellation_leaves_no_child(
    storage: Storage, scripted: Scripted, started: Path, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def cancelled() -> None:
        examiner = scripted(SPOKEN_TO + HANG, str(started))
        examining = asyncio.create_task(examiner.examine(await keep(storage, VIDEOS[0])))
        await until(lambda: alive(started))
        examining.cancel()
        with pytest.raises(asyncio.CancelledError):
            await examining
        assert not alive(started)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(cancelled())


@pytest.mark.parametrize("turns", range(12))
@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_cancellation_at_any_time_leaves_no_child(
    storage: Storage, scripted: Scripted, started: Path, loop: Callable[[], asyncio.AbstractEventLoop], turns: int
) -> None:
    async def cancelled() -> None:
        before = children()
        examiner = scripted(HANG, str(started))
        examining = asyncio.create_task(examiner.examine(await keep(storage, VIDEOS[0])))
        for _ in range(turns):
            await Turn()
        examining.cancel()
        await asyncio.wait({examining})
        assert children() <= before

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(cancelled())


async def test_as_many_run_at_once_as_are_allowed(artifact: Artifact, scripted: Scripted, started: Path) -> None:
    examiner, others = scripted(HANG, str(started), at_once=2), children()
    examining = [asyncio.create_task(examiner.examine(artifact)) for _ in range(3)]
    await until(lambda: len(alive(started)) == 2)
    assert len(children() - others) == 2
    examining[0].cancel()
    await until(lambda: count(started) == 3)
    assert len(alive(started)) == 2
    for each in examining:
        each.cancel()
    await asyncio.wait(examining)


# Babble


@pytest.mark.parametrize(
    "babble",
    [
        "hello",
        "read",
        "read a b",
        "footage",
        "footage {}",
        "footage []",
        'footage {"duration_ms": null, "width": 0, "height": 180, "codec": "h264"}',
        'footage {"duration_ms": null, "width": 320, "height": 1e9, "codec": "h264"}',
        'footage {"duration_ms": null, "width": 99999, "height": 180, "codec": "h264"}',
        'footage {"duration_ms": -1, "width": 320, "height": 180, "codec": "h264"}',
        'footage {"duration_ms": "2000", "width": 320, "height": 180, "codec": "h264"}',
        'footage {"duration_ms": NaN, "width": 320, "height": 180, "codec": "h264"}',
        'footage {"duration_ms": 2000, "width": 320, "height": 180, "codec": "<script>"}',
        'footage {"duration_ms": 2000, "width": 320, "height": 180, "codec": 5}',
        "footage " + "[" * 50_000,
        "x" * 200_000,
        "\\xff\\xfe",
    ],
)
async def test_a_child_that_says_what_cannot_be_is_not_believed(
    artifact: Artifact, scripted: Scripted, reasons: Reasons, started: Path, babble: str
) -> None:
    script = f"import sys\nsys.stdout.buffer.write(b'''{babble}\\n''')\nsys.stdout.flush()\n"
    assert await scripted(script + HANG, str(started)).examine(artifact) is None
    assert len(reasons()) == 1
    assert not alive(started)


@pytest.mark.parametrize("asked", ["-1 10", "0 0", "0 -5", "0 99999999", "6090 10", "9999999999999999999999 1"])
async def test_a_child_gets_no_bytes_that_are_not_there(
    artifact: Artifact, scripted: Scripted, reasons: Reasons, started: Path, asked: str
) -> None:
    assert await scripted(f"print('read {asked}', flush=True)\n{HANG}", str(started)).examine(artifact) is None
    assert [reason.partition(" bytes")[0] for reason in reasons()] == [f"the decoder asked for {asked.split()[1]}"]


@pytest.mark.parametrize("poster", ["0", "-1", "x", "4194305", "5\\nhello", "999\\n\\xff\\xd8\\xff"])
async def test_a_poster_that_is_none_is_not_stored(
    artifact: Artifact, scripted: Scripted, reasons: Reasons, videos: Path, poster: str
) -> None:
    script = f"{TOLD}import sys; sys.stdout.buffer.write(b'poster {poster}\\n')"
    assert await scripted(script).examine(artifact) == Footage(2000, 320, 180, "h264", None)
    assert len(reasons()) == 1
    assert not (videos / POSTER).exists()


async def test_a_child_that_never_has_enough_is_stopped(
    artifact: Artifact, scripted: Scripted, reasons: Reasons
) -> None:
    script = "import sys\nwhile True:\n    print('read 0 5', flush=True)\n    assert len(sys.stdin.buffer.read(5)) == 5"
    assert await scripted(script).examine(artifact) is None
    assert reasons() == ["the decoder asks for ever more"]


# Limits


async def test_a_child_knows_no_secret(
    artifact: Artifact, scripted: Scripted, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("REELKEEPER_SECRET_KEY", "OPENROUTER_API_KEY", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "a-secret")
    script = "import json, os, sys; json.dump([dict(os.environ), sys.argv], open(sys.argv[1], 'w'))"
    await scripted(script, str(tmp_path / "seen")).examine(artifact)
    environment, arguments = json.loads((tmp_path / "seen").read_text())
    assert set(environment) <= {"PYTHONPATH", "LC_CTYPE"}  # the latter is made by Python
    assert arguments[2:] == [str(len(VIDEOS[0]))]


@pytest.mark.parametrize(
    ("replaced", "reason"),
    [
        ("child._length = lambda *_: bytes(2**30)", "MemoryError"),
        ("child._length = lambda *_: open('/dev/null')", "Too many open files"),
        ("import socket\nchild._length = lambda *_: socket.socket()", "Too many open files"),
        ("import os\nchild._length = lambda *_: os.pipe()", "Too many open files"),
        ("child._CPU_SECONDS = 1\ndef _length(*_):\n    while True: pass\nchild._length = _length", "SIGXCPU"),
    ],
)
async def test_a_decoder_that_is_taken_over_can_do_little(
    artifact: Artifact, scripted: Scripted, reasons: Reasons, replaced: str, reason: str
) -> None:
    examiner = scripted(f"{REPLACED}{replaced}\nchild.main()")
    assert await examiner.examine(artifact) is None
    assert len(reasons()) == 1
    assert reason in reasons()[0]


async def test_a_video_that_wants_more_memory_than_there_is_is_not_understood(
    storage: Storage, examiner: Examiner, reasons: Reasons
) -> None:
    small = film(codec="png", container="mov", width=64, height=64, frames=1)
    header = small.index(b"IHDR") + 4
    bomb = small[:header] + (16_200).to_bytes(4) * 2 + small[header + 8 :]
    assert await examiner.examine(await keep(storage, bomb)) is None
    assert len(reasons()) == 1
    assert "emory" in reasons()[0]


@pytest.mark.parametrize("heard", [True, False])
async def test_a_child_whose_parent_is_gone_ends(artifact: Artifact, heard: bool) -> None:  # noqa: FBT001 - a case
    ours, theirs = socket.socketpair()
    child = Process((sys.executable, CHILD, str(artifact.bytes)), theirs, env={"PYTHONPATH": os.pathsep.join(sys.path)})
    with ours:
        said = await asyncio.to_thread(ours.recv, 100, 0 if heard else socket.MSG_PEEK)
        assert said.startswith(b"read 0 ")
    async with asyncio.timeout(20):
        assert await child.wait() == 1
