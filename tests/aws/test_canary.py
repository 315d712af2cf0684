"""DeploymentPreference: how a new version takes the API over, as SAM translates it."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.aws.test_deployments import translated_with
from tests.aws.test_template import RESOURCES, TEMPLATE, of_type

pytestmark = pytest.mark.server

CANARIES = [name for name in TEMPLATE["Parameters"]["DeploymentPreference"]["AllowedValues"] if name != "AllAtOnce"]
OF_THE_API = {"ProcessFunction", "RefundFunction", "LookupsFunction", "WebhooksFunction", "GatewayEventsFunction"}


@functools.cache
def all_made() -> dict[str, dict[str, dict[str, Any]]]:
    names = TEMPLATE["Parameters"]["DeploymentPreference"]["AllowedValues"]
    return dict(zip(names, translated_with(*({"DeploymentPreference": name} for name in names)), strict=True))


def made(preference: str) -> dict[str, dict[str, Any]]:
    return all_made()[preference]


def referred(node: Any) -> Iterator[str]:
    """Yield the resources that a part of the template names."""
    if isinstance(node, list):
        for item in node:
            yield from referred(item)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key == "Ref":
                yield value
            elif key == "Fn::GetAtt":
                yield value[0] if isinstance(value, list) else value.split(".")[0]
            elif key == "Fn::Sub":
                text = value[0] if isinstance(value, list) else value
                yield from (name.split(".")[0] for name in re.findall(r"\$\{([^!}]+)\}", text))
                yield from referred(value[1:] if isinstance(value, list) else [])
            else:
                yield from referred(value)


def needs(resources: dict[str, dict[str, Any]], name: str) -> set[str]:
    """Return all resources that CloudFormation has to make before this one, a deployment by CodeDeploy included."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        each = resources[waiting.pop()]
        named = set(referred([each.get("Properties", {}), each.get("UpdatePolicy", {})]))
        after = each.get("DependsOn", [])
        named |= set(after if isinstance(after, list) else [after])
        waiting += (named & resources.keys()) - found
        found |= named & resources.keys()
    return found


def test_by_default_nothing_stands_between_the_stack_and_its_functions() -> None:
    resources = made("AllAtOnce")
    assert TEMPLATE["Parameters"]["DeploymentPreference"]["Default"] == "AllAtOnce"
    assert {name for name, each in resources.items() if "CodeDeploy" in each["Type"] or "UpdatePolicy" in each} == set()


@pytest.mark.parametrize("preference", CANARIES)
def test_a_canary_moves_the_functions_of_the_api_and_no_other(preference: str) -> None:
    resources = made(preference)
    groups = {name: each["Properties"] for name, each in resources.items() if each["Type"] == "AWS::CodeDeploy::DeploymentGroup"}
    assert groups.keys() == {f"{name}DeploymentGroup" for name in OF_THE_API}
    for name, group in groups.items():
        assert group["DeploymentConfigName"]["Fn::Sub"][1] == {"ConfigName": preference}
        assert "DEPLOYMENT_STOP_ON_ALARM" in group["AutoRollbackConfiguration"]["Events"]
        alias = resources[name.replace("DeploymentGroup", "Aliaslive")]
        assert alias["UpdatePolicy"]["CodeDeployLambdaAliasUpdate"]["DeploymentGroupName"] == {"Ref": name}
    assert sum("UpdatePolicy" in each for each in resources.values()) == len(OF_THE_API)


