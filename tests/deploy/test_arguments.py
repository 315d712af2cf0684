"""`make deploy`: build and deployment have one architecture and the parameters that were given once."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from deploy import __main__ as program
from deploy.arguments import ROOT, ArgumentsError, read
from tests.aws.test_deployments import by_sam

GUIDED = r"""
version = 0.1
[default.global.parameters]
stack_name = "payments"
[default.deploy.parameters]
region = "eu-central-1"
parameter_overrides = "JwtIssuer=\"https://login.shop.org\" JwtAudience=\"a,b\" Architecture=\"x86_64\" AlarmEmail=\"\""
[staging.deploy.parameters]
stack_name = "staging"
parameter_overrides = ["JwtAudience=c", "LogLevel=DEBUG"]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "samconfig.toml").write_text(GUIDED)
    return tmp_path


def test_the_answers_of_the_first_deployment_are_kept(folder: Path) -> None:
    found = read([], folder)
    assert found.parameters == {
        "JwtIssuer": "https://login.shop.org",
        "JwtAudience": "a,b",
        "Architecture": "x86_64",
        "AlarmEmail": "",
    }
    assert (found.stack, found.region, found.options) == ("payments", "eu-central-1", [])
    assert found.listed("JwtAudience") == ["a", "b"]


def test_the_command_line_wins_and_its_options_go_to_sam(folder: Path) -> None:
    found = read(["JwtAudience=z", "--guided", "--region", "eu-west-1", "--parameter-overrides", "Architecture=arm64"], folder)
    assert (found.parameter("JwtAudience"), found.parameter("Architecture"), found.region) == ("z", "arm64", "eu-west-1")
    assert found.parameter("JwtIssuer") == "https://login.shop.org"
    assert found.options == ["--region", "eu-west-1", "--guided"]


def test_another_environment_of_the_file_has_its_own(folder: Path) -> None:
    found = read(["--config-env", "staging"], folder)
    assert (found.stack, found.parameters) == ("staging", {"JwtAudience": "c", "LogLevel": "DEBUG"})
    assert found.parameter("Architecture") == "arm64"


@pytest.mark.parametrize("pair", ["Arcitecture=arm64", "JwtAudiences=a"])
def test_a_parameter_that_the_template_does_not_have_is_refused(pair: str, tmp_path: Path) -> None:
    with pytest.raises(ArgumentsError, match="no such parameter"):
        read([pair], tmp_path)


@pytest.mark.parametrize(("given", "architecture"), [([], "arm64"), (["Architecture=x86_64"], "x86_64")])
def test_what_is_built_is_what_is_deployed(
    given: list[str], architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        ran.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    config = str(tmp_path / "none.toml")
    assert program.main(["JwtAudience=a", *given, "--guided", "--config-file", config]) == 0
    build, deploy = ran
    assert build[-1] == f"ARCHITECTURE={architecture}"
    assert deploy[1:6] == ["deploy", "--config-file", config, "--guided", "--parameter-overrides"]
    assert set(deploy[6:]) == {'JwtAudience="a"', f'Architecture="{architecture}"'}


def test_nothing_is_deployed_after_a_build_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        ran.append(command)
        return subprocess.CompletedProcess(command, 2)

    monkeypatch.setattr(subprocess, "run", run)
    assert program.main([]) == 2
    assert len(ran) == 1


def test_several_values_come_in_one_argument_with_quotes_as_in_a_shell(tmp_path: Path) -> None:
    url = "postgresql://a@db:5432/p?sslmode=verify-full&sslrootcert=/opt/python/x.pem"
    found = read([f"DatabaseUrl={url} 'DirectOwner=a shop'", "", "--guided"], tmp_path)
    assert (found.parameters, found.options) == ({"DatabaseUrl": url, "DirectOwner": "a shop"}, ["--guided"])


@pytest.mark.server
def test_make_passes_on_what_it_is_given(tmp_path: Path) -> None:
    """A URL holds characters that a shell takes for its own."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    python.chmod(0o755)
    lines = (ROOT / "Makefile").read_text().splitlines()
    recipe = next(lines[number + 1] for number, line in enumerate(lines) if line.startswith("deploy:"))
    (tmp_path / "Makefile").write_text(
        "\n".join(
            [next(line for line in lines if line.startswith("given = ")), "deploy:", recipe.replace(".venv-sam/bin/", "./")]
        )
    )
    command = ["make", "--no-print-directory", "deploy", "PARAMETERS=DatabaseUrl=a?b&c LogLevel=DEBUG", "ARCHITECTURE=x86_64"]
    environment = {name: value for name, value in os.environ.items() if name not in {"ARGS", "MAKEFLAGS"}}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["-m", "deploy", "", "DatabaseUrl=a?b&c LogLevel=DEBUG", "Architecture=x86_64"]


SAMS_READING = """
import json, sys
from samcli.cli.types import CfnParameterOverridesType
print(json.dumps(CfnParameterOverridesType().convert(tuple(sys.argv[1:]), None, None)))
"""


@pytest.mark.server
def test_sam_reads_each_value_as_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        "AlarmEmail": "",
        "JwtAudience": "a,b",
        "DirectOwner": "a shop",
        "DatabaseUrl": "postgresql://a@db:5432/p?sslmode=verify-full&sslrootcert=/opt/python/x.pem",
    }
    ran: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        ran.append(command)
        return subprocess.CompletedProcess(command, 0)

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "run", run)
        pairs = [shlex.quote(f"{name}={value}") for name, value in given.items()]
        assert program.main([*pairs, "--config-file", str(tmp_path / "none.toml")]) == 0
    passed = ran[1][ran[1].index("--parameter-overrides") + 1 :]
    assert json.loads(by_sam(SAMS_READING, *passed)) == given | {"Architecture": "arm64"}
