"""What a request for a page says about who sent it: which form it wants, from where it came, where it goes next."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import SplitResult, parse_qsl, quote, unquote_plus, urlsplit

from starlette.requests import Request

from service.web.body import read_body
from service.web.refusals import RefusalError

HOME = "/status"
SIGN_IN = "/status/sign-in"
_LONGEST_FORM = 65_536  # bytes
_FORM_SECONDS = 10.0
_MOST_FIELDS = 50
_HERE = re.compile(r"/status(?:/[\w.~%/-]*)?(?:\?[\w.~%!$&'()*+,;=:@/?-]*)?", re.ASCII)
_WEIGHT = re.compile(r"\s*q=([01](?:\.[0-9]{0,3})?)\s*", re.IGNORECASE | re.ASCII)


def wants_html(request: Request) -> bool:
    """Tell whether a client would rather have a page than JSON: browsers say so, and `*/*` alone does not."""
    weights = _weights(",".join(request.headers.getlist("accept")))
    html = weights.get("text/html", 0.0)
    return html > 0 and html >= weights.get("application/json", 0.0)


def _weights(accept: str) -> Mapping[str, float]:
    found: dict[str, float] = {}
    for each in accept.split(","):
        kind, *parameters = each.split(";")
        given = next(filter(None, map(_WEIGHT.fullmatch, parameters)), None)
        found[kind.strip().lower()] = float(given[1]) if given else 1.0
    return found


def is_here(address: str) -> bool:
    """Tell whether an address is one of the status pages on this host, and can be nothing else to any browser."""
    path = address.partition("?")[0]
    return _HERE.fullmatch(address) is not None and "//" not in path and ".." not in path and "%" not in path


def address_of(request: Request) -> str:
    """Return the path and query of a request, if it is one of the status pages, else where they begin."""
    query = request.scope.get("query_string", b"").decode("latin-1")
    path = quote(request.scope["path"])
    address = without_done(f"{path}?{query}")
    return address if is_here(address) else HOME


def done(request: Request) -> str:
    """Return the word after `?done=` by which the answer to a form says what was done.

    It is "" when somebody else's link says so: every browser tells who sent it, and nothing was done.
    """
    own = request.headers.get("sec-fetch-site", "same-origin") == "same-origin"
    return request.query_params.get("done", "") if own else ""


def without_done(address: str) -> str:
    """Return an address that says nothing of what was done."""
    path, _, query = address.partition("?")
    kept = "&".join(each for each in query.split("&") if unquote_plus(each.partition("=")[0]) != "done")
    return f"{path}?{kept}" if kept else path


def sign_in_address(address: str) -> str:
    """Return where to sign in to see `address`."""
    return SIGN_IN if address == HOME else f"{SIGN_IN}?next={quote(address, safe='/')}"


def where_form_was(request: Request) -> str:
    """Return the address of the page whose form was sent, as far as the browser tells."""
    referer = _parts(request.headers.get("referer", ""))
    address = f"{referer.path}?{referer.query}" if referer.query else referer.path
    return address if referer.netloc == request.headers.get("host") and is_here(address) else HOME


def _parts(url: str) -> SplitResult:
    """Return the parts of what anybody may have sent as a URL: none of what is no URL, such as "http://["."""
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")


def is_link_from_elsewhere(request: Request) -> bool:
    """Tell whether another site's link led here: then the browser kept the session's cookie to itself."""
    return (
        request.method == "GET"
        and request.headers.get("sec-fetch-site") in {"cross-site", "same-site"}
        and request.headers.get("sec-fetch-mode") == "navigate"
        and request.headers.get("sec-fetch-dest") == "document"
    )


def require_own_form(request: Request, public_url: str) -> None:
    """Refuse what another site's page made a browser send. Raises RefusalError (403).

    Every browser tells one of these headers with a form; programs that tell neither have no cookie to be abused.
    """
    site, origin = request.headers.get("sec-fetch-site", "same-origin"), request.headers.get("origin")
    theirs = _parts(origin) if origin is not None else None
    ours = urlsplit(public_url)
    known = theirs is None or (
        (theirs.scheme, theirs.netloc) == (ours.scheme, ours.netloc)
        or (theirs.scheme in {"http", "https"} and theirs.netloc == request.headers.get("host"))
    )
    if site != "same-origin" or not known:
        raise RefusalError(
            403,
            "foreign_origin",
            f"Another site sent this form, so nothing was done; open {HOME} yourself and press the button there.",
        )


async def read_form(request: Request) -> dict[str, str]:
    """Return the fields of a small form, the last of each name. Raises RefusalError (400, 408, 413, 415)."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise RefusalError(415, "unsupported_media_type", "A form is sent as application/x-www-form-urlencoded.")
    body = await read_body(request, limit=_LONGEST_FORM, seconds=_FORM_SECONDS)
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS))
    except ValueError:
        raise RefusalError(400, "invalid_form", "The form cannot be read; go back, reload and try again.") from None
