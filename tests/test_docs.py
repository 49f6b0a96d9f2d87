"""The README and the code say the same: what the one names, the other has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import structlog
import typer
from prometheus_client import Metric
from prometheus_client.metrics import MetricWrapperBase
from starlette.applications import Starlette
from starlette.routing import Route
from typer.core import TyperCommand, TyperGroup

from service.__main__ import app
from service.assembly import open_service
from service.backoff import DELIVERY_ATTEMPTS, DELIVERY_HOURS
from service.config import SETTINGS, Config, Setting
from service.metrics import Metrics
from service.model import EVENTS, TRANSITIONS, Billable, ErrorCode, OnUnknown, State, VideoRequest
from service.sandbox.behaviours import BEHAVIOURS
from service.web import filters
from service.web.requests import CreateBody
from tests import logged

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SHELL = re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
CODE = set(re.findall(r"`([^`\n]+)`", README))


def table(head: str) -> list[list[str]]:
    """Return the cells of the README's table whose first line begins with `head`."""
    lines = iter(README.splitlines())
    for line in lines:
        if line.startswith(head):
            break
    next(lines)
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    assert rows, f"the README has no table {head}"
    return rows


# What is told to callers


def test_how_often_and_how_long_a_message_is_sent_is_what_the_code_does() -> None:
    assert f"up to {DELIVERY_ATTEMPTS} times in about {DELIVERY_HOURS} hours" in " ".join(README.split())


# Settings


def row(setting: Setting) -> list[str]:
    default = "required" if setting.required else "unset" if setting.default is None else f"`{setting.default}`"
    return [f"`{setting.name}`", setting.meaning, default]


def test_the_table_of_settings_is_what_the_code_reads() -> None:
    assert table("| variable |") == [row(setting) for setting in SETTINGS.values()]


def test_every_variable_that_the_readme_names_is_a_setting() -> None:
    named = set(re.findall(r"\b(?:REELKEEPER|OPENROUTER|LLMGATEWAY)_[A-Z][A-Z_]*[A-Z]\b", README))
    assert named
    assert named <= set(SETTINGS)


# How a job moves


def test_the_table_of_states_is_what_the_code_allows() -> None:
    rows = table("| state |")
    waiting = {State(cells[0].strip("`")): cells for cells in rows[:-1]}
    final = set(map(State, re.findall(r"`(\w+)`", rows[-1][0])))
    assert set(waiting) | final == set(State)
    assert {state for state in State if state.final} == final
    for state, cells in waiting.items():
        named = set(map(State, re.findall(r"`(\w+)`", cells[3])))
        assert named == TRANSITIONS[state]


def test_every_event_is_told_and_no_other() -> None:
    assert set(re.findall(r"\bjob\.[a-z_]+", README)) == EVENTS


def test_every_error_code_is_told_and_no_other() -> None:
    [codes] = re.findall(r"`error\.code` is one of (.*?);", README, re.DOTALL)
    assert set(re.findall(r"`(\w+)`", codes)) == set(ErrorCode)


# The API


@pytest.fixture
async def routes(tmp_path: Path) -> set[tuple[str, str]]:
    """Return every method and path of the app, with {} for what varies."""
    config = Config.read(
        {
            "REELKEEPER_PUBLIC_URL": "https://videos.example.com",
            "REELKEEPER_SECRET_KEY": bytes(range(32)).hex(),
            "REELKEEPER_DATABASE": f"sqlite:///{tmp_path / 'reelkeeper.db'}",
            "REELKEEPER_STORAGE": str(tmp_path / "videos"),
            "OPENROUTER_API_KEY": "unused",
        }
    )
    async with open_service(config, structlog.get_logger()) as service:
        assert isinstance(service.app, Starlette)
        found = [route for route in service.app.routes if isinstance(route, Route)]
        assert len(found) == len(service.app.routes)
        return {
            (method, bare(route.path))
            for route in found
            if route.name != "nothing"  # what OpenAI has and no provider here
            for method in route.methods or ()
            if not (method == "HEAD" and "GET" in (route.methods or ()))
        }


def bare(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "{}", path.partition("?")[0])


def test_every_route_is_told_and_no_other(routes: set[tuple[str, str]]) -> None:
    told = {(method, bare(path)) for method, path in re.findall(r"`(GET|POST|PUT|PATCH|DELETE) (/[^`]*)`", README)}
    assert told == routes


def test_every_path_that_the_readme_shows_exists(routes: set[tuple[str, str]]) -> None:
    shown = {path.partition("?")[0] for path in re.findall(r"127\.0\.0\.1:8080(/[^\s\"'`]*)", README)}
    assert shown
    for path in shown:
        assert any(re.fullmatch(known.replace("{}", "[^/]+"), path) for _, known in routes), path


