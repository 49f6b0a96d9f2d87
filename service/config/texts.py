"""How the values of settings are written: each function reads one kind, and raises ValueError that says what is wrong.

The sentences go on after the setting's name: "REELKEEPER_PUBLIC_URL" "must begin with https://, because …".
"""

from __future__ import annotations

import base64
import ipaddress
import re
from importlib import metadata
from pathlib import Path

from pydantic import BeforeValidator, HttpUrl, TypeAdapter, ValidationError

_LARGEST_PORT = 65535
_KEY_BYTES = 32
_DIFFERENT_BYTES = 16  # of 32 random bytes fewer are different about once in 10^20 keys
_SIZES = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_HTTP_URL = TypeAdapter(HttpUrl)
_SENDS_TRACES = "opentelemetry-exporter-otlp-proto-http"  # of the extra `otel`


def _items(text: str) -> list[str]:
    items = [item.strip() for item in text.split(",") if item.strip()]
    if not items:
        raise ValueError("holds nothing but commas")
    return items


def _url(text: str) -> HttpUrl:
    try:
        url = _HTTP_URL.validate_python(text)
    except ValidationError:
        raise ValueError("is not an http or https URL") from None
    if url.username is not None or url.password is not None:
        raise ValueError("holds a user name or password; leave them out")
    if url.query is not None or url.fragment is not None:
        raise ValueError("holds a ? or #; leave out what begins there")
    return url


def base_url(text: str) -> str:
    """Read an http or https URL without credentials and query; return it without a slash at its end."""
    return str(_url(text)).rstrip("/")


def collector(text: str) -> str:
    """Read where traces go, the URL of a collector; any text, where the extra that sends them is not installed.

    Platforms give this variable to every container, whether it traces or not.
    """
    try:
        metadata.distribution(_SENDS_TRACES)
    except metadata.PackageNotFoundError:
        return text
    return base_url(text)


def public_url(text: str) -> str:
    """Read a URL that others reach us at: https, or plain http on this machine alone."""
    url = _url(text)
    if url.scheme != "https" and not _is_loopback(str(url.host)):
        raise ValueError("must begin with https://, because providers reach it over the internet")
    return str(url).rstrip("/")


def service_url(text: str) -> str:
    """Read the URL of a running service that is asked with an API key: https, or plain http on this machine alone."""
    url = _url(text)
    if url.scheme != "https" and not _is_loopback(str(url.host)):
        raise ValueError("must begin with https://, because an API key goes with every request")
    return str(url).rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def secret_keys(text: str) -> tuple[bytes, ...]:
    """Read a list of keys, each of 32 or more random bytes in base64 or hex."""
    places = [f", as key {place}," for place, _ in enumerate(_items(text), start=1)]
    return tuple(map(_secret_key, _items(text), places if len(places) > 1 else [""]))


def _secret_key(text: str, place: str) -> bytes:
    try:
        # Text of hex digits alone is hex at any length: read as base64 it would look longer than it is.
        if re.fullmatch(r"[0-9a-fA-F]+", text):
            key = bytes.fromhex(text)
        else:
            standard = text.replace("-", "+").replace("_", "/")
            key = base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except ValueError:
        raise ValueError(f"holds{place} text that is neither base64 nor hex") from None
    if len(key) < _KEY_BYTES:
        raise ValueError(f"holds{place} only {len(key)} bytes; {_KEY_BYTES} or more are needed")
    if len(set(key)) < _DIFFERENT_BYTES:
        raise ValueError(f"holds{place} bytes that repeat too much to be random")
    return key


def database(text: str) -> Path:
    """Read a URL as SQLAlchemy writes those of SQLite; return the file's path."""
    scheme, mark, path = text.partition(":///")
    if not mark or scheme != "sqlite":
        raise ValueError("must begin with sqlite:///, the only database that is spoken, and name a file")
    if not path or path.endswith("/") or "?" in path or path == ":memory:":
        raise ValueError("must end with a file's name, without options, because a restart must find the jobs again")
    return Path(path)


def storage(text: str) -> str:
    """Read a folder's path or the URL of a bucket."""
    scheme, mark, rest = text.partition("://")
    if not mark:
        if re.match(r"(file|s3|gs|az):", text):
            raise ValueError("has a scheme without ://")
        return text
    if scheme not in {"file", "s3", "gs", "az"}:
        raise ValueError("must be a folder or begin with file:///, s3://, gs:// or az://")
    if any(mark in rest for mark in "?#@"):
        raise ValueError("holds a ?, # or @; credentials and options come by the variables of the storage's own tools")
    if scheme == "file" and not rest.startswith("/"):
        raise ValueError("must name an absolute folder after file://, so that there are three slashes")
    if scheme != "file" and not re.match(r"[A-Za-z0-9]", rest):
        raise ValueError(f"names no bucket after {scheme}://")
    return text


def hosts(text: str) -> frozenset[str]:
    """Read a list of `host:port`, IPv6 in brackets."""
    return frozenset(_host(item.lower(), place) for place, item in enumerate(_items(text), start=1))


def _host(text: str, place: int) -> str:
    found = re.fullmatch(r"(?:\[(?P<six>[0-9a-f:.]+)\]|(?P<name>[a-z0-9_.-]+)):(?P<port>[0-9]{1,5})", text)
    if not found or not 0 < int(found["port"]) <= _LARGEST_PORT:
        raise ValueError(f"must hold host:port, without scheme or path and IPv6 in brackets; entry {place} is not")
    host = found["six"] or found["name"].rstrip(".")
    try:
        if found["six"]:
            host = f"[{ipaddress.IPv6Address(host)}]"
        elif host.rpartition(".")[2].isdigit():
            host = str(ipaddress.IPv4Address(host))
    except ValueError:
        raise ValueError(f"holds, as entry {place}, an address that does not exist") from None
    return f"{host}:{int(found['port'])}"


def whole_number(lowest: int, highest: int, unit: int = 1) -> BeforeValidator:
    """Return what reads a whole number from `lowest` to `highest`, times `unit`."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text, re.ASCII) or not lowest <= int(text) <= highest:
            raise ValueError(f"must be a whole number from {lowest} to {highest}")
        return int(text) * unit

    return BeforeValidator(read)


def byte_count(text: str) -> int:
    """Read a number of bytes, with or without a unit such as MiB."""
    found = re.fullmatch(r"([0-9]{1,18}) ?([A-Z]*)", text.upper())
    if not found or found[2] not in _SIZES or not int(found[1]):
        raise ValueError("must be a whole number of bytes above 0, or of KB, MB, GB, KiB, MiB or GiB")
    return int(found[1]) * _SIZES[found[2]]


def credential(text: str) -> str:
    """Read a key or secret: printable ASCII without spaces."""
    if not re.fullmatch(r"[\x21-\x7e]+", text):
        raise ValueError("holds a space, a line break or a character outside ASCII; paste it again")
    return text


def credentials(text: str) -> tuple[str, ...]:
    """Read a list of keys or secrets."""
    return tuple(credential(item) for item in _items(text))
