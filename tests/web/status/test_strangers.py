"""Whatever a stranger writes into the headers of a request for a page, it is no mistake of ours."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.routing import Route

from service.web.turnstile import Turnstile
from tests.web.house import House, ask
from tests.web.status.browsing import read, signed_in

FORM = (b"content-type", b"application/x-www-form-urlencoded")
TRYING = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

PIECES = (
    *(b"http://", b"https://", b"[", b"]", b"::1", b":", b"99999", b"/status", b"?", b"#", b"@", b"%", b"%zz"),
    *(b"reelkeeper.example.com", b"text/html", b"*/*", b";q=", b"1e9", b"-1", b".", b",", b"=", b'"', b"\\", b" "),
    *(b"__Host-reelkeeper", b"rks_", b"\xff", b"\xe2\x84\x80", b"null", b"\t"),
)
# What a header can hold at all, and what looks like a right one and is none.
TEXT = st.one_of(
    st.binary(max_size=60).map(lambda raw: bytes(byte for byte in raw if byte >= 32 and byte != 127)),
    st.lists(
        st.sampled_from(PIECES),
        max_size=8,
    ).map(b"".join),
).map(bytes.strip)
HEADERS = st.lists(
    st.tuples(st.sampled_from([b"origin", b"referer", b"host", b"cookie", b"accept"]), TEXT), max_size=6
).filter(lambda headers: not any(b"event-stream" in value for _, value in headers))  # which does not end by itself


def calls(app: Starlette, job_id: str) -> list[tuple[str, str]]:
    """Return every call of a page that there is."""
    values = {"job_id": job_id, "action": "retry", "name": "style.css"}
    return [
        (method, route.path.format(**values))
        for route in app.routes
        if isinstance(route, Route) and route.path.startswith("/status")
        for method in sorted(route.methods or ())
    ]


async def nothing(_seconds: float) -> None:
    """Pause for no time."""


@pytest.mark.parametrize("signed", [False, True])
@TRYING
@given(headers=HEADERS)
@example(headers=[(b"origin", b"http://[")])
@example(headers=[(b"referer", b"http://[")])
async def test_no_header_of_a_stranger_makes_a_page_fail(
    house: House, headers: list[tuple[bytes, bytes]], *, signed: bool
) -> None:
    house.wrong_keys = Turnstile(house.clock, nothing)
    jobs = await house.store.jobs()
    job = jobs[0] if jobs else await house.completed()
    record, _ = await house.keys.create("night shift", "acme", operator=True)
    cookie = f"__Host-reelkeeper={await house.sessions.open(record)}".encode()
    own = [(b"cookie", cookie)] if signed else []
    app = house.app()
    for method, path in calls(app, job.id):
        body = b"csrf=x&key=rk_wrong" if method == "POST" else b""
        status = await ask(app, method, path, [*headers, *own, FORM], body)
        made_here = not path.endswith("/poster")  # nobody looks into videos here, which is 501
        assert status < (500 if made_here else 502), (method, path)
    assert house.faults() == []


@pytest.mark.parametrize("wrong", ["http://[", "http://[::1", "https://\u2100.example", "//[", "http://[v1.x]:99999"])
async def test_what_is_no_url_is_another_sites_origin_and_no_way_back(house: House, wrong: str) -> None:
    job = await house.queued()
    async with signed_in(house) as browser:
        odd = {"origin": wrong.encode()}
        answer = await browser.client.post("/status/sign-in", data={"key": house.key}, headers=odd)  # type: ignore[arg-type] # httpx sends bytes, too
        assert answer.status_code == 403
        assert "Another site sent this form" in read(answer.text).one(role="alert").text
        odd = {"referer": wrong.encode(), "origin": b"https://elsewhere.example"}
        path = f"/status/jobs/{job.id}/cancel"
        assert (await browser.client.post(path, data={"csrf": "x"}, headers=odd)).status_code == 403  # type: ignore[arg-type] # as above
    assert house.faults() == []
