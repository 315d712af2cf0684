"""template.yaml deployed on LocalStack and moto, with each parameter set."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from local.template import load_template
from tests.emulator import findings
from tests.emulator.limits import DIFFERENCES, LIMITS
from tests.emulator.sets import SETS
from tests.emulator.stacks import ROOT, Emulator, Stack, condition, expected, read, transformed, values

pytestmark = [pytest.mark.timeout(900), pytest.mark.server]
Stacks = Callable[[str], Stack]


def test_the_sets_make_each_condition_true_and_false() -> None:
    template = read()
    for name in template["Conditions"]:
        seen = {condition(template, name, values(template, parameters)) for parameters in SETS.values()}
        assert seen == {True, False}, (
            f"{name} is {seen} in all sets: give one of tests/emulator/sets.py the parameter that changes it"
        )


def test_each_limit_has_its_reason() -> None:
    types = {resource["Type"] for resource in read()["Resources"].values()}
    assert LIMITS.keys() <= types, "the template has no such resource any more"
    assert all(len(reason) > 20 for reason in (LIMITS | DIFFERENCES).values())


@pytest.mark.parametrize("name", SETS)
def test_the_template_deploys(stack: Stacks, name: str) -> None:
    deployed = stack(name)
    assert deployed.failures() == [], deployed.told()
    assert deployed.status == "CREATE_COMPLETE", deployed.told()
    made = set(deployed.resources())
    wanted = expected(deployed.template, deployed.parameters)
    assert made == wanted, f"missing: {wanted - made}, too many: {made - wanted}\n{deployed.told()}"


@pytest.mark.parametrize("name", SETS)
def test_outputs_and_functions_have_values_and_no_blanks(stack: Stacks, name: str) -> None:
    deployed = stack(name)
    outputs = deployed.template["Outputs"].items()
    wanted = {
        key
        for key, each in outputs
        if "Condition" not in each or condition(deployed.template, each["Condition"], deployed.parameters)
    }
    assert deployed.outputs.keys() == wanted
    assert [key for key, value in deployed.outputs.items() if not value or "${" in value or value == "unknown"] == []
    functions = deployed.emulator.client("lambda")
    for logical, physical in findings.named(deployed, "AWS::Lambda::Function").items():
        variables = functions.get_function_configuration(FunctionName=physical).get("Environment", {}).get("Variables", {})
        assert "${" not in json.dumps(variables), logical
        assert [
            key
            for key in ("DATABASE_URL", "DATABASE_AUTH", "KAFKA_BOOTSTRAP_SERVERS", "KAFKA_AUTH")
            if variables and not variables[key]
        ] == []


def test_the_functions_reach_the_servers_that_the_stack_makes(stack: Stacks) -> None:
    """The addresses of the brokers come from the code of the custom resource, which ran."""
    deployed = stack("defaults")
    made = deployed.resources()
    variables = deployed.emulator.client("lambda").get_function_configuration(FunctionName=made["ProcessFunction"])[
        "Environment"
    ]["Variables"]
    [proxy] = deployed.emulator.client("rds", moto=True).describe_db_proxies(DBProxyName=made["DatabaseProxy"])["DBProxies"]
    assert proxy["Endpoint"] in variables["DATABASE_URL"]
    assert variables["KAFKA_BOOTSTRAP_SERVERS"].endswith("kafka-serverless.us-east-1.amazonaws.com:9098")
    assert made["Kafka"].split("/")[1] in variables["KAFKA_BOOTSTRAP_SERVERS"]


CALL_THE_GATEWAY = ("ProcessFunction", "RefundFunction", "ReconcileFunction", "GatewayEventsFunction")


@pytest.mark.parametrize(("name", "nat_gateways"), [("defaults", 0), ("latest", 1), ("restored", 2)])
def test_who_calls_stripe_alone_leaves_the_stacks_network(stack: Stacks, name: str, nat_gateways: int) -> None:
    """The emulator forgets where a route leads to; tests/aws/test_template.py says it."""
    deployed = stack(name)
    made, ec2 = deployed.resources(), deployed.emulator.client("ec2")
    in_vpc = [{"Name": "vpc-id", "Values": [made["Vpc"]]}]
    zones = {each["SubnetId"]: each["AvailabilityZone"] for each in ec2.describe_subnets(Filters=in_vpc)["Subnets"]}
    nats = ec2.describe_nat_gateways(Filters=in_vpc)["NatGateways"]
    assert len({zones[nat["SubnetId"]] for nat in nats}) == len(nats) == nat_gateways
    out = {
        each.get("SubnetId")
        for table in ec2.describe_route_tables(Filters=in_vpc)["RouteTables"]
        if "0.0.0.0/0" in {route["DestinationCidrBlock"] for route in table["Routes"]}
        for each in table["Associations"]
    }
    for function, physical in findings.named(deployed, "AWS::Lambda::Function").items():
        network = deployed.emulator.client("lambda").get_function_configuration(FunctionName=physical).get("VpcConfig", {})
        if nat_gateways and function in CALL_THE_GATEWAY:
            assert set(network["SubnetIds"]) <= out, function
            assert len({zones[subnet] for subnet in network["SubnetIds"]}) == 2, function
            assert set(network["SecurityGroupIds"]) == {made["FunctionsSecurityGroup"], made["GatewaySecurityGroup"]}
        elif function != "CourierFunction":
            assert out.isdisjoint(network.get("SubnetIds", [])), f"{function} leaves the network"


@pytest.mark.parametrize("name", SETS)
def test_who_calls_the_gateway_alone_reads_stripes_key(stack: Stacks, name: str) -> None:
    deployed = stack(name)
    arn, iam = deployed.parameters["StripeSecretArn"], deployed.emulator.client("iam")
    functions = findings.named(deployed, "AWS::Lambda::Function")
    told = {}
    for function, physical in functions.items():
        config = deployed.emulator.client("lambda").get_function_configuration(FunctionName=physical)
        told[function] = config.get("Environment", {}).get("Variables", {}).get("STRIPE_SECRET")
        policies = iam.list_attached_role_policies(RoleName=config["Role"].rpartition("/")[2])["AttachedPolicies"]
        attached = any("StripePolicy" in policy["PolicyArn"] for policy in policies)
        assert attached == (bool(arn) and function in CALL_THE_GATEWAY), function
    assert told == {function: arn if function in CALL_THE_GATEWAY else None for function in functions}


def _is_made(resource: dict[str, Any], name: str) -> bool:
    switches = {"HasWebhooks": ("Webhooks", "On"), "UsesStripe": ("Gateway", "stripe")}
    parameter, value = switches.get(resource.get("Condition", ""), (None, None))
    return parameter is None or SETS[name].get(parameter) == value


@pytest.mark.parametrize("name", SETS)
def test_the_api_has_the_routes_of_the_template_with_their_scopes(stack: Stacks, name: str) -> None:
    wanted: dict[str, list[str] | None] = {}
    for resource in read()["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function" and _is_made(resource, name):
            for event in resource["Properties"].get("Events", {}).values():
                if event["Type"] == "HttpApi":
                    told = event["Properties"]
                    wanted[f"{told['Method']} {told['Path']}"] = told["Auth"].get("AuthorizationScopes")
    parameters = {"Webhooks": SETS[name].get("Webhooks", "Off"), "Gateway": SETS[name].get("Gateway", "simulated")}
    assert len(wanted) == len(load_template(ROOT / "template.yaml", parameters).routes)
    assert findings.routes(stack(name)) == wanted


@pytest.mark.parametrize("name", SETS)
def test_alarms_watch_what_is_there(stack: Stacks, name: str) -> None:
    assert findings.alarms(stack(name)) == []


@pytest.mark.parametrize("name", SETS)
def test_schedules_invoke_the_version_that_serves(stack: Stacks, name: str) -> None:
    deployed = stack(name)
    courier = {"CourierFunctionEveryMinute"} if SETS[name].get("Webhooks") == "On" else set()
    assert findings.named(deployed, "AWS::Scheduler::Schedule").keys() == courier | {
        "RelayFunctionEveryMinute",
        "ReconcileFunctionEveryMinute",
    }
    assert findings.schedules(deployed) == []


@pytest.mark.parametrize("name", SETS)
def test_failed_invocations_go_to_the_queue_which_the_key_encrypts(stack: Stacks, name: str) -> None:
    deployed = stack(name)
    functions, aliases = ("ProcessFunction", "RefundFunction"), ("live", "direct")
    wanted = {(each, alias, "FailedInvocations") for each in functions for alias in aliases}
    if SETS[name].get("Gateway") == "stripe":
        of_stripe = aliases if "StripeEventBusName" in SETS[name] else ("live",)
        wanted |= {("GatewayEventsFunction", alias, "FailedInvocations") for alias in of_stripe}
    assert findings.destinations(deployed) == wanted
    made, queues = deployed.resources(), deployed.emulator.client("sqs")
    attributes = queues.get_queue_attributes(QueueUrl=made["FailedInvocations"], AttributeNames=["All"])["Attributes"]
    assert attributes["KmsMasterKeyId"] == made["Key"]


@pytest.mark.parametrize("name", SETS)
def test_queue_and_topic_refuse_what_comes_without_tls(stack: Stacks, name: str) -> None:
    made, emulator = stack(name).resources(), stack(name).emulator
    queue = emulator.client("sqs").get_queue_attributes(QueueUrl=made["FailedInvocations"], AttributeNames=["Policy"])
    topic = emulator.client("sns").get_topic_attributes(TopicArn=made["Alarms"])
    for policy in (queue["Attributes"]["Policy"], topic["Attributes"]["Policy"]):
        denied = [each for each in json.loads(policy)["Statement"] if each["Effect"] == "Deny"]
        assert [each["Condition"] for each in denied] == [{"Bool": {"aws:SecureTransport": "false"}}]


@pytest.mark.parametrize(
    ("name", "authorities", "closed"), [("tokens", "s3://shop-authorities/clients.pem", True), ("secrets", None, False)]
)
def test_the_domain_leads_to_the_api_and_asks_for_certificates_as_told(
    stack: Stacks, name: str, authorities: str | None, closed: bool
) -> None:
    deployed = stack(name)
    made, api = deployed.resources(), deployed.emulator.client("apigatewayv2", moto=True)
    domain = deployed.parameters["ApiDomainName"]
    assert deployed.outputs["ApiUrl"] == f"https://{domain}"
    assert api.get_domain_name(DomainName=domain).get("MutualTlsAuthentication", {}).get("TruststoreUri") == authorities
    [mapping] = api.get_api_mappings(DomainName=domain)["Items"]
    assert (mapping["ApiId"], mapping["Stage"]) == (made["HttpApi"], "$default")
    assert api.get_api(ApiId=made["HttpApi"])["DisableExecuteApiEndpoint"] == closed


def test_a_canary_takes_a_tenth_of_the_calls_and_is_taken_back_by_an_alarm(stack: Stacks) -> None:
    """Moto does not tell by which alarms; tests/aws/test_canary.py compares them."""
    deployed = stack("moment")
    codedeploy = deployed.emulator.client("codedeploy", moto=True)
    [application] = findings.named(deployed, "AWS::CodeDeploy::Application").values()
    groups = findings.named(deployed, "AWS::CodeDeploy::DeploymentGroup")
    assert groups.keys() == {f"{name}FunctionDeploymentGroup" for name in ("Process", "Refund", "Lookups")}
    for group in groups.values():
        told = codedeploy.get_deployment_group(applicationName=application, deploymentGroupName=group)["deploymentGroupInfo"]
        assert told["deploymentConfigName"] == "CodeDeployDefault.LambdaCanary10Percent10Minutes"
        assert "DEPLOYMENT_STOP_ON_ALARM" in told["autoRollbackConfiguration"]["events"]


def test_backups_are_copied_into_the_vault_of_the_other_region(stack: Stacks) -> None:
    deployed = stack("moment")
    backup = deployed.emulator.client("backup", moto=True)
    [rule] = backup.get_backup_plan(BackupPlanId=deployed.resources()["BackupPlan"])["BackupPlan"]["Rules"]
    assert rule["TargetBackupVaultName"] == deployed.resources()["BackupVault"]
    assert [each["DestinationBackupVaultArn"] for each in rule["CopyActions"]] == [deployed.parameters["BackupCopyVaultArn"]]


def test_a_vpc_of_the_stack_logs_its_traffic(stack: Stacks) -> None:
    deployed = stack("defaults")
    [log] = deployed.emulator.client("ec2").describe_flow_logs(
        Filters=[{"Name": "resource-id", "Values": [deployed.resources()["Vpc"]]}]
    )["FlowLogs"]
    assert log["TrafficType"] == "ALL"
    assert log["LogDestination"].split(":log-group:")[1].removesuffix(":*") == deployed.resources()["FlowLogs"]


def test_the_provisioned_concurrency_is_the_parameter(stack: Stacks) -> None:
    deployed = stack("restored")
    function = deployed.resources()["ProcessFunction"]
    kept = deployed.emulator.client("lambda").get_provisioned_concurrency_config(FunctionName=function, Qualifier="live")
    assert (kept["RequestedProvisionedConcurrentExecutions"], kept["Status"]) == (2, "READY")


def test_an_update_changes_what_the_parameter_says_and_a_deletion_keeps_keys_and_logs(
    emulator: Emulator, given: dict[str, dict[str, str]]
) -> None:
    """A stack of its own, with servers of one's own, because moto's servers cannot be updated."""
    parameters = given["secrets"] | {"ApiDomainName": "changed.shop.org"}
    template = transformed(parameters)
    every = set(template["Resources"])
    made = emulator.deploy("changed", template, parameters, only=every)
    assert made.failures() == [], made.told()
    before = made.resources()
    changed = parameters | {"LogLevel": "DEBUG", "AlarmEmail": "alarms@shop.org"}
    updated = emulator.deploy("changed", transformed(changed), changed, only=every)
    assert updated.failures() == [], updated.told()
    assert updated.status == "UPDATE_COMPLETE"
    after = updated.resources()
    assert after.keys() - before.keys() == {"AlarmSubscription"}
    assert {name for name in before if before[name] != after[name]} == set(), "nothing is replaced"
    variables = emulator.client("lambda").get_function_configuration(FunctionName=after["RelayFunction"])["Environment"][
        "Variables"
    ]
    assert variables["POWERTOOLS_LOG_LEVEL"] == "DEBUG"

    updated.delete()
    assert updated.status == "DELETE_COMPLETE", updated.told()
    kept = {
        name for name, each in read()["Resources"].items() if each.get("DeletionPolicy") == "RetainExceptOnCreate"
    } & after.keys()
    assert kept >= {"Key", "Logs", "AccessLogs"}
    assert emulator.client("kms").describe_key(KeyId=after["Key"])["KeyMetadata"]["KeyState"] == "Enabled"
    groups = {group["logGroupName"] for group in emulator.client("logs").describe_log_groups()["logGroups"]}
    assert {after[name] for name in kept - {"Key"}} <= groups
    remaining = {each["FunctionName"] for each in emulator.client("lambda").list_functions()["Functions"]}
    assert remaining.isdisjoint(after.values())
    assert after["FailedInvocations"] not in emulator.client("sqs").list_queues().get("QueueUrls", [])
