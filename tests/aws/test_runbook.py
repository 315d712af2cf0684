"""docs/operations.md names only means that exist: of the template, of the code, of our command lines or of others."""

from __future__ import annotations

import functools
import json
import re
import shlex
from collections.abc import Iterator

import botocore.model
import botocore.session
import pytest
import typer
import typer.core
import typer.main
from botocore import xform_name

from payments_cli.commands import app
from tests.aws.test_alarms import DOCUMENTED
from tests.aws.test_template import CODE, OPERATIONS, RESOURCES, ROOT, TEMPLATE, TEXT, of_type
from tests.cases import case

BLOCK = re.compile(r"^ *```.*?^ *```$", re.DOTALL | re.MULTILINE)
SPANS = {re.sub(r"\s+", " ", span) for span in re.findall(r"`([^`\n]+(?:\n[^`\n]+)?)`", BLOCK.sub("", OPERATIONS))}
BLOCKS = "\n".join(BLOCK.findall(OPERATIONS)).replace("\\\n", " ")


def text_of(*patterns: str) -> str:
    return "\n".join(path.read_text(encoding="utf-8") for pattern in patterns for path in sorted(ROOT.glob(pattern)))


MAKEFILE = text_of("Makefile")
OURS = ("cli/payments_cli/*.py", "migrations/*.*", "deploy/*.py", "local/*.py", "contract/*.py")
SOURCES = "\n".join((CODE, TEXT, MAKEFILE, text_of(*OURS)))

OF_OTHERS = {
    # PostgreSQL, its statements, settings, views and messages
    "DROP INDEX", "IF NOT EXISTS", "VACUUM (FREEZE)", "ROLLBACK PREPARED", "SELECT pg_drop_replication_slot('NAME')",
    "SELECT pg_terminate_backend(4711)", "GRANT rds_iam TO payments_service", "canceling statement due to lock timeout",
    "default_transaction_isolation", "default_transaction_read_only", "search_path", "serializable", "public", "psql",
    "pg_read_all_stats", "pg_stat_activity", "max_connections", "DateStyle", "TimeZone", "n_dead_tup", "max(closed_at)",
    "autovacuum_vacuum_cost_limit", "REPLICA IDENTITY", "FOR ALL TABLES", "FOR TABLES IN SCHEMA public", "pg_read_all_data",
    "ALTER DEFAULT PRIVILEGES FOR ROLE OWNER IN SCHEMA public GRANT SELECT ON TABLES TO reporting",
    # PgBouncer's settings
    "auth_file", "auth_query", "default_pool_size", "max_user_client_connections", "max_client_conn",
    "query_wait_timeout", "server_login_retry",
    # Kafka's settings
    "default.replication.factor", "listener.name.client_iam.max.connections",
    # AWS: values, errors and members of records, and a query of CloudWatch Logs Insights
    "aud", "prx-…", "cluster-…", "Sandbox.Timedout", "ResourceNotFoundException", "AccessDeniedException",
    "errorMessage", "requestPayload", "Globals", "ConnectionBorrowTimeout", "MaxConnectionsPercent", "EngineVersion",
    '{"message":"Too Many Requests"}',
    'filter level in ["ERROR", "WARNING"] | sort @timestamp desc', "use1-az4", "use1-az6", "SSL_CERT_FILE: /opt/python/FILE.pem",
    "/opt/python/", "?sslmode=verify-full&sslrootcert=/opt/python/global-bundle.pem",
    # The shell, and values that the reader puts in
    "PATH", "kill -9", "invoke", "STACK", "SECOND", "SUBNETS",
}  # fmt: skip
"""What others define. A word of ours does not belong here, because nobody would notice when it goes."""


@functools.cache
def service(name: str) -> botocore.model.ServiceModel:
    return botocore.session.get_session().get_service_model(name)


ALIASES = {"InvokeFunction": "Invoke"}  # the action has another name than the operation


