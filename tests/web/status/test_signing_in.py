"""Signing in: who gets a session, for how long, and what no other site can make a browser do with it."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from service.web.turnstile import Turnstile
from tests.turns import until
from tests.web.house import PUBLIC_URL, House
from tests.web.status.browsing import fields_of, read, signed_in

HTML = {"accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"}
OWN = {"origin": PUBLIC_URL, "sec-fetch-site": "same-origin"}


async def sign_in(client: httpx.AsyncClient, key: str, address: str = "", **headers: str) -> httpx.Response:
    return await client.post("/status/sign-in", data={"key": key, "next": address}, headers={**HTML, **OWN, **headers})


async def test_the_form_asks_for_a_key_and_says_how_to_make_one(house: House) -> None:
    async with house.client(key="") as client:
        answer = await client.get("/status/sign-in", headers=HTML)
    page = read(answer.text)
    field = page.one("input", name="key")
    assert (field.attributes["type"], field.attributes["autocomplete"]) == ("password", "current-password")
    assert page.one("label").attributes["for"] == field.attributes["id"]
    assert "reelkeeper keys create NAME --operator" in page.one(id="key-help").text


async def test_a_right_key_opens_a_session_whose_cookie_is_kept_from_scripts_and_other_sites(house: House) -> None:
    async with house.client(key="") as client:
        answer = await sign_in(client, f" {house.key}\n")
        assert (answer.status_code, answer.headers["location"]) == (303, "/status")
        cookie = answer.headers["set-cookie"]
        parts = cookie.lower().split("; ")
        assert cookie.startswith("__Host-reelkeeper=rks_")
        assert {"httponly", "secure", "samesite=strict", "path=/", "max-age=43200"} == set(parts[1:])
        assert house.key not in cookie
        assert (await client.get("/status", headers=HTML)).status_code == 200


async def test_on_loopback_without_https_the_cookie_goes_without_it(house: House) -> None:
    async with house.client(house.app(public_url="http://127.0.0.1:8080"), key="") as client:
        client.base_url = httpx.URL("http://127.0.0.1:8080")
        answer = await sign_in(client, house.key, origin="http://127.0.0.1:8080")
        assert answer.headers["set-cookie"].startswith("reelkeeper=rks_")
        assert "Secure" not in answer.headers["set-cookie"]
        assert (await client.get("/status", headers=HTML)).status_code == 200


@pytest.mark.parametrize("key", ["", "rk_wrong", "x" * 10_000, "\x00é🎬", "' OR 1=1 --"])
async def test_a_wrong_key_opens_nothing_and_is_told_to_the_log_without_itself(house: House, key: str) -> None:
    async with house.client(key="") as client:
        answer = await sign_in(client, key)
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers
    assert "unknown or was revoked" in read(answer.text).one(role="alert").text
    assert [call.kwargs["event"] for call in house.logged.calls] == ["web.request"]
    assert house.lines()[-1]["reason"] == "wrong_key"
    assert not key or key not in repr(house.logged.calls)


async def test_who_tries_many_keys_waits_longer_and_longer(house: House) -> None:
    waits: list[float] = []

    async def pause(seconds: float) -> None:
        waits.append(seconds)

    house.wrong_keys = Turnstile(house.clock, pause)
    async with house.client(key="") as client:
        for _ in range(105):
            assert (await sign_in(client, "rk_wrong")).status_code == 403
    assert waits == [0.02, 0.04, 0.06, 0.08, 0.1]


async def test_when_too_many_wait_nobody_waits_with_them(house: House) -> None:
    go = asyncio.Event()

    async def pause(_seconds: float) -> None:
        await go.wait()

    house.wrong_keys = Turnstile(house.clock, pause)
    house.wrong_keys.most = 1
    async with house.client(key="") as client:
        for _ in range(100):
            await sign_in(client, "rk_wrong")
        waiting = asyncio.create_task(sign_in(client, "rk_wrong"))
        await until(lambda: house.wrong_keys.crowded("sign-in"))
        assert (await sign_in(client, house.key)).status_code == 429
        go.set()
        assert (await waiting).status_code == 403


async def test_a_crowd_of_rejected_callbacks_keeps_nobody_from_signing_in(house: House) -> None:
    go = asyncio.Event()

    async def pause(_seconds: float) -> None:
        await go.wait()

    house.turnstile = Turnstile(house.clock, pause)
    house.turnstile.most = 1
    job = await house.running()
    async with house.client(key="") as client:
        sent = [client.post(f"{house.address(job)}x", content=b"{}") for _ in range(101)]
        crowd = [asyncio.create_task(each) for each in sent]
        await until(lambda: house.turnstile.crowded(""))
        assert (await sign_in(client, "rk_wrong")).status_code == 403
        assert (await sign_in(client, house.key)).status_code == 303
        go.set()
        await asyncio.gather(*crowd)


async def test_a_session_lasts_half_a_day_and_ends_with_its_key(house: House) -> None:
    record, key = await house.keys.create("day shift", "acme")
    async with house.client(key="") as client:
        await sign_in(client, key)
        house.clock.advance(12 * 3_600_000 - 1)
        assert (await client.get("/status", headers=HTML)).status_code == 200
        house.clock.advance(1)
        assert (await client.get("/status", headers=HTML)).status_code == 303
        await sign_in(client, key)
        assert (await client.get("/status", headers=HTML)).status_code == 200
        await house.keys.revoke(record.id)
        assert (await client.get("/status", headers=HTML)).status_code == 303


async def test_signing_out_ends_the_session_here_whatever_the_browser_keeps(house: House) -> None:
    async with signed_in(house) as browser:
        page = await browser.see("/status")
        kept = dict(browser.client.cookies)
        answer = await browser.send(page.one("form", action="/status/sign-out"))
        assert (answer.status_code, answer.headers["location"]) == (303, "/status/sign-in?done=signed-out")
        assert "Max-Age=0" in answer.headers["set-cookie"]
        assert not browser.client.cookies
        browser.client.cookies.update(kept)
        assert (await browser.client.get("/status")).headers["location"] == "/status/sign-in"
        said = await browser.see("/status/sign-in?done=signed-out")
        assert said.one(role="status").text == "You are signed out."


async def test_signing_in_again_closes_the_session_before(house: House) -> None:
    async with signed_in(house) as browser:
        before = dict(browser.client.cookies)
        await sign_in(browser.client, house.key)
        assert dict(browser.client.cookies) != before
        browser.client.cookies.clear()
        browser.client.cookies.update(before)
        assert (await browser.client.get("/status")).status_code == 303


async def test_who_is_signed_in_is_not_asked_again(house: House) -> None:
    async with signed_in(house) as browser:
        answer = await browser.client.get("/status/sign-in?next=/status/jobs")
    assert (answer.status_code, answer.headers["location"]) == (303, "/status/jobs")


# Where it leads


@pytest.mark.parametrize(
    "address",
    [
        "//evil.example",
        "/\\evil.example",
        "/status//evil.example",
        "/status/../v1/jobs",
        "/status/%2e%2e/v1/jobs",
        "https://evil.example/status",
        "/statusx",
        "/v1/jobs",
        "javascript:alert(1)",
        "/status\r\nset-cookie: a=b",
        "/status/sign-in",
        "\t/status",
        "/status/jobs?x=<script>",
        "/status/jobs#\u2028",
    ],
)
async def test_no_address_leads_anywhere_but_to_a_page_of_ours(house: House, address: str) -> None:
    async with house.client(key="") as client:
        form = read((await client.get("/status/sign-in", params={"next": address}, headers=HTML)).text)
        assert fields_of(form.one("form"))["next"] == "/status"
        answer = await sign_in(client, house.key, address)
    assert answer.headers["location"] == "/status"


async def test_whoever_is_sent_to_sign_in_comes_back_to_where_they_wanted(house: House) -> None:
    wanted = "/status/jobs?state=failed&q=a%20cat"
    async with house.client(key="") as client:
        away = await client.get(wanted, headers=HTML)
        assert away.status_code == 303
        form = read((await client.get(away.headers["location"], headers=HTML)).text).one("form")
        assert fields_of(form)["next"] == wanted
        assert (await sign_in(client, house.key, fields_of(form)["next"])).headers["location"] == wanted


async def test_a_link_on_another_site_goes_on_from_here_once_so_that_the_cookie_comes_along(house: House) -> None:
    link = {**HTML, "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    async with house.client(key="") as client:
        first = await client.get("/status/jobs?q=cat", headers={**link, "sec-fetch-site": "cross-site"})
        assert first.status_code == 200
        again = read(first.text).one("meta", **{"http-equiv": "refresh"})
        assert again.attributes["content"] == "0; url=/status/jobs?q=cat"
        # The browser says that this page of ours led to it.
        second = await client.get("/status/jobs?q=cat", headers={**link, "sec-fetch-site": "same-origin"})
        assert second.headers["location"] == "/status/sign-in?next=/status/jobs%3Fq%3Dcat"


@pytest.mark.parametrize("site", ["cross-site", "same-site", "none", None, "same-origin"])
async def test_only_our_own_answer_to_a_form_makes_a_page_say_that_something_was_done(
    house: House, site: str | None
) -> None:
    headers = {} if site is None else {"sec-fetch-site": site}
    async with signed_in(house) as browser:
        del browser.client.headers["sec-fetch-site"]
        for address in ("/status?done=cancelled", "/status/deliveries?done=owed-7-0"):
            answer = await browser.client.get(address, headers=headers)
            assert bool(read(answer.text).one("main").all(role="status")) is (site in ("same-origin", None)), address
        browser.client.cookies.clear()
        answer = await browser.client.get("/status/sign-in?done=signed-out", headers=headers)
        assert bool(read(answer.text).all(role="status")) is (site in ("same-origin", None))


async def test_what_a_link_of_another_site_says_was_done_gets_lost_on_every_way_to_the_page(house: House) -> None:
    link = {**HTML, "sec-fetch-mode": "navigate", "sec-fetch-dest": "document", "sec-fetch-site": "cross-site"}
    claim = "/status/jobs?q=a%20b&done=cancelled&d%6Fne=retried&state=failed"
    async with house.client(key="") as client:
        again = read((await client.get(claim, headers=link)).text).one("meta", **{"http-equiv": "refresh"})
        assert again.attributes["content"] == "0; url=/status/jobs?q=a%20b&state=failed"
        sent = await client.get(claim, headers=HTML)
        assert sent.headers["location"] == "/status/sign-in?next=/status/jobs%3Fq%3Da%2520b%26state%3Dfailed"
        assert (await sign_in(client, house.key, claim)).headers["location"] == "/status/jobs?q=a%20b&state=failed"
        assert (await sign_in(client, house.key, "/status?done=cancelled")).headers["location"] == "/status"


# Other sites


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://videos.example.com"},
        {"origin": "https://videos.example.com:444"},
        {"origin": f"{PUBLIC_URL}.evil.example"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
    ],
)
async def test_no_other_site_can_send_a_form_even_with_its_token(house: House, headers: dict[str, str]) -> None:
    async with signed_in(house) as browser:
        form = (await browser.see("/status")).one("form", action="/status/sign-out")
        sent = {**OWN, "host": "internal:8080", **headers}
        refused = await browser.client.post("/status/sign-out", data=fields_of(form), headers=sent)
        assert refused.status_code == 403
        assert "Another site sent this form" in read(refused.text).one(role="alert").text
        assert (await sign_in(browser.client, house.key, **{"host": "internal:8080", **headers})).status_code == 403
        assert (await browser.client.get("/status")).status_code == 200
    assert house.lines()[-2]["reason"] == "foreign_origin"


async def test_a_tunnel_to_the_service_is_its_own_site(house: House) -> None:
    async with signed_in(house) as browser:
        form = (await browser.see("/status")).one("form", action="/status/sign-out")
        headers = {"host": "127.0.0.1:8080", "origin": "http://127.0.0.1:8080"}
        answer = await browser.client.post("/status/sign-out", data=fields_of(form), headers=headers)
        assert answer.status_code == 303


@pytest.mark.parametrize("csrf", ["", "wrong", "é\ud800", "another session's"])
async def test_a_form_without_the_token_of_its_session_does_nothing(house: House, csrf: str) -> None:
    async with signed_in(house, name="another") as other, signed_in(house) as browser:
        if csrf == "another session's":
            csrf = fields_of((await other.see("/status")).one("form"))["csrf"]
        body = b"csrf=" + csrf.encode(errors="surrogatepass")
        kind = {"content-type": "application/x-www-form-urlencoded"}
        refused = await browser.client.post("/status/sign-out", content=body, headers=kind)
        assert refused.status_code in {400, 403}
        assert (await browser.client.get("/status")).status_code == 200


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{}", "application/json", 415),
        (b"a=1", "", 415),
        (b"a=" + b"x" * 70_000, "application/x-www-form-urlencoded", 413),
        (b"&".join(b"a=1" for _ in range(60)), "application/x-www-form-urlencoded", 400),
        (b"\xff=1", "application/x-www-form-urlencoded", 400),
    ],
)
async def test_what_is_no_form_is_refused_on_a_page(house: House, content: bytes, kind: str, status: int) -> None:
    async with signed_in(house) as browser:
        headers = {"content-type": kind} if kind else {}
        answer = await browser.client.post("/status/sign-out", content=content, headers=headers)
        assert answer.status_code == status
        assert read(answer.text).one(role="alert").text


async def test_a_form_that_is_sent_after_the_session_leads_to_sign_in_and_back_to_its_page(house: House) -> None:
    async with house.client(key="") as client:
        headers = {**HTML, **OWN, "referer": f"{PUBLIC_URL}/status/deliveries?tenant=acme"}
        answer = await client.post("/status/sign-out", data={"csrf": "x"}, headers=headers)
        assert answer.status_code == 303
        assert answer.headers["location"] == "/status/sign-in?next=/status/deliveries%3Ftenant%3Dacme"
        headers["referer"] = "https://evil.example/status/jobs"
        answer = await client.post("/status/sign-out", data={"csrf": "x"}, headers=headers)
        assert answer.headers["location"] == "/status/sign-in"


async def test_the_log_names_tenant_and_key_of_a_session_and_never_its_token(house: House) -> None:
    record, key = await house.keys.create("night shift", "globex")
    async with house.client(key="") as client:
        await sign_in(client, key)
        await client.get("/status", headers=HTML)
        token = client.cookies["__Host-reelkeeper"]
    for line in house.lines():
        assert (line["tenant"], line["key"]) == ("globex", record.id)
    logged = repr(house.logged.calls)
    assert token not in logged
    assert key not in logged
