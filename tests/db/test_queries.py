from __future__ import annotations

import ast
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

import service
from service.clock import ManualClock
from service.db import load_queries
from service.db.sqlite import SQLiteDatabase

QUERIES = load_queries()
SOURCES = [ast.parse(file.read_text("utf-8")) for file in Path(service.__path__[0]).rglob("*.py")]
WALKS = {  # queries that are meant to look at every row of something
    "api_keys": "SCAN api_keys",
    "due_lanes": "SCAN kinds",  # two for each tenant, found by an index
    "under_way": "SCAN deliveries USING INDEX deliveries_by_lease",  # what is leased just now
    "models": "SCAN models",
    "unknown_words": "SCAN unknown_words",
    "expire_unserved": "SCAN providers",  # of which there are a few, here and below
    "give_up_unserved": "SCAN providers",
    "count_rejections": "SCAN rejections",  # of which there are a thousand at most, here and below
    "count_jobs": "SCAN jobs USING COVERING INDEX",  # of a copy that nobody uses yet
    "any_artifact": "SCAN artifacts",  # as far as the first
    "trim_rejections": "SCAN rejections USING COVERING INDEX rejections_by_time",
    "failing": "SCAN receivers USING INDEX receivers_in_trouble",  # as far as the page goes
    # What an index or a recursion brought before, row by row:
    "find": "SCAN walk",
    "find_words": "SCAN walk",
    "activity": "SCAN quarters",
    "kept_times": "SCAN hours",
    "spend": "SCAN days",
}
BY_ID = "SEARCH jobs USING INDEX sqlite_autoindex_jobs_1 (id=?)"
DUE = "SEARCH jobs USING INDEX jobs_by_due (state=? AND provider=? AND due_at<?)"
WAYS = [
    f"SEARCH jobs USING COVERING INDEX {way} AND id<?)"
    for way in (
        "sqlite_autoindex_jobs_1 (id>?",
        "jobs_by_tenant (tenant=? AND id>?",
        "jobs_by_state (state=? AND id>?",
        "jobs_by_tenant_state (tenant=? AND state=? AND id>?",
        "jobs_by_model (model=? AND id>?",
        "jobs_by_error (error_code=? AND id>?",
    )
]
PINNED = {
    "claim_queued": [BY_ID, DUE],
    "expire_queued": [BY_ID, DUE],
    "claim_doubtful": [BY_ID, DUE],
    "claim_polls": [BY_ID, DUE],
    "claim_mirrors": [BY_ID, DUE],
    "expire_unserved": [BY_ID, DUE],
    "give_up_unserved": [BY_ID, DUE],
    "find": [*(step for way in WAYS for step in (way, BY_ID)), *WAYS, BY_ID],
    "find_words": [BY_ID, BY_ID],
    "longest_waiting": ["SEARCH jobs USING INDEX jobs_by_due (state=? AND provider=? AND due_at>?)"],
    "longest_waiting_of_tenant": ["SEARCH jobs USING INDEX jobs_by_tenant_state (tenant=? AND state=?)"],
    "retries": ["SEARCH jobs USING COVERING INDEX jobs_by_retry (retry_of=?)"],
    "jobs_at_providers": ["SEARCH jobs USING INDEX sqlite_autoindex_jobs_2 (provider=? AND provider_job_id=?)"],
    "report_completed": [
        BY_ID,
        "SEARCH other USING INDEX sqlite_autoindex_jobs_2 (provider=? AND provider_job_id=?)",
    ],
    "tenant_jobs_oldest_first": ["SEARCH jobs USING INDEX jobs_by_tenant (tenant=? AND id>?)"],
    "bound_elsewhere": ["SEARCH jobs USING INDEX sqlite_autoindex_jobs_2 (provider=? AND provider_job_id=?)", BY_ID],
}


def constants(node: ast.AST) -> Iterator[str]:
    for found in ast.walk(node):
        if isinstance(found, ast.Constant) and isinstance(found.value, str):
            yield found.value


def test_every_query_is_used() -> None:
    words = {word for source in SOURCES for word in constants(source)}
    assert set(QUERIES) <= words


