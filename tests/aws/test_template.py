"""template.yaml as it is deployed: rules that no linter knows."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from local.template import _Loader
from migrations import roles
from payments.api.callers import API_GATEWAYS_ALIAS
from payments.direct_owner import direct_owner_in
from payments.domain.operation import GATEWAY_KEY_LIFETIME_S
from payments.settings import settings_from
from payments.settings_error import SettingsError
from payments.store.address import CONNECT_TIMEOUT_S
from tests.migrations.test_apply import query
from tests.servers import Database

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "template.yaml").read_text(encoding="utf-8")
TEMPLATE: dict[str, Any] = yaml.load(TEXT, _Loader)
RESOURCES: dict[str, dict[str, Any]] = TEMPLATE["Resources"]
OPERATIONS = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
SHIPPED = [*(ROOT / "layers/shared/python/payments").rglob("*.py"), *ROOT.glob("functions/*/*.py")]
CODE = "\n".join(path.read_text(encoding="utf-8") for path in SHIPPED)


def of_type(kind: str) -> dict[str, dict[str, Any]]:
    return {name: resource.get("Properties", {}) for name, resource in RESOURCES.items() if resource["Type"] == kind}


def statements() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, properties in (of_type("AWS::IAM::ManagedPolicy") | of_type("AWS::IAM::Role")).items():
        documents = [properties["PolicyDocument"]] if "PolicyDocument" in properties else []
        documents += [policy["PolicyDocument"] for policy in properties.get("Policies", [])]
        for document in documents:
            for given in document["Statement"]:
                _, statement, otherwise = given.get("Fn::If", (None, given, {"Ref": "AWS::NoValue"}))
                assert otherwise == {"Ref": "AWS::NoValue"}, "read it, too"
                yield name, statement


def test_no_policy_of_ours_has_a_wildcard() -> None:
    found = list(statements())
    assert found
    assert [(name, statement) for name, statement in found if "*" in json.dumps(statement)] == []


@pytest.mark.parametrize("name", of_type("AWS::Serverless::Function"))
def test_retries_of_asynchronous_invocations_are_told(name: str) -> None:
    properties = RESOURCES[name]["Properties"]
    if name in ("LookupsFunction", "WebhooksFunction"):
        assert "EventInvokeConfig" not in properties, "API Gateway waits for its answers"
        return
    config = properties["EventInvokeConfig"]
    assert "MaximumRetryAttempts" in config
    if config["MaximumRetryAttempts"]:
        assert config["MaximumEventAgeInSeconds"] < 86400, "the gateway forgets a key after a day"
        assert config["DestinationConfig"]["OnFailure"]["Type"] == "SQS"


def test_only_sam_local_says_that_it_is_sam_local() -> None:
    assert "AWS_SAM_LOCAL" not in TEXT, "the variable lets a caller in without a token"


def test_the_dashboard_is_json_and_names_resources_that_are_there() -> None:
    body, names = RESOURCES["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
    widgets = json.loads(body)["widgets"]
    assert len(widgets) == 15
    used = {name.split(".")[0] for name in re.findall(r"\$\{([^}]+)\}", body)}
    assert used <= RESOURCES.keys() | names.keys() | {"AWS::Region", "AWS::StackName"}
    places = [(widget["x"], widget["y"]) for widget in widgets]
    assert len(set(places)) == len(places)


def our_metrics() -> set[str]:
    """Return the names of the metrics in our namespace that alarms and dashboard use."""
    dashboard = RESOURCES["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"][0]
    names = set(re.findall(r'"Payments", "(\w+)"', dashboard)) | set(re.findall(r'MetricName=\\"(\w+)\\"', dashboard))
    for alarm in of_type("AWS::CloudWatch::Alarm").values():
        watched = [alarm, *(metric["MetricStat"]["Metric"] for metric in alarm.get("Metrics", []) if "MetricStat" in metric)]
        names |= {each["MetricName"] for each in watched if each.get("Namespace") == "Payments"}
    return names


BROUGHT = {
    "DatabaseUrl": "postgresql://payments_service@db:5432/payments",
    "DatabaseOwnerUrl": "postgresql://payments_owner@db:5432/payments",
    "DatabaseSecretArn": "arn:service",
    "DatabaseOwnerSecretArn": "arn:owner",
    "KafkaBootstrapServers": "broker:9096",
    "KafkaSecretArn": "arn:kafka",
    "VpcId": "vpc-1",
    "SubnetIds": "subnet-1,subnet-2",
}
TRUSTED = {"ApiTruststoreUri": "s3://bucket/authorities.pem", "ApiTruststoreVersion": "1"}
SNAPSHOT = {"DatabaseSnapshot": "arn:snapshot", "DatabaseEngineVersion": "17.7"}
SOURCE = {"DatabaseSourceCluster": "payments-01234567", "DatabaseRestoreTime": "2026-01-31T12:00:00Z"}
STRIPE = {"Gateway": "stripe", "StripeSecretArn": "arn:stripe"}
STRIPE_BUS = {"StripeEventBusName": "aws.partner/stripe.com/ed_test_1"}
KEYS = {"SecretsKeyArns": "arn:key-1,arn:key-2"}
TOKENS = {"DatabaseResourceId": "cluster-1", "DatabaseSecretArn": "", "DatabaseOwnerSecretArn": ""}


@pytest.mark.parametrize(
    ("given", "refused"),
    [
        ({}, set()),
        (BROUGHT, set()),
        (BROUGHT | TOKENS | {"KafkaSecretArn": "", "KafkaClusterArn": "arn:msk"}, set()),
        (BROUGHT | {"DatabaseSecretArn": ""}, {"DatabaseIsReached"}),
        (BROUGHT | {"DatabaseOwnerUrl": ""}, {"DatabaseIsReached"}),
        (BROUGHT | {"DatabaseOwnerSecretArn": ""}, {"DatabaseIsReached"}),
        (BROUGHT | {"KafkaSecretArn": ""}, {"KafkaIsReached"}),
        (BROUGHT | SNAPSHOT, {"DatabaseIsReached"}),
        (BROUGHT | SOURCE, {"DatabaseIsReached"}),
        (BROUGHT | {"BackupCopyVaultArn": "arn:vault"}, {"DatabaseIsReached"}),
        ({"BackupCopyVaultArn": "arn:vault"}, set()),
        (SNAPSHOT, set()),
        (SNAPSHOT | {"DatabaseEngineVersion": "17"}, {"SnapshotHasVersion"}),
        (SOURCE, set()),
        (SOURCE | {"DatabaseRestoreTime": "latest"}, set()),
        (SOURCE | {"DatabaseRestoreTime": ""}, {"SourceHasMoment"}),
        ({"DatabaseRestoreTime": "latest"}, {"SourceHasMoment"}),
        (SNAPSHOT | SOURCE, {"SnapshotHasVersion"}),
        (BROUGHT | {"VpcId": "", "SubnetIds": ""}, {"DatabaseIsReached", "KafkaIsReached"}),
        (BROUGHT | {"DatabaseUrl": ""}, {"DatabaseIsNamed"}),
        (BROUGHT | {"KafkaBootstrapServers": ""}, {"KafkaIsNamed"}),
        ({"DatabaseOwnerUrl": BROUGHT["DatabaseOwnerUrl"]}, {"DatabaseIsNamed"}),
        ({"DatabaseResourceId": "cluster-1"}, {"DatabaseIsNamed"}),
        ({"DatabaseSecretArn": "arn:service"}, {"DatabaseIsNamed"}),
        ({"DatabaseOwnerSecretArn": "arn:owner"}, {"DatabaseIsNamed"}),
        ({"KafkaClusterArn": "arn:msk"}, {"KafkaIsNamed"}),
        ({"KafkaSecretArn": "arn:kafka"}, {"KafkaIsNamed"}),
        ({"VpcId": "vpc-1", "SubnetIds": "subnet-1,subnet-2"}, set()),
        ({"VpcId": "vpc-1"}, {"VpcHasSubnets"}),
        ({"SubnetIds": "subnet-1,subnet-2"}, {"SubnetsHaveVpc"}),
        ({"AvailabilityZones": "us-east-1a,us-east-1b"}, set()),
        (BROUGHT | {"AvailabilityZones": "us-east-1a,us-east-1b"}, {"VpcHasSubnets"}),
        ({"ApiDomainName": "pay.shop.org", "ApiCertificateArn": "arn:cert"}, set()),
        ({"ApiDomainName": "pay.shop.org", "ApiCertificateArn": "arn:cert"} | TRUSTED, set()),
        ({"ApiDomainName": "pay.shop.org", "ApiCertificateArn": "arn:cert", "ApiKeepsOldAddress": "true"}, set()),
        (
            {"ApiDomainName": "pay.shop.org", "ApiCertificateArn": "arn:cert", "ApiKeepsOldAddress": "true"} | TRUSTED,
            {"TruststoreIsTheOnlyWay"},
        ),
        ({"ApiDomainName": "pay.shop.org"}, {"DomainHasCertificate"}),
        ({"ApiCertificateArn": "arn:cert"}, {"DomainIsNamed"}),
        (TRUSTED, {"DomainIsNamed"}),
        ({"ApiTruststoreVersion": "1"}, {"TruststoreIsNamed"}),
        ({"SnapStart": "On"}, set()),
        ({"SnapStart": "On", "ProvisionedConcurrency": "1"}, {"SnapStartStandsAlone"}),
        ({"SnapStart": "On", "PublishAfterAnswer": "On"}, {"SnapStartStandsAlone"}),
        ({"ProvisionedConcurrency": "1", "PublishAfterAnswer": "On"}, set()),
        (STRIPE, set()),
        (STRIPE | STRIPE_BUS, set()),
        (STRIPE_BUS, {"StripeIsChosen"}),
        (BROUGHT | STRIPE | {"GatewayLive": "On"}, set()),
        (STRIPE | {"NatGateways": "2"}, set()),
        (BROUGHT | STRIPE | {"NatGateways": "2"}, {"NatGatewaysAreOurs"}),
        (STRIPE | KEYS, set()),
        (BROUGHT | KEYS, set()),
        (KEYS, {"KeysHaveSecrets"}),
        (STRIPE | {"SecretsKeyArns": "arn:key-1,"}, {"KeysHaveSecrets"}),
        ({"Gateway": "stripe"}, {"StripeHasSecret"}),
        ({"StripeSecretArn": "arn:stripe"}, {"StripeIsChosen"}),
        ({"GatewayLive": "On"}, {"StripeIsChosen"}),
        ({"NatGateways": "2"}, {"StripeIsChosen"}),
    ],
)
def test_parameters_that_do_not_fit_together_are_refused_before_anything_is_made(
    given: dict[str, str], refused: set[str]
) -> None:
    values = {name: str(each.get("Default", "x")) for name, each in TEMPLATE["Parameters"].items()} | given

    def holds(expression: dict[str, Any]) -> bool:
        [(function, operands)] = expression.items()
        match function:
            case "Fn::Equals":
                left, right = operands
                return values[left["Ref"]] == str(right)
            case "Fn::Not":
                return not holds(operands[0])
            case "Fn::Or":
                return any(holds(operand) for operand in operands)
            case "Fn::And":
                return all(holds(operand) for operand in operands)
            case "Fn::Contains":
                members, value = operands
                if isinstance(members, dict):
                    return value in values[members["Ref"]].split(",")
                return values[value["Ref"]] in members
            case "Fn::EachMemberEquals":
                members, value = operands
                return all(member == value for member in values[members["Ref"]].split(","))
        raise AssertionError(f"a rule does not know {function}")

    assert refused == {
        name
        for name, rule in TEMPLATE["Rules"].items()
        if holds(rule["RuleCondition"]) and not all(holds(assertion["Assert"]) for assertion in rule["Assertions"])
    }


def holds(condition: dict[str, Any], given: dict[str, str]) -> bool:
    """Say whether a condition of the template is true with these parameters."""
    [(function, operands)] = condition.items()
    match function:
        case "Condition":
            return holds(TEMPLATE["Conditions"][operands], given)
        case "Fn::Equals":
            name = operands[0]["Ref"]
            return bool(given.get(name, str(TEMPLATE["Parameters"][name].get("Default", "x"))) == operands[1])
        case "Fn::Not":
            return not holds(operands[0], given)
        case "Fn::Or":
            return any(holds(operand, given) for operand in operands)
        case "Fn::And":
            return all(holds(operand, given) for operand in operands)
    raise AssertionError(f"a condition has {function}")


def of_the_database(**given: str) -> dict[str, Any]:
    """Return the cluster's properties as CloudFormation resolves them with these parameters."""
    values = {name: str(each.get("Default", "x")) for name, each in TEMPLATE["Parameters"].items()} | given

    def resolved(value: Any) -> Any:
        if isinstance(value, dict) and "Fn::If" in value:
            name, yes, no = value["Fn::If"]
            return resolved(yes if holds({"Condition": name}, given) else no)
        return values.get(value["Ref"], value["Ref"]) if isinstance(value, dict) and "Ref" in value else value

    properties = {name: resolved(value) for name, value in RESOURCES["Database"]["Properties"].items()}
    return {name: value for name, value in properties.items() if value != "AWS::NoValue"}


