"""template.yaml as it is deployed: what no linter knows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from local.template import _Loader

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "template.yaml").read_text(encoding="utf-8")
TEMPLATE: dict[str, Any] = yaml.load(TEXT, _Loader)
RESOURCES: dict[str, dict[str, Any]] = TEMPLATE["Resources"]
CODE = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "layers/shared/python/payments").rglob("*.py"))


def of_type(kind: str) -> dict[str, dict[str, Any]]:
    return {name: resource.get("Properties", {}) for name, resource in RESOURCES.items() if resource["Type"] == kind}


def statements() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, properties in (of_type("AWS::IAM::ManagedPolicy") | of_type("AWS::IAM::Role")).items():
        documents = [properties["PolicyDocument"]] if "PolicyDocument" in properties else []
        documents += [policy["PolicyDocument"] for policy in properties.get("Policies", [])]
        yield from ((name, statement) for document in documents for statement in document["Statement"])


def test_no_policy_of_ours_has_a_wildcard() -> None:
    found = list(statements())
    assert found
    assert [(name, statement) for name, statement in found if "*" in json.dumps(statement)] == []


@pytest.mark.parametrize("name", of_type("AWS::Serverless::Function"))
def test_retries_of_asynchronous_invocations_are_told(name: str) -> None:
    properties = RESOURCES[name]["Properties"]
    if name == "LookupsFunction":
        assert "EventInvokeConfig" not in properties, "API Gateway waits for its answers"
        return
    config = properties["EventInvokeConfig"]
    assert "MaximumRetryAttempts" in config
    if config["MaximumRetryAttempts"]:
        assert config["MaximumEventAgeInSeconds"] < 86400, "the gateway forgets a key after a day"
        assert config["DestinationConfig"]["OnFailure"]["Type"] == "SQS"


def test_only_sam_local_says_that_it_is_sam_local() -> None:
    assert "AWS_SAM_LOCAL" not in TEXT, "it stands for a caller without a token"


def test_the_dashboard_is_json_and_names_resources_that_are_there() -> None:
    body, names = RESOURCES["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
    widgets = json.loads(body)["widgets"]
    assert len(widgets) == 12
    used = {name.split(".")[0] for name in re.findall(r"\$\{([^}]+)\}", body)}
    assert used <= RESOURCES.keys() | names.keys() | {"AWS::Region"}
    places = [(widget["x"], widget["y"]) for widget in widgets]
    assert len(set(places)) == len(places)


def our_metrics() -> set[str]:
    """Names of metrics in our namespace that alarms and dashboard watch."""
    dashboard = RESOURCES["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"][0]
    names = set(re.findall(r'"Payments", "(\w+)"', dashboard)) | set(re.findall(r'MetricName=\\"(\w+)\\"', dashboard))
    for alarm in of_type("AWS::CloudWatch::Alarm").values():
        watched = [alarm, *(metric["MetricStat"]["Metric"] for metric in alarm.get("Metrics", []) if "MetricStat" in metric)]
        names |= {each["MetricName"] for each in watched if each.get("Namespace") == "Payments"}
    return names


def test_the_metrics_that_are_watched_are_written() -> None:
    assert {name for name in our_metrics() if f'"{name}"' not in CODE} <= {"ColdStart"}  # Powertools writes that one


def test_each_alarm_is_explained() -> None:
    operations = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    alarms = of_type("AWS::CloudWatch::Alarm")
    assert alarms
    assert {name for name in alarms if f"`{name}`" not in operations} == set()
    assert all(alarm["AlarmActions"] for alarm in alarms.values())
