# ruff: noqa: INP001 - a script, part of no package
"""Asks the advisory service of PyPI about every package that a deployment installs.

    python .ci/audit.py PIP-AUDIT

Exits with 1 when a locked version has a known flaw. Where the service cannot be reached, or says nothing of a package
(a mirror may serve files alone, and pip-audit calls that "no known vulnerabilities"), it says what was not audited and
exits with 0: tests/test_supply_chain.py holds the same lock against the flaws that we know of, always.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

_LOCKS = sorted((Path(__file__).parent.parent / "deploy").glob("requirements*.txt"))
_AT_MOST = 300  # s


def main(pip_audit: str) -> int:
    """Return the status to exit with."""
    locks = [argument for lock in _LOCKS for argument in ("-r", str(lock))]
    command = [pip_audit, "--disable-pip", "--no-deps", "--progress-spinner=off", "--format=json", *locks]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=_AT_MOST, check=False)  # noqa: S603 - CI's own
        packages = json.loads(asked.stdout)["dependencies"]
    except (OSError, subprocess.TimeoutExpired, json.JSONDecodeError):
        sys.stdout.write("NOT AUDITED: no advisory service can be asked from here.\n")
        return 0
    flawed = {package["name"]: package["vulns"] for package in packages if package.get("vulns")}
    unknown = [package["name"] for package in packages if "skip_reason" in package]
    for name, flaws in flawed.items():
        for flaw in flaws:
            fixed = ", ".join(flaw["fix_versions"]) or "no version yet"
            sys.stdout.write(f"{name}: {flaw['id']}, fixed in {fixed}. Run .ci/lock, and add it to the tests' table.\n")
    if unknown:
        sys.stdout.write(f"NOT AUDITED, the service does not know them: {', '.join(unknown)}.\n")
    sys.stdout.write(
        f"{len(packages) - len(unknown)} of {len(packages)} packages audited, {len(flawed)} with a flaw.\n"
    )
    return 1 if flawed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
