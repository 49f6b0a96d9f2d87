"""How times, sizes and sums are written for people."""

from __future__ import annotations

from datetime import UTC, datetime

_UNITS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"))
_SECOND = 1000
_STEP = 1000  # of kB, MB, GB
_SOON = 10  # a few of these are told with a tenth


def ago(milliseconds: int) -> str:
    """Return "12 s ago", "3 min ago", "in 5 s" for what is still to come."""
    return f"in {coarse(-milliseconds)}" if milliseconds < 0 else f"{coarse(milliseconds)} ago"


def coarse(milliseconds: int) -> str:
    """Return a span in its largest unit: "12 s", "3 min", "5 h", "2 d"."""
    for unit, name in _UNITS:
        if milliseconds >= unit:
            return f"{milliseconds // unit} {name}"
    return f"{max(0, milliseconds) // _SECOND} s"


def span(milliseconds: float | None) -> str:
    """Return a duration as "850 ms", "2.4 s", "48 s", "4 min 5 s", "2 h 10 min", "3 d 4 h"; of None a dash."""
    if milliseconds is None:
        return "–"  # noqa: RUF001 - a dash, for people
    if milliseconds < _SECOND:
        return f"{milliseconds:.0f} ms"
    if milliseconds < _SOON * _SECOND:
        return f"{milliseconds / _SECOND:.1f} s"
    seconds = round(milliseconds / _SECOND)
    for size, name, smaller, its_name in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= size:
            rest = seconds % size // smaller
            return f"{seconds // size} {name} {rest} {its_name}" if rest else f"{seconds // size} {name}"
    return f"{seconds} s"


def size(count: int | None) -> str:
    """Return bytes as "950 B", "1.2 MB", "34 GB"; of None a dash."""
    if count is None:
        return "–"  # noqa: RUF001 - a dash, for people
    amount = float(count)
    for name in ("B", "kB", "MB", "GB", "TB"):
        if amount < _STEP or name == "TB":
            break
        amount /= _STEP
    return f"{amount:.1f} {name}" if amount < _SOON and name != "B" else f"{amount:.0f} {name}"


def money(dollars: float | None) -> str:
    """Return "$1,234.50", "$0.0042", of None a dash."""
    if dollars is None:
        return "–"  # noqa: RUF001 - a dash, for people
    small = 0 < abs(dollars) < 0.1  # noqa: PLR2004 - ten cents, below which a hundredth says little
    return f"${dollars:,.4f}" if small else f"${dollars:,.2f}"


def percent(share: float | None) -> str:
    """Return a share as "97 %", "0.4 %"; never "100 %" of less than all, nor "0 %" of something; of None a dash."""
    if share is None:
        return "–"  # noqa: RUF001 - a dash, for people
    if share in {0, 1}:
        return f"{share:.0%}".replace("%", " %")
    return f"{min(max(share * 100, 0.1), 99.9):.3g} %"


def moment(milliseconds: int | None) -> str:
    """Return unix ms as "2026-09-21 14:13:20 UTC"; of None a dash."""
    if milliseconds is None:
        return "–"  # noqa: RUF001 - a dash, for people
    return f"{datetime.fromtimestamp(milliseconds // _SECOND, UTC):%Y-%m-%d %H:%M:%S} UTC"
