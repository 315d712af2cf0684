"""The ways in which the emulator makes a resource; LocalStack calls them resource providers. Runs in .venv-emulator."""

from __future__ import annotations

import uuid
from typing import Any

import jsonschema
import moto.kms
from localstack.services.cloudformation.resource_provider import OperationStatus, ProgressEvent

from tests.emulator.moto_kinds import Kind, Properties, at, call, client

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
            name, operation = self.kind.ref.rpartition(".")[2], client(self.kind.service).meta.service_model.operation_model
            required = operation(self.kind.delete).input_shape.required_members
            given = {each: value for each, value in request.desired_state.items() if each in required}
            given[name] = request.desired_state["PhysicalResourceId"]
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