def test_every_name_that_is_used_is_a_query() -> None:
    named = set()
    for node in (node for source in SOURCES for node in ast.walk(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or not node.args:
            continue
        if node.func.attr in ("one", "all", "do"):
            named |= set(constants(node.args[0]))
        elif node.func.attr in ("_move", "_claim"):
            named |= {
                word for argument in node.args if isinstance(argument, ast.Constant) for word in constants(argument)
            }
    assert len(named) > len(QUERIES) / 2
    assert named <= set(QUERIES)


def test_a_name_can_be_given_once() -> None:
    assert load_queries(["-- a --\n-- Says.\nSELECT 1;\n", "\n-- b --\nSELECT 2;\n"]) == {
        "a": "-- Says.\nSELECT 1",
        "b": "SELECT 2",
    }
    with pytest.raises(ValueError, match="twice: b"):
        load_queries(["-- b --\nSELECT 1;\n-- a --\nSELECT 2;\n", "-- b --\nSELECT 3;\n"])


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_is_one_statement_and_stands_under_a_sentence(name: str) -> None:
    assert re.match(r"-- [A-Z].*[.:;,a-z]\n", QUERIES[name])
    assert ";" not in re.sub(r"--.*", "", QUERIES[name])


async def test_every_query_finds_its_rows_by_an_index(tmp_path: Path) -> None:
    await (await SQLiteDatabase.open(tmp_path / "x.db", ManualClock())).close()
    connection = sqlite3.connect(tmp_path / "x.db")
    plans = {}
    for name, query in QUERIES.items():
        parameters = dict.fromkeys(re.findall(r":(\w+)", query))
        plans[name] = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}", parameters)]
    connection.close()
    walks = {
        name: step
        for name, steps in plans.items()
        for step in steps
        if step.startswith("SCAN") and not any(known in step for known in ("VIRTUAL TABLE", "subquery", "CONSTANT ROW"))
    }
    assert walks.keys() == WALKS.keys()
    assert all(step.startswith(WALKS[name]) for name, step in walks.items())
    assert plans["tenants_failing"] == ["SEARCH receivers USING INDEX receivers_in_trouble_by_name (receiver=?)"]
    assert plans["to_redeliver"] == [
        "SEARCH deliveries USING INDEX deliveries_to_redeliver (tenant=? AND receiver=? AND id>?)"
    ]
    last = "SEARCH delivery_attempts USING PRIMARY KEY (delivery_id=?"
    assert [step for step in plans["last_attempts"] if "delivery_attempts" in step] == [
        f"{last} AND number=?)",
        f"{last})",
    ]
    for name, steps in PINNED.items():
        jobs = [step for step in plans[name] if re.match("SEARCH (jobs|other)", step)]
        assert (name, jobs) == (name, steps)


async def test_what_is_owed_to_thousands_later_costs_the_next_delivery_nothing(tmp_path: Path) -> None:
    """Counted in steps of SQLite's machine, of which 100 become one here."""
    await (await SQLiteDatabase.open(tmp_path / "x.db", ManualClock())).close()
    connection = sqlite3.connect(tmp_path / "x.db")
    connection.execute("PRAGMA foreign_keys = OFF")

    def owe(number: int, due_at: int, receiver: str) -> None:
        connection.execute(
            "INSERT INTO deliveries (id, state, due_at, job_id, tenant, receiver, ended, created_at)"
            " VALUES (?, 'pending', ?, 'j', 'acme', ?, 'failed', 0)",
            (f"evt_{number}", due_at, receiver),
        )

    def steps() -> int:
        counted = 0

        def count() -> None:
            nonlocal counted
            counted += 1

        connection.set_progress_handler(count, 100)
        for name in ("due_lanes", "under_way", "due_receivers", "claim_deliveries", "renew_delivery", "end_delivery"):
            given = {
                "now": 1_000,
                "tenant": "acme",
                "healthy": 0,
                "most": 100,
                "receiver": "here",
                "limit": 1,
                "lease": "l",
                "until": 9_000,
                "id": "evt_0",
                "state": "delivered",
            }
            found = connection.execute(QUERIES[name], given).fetchall()
            assert bool(found) is (name != "under_way")
        connection.set_progress_handler(None, 100)
        return counted

    owe(0, 1_000, "here")
    before = steps()
    for number in range(1, 6_001):
        owe(number, *((6_000, "here") if number % 2 else (5_000, f"there{number}")))
    connection.execute("UPDATE deliveries SET state = 'pending', due_at = 1000, finished_at = NULL WHERE id = 'evt_0'")
    assert steps() < before + 20
    connection.close()
