"""A disk whose plug can be pulled: it has for sure only what was synced, and of all else any part, or nothing."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from tests.proofs.calls import Call, Moment

_PAGE = 4096
_UNKNOWN = {"writev", "pwritev", "pwritev2", "fallocate", "copy_file_range", "sendfile", "sync_file_range"}


@dataclass(slots=True, eq=False)
class _Change:
    """Bytes written at an offset, or (`data` None) a new size."""

    offset: int
    data: bytes | None
    done: bool = False


@dataclass(slots=True, eq=False)
class _File:
    synced: bytearray
    pending: list[_Change] = field(default_factory=list)
    position: int = 0


@dataclass(slots=True, eq=False)
class _Entry:
    """A change of a folder: names that go, and names that come."""

    folder: str
    gone: str | None
    come: str | None
    what: _File | None  # None: a folder
    done: bool = False


class Disk:
    """What is known of the files below `root`, moment by moment.

    `before` are the files and (None) folders that were there and durable. A folder's new names are durable once the
    folder was synced, a file's bytes once the file was.
    """

    def __init__(self, root: str, before: dict[str, bytes | None]) -> None:
        self._root = root
        self._names: dict[str, _File | None] = {
            path: None if data is None else _File(bytearray(data)) for path, data in before.items()
        }
        self._durable = dict(self._names)
        self._entries: list[_Entry] = []
        self._under_way: dict[int, _Change | _Entry | tuple[_File | None, list[_Change], list[_Entry]]] = {}

    def pass_by(self, moment: Moment) -> None:
        """Take note of what happens."""
        call = moment.call
        if not moment.returned:
            self._begin(call)
            return
        under_way = self._under_way.pop(id(call), None)
        failed = call.result is None or call.result < 0
        match under_way:
            case _Change():
                under_way.done = True  # even one that failed may have written something
            case _Entry():
                self._settle(under_way, failed=failed)
            case (file, changes, entries) if not failed:
                self._synced(file, changes, entries)
        if call.name == "lseek" and (file := self._file(call.path)) is not None and not failed:
            file.position = call.result or 0

    def _synced(self, file: _File | None, changes: list[_Change], entries: list[_Entry]) -> None:
        for change in changes:
            if file is not None and change in file.pending:
                _apply(file.synced, change)
                file.pending.remove(change)
        for entry in entries:
            if entry in self._entries:
                _rename(self._durable, entry)
                self._entries.remove(entry)

    def _begin(self, call: Call) -> None:
        if call.name in _UNKNOWN and self._inside(call.path):
            raise NotImplementedError(f"{call.name} of {call.path}: tell this disk what it does")
        begin = {
            "pwrite64": self._write,
            "write": self._write,
            "ftruncate": self._truncate,
            "fsync": self._sync,
            "fdatasync": self._sync,
            "openat": self._open,
            "mkdir": self._make,
            "mkdirat": self._make,
            "rename": self._name_anew,
            "renameat": self._name_anew,
            "renameat2": self._name_anew,
            "link": self._name_anew,
            "linkat": self._name_anew,
            "unlink": self._remove,
            "unlinkat": self._remove,
        }.get(call.name)
        if begin is not None:
            begin(call)

    def _write(self, call: Call) -> None:
        file = self._file(call.path)
        if file is None:
            return
        offset = call.numbers[-1] if call.name == "pwrite64" else file.position
        if call.name == "write":
            file.position = offset + len(call.data)
        self._change(call, file, _Change(offset, call.data))

    def _truncate(self, call: Call) -> None:
        if (file := self._file(call.path)) is not None:
            self._change(call, file, _Change(call.numbers[-1], None))

    def _sync(self, call: Call) -> None:
        file = self._file(call.path)
        changes = [change for change in file.pending if change.done] if file is not None else []
        entries = [entry for entry in self._entries if entry.done and entry.folder == call.path]
        self._under_way[id(call)] = (file, changes, entries)

    def _open(self, call: Call) -> None:
        path = self._absolute(call.texts[0])
        if not self._inside(path) or "O_RDONLY" in call.flags:
            return
        file = self._file(path)
        if file is not None:
            file.position = 0
            if "O_TRUNC" in call.flags:
                self._change(call, file, _Change(0, None))
        elif "O_CREAT" in call.flags:
            self._enter(call, _Entry(_folder(path), None, path, _File(bytearray())))

    def _make(self, call: Call) -> None:
        path = self._absolute(call.texts[0])
        if self._inside(path) and path not in self._names:
            self._enter(call, _Entry(_folder(path), None, path, None))

    def _name_anew(self, call: Call) -> None:
        old, new = (self._absolute(each) for each in call.texts)
        if old in self._names:
            gone = old if call.name.startswith("rename") else None
            self._enter(call, _Entry(_folder(new), gone, new, self._names[old]))

    def _remove(self, call: Call) -> None:
        path = self._absolute(call.texts[0])
        if path in self._names:
            self._enter(call, _Entry(_folder(path), path, None, None))

    def _change(self, call: Call, file: _File, change: _Change) -> None:
        file.pending.append(change)
        self._under_way[id(call)] = change

    def _enter(self, call: Call, entry: _Entry) -> None:
        self._entries.append(entry)
        self._under_way[id(call)] = entry

    def _settle(self, entry: _Entry, *, failed: bool) -> None:
        if failed:
            self._entries.remove(entry)
        else:
            entry.done = True
            _rename(self._names, entry)

    def after_power_cut(self, chance: random.Random | None) -> dict[str, bytes]:
        """Return the files, by their path below the root, that the disk has when the power is cut now.

        Without `chance` nothing of what was not synced survives; with it, any of its pages and names may.
        """
        names = dict(self._durable)
        for entry in self._entries:
            if chance is not None and chance.random() < 0.5:
                _rename(names, entry)
        folders = {path for path, what in names.items() if what is None} | {self._root}
        found: dict[str, bytes] = {}
        for path in sorted(names):  # so that one seed means one disk
            what = names[path]
            if what is not None and all(each in folders for each in self._folders_above(path)):
                found[path[len(self._root) + 1 :]] = bytes(what.synced) if chance is None else _survivors(what, chance)
        return found

    def _folders_above(self, path: str) -> list[str]:
        above = [path.rsplit("/", depth)[0] for depth in range(1, path.count("/"))]
        return [folder for folder in above if len(folder) >= len(self._root)]

    def _file(self, path: str | None) -> _File | None:
        return self._names.get(path or "")

    def _inside(self, path: str | None) -> bool:
        return path is not None and path.startswith(f"{self._root}/")

    def _absolute(self, path: bytes) -> str:
        text = path.decode()
        return text if text.startswith("/") else f"{self._root}/{text}"


def _folder(path: str) -> str:
    return path.rsplit("/", 1)[0]


def _rename(names: dict[str, _File | None], entry: _Entry) -> None:
    if entry.gone is not None:
        names.pop(entry.gone, None)
    if entry.come is not None:
        names[entry.come] = entry.what


def _apply(content: bytearray, change: _Change) -> None:
    if change.data is None:
        del content[change.offset :]
    else:
        content.extend(bytes(max(0, change.offset - len(content))))
        content[change.offset : change.offset + len(change.data)] = change.data


def _survivors(file: _File, chance: random.Random) -> bytes:
    """Return the synced bytes with any of the pages that were written since, each as new as chance wants it."""
    content = bytearray(file.synced)
    pages: dict[int, list[_Change]] = {}
    for change in file.pending:
        if change.data is None:
            if chance.random() < 0.5:
                _apply(content, change)
            continue
        for page in range(change.offset // _PAGE, (change.offset + len(change.data) - 1) // _PAGE + 1):
            begin = max(change.offset, page * _PAGE)
            end = min(change.offset + len(change.data), (page + 1) * _PAGE)
            pages.setdefault(page, []).append(_Change(begin, change.data[begin - change.offset : end - change.offset]))
    for pieces in pages.values():
        for piece in pieces[: chance.randint(0, len(pieces))]:
            _apply(content, piece)
    return bytes(content)
