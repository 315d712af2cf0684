"""What LocalStack's CloudFormation needs to be as strict as AWS's, and to make what it lacks. Runs in .venv-emulator."""

from __future__ import annotations

import functools
import http.server
import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
import uuid
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import jsonschema
import moto.kms
from localstack.services.cloudformation import resource_provider
from localstack.services.cloudformation.engine.v2.change_set_model import is_nothing
from localstack.services.cloudformation.engine.v2.change_set_model_executor import ChangeSetModelExecutor
from localstack.services.cloudformation.engine.v2.change_set_model_preproc import MOCKED_REFERENCE
from localstack.services.cloudformation.engine.v2.change_set_model_transform import ChangeSetModelTransform
from localstack.services.cloudformation.engine.v2.change_set_model_validator import ChangeSetModelValidator
from localstack.services.cloudformation.engine.validations import ValidationError
from localstack.services.cloudformation.resource_provider import OperationStatus, ProgressEvent
from localstack.services.lambda_.invocation import execution_environment, version_manager
from localstack.services.lambda_.invocation.lambda_models import InvocationResult
from moto.kafka.models import FakeKafkaCluster
from moto.kafka.responses import KafkaResponse

from tests.emulator.limits import LIMITS
from tests.emulator.moto_kinds import KINDS, Kind, Properties, at, call

SCHEMA = {"primaryIdentifier": ["/properties/PhysicalResourceId"]}


def succeeded(model: Properties) -> Any:
    return ProgressEvent(OperationStatus.SUCCESS, resource_model=model)


def failed(message: str) -> Any:
    return ProgressEvent(OperationStatus.FAILED, resource_model={}, message=message)


class OnMoto:
    """A type of resource that moto makes."""

    SCHEMA = SCHEMA

    def __init__(self, kind: Kind) -> None:
        self.kind = kind

    def create(self, request: Any) -> Any:
        given = dict(request.desired_state)
        if self.kind.named:
            given.setdefault(self.kind.ref, f"{request.stack_name}-{request.logical_resource_id}-{uuid.uuid4().hex[:12]}".lower())
        if callable(self.kind.create):
            answer = self.kind.create(given)
        else:
            answer = call(self.kind.service, self.kind.create, self.kind.before(given), request.logical_resource_id)
        model = given | {"PhysicalResourceId": at(self.kind.ref, given) or at(self.kind.ref, answer)}
        for name, path in self.kind.attributes.items():
            set_at(model, name, at(path, answer))
        return succeeded(model)

    def update(self, request: Any) -> Any:
        before, after = request.previous_state, request.desired_state
        # LocalStack updates what refers to an updated resource, too.
        if changed := [name for name in after if after[name] != before.get(name)]:
            return failed(f"The emulator cannot update {', '.join(changed)}: choose another parameter for the test of updates.")
        return succeeded(before)

    def delete(self, request: Any) -> Any:
        if self.kind.delete:
            name = self.kind.ref.rpartition(".")[2]
            given = {name: request.desired_state["PhysicalResourceId"]}
            if self.kind.delete in {"DeleteDBCluster", "DeleteDBInstance"}:
                given["SkipFinalSnapshot"] = True
            call(self.kind.service, self.kind.delete, given, request.logical_resource_id)
        return succeeded({})


