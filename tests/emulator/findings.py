"""What a deployed stack says of itself, compared with what it should be. Each function returns one line for each fault."""

from __future__ import annotations

import json
from typing import Any

from tests.emulator.stacks import Stack

DIMENSIONS = {
    "FunctionName": {"AWS::Lambda::Function"},
    "QueueName": {"AWS::SQS::Queue"},
    "ApiId": {"AWS::ApiGatewayV2::Api"},
    "ProxyName": {"AWS::RDS::DBProxy"},
    "DBClusterIdentifier": {"AWS::RDS::DBCluster"},
    "BackupVaultName": {"AWS::Backup::BackupVault"},
}
"""The type of the resource that a dimension of AWS's own metrics names."""
NAMESPACES = {
    "AWS/Lambda": {"FunctionName"},
    "AWS/SQS": {"QueueName"},
    "AWS/ApiGateway": {"ApiId"},
    "AWS/RDS": {"ProxyName", "DBClusterIdentifier"},
    "AWS/Backup": {"BackupVaultName"},
}


def named(stack: Stack, kind: str) -> dict[str, str]:
    """Return the physical ids of the stack's resources of a type."""
    return {name: each for name, each in stack.resources().items() if stack.template["Resources"][name]["Type"] == kind}


def alarms(stack: Stack) -> list[str]:
    """Each dimension of a metric of AWS names a resource of this stack, or the vault of its copies. Each action is the topic."""
    cloudwatch = stack.emulator.client("cloudwatch")
    names = named(stack, "AWS::CloudWatch::Alarm")
    described = [each for page in cloudwatch.get_paginator("describe_alarms").paginate() for each in page["MetricAlarms"]]
    own = {each["AlarmName"]: each for each in described if each["AlarmName"] in names.values()}
    topics = set(named(stack, "AWS::SNS::Topic").values())
    faults = [f"{name} is not there" for name, physical in names.items() if physical not in own]
    for name, alarm in own.items():
        if set(alarm["AlarmActions"]) - topics:
            faults.append(f"{name} acts on {alarm['AlarmActions']}")
        metrics = [alarm, *(each["MetricStat"]["Metric"] for each in alarm.get("Metrics", []) if "MetricStat" in each)]
        faults += [f"{name}: {fault}" for metric in metrics if "Namespace" in metric for fault in dimensions(stack, metric)]
    return faults


def dimensions(stack: Stack, metric: dict[str, Any]) -> list[str]:
    given = {each["Name"]: each["Value"] for each in metric["Dimensions"]}
    if metric["Namespace"] not in NAMESPACES:
        return [] if given.get("service") == stack.name else [f"{metric['Namespace']} without the stack's name: {given}"]
    faults = [f"{metric['Namespace']} has no dimension {name}" for name in given.keys() - NAMESPACES[metric["Namespace"]]]
    for name in given.keys() & DIMENSIONS.keys():
        [kind] = DIMENSIONS[name]
        physical = {each.rsplit("/", 1)[-1] for each in named(stack, kind).values()}  # a queue's id is its URL
        if "CopyJobs" in metric["MetricName"]:  # counted by the vault that they go to, which is in another region
            physical = {stack.parameters["BackupCopyVaultArn"].rpartition(":")[2]}
        if given[name] not in physical:
            faults.append(f"{name} is {given[name]}, which is no {kind} of this stack")
    return faults


def routes(stack: Stack) -> dict[str, list[str] | None]:
    """Return the scopes of each route of the API, None where it is open.

    Raises AssertionError if a route's function, its alias or the API's permission to invoke it is not there.
    """
    api = stack.emulator.client("apigatewayv2", moto=True)
    functions = stack.emulator.client("lambda")
    [api_id] = named(stack, "AWS::ApiGatewayV2::Api").values()
    found: dict[str, list[str] | None] = {}
    for route in api.get_routes(ApiId=api_id)["Items"]:
        integration = api.get_integration(ApiId=api_id, IntegrationId=route["Target"].split("/")[1])
        arn = integration["IntegrationUri"].split("/functions/")[1].removesuffix("/invocations")
        assert functions.get_function(FunctionName=arn)["Configuration"]["FunctionArn"] == arn
        statements = json.loads(functions.get_policy(FunctionName=arn)["Policy"])["Statement"]
        path = route["RouteKey"].replace(" ", "").replace("{", "*{")
        allowed = [json.dumps(each) for each in statements if each["Principal"].get("Service") == "apigateway.amazonaws.com"]
        assert any(api_id in each for each in allowed), f"the API may not invoke {arn} for {path}"
        if route["AuthorizationType"] == "JWT":
            authorizer = api.get_authorizer(ApiId=api_id, AuthorizerId=route["AuthorizerId"])
            audience = stack.parameters["JwtAudience"].split(",")
            assert authorizer["JwtConfiguration"] == {"Issuer": stack.parameters["JwtIssuer"], "Audience": audience}
            found[route["RouteKey"]] = route["AuthorizationScopes"]
        else:
            found[route["RouteKey"]] = None
    return found


def schedules(stack: Stack) -> list[str]:
    """Each schedule invokes an alias that is there, by a role that may invoke it and that the scheduler may take."""
    scheduler, functions, iam = (stack.emulator.client(service) for service in ("scheduler", "lambda", "iam"))
    faults = []
    for name, physical in named(stack, "AWS::Scheduler::Schedule").items():
        target = scheduler.get_schedule(Name=physical)["Target"]
        if functions.get_function(FunctionName=target["Arn"])["Configuration"]["FunctionArn"] != target["Arn"]:
            faults.append(f"{name} invokes {target['Arn']}")
        role = target["RoleArn"].split("/")[-1]
        trusted = json.dumps(iam.get_role(RoleName=role)["Role"]["AssumeRolePolicyDocument"])
        policies = [
            iam.get_role_policy(RoleName=role, PolicyName=each) for each in iam.list_role_policies(RoleName=role)["PolicyNames"]
        ]
        if "scheduler.amazonaws.com" not in trusted or target["Arn"] not in json.dumps(
            [each["PolicyDocument"] for each in policies]
        ):
            faults.append(f"{name}: its role may not invoke {target['Arn']}")
    return faults


def destinations(stack: Stack) -> set[tuple[str, str, str]]:
    """Return function, alias and queue of each destination of failed invocations, by the names of the template."""
    functions, queues = stack.emulator.client("lambda"), stack.emulator.client("sqs")
    arns = {}
    for name, url in named(stack, "AWS::SQS::Queue").items():
        arns[queues.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]] = name
    found = set()
    for name, physical in named(stack, "AWS::Lambda::Function").items():
        for config in functions.list_function_event_invoke_configs(FunctionName=physical)["FunctionEventInvokeConfigs"]:
            destination = config.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination")
            if destination:
                found.add((name, config["FunctionArn"].rpartition(":")[2], arns.get(destination, destination)))
    return found
