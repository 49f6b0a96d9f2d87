from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.web.house import House

GOOD: dict[str, Any] = {"model": "google/veo-3.1", "prompt": "a cat", "duration": 5}


def problems(answer: httpx.Response) -> dict[str, str]:
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["code"] == "invalid_request"
    return {each["field"]: each["message"] for each in answer.json()["error"]["problems"]}


async def test_every_problem_is_named_at_once(house: House, client: httpx.AsyncClient) -> None:
    found = problems(
        await client.post(
            "/v1/jobs",
            json={
                "modle": "google/veo-3.1",
                "prompt": 5,
                "duration": "5",
                "seed": True,
                "first_frame": "http://example.com/a.png",
                "references": [{"type": "picture", "url": "https://x.io/a", "colour": 1}, 7],
                "notify_url": "http://example.com/done",
                "on_unknown": "guess",
            },
        )
    )
    assert list(found) == [
        "model",
        "prompt",
        "duration",
        "seed",
        "on_unknown",
        "first_frame",
        "references[0].type",
        "references[0].colour",
        "references[1]",
        "modle",
        "notify_url",
    ]
    assert found["modle"] == "is not a field; did you mean model?"
    assert found["duration"] == "must be whole seconds from 1 to 3600, for example 5; a string was sent"
    assert found["seed"].endswith("true or false was sent")
    assert "plain http" in found["first_frame"]
    assert found["references[0].colour"] == "is not a field; known are type, url"
    assert found["notify_url"].startswith("must begin with https://, for example https://")
    assert await house.count("jobs") == 0


async def test_what_the_provider_cannot_say_is_named_together_with_what_we_refuse(client: httpx.AsyncClient) -> None:
    body = {"model": "m", "provider": "llmgateway", "prompt": "a cat", "duration": 0, "seed": 7, "size": "large"}
    found = problems(await client.post("/v1/jobs", json=body))
    assert list(found) == ["duration", "size", "seed"]
    assert found["duration"] == "must be whole seconds from 1 to 3600, for example 5"
    assert found["seed"] == "LLM Gateway takes no seed; leave it out"


async def test_a_provider_option_that_the_service_writes_itself_is_refused(client: httpx.AsyncClient) -> None:
    found = problems(
        await client.post("/v1/jobs", json={**GOOD, "provider_options": {"callback_url": "https://evil.example"}})
    )
    assert list(found) == ["provider_options.callback_url"]


async def test_an_unknown_provider_is_answered_with_those_that_there_are(client: httpx.AsyncClient) -> None:
    for name in ("runway", "", "OpenRouter"):
        found = problems(await client.post("/v1/jobs", json={**GOOD, "provider": name}))
        assert found == {"provider": "must be one of openrouter, llmgateway, which are configured here"}


