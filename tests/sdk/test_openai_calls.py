"""What the unmodified `openai` package makes of refusals and of lost answers: one call, one job, and typed errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import openai
import pytest

from service.errors import StoreUnavailableError
from service.model import ErrorCode, JobError
from service.store import Creation
from tests.sdk.openai_client import BAD_GATEWAY, PNG, WISH, Connect, Sdk, connected, losing_the_first_answer, posts
from tests.turns import until
from tests.web.house import House, serving

pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")  # of everything in videos.*


@pytest.fixture(params=["sync", "async"])
def connect(request: pytest.FixtureRequest) -> Connect:
    return partial(connected, request.param)


@pytest.fixture
async def sdk(house: House, connect: Connect) -> AsyncIterator[Sdk]:
    async with serving(house.app()) as port, connect(f"http://127.0.0.1:{port}", house.key) as sdk:
        yield sdk


# Errors, each of its own type, and none repeated that could not end otherwise


async def test_a_bad_request_says_all_that_is_wrong(house: House, sdk: Sdk) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await sdk.call("videos.create", **WISH | {"seconds": "soon"}, extra_body={"audio": "maybe"})
    error = caught.value
    assert (error.code, error.param, error.type) == ("invalid_request", "seconds", "invalid_request_error")
    assert isinstance(error.body, dict)
    assert [each["field"] for each in error.body["problems"]] == ["seconds", "audio"]
    assert "seconds: must be whole seconds" in str(error)
    job = await house.completed()
    with pytest.raises(openai.BadRequestError):
        await sdk.call("videos.download_content", job.id, variant="gif")
    assert await posts(house) == [400]


async def test_a_wrong_key_is_unauthorized(house: House, connect: Connect) -> None:
    async with serving(house.app()) as port, connect(f"http://127.0.0.1:{port}", "rk_wrong") as sdk:
        for name, arguments in (("videos.create", WISH), ("videos.retrieve", {"video_id": "x"}), ("models.list", {})):
            with pytest.raises(openai.AuthenticationError) as caught:
                await sdk.call(name, **arguments)
            assert caught.value.code == "unauthorized"
    assert await posts(house) == [401]


async def test_want_of_credits_is_payment_required(house: House, sdk: Sdk) -> None:
    submitting = await house.submitting("llmgateway")
    await house.claims.refused(submitting, JobError(ErrorCode.PROVIDER_CREDITS, "none left"))
    with pytest.raises(openai.APIStatusError) as caught:
        await sdk.call("videos.create", **WISH)
    assert (caught.value.status_code, caught.value.code, caught.value.type) == (
        402,
        "provider_credits",
        "billing_error",
    )
    assert await posts(house) == [402]


async def test_a_video_that_is_not_there_is_not_found(house: House, sdk: Sdk) -> None:
    theirs, mine = await house.queued(tenant="globex"), await house.completed()
    for video_id in (theirs.id, "video_123"):
        for name in ("videos.retrieve", "videos.download_content", "videos.delete"):
            with pytest.raises(openai.NotFoundError):
                await sdk.call(name, video_id)
    with pytest.raises(openai.NotFoundError) as caught:
        await sdk.call("videos.remix", mine.id, prompt="bluer")
    assert caught.value.code == "not_supported"
    with pytest.raises(openai.NotFoundError):
        await sdk.call("models.retrieve", "sora-2")


async def test_a_conflict_is_told_once(house: House, sdk: Sdk) -> None:
    key = {"Idempotency-Key": "k-1"}
    await sdk.call("videos.create", **WISH, extra_headers=key)
    with pytest.raises(openai.ConflictError) as caught:
        await sdk.call("videos.create", **WISH | {"seconds": "4"}, extra_headers=key)
    assert caught.value.code == "idempotency_key_reused"
    assert await posts(house) == [202, 409]
    job = await house.running()
    for name in ("videos.download_content", "videos.delete"):
        with pytest.raises(openai.ConflictError):
            await sdk.call(name, job.id)
    assert [line["status"] for line in house.lines() if line["method"] != "POST"] == [409, 409]


async def test_a_video_that_is_lost_is_gone(house: House, sdk: Sdk) -> None:
    job = await house.completed()
    await house.storage.delete(job.artifacts[0].key)
    with pytest.raises(openai.APIStatusError) as caught:
        await sdk.call("videos.download_content", job.id)
    assert (caught.value.status_code, caught.value.code) == (410, "gone")


async def test_a_file_that_is_too_large_is_told_so(house: House, sdk: Sdk) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        await sdk.call("videos.create", **WISH, input_reference=PNG + bytes(10_485_760))
    assert (caught.value.status_code, caught.value.code) == (413, "body_too_large")
    assert await posts(house) == [413]
    assert await house.count("jobs") == 0


async def test_too_many_wishes_of_one_key_are_told_when_to_come_again(house: House, connect: Connect) -> None:
    _, key = await house.keys.create("hasty", "acme", creates_per_minute=1)
    async with serving(house.app()) as port, connect(f"http://127.0.0.1:{port}", key, max_retries=0) as sdk:
        await sdk.call("videos.create", **WISH)
        with pytest.raises(openai.RateLimitError) as caught:
            await sdk.call("videos.create", **WISH)
    assert caught.value.response.headers["retry-after"] == "60"
    assert await house.count("jobs") == 1


async def test_what_is_our_fault_is_a_server_error(
    house: House, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await house.completed()
    async with serving(house.app()) as port, connect(f"http://127.0.0.1:{port}", house.key, max_retries=0) as sdk:
        for error, code in ((StoreUnavailableError("disk is full"), "store_unavailable"), (OSError("x"), "internal")):
            monkeypatch.setattr(house.store, "create_job", _failing(error))
            with pytest.raises(openai.InternalServerError) as caught:
                await sdk.call("videos.create", **WISH)
            assert caught.value.code == code
    async with serving(house.app()) as port, connect(f"http://127.0.0.1:{port}", house.key) as sdk:
        with pytest.raises(openai.InternalServerError) as caught:
            await sdk.call("videos.download_content", job.id, variant="spritesheet")
    assert caught.value.status_code == 501
    assert [line["status"] for line in house.lines() if line["method"] == "GET"] == [501]  # and not asked again


def _failing(error: Exception) -> Callable[..., Any]:
    async def fail(*_: object, **__: object) -> None:
        raise error

    return fail


# Once


async def test_an_idempotency_key_makes_fifty_calls_at_once_one_job(house: House, sdk: Sdk) -> None:
    headers = {"Idempotency-Key": "order A-17"}
    picture = {"input_reference": ("kite.png", PNG * 1000)}
    calls = [sdk.call("videos.with_raw_response.create", **WISH, **picture, extra_headers=headers) for _ in range(50)]
    answers = await asyncio.gather(*calls)
    assert len({answer.parse().id for answer in answers}) == 1
    assert sum(answer.headers.get("idempotency-replayed") == "true" for answer in answers) == 49
    assert await house.count("jobs") == 1


async def test_a_call_after_an_answer_is_a_wish_for_another_video(house: House, sdk: Sdk) -> None:
    first = await sdk.call("videos.create", **WISH)
    await until(house.lines)
    second = await sdk.call("videos.create", **WISH)
    assert first.id != second.id


@pytest.mark.parametrize("instead", [b"", BAD_GATEWAY], ids=["cut", "502"])
async def test_an_answer_that_is_lost_on_its_way_is_asked_for_again_and_is_the_same_job(
    house: House, connect: Connect, instead: bytes
) -> None:
    async with (
        serving(house.app()) as port,
        losing_the_first_answer(port, instead) as url,
        connect(url, house.key) as sdk,
    ):
        made = await sdk.call("videos.create", **WISH, input_reference=("kite.png", PNG))
    assert await posts(house) == [202, 202]
    [job] = await house.store.jobs()
    assert job.id == made.id


async def test_a_call_that_the_sdk_repeats_after_a_timeout_is_one_job(
    house: House, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, create, calls = asyncio.Event(), house.store.create_job, 0

    async def create_and_hang_once(*arguments: Any, **more: Any) -> Creation:  # noqa: ANN401 - whatever they are
        nonlocal calls
        calls += 1
        creation = await create(*arguments, **more)
        if calls == 1:
            await stuck.wait()
        return creation

    monkeypatch.setattr(house.store, "create_job", create_and_hang_once)
    async with serving(house.app()) as port, connect(f"http://127.0.0.1:{port}", house.key, timeout=0.3) as sdk:
        made = await sdk.call("videos.create", **WISH)
        stuck.set()
    assert calls == 2
    [job] = await house.store.jobs()
    assert job.id == made.id
