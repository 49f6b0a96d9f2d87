"""The system calls of a process and its children that matter to what is on disk and what was sent, by `strace`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.servers import find_program

_WRITES = ("pwrite64", "write", "writev", "pwritev", "pwritev2", "sendto", "sendmsg")
_OTHERS = (
    "openat", "fsync", "fdatasync", "sync_file_range", "rename", "renameat", "renameat2", "link", "linkat", "unlink",
    "unlinkat", "mkdir", "mkdirat", "ftruncate", "fallocate", "lseek", "copy_file_range", "sendfile",
)  # fmt: skip
_LINE = re.compile(r"(?P<pid>\d+) +(?:(?P<name>\w+)\((?P<args>.*)|<\.\.\. (?P<resumed>\w+) resumed>(?P<rest>.*))$")
_END = re.compile(r"\)? += (?P<result>-?\d+|\?)(?:<|\s|$)")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_ANGLE = re.compile(r"<((?:\\x[0-9a-f]{2})+)(?:\(deleted\))?>")
_SOCKET = re.compile(r"^\d+<(?:TCP|TCPv6):\[(?P<ends>[^]]*)\]>")


@dataclass(slots=True)
class Call:
    """One call. `path` is the file that its descriptor stands for; `ends` those of its TCP connection, ours first.

    `texts` are its strings: paths, or what is written. `numbers` are its last arguments that are numbers, in order.
    """

    name: str
    path: str | None
    ends: str | None
    texts: list[bytes]
    numbers: list[int]
    flags: str
    result: int | None = None

    @property
    def data(self) -> bytes:
        """What it writes or sends."""
        return b"".join(self.texts)


@dataclass(frozen=True, slots=True)
class Moment:
    """A call begins, or (`returned`) has returned, in the order in which the kernel reported it."""

    call: Call
    returned: bool


def tracing(output: Path) -> list[str]:
    """Return the command that runs another one and writes its calls to `output`."""
    strace = find_program("strace", "apt-get install strace")
    wanted = ",".join((*_WRITES, *_OTHERS))
    return [
        strace,
        "-f",
        "-yy",
        "-xx",
        "-s",
        "4000000",
        "--seccomp-bpf",
        "-qq",
        "-e",
        f"trace={wanted}",
        "-o",
        str(output),
    ]


def moments(output: Path) -> Iterator[Moment]:
    """Read what `tracing` wrote. Raises ValueError on a line that it does not understand."""
    open_calls: dict[str, Call] = {}
    with output.open("r", encoding="latin-1") as lines:
        for line in lines:
            if "+++ " in line[:20] or "--- " in line[:20]:
                continue
            found = _LINE.match(line)
            if found is None:
                raise ValueError(f"this is no line of strace's: {line[:200]!r}")
            if found["name"] is not None:
                call = _call(found["name"], found["args"])
                yield Moment(call, returned=False)
                if "<unfinished ...>" in line[-40:]:
                    open_calls[found["pid"]] = call
                    continue
            else:
                call = open_calls.pop(found["pid"])
            end = list(_END.finditer(line))
            call.result = int(end[-1]["result"]) if end and end[-1]["result"] != "?" else -1
            yield Moment(call, returned=True)


def _call(name: str, args: str) -> Call:
    args = re.sub(r" *<unfinished \.\.\.>$", "", _END.split(args)[0]) if _END.search(args) else args
    first, _, rest = args.partition(", ")
    angle, socket = _ANGLE.search(first), _SOCKET.match(first)
    by_descriptor = angle is not None and not first.startswith("AT_FDCWD")
    return Call(
        name,
        _text(angle[1]).decode() if angle and by_descriptor else None,
        socket["ends"] if socket else None,
        [_text(each) for each in _STRING.findall(args)],
        [int(each) for each in re.findall(r"(?<![\w<\"])-?\d+(?![\w\"])", _STRING.sub("", rest))],
        _STRING.sub("", rest),
    )


def _text(escaped: str) -> bytes:
    return bytes.fromhex(escaped.replace("\\x", ""))
