"""The pages' templates: everything in them is escaped, and a word that nobody gave is an error."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import markupsafe
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from service.model import State
from service.web.status import writing
from service.web.views import rfc3339

_FOLDER = Path(__file__).parent
_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
_CODE = re.compile("`([^`]+)`")
_LASTING = "public, max-age=31536000, immutable"

HEADERS: Mapping[str, str] = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "media-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
    "vary": "Accept",
}
"""What every page says to browsers."""


class Files:
    """The files beside the templates: read once, named with their hash, so that browsers may keep them."""

    def __init__(self) -> None:
        self._files = {path.name: path.read_bytes() for path in (_FOLDER / "static").iterdir() if path.suffix in _TYPES}
        self._hashes = {name: hashlib.sha256(content).hexdigest()[:16] for name, content in self._files.items()}

    def address(self, name: str) -> str:
        """Return where a file is read; KeyError for one that does not exist."""
        return f"/status/static/{name}?v={self._hashes[name]}"

    async def read(self, request: Request) -> Response:
        """Send a file; for ever, to who asks for it by its hash."""
        name = request.path_params["name"]
        if name not in self._files:
            raise HTTPException(404)
        etag = f'"{self._hashes[name]}"'
        lasting = request.query_params.get("v") == self._hashes[name]
        headers = {
            "etag": etag,
            "cache-control": _LASTING if lasting else "no-cache",
            "x-content-type-options": "nosniff",
        }
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers=headers)
        return Response(self._files[name], headers=headers, media_type=_TYPES[Path(name).suffix])


def with_code(sentence: str) -> markupsafe.Markup:
    """Return a sentence in which what stands in `backticks` is code."""
    return markupsafe.Markup(_CODE.sub(r"<code>\1</code>", str(markupsafe.escape(sentence))))  # noqa: S704 - escaped before


class Templates:
    """Writes pages; `files` is what they link to."""

    def __init__(self, files: Files) -> None:
        self._environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_FOLDER / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._environment.globals |= {"static": files.address, "states": list(State)}
        self._environment.filters |= {
            "with_code": with_code,
            "ago": writing.ago,
            "coarse": writing.coarse,
            "span": writing.span,
            "size": writing.size,
            "money": writing.money,
            "percent": writing.percent,
            "moment": writing.moment,
            "rfc3339": rfc3339,
        }

    def text(self, template: str, facts: Mapping[str, Any]) -> str:
        """Return the page that `template` makes of `facts`."""
        return self._environment.get_template(template).render(facts)

    def page(
        self, template: str, facts: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None
    ) -> HTMLResponse:
        """Answer with a page."""
        return HTMLResponse(self.text(template, facts), status, {**HEADERS, **(headers or {})})
