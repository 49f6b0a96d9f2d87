"""A browser of few means: it signs in, reads pages as `html.parser` does, and sends their forms."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser

import httpx

from tests.web.house import PUBLIC_URL, House

_EMPTY = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
)


@dataclass
class Element:
    """An element, with what is in it."""

    tag: str
    attributes: dict[str, str] = field(default_factory=dict)
    children: list[Element | str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All its text, with white space as it is shown."""
        parts = (each if isinstance(each, str) else f" {each.text} " for each in self.children)
        return " ".join("".join(parts).split())

    def all(self, tag: str = "", **attributes: str) -> list[Element]:
        """Return the elements in it with a tag and attributes, in order; `class_` is one of its classes."""
        wanted = attributes.pop("class_", "")
        return [
            each
            for each in self.walk()
            if tag in ("", each.tag)
            and wanted in ("", *each.attributes.get("class", "").split())
            and all(each.attributes.get(name) == value for name, value in attributes.items())
        ]

    def one(self, tag: str = "", **attributes: str) -> Element:
        """Return the only such element."""
        [found] = self.all(tag, **attributes)
        return found

    def walk(self) -> Iterator[Element]:
        """Yield every element in it, in order."""
        for each in self.children:
            if isinstance(each, Element):
                yield each
                yield from each.walk()


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open = [Element("")]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"<{tag}> has an attribute twice: {attrs}"
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(element)
        if tag not in _EMPTY:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _EMPTY:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, f"</{tag}> ends <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"nobody reads a comment: {data}")


def read(html: str) -> Element:
    """Return a page as a tree. Every element must end, in order, and have each attribute once."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    [whole] = reader.open
    return whole


@dataclass
class Browser:
    """Somebody who is signed in."""

    client: httpx.AsyncClient

    async def see(self, path: str, status: int = 200) -> Element:
        """Open a page."""
        answer = await self.client.get(path)
        assert answer.status_code == status, answer.text
        return read(answer.text)

    async def send(self, form: Element, **fields: str) -> httpx.Response:
        """Send a form, with some fields changed."""
        assert form.attributes["method"] == "post"
        return await self.client.post(form.attributes["action"], data={**fields_of(form), **fields})


def fields_of(form: Element) -> Mapping[str, str]:
    """Return what a form sends as it is."""
    return {each.attributes["name"]: each.attributes.get("value", "") for each in form.all("input")}


@asynccontextmanager
async def signed_in(
    house: House, tenant: str = "acme", *, operator: bool = False, name: str = "night shift"
) -> AsyncIterator[Browser]:
    """Open a session with a new key."""
    _, key = await house.keys.create(name, tenant, operator=operator)
    async with house.client(key="") as client:
        client.headers.update({"accept": "text/html", "origin": PUBLIC_URL, "sec-fetch-site": "same-origin"})
        answer = await client.post("/status/sign-in", data={"key": key, "next": "/status"})
        assert answer.status_code == 303, answer.text
        yield Browser(client)
