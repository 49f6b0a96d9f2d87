"""The layers: who may import whom, and what is said in one place only."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

SERVICE = Path(__file__).parent.parent / "service"

ROWS = (
    {"model", "errors", "signing", "addresses", "backoff", "clock", "ids", "pace", "containers", "observer"},
    {"disk", "threads"},
    {"db", "outbound", "vault", "config", "logs", "metrics", "tracing"},
    {"store", "providers", "storage"},
    {"media"},
    {"workers", "web", "sandbox"},
    {"configured", "records"},
    {"assembly"},
    {"check", "stage", "tables"},
    {"commands"},
    {"__main__"},
)
ROW = {unit: row for row, units in enumerate(ROWS) for unit in units}
COMPOSING = (
    ROWS[-5] | ROWS[-4] | ROWS[-3] | ROWS[-2] | ROWS[-1]
)  # they build the objects; all others get theirs by constructor

ONLY_IN: Mapping[str, set[str]] = {
    # What is ours, where a lower row does not mean that everybody above may know it:
    "service.config": COMPOSING,
    "service.db": {"store"} | COMPOSING,
    "service.store": {"workers", "web"} | COMPOSING,
    # What is not:
    "sqlite3": {"db"},
    "aiosqlite": {"db"},
    "httpx": {"outbound", "storage", "providers", "workers", "sandbox"} | COMPOSING,
    "httpcore": {"outbound"},
    "obstore": {"storage"},
    "av": {"media"},
    "cryptography": {"vault"},
    "pydantic_settings": {"config"},
    "starlette": {"web", "sandbox", "assembly"},
    "uvicorn": {"web", "sandbox", "assembly"},
    "structlog": {"logs", "media", "tracing", "workers", "web", "sandbox"} | COMPOSING,
    "typer": {"commands", "__main__"},
    "jinja2": {"web"},
    "prometheus_client": {"metrics"},
    "opentelemetry": {"tracing"},
}
WITHOUT_IO = ROWS[0]
IO = {"aiosqlite", "anyio", "asyncio", "http", "httpx", "logging", "os", "pathlib", "requests", "shutil", "socket"} | {
    "sqlite3", "ssl", "subprocess", "tempfile", "threading", "urllib"
}  # fmt: skip
SQL = re.compile(
    r"\s*(SELECT\s.*\bFROM\b|INSERT\s+(OR\s+\w+\s+)?INTO\s|UPDATE\s+\w+\s+SET\b|DELETE\s+FROM\s|WITH\s+\w+\s+AS\s*\(|"
    r"(CREATE|DROP|ALTER)\s+(TABLE|INDEX|UNIQUE|TRIGGER|VIEW)\b|PRAGMA\s+\w|BEGIN(\s+IMMEDIATE)?\b|SAVEPOINT\s)",
    re.DOTALL,
)
ENVIRONMENT = {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"}
FORKS = {"create_subprocess_exec", "create_subprocess_shell", "subprocess_exec", "subprocess_shell", "fork"}
MOST_LINES = 400


def violations(module: str, source: str) -> list[str]:
    """Say what a module, by its dotted name, does that its place in the house does not allow."""
    tree = ast.parse(source)
    unit = module.split(".")[1]
    if unit not in ROW:
        return [f"{module} is in no row"]
    found = [wrong for imported in _imports(module, tree) for wrong in _wrong_import(unit, imported)]
    if unit != "config" and any(_reads_environment(node) for node in ast.walk(tree)):
        found.append("reads the environment")
    if any(isinstance(node, ast.Attribute) and node.attr in FORKS for node in ast.walk(tree)):
        found.append("starts a program through the event loop, which forks under uvloop; media.process does not")
    if unit != "db" and any(SQL.match(text) for text in _strings(tree)):
        found.append("speaks SQL")
    if source.count("\n") > MOST_LINES:
        found.append(f"is longer than {MOST_LINES} lines")
    return [f"{module} {wrong}" for wrong in found]


def _imports(module: str, tree: ast.Module) -> Iterator[str]:
    """Name all that is imported, anywhere in the module; `from service.db import x` names service.db.x."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = module.split(".")[: -node.level] if node.level else []
            yield from (".".join([*package, *filter(None, [node.module]), each.name]) for each in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            yield ast.unparse(node.args[0]).strip("'\"")


def _wrong_import(unit: str, imported: str) -> Iterator[str]:
    first, _, rest = imported.partition(".")
    for name, units in ONLY_IN.items():
        if f"{imported}.".startswith(f"{name}.") and unit not in {*units, name.removeprefix("service.")}:
            yield f"imports {imported}, which is for {', '.join(sorted(units))} only"
    if unit in WITHOUT_IO and first in IO:
        yield f"imports {imported}, although row 0 does no I/O"
    if first != "service":
        return
    other = rest.partition(".")[0]
    if other not in ROW:
        yield f"imports {imported}, which is in no row"
    elif other != unit and other == "store" and (SERVICE / "store" / f"{rest.split('.')[1]}.py").is_file():
        yield f"imports {imported}, which is inside the store; import from service.store, which exports what others use"
    elif other != unit and ROW[other] >= ROW[unit] and not ROW[unit] == ROW[other] == 0:
        yield f"imports {imported}, which is {'beside' if ROW[other] == ROW[unit] else 'above'} it"


def _reads_environment(node: ast.AST) -> bool:
    if isinstance(node, ast.ImportFrom):
        return node.module == "os" and any(each.name in ENVIRONMENT for each in node.names)
    return isinstance(node, ast.Attribute) and node.attr in ENVIRONMENT and ast.unparse(node.value) == "os"


def _strings(tree: ast.Module) -> Iterator[str]:
    """Return the text of every string, with x for the fields of an f-string, but not of the docstrings."""
    docstrings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "x" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docstrings:
            yield node.value


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(SERVICE.parent).with_suffix("").parts)


