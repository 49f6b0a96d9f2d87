from __future__ import annotations

import subprocess
import sys
from itertools import groupby
from pathlib import Path

import pytest

from service.clock import ManualClock
from service.db.sqlite import SQLiteDatabase
from tests.db.rows import names

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("acks", [1, 40, 400])
async def test_what_was_acknowledged_is_there_after_the_process_was_killed(path: Path, acks: int) -> None:
    acked = []
    with subprocess.Popen([sys.executable, "-m", "tests.db.acking", path], cwd=ROOT, stdout=subprocess.PIPE) as child:  # noqa: ASYNC220, S603 - ours, and nothing else runs
        assert child.stdout is not None
        for line in child.stdout:
            acked.append(line)
            if len(acked) == acks:
                child.kill()
    whole = {line.decode().strip() for line in acked if line.endswith(b"\n")}
    assert len(whole) >= acks

    database = await SQLiteDatabase.open(path, ManualClock())
    kept = await database.read(names)
    await database.close()
    assert whole <= set(kept)
    for _, group in groupby(kept, key=lambda name: name[:2]):  # a writer's rows are there without a gap
        numbers = [int(name[3:]) for name in group]
        assert numbers == list(range(1, len(numbers) + 1))