BEGINNINGS = (
    "EngineVersion",
    "DatabaseName",
    "MasterUsername",
    "SnapshotIdentifier",
    "SourceDBClusterIdentifier",
    "RestoreToTime",
)


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ({}, {"EngineVersion": "17", "DatabaseName": "payments", "MasterUsername": "payments_owner"}),
        (SNAPSHOT, {"EngineVersion": "17.7", "SnapshotIdentifier": "arn:snapshot"}),
        (SOURCE, {"SourceDBClusterIdentifier": "payments-01234567", "RestoreToTime": "2026-01-31T12:00:00Z"}),
        (
            SOURCE | {"DatabaseRestoreTime": "latest"},
            {"SourceDBClusterIdentifier": "payments-01234567", "UseLatestRestorableTime": True},
        ),
    ],
    ids=["new", "from a snapshot", "at a moment", "at the latest moment"],
)
def test_the_database_is_new_or_starts_from_what_it_is_restored_from(given: dict[str, str], made: dict[str, Any]) -> None:
    """What is restored brings its database and its owner along, and RDS refuses both beside it. What CloudFormation's handler
    sets afterwards is the same in all: the owner's password, IAM authentication, the Data API, backups, protection."""
    database = of_the_database(**given)
    beginning = {name: database[name] for name in (*BEGINNINGS, "UseLatestRestorableTime") if name in database}
    assert beginning == made
    assert {name: value for name, value in database.items() if name not in beginning} == {
        name: value for name, value in of_the_database().items() if name not in BEGINNINGS
    }
    assert database["ManageMasterUserPassword"] is database["EnableIAMDatabaseAuthentication"] is True
    assert database["EnableHttpEndpoint"] is database["CopyTagsToSnapshot"] is database["StorageEncrypted"] is True