def set_at(model: Properties, path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for parent in parents:
        model = model.setdefault(parent, {})
    model[last] = value


class Checked:
    """A type that LocalStack makes: the properties are compared with AWS's schema of the type, as CloudFormation does."""

    def __init__(self, provider: Any, kind: str) -> None:
        self.provider, self.kind, self.SCHEMA = provider, kind, provider.SCHEMA

    def checked(self, request: Any, action: Any) -> Any:
        if request.custom_context:  # called again, with what the resource was given meanwhile
            return action(request)
        request.desired_state = typed(request.desired_state, self.SCHEMA, self.SCHEMA)
        if faults := mismatches(request.desired_state, self.SCHEMA):
            return failed("; ".join(faults))
        return action(request)

    def create(self, request: Any) -> Any:
        event = self.checked(request, self.provider.create)
        if request.resource_type == "AWS::KMS::Key" and event.status == OperationStatus.SUCCESS:
            show_key_to_moto(event.resource_model["KeyId"], request)
        return event

    def update(self, request: Any) -> Any:
        return self.checked(request, self.provider.update)

    def delete(self, request: Any) -> Any:
        return self.provider.delete(request)


def show_key_to_moto(key_id: str, request: Any) -> None:
    """Moto's RDS looks a key up in moto's KMS, but LocalStack has a KMS of its own."""
    backend = moto.kms.kms_backends[request.account_id][request.region_name]
    key = backend.create_key(None, "ENCRYPT_DECRYPT", "SYMMETRIC_DEFAULT", "", [])
    backend.keys[key_id] = backend.keys.pop(key.id)
    key.id = key_id


def typed(value: Any, schema: Properties, root: Properties) -> Any:
    """Return the value with the types of the schema: to CloudFormation, "60" is 60 and true is "true"."""
    if reference := schema.get("$ref"):
        schema = root["definitions"][reference.rpartition("/")[2]]
    match value, schema.get("type"):
        case dict(), _:
            return {name: typed(each, schema.get("properties", {}).get(name, {}), root) for name, each in value.items()}
        case list(), _:
            return [typed(each, schema.get("items", {}), root) for each in value]
        case str(), "integer" if value.lstrip("-").isdecimal():
            return int(value)
        case str(), "number" if value.replace(".", "", 1).lstrip("-").isdecimal():
            return float(value)
        case str(), "boolean" if value in {"true", "false"}:
            return value == "true"
        case bool(), "string":
            return str(value).lower()
        case int() | float(), "string":
            return str(value)
    return value


def mismatches(properties: Properties, schema: Properties) -> list[str]:
    found = sorted(jsonschema.Draft7Validator(schema).iter_errors(properties), key=str)
    return [f"{'.'.join(str(part) for part in error.absolute_path) or 'the resource'}: {error.message}" for error in found]


class Limit:
    """A type that counts as made."""

    SCHEMA = SCHEMA

    def create(self, request: Any) -> Any:
        return succeeded(request.desired_state | {"PhysicalResourceId": request.logical_resource_id})

    update = create

    def delete(self, request: Any) -> Any:
        return succeeded({})


class Unknown:
    SCHEMA = SCHEMA

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def create(self, request: Any) -> Any:
        return failed(
            f"The emulator has no {self.kind}. Describe how moto makes it in tests/emulator/moto_kinds.py, "
            "or add it to LIMITS in tests/emulator/limits.py with the reason."
        )

    update = delete = create


class Custom:
    """A custom resource: its function runs, and answers to an address that only this request knows."""

    SCHEMA = SCHEMA

    def create(self, request: Any) -> Any:
        return self.told(request, "Create")

    def update(self, request: Any) -> Any:
        return self.told(request, "Update")

    def delete(self, request: Any) -> Any:
        return self.told(request, "Delete")

    def told(self, request: Any, kind: str) -> Any:
        with Answer() as answer:
            event = {
                "RequestType": kind,
                "RequestId": str(uuid.uuid4()),
                "StackId": request.stack_id,
                "ResponseURL": answer.url,
                "LogicalResourceId": request.logical_resource_id,
                "ResourceType": request.resource_type,
                "ResourceProperties": request.desired_state,
            }
            token = request.desired_state["ServiceToken"]
            done = request.aws_client_factory.lambda_.invoke(FunctionName=token, Payload=json.dumps(event))
            told = answer.body
        if told is None or told["Status"] != "SUCCESS":
            return failed(
                f"The function of the custom resource answered {told}; its invocation: {done['Payload'].read().decode()}"
            )
        return succeeded(request.desired_state | told.get("Data", {}) | {"PhysicalResourceId": told["PhysicalResourceId"]})


class Answer:
    """A web server that takes one PUT."""

    def __enter__(self) -> Answer:
        self.body: Properties | None = None
        answer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                answer.body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *ended: object) -> None:
        self.server.shutdown()
        self.server.server_close()


RUN = """
import importlib, json, sys
sys.path.insert(0, sys.argv[1])
module, _, name = sys.argv[2].rpartition(".")
context = type("Context", (), {"log_stream_name": "emulated"})
print(json.dumps(getattr(importlib.import_module(module), name)(json.load(sys.stdin), context)))
"""


