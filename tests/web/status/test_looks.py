"""What pages are made of: strict headers, files of our own, and colours that can be read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import service.web.status
from service.model import EVENTS, Source
from tests.web.house import House
from tests.web.status.browsing import read, signed_in

FOLDER = Path(service.web.status.__file__).parent
STYLE = (FOLDER / "static" / "style.css").read_text(encoding="utf-8")
LIGHT, DARK = STYLE.partition("@media (prefers-color-scheme: dark)")[::2]
STATES = ("queued", "submitting", "running", "mirroring", "completed", "failed", "cancelled", "expired")


def palette(*, dark: bool) -> dict[str, tuple[int, int, int]]:
    """Return the colours of a scheme by their names."""
    found: dict[str, tuple[int, int, int]] = {}
    for part in (LIGHT.partition("}")[0], DARK.partition("}")[0]) if dark else (LIGHT.partition("}")[0],):
        for name, red, green, blue in re.findall(r"--([\w-]+): #(\w\w)(\w\w)(\w\w);", part):
            found[name] = (int(red, 16), int(green, 16), int(blue, 16))
    return found


def luminance(colour: tuple[int, int, int]) -> float:
    parts = [each / 255 for each in colour]
    linear = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: tuple[int, int, int], other: tuple[int, int, int]) -> float:
    """Return the ratio as WCAG 2 has it."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_contrast_is_computed_as_the_standard_has_it() -> None:
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)
    assert contrast((0x77, 0x77, 0x77), (255, 255, 255)) == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("dark", [False, True])
def test_text_can_be_read_wherever_it_stands(*, dark: bool) -> None:
    colours = palette(dark=dark)
    pairs = [(text, ground) for text in ("ink", "soft", "accent") for ground in ("ground", "surface", "sunken")]
    pairs += [(state, ground) for state in STATES for ground in (f"{state}-tint", "surface")]
    pairs += [("on-accent", "accent"), ("failed", "sunken")]
    poor = {pair: contrast(colours[pair[0]], colours[pair[1]]) for pair in pairs}
    assert {pair: ratio for pair, ratio in poor.items() if ratio < 4.5} == {}
    assert contrast(colours["edge"], colours["surface"]) >= 3, "the edge of a field is seen"


def test_every_colour_has_a_dark_one() -> None:
    light, dark = palette(dark=False), palette(dark=True)
    assert set(light) == set(dark)
    assert [name for name, colour in light.items() if dark[name] == colour] == []


async def test_every_page_has_a_strict_policy_and_is_kept_by_nobody(house: House) -> None:
    async with signed_in(house) as browser:
        for path, status in (("/status", 200), ("/status/sign-in", 303), ("/status/nothing", 404)):
            answer = await browser.client.get(path)
            assert answer.status_code == status
            policy = answer.headers["content-security-policy"]
            assert set(policy.split("; ")) == {
                "default-src 'none'",
                *(f"{kind}-src 'self'" for kind in ("script", "style", "img", "media", "connect")),
                "form-action 'self'",
                "frame-ancestors 'none'",
                "base-uri 'none'",
            }
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "same-origin"
            assert answer.headers["cache-control"] == "no-store"


async def test_every_file_that_a_page_names_is_ours_and_kept_until_it_changes(house: House) -> None:
    async with house.client(key="") as client:
        page = read((await client.get("/status/sign-in")).text)
        links = [each.attributes["href"] for each in page.all("link")]
        links += [each.attributes["src"] for each in page.all("script")]
        assert {link.partition(".")[2].partition("?")[0] for link in links} == {"css", "js", "svg"}
        for link in links:
            answer = await client.get(link)
            assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
            assert answer.headers["x-content-type-options"] == "nosniff"
            kind = answer.headers["content-type"].partition(";")[0]
            assert kind in {"text/css", "text/javascript", "image/svg+xml"}
            plain = link.partition("?")[0]
            assert (await client.get(plain)).headers["cache-control"] == "no-cache"
            same = await client.get(plain, headers={"if-none-match": answer.headers["etag"]})
            assert (same.status_code, same.content) == (304, b"")
            assert answer.content == (FOLDER / "static" / plain.rpartition("/")[2]).read_bytes()


@pytest.mark.parametrize("name", ["nothing.css", "..%2fpages.py", "%2e%2e%2fpages.py", "style.css%00", "STYLE.CSS", ""])
async def test_nothing_else_is_served(house: House, name: str) -> None:
    async with house.client(key="") as client:
        assert (await client.get(f"/status/static/{name}")).status_code == 404


def test_no_template_has_style_or_script_of_its_own_or_lets_anything_unescaped() -> None:
    for path in (FOLDER / "templates").iterdir():
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"\sstyle=|\son[a-z]+=|javascript:|<style|<script(?! src=)", text), path
        assert not re.search(r"\|\s*safe|autoescape|https?://", text), path


def test_every_class_and_every_macro_is_used() -> None:
    styles = "".join(path.read_text("utf-8") for path in sorted((FOLDER / "static").glob("*.css")))
    bare = re.sub(r"\{[^{}]*\}", "", re.sub(r"/\*.*?\*/", "", styles, flags=re.DOTALL))
    templates = {path.name: path.read_text("utf-8") for path in (FOLDER / "templates").iterdir()}
    words = set(
        re.findall(r"[\w-]+", " ".join([*templates.values(), (FOLDER / "static" / "live.js").read_text("utf-8")]))
    )
    made = {
        *STATES,
        *Source,
        *(f"of-{state}" for state in STATES),
        *(event.removeprefix("job.") for event in EVENTS),
        "undelivered",
    }
    assert set(re.findall(r"\.([a-z][\w-]*)", bare)) - words - made == set()
    for name, text in templates.items():
        imported = re.findall(r"from \"_parts.html\" import (.*?) %}", text) if name != "_parts.html" else []
        for each in [word for names in imported for word in names.split(", ")]:
            assert f"{each}(" in text, (name, each)
