"""Which addresses belong to the public internet, and which hosts the operator lets strangers' URLs name nevertheless.

Python's `is_global` alone is not enough: it overlooks addresses that wrap others, such as `::7f00:1` and
`64:ff9b::7f00:1`. Sources: the registries of special-purpose addresses (RFC 6890), RFC 6052 and 8215 (NAT64),
RFC 3056 (6to4), RFC 4380 (Teredo), RFC 9637 (3fff::/20) and RFC 9602 (5f00::/16).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from service.errors import ConfigurationError

SETTING = "REELKEEPER_ALLOWED_PRIVATE_HOSTS"

_ENTRY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^][\s:/?#@\\]+):([0-9]{1,5})", re.ASCII)
_MOST_PORT = 65_535

_NOT_PUBLIC_V4 = tuple(
    IPv4Network(each)
    for each in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
        "224.0.0.0/4", "240.0.0.0/4",
    )
)  # fmt: skip
_GLOBAL_V6 = IPv6Network("2000::/3")  # all other IPv6 space is private, local, multicast, mapped, or not assigned
_NOT_PUBLIC_V6 = tuple(
    IPv6Network(each)
    for each in (
        "2001::/23",  # protocol assignments, Teredo among them
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which wraps any IPv4 address
        "3fff::/20",  # documentation
    )
)
_NAT64 = IPv6Network("64:ff9b::/96")


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Tell whether an address belongs to the public internet; wrapped IPv4 is judged or refused, never overlooked."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_V4)
    if address in _NAT64:
        return is_public(IPv4Address(address.packed[-4:]))
    return address in _GLOBAL_V6 and not any(address in network for network in _NOT_PUBLIC_V6)


def normal(host: str) -> str:
    """Return a host name in the one form that is compared."""
    host = host.lower().rstrip(".")
    try:
        return IPv6Address(host.strip("[]")).compressed
    except ValueError:
        return host


def hosts_and_ports(entries: Collection[str]) -> frozenset[tuple[str, int]]:
    """Return what a setting lists as `host:port`. Raises ConfigurationError for an entry that is something else."""
    return frozenset(_host_and_port(entry) for entry in entries)


def _host_and_port(entry: str) -> tuple[str, int]:
    found = _ENTRY.fullmatch(entry.strip())
    if found is None or not 0 < int(found[2]) <= _MOST_PORT:
        raise ConfigurationError([f"{SETTING} has {entry!r}; write host:port, for example minio.internal:9000"])
    return normal(found[1]), int(found[2])
