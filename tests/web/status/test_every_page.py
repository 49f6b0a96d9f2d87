"""Every page below /status, for operators and tenants, in a house in which every text wants to be more than text."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import urlencode

import pytest
from starlette.routing import Route

import service
from service.model import Job
from service.store import Wanted
from tests.web.house import House, open_house
from tests.web.status.browsing import Browser, Element, fields_of, read, signed_in
from tests.web.status.hostile import ACME, EVIL, GLOBEX, TAGS, furnish

STATIC = Path(service.__path__[0]) / "web" / "status" / "static"
DOCTYPE = "<!doctype html>\n"
MOST = 120  # addresses that one visitor opens
NAMES = "q job state provider model error tenant created_after created_before reason receiver before cursor next done"
EVIL_QUERY = urlencode(dict.fromkeys(NAMES.split(), EVIL))
ELEMENTS = """
    a article aside b bdi body br button caption circle code col colgroup dd defs desc details div dl dt em fieldset
    figcaption figure footer form g h1 h2 h3 h4 head header hr html i img input kbd label legend li line link main meta
    nav ol optgroup option p path picture polygon polyline pre rect script search section select small source span
    strong summary svg table tbody td text textarea tfoot th thead time title tr ul use video
"""
BLOCKS = "a article bdi code dd div dt h1 h2 h3 label li option p pre section td textarea th title summary"
TURNING = re.compile("[\u202a-\u202e\u2066-\u2069]")  # from here on, text runs the other way
LOADING = ("src", "href", "action", "poster", "srcset", "formaction", "data", "ping", "xlink:href")


@dataclass(frozen=True)
class Seen:
    """A page as it came."""

    address: str
    status: int
    headers: Mapping[str, str]
    text: str

    @cached_property
    def page(self) -> Element:
        assert self.text.startswith(DOCTYPE)
        return read(self.text.removeprefix(DOCTYPE))


@dataclass(frozen=True)
class Visit:
    """All that an operator and a tenant see in one house, and what in it is another tenant's."""

    operators: list[Seen]
    tenants: list[Seen]
    nobodys: list[Seen]
    foreign: list[str]  # ids
    tenants_numbers: str  # in JSON

    @property
    def all(self) -> list[Seen]:
        return [*self.operators, *self.tenants, *self.nobodys]


@pytest.fixture(scope="module")
def visit(tmp_path_factory: pytest.TempPathFactory) -> Visit:
    """Go through the house once: all that follows reads what was seen."""
    return asyncio.run(_visited(tmp_path_factory.mktemp("house")))


async def _visited(folder: Path) -> Visit:
    async with open_house(folder) as house:
        house.troubles["poll"] = TAGS
        jobs = [*await furnish(house, ACME), *await furnish(house, GLOBEX)]
        foreign = (await house.store.find(GLOBEX.tenant, Wanted(), limit=1_000)).jobs
        async with (
            signed_in(house, operator=True, name=EVIL) as operator,
            signed_in(house, name=EVIL) as tenant,
            house.client(key="") as client,
        ):
            client.headers["accept"] = "text/html"
            numbers = await tenant.client.get("/status.json")
            assert numbers.status_code == 200
            return Visit(
                await walk(house, operator, jobs),
                await walk(house, tenant, jobs),
                await walk(house, Browser(client), jobs),
                [job.id for job in foreign],
                numbers.text,
            )


async def walk(house: House, browser: Browser, jobs: list[Job]) -> list[Seen]:
    """Open every address that there is, and those that the pages lead to; return what is a page."""
    routes = [each for each in house.app().routes if isinstance(each, Route) and "GET" in (each.methods or ())]
    paths = {each.path for each in routes if each.path.startswith("/status")}
    assert {"/status", "/status/jobs/{job_id}", "/status/callbacks", "/status/deliveries"} <= paths
    waiting = [address for path in sorted(paths) for address in addresses(path, jobs)]
    waiting += ["/status/jobs/job_0", f"/status/sign-in?{urlencode({'next': EVIL})}"]
    known = set(waiting)
    found: list[Seen] = []
    while waiting:
        address = waiting.pop(0)
        answer = await browser.client.get(address)
        assert answer.status_code != 500, (address, answer.text)
        if not answer.headers.get("content-type", "").startswith("text/html"):
            continue
        seen = Seen(address, answer.status_code, dict(answer.headers), answer.text)
        found.append(seen)
        for link in seen.page.all("a"):
            if (to := link.attributes["href"]).startswith("/status") and to not in known and len(known) < MOST:
                known.add(to)
                waiting.append(to)
    return found


