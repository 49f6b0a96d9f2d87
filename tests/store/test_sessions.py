"""Who is signed in: for twelve hours, and no longer than the key is good that they signed in with."""

from __future__ import annotations

import hashlib

import pytest

from service.store import SESSION_MS
from tests.store.world import World


async def test_a_session_is_its_keys_until_it_is_closed(world: World) -> None:
    key, _ = await world.keys.create("ops", "acme", operator=True)
    token = await world.sessions.open(key)
    other = await world.sessions.open(key)
    assert await world.sessions.key_of(token) == key
    await world.sessions.close(token)
    await world.sessions.close(token)
    assert await world.sessions.key_of(token) is None
    assert await world.sessions.key_of(other) == key


async def test_a_session_ends_after_twelve_hours(world: World) -> None:
    key, _ = await world.keys.create("ops", "acme")
    token = await world.sessions.open(key)
    world.clock.advance(SESSION_MS - 1)
    assert await world.sessions.key_of(token) == key
    world.clock.advance(1)
    assert await world.sessions.key_of(token) is None


async def test_a_revoked_key_ends_its_sessions_at_once(world: World) -> None:
    key, _ = await world.keys.create("ops", "acme")
    kept, _ = await world.keys.create("other", "acme")
    token, other = await world.sessions.open(key), await world.sessions.open(kept)
    await world.keys.revoke(key.id)
    assert await world.sessions.key_of(token) is None
    assert await world.sessions.key_of(other) == kept


@pytest.mark.parametrize("token", ["", "rks_", "x" * 10_000, "\0", "ä", "\udc80"])
async def test_what_is_no_token_is_nobodys(world: World, token: str) -> None:
    key, secret = await world.keys.create("ops", "acme")
    await world.sessions.open(key)
    assert await world.sessions.key_of(token) is None
    assert await world.sessions.key_of(secret) is None
    await world.sessions.close(token)


async def test_only_the_hash_of_a_token_is_kept(world: World) -> None:
    key, _ = await world.keys.create("ops", "acme")
    token = await world.sessions.open(key)
    [row] = world.sql("SELECT * FROM sessions")
    assert row["hash"] == hashlib.sha256(token.encode()).hexdigest()
    assert token not in str(dict(row))
    assert await world.sessions.key_of(row["hash"]) is None


async def test_sessions_that_have_expired_are_deleted_when_one_is_opened(world: World) -> None:
    key, _ = await world.keys.create("ops", "acme")
    await world.sessions.open(key)
    world.clock.advance(SESSION_MS)
    token = await world.sessions.open(key)
    assert len(world.sql("SELECT * FROM sessions")) == 1
    assert await world.sessions.key_of(token) == key


async def test_of_one_key_the_fifty_newest_sessions_are_kept(world: World) -> None:
    key, _ = await world.keys.create("ops", "acme")
    other, _ = await world.keys.create("other", "acme")
    kept = await world.sessions.open(other)
    tokens = []
    for _ in range(52):
        world.clock.advance(1)
        tokens.append(await world.sessions.open(key))
    found = [await world.sessions.key_of(token) for token in tokens]
    assert found == [None, None, *[key] * 50]
    assert await world.sessions.key_of(kept) == other