def test_its_alarms_go_off_before_the_rest_follows() -> None:
    minutes = min(int(re.findall(r"\d+", name)[-1]) for name in CANARIES)
    group = made(CANARIES[0])["ProcessFunctionDeploymentGroup"]["Properties"]
    names = [alarm["Name"]["Ref"] for alarm in group["AlarmConfiguration"]["Alarms"]]
    assert group["AlarmConfiguration"]["Enabled"] is True
    assert names == ["FunctionErrorsAlarm", "InternalErrorsAlarm", "UnknownOutcomesAlarm"]
    for name in names[:2]:
        alarm = RESOURCES[name]["Properties"]
        period_s = alarm.get("Period") or alarm["Metrics"][1]["MetricStat"]["Period"]
        assert alarm["EvaluationPeriods"] * period_s < minutes * 60, name
        assert alarm["TreatMissingData"] == "notBreaching", "an alarm that is on at the start stops the deployment"


def test_every_function_of_the_api_has_the_same_preference() -> None:
    functions = of_type("AWS::Serverless::Function")
    preferences = [dict(functions[name]["DeploymentPreference"]) for name in sorted(OF_THE_API)]
    passed = [each.pop("PassthroughCondition", False) for each in preferences]
    assert passed == ["Condition" in RESOURCES[name] for name in sorted(OF_THE_API)], "the group needs the function's condition"
    assert all(each == preferences[0] for each in preferences)
    assert {name for name, each in functions.items() if "DeploymentPreference" in each} == OF_THE_API
    assert {name for name, each in functions.items() if "HttpApi" in str(each.get("Events"))} == OF_THE_API


def test_every_value_is_in_the_table_that_switches_codedeploy_on() -> None:
    table = TEMPLATE["Mappings"]["Canaries"]
    assert {name for name, row in table.items() if row["Enabled"] == "true"} == set(CANARIES)
    assert table["AllAtOnce"] == {"Enabled": "false"}


@pytest.mark.parametrize("preference", ["AllAtOnce", CANARIES[0]])
def test_no_resource_waits_for_itself(preference: str) -> None:
    """CloudFormation makes a deployment group before the alias that it moves, and an alarm before the group that watches it."""
    resources = made(preference)
    assert {name for name in resources if name in needs(resources, name)} == set()


def test_the_apis_alarms_would_wait_for_themselves() -> None:
    """So they are not among the canary's, although they see more."""
    resources = made(CANARIES[0])
    for name in ("ApiErrorsAlarm", "ApiLatencyAlarm"):
        assert "ProcessFunctionAliaslive" in needs(resources, name)


def test_the_alias_for_direct_invocations_follows_or_has_a_canary_of_its_own() -> None:
    """The template's waits for the end of the canary of `live`. Here that of refund has a deployment group of its own."""
    waiting = made(CANARIES[0])["ProcessDirect"]
    assert waiting["DependsOn"] == "ProcessFunctionAliaslive"
    assert "UpdatePolicy" not in waiting

    def direct(function: str) -> dict[str, Any]:
        version = {"Fn::GetAtt": [f"{function}.Version", "Version"]}
        return {
            "Type": "AWS::Lambda::Alias",
            "Properties": {"Name": "direct", "FunctionName": {"Ref": function}, "FunctionVersion": version},
        }

    group = made(CANARIES[0])["RefundFunctionDeploymentGroup"]
    moved = {"ApplicationName": {"Ref": "ServerlessDeploymentApplication"}, "DeploymentGroupName": {"Ref": "RefundDirectGroup"}}
    policy = {"UpdatePolicy": {"CodeDeployLambdaAliasUpdate": moved}}
    added = {
        "ProcessDirect": direct("ProcessFunction"),
        "RefundDirect": direct("RefundFunction") | policy,
        "RefundDirectGroup": group,
    }
    [resources] = translated_with({"DeploymentPreference": CANARIES[0]}, resources=added)
    for name, alias in (("ProcessDirect", "ProcessFunctionAliaslive"), ("RefundDirect", "RefundFunctionAliaslive")):
        version, other = (resources[each]["Properties"]["FunctionVersion"]["Fn::GetAtt"][0] for each in (name, alias))
        assert version == other
        assert resources[version]["Type"] == "AWS::Lambda::Version"
    assert {name for name in resources if name in needs(resources, name)} == set()