async def test_the_message_alone_is_enough_to_act_on(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/jobs", json={**GOOD, "duration": 3601})
    assert answer.json()["error"]["message"] == (
        "Nothing was done; correct this and send it again. "
        "duration: must be whole seconds from 1 to 3600, for example 5."
    )


async def test_a_mistyped_field_is_told_with_what_was_meant_and_the_fields_are_named_once(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.post("/v1/jobs", json={**GOOD, "promt": "a cat", "lenght": 5, "colour": "red"})
    assert problems(answer) == {
        "promt": "is not a field; did you mean prompt?",
        "lenght": "is not a field",
        "colour": "is not a field",
    }
    message = answer.json()["error"]["message"]
    assert "promt: is not a field; did you mean prompt? lenght: is not a field. colour: " in message
    assert message.endswith("notify_url.")
    assert message.count("aspect_ratio") == 1
    assert "The fields are" not in (await client.post("/v1/jobs", json={**GOOD, "promt": 1})).text


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", ""),
        ("model", "  "),
        ("model", None),
        ("model", "x" * 201),
        ("model", "a\x00b"),
        ("model", "a\nb"),
        ("model", ["m"]),
        ("prompt", "x" * 20_001),
        ("prompt", {}),
        ("provider", 1),
        ("duration", 0),
        ("duration", -1),
        ("duration", 3601),
        ("duration", 5.0),
        ("duration", 5.5),
        ("duration", True),
        ("aspect_ratio", "16/9"),
        ("aspect_ratio", "0:9"),
        ("aspect_ratio", "16:9\n"),
        ("resolution", ""),
        ("resolution", "1080p\x00"),
        ("resolution", "x" * 41),
        ("size", "1920*1080"),
        ("size", "1920x1080x2"),
        ("size", "-1x5"),
        ("size", "\u0661x\u0662"),
        ("seed", 1.5),
        ("seed", "7"),
        ("generate_audio", 1),
        ("generate_audio", "true"),
        ("first_frame", "http://example.com/a.png"),
        ("first_frame", "HTTP://example.com/a.png"),
        ("first_frame", "https://"),
        ("first_frame", "https:///path"),
        ("first_frame", "https://example.com/a b"),
        ("first_frame", "https://example.com/\x00"),
        ("first_frame", "https://example.com/" + "a" * 9000),
        ("first_frame", "data:"),
        ("first_frame", "data:image/png;base64,"),
        ("first_frame", "file:///etc/passwd"),
        ("first_frame", "ftp://example.com/a"),
        ("first_frame", " https://example.com/a.png"),
        ("last_frame", "javascript:alert(1)"),
        ("last_frame", ""),
        ("references", {}),
        ("references", [{"type": "image", "url": "https://x.io/a"}] * 21),
        ("references", [{"type": "image"}]),
        ("references", [[]]),
        ("references", [{"type": "image", "url": "http://x.io/a"}]),
        ("provider_options", []),
        ("metadata", "x"),
        ("metadata", ["x"]),
        ("metadata", {"x": "y" * 16_400}),
        ("metadata", {"é" * 8_200: 1}),
        ("notify_url", 5),
        ("notify_url", ""),
        ("notify_url", "example.com/done"),
        ("notify_url", "http://example.com/done"),
        ("notify_url", "ftp://example.com/done"),
        ("notify_url", "https://user:password@example.com/done"),
        ("notify_url", "https://127.0.0.1/done"),
        ("notify_url", "https://[::1]/done"),
        ("notify_url", "https://localhost/done"),
        ("notify_url", "https://169.254.169.254/latest"),
        ("notify_url", "http://backend.internal:8081/done"),
        ("notify_url", "https://example.com/" + "a" * 2_029),
        ("notify_url", "https://example.com/a b"),
        ("on_unknown", "WAIT"),
        ("on_unknown", 1),
        ("unheard_of", None),
    ],
)
async def test_a_bad_value_is_refused_and_only_its_field_is_named(
    house: House, client: httpx.AsyncClient, field: str, value: object
) -> None:
    found = problems(await client.post("/v1/jobs", json=GOOD | {field: value}))
    assert len(found) == 1
    [(name, message)] = found.items()
    assert name.startswith(field)
    assert message
    assert await house.count("jobs") == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", "x" * 200),
        ("prompt", "x" * 20_000),
        ("prompt", ""),
        ("prompt", "a\x00b 🎬"),
        ("duration", 1),
        ("duration", 3600),
        ("seed", 2**63 - 1),
        ("seed", 0),
        ("resolution", "4K"),
        ("first_frame", "data:image/svg+xml;charset=utf-8,%3Csvg%3E"),
        ("references", [{"type": "video", "url": "https://x.io/a"}] * 20),
        ("references", []),
        ("metadata", {"x": "y" * (16_384 - len('{"x":""}'))}),
        ("metadata", {}),
        ("provider_options", {"nested": {"deep": [[[[1]]]]}}),
        ("notify_url", "https://example.com/" + "a" * 2_028),
        ("notify_url", "http://backend.internal:8080/done"),
    ],
)
async def test_a_value_at_its_limit_is_accepted(client: httpx.AsyncClient, field: str, value: object) -> None:
    answer = await client.post("/v1/jobs", json=GOOD | {field: value})
    assert answer.status_code == 202, answer.text


async def test_a_thousand_unknown_fields_are_answered_shortly(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/jobs", json={f"field_{n}": n for n in range(1_900)})
    assert len(problems(answer)) == 50
    assert len(answer.content) < 30_000


async def test_a_strangers_field_name_is_shown_cut_and_harmless(client: httpx.AsyncClient) -> None:
    found = problems(await client.post("/v1/jobs", json={**GOOD, "x\r\n\x1b[2J" + "y" * 5000: 1}))
    [name] = found
    assert len(name) < 100
    assert name.isprintable()
