"""What `sam deploy` will do: the command line, and samconfig.toml where the command line says nothing."""

import argparse
import functools
import os
import shlex
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent


class ArgumentsError(Exception):
    """The message says which argument is wrong, and why."""


@dataclass(frozen=True)
class Deployment:
    parameters: dict[str, str]  # those that are given; the template has defaults for the others
    stack: str | None
    region: str | None
    profile: str | None
    options: list[str]  # of `sam deploy`, without the parameters

    def parameter(self, name: str) -> str:
        return self.parameters.get(name) or str(declared()[name].get("Default", ""))

    def listed(self, name: str) -> list[str]:
        return [part.strip() for part in self.parameter(name).split(",") if part.strip()]


def read(arguments: Sequence[str], folder: Path = ROOT) -> Deployment:
    """Read NAME=VALUE and options of `sam deploy`, several in one argument too, quoted as for a shell. Raises ArgumentsError."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for option in ("--stack-name", "--region", "--profile", "--config-file", "--config-env"):
        parser.add_argument(option)
    parser.add_argument("--parameter-overrides", nargs="+", action="extend", default=[])
    known, others = parser.parse_known_args([part for each in arguments for part in shlex.split(each)])
    pairs = [*(each for each in others if _is_pair(each)), *known.parameter_overrides]
    configured = _configured(folder / (known.config_file or "samconfig.toml"), known.config_env or "default")
    kept = ("stack_name", "region", "profile", "config_file", "config_env")
    options = [part for name in kept if (value := getattr(known, name)) for part in (f"--{name.replace('_', '-')}", value)]
    return Deployment(
        parameters=_named(_overrides(configured)) | _named(pairs),
        stack=known.stack_name or configured.get("stack_name"),
        region=known.region or configured.get("region") or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"),
        profile=known.profile or configured.get("profile"),
        options=options + [each for each in others if not _is_pair(each)],
    )


@functools.cache
def declared() -> dict[str, dict[str, Any]]:
    """Return the template's parameters."""
    document = yaml.load((ROOT / "template.yaml").read_text(encoding="utf-8"), _Loader)  # noqa: S506 - a SafeLoader
    parameters: dict[str, dict[str, Any]] = document["Parameters"]
    return parameters


class _Loader(yaml.SafeLoader):
    """Read YAML and pass over CloudFormation's short tags, which no parameter uses."""


_Loader.add_multi_constructor("!", lambda *_: None)


def _is_pair(argument: str) -> bool:
    return not argument.startswith("-") and "=" in argument


def _named(pairs: Sequence[str]) -> dict[str, str]:
    values = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or name not in declared():
            raise ArgumentsError(f"{name if equals else pair}: the template has no such parameter; write NAME=VALUE")
        values[name] = value
    return values


def _configured(path: Path, environment: str) -> dict[str, Any]:
    try:
        sections = tomllib.loads(path.read_text(encoding="utf-8")).get(environment, {})
    except FileNotFoundError:
        return {}
    except tomllib.TOMLDecodeError as error:
        raise ArgumentsError(f"{path}: {error}") from error
    found: dict[str, Any] = {}
    for section in ("global", "deploy"):
        found |= sections.get(section, {}).get("parameters", {})
    return found


def _overrides(configured: dict[str, Any]) -> list[str]:
    """Return NAME=VALUE, which `sam deploy --guided` writes as one text with quotes and people also write as a list."""
    given = configured.get("parameter_overrides", [])
    return shlex.split(given) if isinstance(given, str) else [part for each in given for part in shlex.split(each)]
