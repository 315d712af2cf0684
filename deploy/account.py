"""What `make preflight` asks: the deployment's parameters, the AWS account, and the issuer of its tokens."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from deploy.arguments import Deployment


@dataclass(frozen=True)
class Account:
    """`client` makes boto3's client of a service, in the region. `fetch` returns the status and the body of a page."""

    deployment: Deployment
    region: str
    client: Callable[[str], Any]
    fetch: Callable[[str], tuple[int, bytes]]

    def value(self, name: str) -> str:
        return self.deployment.parameter(name)

    def made_stack(self) -> dict[str, Any] | None:
        """Return what CloudFormation says of the stack, if there is one already."""
        if not self.deployment.stack:
            return None
        try:
            [found] = self.client("cloudformation").describe_stacks(StackName=self.deployment.stack)["Stacks"]
        except ClientError as error:
            if error.response["Error"]["Code"] != "ValidationError":
                raise
            return None
        return dict(found)

    @property
    def makes_vpc(self) -> bool:
        return not self.value("VpcId")

    @property
    def uses_stripe(self) -> bool:
        return self.value("Gateway") == "stripe"

    @property
    def makes_database(self) -> bool:
        return not self.value("DatabaseUrl")

    @property
    def makes_brokers(self) -> bool:
        return not self.value("KafkaBootstrapServers")
