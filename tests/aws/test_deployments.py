"""template.yaml as SAM reads it: the translator that CloudFormation runs, `sam build` and `sam deploy --guided`."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
from typing import Any

import pytest

from tests.aws.test_template import RESOURCES, ROOT, TEMPLATE, of_type

SAM = ROOT / ".venv-sam" / "bin" / "python"

TRANSLATE = """
import json, os, sys
import boto3
from samcli.yamlhelper import yaml_parse
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
def translated(layer, given):
    template = yaml_parse(open("template.yaml").read())
    for name, resource in template["Resources"].items():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = "s3://bucket/" + name
        if resource["Type"] == "AWS::Serverless::LayerVersion":
            resource["Properties"]["ContentUri"] = "s3://bucket/" + layer
    translator = Translator({}, Parser(), None, boto3.session.Session(region_name="us-east-1"))
    lists = {name for name, each in template["Parameters"].items() if each["Type"] == "CommaDelimitedList"}
    parameters = {name: str(each.get("Default", "x")) for name, each in template["Parameters"].items()}
    parameters |= given
    template["Resources"] |= json.loads(os.environ.get("RESOURCES", "{}"))
    parameters |= {name: parameters[name].split(",") for name in lists}
    return translator.translate(template, parameters)["Resources"]
sets = json.loads(os.environ.get("PARAMETER_SETS", "[{}]"))
print(json.dumps([translated(layer, given) for layer in sys.argv[1:] for given in sets]))
"""

READ = """
from samcli.lib.providers.sam_stack_provider import SamLocalStackProvider
[stack], _ = SamLocalStackProvider.get_stacks("template.yaml")
print(len([each for each in stack.resources.values() if each["Type"] == "AWS::Serverless::Function"]))
"""

# The answer to each prompt is the return key.
GUIDED = """
import json
import re
import click
from click.testing import CliRunner
from samcli.commands.deploy.guided_context import GuidedContext
from samcli.yamlhelper import yaml_parse
parameters = yaml_parse(open("template.yaml").read())["Parameters"]
@click.command()
def ask():
    answers = GuidedContext.prompt_parameters(GuidedContext.__new__(GuidedContext), parameters, {}, "", "")
    click.echo("\\n" + json.dumps({name: answer["Value"] for name, answer in answers.items()}))
