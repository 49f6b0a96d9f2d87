"""Lists of jobs that are quick whatever they are filtered by.

One filter leads through an index, newest first; the others are tried on the jobs that are met, and no more than a few
thousand are met in one call. Which filter leads is chosen by how many jobs it lets through, as far as that is counted.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from ulid import ULID

from service.db import Row, Tx
from service.model import ErrorCode, Job, State
from service.store.transaction import job_from

_MOST = 5_000  # jobs that are met in one call
_SLACK_MS = 60_000  # a job's id is made a moment before the time that it is created at is noted
_SLACK = 1_000  # jobs that were accepted at once are not numbered in the order of their ids
_LAST = "~"  # is greater than every id
_LAST_NUMBER = 2**62
_SHORTEST_PREFIX = 3  # characters: what begins with less is too much
_COMMON = 1_000  # a word of so many jobs was typed to its end
_MOST_WORDS = 10  # that are looked for: each costs a walk along all jobs that have it
_LONGEST_TEXT = 4_000  # characters that are read for words
# Accents that the index takes for a part of a word; without a letter they are none.
_ACCENT = re.compile("[\u0300-\u0304\u0306-\u030c\u030f\u0311\u031b\u0323-\u0328\u032d\u032e\u0330\u0331]")
_ULID = re.compile(r"[0-9a-z]{26}", re.ASCII)
_JOB_ID = re.compile(r"job_[0-9a-z]{0,26}", re.ASCII)
_ID_LENGTH = 30
_ENDED_BADLY = (State.FAILED, State.CANCELLED, State.EXPIRED)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which jobs to find; what is None filters nothing. Times are unix ms: from `created_after`, to `created_before`.

    `text` is words of the prompt, the model or the metadata, which must all be there and of which the last one may be
    only begun; or a job's id, or how it begins; or a provider's name for a job.
    """

    state: State | None = None
    provider: str | None = None
    model: str | None = None
    error: ErrorCode | None = None
    tenant_named: str | None = None  # whoever may see everybody's wants those of one tenant
    text: str | None = None
    created_after: int | None = None
    created_before: int | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """Some jobs, newest first. `go_on` is the `before_id` that continues, None at the end of the list.

    `looked_at_all` False: there are fewer than were asked for because older ones were not looked at yet.
    """

    jobs: list[Job]
    go_on: str | None
    looked_at_all: bool


_NOTHING = Found([], None, looked_at_all=True)


def find(tx: Tx, tenant: str | None, wanted: Wanted, *, before_id: str | None, limit: int) -> Found:
    """Find jobs, newest first: of one tenant, or (None) everybody's."""
    if tenant is not None and wanted.tenant_named not in (None, tenant):
        return _NOTHING
    filters = {
        "tenant": tenant or wanted.tenant_named,
        "state": wanted.state,
        "provider": wanted.provider,
        "model": wanted.model,
        "error": wanted.error,
        "created_after": wanted.created_after,
        "created_before": wanted.created_before,
    }
    from_id, below_id = _between(wanted, before_id)
    text = (wanted.text or "").encode(errors="replace").decode().strip()
    if text:
        named = _named(text)
        if named is not None:
            from_id, below_id = max(from_id, named), min(below_id, named + _LAST)
        elif rows := tx.all("jobs_at_providers", provider_job_id=text):
            return _found_among(tx, [row["id"] for row in rows], filters, below_id)
        else:
            return _find_words(tx, text, filters, below_id, before_id, limit)
    most = max(_MOST, limit + 1)
    walk = _walk(tx, filters, most, own=tenant is not None)
    return _found(
        tx.all("find", walk=walk, from_id=from_id, below_id=below_id, most=most, limit=limit + 1, **filters), limit
    )


def _found(rows: list[Row], limit: int) -> Found:
    stopped = next((row["id"] for row in rows if row["stop"]), None)
    jobs = [job_from(row) for row in rows if not row["stop"]]
    if len(jobs) > limit:
        return Found(jobs[:limit], jobs[limit - 1].id, looked_at_all=True)
    return Found(jobs, stopped, looked_at_all=stopped is None or len(jobs) == limit)


def _found_among(tx: Tx, ids: list[str], filters: Mapping[str, object], below_id: str) -> Found:
    """Find the few jobs that have a name, if they pass the filters."""
    found = []
    for job_id in sorted(ids, reverse=True):
        if job_id < below_id:
            only = {"walk": "all", "from_id": job_id, "below_id": job_id + _LAST, "most": 2, "limit": 1}
            found += [job_from(row) for row in tx.all("find", **only, **filters)]
    return Found(found, None, looked_at_all=True)