def test_copies_in_another_region_outlive_the_stack_and_expire_with_their_source() -> None:
    made = {name: each for name, each in RESOURCES.items() if each.get("Condition") == "CopiesBackups"}
    assert sorted(each["Type"] for each in made.values()) == [
        "AWS::Backup::BackupPlan",
        "AWS::Backup::BackupSelection",
        "AWS::Backup::BackupVault",
        "AWS::CloudWatch::Alarm",
        "AWS::IAM::Role",
    ]
    assert made["BackupVault"]["DeletionPolicy"] == "RetainExceptOnCreate"
    [rule] = made["BackupPlan"]["Properties"]["BackupPlan"]["BackupPlanRule"]
    [copy] = rule["CopyActions"]
    assert copy == {"DestinationBackupVaultArn": {"Ref": "BackupCopyVaultArn"}, "Lifecycle": rule["Lifecycle"]}
    [database] = made["BackupSelection"]["Properties"]["BackupSelection"]["Resources"]
    assert database in ({"Fn::GetAtt": "Database.DBClusterArn"}, {"Fn::GetAtt": ["Database", "DBClusterArn"]})


def test_the_metrics_that_are_watched_are_written() -> None:
    assert {name for name in our_metrics() if f'"{name}"' not in CODE} <= {"ColdStart"}  # Powertools writes that one


