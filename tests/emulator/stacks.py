"""The emulator's process, and stacks in it."""

from __future__ import annotations

import copy
import functools
import io
import ipaddress
import json
import os
import socket
import subprocess
import time
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

import boto3
import yaml

from local.template import _Loader
from tests.certificates import Authority

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-emulator" / "bin" / "python"
ACCOUNT, REGION = "111122223333", "us-east-1"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": ACCOUNT, "AWS_SECRET_ACCESS_KEY": "none", "AWS_DEFAULT_REGION": REGION}
HANDLER = "def lambda_handler(event, context):\n    return event\n"
Template = dict[str, Any]


def read() -> Template:
    template: Template = yaml.load((ROOT / "template.yaml").read_text(encoding="utf-8"), _Loader)
    return template


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
    return port


class Emulator:
    """LocalStack and moto, in one process with a folder of its own. They ask nothing of the internet."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "emulator.log"
        self.url, self.moto_url = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        certificate, key = Authority(folder).issue(folder / "emulator", "localhost")
        pair = folder / "emulator.pem"
        pair.write_text(key.read_text() + certificate.read_text())
        environment = CREDENTIALS | {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "HOME": str(folder),
            "FILESYSTEM_ROOT": str(folder),
            "GATEWAY_LISTEN": self.url.removeprefix("http://"),
            "LOCALSTACK_HOST": self.url.removeprefix("http://"),
            "MOTO_ENDPOINT": self.moto_url,
            "MOTO_ACCOUNT_ID": ACCOUNT,
            "AWS_ENDPOINT_URL_KAFKA": self.moto_url,  # for the code of the custom resource
            "CUSTOM_SSL_CERT_PATH": str(pair),  # or LocalStack makes one, by a function that pyOpenSSL has removed
            "DISABLE_EVENTS": "1",  # no analytics
            "SKIP_SSL_CERT_DOWNLOAD": "1",
            "DNS_ADDRESS": "0",  # no name server
            "DISABLE_BOTO_RETRIES": "1",
        }
        with self.log.open("wb") as log:
            command = [str(PYTHON), "-m", "tests.emulator.server"]
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
        self._wait()
        self.s3 = self.client("s3")
        self.s3.create_bucket(Bucket="code")
        code = io.BytesIO()
        with zipfile.ZipFile(code, "w") as archive:
            archive.writestr("handler.py", HANDLER)
        self.s3.put_object(Bucket="code", Key="code.zip", Body=code.getvalue())

    def _wait(self) -> None:
        until = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"{self.url}/_localstack/health", timeout=5).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"The emulator does not start:\n{self.log.read_text()}") from None
                time.sleep(0.2)

    def client(self, service: str, *, moto: bool = False) -> Any:
        keys = {"aws_access_key_id": ACCOUNT, "aws_secret_access_key": "none", "region_name": REGION}
        return boto3.client(service, endpoint_url=self.moto_url if moto else self.url, **keys)

    def stop(self) -> None:
        self.process.kill()  # asked to end, it would first delete what it holds
        self.process.wait()

    def deploy(self, name: str, template: Template, given: dict[str, str], *, only: set[str] | None = None) -> Stack:
        """Make or update a stack from a transformed template; `only` these resources and what they need."""
        stack = Stack(self, name, template, given)
        stack.deploy(only)
        return stack


def values(template: Template, given: dict[str, str]) -> dict[str, str]:
    """Return the value of each parameter."""
    return {name: str(each.get("Default", "")) for name, each in template["Parameters"].items()} | given


def transformed(given: dict[str, str]) -> Template:
    """Return template.yaml as `sam deploy` and CloudFormation's transform make it, by SAM's own translator.

    Raises AssertionError with the translator's message if it refuses the template.
    """
    return copy.deepcopy(_transformed(tuple(sorted(given.items()))))


@functools.cache
def _transformed(given: tuple[tuple[str, str], ...]) -> Template:
    template = standard(read())
    for resource in template["Resources"].values():
        content = {"AWS::Serverless::Function": "CodeUri", "AWS::Serverless::LayerVersion": "ContentUri"}.get(resource["Type"])
        if content:
            resource["Properties"][content] = "s3://code/code.zip"
    lists = {name for name, each in template["Parameters"].items() if each["Type"] == "CommaDelimitedList"}
    parameters = {name: value.split(",") if name in lists else value for name, value in values(template, dict(given)).items()}
    told = json.dumps({"template": template, "parameters": parameters, "region": REGION})
    command = [str(PYTHON), "-m", "tests.emulator.translate"]
    environment = CREDENTIALS | {"PATH": os.environ["PATH"]}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, input=told, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    result: Template = json.loads(done.stdout)
    return result


def standard(node: Any) -> Any:
    """Return the template with each Fn::GetAtt as a list, as CloudFormation reads !GetAtt. SAM resolves none that is a text."""
    match node:
        case {"Fn::GetAtt": str(target)}:
            return {"Fn::GetAtt": target.split(".", 1)}
        case dict():
            return {name: standard(each) for name, each in node.items()}
        case list():
            return [standard(each) for each in node]
    return node


def adapted(node: Any, parameters: dict[str, str]) -> Any:
    """Return the template as LocalStack understands it, see limits.DIFFERENCES."""
    match node:
        case {"Fn::Cidr": [{"Ref": name}, count, bits]}:
            networks = ipaddress.ip_network(parameters[name]).subnets(new_prefix=32 - int(bits))
            return [str(next(networks)) for _ in range(int(count))]
        case {"DeletionPolicy": "RetainExceptOnCreate"}:
            return adapted(node | {"DeletionPolicy": "Retain"}, parameters)
        case {"Type": "Number"}:
            return {"Type": "String"}
        case dict():
            return {name: adapted(each, parameters) for name, each in node.items()}
        case list():
            return [adapted(each, parameters) for each in node]
    return node


class Stack:
    def __init__(self, emulator: Emulator, name: str, template: Template, given: dict[str, str]) -> None:
        self.emulator, self.name, self.template = emulator, name, template
        self.parameters = values(template, given)
        self.cloudformation = emulator.client("cloudformation")

    def deploy(self, only: set[str] | None) -> None:
        template = adapted(standard(self.template), self.parameters)
        del template["Rules"]
        if only is not None:
            template["Resources"] = {name: template["Resources"][name] for name in needed(template, only)}
            del template["Outputs"]
        self.made_from = template
        key = f"{self.name}.json"
        self.emulator.s3.put_object(Bucket="code", Key=key, Body=json.dumps(template))
        listed = [{"ParameterKey": name, "ParameterValue": value} for name, value in self.parameters.items()]
        told = {"StackName": self.name, "TemplateURL": f"{self.emulator.url}/code/{key}", "Parameters": listed}
        names = {stack["StackName"] for stack in self.cloudformation.describe_stacks()["Stacks"]}
        seen = {event["EventId"] for event in self.events()} if self.name in names else set()
        act = self.cloudformation.update_stack if self.name in names else self.cloudformation.create_stack
        act(**told, Capabilities=["CAPABILITY_IAM"])
        self.status = self._ended()
        self.new_events = [event for event in self.events() if event["EventId"] not in seen]

    def delete(self) -> None:
        self.cloudformation.delete_stack(StackName=self.id)
        self.status = self._ended()

    def _ended(self) -> str:
        until = time.monotonic() + 300
        while True:
            [stack] = self.cloudformation.describe_stacks(StackName=getattr(self, "id", self.name))["Stacks"]
            self.id: str = stack["StackId"]
            self.outputs = {each["OutputKey"]: each["OutputValue"] for each in stack.get("Outputs", [])}
            status: str = stack["StackStatus"]
            if not status.endswith("IN_PROGRESS"):
                return status
            assert time.monotonic() < until, f"{status} for 5 minutes\n{self.told()}"
            time.sleep(0.3)

    def events(self) -> list[dict[str, Any]]:
        pages = self.cloudformation.get_paginator("describe_stack_events").paginate(StackName=getattr(self, "id", self.name))
        return [event for page in pages for event in page["StackEvents"]][::-1]

    def failures(self) -> list[str]:
        """Return a line for each failed event of the last deployment, with the emulator's whole reason."""
        failed = [
            event for event in self.new_events if "FAILED" in event["ResourceStatus"] or "ROLLBACK" in event["ResourceStatus"]
        ]
        told = [
            event for event in failed if event.get("ResourceStatusReason")
        ] or failed  # the resources that wait for it give none
        return [f"{each['LogicalResourceId']} {each['ResourceStatus']}: {each.get('ResourceStatusReason')}" for each in told]

    def resources(self) -> dict[str, str]:
        """Return the physical ids of what is made."""
        pages = self.cloudformation.get_paginator("list_stack_resources").paginate(StackName=self.id)
        found = [each for page in pages for each in page["StackResourceSummaries"]]
        complete = [each for each in found if each["ResourceStatus"] in {"CREATE_COMPLETE", "UPDATE_COMPLETE"}]
        return {each["LogicalResourceId"]: each["PhysicalResourceId"] for each in complete}

    def told(self) -> str:
        """Return all events and the end of the emulator's log, for the message of a failed test."""
        lines = [
            f"{each['LogicalResourceId']:32} {each['ResourceStatus']:24} {each.get('ResourceStatusReason', '')}"
            for each in self.events()
        ]
        log = [line for line in self.emulator.log.read_text().splitlines() if "request.aws " not in line]
        return "\n".join([*lines, "", *log[-60:]])


