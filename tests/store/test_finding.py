"""Jobs are found by whatever is known of them, newest first, and no more than some are looked at in one call."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import closing
from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from service.db import Row, Tx
from service.errors import StoreUnavailableError
from service.model import ErrorCode, Job, State, VideoRequest
from service.store import Found, NewJob, Wanted, finding
from tests.store.world import REFUSED, World, sure

FOX = NewJob("acme", "alpha", VideoRequest(model="google/veo-3.1", prompt="a red fox in the snow"))


async def made(world: World, prompt: str | None = "a fox", **other: Any) -> Job:  # noqa: ANN401 - fields of many types
    """Return a new job, a second younger than the one before."""
    world.clock.advance(1_000)
    model = other.pop("model", FOX.request.model)
    return await world.create(replace(FOX, request=VideoRequest(model=model, prompt=prompt), **other))


async def found(world: World, text: str | None = None, tenant: str | None = None, **wanted: Any) -> list[str]:  # noqa: ANN401
    """Return the ids of the jobs that are found, all of which must have been looked at."""
    page = await world.store.find(tenant, Wanted(text=text, **wanted))
    assert page.looked_at_all
    return [job.id for job in page.jobs]


async def pages(world: World, wanted: Wanted, *, limit: int) -> AsyncIterator[Found]:
    """Return page by page all there is."""
    before_id = None
    while True:
        page = await world.store.find(None, wanted, before_id=before_id, limit=limit)
        yield page
        before_id = page.go_on
        if before_id is None:
            break


# Filters


@pytest.fixture
async def mixture(world: World) -> list[Job]:
    """Return jobs in every way unlike each other, oldest first."""
    jobs = [
        await made(world, tenant=tenant, provider=provider, model=model)
        for tenant in ("acme", "umbrella")
        for provider in ("alpha", "beta")
        for model in ("m", "n")
    ]
    for job in jobs[::3]:
        sure(await world.store.cancel(job.id))
    claimed = await world.claims.claim_queued("alpha", 100)
    sure(await world.claims.refused(claimed[0], REFUSED))
    return [await world.now(job) for job in jobs]


async def test_every_filter_lets_through_what_it_says_with_every_other(world: World, mixture: list[Job]) -> None:
    names = ("tenant_named", "state", "provider", "model", "error")
    values = (
        (None, "umbrella"),
        (None, State.CANCELLED, State.QUEUED, State.RUNNING),
        (None, "beta"),
        (None, "n"),
        (None, ErrorCode.CONTENT_POLICY, ErrorCode.CANCELLED),
    )

    def fits(job: Job, wanted: Mapping[str, object]) -> bool:
        has = (job.tenant, job.state, job.provider, job.model, job.error and job.error.code)
        return all(value in (None, found) for value, found in zip(wanted.values(), has, strict=True))

    for tenant, text, *chosen in product((None, "acme"), (None, "fox"), *values):
        wanted = dict(zip(names, chosen, strict=True))
        jobs = [job.id for job in reversed(mixture) if tenant in (None, job.tenant) and fits(job, wanted)]
        assert (wanted, await found(world, text, tenant, **wanted)) == (wanted, jobs)


async def test_every_way_to_a_job_finds_the_same(
    world: World, mixture: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = mixture[1]
    wanted = {"state": job.state, "provider": job.provider, "model": job.model, "tenant_named": job.tenant}
    for way in ("all", "tenant", "state", "tenant_state", "model"):
        monkeypatch.setattr(finding, "_walk", lambda *_, way=way, **__: way)
        assert await found(world, **wanted) == [job.id]
    monkeypatch.setattr(finding, "_walk", lambda *_, **__: "error")
    ended = mixture[0]
    assert ended.error is not None
    assert await found(world, error=ended.error.code, model="m", provider="alpha") == [ended.id]


@pytest.mark.parametrize("text", [None, "fox"])
async def test_jobs_are_found_by_when_they_were_made(world: World, text: str | None) -> None:
    first, second, third = [await made(world) for _ in range(3)]
    assert await found(world, text, created_after=second.created_at) == [third.id, second.id]
    assert await found(world, text, created_before=second.created_at) == [first.id]
    between = {"created_after": second.created_at, "created_before": third.created_at}
    assert await found(world, text, None, **between) == [second.id]
    assert await found(world, text, created_after=0, created_before=0) == []
    assert len(await found(world, text, created_after=-(2**60), created_before=2**60)) == 3


# Pages


@pytest.mark.parametrize("text", [None, "fox"])
@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
async def test_pages_follow_each_other_without_a_gap(world: World, text: str | None, limit: int) -> None:
    jobs = [(await made(world)).id for _ in range(7)]
    seen = [page async for page in pages(world, Wanted(text=text), limit=limit)]
    assert [job.id for page in seen for job in page.jobs] == jobs[::-1]
    assert [len(page.jobs) for page in seen[:-1]] == [limit] * (len(seen) - 1)
    assert len(seen[-1].jobs) > 0


@pytest.mark.parametrize("text", [None, "fox"])
async def test_a_page_goes_on_after_a_job_that_was_deleted_meanwhile(world: World, text: str | None) -> None:
    jobs = [await made(world) for _ in range(4)]
    page = await world.store.find(None, Wanted(text=text), limit=2)
    assert page.go_on == jobs[2].id
    await world.store.delete(sure(await world.store.cancel(jobs[2].id)))
    await made(world)
    page = await world.store.find(None, Wanted(text=text), before_id=page.go_on, limit=2)
    assert ([job.id for job in page.jobs], page.go_on) == ([jobs[1].id, jobs[0].id], None)


@pytest.mark.parametrize("text", [None, "fox"])
async def test_only_so_many_jobs_are_looked_at_in_one_call(
    world: World, monkeypatch: pytest.MonkeyPatch, text: str | None
) -> None:
    monkeypatch.setattr(finding, "_MOST", 3)
    old = await made(world, model="n", provider="beta")
    jobs = [await made(world) for _ in range(6)]
    page = await world.store.find(None, Wanted(provider="beta", text=text), limit=1)
    assert page == Found([], jobs[3].id, looked_at_all=False)
    page = await world.store.find(None, Wanted(provider="beta", text=text), before_id=page.go_on, limit=1)
    assert page == Found([], jobs[0].id, looked_at_all=False)
    page = await world.store.find(None, Wanted(provider="beta", text=text), before_id=page.go_on, limit=1)
    assert page == Found([old], None, looked_at_all=True)


@pytest.mark.parametrize("text", [None, "fox"])
async def test_where_the_list_of_a_tenant_goes_on_is_no_job_of_another_one(
    world: World, monkeypatch: pytest.MonkeyPatch, text: str | None
) -> None:
    monkeypatch.setattr(finding, "_MOST", 3)
    mine = [await made(world, tenant=tenant) for tenant in ("acme", *["umbrella"] * 5, "acme", "acme", "acme")]
    page = await world.store.find("acme", Wanted(model="n", text=text), limit=2)
    assert page == Found([], mine[-3].id, looked_at_all=False)


async def test_few_jobs_of_a_state_are_found_at_once_among_many(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "_MOST", 3)
    cancelled = sure(await world.store.cancel((await made(world)).id))
    for _ in range(9):
        await made(world)
    assert await found(world, state=State.CANCELLED, model=cancelled.model, provider="alpha") == [cancelled.id]
    assert await found(world, None, "acme", state=State.CANCELLED, provider="alpha") == [cancelled.id]


# Words


@pytest.mark.parametrize(
    "text",
    [
        *("fox", "FOX", "  fox  ", "fox!", "- fox", "red snow", "snow red", "sno", "red fox sno", "a", "café", "cafe"),
        *("google/veo-3.1", "veo", "A-17", "a-17 fox", "nothing"),
    ],
)
async def test_words_of_the_prompt_the_model_and_the_metadata_find_a_job(world: World, text: str) -> None:
    metadata = {"order": "A-17", "deep": [{"said": "nothing", "paid": True, "times": 2.5, "none": None}]}
    job = await made(world, "a red fox in the snow, at the Café", metadata=metadata)
    await made(world, "another one", model="kling/v2", metadata={"order": "B-18"})
    assert await found(world, text) == [job.id]


@pytest.mark.parametrize("text", ["dog", "fox dog", "red fo snow", "ox", "google/veo-3.2", "fo", "red sn"])
async def test_words_that_are_not_there_find_nothing(world: World, text: str) -> None:
    await made(world, "a red fox in the snow")
    assert await found(world, text) == []


@pytest.mark.parametrize(
    "text",
    [
        *(
            '"',
            "'",
            "*",
            "fox*",
            "fox OR dog",
            "NOT fox",
            "NEAR(fox dog)",
            "words:fox",
            "tenant:61636d65",
            "(fox",
            "fox)",
        ),
        *(
            "fox AND",
            "^fox",
            "-fox",
            '"fox',
            'fo"x',
            "{words} : fox",
            "+ +",
            "\0",
            "a\0b",
            "\ud800",
            "%",
            "_",
            "--",
            ";",
        ),
        *(
            "fox\\",
            "fox " * 500,
            "x" * 100_000,
            "\u0301",
            "\u0663",
            "狐",
            "🦊",
            "job_%",
            "evt_",
            "JOB_",
            "job",
            "fox\n\tred",
        ),
    ],
)
async def test_no_text_is_more_than_words(world: World, text: str) -> None:
    await made(world, "a red fox in the snow")
    page = await world.store.find(None, Wanted(text=text))
    assert page.looked_at_all
    assert {job.request.prompt for job in page.jobs} <= {"a red fox in the snow"}


def asked_of_the_index(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that grows with all that the index is asked for."""
    asked: list[str] = []
    real = finding._find_words

    def noting(tx: Tx, *arguments: Any) -> Found:  # noqa: ANN401 - whatever it takes
        class Noting:
            one, do = tx.one, tx.do

            def all(self, query: str, /, **parameters: object) -> list[Row]:
                asked.append(str(parameters.get("words")))
                return tx.all(query, **parameters)

        return real(Noting(), *arguments)

    monkeypatch.setattr(finding, "_find_words", noting)
    return asked