def test_each_alarm_is_explained() -> None:
    alarms = of_type("AWS::CloudWatch::Alarm")
    assert alarms
    assert {name for name in alarms if f"`{name}`" not in OPERATIONS} == set()
    assert all(alarm["AlarmActions"] for alarm in alarms.values())


def test_what_is_invoked_by_hand_is_the_version_that_serves() -> None:
    outputs = TEMPLATE["Outputs"]
    assert set(re.findall(r"\$\(output (\w+)\)", OPERATIONS)) <= outputs.keys()
    invoked = set(re.findall(r"^ *invoke (\w+) '", OPERATIONS, re.MULTILINE))
    assert invoked == {"MigrateFunctionArn", "RelayFunctionArn", "ReconcileFunctionArn"}
    assert {name for name in invoked if not outputs[name]["Value"]["Ref"].endswith("Function.Alias")} == set()


@pytest.mark.server
@pytest.mark.parametrize(("function_error", "exit_code"), [("None", 0), ("Unhandled", 1), ("", 1)])
def test_a_function_that_failed_fails_the_command_that_invoked_it(tmp_path: Path, function_error: str, exit_code: int) -> None:
    """The AWS CLI's exit code says only whether the function was invoked. "" stands for a function that was not."""
    [functions] = re.findall(r"^output\(\) .*?^}$", OPERATIONS, re.MULTILINE | re.DOTALL)
    aws = tmp_path / "aws"
    aws.write_text(
        "#!/bin/bash\n"
        'if [ "$1" = cloudformation ]; then echo "arn:$6"; exit; fi\n'
        'while [ "$1" != --payload ]; do shift; done\n'
        f'[ -z "{function_error}" ] && exit 254; echo "answered $2" > answer.json; echo "{function_error}"\n'
    )
    aws.chmod(0o755)
    (tmp_path / "answer.json").write_text("of the time before\n")
    done = subprocess.run(
        ["bash", "-c", functions + "\ninvoke MigrateFunctionArn '{}'"],
        cwd=tmp_path,
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (exit_code, "answered {}\n" if function_error else "", "")


def test_the_runbook_finds_what_reconcile_counts_as_exhausted(own_database: Database) -> None:
    sql, refused, *as_owner = re.findall(r'^SQL="([^"]+)"$', OPERATIONS, re.MULTILINE)
    assert query(own_database.service_url, sql) == query(own_database.service_url, refused) == []
    for statement in as_owner:
        assert query(own_database.owner_url, statement), statement
    assert "next_attempt_at IS NULL OR" in sql
    assert f"interval '{GATEWAY_KEY_LIFETIME_S // 3600} hours'" in sql


def test_a_first_deployment_that_failed_leaves_nothing_that_its_repetition_stumbles_over() -> None:
    kept = {name: resource for name, resource in RESOURCES.items() if resource.get("DeletionPolicy") == "Retain"}
    assert {name for name, resource in kept.items() if "LogGroupName" in resource["Properties"]} == set()
    assert kept.keys() == {"KafkaBootstrapLogs"}
    assert RESOURCES["Database"]["Properties"]["DeletionProtection"] == {"Ref": "DatabaseDeletionProtection"}
    assert TEMPLATE["Parameters"]["DatabaseDeletionProtection"]["Default"] == "false"


def test_an_account_with_a_small_quota_takes_the_defaults() -> None:
    assert TEMPLATE["Parameters"]["ReservedConcurrency"]["Default"] == 0
    for name, properties in of_type("AWS::Serverless::Function").items():
        condition, _, otherwise = properties["ReservedConcurrentExecutions"]["Fn::If"]
        assert (condition, otherwise) == ("ReservesConcurrency", {"Ref": "AWS::NoValue"}), name


def test_a_function_without_sams_help_is_not_traced() -> None:
    """SAM gives the role of a traced function access to X-Ray. A role that we write has no access beyond the template's."""
    assert {name for name, properties in of_type("AWS::Lambda::Function").items() if "TracingConfig" in properties} == set()


def test_the_proxy_reads_the_secrets_of_its_three_roles_and_no_other() -> None:
    proxy = RESOURCES["DatabaseProxy"]["Properties"]
    assert "DefaultAuthScheme" not in proxy
    assert [(way["AuthScheme"], way["IAMAuth"]) for way in proxy["Auth"]] == [("SECRETS", "REQUIRED")] * 3
    secrets = [way["SecretArn"] for way in proxy["Auth"]]
    assert secrets == [
        {"Ref": "ServiceSecret"},
        {"Ref": "ScheduledSecret"},
        {"Fn::GetAtt": "Database.MasterUserSecret.SecretArn"},
    ]
    allowed = [statement for name, statement in statements() if name == "ProxyRole"]
    assert [one["Resource"] for one in allowed if one["Action"] == "secretsmanager:GetSecretValue"] == [secrets]
    assert {one["Action"] for one in allowed} == {"secretsmanager:GetSecretValue", "kms:Decrypt"}


@pytest.mark.parametrize("secret", ["ServiceSecret", "ScheduledSecret"])
def test_only_the_proxy_and_migrate_read_the_roles_passwords(secret: str) -> None:
    readers = {name for name, statement in statements() if secret in json.dumps(statement)}
    assert readers == {"ProxyRole", "ServiceSecretPolicy"}
    attached = {
        name
        for name, properties in of_type("AWS::Serverless::Function").items()
        if "ServiceSecretPolicy" in json.dumps(properties)
    }
    assert attached == {"MigrateFunction"}


def test_relay_and_reconcile_alone_may_log_in_as_the_role_whose_connections_no_caller_takes() -> None:
    functions = of_type("AWS::Serverless::Function")
    named = {name: each.get("Environment", {}).get("Variables", {}).get("DATABASE_ROLE") for name, each in functions.items()}
    scheduled = {"RelayFunction", "ReconcileFunction"}
    assert {name: role for name, role in named.items() if role} == dict.fromkeys(scheduled, "payments_scheduled")
    assert {name for name, each in functions.items() if "ScheduledPolicy" in json.dumps(each["Policies"])} == scheduled
    logins = {name for name, statement in statements() if "/payments_scheduled" in json.dumps(statement)}
    assert logins == {"ScheduledPolicy"}
    for name in scheduled:
        # A role that is not made yet, or has no login, must not stop them.
        assert '"DatabasePolicy"' in json.dumps(functions[name]["Policies"])


def test_the_share_of_relay_and_reconcile_is_what_may_run_at_once() -> None:
    functions = of_type("AWS::Serverless::Function")
    at_once = [functions[name]["ReservedConcurrentExecutions"]["Fn::If"][1] for name in ("RelayFunction", "ReconcileFunction")]
    assert sum(at_once) == roles.SCHEDULED
    pool = RESOURCES["DatabaseProxyTargets"]["Properties"]["ConnectionPoolConfigurationInfo"]
    assert pool["MaxConnectionsPercent"] == 90, "migrations/roles.py shares out 90 % of max_connections"
    assert 1 <= pool["ConnectionBorrowTimeout"] < CONNECT_TIMEOUT_S, "the proxy answers before we give the connection up"


def test_the_databases_log_is_there_before_rds_makes_one() -> None:
    assert RESOURCES["Database"]["DependsOn"] == "DatabaseLogs"
    identifier, parts = RESOURCES["Database"]["Properties"]["DBClusterIdentifier"]["Fn::Sub"]
    logs = RESOURCES["DatabaseLogs"]["Properties"]
    assert logs["LogGroupName"]["Fn::Sub"] == [f"/aws/rds/cluster/{identifier}/postgresql", parts]
    assert {"RetentionInDays", "KmsKeyId"} <= logs.keys()


@pytest.mark.parametrize("name", ["DatabaseUrl", "DatabaseOwnerUrl"])
def test_a_parameter_that_everybody_can_read_takes_no_password(name: str) -> None:
    pattern = TEMPLATE["Parameters"][name]["AllowedPattern"]
    for url in ("", "postgresql://payments_service@db.example.com:5432/payments?sslmode=verify-full"):
        assert re.fullmatch(pattern, url), url
    assert not re.fullmatch(pattern, "postgresql://payments_service:secret@db.example.com:5432/payments")


NAMES = "JwtIssuer|JwtAudience|OrderServiceRoleArn|DatabaseUrl|DatabaseOwnerUrl|DatabaseSnapshot|DatabaseSourceCluster"
EXAMPLE = re.compile(rf"\b({NAMES})=([^\s`\"]+)")


def allowed(name: str, value: str) -> bool:
    return re.fullmatch(TEMPLATE["Parameters"][name]["AllowedPattern"], value) is not None


def test_pages_are_named_by_origins_alone() -> None:
    """API Gateway would compare anything else with the browser's header for ever, and never find it."""
    for origin in ("https://shop.example.com", "http://localhost:3000", "*", "https://*"):
        assert allowed("CorsAllowOrigins", origin), origin
    for origin in (
        "https://shop.example.com/",
        "https://shop.example.com/pay",
        "shop.example.com",
        "https://Shop.example.com",
        "null",
        "",
    ):
        assert not allowed("CorsAllowOrigins", origin), origin


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RetryScheduleSeconds", "30d"),
        ("RetryScheduleSeconds", "30, 120"),
        ("RetryScheduleSeconds", "30,30d,120"),
        ("RetryScheduleSeconds", "30,0d"),
        ("RetryScheduleSeconds", ""),
        ("StripeSecretArn", "payments/stripe"),
        ("StripeSecretArn", "arn:aws:secretsmanager:eu-central-1:210987654321:secret:payments/stripe"),
        ("StripeSecretArn", "sk_live_key"),
        ("StripeEventBusName", "default"),
        ("StripeEventBusName", "aws.partner/stripe.com/"),
    ],
)
def test_what_the_functions_or_iam_would_not_understand_is_refused(name: str, value: str) -> None:
    assert not allowed(name, value)