class Process:
    """Runs a function's code in a process of this Python, because there is no Docker."""

    def __init__(self, _id: str, function_version: Any) -> None:
        self.version = function_version

    def start(self, environment: dict[str, str]) -> None:
        self.environment = {name: str(value) for name, value in environment.items()}

    def stop(self) -> None: ...

    def get_address(self) -> str:
        return "127.0.0.1"

    get_endpoint_from_executor = get_runtime_endpoint = get_logs = get_address

    def invoke(self, payload: dict[str, str]) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            archive = Path(folder, "code.zip")
            with archive.open("wb") as target:
                self.version.config.code._download_archive_to_file(target)
            zipfile.ZipFile(archive).extractall(folder)
            done = subprocess.run(
                [sys.executable, "-c", RUN, folder, self.version.config.handler],
                input=payload["payload"],
                env=os.environ | self.environment,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        return InvocationResult(
            request_id=payload["invoke-id"],
            payload=(done.stdout if done.returncode == 0 else done.stderr).encode(),
            is_error=done.returncode != 0,
            logs=done.stderr,
        )

    @classmethod
    def prepare_version(cls, version: Any) -> None: ...

    @classmethod
    def cleanup_version(cls, version: Any) -> None: ...


def install() -> None:
    original = resource_provider.ResourceProviderExecutor.try_load_resource_provider

    def load(kind: str) -> Any:
        if kind in LIMITS:
            return Limit()
        if kind in KINDS:
            return OnMoto(KINDS[kind])
        if kind.startswith("Custom::"):
            return Custom()
        provider = original(kind)
        return Checked(provider, kind) if provider else Unknown(kind)

    resource_provider.ResourceProviderExecutor.try_load_resource_provider = staticmethod(load)
    execution_environment.get_runtime_executor = version_manager.get_runtime_executor = lambda: Process
    loop = resource_provider.ResourceProviderExecutor.deploy_loop
    resource_provider.ResourceProviderExecutor.deploy_loop = functools.partialmethod(loop, sleep_time=0.1)
    brokers_as_on_aws()
    told_failures()
    strict_references()
    lenient_selection()


def brokers_as_on_aws() -> None:
    """Give moto's MSK the operation that the custom resource calls, and AWS's shape of ARN: cluster/NAME/UUID."""
    FakeKafkaCluster._generate_arn = lambda self: (
        f"arn:aws:kafka:{self.region_name}:{self.account_id}:cluster/{self.cluster_name}/{self.cluster_id}"
    )

    def get_bootstrap_brokers(self: Any) -> str:
        arn = unquote(self.parsed_url.path.split("/clusters/")[1].removesuffix("/bootstrap-brokers"))
        name = self.kafka_backend.describe_cluster_v2(arn)["clusterName"]
        host = f"boot-{name}.c1.kafka-serverless.{self.region}.amazonaws.com:9098"
        return json.dumps({"bootstrapBrokerStringSaslIam": host})

    KafkaResponse.get_bootstrap_brokers = get_bootstrap_brokers


def told_failures() -> None:
    """Log why a deployment fails where no event says it."""
    process = ChangeSetModelExecutor.process

    def processed(self: Any) -> None:
        try:
            process(self)
        except Exception:
            logging.getLogger(__name__).exception("The deployment of %s fails", self._change_set.stack.stack_name)
            raise

    ChangeSetModelExecutor.process = processed


def strict_references() -> None:
    """Refuse Ref and Fn::GetAtt of what is not there; LocalStack would go on with "unknown" or nothing in its place."""
    attribute, reference = ChangeSetModelExecutor._resolve_attribute, ChangeSetModelExecutor._resolve_reference

    def resolved_attribute(self: Any, arguments: Any, select_before: bool) -> Any:
        value = attribute(self, arguments, select_before)
        if value is not None and value != MOCKED_REFERENCE:
            return value
        name = arguments.split(".")[0] if isinstance(arguments, str) else arguments[0]
        if self.resources.get(name, {}).get("Type") in LIMITS:
            return str(arguments)
        raise ValidationError(f"Fn::GetAtt: no such attribute: {arguments}")

    def resolved_reference(self: Any, logical_id: str) -> Any:
        delta = reference(self, logical_id)
        deletion = self._change_set.stack.status == "DELETE_IN_PROGRESS"
        if is_nothing(delta.after) and not deletion and not logical_id.startswith("AWS::"):
            raise ValidationError(f"Ref: the condition of {logical_id} is false")
        return delta

    ChangeSetModelExecutor._resolve_attribute = resolved_attribute
    ChangeSetModelExecutor._resolve_reference = resolved_reference


def lenient_selection() -> None:
    """Let Fn::Select pass before anything is made, when the list comes from a resource. The deployment itself resolves it."""

    def lenient(select: Any) -> Any:
        def selected(self: Any, function: Any) -> Any:
            try:
                return select(self, function)
            except ValidationError:
                return self.visit(function.arguments)

        return selected

    for visitor in (ChangeSetModelTransform, ChangeSetModelValidator):
        visitor.visit_node_intrinsic_function_fn_select = lenient(visitor.visit_node_intrinsic_function_fn_select)
