"""The table of addresses: how a host can be written, and what comes of each."""

from __future__ import annotations

from collections.abc import Sequence

from tests.proofs.outbound.world import CLIENTS, Finding, Internet, listening, port_of, reach
from tests.servers import answer, loopback

REFUSED: Sequence[tuple[str, Sequence[str]]] = (
    ("IPv4 loopback", ("127.0.0.1", "127.8.8.8")),
    ("… as decimal, octal, hex, short", ("2130706433", "017700000001", "0177.0.0.1", "0x7f000001", "0x7f.1", "127.1")),
    ("… with dots at the end, full-width, upper case", ("127.0.0.1.", "127。0。0。1", "LOCALHOST", "localhost.")),
    ("IPv4 private", ("10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1")),
    ("… as decimal, hex, short", ("167772161", "0xa000001", "10.1", "192.168.257")),
    ("IPv4 link-local, cloud metadata", ("169.254.169.254", "169.254.0.1")),
    ("… as decimal, hex, octal", ("2852039166", "0xa9fea9fe", "0251.0376.0251.0376")),
    ("IPv4 CGNAT", ("100.64.0.1", "100.127.255.255")),
    ("IPv4 benchmark", ("198.18.0.1", "198.19.255.255")),
    ("IPv4 multicast, reserved, broadcast", ("224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255")),
    ("IPv4 this host, assignments, documentation, 6to4 relay", (
        "0.0.0.0", "0", "192.0.0.8", "192.0.2.1", "198.51.100.7", "203.0.113.9", "192.88.99.1")),  # noqa: S104 - no listener
    ("IPv6 loopback, unspecified", ("[::1]", "[::]", "[0:0:0:0:0:0:0:1]")),
    ("IPv6 unique local, AWS metadata", ("[fc00::1]", "[fd00::1]", "[fd00:ec2::254]")),
    ("IPv6 link-local, site-local", ("[fe80::1]", "[fec0::1]")),
    ("IPv6 multicast", ("[ff02::1]", "[ff0e::1]")),
    ("IPv6 documentation", ("[2001:db8::1]", "[3fff::1]", "[3fff:fff::1]")),
    ("IPv6 segment routing 5f00::/16, discard-only", ("[5f00::1]", "[100::1]")),
    ("IPv4-mapped", ("[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::ffff:8.8.8.8]", "[::ffff:169.254.169.254]")),
    ("IPv4-compatible, translated", ("[::7f00:1]", "[::127.0.0.1]", "[::ffff:0:7f00:1]")),
    ("NAT64 64:ff9b::/96", ("[64:ff9b::7f00:1]", "[64:ff9b::a9fe:a9fe]", "[64:ff9b::10.0.0.1]")),
    ("NAT64 64:ff9b:1::/48", ("[64:ff9b:1::1]", "[64:ff9b:1::8.8.8.8]")),
    ("6to4", ("[2002:7f00:1::]", "[2002:a9fe:a9fe::]", "[2002:808:808::]")),
    ("Teredo", ("[2001::1]", "[2001:0:7f00:1::]")),
)  # fmt: skip
ALLOWED: Sequence[tuple[str, str]] = (
    ("IPv4 public", "8.8.8.8"),
    ("IPv4 beside private", "172.32.0.1"),
    ("IPv4 beside CGNAT", "100.128.0.1"),
    ("IPv6 public", "[2606:4700::1111]"),
    ("NAT64 of a public address", "[64:ff9b::808:808]"),
)
NAMES: Sequence[tuple[str, Sequence[Sequence[str]], set[str]]] = (
    ("a name with a private answer", [["10.0.0.1"]], set()),
    ("a name with a public and a private answer", [["8.8.8.8", "127.0.0.1"]], set()),
    ("a name with a public and a NAT64-wrapped answer", [["8.8.8.8", "64:ff9b::a9fe:a9fe"]], set()),
    ("a name that rebinds between look-up and connect", [["8.8.8.8"], ["127.0.0.1"]], {"8.8.8.8"}),
    ("a name that rebinds the other way", [["127.0.0.1"], ["8.8.8.8"]], set()),
)
REDIRECTS = (
    "https://127.0.0.1:{port}/", "http://127.0.0.1:{port}/", "//127.0.0.1:{port}/", "https://[::1]:{port}/",
    "https://2130706433:{port}/", "https://169.254.169.254/latest/meta-data", "https://localhost:{port}/",
    "http://8.8.8.8/", "file:///etc/passwd", "ftp://8.8.8.8/", "gopher://127.0.0.1:{port}/_GET", "data:,x",
    "javascript:x", "https://user@127.0.0.1:{port}/", "https://8.8.8.8@127.0.0.1:{port}/", "https://[", "https://xn--a/",
)  # fmt: skip


async def findings() -> list[Finding]:
    """Try every form with both clients that go where strangers say."""
    found = [await _refused(name, hosts) for name, hosts in REFUSED]
    found += [await _allowed(name, host) for name, host in ALLOWED]
    found += [await _named(*each) for each in NAMES]
    found += [await _redirected(location, hop) for location in REDIRECTS for hop in (1, 3)]
    return found


async def _refused(name: str, hosts: Sequence[str]) -> Finding:
    internet, said = Internet(), []
    async with listening() as server:
        with internet.on():
            for host in hosts:
                for client in CLIENTS:
                    said.append(await reach(client, f"https://{host}:{port_of(server)}/"))
                    said.append(await reach(client, f"http://{host}:{port_of(server)}/"))
        made = server.connections + len(internet.connected)
    got = [each for each in said if each.startswith(("got", "answered"))]
    return Finding(f"{name}: {', '.join(hosts)}", f"refused, {made} connections", not got and not made)


async def _allowed(name: str, host: str) -> Finding:
    internet = Internet()
    with internet.on():
        for client in CLIENTS:
            await reach(client, f"https://{host}/")
    plain = Internet()
    with plain.on():
        for client in CLIENTS:
            await reach(client, f"http://{host}/")
    kept = len(internet.connected) == len(CLIENTS) and not plain.connected
    return Finding(f"{name}: {host}", "allowed over https; http refused" if kept else "refused", kept)


async def _named(name: str, answers: Sequence[Sequence[str]], right: set[str]) -> Finding:
    internet = Internet()
    async with listening() as server:
        for client in CLIENTS:
            internet.names["name.example"] = list(answers)
            with internet.on():
                await reach(client, f"https://name.example:{port_of(server)}/")
        made = server.connections
    where = ", ".join(sorted(set(internet.connected))) or "none"
    return Finding(
        name, f"connections: to what was judged {where}, to us {made}", set(internet.connected) == right and not made
    )


async def _redirected(location: str, hop: int) -> Finding:
    """Redirect a download at its first hop, or at its third; a notification follows none."""
    internet = Internet()
    async with listening() as inner:
        there = location.format(port=port_of(inner))
        hops = [f"/{number}" for number in range(2, hop + 1)] + [there]
        answers = iter([answer(b"", f"Location: {each}", status=302) for each in hops])

        async def talk(_: str, writer: object) -> None:
            writer.write(next(answers))  # type: ignore[attr-defined] # a StreamWriter

        async with loopback(talk) as outer:
            with internet.on():
                said = await reach("download", outer.url("/1"), allowed=[outer.host])
            asked = len(outer.requests)
        elsewhere = [each for each in internet.connected if each != "127.0.0.1"]
        kept = not inner.connections and not elsewhere and asked == hop and not said.startswith("got")
        return Finding(f"hop {hop} to {location}", f"refused, {inner.connections} connections", kept)