@pytest.mark.parametrize("value", ["1", "5", "10", "19", "020", "-20", "20.5", ""])
def test_too_few_connections_for_callers_are_refused(value: str) -> None:
    """`migrate` refuses them too, but after the deployment."""
    assert not allowed("DatabaseConnections", value)


def test_example_values_of_the_pages_are_refused() -> None:
    examples = EXAMPLE.findall(OPERATIONS)
    assert {name for name, _ in examples} >= {"JwtIssuer", "OrderServiceRoleArn", "DatabaseUrl", "DatabaseSnapshot"}
    assert [(name, value) for name, value in examples if allowed(name, value)] == []
    [described] = re.findall(r"https://\S+", TEMPLATE["Parameters"]["JwtIssuer"]["Description"])
    for issuer in (described, "https://issuer.example.com", "https://example.com/", "https://auth.example", "https://ISSUER"):
        assert not allowed("JwtIssuer", issuer), issuer
    assert not allowed("OrderServiceRoleArn", "arn:aws:iam::123456789012:role/order-service")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("JwtIssuer", "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_aBcD12345"),
        ("JwtIssuer", "https://tenant.eu.auth0.com/"),
        ("JwtIssuer", "https://login.my-examples.org:8443/oauth2/default"),
        ("JwtAudience", "payments"),
        ("JwtAudience", "https://api.shop.org"),
        ("OrderServiceRoleArn", ""),
        ("OrderServiceRoleArn", "arn:aws-us-gov:iam::210987654321:role/path/order-service"),
        ("DatabaseConnections", "0"),
        ("DatabaseConnections", str(roles.FEWEST)),
        ("DatabaseConnections", "199"),
        ("DatabaseConnections", "5000"),
        ("DatabaseEngineVersion", "17"),
        ("DatabaseEngineVersion", "15.10"),
        ("DatabaseSourceCluster", "payments-01234567"),
        ("DatabaseSnapshot", "arn:aws:rds:eu-west-1:210987654321:cluster-snapshot:awsbackup:copyjob-0c3f"),
        ("DatabaseRestoreTime", "2026-11-28T23:59:59Z"),
        ("DatabaseRestoreTime", "latest"),
        ("BackupCopyVaultArn", "arn:aws-us-gov:backup:us-gov-west-1:210987654321:backup-vault:payments"),
        ("BackupCopySchedule", "cron(0 * * * ? *)"),
        ("RetryScheduleSeconds", "30,120,600,3600,21600,72000"),
        ("RetryScheduleSeconds", "0.5,1,30d"),
        ("StripeSecretArn", "arn:aws:secretsmanager:eu-central-1:210987654321:secret:payments/stripe-AbCd12"),
        ("StripeSecretArn", ""),
        ("StripeEventBusName", "aws.partner/stripe.com/ed_test_61RaYT"),
        ("StripeEventBusName", ""),
    ],
)
def test_values_of_ones_own_are_taken(name: str, value: str) -> None:
    assert allowed(name, value)