def addresses(route: str, jobs: list[Job]) -> Iterator[str]:
    """Yield the addresses of a route: of every job, and with evil asked."""
    if route == "/status/static/{name}":
        yield from (f"/status/static/{file.name}" for file in STATIC.iterdir())
        return
    assert set(re.findall(r"\{(\w+)\}", route)) <= {"job_id", "action"}, f"nobody opens {route}"
    paths = [route.replace("{job_id}", job.id) for job in jobs] if "{job_id}" in route else [route]
    yield from (path.replace("{action}", "cancel") for path in paths)
    yield f"{paths[0]}?{EVIL_QUERY}"


def test_the_walk_has_seen_everything(visit: Visit) -> None:
    titles = {page_of(seen) for seen in visit.operators}
    assert titles >= {
        "Overview · Reelkeeper",
        "Jobs · Reelkeeper",
        "Job",
        "Rejected callbacks · Reelkeeper",
        "Failing deliveries · Reelkeeper",
        "Not shown · Reelkeeper",
    }
    assert {seen.page.one("title").text for seen in visit.nobodys} == {"Sign in · Reelkeeper"}
    assert any("<x-evil>" in seen.page.text for seen in visit.tenants), "it is there, as text"
    assert any("Older" in seen.page.text for seen in visit.tenants)


def test_no_element_and_no_attribute_came_from_data(visit: Visit) -> None:
    for seen in visit.all:
        for element in seen.page.walk():
            assert element.tag in ELEMENTS.split(), (seen.address, element.tag)
            for name in element.attributes:
                assert re.fullmatch(r"[a-zA-Z][a-zA-Z:-]*", name), (seen.address, name)
                assert name != "evil", seen.address
        assert "<x-evil" not in seen.text, seen.address


def test_nothing_runs_and_nothing_comes_from_elsewhere(visit: Visit) -> None:
    for seen in visit.all:
        for element in seen.page.walk():
            attributes = element.attributes
            assert not [name for name in attributes if name.startswith("on") or name == "style"], seen.address
            assert element.tag != "style", seen.address
            assert element.tag != "script" or (attributes["src"] and not element.children), seen.address
            for name in LOADING:
                assert attributes.get(name, "/status").startswith(("/status", "#")), (seen.address, name, attributes)
            assert attributes.get("http-equiv", "refresh") == "refresh", seen.address


def test_every_page_tells_browsers_to_run_nothing_else(visit: Visit) -> None:
    for seen in visit.all:
        policy = {each.split()[0]: each.split()[1:] for each in seen.headers["content-security-policy"].split(";")}
        assert policy["default-src"] == ["'none'"], seen.address
        assert policy["frame-ancestors"] == policy["base-uri"] == ["'none'"], seen.address
        assert {word for words in policy.values() for word in words} == {"'none'", "'self'"}, seen.address
        assert seen.headers["x-content-type-options"] == "nosniff", seen.address
        assert seen.headers["cache-control"] == "no-store", seen.address


def test_every_form_is_ours_and_shows_that_it_is(visit: Visit) -> None:
    sent = Counter[str]()
    for seen in [*visit.operators, *visit.tenants]:
        for form in seen.page.all("form"):
            assert form.attributes["action"].startswith("/status"), seen.address
            if form.attributes["method"] == "get":
                assert "csrf" not in fields_of(form), "it would stand in the address"
                continue
            assert form.attributes["method"] == "post"
            assert len(fields_of(form)["csrf"]) > 20, (seen.address, form.attributes)
            sent[form.attributes["action"].rpartition("/")[2]] += 1
    assert sent.keys() >= {"sign-out", "cancel", "retry", "redeliver"}


def test_every_page_has_its_place_for_readers_of_every_kind(visit: Visit) -> None:
    for seen in visit.all:
        page = seen.page
        assert page.one("html").attributes["lang"] == "en", seen.address
        assert page.one("title").text, seen.address
        assert len(page.all("main")) == 1, seen.address
        headings = [int(each.tag[1]) for each in page.walk() if re.fullmatch("h[1-6]", each.tag)]
        assert headings.count(1) == 1, (seen.address, headings)
        assert all(after <= before + 1 for before, after in zip([0, *headings], headings, strict=False)), (
            seen.address,
            headings,
        )
        ids = Counter(each.attributes["id"] for each in page.walk() if "id" in each.attributes)
        assert [name for name, times in ids.items() if times > 1 or not name or re.search(r"\s", name)] == [], (
            seen.address
        )
        for element in page.walk():
            for name in ("aria-labelledby", "aria-describedby", "aria-controls", "for", "popovertarget", "list"):
                assert set(element.attributes.get(name, "").split()) <= ids.keys(), (seen.address, element.attributes)


