"""Each AWS command of the operations page: the operation and the options exist, and what is required is given."""

from __future__ import annotations

import re
from collections.abc import Iterator

import botocore.session
import pytest
from botocore import xform_name
from botocore.exceptions import UnknownServiceError

from tests.aws.test_template import OPERATIONS, RESOURCES, TEMPLATE

GLOBAL = {"query", "output", "region", "profile", "cli-binary-format", "cli-read-timeout"}
"""Of the AWS CLI itself."""

ELSEWHERE = {
    "engine",  # a restore inherits these from its source
    "engine-version",
    "storage-encrypted",
    "database-name",
    "master-username",
    "snapshot-identifier",  # the other way to restore
    "use-latest-restorable-time",
    "master-user-secret",  # --master-user-secret-kms-key-id
    "enable-http-endpoint",  # a command of its own
    "backup-retention-period",  # nobody needs backups of what is only looked at
}
"""What the template's cluster has, and the restore of one to look at has not."""

COMMAND = re.compile(r"\baws ([a-z][a-z0-9-]+) (wait )?([a-z][a-z0-9-]+)")


def commands() -> Iterator[tuple[str, str, str]]:
    """Yield (service, operation, the rest of the command) of every command in a block of code or between backquotes."""
    code = re.findall(r"```sh\n(.*?)```", OPERATIONS, re.DOTALL) + re.findall(r"`(aws [^`]+ --[^`]+)`", OPERATIONS)
    for text in code:
        joined = re.sub(r"\\\n\s*", " ", re.sub(r"\n(?=\s+--)", " ", text))
        for found in COMMAND.finditer(joined):
            yield found[1], f"{found[2] or ''}{found[3]}", own(joined[found.end() :]).rstrip()


def own(rest: str) -> str:
    """Return the text up to the command's end, without the commands inside it and without quoted texts."""
    kept, depth, quote = "", 0, ""
    for n, character in enumerate(rest):
        if character == "(" and rest[n - 1 : n] == "$":
            depth += 1
        elif character == ")" and depth:
            depth -= 1
        elif not depth and character in "\"'" and quote in ("", character):
            quote = "" if quote else character
        elif not depth and not quote:
            if character in "\n;|)&":
                break
            kept += character
    return kept


ALL = sorted(set(commands()))


def test_the_commands_are_found() -> None:
    assert len(ALL) > 25
    assert {
        ("rds", "restore-db-cluster-to-point-in-time"),
        ("backup", "create-backup-vault"),
        ("rds", "wait db-cluster-available"),
    } <= {(service, operation) for service, operation, _ in ALL}


@pytest.mark.parametrize(("service", "operation", "rest"), ALL, ids=lambda text: text.strip()[:60] or "nothing")
def test_a_command_is_one_that_aws_knows(service: str, operation: str, rest: str) -> None:
    session = botocore.session.get_session()
    try:
        model = session.get_service_model(service)
    except UnknownServiceError:
        pytest.fail(f"there is no service {service}")
    if operation.startswith("wait "):
        waiters = session.get_waiter_model(service)
        names = {xform_name(name, "-"): name for name in waiters.waiter_names}
        assert operation.removeprefix("wait ") in names
        shape = model.operation_model(waiters.get_waiter(names[operation.removeprefix("wait ")]).operation).input_shape
        names = {}
    else:
        names = {xform_name(name, "-"): name for name in model.operation_names}
        assert operation in names
        shape = model.operation_model(names[operation]).input_shape
    assert shape is not None
    known = {xform_name(name, "-"): name for name in shape.members}
    flags = {f"no-{xform_name(name, '-')}" for name, member in shape.members.items() if member.type_name == "boolean"}
    given = set(re.findall(r"(?<!\S)--([a-z0-9-]+)", rest)) - GLOBAL
    assert given - known.keys() - flags == set()
    required = {xform_name(name, "-") for name in shape.required_members}
    assert required - given == set()


def test_a_restored_cluster_gets_what_the_template_gives_a_new_one() -> None:
    """RDS would use its defaults. The parameters of the restore and the modification are those of the template's cluster."""
    rests = {operation: rest for service, operation, rest in ALL if service == "rds"}
    made = rests["restore-db-cluster-to-point-in-time"] + rests["modify-db-cluster"]
    given = set(re.findall(r"--(?:no-)?([a-z0-9-]+)", made))
    wanted = {xform_name(name, "-") for name in RESOURCES["Database"]["Properties"]}
    assert wanted - given == ELSEWHERE


def test_the_page_names_resources_and_outputs_that_the_template_has() -> None:
    [stopped] = re.findall(r"for function in (.+); do", OPERATIONS)
    named = {*re.findall(r"resource (?:OLD|NEW) (\w+)", OPERATIONS), *stopped.split()}
    assert {"Database", "Key", "DatabaseSubnets", "ProcessFunction", "ReconcileFunction"} <= named <= RESOURCES.keys()
    outputs = set(re.findall(r"alias_of (?:OLD|NEW) (\w+)", OPERATIONS))
    assert {"FailedInvocationsUrl", "RefundFunctionArn"} <= outputs <= TEMPLATE["Outputs"].keys()