def test_the_database_starts_with_a_minor_version_that_rds_still_offers() -> None:
    assert TEMPLATE["Parameters"]["DatabaseEngineVersion"]["Default"] == "17"
    assert not allowed("DatabaseEngineVersion", "14.9")


@pytest.mark.parametrize(
    "moment", ["2026-11-28", "2026-11-28T23:59:59", "2026-11-28T23:59:59+01:00", "2026-11-28 23:59:59Z", "now"]
)
def test_a_moment_is_in_utc_and_to_the_second(moment: str) -> None:
    assert not allowed("DatabaseRestoreTime", moment)


def test_the_template_asks_about_unknown_outcomes_when_the_code_would() -> None:
    servers = {"DATABASE_URL": "postgresql://u@h/d", "KAFKA_BOOTSTRAP_SERVERS": "h:1"}
    default = TEMPLATE["Parameters"]["RetryScheduleSeconds"]["Default"]
    assert settings_from(servers | {"RETRY_SCHEDULE_S": default}) == settings_from(servers)
    assert allowed("RetryScheduleSeconds", default)


@pytest.mark.parametrize("name", ["CaptureWindowSeconds", "ActionWindowSeconds"])
def test_a_window_that_the_functions_refuse_at_their_start_is_refused_before_anything_is_deployed(name: str) -> None:
    servers = {"DATABASE_URL": "postgresql://u@h/d", "KAFKA_BOOTSTRAP_SERVERS": "h:1"}
    variable, parameter = {"C": "CAPTURE_WINDOW_S", "A": "ACTION_WINDOW_S"}[name[0]], TEMPLATE["Parameters"][name]
    least, most = parameter.get("MinValue", -math.inf), parameter.get("MaxValue", math.inf)
    for seconds in (least, most):
        settings_from(servers | {variable: str(seconds)})
    for seconds in (least - 1, most + 1):
        with pytest.raises(SettingsError, match=variable):
            settings_from(servers | {variable: str(seconds)})


