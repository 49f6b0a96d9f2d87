"""Every number that is kept by triggers, counted anew from the rows that it is about."""

from __future__ import annotations

from collections.abc import Mapping

from service.store.buckets import bucket_of
from tests.store.world import World

Table = Mapping[tuple[object, ...], tuple[float, ...]]
"""Key -> numbers."""

Numbers = dict[str, Table]
"""Table -> key -> numbers."""

# A table's key, of which the tenant is the first, its numbers, and how both are counted.
_COUNTED = {
    "job_counts": (
        "tenant, provider, state",
        "jobs",
        "SELECT {tenant}, provider, state, count(*) FROM jobs GROUP BY 1, 2, 3",
    ),
    "activity": (
        "tenant, quarter, provider, type",
        "times",
        """SELECT {tenant}, at / 900000, provider, type, count(*) FROM events JOIN jobs ON jobs.id = job_id
            GROUP BY 1, 2, 3, 4
            UNION ALL
           SELECT {tenant}, at / 900000, provider, 'report.' || json_extract(data, '$.source'), count(*)
             FROM events JOIN jobs ON jobs.id = job_id
            WHERE type IN ('job.mirroring', 'job.failed', 'job.cancelled', 'job.expired')
              AND json_extract(data, '$.source') IN ('callback', 'poll', 'submission')
            GROUP BY 1, 2, 3, 4""",
    ),
    "spend": (
        "tenant, day, provider, model",
        "jobs, priced, cost",
        """SELECT {tenant}, submitted_at / 86400000, provider, model, count(*), count(cost), total(cost) FROM jobs
            WHERE provider_job_id IS NOT NULL OR cost IS NOT NULL GROUP BY 1, 2, 3, 4""",
    ),
    "stored": (
        "tenant",
        "files, bytes",
        "SELECT {tenant}, count(*), sum(bytes) FROM artifacts JOIN jobs ON jobs.id = job_id GROUP BY 1",
    ),
    "delivery_counts": (
        "tenant, state",
        "deliveries",
        "SELECT {tenant}, state, count(*) FROM deliveries GROUP BY 1, 2",
    ),
}


def kept(world: World) -> Numbers:
    """Return the numbers as they are kept, without those that are zero."""
    found: Numbers = {
        table: _read(world, f"SELECT {key}, {numbers} FROM {table}", len(numbers.split(",")))  # noqa: S608 - our own
        for table, (key, numbers, _) in _COUNTED.items()
    }
    found["kept_times"] = _read(world, "SELECT tenant, hour, provider, bucket, jobs FROM kept_times", 1)
    found["receivers"] = _read(world, "SELECT tenant, receiver, failed, pending, waiting, untaken FROM receivers", 4)
    return found


def counted(world: World) -> Numbers:
    """Return the same numbers as they must be."""
    found: Numbers = {
        table: {
            key: numbers
            for tenant in ("jobs.tenant" if "jobs" in query else "tenant", "''")
            for key, numbers in _read(world, query.format(tenant=tenant), len(names.split(","))).items()
        }
        for table, (_, names, query) in _COUNTED.items()
    }
    times: dict[tuple[object, ...], tuple[float, ...]] = {}
    for row in world.sql("SELECT * FROM jobs WHERE state = 'completed'"):
        bucket = bucket_of(row["finished_at"] - row["submitted_at"])
        for tenant in (row["tenant"], ""):
            key = tenant, row["finished_at"] // 3_600_000, row["provider"], bucket
            times[key] = (times.get(key, (0,))[0] + 1,)
    found["kept_times"] = times
    found["receivers"] = _read(
        world,
        """SELECT tenant, receiver, sum(state = 'failed'), sum(state = 'pending'),
                  sum(state = 'pending' AND lease IS NULL AND attempt > 0),
                  sum(state = 'pending' AND EXISTS (
                      SELECT 1 FROM delivery_attempts AS last
                       WHERE delivery_id = deliveries.id AND (status IS NULL OR status NOT BETWEEN 200 AND 299)
                         AND number = (SELECT max(number) FROM delivery_attempts WHERE delivery_id = last.delivery_id)))
             FROM deliveries GROUP BY 1, 2""",
        4,
    )
    return found


def added(one: Table, other: Table) -> Table:
    """Add the numbers of two tables, key by key."""
    nothing = (0,) * len(next(iter([*one.values(), *other.values()]), ()))
    pairs = {key: zip(one.get(key, nothing), other.get(key, nothing), strict=True) for key in {**one, **other}}
    return _told({key: tuple(a + b for a, b in each) for key, each in pairs.items()})


def taken_away(one: Table, other: Table) -> Table:
    """Take the numbers of the other table from those of the one, key by key."""
    return added(one, {key: tuple(-number for number in numbers) for key, numbers in other.items()})


def _told(table: Table) -> Table:
    """Leave out what is zero, and what floats are not exact about."""
    rounded = {key: tuple(round(number, 6) for number in numbers) for key, numbers in table.items()}
    return {key: numbers for key, numbers in rounded.items() if any(numbers)}


def _read(world: World, query: str, numbers: int) -> Table:
    rows = [tuple(row.values()) for row in world.sql(query)]
    return _told({row[:-numbers]: row[-numbers:] for row in rows})


def searchable(world: World) -> set[str]:
    """Return the jobs that can be searched. Raises when the index of their words is not what they say."""
    world.sql("UPDATE search_progress SET indexed = (SELECT coalesce(max(number), 0) FROM searchable)")
    world.sql("INSERT INTO search (search, rank) VALUES ('integrity-check', 1)")
    return {row["job_id"] for row in world.sql("SELECT job_id FROM searchable")}
