"""One version, in `payments.__version__`: the service, the command line, the documents and the changelog say the same."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from payments import __version__
from payments_cli import __version__ as version_of_the_command_line
from payments_cli.commands import app

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_project_reads_its_version_from_the_package() -> None:
    assert "version" in PROJECT["project"]["dynamic"]
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "payments.__version__"}


def test_the_command_line_is_released_with_the_service() -> None:
    """It is a package of its own, which cannot import the service's."""
    assert version_of_the_command_line == __version__


def test_the_command_line_prints_its_version() -> None:
    assert CliRunner().invoke(app, ["--version"]).output == f"payments {__version__}\n"


@pytest.mark.parametrize("document", ["openapi.json", "asyncapi.yaml"])
def test_a_document_of_the_contract_has_the_version(document: str) -> None:
    text = (ROOT / "docs" / document).read_text(encoding="utf-8")
    info = (json.loads(text) if document.endswith(".json") else yaml.safe_load(text))["info"]
    assert info["version"] == __version__


def test_the_changelog_ends_with_the_version() -> None:
    """Above it stands only what is not released yet."""
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[:2] == ["Unreleased", __version__]
