"""What a deployment installs is named to the byte, and no version that may be installed has a flaw that is known."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = [(ROOT / "deploy" / name).read_text() for name in ("requirements.txt", "requirements-otel.txt")]
CONSTRAINTS = [
    Requirement(line) for line in (ROOT / "deploy" / "constraints.txt").read_text().splitlines() if line[0] != "#"
]
PYTHONS = ("3.11", "3.12", "3.13", "3.14")

# The first version without a flaw, and the flaw's name where it can be read up.
ADVISORIES = [
    ("cryptography", "50.0.0", "CVE-2026-69247"),
    ("anyio", "4.14.2", "CVE-2026-63374"),
    ("anyio", "4.14.2", "CVE-2026-64847"),
    ("click", "8.4.2", "PYSEC-2026-2132"),
    ("av", "18.0.0", "CVE-2026-8461"),
    ("av", "17.1.0", "CVE-2026-40962"),
    ("pydantic-settings", "2.14.2", "GHSA-4xgf-cpjx-pc3j"),
    ("starlette", "1.3.1", "CVE-2026-54283"),
    ("starlette", "1.3.0", "CVE-2026-54282"),
    ("starlette", "1.1.0", "CVE-2026-48817"),
    ("starlette", "1.1.0", "CVE-2026-48818"),
    ("starlette", "1.0.1", "CVE-2026-48710"),
    ("starlette", "0.49.1", "CVE-2025-62727"),
    ("starlette", "0.47.2", "CVE-2025-54121"),
    ("starlette", "0.40.0", "CVE-2024-47874"),
    ("python-multipart", "0.0.31", "CVE-2026-53540"),
    ("python-multipart", "0.0.30", "CVE-2026-53539"),
    ("python-multipart", "0.0.30", "CVE-2026-53538"),
    ("python-multipart", "0.0.27", "CVE-2026-42561"),
    ("python-multipart", "0.0.26", "CVE-2026-40347"),
    ("python-multipart", "0.0.22", "CVE-2026-24486"),
    ("python-multipart", "0.0.18", "CVE-2024-53981"),
    ("python-multipart", "0.0.7", "CVE-2024-24762"),
    ("cryptography", "48.0.1", "GHSA-537c-gmf6-5ccf"),
    ("cryptography", "46.0.6", "CVE-2026-34073"),
    ("cryptography", "46.0.5", "CVE-2026-26007"),
    ("idna", "3.15", "CVE-2026-45409"),
    ("idna", "3.7", "CVE-2024-3651"),
    ("pygments", "2.20.0", "CVE-2026-4539"),
    ("python-dotenv", "1.2.2", "CVE-2026-28684"),
    ("h11", "0.16.0", "CVE-2025-43859"),
    ("jinja2", "3.1.6", "CVE-2025-27516"),
    ("jinja2", "3.1.5", "CVE-2024-56326"),
    ("jinja2", "3.1.5", "CVE-2024-56201"),
    ("jinja2", "3.1.4", "CVE-2024-34064"),
    ("protobuf", "6.33.5", "CVE-2026-0994"),
    ("protobuf", "6.31.1", "CVE-2025-4565"),
    ("requests", "2.33.0", "CVE-2026-25645"),
    ("requests", "2.32.4", "CVE-2024-47081"),
    ("urllib3", "2.7.0", "CVE-2026-44432"),
    ("urllib3", "2.7.0", "CVE-2026-44431"),
    ("urllib3", "2.6.3", "CVE-2026-21441"),
    ("urllib3", "2.6.0", "CVE-2025-66471"),
    ("urllib3", "2.6.0", "CVE-2025-66418"),
    ("certifi", "2024.7.4", "CVE-2024-39689"),
    ("pydantic", "2.4.0", "CVE-2024-3772"),
    ("markdown-it-py", "2.2.0", "CVE-2023-26303"),
    ("httpx", "0.23.0", "CVE-2021-41945"),
    ("uvicorn", "0.11.7", "CVE-2020-7695"),
]  # fmt: skip


def requirements(texts: list[str]) -> list[Requirement]:
    return [Requirement(text) for text in texts]


EXTRAS = PROJECT["project"]["optional-dependencies"]
OURS = requirements(PROJECT["project"]["dependencies"] + EXTRAS["media"] + EXTRAS["otel"])
BUILD = requirements(PROJECT["build-system"]["requires"])


def locked() -> dict[str, list[tuple[Requirement, int]]]:
    """Return what is locked in either file by its name, each with the number of its hashes."""
    found: dict[str, list[tuple[Requirement, int]]] = {}
    for entry in re.sub(r" \\\n", " ", "".join(LOCKS)).splitlines():
        if entry.startswith("#"):
            continue
        requirement, *hashes = entry.split(" --hash=sha256:")
        assert all(re.fullmatch("[0-9a-f]{64}", each.strip()) for each in hashes), entry
        each = Requirement(requirement)
        found.setdefault(canonicalize_name(each.name), []).append((each, len(hashes)))
    return found


LOCKED = locked()


def version(requirement: Requirement) -> Version:
    """Return the one version that a line of the lock allows."""
    [only] = requirement.specifier
    assert only.operator == "==", requirement
    return Version(only.version)


def floor(requirement: Requirement) -> Version:
    """Return the lowest version that a dependency of ours may have."""
    [lowest] = [Version(each.version) for each in requirement.specifier if each.operator == ">="]
    return lowest


def applies(requirement: Requirement, environment: dict[str, str]) -> bool:
    return requirement.marker is None or requirement.marker.evaluate(environment)


# The dependencies

MODULES = {
    "opentelemetry-exporter-otlp-proto-http": "opentelemetry",
    "opentelemetry-sdk": "opentelemetry",
    "prometheus-client": "prometheus_client",
    "pydantic-settings": "pydantic_settings",
    "python-multipart": "python_multipart",
    "python-ulid": "ulid",
}
BY_NAME_ALONE = {"httptools", "uvloop"}  # uvicorn runs on them, and would do with less without a word


def test_every_dependency_is_used_and_everything_that_is_used_is_a_dependency() -> None:
    used = {
        name.partition(".")[0]
        for file in (ROOT / "service").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        for name in (
            [each.name for each in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    named = {MODULES.get(each.name, each.name) for each in OURS}
    assert named - BY_NAME_ALONE <= used
    assert used - named <= sys.stdlib_module_names | {"service", "pydantic_core"}  # which pydantic has locked to itself


# The lock


def test_everything_is_locked_to_one_version_by_its_hashes() -> None:
    assert len(LOCKED) > len(OURS)
    for lines in LOCKED.values():
        for requirement, hashes in lines:
            assert version(requirement).public, requirement
            assert hashes, requirement


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_on_every_platform_it_has_what_the_project_needs_in_a_version_that_is_allowed(
    python: str, platform: str
) -> None:
    environment = {
        **{name: str(value) for name, value in default_environment().items()},
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": platform,
    }
    for needed in OURS + BUILD:
        lines = [line for line, _ in LOCKED[canonicalize_name(needed.name)] if applies(line, environment)]
        assert len(lines) == 1, needed
        assert version(lines[0]) in needed.specifier


def test_what_is_locked_needs_nothing_that_is_not() -> None:
    environment = {name: str(value) for name, value in default_environment().items()} | {"extra": ""}
    for name in LOCKED.keys() & installed():
        for text in metadata.requires(name) or ():
            needed = Requirement(text)
            if applies(needed, environment):
                assert canonicalize_name(needed.name) in LOCKED, f"{name} needs {needed}: run .ci/lock"


def test_the_lock_says_nothing_of_where_it_was_made() -> None:
    for lock in LOCKS:
        assert not re.findall(r"://|^-|/tmp|/home|/root", lock, re.MULTILINE)


# Known flaws


def installed() -> dict[str, Version]:
    """Return what the service brings along, as it is installed here."""
    found: dict[str, Version] = {}
    waiting = {each.name for each in OURS}
    environment = {name: str(value) for name, value in default_environment().items()} | {"extra": ""}
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in found:
            continue
        try:
            found[name] = Version(metadata.version(name))
        except metadata.PackageNotFoundError:  # an extra that is not wanted here
            continue
        needed = requirements(metadata.requires(name) or [])
        waiting |= {each.name for each in needed if applies(each, environment)}
    return found


def test_a_deployment_installs_no_version_with_a_known_flaw() -> None:
    for name, fixed, flaw in ADVISORIES:
        for requirement, _ in LOCKED.get(name, ()):
            assert version(requirement) >= Version(fixed), f"{requirement} has {flaw}: run .ci/lock"


def test_no_version_with_a_known_flaw_is_installed_here() -> None:
    here = installed()
    assert {"starlette", "h11", "cryptography"} <= set(here)
    for name, fixed, flaw in ADVISORIES:
        if name in here:
            assert here[name] >= Version(fixed), f"{name} {here[name]} has {flaw}: pip install -U {name}"


def test_no_version_that_may_be_installed_has_a_known_flaw() -> None:
    floors: dict[str, Version] = {canonicalize_name(each.name): floor(each) for each in OURS + CONSTRAINTS}
    for name, fixed, flaw in ADVISORIES:
        if name in LOCKED:
            assert floors[name] >= Version(fixed), f"{name} before {fixed} has {flaw}: raise its floor"


def test_a_floor_that_is_set_for_a_flaw_is_one_of_a_package_that_we_bring_along() -> None:
    direct = {canonicalize_name(each.name) for each in OURS}
    for constraint in CONSTRAINTS:
        assert canonicalize_name(constraint.name) in LOCKED
        assert canonicalize_name(constraint.name) not in direct, f"{constraint} belongs into pyproject.toml"


# What we publish ourselves


def test_no_secret_stands_in_what_we_publish() -> None:
    credential = re.compile(
        r"\b(sk-(or-v1-)?[A-Za-z0-9]{16,}|rk_[A-Za-z0-9]{16,}|whsec_[A-Za-z0-9+/=]{16,}|gh[pousr]_[A-Za-z0-9]{30,}"
        r"|llmgtwy_[A-Za-z0-9]{16,}|AKIA[A-Z0-9]{16}|eyJ[A-Za-z0-9_-]{16,})|-----BEGIN [A-Z ]*PRIVATE KEY"
    )
    assert credential.search("OPENROUTER_API_KEY=sk-or-v1-0123456789abcdef")
    paths = [path for folder in ("service", "deploy", ".ci") for path in (ROOT / folder).rglob("*") if path.is_file()]
    texts = {
        path: path.read_bytes().decode("latin-1") for path in [*paths, ROOT / "README.md"] if path.suffix != ".pyc"
    }
    assert len(texts) > 100
    for path, text in texts.items():
        found = credential.search(text)
        assert found is None, f"{path} holds {found}"


# How it is installed


def test_a_deployment_is_installed_as_ci_installs_it() -> None:
    told = re.findall(r"pip install (.*)", (ROOT / "deploy" / "README.md").read_text())
    done = (ROOT / ".ci" / "run").read_text()
    assert len(told) == 3
    for arguments in told:
        assert arguments in done