def test_everything_that_can_be_used_or_seen_has_a_name(visit: Visit) -> None:
    for seen in visit.all:
        page = seen.page
        labelled = {label.attributes["for"] for label in page.all("label") if "for" in label.attributes and label.text}
        within = {id(each) for label in page.all("label") if label.text for each in label.walk()}
        hidden = {id(inner) for each in page.walk() if "aria-hidden" in each.attributes for inner in each.walk()}
        for element in page.walk():
            attributes = element.attributes
            named = attributes.get("aria-label") or attributes.get("aria-labelledby")
            if id(element) in hidden or "hidden" in attributes or attributes.get("type") == "hidden":
                continue
            match element.tag:
                case "input" | "select" | "textarea":
                    assert named or attributes.get("id") in labelled or id(element) in within, (
                        seen.address,
                        attributes,
                    )
                case "img":
                    assert "alt" in attributes, seen.address
                case "svg":
                    told = named or attributes.get("aria-hidden") == "true" or element.all("title")
                    assert told, (seen.address, attributes)
                case "video":
                    assert named, seen.address
                case "a" | "button" | "summary" | "th" | "label" | "legend" | "option":
                    assert named or element.text, (seen.address, element.tag, attributes)


def test_text_that_turns_the_line_turns_none_of_ours(visit: Visit) -> None:
    """A right-to-left override in a prompt may not turn the words beside it, which would say something else then."""
    turned = {
        f"{parents[-1].tag}.{parents[-1].attributes.get('class', '')} in {parents[-2].tag} of {page_of(seen)}"
        for seen in visit.all
        for parents, text in texts(seen.page, ())
        if TURNING.search(text) and not stands_alone(parents, " ".join(text.split()))
    }
    assert "code, a { unicode-bidi: isolate; }" in (STATIC / "style.css").read_text("utf-8")
    assert not turned, "\n".join(sorted(turned))


def stands_alone(parents: Sequence[Element], text: str) -> bool:
    """Tell whether a text is all that a block holds."""
    for each in reversed(parents):
        if each.text != text:
            return False
        if each.tag in BLOCKS.split():
            return True
    return False


def page_of(seen: Seen) -> str:
    return seen.page.one("title").text.partition(" job_")[0]


def texts(element: Element, parents: tuple[Element, ...]) -> Iterator[tuple[tuple[Element, ...], str]]:
    for each in element.children:
        if isinstance(each, str):
            yield (*parents, element), each
        else:
            yield from texts(each, (*parents, element))


def test_a_tenant_sees_nothing_of_another(visit: Visit) -> None:
    assert len(visit.foreign) > GLOBEX.queued
    foreign = [GLOBEX.tenant, "globexword", "globexhooks", *visit.foreign]
    numbers = re.compile(rf"(?<![\w.,]){GLOBEX.queued}(?![\w.,]*\w)|91\.73|918,273|918\.3|918 MB|918273")
    all_of_it = "\n".join(seen.text for seen in visit.operators)
    assert all(word in all_of_it for word in [*foreign[:3], visit.foreign[0]]), "there is something to be seen"
    assert numbers.search("\n".join(seen.page.text for seen in visit.operators))
    for seen in visit.tenants:
        asked = seen.address if EVIL_QUERY in seen.address else ""
        for word in foreign:
            at = seen.text.find(word)
            assert at < 0 or word in seen.address or asked, (seen.address, seen.text[max(0, at - 200) : at + 100])
        found = numbers.search(seen.page.text)
        assert found is None, (seen.address, found)
    for word in foreign:
        assert word not in visit.tenants_numbers
    assert not numbers.search(visit.tenants_numbers)


def test_a_tenant_is_told_that_another_tenants_job_is_not_there(visit: Visit) -> None:
    theirs = [seen for seen in visit.tenants if re.fullmatch(r"/status/jobs/job_\w{26}", seen.address)]
    status = {seen.address.rpartition("/")[2]: seen.status for seen in theirs}
    assert {status[job_id] for job_id in status if job_id in visit.foreign} == {404}
    assert {status[job_id] for job_id in status if job_id not in visit.foreign} == {200}