MODULES = sorted(path for path in SERVICE.rglob("*.py") if path != SERVICE / "__init__.py")


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_keeps_to_its_row(path: Path) -> None:
    assert violations(name_of(path), path.read_text()) == []


def test_every_row_names_modules_that_exist() -> None:
    assert {name_of(path).split(".")[1] for path in MODULES} == set(ROW)


def test_the_map_holds_no_code() -> None:
    tree = ast.parse((SERVICE / "__init__.py").read_text())
    assert ast.get_docstring(tree)
    assert len(tree.body) == 1


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert not {part for path in MODULES for part in path.with_suffix("").parts} & {
        "utils",
        "common",
        "helpers",
        "base",
    }


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("service.store", "from service.model import Job"),
        ("service.store.jobs", "from .transaction import Tx\nfrom . import keys\nfrom service.store import claims"),
        ("service.store.jobs", "from ..db import sqlite"),
        ("service.db.__init__", "from . import sqlite"),
        ("service.store", "from service import model, ids"),
        ("service.ids", "from service.clock import Clock"),
        ("service.workers.mirror", "import httpx\nfrom service.containers import Structure"),
        ("service.web.content", "from service.media import Posters"),
        ("service.media.child", "import av.filter"),
        ("service.config", "import os\nos.environ"),
        ("service.db.sqlite", "import aiosqlite\n'PRAGMA journal_mode = WAL'"),
        (
            "service.web.jobs",
            '"""SELECT what FROM where."""\ndef f():\n    """UPDATE jobs SET x."""\n    raise E("Update it")',
        ),
        ("service.web.jobs", "'Select a model from the list'"),
        ("service.__main__", "from service.config import Config\nimport service.assembly"),
    ],
)
def test_what_the_layers_allow_is_allowed(module: str, source: str) -> None:
    assert violations(module, source) == []


@pytest.mark.parametrize(
    ("module", "source", "reason"),
    [
        ("service.novel", "", "is in no row"),
        ("service.web.jobs", "from service.novel import x", "in no row"),
        ("service.web.jobs", "import service", "in no row"),
        ("service.store", "from service.web import app", "above"),
        ("service.store.jobs", "from ..workers.mirror import Mirror", "above"),
        ("service.web.jobs", "def f():\n    from service.workers import Worker", "beside"),
        ("service.web.jobs", "from service import workers", "beside"),
        ("service.web.jobs", "import service.workers.mirror as m", "beside"),
        ("service.web.jobs", "from .. import workers", "beside"),
        ("service.outbound", "from service.vault import Vault", "beside"),
        ("service.outbound", "import importlib\nimportlib.import_module('service.vault')", "beside"),
        ("service.clock", "from service.db import x", "above"),
        ("service.web.jobs", "from service.store.inputs import put_back", "inside the store"),
        ("service.assembly", "from service.store import claims", "inside the store"),
        ("service.check", "from service.__main__ import main", "above"),
        ("service.web.jobs", "from service.config import Config", "only"),
        ("service.web.jobs", "from service.db import Database", "only"),
        ("service.web.jobs", "import httpx", "only"),
        ("service.store.jobs", "from httpx import AsyncClient", "only"),
        ("service.web.content", "from av import open", "only"),
        ("service.storage", "from service.media import Examiner", "above"),
        ("service.media", "from service.store import Store", "only"),
        ("service.store.jobs", "import sqlite3", "only"),
        ("service.providers.openrouter", "import structlog", "only"),
        ("service.providers.openrouter", "from service.store import Store", "beside"),
        ("service.signing", "import asyncio", "no I/O"),
        ("service.signing", "from urllib.request import urlopen", "no I/O"),
        ("service.web.jobs", "import os\nx = os.environ['A']", "environment"),
        ("service.web.jobs", "import os\nx = os.getenv('A')", "environment"),
        ("service.web.jobs", "from os import environ", "environment"),
        ("service.store.jobs", "q = 'SELECT *\\nFROM jobs'", "SQL"),
        ("service.store.jobs", "q = f'UPDATE {table} SET x'", "SQL"),
        ("service.store.jobs", "f('''\\n  INSERT INTO jobs VALUES (1)''')", "SQL"),
        ("service.store.jobs", "q = 'BEGIN IMMEDIATE'", "SQL"),
        ("service.store.jobs", "\n" * 401, "400"),
        ("service.media.process", "import asyncio\nasyncio.create_subprocess_exec('true')", "forks"),
    ],
)
def test_what_the_layers_forbid_is_found(module: str, source: str, reason: str) -> None:
    found = violations(module, source)
    assert any(reason in wrong for wrong in found), found