def test_every_field_of_a_create_is_told() -> None:
    assert set(CreateBody.model_fields) >= set(VideoRequest.__dataclass_fields__)
    assert set(CreateBody.model_fields) <= CODE
    assert {f'"{word}"' for word in OnUnknown} <= CODE
    assert set(Billable) <= CODE


def test_every_parameter_of_a_list_is_told() -> None:
    [told] = [cells[1] for cells in table("| call |") if cells[0] == "`GET /v1/jobs`"]
    assert set(re.findall(r"`(\w+)`", told)) == set(filters._FILTERS)


def test_every_model_of_the_sandbox_that_is_named_exists() -> None:
    named = set(re.findall(r"sandbox/[a-z0-9]+(?:-[a-z0-9]+)*", README.replace("sandbox/`", "")))
    assert named
    assert named <= set(BEHAVIOURS)


# Metrics and logs


def test_the_table_of_metrics_is_what_is_counted() -> None:
    metrics = Metrics("1")
    there = {}
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            [family] = metric.describe()
            there[_written(family)] = set(metric._labelnames)
    families = [family for family in metrics.registry.collect() if family.name.startswith("reelkeeper_")]
    there |= {_written(family): {"version"} for family in families if family.type == "info"}
    assert len(there) == len(families)
    told = {cells[0].strip("`"): set(re.findall(r"`(\w+)`", cells[1])) for cells in table("| metric |")}
    assert told == there


def test_every_metric_that_the_readme_names_exists() -> None:
    there = {_written(family) for family in Metrics("1").registry.collect()}
    named = set(re.findall(r"\b(?:reelkeeper|process)_[a-z]+(?:_[a-z]+)*\b", README)) & CODE
    assert {name for name in named if name.startswith("process_")} == {n for n in there if n.startswith("process_")}
    assert named <= there


def _written(family: Metric) -> str:
    return family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")


def test_the_table_of_logs_is_what_is_written() -> None:
    told = {cells[0].strip("`"): set(re.findall(r"`(\w+)`", cells[2])) for cells in table("| event | level |")}
    assert told == {name: event.keys for name, event in logged.events().items()}


def test_the_levels_of_logs_are_there() -> None:
    for cells in table("| event | level |"):
        assert set(cells[1].split(", ")) <= logged.LEVELS


# Commands


def commands() -> dict[str, TyperCommand]:
    """Return every command by its words, for example "keys create"."""
    top = typer.main.get_command(app)
    assert isinstance(top, TyperGroup)
    found: dict[str, TyperCommand] = {}
    for name, command in top.commands.items():
        inner = command.commands if isinstance(command, TyperGroup) else {}
        for words, each in {f"{name} {word}": each for word, each in inner.items()}.items() or [(name, command)]:
            assert isinstance(each, TyperCommand)
            found[words] = each
    return found


def test_the_table_of_commands_is_what_there_is() -> None:
    told = [name.removeprefix("reelkeeper ") for cells in table("| command |") for name in cells[0].split("`")[1::2]]
    assert sorted(told) == sorted(commands())


def test_every_command_that_the_readme_shows_exists() -> None:
    text = "\n".join([*SHELL, *map("`{}`".format, CODE)])
    shown = set(re.findall(r"(?:^|[`/ ])reelkeeper ((?:keys |jobs |callbacks |receivers )?[a-z-]+)", text))
    assert {"demo", "serve", "check", "keys create", "jobs attach"} <= shown
    assert shown <= set(commands())


def test_every_option_that_the_readme_shows_exists() -> None:
    shown = [line.partition("#")[0] for block in SHELL for line in block.splitlines() if line.startswith("reelkeeper ")]
    for name, meaning in table("| command |"):
        shown += [f"{name.strip('`')} {option}" for option in re.findall(r"`(--[\w-]+)`", meaning)]
    assert [line for line in shown if "--once" in line]
    for line in shown:
        words = line.split()
        command = commands().get(" ".join(words[1:3])) or commands()[words[1]]
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known, line


# The first lines


def test_the_first_command_runs_the_demonstration() -> None:
    assert SHELL[0] == "python3 -m venv .venv && .venv/bin/pip install -q . && .venv/bin/reelkeeper demo\n"


def test_the_second_command_is_what_ci_runs() -> None:
    assert SHELL[1].endswith(".venv/bin/pytest\n")
    assert SHELL[1] in (ROOT / ".ci" / "run").read_text()


def test_every_proof_is_named_with_its_last_figures() -> None:
    proofs = ROOT / "tests" / "proofs"
    runnable = {file.stem for file in proofs.glob("*.py") if "\nif __name__" in file.read_text("utf-8")}
    runnable |= {file.parent.name for file in proofs.glob("*/__main__.py")}
    named = {row[1].split("`")[1]: row[2] for row in table("| promise |")}
    assert named.keys() == runnable - {"handicap"}  # the service that `durability` must find out
    assert [name for name, figures in named.items() if not re.search(r"\d", figures)] == []