def test_a_vpc_in_us_east_1_avoids_the_zone_without_proxy_and_brokers() -> None:
    """A zone has another letter in each account; its id is the same in all."""
    assert TEMPLATE["Conditions"]["AvoidsZone"]["Fn::And"][0] == {"Fn::Equals": [{"Ref": "AWS::Region"}, "us-east-1"]}
    subnets = list(of_type("AWS::EC2::Subnet").values())
    identifiers = {subnet["AvailabilityZoneId"]["Fn::If"][1] for subnet in subnets}
    assert len(identifiers) == 2
    assert all(re.fullmatch(r"use1-az[12456]", identifier) for identifier in identifiers)
    for subnet in subnets:
        absent = {"Ref": "AWS::NoValue"}
        assert (subnet["AvailabilityZoneId"]["Fn::If"][2], subnet["AvailabilityZone"]["Fn::If"][1]) == (absent, absent)


CALL_THE_GATEWAY = {"ProcessFunction", "RefundFunction", "ReconcileFunction", "GatewayEventsFunction"}


def test_the_courier_and_who_calls_stripe_alone_have_a_way_out() -> None:
    table = {name: each["SubnetId"]["Ref"] for name, each in of_type("AWS::EC2::SubnetRouteTableAssociation").items()}
    tables = {each["RouteTableId"]["Ref"]: table[name] for name, each in of_type("AWS::EC2::SubnetRouteTableAssociation").items()}
    assert set(table.values()) == {"NatSubnet", "NatSubnetB", "CourierSubnet", "GatewaySubnetA", "GatewaySubnetB"}
    by_nat = {each["RouteTableId"]["Ref"] for each in of_type("AWS::EC2::Route").values() if "NatGatewayId" in each}
    assert {tables[name] for name in by_nat} == {"CourierSubnet", "GatewaySubnetA", "GatewaySubnetB"}
    functions = of_type("AWS::Serverless::Function")
    assert {name for name, each in functions.items() if "CourierSubnet" in json.dumps(each)} == {"CourierFunction"}
    assert {name for name, each in functions.items() if "GatewaySubnetA" in json.dumps(each)} == CALL_THE_GATEWAY
    assert {TEMPLATE["Parameters"][name]["Default"] for name in ("Webhooks", "Gateway")} == {"Off", "simulated"}


def test_a_way_out_is_made_for_those_who_need_it() -> None:
    def made(**given: str) -> set[str]:
        parts = [
            name for name in RESOURCES if re.match("InternetGateway|Nat|Courier(Subnet|Rout|Sec)|Gateway(Subnet|Rout|Sec)", name)
        ]
        return {name for name in parts if holds({"Condition": RESOURCES[name]["Condition"]}, given)}

    out = {"InternetGateway", "InternetGatewayAttachment", "NatSubnet", "NatRouteTable", "NatRoute", "NatRoutes", "NatAddress"}
    out |= {"NatGateway"}
    courier = {"CourierSubnet", "CourierRouteTable", "CourierRoute", "CourierRoutes", "CourierSecurityGroup"}
    stripe = {f"Gateway{part}{zone}" for part in ("Subnet", "RouteTable", "Route", "Routes") for zone in "AB"}
    stripe |= {"GatewaySecurityGroup"}
    assert made() == made(VpcId="vpc-1", Webhooks="On", **STRIPE) == set()
    assert made(Webhooks="On") == out | courier
    assert made(**STRIPE) == out | stripe
    assert made(Webhooks="On", **STRIPE) == out | courier | stripe, "one NAT gateway serves both"
    assert made(**STRIPE, NatGateways="2") == out | stripe | {"NatSubnetB", "NatRoutesB", "NatAddressB", "NatGatewayB"}


def test_with_two_nat_gateways_each_zone_has_its_own() -> None:
    zones = {name: each["AvailabilityZoneId"]["Fn::If"][1] for name, each in of_type("AWS::EC2::Subnet").items()}
    assert zones["NatSubnet"] == zones["GatewaySubnetA"] != zones["NatSubnetB"] == zones["GatewaySubnetB"]
    nats = {name: each["SubnetId"]["Ref"] for name, each in of_type("AWS::EC2::NatGateway").items()}
    assert nats == {"NatGateway": "NatSubnet", "NatGatewayB": "NatSubnetB"}
    routes = {name: RESOURCES[name]["Properties"]["NatGatewayId"] for name in ("GatewayRouteA", "GatewayRouteB")}
    one, other = {"Ref": "NatGateway"}, {"Ref": "NatGatewayB"}
    assert routes == {"GatewayRouteA": one, "GatewayRouteB": {"Fn::If": ["MakesSecondWayOut", other, one]}}


def test_no_two_subnets_of_the_stack_share_an_address() -> None:
    blocks = [each["CidrBlock"]["Fn::Select"] for each in of_type("AWS::EC2::Subnet").values()]
    assert sorted(index for index, _ in blocks) == list(range(len(blocks)))
    assert all(index < cidr["Fn::Cidr"][1] for index, cidr in blocks)
    assert {cidr["Fn::Cidr"][2] for _, cidr in blocks} == {8}


def test_a_version_that_calls_stripe_comes_after_its_way_there() -> None:
    """Otherwise its first minutes would be payments whose outcome is unknown. The functions name the group."""
    ways = {name for name in RESOURCES if re.fullmatch("GatewayRoutes?[AB]", name)}
    assert set(RESOURCES["GatewaySecurityGroup"]["DependsOn"]) == ways
    assert len(ways) == 4


