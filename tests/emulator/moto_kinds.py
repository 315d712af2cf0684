"""The types of resources that LocalStack's open core lacks, made by AWS's API calls in moto. Runs in .venv-emulator.

boto3 checks each call against AWS's own description of the API, so that an unknown or misshapen property fails the resource.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import boto3
from botocore.validate import validate_parameters

Properties = dict[str, Any]


def client(service: str) -> Any:
    return boto3.client(service, endpoint_url=os.environ["MOTO_ENDPOINT"])


@dataclass(frozen=True)
class Kind:
    """A type of resource as one API call."""

    service: str
    create: str | Callable[[Properties], Properties]
    """The operation, or a function that makes the calls and returns the answer."""
    delete: str | None
    """The operation, which takes what `ref` names. None: it goes with another resource, or moto cannot delete it."""
    ref: str
    """The value of Ref: a path in the properties or else in the answer."""
    named: bool = False
    """Whether `ref` is a name, which CloudFormation makes up if the template gives none."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """Of Fn::GetAtt: its name, and the path in the answer."""
    before: Callable[[Properties], Properties] = dict
    """From the template's properties to the API's parameters, where more differs than the case of the names."""


def parameters(given: Any, shape: Any, place: str) -> Any:
    """Return the properties as the API names and types them.

    Raises ValueError for a property that the API does not have, and for a value of another type.
    """
    match shape.type_name:
        case "structure":
            if not isinstance(given, dict):
                raise ValueError(f"{place} is no object: {given!r}")
            known = {name.lower(): name for name in shape.members}
            if unknown := [name for name in given if name.lower() not in known]:
                raise ValueError(f"{place} has no property {', '.join(unknown)}")
            pairs = {known[name.lower()]: value for name, value in given.items() if value is not None}
            return {name: parameters(value, shape.members[name], f"{place}.{name}") for name, value in pairs.items()}
        case "list":
            if not isinstance(given, list):
                raise ValueError(f"{place} is no list: {given!r}")
            return [parameters(value, shape.member, f"{place}[{index}]") for index, value in enumerate(given)]
        case "integer" | "long":
            return int(given)
        case "float" | "double":
            return float(given)
        case "boolean":
            if str(given).lower() not in {"true", "false"}:
                raise ValueError(f"{place} is neither true nor false: {given!r}")
            return str(given).lower() == "true"
        case "string" if isinstance(given, (int, float)):
            return str(given).lower() if isinstance(given, bool) else str(given)
        case _:
            return given  # boto3 checks the type


def at(path: str, tree: Any) -> Any:
    """Return what the path leads to, such as FlowLogIds.0, or None."""
    for part in path.split("."):
        if isinstance(tree, list) and part.isdecimal() and int(part) < len(tree):
            tree = tree[int(part)]
        else:
            tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


def call(service: str, operation: str, given: Properties, place: str) -> Properties:
    """Call the API in moto. Raises ValueError (parameters), ParamValidationError and ClientError of boto3."""
    api = client(service)
    name = next(name for name, shown in api.meta.method_to_api_mapping.items() if shown == operation)
    shape = api.meta.service_model.operation_model(operation).input_shape
    answer: Properties = getattr(api, name)(**parameters(given, shape, place))
    return answer


def authorizers(api_id: str, document: Properties) -> dict[str, str]:
    made = {}
    for name, scheme in document.get("components", {}).get("securitySchemes", {}).items():
        told = scheme["x-amazon-apigateway-authorizer"]
        given = {
            "ApiId": api_id,
            "Name": name,
            "AuthorizerType": told["type"].upper(),
            "IdentitySource": [told["identitySource"]],
        }
        given["JwtConfiguration"] = told["jwtConfiguration"]
        made[name] = call("apigatewayv2", "CreateAuthorizer", given, name)["AuthorizerId"]
    return made


def http_api(properties: Properties) -> Properties:
    """Make the API, its authorizers, integrations and routes. moto's own import leaves the authorizers out."""
    document = properties["Body"]
    given = {name: value for name, value in properties.items() if name not in {"Body", "FailOnWarnings"}}
    given |= {"Name": document["info"]["title"], "ProtocolType": "HTTP"}
    if cors := document.get("x-amazon-apigateway-cors"):
        given["CorsConfiguration"] = cors
    for server in document.get("servers", []):
        given |= server.get("x-amazon-apigateway-endpoint-configuration", {})  # disableExecuteApiEndpoint
    answer = call("apigatewayv2", "CreateApi", given, "Api")
    api_id = answer["ApiId"]
    known = authorizers(api_id, document)
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            told = route["x-amazon-apigateway-integration"]
            given = {"IntegrationType": told["type"].upper(), "IntegrationUri": told["uri"]}
            given |= {
                "IntegrationMethod": told["httpMethod"],
                "PayloadFormatVersion": told["payloadFormatVersion"],
                "ApiId": api_id,
            }
            integration = call("apigatewayv2", "CreateIntegration", given, path)["IntegrationId"]
            given = {"ApiId": api_id, "RouteKey": f"{method.upper()} {path}", "Target": f"integrations/{integration}"}
            for security in route.get("security", []):
                [(name, scopes)] = security.items()
                if name != "NONE":
                    given |= {"AuthorizerId": known[name], "AuthorizationScopes": scopes, "AuthorizationType": "JWT"}
            call("apigatewayv2", "CreateRoute", given, path)
    return answer