def references(node: Any) -> set[str]:
    """Return the names that Ref, Fn::GetAtt, Fn::Sub and DependsOn mention."""
    match node:
        case {"Ref": name}:
            return {name}
        case {"Fn::GetAtt": target}:
            return {target.split(".")[0] if isinstance(target, str) else target[0]}
        case str():
            return {part.split("}")[0].split(".")[0] for part in node.split("${")[1:]}
        case dict():
            waits = node.get("DependsOn", [])
            named = {waits} if isinstance(waits, str) else set(waits)
            return named.union(*(references(each) for each in node.values()))
        case list():
            return set().union(*(references(each) for each in node))
    return set()


def needed(template: Template, names: set[str]) -> set[str]:
    """Return the names and all that they refer to."""
    found: set[str] = set()
    while names:
        found |= names
        names = set().union(*(references(template["Resources"][name]) for name in names)) & template["Resources"].keys() - found
    return found


def condition(template: Template, name: str, parameters: dict[str, str]) -> bool:
    """Return whether the condition holds."""

    def value(node: Any) -> Any:
        match node:
            case {"Ref": "AWS::Region"}:
                return REGION
            case {"Ref": parameter}:
                return parameters[parameter]
            case {"Fn::Join": [_, joined]}:
                return value(joined)
            case {"Fn::Select": [index, listed]}:
                return value(listed).split(",")[int(index)]
        return node

    def holds(node: Any) -> bool:
        match node:
            case {"Condition": other}:
                return holds(template["Conditions"][other])
            case {"Fn::Equals": [left, right]}:
                return bool(value(left) == value(right))
            case {"Fn::Not": [one]}:
                return not holds(one)
            case {"Fn::And": all_of}:
                return all(holds(one) for one in all_of)
            case {"Fn::Or": any_of}:
                return any(holds(one) for one in any_of)
        raise AssertionError(f"a condition does not know {node}")

    return holds(template["Conditions"][name])


def expected(template: Template, parameters: dict[str, str]) -> set[str]:
    """Return the names of the resources whose conditions hold."""
    resources = template["Resources"].items()
    return {name for name, each in resources if "Condition" not in each or condition(template, each["Condition"], parameters)}
