"""Where a caller wants to be told: addresses that a delivery could never reach are refused with the request itself.

Names are looked up when a delivery is sent, and judged each time: what a name stands for today says nothing of then.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from urllib.parse import urlsplit

from service.addresses import is_public
from service.model import Problem

_LONGEST = 2_048  # characters
_TEXT = re.compile(r"[!-~]+", re.ASCII)
_NUMBER = re.compile(r"([0-9]+|0x[0-9a-f]*)", re.ASCII)
_EXAMPLE = "for example https://example.com/hooks/videos"
_PORTS = {"https": 443, "http": 80}


def notify_problems(field: str, url: str | None, allowed: Collection[str]) -> list[Problem]:
    """Return what is wrong with the address in `field`, as `check_notify_url` says it; nothing when there is none."""
    try:
        if url is not None:
            check_notify_url(url, allowed)
    except ValueError as error:
        return [Problem(field, str(error))]
    return []


def check_notify_url(url: str, allowed: Collection[str]) -> None:
    """Raise ValueError, with the end of a sentence that begins with the field's name, if `url` can be no receiver's.

    `allowed` are `host:port` in lower case, IPv6 in brackets (`minio.internal:9000`, `[::1]:9000`): these may have any
    address and be told over plain http.
    """
    if len(url) > _LONGEST:
        raise ValueError(f"must have at most {_LONGEST:,} characters")
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        host, port = "", None
    if not _TEXT.fullmatch(url) or not host or port == 0 or parts.scheme not in _PORTS:
        raise ValueError(f"must be an https:// URL, {_EXAMPLE}")
    if "@" in parts.netloc:
        raise ValueError(
            "must hold no user name and no password; a receiver knows a message by its signature, "
            "or by a token of yours in the path"
        )
    if _known_as(host, _PORTS[parts.scheme] if port is None else port) in allowed:
        return
    if parts.scheme != "https":
        raise ValueError(
            f"must begin with https://, {_EXAMPLE}; "
            "plain http is for hosts that the operator lists in REELKEEPER_ALLOWED_PRIVATE_HOSTS"
        )
    if _never_public(host):
        raise ValueError(
            "must have a host on the public internet; "
            "the operator can allow a private one in REELKEEPER_ALLOWED_PRIVATE_HOSTS"
        )


def _known_as(host: str, port: int) -> str:
    try:
        return f"[{ipaddress.IPv6Address(host)}]:{port}"
    except ValueError:
        return f"{host}:{port}"


def _never_public(host: str) -> bool:
    """Tell whether a host is an address that is not public, or a name that cannot stand for one."""
    try:
        return not is_public(ipaddress.ip_address(host))
    except ValueError:
        # A name that ends in a number is an address in one of its old forms: 127.1, 0x7f000001. What is percent-encoded
        # may be anything, for whoever decodes it: 127.0.0.1%2e.
        last = host.rpartition(".")[2]
        return "%" in host or last == "localhost" or _NUMBER.fullmatch(last) is not None