def test_who_calls_the_gateway_alone_knows_which_it_is_and_reads_its_key() -> None:
    functions = of_type("AWS::Serverless::Function")
    told = {"GATEWAY": {"Ref": "Gateway"}, "GATEWAY_LIVE": {"Ref": "GatewayLive"}, "STRIPE_SECRET": {"Ref": "StripeSecretArn"}}
    shared = TEMPLATE["Globals"]["Function"]["Environment"]["Variables"]
    assert not told.keys() & shared.keys()
    own = {name: each.get("Environment", {}).get("Variables", {}) for name, each in functions.items()}
    assert {name: variables for name, each in own.items() if (variables := {key: each[key] for key in told if key in each})} == (
        dict.fromkeys(CALL_THE_GATEWAY, told)
    )
    assert {name for name, each in functions.items() if "StripePolicy" in json.dumps(each["Policies"])} == CALL_THE_GATEWAY
    readers = [(name, statement) for name, statement in statements() if "StripeSecretArn" in json.dumps(statement)]
    read = {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": {"Ref": "StripeSecretArn"}}
    assert readers == [("StripePolicy", read)]


def test_the_template_has_no_place_for_a_key_and_none_for_another_stripe() -> None:
    assert "STRIPE_API_KEY" not in TEXT
    assert "STRIPE_API_BASE" not in TEXT


def test_two_stacks_of_an_account_share_no_series() -> None:
    """Each metric of ours that is written or watched carries the stack's name."""
    own = {"Name": "service", "Value": {"Ref": "AWS::StackName"}}
    variables = TEMPLATE["Globals"]["Function"]["Environment"]["Variables"]
    assert variables["POWERTOOLS_SERVICE_NAME"] == own["Value"]
    for name, alarm in of_type("AWS::CloudWatch::Alarm").items():
        for each in [alarm, *(metric["MetricStat"]["Metric"] for metric in alarm.get("Metrics", []) if "MetricStat" in metric)]:
            assert each.get("Namespace") != "Payments" or own in each["Dimensions"], name
            assert "Namespace" not in each or each["Dimensions"], f"{name} watches the whole account"
    assert TEXT.count("SEARCH('") == TEXT.count('service=\\"${AWS::StackName}\\"')


DIRECT = {
    "ProcessFunction": ("ProcessDirect", "OrderServiceMayProcess"),
    "RefundFunction": ("RefundDirect", "OrderServiceMayRefund"),
}


@pytest.mark.parametrize("function", DIRECT)
def test_the_order_service_has_an_alias_of_its_own_and_no_other(function: str) -> None:
    alias, permission = DIRECT[function]
    live = TEMPLATE["Globals"]["Function"]["AutoPublishAlias"]
    assert live == API_GATEWAYS_ALIAS
    direct = RESOURCES[alias]["Properties"]
    assert (direct["Name"], direct["FunctionName"]) == ("direct", {"Ref": function})
    assert direct["FunctionVersion"] == {"Fn::GetAtt": f"{function}.Version.Version"}
    assert RESOURCES[alias]["DependsOn"] == f"{function}Alias{live}", (
        "a canary moves live first, and direct when it has ended well"
    )
    assert RESOURCES[permission]["Properties"]["FunctionName"] == {"Ref": alias}
    assert TEMPLATE["Outputs"][f"{function}Arn"]["Value"] == {"Ref": alias}


def test_nobody_else_is_let_in_by_the_template() -> None:
    """SAM adds API Gateway's permissions on `live`, and those of the schedules. EventBridge's is of the one rule alone."""
    permissions = {name for name, each in of_type("AWS::Lambda::Permission").items() if each["Action"] == "lambda:InvokeFunction"}
    assert permissions == {permission for _, permission in DIRECT.values()} | {"StripeEventsMayInvoke"}
    assert {name for name, statement in statements() if "lambda:InvokeFunction" in json.dumps(statement)} == set()


@pytest.mark.parametrize("function", DIRECT)
def test_both_aliases_retry_and_keep_what_failed(function: str) -> None:
    """`live` has what was invoked before there was `direct`."""
    of_live = RESOURCES[function]["Properties"]["EventInvokeConfig"]
    of_direct = dict(RESOURCES[f"{DIRECT[function][0]}Invocations"]["Properties"])
    assert (of_direct.pop("FunctionName"), of_direct.pop("Qualifier")) == ({"Ref": function}, "direct")
    destination = {"OnFailure": {"Destination": {"Fn::GetAtt": "FailedInvocations.Arn"}}}
    assert of_direct == {"MaximumRetryAttempts": 2, "MaximumEventAgeInSeconds": 21600, "DestinationConfig": destination}
    of_live_destination = {"OnFailure": {"Type": "SQS"} | destination["OnFailure"]}
    assert of_live == of_direct | {"DestinationConfig": of_live_destination}


@pytest.mark.parametrize("owner", ["", "order-service", "a/b", "IAM/x", "jwt/shop", "jwt/jwt/x", "Zoë", "iam"])
def test_an_owner_of_direct_invocations_is_taken_and_stored(owner: str) -> None:
    assert allowed("DirectOwner", owner)
    assert direct_owner_in({"DIRECT_OWNER": owner})[0] == (owner.removeprefix("jwt/") or "order-service")


@pytest.mark.parametrize("owner", ["iam/", "iam/123456789012/role", "jwt/", "jwt/iam/x"])
def test_the_owner_of_an_iam_principal_is_refused_before_anything_is_made(owner: str) -> None:
    assert not allowed("DirectOwner", owner)
