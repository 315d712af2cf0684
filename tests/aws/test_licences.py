"""The layer's lock and the list of licences name exactly the packages of the layer."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import requires
from typing import Any

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.test_layout import LAYER_LOCK, ROOT, locked

IN_LAMBDA: dict[str, Any] = dict(default_environment()) | {
    "python_version": "3.13",
    "python_full_version": "3.13.0",
    "sys_platform": "linux",
}


def shipped() -> set[str]:
    """Return the packages that `sam build` installs into the layer: the runtime's dependencies and their dependencies."""
    waiting = [Requirement(text) for text in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]]
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


def test_each_package_that_is_shipped_is_locked_in_the_version_that_was_tested() -> None:
    """Pip installs nothing without a hash as soon as one line of the file has a hash."""
    layer, tested = locked(LAYER_LOCK), locked(ROOT / "requirements" / "test.txt")
    assert layer.keys() == shipped()
    assert {name: version for name, version in layer.items() if tested[name] != version} == {}


@pytest.mark.parametrize("machine", ["aarch64", "x86_64"])
def test_the_layers_lock_leaves_no_package_out_on_lambda(machine: str) -> None:
    pins = [line.removesuffix(" \\") for line in LAYER_LOCK.read_text().splitlines() if "==" in line]
    markers = [marker for pin in pins if (marker := Requirement(pin).marker)]
    assert len(pins) == len(locked(LAYER_LOCK))
    assert all(marker.evaluate(IN_LAMBDA | {"platform_machine": machine}) for marker in markers)