async def test_many_short_words_without_a_space_are_no_phrase(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = asked_of_the_index(monkeypatch)
    job = await made(world, "a b c d")
    assert await found(world, "d.a-c_b.a.a.a") == [job.id]
    assert await found(world, ".".join("a" * 100), "acme") == [job.id]
    assert asked == [
        'words : "d" AND words : "a" AND words : "c" AND words : "b"',
        'tenant : "61636d65" AND words : "a"',
    ]


async def test_so_many_words_are_looked_for_and_no_more(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = asked_of_the_index(monkeypatch)
    words = [f"word{number}" for number in range(15)]
    job = await made(world, " ".join(words))
    assert await found(world, " ".join([*words, "nothing"])) == [job.id]
    assert asked == [" AND ".join(f'words : "{word}"' for word in words[:10])]


@pytest.mark.parametrize("text", ["Fox fox FOX", "fox-fox/fox"])
async def test_a_word_that_is_repeated_is_looked_for_once(
    world: World, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    asked = asked_of_the_index(monkeypatch)
    job = await made(world)
    assert await found(world, text) == [job.id]
    assert [each.count("words :") for each in asked] == [1]


def test_what_is_one_word_here_is_one_to_the_index() -> None:
    """Or it would be a phrase of many there. Some letters of our Unicode are none of SQLite's."""
    letters = [chr(code) for code in range(1, 0x30000) if not 0xD800 <= code < 0xE000]
    words = finding._words(" ".join(f"q{letter}y" for letter in letters))
    whole = [word for word in words if len(word) == 3]
    assert len(whole) > 90_000
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE VIRTUAL TABLE search USING fts5 (words, tokenize = 'unicode61 remove_diacritics 2')")
        connection.execute("CREATE VIRTUAL TABLE found USING fts5vocab (search, 'row')")
        connection.execute("INSERT INTO search VALUES (?)", (" ".join(whole),))
        assert connection.execute("SELECT sum(cnt) FROM found").fetchall() == [(len(whole),)]


@pytest.mark.parametrize("word", ["cafe\u0301s", "\u0301cafes", "CAFÉS"])
async def test_an_accent_of_its_own_is_a_part_of_its_word(world: World, word: str) -> None:
    job = await made(world, "two cafés")
    assert await found(world, word) == [job.id]


async def test_text_of_spaces_filters_nothing(world: World) -> None:
    job = await made(world)
    assert await found(world, "  ") == await found(world, "") == [job.id]


async def test_a_tenant_finds_no_words_of_another_one(world: World) -> None:
    mine = await made(world, tenant="acme")
    await made(world, tenant="acme-2")
    await made(world, "acme")
    assert await found(world, "fox", "acme") == [mine.id]
    assert await found(world, "fox", "2") == []
    assert await found(world, "fox", "61636D65") == []


async def test_a_word_that_many_jobs_have_was_typed_to_its_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "_COMMON", 2)
    longer = await made(world, "foxes")
    fox = await made(world, "fox")
    assert await found(world, "fox") == [fox.id, longer.id]
    other = await made(world, "fox")
    assert await found(world, "fox") == [other.id, fox.id]


async def test_the_beginning_of_a_long_prompt_is_searched(world: World) -> None:
    job = await made(world, "lynx " + "word " * 350 + "otter " + "word " * 400 + "badger")
    assert await found(world, "lynx otter") == [job.id]
    assert await found(world, "badger") == []


async def test_a_job_is_found_before_its_words_are_in_the_index_and_after(world: World) -> None:
    jobs = [await world.create(FOX) for _ in range(300)]
    assert world.sql("SELECT indexed FROM search_progress") == [{"indexed": 256}]
    assert len(await world.store.jobs(limit=1_000)) == 300
    page = await world.store.find(None, Wanted(text="red fox"), limit=400)
    assert {job.id for job in page.jobs} == {job.id for job in jobs}


async def test_looking_works_when_writing_does_not(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    job = await made(world)
    assert await found(world, "fox") == [job.id]
    await made(world)

    async def refuse(_: object) -> None:
        raise StoreUnavailableError("the disk is full")

    monkeypatch.setattr(world.database, "run", refuse)
    assert await found(world, "fox") == [job.id]


async def test_the_words_of_a_deleted_job_are_gone(world: World) -> None:
    job = await made(world, "a lynx")
    for _ in range(2):
        assert await found(world, "lynx") == [job.id]
        await world.store.delete(sure(await world.store.cancel(job.id)))
        assert await found(world, "lynx") == []
        assert not world.sql("SELECT * FROM searchable WHERE words LIKE '%lynx%'")
        job = await made(world, "another lynx")  # has the number of the one before


# Names


async def test_a_job_is_found_by_its_id_and_how_that_begins(world: World) -> None:
    job, other = await made(world), await made(world)
    delivery = f"evt_{job.id}"
    for text in (
        job.id,
        job.id.upper(),
        f" {job.id} ",
        job.id[:-1],
        job.id.removeprefix("job_"),
        delivery,
        f"{delivery}_2",
    ):
        assert await found(world, text) == [job.id]
    assert await found(world, "job_") == [other.id, job.id]
    assert await found(world, job.id, "umbrella") == []
    assert await found(world, job.id, state=State.FAILED) == []
    assert await found(world, "job_zzzz") == []


async def test_a_job_is_found_by_its_providers_id(world: World) -> None:
    one = sure(await world.submitted(await world.submitting("alpha"), "gen-17"))
    world.clock.advance(1_000)
    two = sure(await world.submitted(await world.submitting("beta"), "gen-17"))
    assert await found(world, "gen-17") == [two.id, one.id]
    assert await found(world, " gen-17", provider="alpha") == [one.id]
    assert await found(world, "gen-17", "umbrella") == []
    assert await found(world, "gen-1") == []
    page = await world.store.find(None, Wanted(text="gen-17"), before_id=two.id)
    assert [job.id for job in page.jobs] == [one.id]