def _find_words(
    tx: Tx,
    text: str,
    filters: Mapping[str, object],
    below_id: str,
    before_id: str | None,
    limit: int,
) -> Found:
    words = _match(tx, text, filters["tenant"])
    if words is None:
        return _NOTHING
    below = _LAST_NUMBER
    if below_id != _LAST and (row := tx.one("search_number", id=below_id)) is not None:
        below = row["number"] + _SLACK
    elif below_id != _LAST:
        return _NOTHING
    if before_id is not None and (row := tx.one("search_number", id=before_id)) is not None:
        # The one before where a deleted job was is met for the first time.
        below = min(below, row["number"] + (row["job_id"] != before_id))
    rows = tx.all("find_words", words=words, below_number=below, most=_MOST, limit=limit + 1, **filters)
    return _found(rows, limit)


def _match(tx: Tx, text: str, tenant: object) -> str | None:
    """Return what to look for in the language of the index, in which nothing of `text` is anything but words.

    None when there is nothing to look for.
    """
    text = text[:_LONGEST_TEXT]
    words = list({word.lower(): word for word in _words(text)}.values())
    if not words:
        return None
    scope = f'tenant : "{str(tenant).encode().hex()}" AND ' if tenant is not None else ""
    quoted = [f'"{word}"' for word in words[:_MOST_WORDS]]
    begun = len(words) <= _MOST_WORDS and len(words[-1]) >= _SHORTEST_PREFIX and text.endswith(words[-1])
    if begun and tx.one("common_word", words=f"words : {quoted[-1]}", most=_COMMON) is None:
        quoted[-1] += "*"
    return scope + " AND ".join(f"words : {word}" for word in quoted)


def _words(text: str) -> list[str]:
    """Return what the index takes for a word each: of several in a row it would make a phrase, which may cost seconds.

    It knows the letters of an old Unicode; what came later is a space here, for it might be one there.
    """
    kinds = ((letter, unicodedata.ucd_3_2_0.category(letter)) for letter in text)
    parts = (letter if kind[0] in "LN" or kind == "Co" or _ACCENT.match(letter) else " " for letter, kind in kinds)
    return [word for word in "".join(parts).split() if _ACCENT.sub("", word)]


def _named(text: str) -> str | None:
    """Return the job's id that somebody pasted, or how it begins; None when it is none."""
    name = text.lower().removeprefix("evt_")[:_ID_LENGTH]  # a delivery's id has the job's in it
    if _ULID.fullmatch(name):
        return f"job_{name}"
    return name if _JOB_ID.fullmatch(name) else None


def _between(wanted: Wanted, before_id: str | None) -> tuple[str, str]:
    """Return the ids between which those lie that were created in time: they sort by it."""
    after, before = wanted.created_after, wanted.created_before
    from_id = "" if after is None else _first_id(after - _SLACK_MS)
    below_id = _LAST if before is None else _first_id(before + _SLACK_MS)
    return from_id, min(below_id, before_id or _LAST)


def _first_id(at: int) -> str:
    stamp = min(max(at, 0), 2**48 - 1).to_bytes(6, "big")
    return f"job_{ULID.from_bytes(stamp + bytes(10))}".lower()


def _walk(tx: Tx, filters: Mapping[str, object], most: int, *, own: bool) -> str:
    """Choose the index to walk along: the one that meets the fewest jobs, as far as can be told.

    With `own` only the tenant's: where the walk stops is told, and must not be the name of another tenant's job.
    """
    tenant, state = filters["tenant"], filters["state"]
    everybody = _counts(tx, "")
    sizes = {"all": everybody.total()}
    if state is not None:
        sizes["state"] = everybody[str(state)]
    if tenant is not None:
        theirs = _counts(tx, str(tenant))
        sizes["tenant"] = theirs.total()
        if state is not None:
            sizes["tenant_state"] = theirs[str(state)]
    # How many jobs have a model or an error is not counted: a guess, unless another way is known to be short.
    if min(sizes.values()) > most:
        if filters["model"] is not None:
            sizes["model"] = sizes["all"] // 10
        if filters["error"] is not None:
            sizes["error"] = sum(everybody[each] for each in _ENDED_BADLY) // 3
    ways = [way for way in sizes if not own or way in ("tenant", "tenant_state")]
    return min(ways, key=lambda way: sizes[way])


def _counts(tx: Tx, tenant: str) -> Counter[str]:
    found = Counter[str]()
    for row in tx.all("job_counts", tenant=tenant):
        found[row["state"]] += row["jobs"]
    return found
