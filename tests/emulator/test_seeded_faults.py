"""Faults put into a copy of the template: the deployment has to fail for each, and for its own reason.

Each is deployed with the resources that it needs and no others, with which it would deploy if it were whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.emulator import findings
from tests.emulator.stacks import Emulator, Template, transformed

pytestmark = [pytest.mark.timeout(300), pytest.mark.server]
Properties = Callable[[str], dict[str, Any]]


@dataclass(frozen=True)
class Fault:
    put_in: Callable[[Properties, Template], object]
    deployed: str
    """The resource that is deployed, as it is called after SAM's transform."""
    told: str
    """Is in the reason of the failure."""
    parameters: str = "defaults"


def without_condition(_: Properties, template: Template) -> None:
    del template["Resources"]["ProxyPinningAlarm"]["Condition"]


FAULTS = {
    "a misspelled attribute": Fault(
        lambda of, _: of("AccessLogs").update(KmsKeyId={"Fn::GetAtt": "Key.Arm"}), "AccessLogs", "no such attribute"
    ),
    "a misspelled attribute of what moto makes": Fault(
        lambda of, _: of("DatabaseCapacityAlarm").update(AlarmDescription={"Fn::GetAtt": "Database.DBClusterArm"}),
        "DatabaseCapacityAlarm",
        "no such attribute",
    ),
    "a misspelled attribute in a text": Fault(
        lambda of, _: of("Alarms").update(DisplayName={"Fn::Sub": "${Key.KeyIdd}"}), "Alarms", "KeyIdd"
    ),
    "an attribute that the custom resource does not answer": Fault(
        lambda of, _: of("Alarms").update(DisplayName={"Fn::GetAtt": "KafkaBootstrap.Brokers"}), "Alarms", "no such attribute"
    ),
    "a reference to a resource whose condition is false": Fault(
        without_condition, "ProxyPinningAlarm", "DatabaseProxy", "secrets"
    ),
    "an attribute of a resource whose condition is false": Fault(
        lambda of, _: of("Alarms").update(DisplayName={"Fn::GetAtt": "Kafka.Arn"}), "Alarms", "Kafka", "tokens"
    ),
    "a reference to nothing": Fault(lambda of, _: of("Alarms").update(KmsMasterKeyId={"Ref": "Kee"}), "Alarms", "Kee"),
    "a property of the wrong type": Fault(
        lambda of, _: of("FailedInvocations").update(MessageRetentionPeriod="two weeks"), "FailedInvocations", "two weeks"
    ),
    "a list where one value belongs": Fault(
        lambda of, _: of("AccessLogs").update(KmsKeyId=[{"Fn::GetAtt": "Key.Arn"}]), "AccessLogs", "is not of type 'string'"
    ),
    "a value that AWS does not take": Fault(
        lambda of, _: of("AccessLogs").update(RetentionInDays=100), "AccessLogs", "100 is not one of"
    ),
    "a property of the wrong type of what moto makes": Fault(
        lambda of, _: of("Database").update(DeletionProtection="maybe"), "Database", "neither true nor false"
    ),
    "an unknown property": Fault(
        lambda of, _: of("Database").update(BackupRetensionPeriod=14), "Database", "BackupRetensionPeriod"
    ),
    "a missing property": Fault(lambda of, _: of("DatabaseSubnets").pop("SubnetIds"), "DatabaseSubnets", "SubnetIds"),
    "a policy without its effect": Fault(
        lambda of, _: of("FailurePolicy")["PolicyDocument"]["Statement"][0].update(Effect="Alow"),
        "FailurePolicy",
        "MalformedPolicy",
    ),
    "a policy without a resource": Fault(
        lambda of, _: of("FailurePolicy")["PolicyDocument"]["Statement"][0].pop("Resource"), "FailurePolicy", "MalformedPolicy"
    ),
    "a policy of an earlier version": Fault(
        lambda of, _: of("FailurePolicy")["PolicyDocument"].update(Version="2012-10-18"), "FailurePolicy", "MalformedPolicy"
    ),
    "a permission on an alias that is not there": Fault(
        lambda of, _: of("OrderServiceMayProcess").update(FunctionName={"Fn::Sub": "${ProcessFunction}:life"}),
        "OrderServiceMayProcess",
        "life",
        "restored",
    ),
    "an alias of a version that SAM does not name": Fault(
        lambda of, _: of("ProcessDirect").update(FunctionVersion={"Fn::GetAtt": ["ProcessFunction", "Version.Version"]}),
        "ProcessDirect",
        "no such attribute",
    ),
    "a setting of asynchronous invocations for an alias that is not there": Fault(
        lambda of, _: of("ProcessDirectInvocations").update(Qualifier="dirct"),
        "ProcessDirectInvocations",
        "function doesn't exist",
    ),
    "a restore to a moment with a version": Fault(
        lambda of, _: of("Database").update(EngineVersion="17.7"), "Database", "has its source's version", "latest"
    ),
    "a restore with the name of a new database": Fault(
        lambda of, _: of("Database").update(DatabaseName="payments"), "Database", "DatabaseName", "latest"
    ),
    "a restore of a cluster that is not there": Fault(
        lambda of, _: of("Database").update(SourceDBClusterIdentifier="payments-none"), "Database", "payments-none", "latest"
    ),
    "a property of a domain name that AWS does not have": Fault(
        lambda of, _: of("Domain")["MutualTlsAuthentication"]["Fn::If"][1].update(TruststoreUrl="s3://b/f"),
        "Domain",
        "has no property TruststoreUrl",
        "tokens",
    ),
    "a domain name that leads to an attribute which the API does not have": Fault(
        lambda of, _: (
            of("Domain").update(DomainName="o.shop.org"),
            of("DomainMapping").update(ApiId={"Fn::GetAtt": "HttpApi.Id"}),
        ),
        "DomainMapping",
        "no such attribute",
        "tokens",
    ),
    "a copy of backups without its vault": Fault(
        lambda of, _: of("BackupPlan")["BackupPlan"]["BackupPlanRule"][0]["CopyActions"][0].pop("DestinationBackupVaultArn"),
        "BackupPlan",
        "DestinationBackupVaultArn",
        "moment",
    ),
    "a selection of backups without its role": Fault(
        lambda of, _: of("BackupSelection")["BackupSelection"].pop("IamRoleArn"), "BackupSelection", "IamRoleArn", "moment"
    ),
    "a flow log of nothing": Fault(lambda of, _: of("FlowLog").update(ResourceId="vpc-none"), "FlowLog", "vpc-none"),
    "a group of deployments with a property that AWS does not have": Fault(
        lambda of, _: of("ProcessFunctionDeploymentGroup").update(Alarms=[]),
        "ProcessFunctionDeploymentGroup",
        "has no property Alarms",
        "moment",
    ),
    "a group of subnets that are not there": Fault(
        lambda of, _: of("DatabaseSubnets").update(SubnetIds=["subnet-1", "subnet-2"]), "DatabaseSubnets", "subnet-1"
    ),
    "a key that is not there": Fault(
        lambda of, _: of("Database")["MasterUserSecret"].update(KmsKeyId="01234567-89ab-cdef-0123-456789abcdef"),
        "Database",
        "500",
    ),
    "a custom resource that fails": Fault(
        lambda of, _: of("KafkaBootstrap").update(ClusterArn="arn:aws:kafka:us-east-1:111122223333:cluster/other/1"),
        "KafkaBootstrap",
        "calling the GetBootstrapBrokers operation",
    ),
    "a syntax error in the code of the custom resource": Fault(
        lambda of, _: of("KafkaBootstrapFunction")["Code"].update(ZipFile="def handler(event, context) pass"),
        "KafkaBootstrap",
        "SyntaxError",
    ),
    "a dashboard that is no JSON": Fault(
        lambda of, _: of("Dashboard").update(DashboardBody="{"), "Dashboard", "Expecting property name"
    ),
    "a type that the emulator does not know": Fault(
        lambda of, template: template["Resources"].update(More={"Type": "AWS::Redshift::Endpoint", "Properties": {}}),
        "More",
        "add it to LIMITS",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_in_the_template_fails_the_deployment(emulator: Emulator, given: dict[str, dict[str, str]], name: str) -> None:
    fault, template = FAULTS[name], transformed(given[FAULTS[name].parameters])
    fault.put_in(lambda resource: template["Resources"][resource]["Properties"], template)
    try:
        stack = emulator.deploy(f"fault-{list(FAULTS).index(name)}", template, given[fault.parameters], only={fault.deployed})
        told = "\n".join(stack.failures())
    except emulator.client("cloudformation").exceptions.ClientError as refused:
        told = str(refused)
    assert fault.told in told


def test_what_the_faults_are_put_into_deploys_without_them(emulator: Emulator, given: dict[str, dict[str, str]]) -> None:
    only = {
        "FailedInvocations",
        "DatabaseCapacityAlarm",
        "KafkaBootstrap",
        "Alarms",
        "AccessLogs",
        "FailurePolicy",
        "DatabaseSubnets",
    }
    assert emulator.deploy("no-fault", transformed(given["defaults"]), given["defaults"], only=only).failures() == []


@pytest.mark.parametrize(
    ("dimension", "fault"),
    [
        ({"Name": "QueueName", "Value": {"Fn::GetAtt": "FailedInvocations.Arn"}}, "QueueName is arn:aws:sqs"),
        ({"Name": "QueueName", "Value": "failed"}, "QueueName is failed"),
        ({"Name": "Queue", "Value": {"Fn::GetAtt": "FailedInvocations.QueueName"}}, "AWS/SQS has no dimension Queue"),
    ],
)
def test_an_alarm_on_a_dimension_that_nothing_has_is_found(
    emulator: Emulator, given: dict[str, dict[str, str]], dimension: dict[str, Any], fault: str
) -> None:
    """The emulator takes it, as AWS does; what is read back afterwards shows it."""
    template = transformed(given["defaults"])
    template["Resources"]["FailedInvocationsAlarm"]["Properties"]["Dimensions"] = [dimension]
    stack = emulator.deploy(f"alarm-{len(fault)}", template, given["defaults"], only={"FailedInvocationsAlarm"})
    assert stack.failures() == []
    [found] = findings.alarms(stack)
    assert fault in found
