from __future__ import annotations

from pathlib import Path

import pytest

from tests.proofs import taxonomy
from tests.proofs.rows import Row, row

# As many rows as the two lists of failures have that this table answers.
COUNTED = {
    "S": 13,
    "W": 15,
    "P": 8,
    "M": 12,
    "B": 5,
    "A": 3,
    "O": 4,
    "R": 11,
    "I": 14,
    "N": 1,
    "C": 13,
    "V": 8,
    "T": 10,
}


def test_every_row_is_there_with_tests_that_exist_or_a_reason_why_it_needs_none() -> None:
    assert list(taxonomy.missing(taxonomy.ROWS)) == []
    rows = [f"{letter}{number}" for letter, count in COUNTED.items() for number in range(1, count + 1)]
    assert [each.id for each in taxonomy.ROWS] == rows


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        (row("X1", "x"), "neither a test nor a reason"),
        (
            row("X1", "x", "web/jobs: no_such_test"),
            "names tests/web/test_jobs.py::test_no_such_test, which is not there",
        ),
        (row("X1", "x", "no_such_file: x"), "names tests/test_no_such_file.py::test_x, which is not there"),
        (row("S1", "x", why_not="y"), "S1 is there twice"),
    ],
)
def test_what_is_wrong_with_a_table_is_told(wrong: Row, what: str) -> None:
    [said] = taxonomy.missing([*taxonomy.ROWS, wrong])
    assert what in said


def test_only_what_runs_as_a_test_counts(tmp_path: Path) -> None:
    (tmp_path / "test_x.py").write_text(
        "def helper(): ...\nasync def test_one(): ...\nclass No:\n    def test_two(): ...\n"
    )
    assert taxonomy.tests_of(tmp_path / "test_x.py") == {"test_one"}
    assert taxonomy.tests_of(tmp_path / "test_y.py") == set()


def test_the_table_is_printed_with_what_can_be_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["taxonomy"])
    assert taxonomy.main()
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if line.startswith("| ")]) == len(taxonomy.ROWS) + 2
    assert f"{len(taxonomy.ROWS)} rows" in "\n".join(lines)