def is_action(service_name: str, action: str) -> bool:
    """Say whether IAM has the action, which nearly always has its operation's name."""
    known = service_name in botocore.session.get_session().get_available_services()
    return known and ALIASES.get(action, action) in service(service_name).operation_names


def is_operation(name: str) -> bool:
    """Say whether a service that the page names has the operation, in IAM's or in the AWS CLI's way of writing."""
    models = [service(each) for each in ("lambda", "sqs", "kms", "secretsmanager", "rds-data", "rds", "ec2", "cloudformation")]
    return any(name in model.operation_names or name in map(cli_name, model.operation_names) for model in models)


def cli_name(operation: str) -> str:
    return str(xform_name(operation, "-"))


def is_known(span: str) -> bool:
    if span in OF_OTHERS or span in TEMPLATE["Parameters"] or span in RESOURCES or span in TEMPLATE["Outputs"]:
        return True
    if span in {str(value) for each in TEMPLATE["Parameters"].values() for value in each.get("AllowedValues", [])}:
        return True
    if span in {name for names in DOCUMENTED.values() for name in names}:
        return True
    if re.fullmatch(r"[\w./-]+\.(py|sql|md|yaml|toml|pem)|[\w./-]+/", span):
        return (
            any((ROOT / folder / span).exists() for folder in (".", "layers/shared/python"))
            or span == "payments/gateway/stripe.py"
        )
    if match := re.fullmatch(r"([a-z-]+):([A-Z]\w+)", span):
        return is_action(*match.groups())
    if match := re.match(r"(?:PARAMETERS=)?([A-Z]\w+[a-z]\w*)=(\S*)$", span):
        allowed = TEMPLATE["Parameters"].get(match[1], {"AllowedValues": []}).get("AllowedValues", [match[2]])
        return match[2] in allowed
    if span.startswith("make "):
        return is_target(span.split()[1])
    if span.startswith("aws "):
        return not list(wrong_in_aws(span))
    if span.startswith("payments ") and not span.startswith("payments/"):
        return is_command(span)
    if match := re.fullmatch(r"/aws/(\w+)/STACK", span):
        return f"/aws/{match[1]}/${{AWS::StackName}}" in TEXT
    if match := re.fullmatch(r"STACK-(\w+)-…", span):
        return match[1] in RESOURCES and "LogGroupName" not in RESOURCES[match[1]]["Properties"]
    if match := re.match(r"((?:GET|POST) )?(/[\w/{}]+)(\?deep=true)?$", span):
        return match[2] in PATHS
    if match := re.fullmatch(r"s3://.*|[A-Z]+=\S+|--[a-z-]+", span):
        return span.partition("=")[0] in SOURCES or span in ("--guided",)
    if re.fullmatch(r"[a-z]+-[a-z-]+", span) and is_operation(span):
        return True
    if re.fullmatch(r"(?:[A-Z]+[a-z0-9]+){2,}", span):  # a name such as those of the template, which is none of them
        return is_operation(span)
    return all_words_are_ours(span)


PATHS = {
    event["Properties"].get("Path")
    for function in of_type("AWS::Serverless::Function").values()
    for event in function.get("Events", {}).values()
}


def all_words_are_ours(span: str) -> bool:
    phrase = span.replace(" ", "_")  # the command line shows `still_failing` with a blank
    words = [phrase] if phrase in SOURCES else re.findall(r"[A-Za-z_][\w-]+", span)
    return bool(words) and all(re.search(rf"\b{re.escape(word)}\b", SOURCES) for word in words)


def is_target(name: str) -> bool:
    return re.search(rf"^{name}:", MAKEFILE, re.MULTILINE) is not None


def is_command(text: str) -> bool:
    _, name, *options = text.split()
    commands = typer.main.get_command(app)
    assert isinstance(commands, typer.core.TyperGroup)
    if name not in commands.commands:
        return False
    known = {each for parameter in commands.commands[name].params for each in parameter.opts}
    return {option for option in options if option.startswith("--")} <= known


GLOBAL_OPTIONS = {"query", "output", "region", "profile", "cli-binary-format", "cli-read-timeout"}


