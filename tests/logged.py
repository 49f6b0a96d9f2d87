"""What the code writes to the log, as its source says: every event, at which levels, with which keys."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

SERVICE = Path(__file__).parent.parent / "service"
LEVELS = {"debug", "info", "warning", "error", "exception"}
TELLS = LEVELS | {"tell"}  # a variable that is one of them

_EVENT = re.compile(r"[a-z]+\.[a-z_]+")
_SHOWN = {"exc_info": "exception"}  # as whom a key is written


@dataclass
class Event:
    """One event: the keys that are written with it always or sometimes."""

    keys: set[str] = field(default_factory=set)


def events() -> Mapping[str, Event]:
    """Return every event of the service by its name."""
    found: dict[str, Event] = defaultdict(Event)
    noted: set[str] = set()
    for path in sorted(SERVICE.rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        noted |= {key for call in _calls(tree) if _name(call) == "note" for key in _keywords(call)}
        bound = {key for call in _calls(tree) if _name(call) == "bind" for key in _keywords(call)} - {"logger"}
        for call in _calls(tree):
            name = _event(call)
            if name is not None:
                found[name].keys |= bound | _keywords(call) | set(_spread(tree, call))
                if _name(call) == "exception":
                    found[name].keys.add("exception")
    found["web.request"].keys |= noted  # what handlers say about the request that they serve
    return found


def _event(call: ast.Call) -> str | None:
    first = call.args[0] if call.args else None
    if _name(call) not in TELLS or not isinstance(first, ast.Constant) or not isinstance(first.value, str):
        return None
    return first.value if _EVENT.fullmatch(first.value) else None


def _spread(tree: ast.Module, call: ast.Call) -> Iterator[str]:
    """Yield the keys of what is handed on as `**name`: of a parameter that callers give, or of dicts in the module."""
    spread = [ast.unparse(each.value) for each in call.keywords if each.arg is None]
    if not spread:
        return
    around = next(node for node in ast.walk(tree) if isinstance(node, _FUNCTIONS) and call in ast.walk(node))
    taken = {each.arg for each in (*around.args.args, *around.args.kwonlyargs)}
    if around.args.kwarg is not None and around.args.kwarg.arg in spread:
        for other in _calls(tree):
            if _name(other) == around.name:
                yield from _keywords(other) - taken
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            keys = [key.value for key in node.keys if isinstance(key, ast.Constant)]
            yield from (_SHOWN.get(key, key) for key in keys if isinstance(key, str) and key.isidentifier())


_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def _calls(tree: ast.Module) -> list[ast.Call]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


def _name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _keywords(call: ast.Call) -> set[str]:
    return {_SHOWN.get(each.arg, each.arg) for each in call.keywords if each.arg is not None}