def dashboard(properties: Properties) -> Properties:
    json.loads(properties["DashboardBody"])
    return call("cloudwatch", "PutDashboard", properties, "Dashboard")


def flow_log(properties: Properties) -> Properties:
    given = dict(properties)
    return given | {"ResourceIds": [given.pop("ResourceId")]}


def domain_name(properties: Properties) -> Properties:
    """Make the name, and the address that AWS would give it: moto gives it none."""
    answer = call("apigatewayv2", "CreateDomainName", properties, "DomainName")
    given = {"ApiGatewayDomainName": "d-0123456789.execute-api.us-east-1.amazonaws.com", "HostedZoneId": "Z1UJRXOUMOOFQ8"}
    return answer | {"DomainNameConfigurations": [each | given for each in answer["DomainNameConfigurations"]]}


def backup_plan(properties: Properties) -> Properties:
    plan = dict(properties["BackupPlan"])
    rules = [dict(rule) for rule in plan.pop("BackupPlanRule")]
    for rule in rules:
        rule["TargetBackupVaultName"] = rule.pop("TargetBackupVault")
    return {**properties, "BackupPlan": plan | {"Rules": rules}}


def backup_selection(properties: Properties) -> Properties:
    """Check what moto cannot make: the plan is there, and AWS's description of the API has these properties."""
    api = client("backup")
    shape = api.meta.service_model.operation_model("CreateBackupSelection").input_shape
    validate_parameters(parameters(properties, shape, "BackupSelection"), shape)
    api.get_backup_plan(BackupPlanId=properties["BackupPlanId"])
    return {"SelectionId": str(uuid.uuid4())}


def one_permission(properties: Properties) -> Properties:
    given = dict(properties)
    group, described = given.pop("GroupId"), {"Description": given.pop("Description", "")}
    source = {"UserIdGroupPairs": [{"GroupId": given.pop("SourceSecurityGroupId"), **described}]}
    return {"GroupId": group, "IpPermissions": [given | source]}


def serverless_brokers(properties: Properties) -> Properties:
    given = dict(properties)
    name, configs = given.pop("ClusterName"), given.pop("VpcConfigs")
    configs = [
        {{"SecurityGroups": "SecurityGroupIds"}.get(key, key): value for key, value in config.items()} for config in configs
    ]
    return {"ClusterName": name, "Serverless": given | {"VpcConfigs": configs}}


RESTORATIONS = {
    "SnapshotIdentifier": "RestoreDBClusterFromSnapshot",
    "SourceDBClusterIdentifier": "RestoreDBClusterToPointInTime",
}


def cluster(properties: Properties) -> Properties:
    """Make an empty cluster, or restore one; what a restoration does not take is set after it, as CloudFormation does."""
    given = dict(properties)
    if secret := given.pop("MasterUserSecret", None):
        given["MasterUserSecretKmsKeyId"] = secret["KmsKeyId"]
    restorations = [operation for name, operation in RESTORATIONS.items() if name in given]
    if not restorations:
        return call("rds", "CreateDBCluster", given, "DBCluster")
    [operation] = restorations
    if "SnapshotIdentifier" in given:
        given["SnapshotIdentifier"] = given["SnapshotIdentifier"].rpartition(":")[2]  # moto knows a snapshot by its name alone
    elif "EngineVersion" in given:
        raise ValueError("A restore to a moment has its source's version")
    else:
        del given["Engine"]  # as well
    taken = client("rds").meta.service_model.operation_model(operation).input_shape.members
    call("rds", operation, {name: value for name, value in given.items() if name in taken}, "DBCluster")
    left = {name: value for name, value in given.items() if name not in taken and name != "StorageEncrypted"}
    left |= {"DBClusterIdentifier": given["DBClusterIdentifier"], "ApplyImmediately": True}
    return call("rds", "ModifyDBCluster", left, "DBCluster")