def wrong_in_aws(command: str) -> Iterator[str]:
    """Yield what the AWS CLI would not take: its commands are the operations of botocore's models, its options their members."""
    words = re.findall(r"[^\s\"']+", re.sub(r"'[^']*'|\"[^\"]*\"", "VALUE", command))
    _, name, operation, *rest = words
    if operation == "wait":
        if rest[0] not in map(cli_name, botocore.session.get_session().get_waiter_model(name).waiter_names):
            yield f"aws {name} wait {rest[0]}"
        return
    operations = {cli_name(each): each for each in service(name).operation_names}
    if operation not in operations:
        yield f"aws {name} {operation}"
        return
    shape = service(name).operation_model(operations[operation]).input_shape
    members = {xform_name(member, "-") for member in shape.members} if shape else set()
    for word in rest:
        option = word.removeprefix("--").partition("=")[0]
        if shape and option.startswith("no-") and option[3:] in members:
            option = option[3:]  # of a boolean
        if word.startswith("--") and option not in members | GLOBAL_OPTIONS:
            yield f"aws {name} {operation} --{option}"


def aws_commands() -> list[str]:
    """Return the calls of the AWS CLI in the page's blocks, each up to where it ends."""
    found = re.findall(r"\baws [a-z0-9-]+ [a-z-]+ [^|;)\n]*", BLOCKS)
    return [command for command in found if not command.startswith("aws/")]


@pytest.mark.parametrize("span", sorted(SPANS))
def test_a_name_in_the_page_exists(span: str) -> None:
    assert is_known(span), f"docs/operations.md names `{span}`, which is nowhere else"


def test_the_aws_cli_takes_the_pages_commands() -> None:
    commands = aws_commands()
    assert len(commands) >= 10
    assert [wrong for command in commands for wrong in wrong_in_aws(command)] == []


def test_the_pages_commands_of_ours_exist() -> None:
    for target in set(re.findall(r"\bmake ([a-z-]+)", BLOCKS)):
        with case(target):
            assert is_target(target)
    commands = re.findall(r"^(payments [^#\n]+)", BLOCKS, re.MULTILINE)
    assert commands
    for command in commands:
        with case(command):
            assert is_command(command)
    for quoted in re.findall(r'(?:PARAMETERS|NO_[A-Z]+)="([^"]*)"', BLOCKS):
        names = {pair.partition("=")[0] for pair in shlex.split(quoted) if not re.fullmatch(r"\$NO_[A-Z]+", pair)}
        assert names <= TEMPLATE["Parameters"].keys()


def test_the_pages_outputs_and_widgets_exist() -> None:
    used = set(re.findall(r"\$\(output (\w+)\)", OPERATIONS)) | set(re.findall(r"^ *invoke (\w+) ", BLOCKS, re.MULTILINE))
    assert used <= TEMPLATE["Outputs"].keys()
    body = RESOURCES["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"][0]
    titles = {widget["properties"]["title"] for widget in json.loads(body)["widgets"]}
    alarms = OPERATIONS.split("\n## Alarms\n")[1].split("\n## ")[0]
    quoted = set(re.findall(r'(?<!`)"([A-Z][a-z][^"`]*)"', BLOCK.sub("", alarms)))
    assert len(quoted) >= 4
    assert quoted <= titles


@pytest.mark.parametrize(
    "span",
    [
        "NoSuchParameter", "NoSuchParameter=1", "DeploymentPreference=NoSuchValue", "nosuch:NoSuchAction",
        "NoSuchAlarm", "no_such_column", "make nothing", "payments nothing",
        "payments redrive --nothing", "aws sqs no-such-call", "aws sqs purge-queue --no-such-option 1", "sqs:NoSuchAction",
        "payments/no_such.py", "/aws/nothing/STACK", "GET /nothing", "ServiceVersion",
    ],
)  # fmt: skip
def test_a_name_that_is_nowhere_is_found(span: str) -> None:
    assert not is_known(span)