print(CliRunner().invoke(ask, input="\\n" * len(parameters)).output.rstrip())
"""


def by_sam(program: str, *arguments: str, **environment: str) -> str:
    if not SAM.exists():
        pytest.skip("SAM is in .venv-sam, which `make test` sets up")
    command = [str(SAM), "-c", program, *arguments]
    own = os.environ | environment
    done = subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@functools.cache
def translated() -> list[dict[str, dict[str, Any]]]:
    """Return the resources twice, for two different contents of the layer."""
    both: list[dict[str, dict[str, Any]]] = json.loads(by_sam(TRANSLATE, "one", "another"))
    return both


def translated_with(*sets: dict[str, str], resources: dict[str, Any] | None = None) -> list[dict[str, dict[str, Any]]]:
    """Return the resources under each set of parameters, with `resources` added to the template."""
    given = {"PARAMETER_SETS": json.dumps(sets), "RESOURCES": json.dumps(resources or {})}
    made: list[dict[str, dict[str, Any]]] = json.loads(by_sam(TRANSLATE, "one", **given))
    return made


def translated_to(kind: str) -> dict[str, dict[str, Any]]:
    return {name: resource["Properties"] for name, resource in translated()[0].items() if resource["Type"] == kind}


@pytest.mark.server
def test_sam_build_and_sam_local_can_read_it() -> None:
    """They resolve the names of outputs too, so no output may have the name of a parameter that is a list."""
    assert int(by_sam(READ)) == len(of_type("AWS::Serverless::Function"))


@pytest.mark.server
def test_a_change_of_the_layer_alone_publishes_a_version_of_every_function() -> None:
    one, another = ({name for name, each in made.items() if each["Type"] == "AWS::Lambda::Version"} for made in translated())
    assert len(one) == len(another) == len(of_type("AWS::Serverless::Function"))
    assert one & another == set()


@pytest.mark.server
def test_each_build_is_a_change_of_the_layer() -> None:
    # Without the option, make also prints which folder it enters and leaves when `make test` has called it.
    done = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", "build"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    stamp = done.stdout.splitlines()[-1]
    assert stamp.startswith('echo "$(date')
    assert stamp.endswith("> .aws-sam/build/SharedLayer/BUILD")
    assert "SharedLayer" in RESOURCES


@pytest.mark.server
def test_guided_takes_the_default_of_every_parameter() -> None:
    assert json.loads(by_sam(GUIDED)) == {name: str(each.get("Default", "")) for name, each in TEMPLATE["Parameters"].items()}


@pytest.mark.server
def test_an_account_takes_more_than_one_stack() -> None:
    schedules = translated_to("AWS::Scheduler::Schedule")
    assert len(schedules) == 3
    assert {name for name, properties in schedules.items() if "Name" in properties} == set()


@pytest.mark.server
def test_pages_of_several_origins_may_call_the_api() -> None:
    [api] = translated_to("AWS::ApiGatewayV2::Api").values()
    assert api["Body"]["x-amazon-apigateway-cors"]["allowOrigins"] == ["https://shop.example.com"]


@pytest.mark.server
def test_whoever_needs_no_token_is_throttled() -> None:
    routes = [
        f"{event['Properties']['Method']} {event['Properties']['Path']}"
        for function in of_type("AWS::Serverless::Function").values()
        for event in function.get("Events", {}).values()
        if event["Properties"].get("Auth", {}).get("Authorizer") == "NONE"
    ]
    [stage] = translated_to("AWS::ApiGatewayV2::Stage").values()
    rates = {route: _made(settings)["ThrottlingRateLimit"] for route, settings in stage["RouteSettings"].items()}
    assert rates == {"GET /health": 5, "POST /api/v1/gateways/stripe/events": 50}
    assert rates.keys() == set(routes)


def _made(part: dict[str, Any]) -> Any:
    """Return the part as it is where its condition holds: the routes of webhooks have one, and Stripe's."""
    return part["Fn::If"][1] if "Fn::If" in part else part


@pytest.mark.server
def test_api_gateway_goes_through_live_and_direct_has_the_same_version() -> None:
    aliases = translated_to("AWS::Lambda::Alias")
    for function in ("Process", "Refund", "GatewayEvents"):
        live, direct = aliases[f"{function}FunctionAliaslive"], aliases[f"{function}Direct"]
        assert (live["Name"], direct["Name"]) == ("live", "direct")
        assert live["FunctionVersion"] == direct["FunctionVersion"]
    assert {name for name in aliases if not name.endswith("Aliaslive")} == {
        "ProcessDirect",
        "RefundDirect",
        "GatewayEventsDirect",
    }
    [api] = translated_to("AWS::ApiGatewayV2::Api").values()
    uris = [
        _made(_made(route)["x-amazon-apigateway-integration"]["uri"])["Fn::Sub"]
        for path in api["Body"]["paths"].values()
        for method, route in _made(path).items()
        if method != "options"
    ]
    assert len(uris) > 5
    assert all(re.search(r"/functions/\$\{\w+FunctionAliaslive\}/invocations$", uri) for uri in uris), uris
    permissions = translated_to("AWS::Lambda::Permission")
    assert permissions.pop("StripeEventsMayInvoke")["FunctionName"] == {"Ref": "GatewayEventsDirect"}
    permissions = {name: each for name, each in permissions.items() if not name.startswith("Order")}
    assert all(each["FunctionName"]["Ref"].endswith("Aliaslive") for each in permissions.values()), permissions
