"""What LocalStack's CloudFormation needs to be as strict as AWS's, and to make what it lacks. Runs in .venv-emulator."""

from __future__ import annotations

import functools
import json
import logging
from typing import Any
from urllib.parse import unquote

from localstack.services.cloudformation import resource_provider
from localstack.services.cloudformation.engine.v2.change_set_model import is_nothing
from localstack.services.cloudformation.engine.v2.change_set_model_executor import ChangeSetModelExecutor
from localstack.services.cloudformation.engine.v2.change_set_model_preproc import MOCKED_REFERENCE
from localstack.services.cloudformation.engine.v2.change_set_model_transform import ChangeSetModelTransform
from localstack.services.cloudformation.engine.v2.change_set_model_validator import ChangeSetModelValidator
from localstack.services.cloudformation.engine.validations import ValidationError
from localstack.services.lambda_.invocation import execution_environment, version_manager
from moto.kafka.models import FakeKafkaCluster
from moto.kafka.responses import KafkaResponse

from tests.emulator.functions import Custom, Process
from tests.emulator.limits import LIMITS
from tests.emulator.moto_kinds import KINDS
from tests.emulator.providers import Checked, Limit, OnMoto, Unknown


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
