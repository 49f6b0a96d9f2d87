"""The page of one job: everything that the store holds of it, in every situation, and nothing that runs."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from service.model import (
    Artifact,
    Billable,
    DeliveryAttempt,
    ErrorCode,
    Event,
    Footage,
    Job,
    JobError,
    Reference,
    Report,
    Source,
    Status,
    VideoRequest,
)
from service.store import Created, NewJob, Reason, Receipt, Rejection
from service.web.status import facts
from service.web.views import receipt_text
from tests.web.house import PUBLIC_URL, House, openrouter_body
from tests.web.status import scenes
from tests.web.status.browsing import Element, read, signed_in
from tests.web.status.scenes import SCENES, made

HOSTILE = "\"><script>alert(1)</script><img src=x onerror=alert(1)> \u202e' & {{ 7 * 7 }} </pre></textarea>"
SHOWN = " ".join(HOSTILE.split())


def path(job: Job) -> str:
    return f"/status/jobs/{job.id}"


async def page_of(house: House, job: Job, *, operator: bool = True) -> Element:
    async with signed_in(house, operator=operator) as browser:
        return await browser.see(path(job))


def fact(section: Element, name: str) -> str:
    """Return what stands beside a word in a list of facts."""
    lists = section.all("dl")
    found = {word.text: said.text for each in lists for word, said in zip(each.all("dt"), each.all("dd"), strict=True)}
    return found[name]


def story(page: Element) -> list[str]:
    return [each.one("div", class_="story-what").text for each in page.one("ol", class_="story").all("li")]


def waits(page: Element) -> str:
    return page.one(id="now").text


async def test_what_a_callback_said_is_made_legible_once_however_often_it_is_looked_at(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_legible: list[bytes] = []

    def counted(body: bytes, *, indent: int | None = None) -> str | None:
        made_legible.append(body)
        return receipt_text(body, indent=indent)

    monkeypatch.setattr(facts, "receipt_text", counted)
    job = await house.running()
    async with signed_in(house) as browser:
        for word in ("pending", "in_progress"):
            await house.call_back(job, word)
            for _ in range(3):
                said = (await browser.see(path(job))).one(id="callbacks").text
                assert f"video.generation.{word}" in said
    assert len(made_legible) == 2


# Every situation


@pytest.mark.parametrize("scene", SCENES)
async def test_a_job_in_every_situation_has_a_page_for_its_tenant_and_for_operators(house: House, scene: str) -> None:
    job = await SCENES[scene](house)
    for operator in (True, False):
        page = await page_of(house, job, operator=operator)
        assert page.one("h1").one("code").text == job.id
        assert page.one(id="now").all("span", class_="state")[0].text == job.state
        assert len(page.one("ol", class_="story").all("li")) >= len(await house.store.events(job.id))
        assert len(page.one("ul", class_="actions").all("li")) == (5 if operator else 4)
        if job.error is not None:
            assert job.error.message in waits(page)
            assert job.error.code in waits(page)


@pytest.mark.parametrize("code", ErrorCode)
async def test_every_error_says_who_must_act_and_what_to_do(house: House, code: ErrorCode) -> None:
    job = await SCENES[f"failed with {code}"](house)
    now = waits(await page_of(house, job))
    assert any(words in now for words in ("must act", "press Retry", "press Remirror", "press Attach")), now


@pytest.mark.parametrize(
    ("scene", "words"),
    [
        ("queued", "It waits for its turn to be submitted to openrouter. Nothing is spent yet."),
        ("turned away", "openrouter turned it away; it is sent again in 30 s (2026-09-21 14:13:50 UTC)"),
        ("submitting", "when no answer comes, a callback tells whether it has it. It was sent 0 s ago"),
        ("in doubt", "nobody knows whether openrouter accepted it. It waits for a callback."),
        ("in doubt", "Without one it ends as submission_unknown in 2 h (2026-09-21 16:13:20 UTC)"),
        ("to be resubmitted", "Its caller wants it submitted again then, which may pay twice: in 15 min"),
        ("resubmitted", "openrouter may have accepted an earlier submission."),
        (
            "running",
            "a callback or a poll tells how it ends. Next poll in 1 min (2026-09-21 14:14:20 UTC)",
        ),
        ("being polled", "openrouter has it; a callback or a poll tells how it ends. It is being polled now."),
        ("unanswered", "Next poll in 12 s"),
        ("unanswered", "The last 2 polls brought no answer."),
        ("overdue", "The next poll was due 1 s ago"),
        ("finished", "openrouter has finished it; the video is copied into storage. Copying is tried"),
        ("being copied", "It is being copied now."),
        ("not copied yet", "Copying failed once. Next attempt in 5 s"),
        ("completed", "All 2 videos are kept."),
        ("timed out", "We gave up, and still look whether openrouter has the video: next in 10 min"),
        ("bound", "We gave up, and still look whether openrouter has the video: next 0 s ago"),
        ("unserved", "Nobody moves it on: llmgateway is not configured here any more."),
        ("submission unknown", "press Attach and give its id"),
        ("unavailable", "press Remirror, which copies it again"),
    ],
)
async def test_the_page_says_what_the_job_waits_for_and_until_when(house: House, scene: str, words: str) -> None:
    job = await SCENES[scene](house)
    assert words in waits(await page_of(house, job))


async def test_a_job_that_is_deleted_while_it_is_looked_up_has_what_is_left(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await scenes.told(house)
    events = house.store.events

    async def late(job_id: str, after: int = 0) -> list[Event]:
        assert await house.store.delete(job)
        return await events(job_id, after)

    async with signed_in(house) as browser:
        monkeypatch.setattr(house.store, "events", late)
        page = await browser.see(path(job))
        assert page.one("h1").one("code").text == job.id
        monkeypatch.undo()
        gone = await browser.see(path(job), 404)
    assert "There is no such job. It may have been deleted" in gone.text


# Who sees it


async def test_another_tenants_job_does_not_exist(house: House) -> None:
    theirs = await house.completed()
    async with signed_in(house, "globex") as browser:
        for address in (path(theirs), f"{path(theirs)}/content?index=0", f"{path(theirs)}/poster"):
            page = await browser.see(address, 404)
            assert "There is no such job" in page.text
        for action in ("cancel", "retry", "redeliver", "remirror"):
            csrf = (await browser.see("/status/jobs")).all("input", name="csrf")[0].attributes["value"]
            answer = await browser.client.post(f"{path(theirs)}/{action}", data={"csrf": csrf})
            assert answer.status_code == 404
            assert theirs.id not in read(answer.text).one("main").text
    assert await house.count("jobs") == 1


@pytest.mark.parametrize("name", ["x", "job_", "job_" + "0" * 26, "job_" + "Z" * 26, "%2e%2e", "job_%3Cscript%3E"])
async def test_what_is_no_job_is_told_on_a_page(house: House, name: str) -> None:
    async with signed_in(house, operator=True) as browser:
        page = await browser.see(f"/status/jobs/{name}", 404)
    assert "There is no such job" in page.one("p", role="alert").text


async def test_whoever_is_not_signed_in_sees_nothing(house: House) -> None:
    job = await house.completed()
    async with house.client(key="") as client:
        html = {"accept": "text/html"}
        shown = await client.get(path(job), headers=html)
        assert (shown.status_code, shown.headers["location"]) == (303, f"/status/sign-in?next={path(job)}")
        for part in ("content?index=0", "poster?index=0"):
            assert (await client.get(f"{path(job)}/{part}")).status_code == 401
            assert (await client.get(f"{path(job)}/{part}", headers=html)).status_code == 303


async def test_only_operators_are_offered_to_attach(house: House) -> None:
    job = await scenes.in_doubt(house)
    page = await page_of(house, job, operator=False)
    assert page.all("form", action=f"{path(job)}/attach") == []
    assert "/attach" not in page.one(id="commands").text


# What happened


async def test_the_timeline_tells_each_event_with_its_gap_and_how_the_word_came(house: House) -> None:
    job = await made(house)
    house.clock.advance(350)
    [job] = await house.claims.claim_queued("openrouter", 1)
    house.clock.advance(1_480)
    await house.store.submitted(job.id, "gen-1", "pending", first_poll_ms=60_000)
    house.clock.advance(84_040)
    await house.call_back(job)
    page = await page_of(house, job)
    assert story(page) == [
        "Accepted and queued",
        "Submission begun",
        "Submitted, and bound to the provider's id id gen-1",
        "Finished, by callback says completed · id gen-1",
    ]
    times = page.one("ol", class_="story").all("div", class_="story-time")
    assert [each.text for each in times] == [
        "14:13:20.000 2026-09-21",
        "14:13:20.350 +350 ms",
        "14:13:21.830 +1.5 s",
        "14:14:45.870 +1 min 24 s",
    ]


async def test_every_attempt_to_tell_the_caller_is_in_the_timeline_and_below(house: House) -> None:
    page = await page_of(house, await scenes.told(house))
    assert story(page)[-2:] == [
        "Caller not told of job.cancelled https://hooks.example.com:443 answered 502",
        "Caller told of job.cancelled https://hooks.example.com:443 answered 204",
    ]
    deliveries = page.one(id="deliveries")
    assert deliveries.all("span", class_="state")[0].text == "delivered"
    attempts = [each.text for each in deliveries.one("ol").all("li")]
    assert attempts == [
        "1. 2026-09-21 14:13:25 UTC 502 41 ms Bad Gateway",
        "2. 2026-09-21 14:13:30 UTC 204 41 ms",
    ]
    assert "canary" not in page.text


async def test_a_message_that_was_given_up_says_what_to_do(house: House) -> None:
    deliveries = (await page_of(house, await scenes.untold(house))).one(id="deliveries")
    assert "Mend the receiver, then press Redeliver." in deliveries.text
    assert "no answer 10 s no answer within 10 s" in deliveries.text


# What was said


async def test_every_callback_is_shown_with_verdict_and_body_without_signed_addresses(house: House) -> None:
    job = await house.running()
    await house.call_back(job, "in_progress")
    house.clock.advance(2_000)
    await house.call_back(job, "in_progress")
    await house.call_back(job)
    callbacks = (await page_of(house, job)).one(id="callbacks")
    first, second = callbacks.all("article")
    assert "says in_progress 0 s ago , 2 times since 2026-09-21 14:13:20 UTC" in first.text
    assert second.all("span", class_="state")[0].text == "applied"
    assert '"status": "completed"' in second.one("pre").text
    assert "https://cdn.example.net/0.mp4?…" in second.one("pre").text
    assert "content-type" in second.one("dl").text
    assert "canary" not in callbacks.text


async def test_a_callback_about_another_job_is_explained(house: House) -> None:
    job = await house.running()
    await house.call_back(replace(job, provider_job_id="gen-other"))
    callbacks = (await page_of(house, job)).one(id="callbacks")
    assert "mismatched" in callbacks.text
    assert "it changed nothing" in callbacks.text


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b"\xff\xfe", "2 bytes that are no text."),
        (b"not JSON <b>", "not JSON <b>"),
        (b"[" * 3_000, "[[[["),
        (b'["' + b"x y " * 30_000 + b'"]', "characters)"),
    ],
)
async def test_a_body_of_any_kind_is_shown_as_text(house: House, body: bytes, shown: str) -> None:
    job = await house.running()
    receipt = Receipt({}, body, house.clock.now())
    await house.store.receive(job.id, Report(Status.RUNNING, "x", "gen-1"), receipt, poll_ms=1, retention_ms=1)
    [article] = (await page_of(house, job)).one(id="callbacks").all("article")
    assert shown in article.text
    assert len(article.text) < 10_000


async def test_rejected_callbacks_of_this_job_are_shown_with_what_to_do(house: House) -> None:
    job, other = await house.running(), await house.running(provider_job_id="gen-2")
    now = house.clock.now()
    about = ("openrouter", Reason.WRONG_SECRET, "Compare the secrets.", 14, now - 60_000, now, {"user-agent": "x"}, 7)
    await house.rejections.keep([Rejection(job.id, *about), Rejection(other.id, *about)])
    for operator in (True, False):
        [article] = (await page_of(house, job, operator=operator)).one(id="callbacks").all("article")
        assert "rejected wrong_secret" in article.text
        assert "14 times since 2026-09-21 14:12:20 UTC" in article.text
        assert "Compare the secrets." in article.text


async def test_the_request_is_shown_without_media_and_signed_addresses(house: House) -> None:
    request = VideoRequest(
        "google/veo-3.1",
        prompt="line one\nline two",
        duration=8,
        seed=0,
        generate_audio=False,
        first_frame="https://cdn.example.com/a.png?sig=canary",
        references=(Reference("image", "data:image/png;base64," + "canary" * 1_000), Reference("video", "https://b/c")),
        provider_options={"negative_prompt": "blur", "api_key": "canary"},
    )
    new = NewJob("acme", "openrouter", request, metadata={"order": "A-17"}, notify_url=scenes.HOOK)
    created = await house.store.create_job(new)
    assert isinstance(created, Created)
    section = (await page_of(house, created.job)).one(id="request")
    assert section.one("p", class_="prompt").children == ["line one\nline two"]
    assert fact(section, "Duration") == "8 s"
    assert fact(section, "Seed") == "0"
    assert fact(section, "Generate audio") == "no"
    assert fact(section, "First frame") == "https://cdn.example.com/a.png?…"
    assert fact(section, "References").startswith("image: data:image/png;base64,…")
    assert fact(section, "References").endswith("video: https://b/c")
    assert '"negative_prompt": "blur"' in fact(section, "Provider options")
    assert fact(section, "Metadata") == '{ "order": "A-17" }'
    assert fact(section, "Told at") == "https://hooks.example.com/videos?…"
    assert "canary" not in section.text
    assert section.all("img") == []


async def test_the_providers_own_words_and_what_it_cost_are_shown(house: House) -> None:
    job = await house.running()
    error = JobError(ErrorCode.PROVIDER_FAILED, "It failed.", retryable=True, billable=Billable.NO)
    words = replace(error, provider_code="E42", provider_message="GPU on fire")
    report = Report(Status.FAILED, "errored", "gen-1", cost=0.25, error=words)
    await house.store.apply(job.id, report, Source.POLL, poll_ms=1, retention_ms=1)
    page = await page_of(house, job)
    assert "What openrouter says ( E42 ): GPU on fire" in waits(page)
    section = page.one(id="provider")
    assert section.one("h2").text == "At openrouter"
    assert section.one("span", class_="copyable").one("code").text == "gen-1"
    told = {name: fact(section, name) for name in ("Its word", "Its code", "Billed", "Cost")}
    assert told == {
        "Its word": "errored",
        "Its code": "E42",
        "Billed": "no",
        "Cost": "$0.25",
    }


async def test_doubts_and_the_job_that_it_repeats_are_shown(house: House) -> None:
    old = await scenes.submission_unknown(house)
    again = await house.store.retry(old)
    assert isinstance(again, Created)
    assert "1 submission has an unknown outcome" in (await page_of(house, old)).one(id="provider").text
    now = (await page_of(house, again.job)).one(id="now")
    assert now.one("a", class_="id").attributes["href"] == path(old)


# Videos


async def test_a_video_is_played_from_here_with_all_that_is_known_of_it(house: House) -> None:
    content = b"not a real video " * 100
    job = await house.running()
    await house.call_back(job)
    [job] = await house.claims.claim_mirrors("openrouter", 1)
    key = f"acme/2026/09/{job.id}/0.mp4"
    await house.storage.put(key, _once(content), content_type="video/mp4")
    digest = hashlib.sha256(content).hexdigest()
    footage = Footage(5_005, 1280, 720, "h264", f"acme/2026/09/{job.id}/0.jpg")
    await house.claims.keep_artifact(job, Artifact(0, key, len(content), digest, "video/mp4", footage))
    await house.claims.mirrored(job)

    async with signed_in(house) as browser:
        videos = (await browser.see(path(job))).one(id="videos")
        video = videos.one("video")
        assert video.attributes["src"] == f"{path(job)}/content?index=0"
        assert video.attributes["poster"] == f"{path(job)}/poster?index=0"
        assert {"controls", "playsinline"} <= set(video.attributes)
        assert video.attributes["preload"] == "metadata"
        assert fact(videos, "Size") == "1.7 kB"
        assert fact(videos, "Shows") == "1280 × 720, 5.0 s, h264"  # noqa: RUF001 - as people write it
        assert digest in fact(videos, "SHA-256")
        assert fact(videos, "Stored as") == key
        assert videos.one("a").attributes["download"] == f"{job.id}-0.mp4"

        part = await browser.client.get(video.attributes["src"], headers={"range": "bytes=4-8"})
        assert (part.status_code, part.content) == (206, b"a rea")
        assert part.headers["content-range"] == f"bytes 4-8/{len(content)}"
        assert part.headers["x-content-type-options"] == "nosniff"
        whole = await browser.client.get(video.attributes["src"])
        assert (whole.status_code, whole.content) == (200, content)
        beyond = await browser.client.get(video.attributes["src"], headers={"range": "bytes=9999-", "accept": "*/*"})
        assert beyond.status_code == 416


async def test_a_video_comes_through_us_where_the_api_would_send_a_link(house: House) -> None:
    job = await house.completed()
    house.storage.sign = _signed  # type: ignore[method-assign] # as a bucket does
    async with signed_in(house) as browser, house.client(house.app(link_seconds=60), key="") as client:
        client.cookies = browser.client.cookies
        answer = await client.get(f"{path(job)}/content?index=0")
        assert answer.status_code == 200
        through_the_api = await client.get(
            f"/v1/jobs/{job.id}/content", headers={"authorization": f"Bearer {house.key}"}
        )
        assert through_the_api.status_code == 302


async def test_a_video_that_storage_lost_is_told_on_a_page_to_who_downloads_it(house: House) -> None:
    job = await house.completed()
    await house.storage.delete(job.artifacts[0].key)
    async with signed_in(house) as browser:
        page = await browser.see(f"{path(job)}/content?index=0", 410)
        assert "no longer in storage" in page.text
        answer = await browser.client.get(f"{path(job)}/content?index=0", headers={"accept": "*/*"})
        assert answer.json()["error"]["code"] == "gone"


async def test_every_output_has_a_player(house: House) -> None:
    job = await house.completed(contents=(b"one", b"two", b"three"))
    async with signed_in(house) as browser:
        page = await browser.see(path(job))
        sources = [each.attributes["src"] for each in page.all("video")]
        assert [(await browser.client.get(each)).content for each in sources] == [b"one", b"two", b"three"]


# Commands


async def test_every_command_can_be_copied_and_holds_no_key(house: House) -> None:
    job = await house.completed()
    section = (await page_of(house, job)).one(id="commands")
    commands = {
        name.text: said.one("code").text for name, said in zip(section.all("dt"), section.all("dd"), strict=True)
    }
    url = f"{PUBLIC_URL}/v1/jobs/{job.id}"
    key = '-H "Authorization: Bearer $KEY"'
    assert commands["Read"] == f"curl -s {url} {key}"
    assert commands["Receipts"] == f"curl -s {url}/receipts {key}"
    assert commands["Cancel"] == f"curl -s -X POST {url}/cancel {key}"
    assert commands["Attach"].endswith("""-d '{"provider_job_id": "gen-1a2b3c"}'""")
    assert commands["Video"] == f'curl -sSfL "{url}/content?index=0" {key} -o {job.id}-0.mp4'
    assert list(commands) == [
        *("Read", "Events", "Receipts", "Deliveries", "Video", "Cancel", "Retry", "Redeliver", "Remirror", "Attach")
    ]
    assert "rk_" not in section.text


async def test_commands_are_folded_up_and_those_that_can_be_done_now_come_first(house: House) -> None:
    job = await scenes.made(house)
    section = (await page_of(house, job)).one(id="commands")
    closed, later = section.all("details")
    assert "open" not in closed.attributes
    assert closed.all("summary")[0].text == "The same from a shell"
    names = [each.text for each in section.all("dt")]
    assert names == [
        "Read",
        "Events",
        "Receipts",
        "Deliveries",
        *("Cancel", "Retry", "Redeliver", "Remirror", "Attach"),
    ]
    assert [each.text for each in later.all("dt")] == ["Retry", "Redeliver", "Remirror", "Attach"]


# Hostile words


async def test_what_strangers_write_stays_text(house: House) -> None:
    request = VideoRequest(
        HOSTILE,
        prompt=f"{HOSTILE}{'x' * 400}",
        first_frame=HOSTILE,
        references=(Reference("image", HOSTILE),),
        provider_options={HOSTILE: HOSTILE},
    )
    new = NewJob(HOSTILE, "openrouter", request, metadata={HOSTILE: HOSTILE}, notify_url=scenes.HOOK)
    await house.store.create_job(new)
    [job] = await house.claims.claim_queued("openrouter", 1)
    error = JobError(
        ErrorCode.PROVIDER_FAILED, HOSTILE, provider_code="y" * 400 + HOSTILE, provider_message=HOSTILE * 50
    )
    await house.claims.refused(job, error)
    [delivery] = await house.deliveries.claim(1, each=1)
    attempt = DeliveryAttempt(house.clock.now(), 1, 502, HOSTILE, HOSTILE)
    await house.deliveries.gave_up(delivery, attempt)
    receipt = Receipt({"user-agent": HOSTILE}, openrouter_body(HOSTILE, HOSTILE), house.clock.now())
    await house.store.receive(job.id, Report(Status.RUNNING, HOSTILE, "gen-1"), receipt, poll_ms=1, retention_ms=1)
    now = house.clock.now()
    await house.rejections.keep(
        [Rejection(job.id, "openrouter", Reason.MALFORMED_HEADER, HOSTILE, 1, now, now, {"user-agent": HOSTILE}, 7)]
    )
    page = await page_of(house, job)
    main = page.one("main")
    assert main.all("script") + main.all("img") + main.all("textarea") == []
    assert [each.tag for each in page.walk() if any(name.startswith("on") for name in each.attributes)] == []
    assert [each.tag for each in page.walk() if "style" in each.attributes] == []
    for section in ("now", "request", "provider", "deliveries", "callbacks", "story"):
        assert SHOWN in main.one(id=section).text, section
    assert "49" not in waits(page)


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def _signed(key: str, seconds: int) -> str | None:
    return f"https://bucket.example.net/{key}?expires={seconds}"
