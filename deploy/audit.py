"""Compares locked versions with known vulnerabilities; `make audit` runs it on every list of ours.

Belongs here: reading lists, comparing. Must not be here: the vulnerabilities (`advisories.toml`), network access.
"""

import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name
from packaging.version import Version

ADVISORIES = Path(__file__).with_name("advisories.toml")
_LOCKED = re.compile(r"^([\w.-]+)(?:\[[^\]]*\])?==([^\s;\\]+)(.*)$", re.MULTILINE)


def findings(requirements: str, known: Mapping[str, Any]) -> Iterator[str]:
    """The findings about a list: vulnerable versions, versions below a floor, banned packages, missing hashes."""
    locked = {canonicalize_name(name): Version(version) for name, version, _ in _LOCKED.findall(requirements)}
    for advisory in known["advisories"]:
        version = locked.get(advisory["package"])
        if version is not None and version < Version(advisory["fixed"]):
            yield f"{advisory['package']} {version} has {advisory['id']}: at least {advisory['fixed']}"
    for name, floor in known["floors"].items():
        if name in locked and locked[name] < Version(floor):
            yield f"{name} {locked[name]} is below the project's floor for known holes: at least {floor}"
    for name, why in known["banned"].items():
        if name in locked:
            yield f"{name}: {why}"
    for name, version, rest in _LOCKED.findall(requirements):
        if not rest.strip().endswith("\\"):
            yield f"{name} {version} has no hash: make requirements"
    if not locked:
        yield "nothing is locked here: make requirements"


def main(paths: list[str]) -> int:
    """Print the findings about each list; the exit status is 1 when there are any."""
    known = tomllib.loads(ADVISORIES.read_text())
    wrong = [f"{path}: {finding}" for path in paths for finding in findings(Path(path).read_text(), known)]
    sys.stdout.write("\n".join(wrong or [f"{len(paths)} lists, nothing known against them"]) + "\n")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