def parameter_group(properties: Properties) -> Properties:
    given = dict(properties)
    name, values = given["DBClusterParameterGroupName"], given.pop("Parameters")
    given["DBParameterGroupFamily"] = given.pop("Family")
    given.setdefault("Description", name)
    answer = call("rds", "CreateDBClusterParameterGroup", given, "DBClusterParameterGroup")
    listed = [{"ParameterName": key, "ParameterValue": value, "ApplyMethod": "immediate"} for key, value in values.items()]
    call("rds", "ModifyDBClusterParameterGroup", {"DBClusterParameterGroupName": name, "Parameters": listed}, name)
    return answer


def proxy_targets(properties: Properties) -> Properties:
    given = dict(properties)
    targets = {"DBProxyName": given["DBProxyName"], "TargetGroupName": given["TargetGroupName"]}
    targets["DBClusterIdentifiers"] = given.pop("DBClusterIdentifiers")
    call("rds", "RegisterDBProxyTargets", targets, "DBProxyTargetGroup")
    given["ConnectionPoolConfig"] = given.pop("ConnectionPoolConfigurationInfo")
    return call("rds", "ModifyDBProxyTargetGroup", given, "DBProxyTargetGroup")


DOMAIN = {
    "RegionalDomainName": "DomainNameConfigurations.0.ApiGatewayDomainName",
    "RegionalHostedZoneId": "DomainNameConfigurations.0.HostedZoneId",
}
CLUSTER = {"DBClusterArn": "DBCluster.DBClusterArn", "MasterUserSecret.SecretArn": "DBCluster.MasterUserSecret.SecretArn"}
PROXY = {"DBProxyArn": "DBProxy.DBProxyArn", "Endpoint": "DBProxy.Endpoint"}

KINDS: dict[str, Kind] = {
    "AWS::ApiGatewayV2::Api": Kind("apigatewayv2", http_api, "DeleteApi", "ApiId", attributes={"ApiEndpoint": "ApiEndpoint"}),
    "AWS::ApiGatewayV2::ApiMapping": Kind("apigatewayv2", "CreateApiMapping", "DeleteApiMapping", "ApiMappingId"),
    "AWS::ApiGatewayV2::DomainName": Kind("apigatewayv2", domain_name, "DeleteDomainName", "DomainName", attributes=DOMAIN),
    "AWS::ApiGatewayV2::Stage": Kind("apigatewayv2", "CreateStage", None, "StageName"),
    "AWS::Backup::BackupPlan": Kind("backup", "CreateBackupPlan", "DeleteBackupPlan", "BackupPlanId", before=backup_plan),
    "AWS::Backup::BackupSelection": Kind("backup", backup_selection, None, "SelectionId"),
    "AWS::Backup::BackupVault": Kind("backup", "CreateBackupVault", None, "BackupVaultName"),
    "AWS::CloudWatch::Dashboard": Kind("cloudwatch", dashboard, None, "DashboardName", named=True),
    "AWS::CodeDeploy::Application": Kind("codedeploy", "CreateApplication", None, "ApplicationName", named=True),
    "AWS::CodeDeploy::DeploymentGroup": Kind("codedeploy", "CreateDeploymentGroup", None, "DeploymentGroupName", named=True),
    "AWS::EC2::EIP": Kind("ec2", "AllocateAddress", None, "PublicIp", attributes={"AllocationId": "AllocationId"}),
    "AWS::EC2::FlowLog": Kind("ec2", "CreateFlowLogs", None, "FlowLogIds.0", before=flow_log),
    "AWS::EC2::SecurityGroupIngress": Kind("ec2", "AuthorizeSecurityGroupIngress", None, "GroupId", before=one_permission),
    "AWS::MSK::ServerlessCluster": Kind(
        "kafka", "CreateClusterV2", "DeleteCluster", "ClusterArn", attributes={"Arn": "ClusterArn"}, before=serverless_brokers
    ),
    "AWS::RDS::DBCluster": Kind("rds", cluster, "DeleteDBCluster", "DBClusterIdentifier", named=True, attributes=CLUSTER),
    "AWS::RDS::DBClusterParameterGroup": Kind(
        "rds", parameter_group, "DeleteDBClusterParameterGroup", "DBClusterParameterGroupName", named=True
    ),
    "AWS::RDS::DBInstance": Kind("rds", "CreateDBInstance", "DeleteDBInstance", "DBInstanceIdentifier", named=True),
    "AWS::RDS::DBProxy": Kind("rds", "CreateDBProxy", "DeleteDBProxy", "DBProxyName", named=True, attributes=PROXY),
    "AWS::RDS::DBProxyTargetGroup": Kind("rds", proxy_targets, None, "DBProxyTargetGroup.TargetGroupArn"),
    "AWS::RDS::DBSubnetGroup": Kind("rds", "CreateDBSubnetGroup", "DeleteDBSubnetGroup", "DBSubnetGroupName", named=True),
}
