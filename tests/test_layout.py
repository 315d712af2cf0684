"""The repository's own rules: one list of runtime dependencies, locks with hashes and without addresses, thin handlers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
LAYER_LOCK = ROOT / "layers" / "shared" / "python" / "requirements.txt"
LOCKS = [LAYER_LOCK, *sorted((ROOT / "requirements").glob("*.txt"))]
NPM_LOCKS = [
    ROOT / f"{folder}/package-lock.json"
    for folder in ("requirements/bruno", "tests/gateway/javascript", "tests/webhooks/javascript")
]
NPM_LOCKS += (ROOT / "contract").glob("*/*/package-lock.json")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
RUNTIME = [Requirement(text) for text in PROJECT["project"]["dependencies"]]


def locked(path: Path) -> dict[str, str]:
    """Return version by name. A lock holds a name twice when Python versions need different versions of it."""
    pins = re.findall(r"^([A-Za-z0-9_.-]+)==([^\s;]+)", path.read_text(), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in pins}


def group(name: str) -> list[Requirement]:
    found = []
    for entry in PROJECT["dependency-groups"][name]:
        found += [Requirement(entry)] if isinstance(entry, str) else group(entry["include-group"])
    return found


def test_runtime_dependencies_are_pinned_and_read_from_one_place() -> None:
    assert RUNTIME
    assert all(re.fullmatch(r"==[^*]+", str(requirement.specifier)) for requirement in RUNTIME)
    assert list(ROOT.glob("functions/*/requirements.txt")) == []


@pytest.mark.parametrize(
    ("lock", "groups", "runtime"),
    [
        ("run", ["local"], True),
        ("test", ["dev"], True),
        ("bench", ["bench"], True),
        ("sam", ["sam"], False),
        ("clients", ["clients"], False),
    ],
)
def test_a_lock_holds_what_its_group_asks_for(lock: str, groups: list[str], runtime: bool) -> None:
    versions = locked(ROOT / "requirements" / f"{lock}.txt")
    wanted = [requirement for name in groups for requirement in group(name)] + (RUNTIME if runtime else [])
    missing = [str(one) for one in wanted if not one.specifier.contains(versions.get(canonicalize_name(one.name), "0"))]
    assert missing == [], "run `make lock`"


def test_what_runs_is_what_was_tested() -> None:
    tested = locked(ROOT / "requirements" / "test.txt")
    for lock in ("run", "bench"):
        versions = locked(ROOT / "requirements" / f"{lock}.txt")
        assert {name: version for name, version in versions.items() if tested.get(name, version) != version} == {}


def test_the_layer_leaves_the_aws_sdk_out() -> None:
    assert not {"boto3", "botocore"} & locked(ROOT / "requirements" / "run.txt").keys()


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_pin_has_hashes_and_none_an_address(lock: Path) -> None:
    text = lock.read_text()
    entries = re.split(r"^(?=[A-Za-z0-9])", re.sub(r"^ *#.*\n", "", text, flags=re.MULTILINE), flags=re.MULTILINE)
    assert [entry for entry in entries if entry.strip() and "--hash=sha256:" not in entry] == []
    assert re.findall(r"://| @ |^--?(?:index|extra|find|trusted|i|f)\b.*", text, re.MULTILINE) == []


@pytest.mark.parametrize("lock", NPM_LOCKS, ids=lambda path: "/".join(path.parts[-3:-1]))
def test_every_npm_package_has_a_hash_and_none_an_address(lock: Path) -> None:
    packages = json.loads(lock.read_text())["packages"]
    asked = packages.pop("")["dependencies"]
    assert len(packages) >= len(asked) > 0
    assert [name for name, each in packages.items() if "sha512-" not in each["integrity"] or "resolved" in each] == []
    assert {name: packages[f"node_modules/{name}"]["version"] for name in asked} == asked


@pytest.mark.server
def test_no_file_names_a_package_index() -> None:
    """Each user configures a package index of their own."""
    option = "(index|extra-index|find-links|trusted-host)[-_](url|host)?[ =]+[a-z]+[:.]"
    options = ["--no-index", "--exclude-standard", "--files-with-matches", "--extended-regexp"]
    found = subprocess.run(["git", "grep", *options, option], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (found.stdout, found.stderr) == ("", "")


@pytest.mark.server
def test_an_audit_that_learns_nothing_fails_unless_it_is_told_so() -> None:
    def recipe(*arguments: str) -> str:
        command = ["make", "--no-print-directory", "--dry-run", "audit", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert "pip-audit --strict" in recipe("OFFLINE=")
    assert f"for lock in {LAYER_LOCK.relative_to(ROOT)} requirements/*.txt" in recipe("OFFLINE=")
    assert [lock for lock in NPM_LOCKS if str(lock.parent.relative_to(ROOT)) not in recipe("OFFLINE=")] == []
    assert "deploy.advisories" in recipe("OFFLINE=")
    assert not re.search("npm|advisories", recipe("OFFLINE=1"))
    assert "nothing says" in recipe("OFFLINE=1")


@pytest.mark.parametrize("handler", sorted(ROOT.glob("functions/*/handler.py")), ids=lambda path: path.parent.name)
def test_handlers_are_thin(handler: Path) -> None:
    text = handler.read_text()
    assert len(text.splitlines()) <= 60
    imported = set(re.findall(r"^\s*(?:from|import) (\w+)", text, re.MULTILINE))
    assert imported <= sys.stdlib_module_names | {"migrations", "payments"}


def test_no_module_has_the_name_of_one_in_the_standard_library() -> None:
    """A script's own folder comes first on the path, so `python folder/script.py` would import the namesake."""
    folders = (
        "layers/shared/python/payments",
        "functions",
        "migrations",
        "contract",
        "deploy",
        "local",
        "cli",
        "chaos",
        "model",
        "bench",
    )
    files = [file for folder in folders for file in (ROOT / folder).rglob("*.py") if "__pycache__" not in file.parts]
    assert len(files) > 100
    names = {(file.parent if file.name == "__init__.py" else file): file for file in files}
    assert [str(path) for path in names if path.stem in sys.stdlib_module_names] == []
