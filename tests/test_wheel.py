"""What is installed is what the service runs with: its code, and everything else that it reads."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parent.parent
BESIDE_THE_CODE = {".sql", ".html", ".css", ".js", ".mp4", ".webm"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    [path] = WheelBuilder(str(ROOT)).build(directory=str(tmp_path_factory.mktemp("wheel")), versions=["standard"])
    return zipfile.ZipFile(path)


def test_a_wheel_holds_all_that_the_service_reads(wheel: zipfile.ZipFile) -> None:
    files = {path for path in (ROOT / "service").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {path.suffix for path in files} >= BESIDE_THE_CODE
    packed = {name for name in wheel.namelist() if name.startswith("service/")}
    assert packed == {str(path.relative_to(ROOT)) for path in files}
    for path in files:
        assert wheel.read(str(path.relative_to(ROOT))) == path.read_bytes()


def test_a_wheel_holds_nothing_else(wheel: zipfile.ZipFile) -> None:
    folders = {name.partition("/")[0] for name in wheel.namelist()}
    assert folders == {"service", "reelkeeper-0.1.0.dist-info"}
