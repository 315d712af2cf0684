"""The list of licences names exactly the packages of the layer."""

from __future__ import annotations

import re
from importlib.metadata import requires
from pathlib import Path
from typing import Any

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
IN_LAMBDA: dict[str, Any] = dict(default_environment()) | {
    "python_version": "3.13",
    "python_full_version": "3.13.0",
    "sys_platform": "linux",
}


def shipped() -> set[str]:
    """Return the packages that `sam build` installs into the layer: the runtime's dependencies and their dependencies."""
    lines = (ROOT / "layers/shared/python/requirements.txt").read_text(encoding="utf-8").splitlines()
    waiting = [Requirement(text) for line in lines if (text := line.partition("#")[0].strip())]
    found: set[str] = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name not in found:
            found.add(name)
            needed = [Requirement(text) for text in requires(name) or []]
            waiting += [each for each in needed if applies(each, requirement.extras)]
    return found


def applies(requirement: Requirement, extras: set[str]) -> bool:
    marker = requirement.marker
    return not marker or any(marker.evaluate({**IN_LAMBDA, "extra": extra}) for extra in extras or {""})


def test_each_package_that_is_shipped_has_its_licence_told() -> None:
    page = (ROOT / "docs/licences.md").read_text(encoding="utf-8")
    told = dict(re.findall(r"^\| ([a-z0-9-]+) \| (.+) \|$", page, re.MULTILINE))
    told.pop("package")
    assert told.keys() == shipped()
