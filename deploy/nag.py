"""Compare what cdk-nag finds in template.yaml with the reasons that stand there. Runs in .venv-nag, see `make audit`.

A resource's Metadata has the reasons, as `cdk_nag: skip: [{id: ..., comment: ...}]`, also for what SAM makes of the resource. The
template's own Metadata has those that hold everywhere. A finding without a reason fails, and so does a reason without a finding.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
from aws_cdk import App, Stack
from aws_cdk.cloudformation_include import CfnInclude
from cdk_nag import AwsSolutionsChecks, PCIDSS321Checks, ServerlessChecks
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
from samtranslator.yaml_helper import yaml_parse

Template = dict[str, Any]
CONTENT = {"AWS::Serverless::Function": "CodeUri", "AWS::Serverless::LayerVersion": "ContentUri"}
PARAMETER_SETS: list[dict[str, str]] = [{}, {"DeploymentPreference": "Canary10Percent10Minutes"}]
"""SAM makes other resources with a canary. cdk-nag itself looks at all resources, whatever their conditions."""


def transformed(template: Template, given: dict[str, str]) -> Template:
    """Return what CloudFormation's SAM transform makes of the template with these parameters."""
    values = {name: str(each.get("Default", "x")) for name, each in template["Parameters"].items()} | given
    lists = [name for name, each in template["Parameters"].items() if each["Type"] == "CommaDelimitedList"]
    copy: Template = json.loads(json.dumps(template))
    for resource in copy["Resources"].values():
        if content := CONTENT.get(resource["Type"]):
            resource["Properties"][content] = "s3://code/code.zip"
    translator = Translator({}, Parser(), None, boto3.session.Session(region_name="us-east-1"))
    result: Template = translator.translate(copy, values | {name: values[name].split(",") for name in lists})
    return result


def findings(template: Template) -> Iterator[tuple[str, str, str]]:
    """Yield resource, rule and text of each finding in a transformed template."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "template.json")
        file.write_text(json.dumps(template), encoding="utf-8")
        stack = Stack(App(outdir=folder), "payments")
        CfnInclude(stack, "template", template_file=str(file))
        for pack in (AwsSolutionsChecks(), ServerlessChecks(), PCIDSS321Checks()):
            for violation in pack.validate_scope(stack).violations:
                for resource in violation.violating_resources:
                    yield resource.construct_path.rpartition("/")[2], violation.rule_name, violation.description


def reasons(node: Template) -> set[str]:
    return {each["id"] for each in node.get("Metadata", {}).get("cdk_nag", {}).get("skip", []) if each["comment"]}


def faults(template: Template) -> Iterator[str]:
    """Yield a line for each finding without a reason and for each reason without a finding."""
    everywhere = "everywhere"
    given = {(name, rule) for name, each in template["Resources"].items() for rule in reasons(each)}
    given |= {(everywhere, rule) for rule in reasons(template)}
    used = set()
    for resource, rule, text in sorted({each for values in PARAMETER_SETS for each in findings(transformed(template, values))}):
        made_of = max((name for name in template["Resources"] if resource.startswith(name)), key=len, default=resource)
        if reason := {(made_of, rule), (everywhere, rule)} & given:
            used |= reason
        else:
            yield f"{resource}: {rule}: {text}"
    yield from (f"{place}: {rule} has a reason and no finding" for place, rule in sorted(given - used))


if __name__ == "__main__":
    logging.getLogger("samtranslator").setLevel(logging.ERROR)
    found = list(faults(yaml_parse(Path(sys.argv[1]).read_text(encoding="utf-8"))))
    sys.exit("\n".join(found) or None)
