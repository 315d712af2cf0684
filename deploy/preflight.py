"""`make preflight`: say in seconds what would fail a deployment after half an hour. It reads, and changes nothing.

Exit code 0: nothing was found. 1: the deployment would fail. 2: nothing could be checked.
"""

import json
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError

from deploy.account import Account
from deploy.arguments import ArgumentsError, declared, read
from deploy.domain_name import certificate_problems, owner_problems, truststore_problems
from deploy.restoring import restoring

ZONES_WITHOUT_A_SERVICE = {"use1-az3": "RDS Proxy and MSK"}
"""By zone id, which is the same in all accounts."""

KEPT_UNRESERVED = 100
"""Lambda wants that many environments to remain without a reservation."""

SCHEDULED_ENVIRONMENTS, COURIER_ENVIRONMENTS, STRIPE_ENVIRONMENTS = 9, 3, 10
"""What the template reserves for relay, reconcile and migrate, with Webhooks=On for courier, and with Gateway=stripe for its
events. Each function of the API has ReservedConcurrency: three, and one more with webhooks."""

DEFAULT_VPCS = DEFAULT_ADDRESSES = 5


def parameters(account: Account) -> Iterator[str]:
    for name, parameter in declared().items():
        value, pattern = account.value(name), parameter.get("AllowedPattern", ".*")
        if not value and "Default" not in parameter:
            yield f"{name} is missing"
        elif parameter["Type"] == "Number" and not value.isdecimal():
            yield f"{name}={value}: must be a whole number"
        elif value not in map(str, parameter.get("AllowedValues", [value])):
            yield f"{name}={value}: must be one of {', '.join(map(str, parameter['AllowedValues']))}"
        elif not all(re.fullmatch(pattern, part) for part in _parts(parameter, value)):
            # A password or a key in such a value is the very mistake, and this line may go into a log.
            shown = name if name.endswith(("Url", "SecretArn")) else f"{name}={value}"
            yield f"{shown}: {parameter.get('ConstraintDescription', f'must match {pattern}')}"


def issuer(account: Account) -> Iterator[str]:
    """API Gateway reads the discovery document when the authorizer is made."""
    name = account.value("JwtIssuer")
    if not name:
        return  # said above
    url = f"{name.rstrip('/')}/.well-known/openid-configuration"
    try:
        status, body = account.fetch(url)
        document = json.loads(body) if status == 200 else {}
    except (OSError, ValueError) as error:
        yield f"{url}: {error}"
        return
    if status != 200:
        yield f"{url} answers {status}"
    elif not isinstance(document, dict) or document.get("issuer") != name:
        said = document.get("issuer") if isinstance(document, dict) else document
        yield f"{url} says that the issuer is {said!r}; JwtIssuer must be the same to the letter, a slash at its end too"
    elif not str(document.get("jwks_uri", "")).startswith("https://"):
        yield f"{url} has no jwks_uri with https"


def stack(account: Account) -> Iterator[str]:
    """A stack that was never made cannot be updated, and what an earlier one left is in the way of a new one."""
    name = account.deployment.stack
    if not name:
        return
    if not (found := account.made_stack()):
        logs = account.client("logs")
        for group in (f"/aws/lambda/{name}", f"/aws/apigateway/{name}", f"/aws/vpc/{name}"):
            if any(each["logGroupName"] == group for each in logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]):
                yield f"the log group {group} is left of an earlier stack: delete it, or choose another name"
        return
    status = found["StackStatus"]
    if status in {"ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "DELETE_FAILED", "REVIEW_IN_PROGRESS"}:
        yield f"the stack {name} is {status}: delete it first (sam delete)"
    elif status.endswith(("_IN_PROGRESS", "ROLLBACK_FAILED")):
        yield f"the stack {name} is {status}: it takes no update now"


def role(account: Account) -> Iterator[str]:
    arn = account.value("OrderServiceRoleArn")
    if not arn.startswith("arn:"):
        return
    _, _, owner = arn.partition(":iam::")
    if owner.partition(":")[0] != account.client("sts").get_caller_identity()["Account"]:
        raise NotCheckedError(f"{arn} is in another account")
    try:
        found = account.client("iam").get_role(RoleName=arn.rpartition("/")[2])["Role"]["Arn"]
    except account.client("iam").exceptions.NoSuchEntityException:
        yield f"OrderServiceRoleArn={arn}: there is no such role"
        return
    if found != arn:
        yield f"OrderServiceRoleArn={arn}: the role's ARN is {found}"


def zones(account: Account) -> Iterator[str]:
    ec2 = account.client("ec2")
    if not account.makes_vpc:
        yield from _own_subnets(account, ec2)
        return
    chosen = account.deployment.listed("AvailabilityZones")
    if not chosen and account.region == "us-east-1":
        return  # the template names zone ids
    found = ec2.describe_availability_zones(AllAvailabilityZones=True)["AvailabilityZones"]
    zone_ids = {zone["ZoneName"]: zone["ZoneId"] for zone in found if _usable(zone)}
    for name in chosen:
        if name not in zone_ids:
            yield f"AvailabilityZones: {name} is no available zone; there are {', '.join(sorted(zone_ids))}"
        elif missing := ZONES_WITHOUT_A_SERVICE.get(zone_ids[name]):
            yield f"AvailabilityZones: {name} is {zone_ids[name]} in this account, which lacks {missing}"
    if chosen and len(set(chosen)) < 2:
        yield "AvailabilityZones: name two different zones"
    if not chosen and len(zone_ids) < 2:
        yield f"{account.region} has fewer than two zones that are available"


def _own_subnets(account: Account, ec2: Any) -> Iterator[str]:
    wanted = account.deployment.listed("SubnetIds")
    filters = [{"Name": "subnet-id", "Values": wanted}]
    found = ec2.describe_subnets(Filters=filters)["Subnets"] if wanted else []
    for name in sorted(set(wanted) - {subnet["SubnetId"] for subnet in found}):
        yield f"SubnetIds: {name} does not exist in {account.region}"
    for subnet in found:
        name, zone = subnet["SubnetId"], subnet["AvailabilityZoneId"]
        if subnet["VpcId"] != account.value("VpcId"):
            yield f"SubnetIds: {name} is in {subnet['VpcId']}, not in {account.value('VpcId')}"
        missing = ZONES_WITHOUT_A_SERVICE.get(zone)
        if missing and (account.makes_database or account.makes_brokers):
            yield f"SubnetIds: {name} is in {zone}, which lacks {missing}"
    if len({subnet["AvailabilityZoneId"] for subnet in found}) < 2:
        yield "SubnetIds: name private subnets in two zones at least"
    if account.uses_stripe and found:
        yield from _without_a_way_out(account, ec2, [subnet["SubnetId"] for subnet in found])


def _without_a_way_out(account: Account, ec2: Any, subnets: list[str]) -> Iterator[str]:
    """A function has no address of the internet, so an internet gateway alone leads it nowhere."""
    in_vpc = [{"Name": "vpc-id", "Values": [account.value("VpcId")]}]
    tables = ec2.describe_route_tables(Filters=in_vpc)["RouteTables"]
    by_subnet = {each.get("SubnetId"): table for table in tables for each in table["Associations"]}  # None: the VPC's main one
    for name in subnets:
        routes = by_subnet.get(name, by_subnet.get(None, {})).get("Routes", [])
        ways = [route for route in routes if route.get("DestinationCidrBlock") == "0.0.0.0/0"]
        if not any(route.get("State") == "active" and not route.get("GatewayId", "").startswith("igw-") for route in ways):
            yield f"SubnetIds: {name} has no route to Stripe (0.0.0.0/0, by a NAT gateway or the like), as Gateway=stripe needs"


def _usable(zone: dict[str, Any]) -> bool:
    ordinary = zone.get("ZoneType", "availability-zone") == "availability-zone"
    return ordinary and zone["State"] == "available" and zone.get("OptInStatus") != "not-opted-in"


def region(account: Account) -> Iterator[str]:
    """The services that not every region has."""
    if account.makes_database:
        yield from _database_version(account)
    if account.makes_brokers:
        try:
            account.client("kafka").list_clusters_v2(ClusterTypeFilter="SERVERLESS", MaxResults=1)
        except EndpointConnectionError:
            yield f"MSK does not answer in {account.region}: choose a region that has MSK Serverless, or name your own brokers"


def _database_version(account: Account) -> Iterator[str]:
    version = account.value("DatabaseEngineVersion")
    pages = account.client("rds").get_paginator("describe_orderable_db_instance_options")
    offered = pages.paginate(Engine="aurora-postgresql", DBInstanceClass="db.serverless")
    versions = sorted({offer["EngineVersion"] for page in offered for offer in page["OrderableDBInstanceOptions"]})
    if not any(f"{each}.".startswith(f"{version}.") for each in versions):
        yield f"{account.region} has no Aurora PostgreSQL {version} Serverless v2; it has {', '.join(versions) or 'none'}"


def secrets(account: Account) -> Iterator[str]:
    """Their values are not read. The functions compare Stripe's key with GatewayLive when they first use it."""
    unseen: list[str] = []  # What belongs to another account is often not ours to describe.
    for name in ("DatabaseSecretArn", "DatabaseOwnerSecretArn", "KafkaSecretArn", "StripeSecretArn"):
        arn = account.value(name)
        if re.fullmatch("arn:[a-z-]+:secretsmanager:[^:]+:[^:]+:secret:.+", arn):
            try:
                yield from _secret(account, name, arn)
            except ClientError as error:
                unseen.append(f"{name}: {error}")
        elif arn:
            yield f"{name}: it must be the ARN of a secret"
    if unseen:
        raise NotCheckedError("; ".join(unseen))


def _secret(account: Account, name: str, arn: str) -> Iterator[str]:
    client = account.client("secretsmanager")
    if (place := arn.split(":")[3]) != account.region:
        yield f"{name}: the secret is in {place}, and has to be in {account.region}"
        return
    try:
        found = client.describe_secret(SecretId=arn)
    except client.exceptions.ResourceNotFoundException:
        yield f"{name}={arn}: there is no such secret"
        return
    if "DeletedDate" in found:
        yield f"{name}={arn}: the secret is about to be deleted"
    if "KmsKeyId" in found:
        # Secrets Manager decrypts with a key of one's own for those alone who may use it. AWS's own key serves the whole account.
        key = account.client("kms").describe_key(KeyId=found["KmsKeyId"])["KeyMetadata"]
        if key["KeyManager"] == "CUSTOMER" and key["Arn"] not in account.deployment.listed("SecretsKeyArns"):
            yield f"{name}: a key of your own encrypts the secret, so SecretsKeyArns has to name {key['Arn']}"
        if key["KeyState"] != "Enabled":
            yield f"{name}: the secret's key {key['Arn']} is {key['KeyState']}"


def bus(account: Account) -> Iterator[str]:
    """CloudFormation makes the rule on the bus last of all, so a bus that is missing fails the deployment at its end."""
    if not (name := account.value("StripeEventBusName")):
        return
    client = account.client("events")
    try:
        client.describe_event_bus(Name=name)
    except client.exceptions.ResourceNotFoundException:
        yield f"StripeEventBusName={name}: {account.region} has no such bus; associate Stripe's partner event source first"


def quotas(account: Account) -> Iterator[str]:
    yield from _addresses(account)
    if account.made_stack():
        return  # its own use is counted already
    reserved = int(account.value("ReservedConcurrency"))
    limits = account.client("lambda").get_account_settings()["AccountLimit"]
    has_webhooks = account.value("Webhooks") == "On"
    fixed = SCHEDULED_ENVIRONMENTS + COURIER_ENVIRONMENTS * has_webhooks + STRIPE_ENVIRONMENTS * account.uses_stripe
    needed = (3 + has_webhooks) * reserved + fixed if reserved else 0
    free = max(limits["UnreservedConcurrentExecutions"] - KEPT_UNRESERVED, 0)
    if needed > free:
        yield f"ReservedConcurrency={reserved} takes {needed} environments of Lambda, and {free} can be reserved"
    if account.makes_vpc:
        used = len(account.client("ec2").describe_vpcs()["Vpcs"])
        if used >= (most := _quota(account, "vpc", "L-F678F1CE", DEFAULT_VPCS)):
            yield f"{account.region} has {used} VPCs of {most}: request a larger quota, or name your own with VpcId"
    if account.makes_database:
        found = account.client("rds").describe_account_attributes()["AccountQuotas"]
        for quota in found:
            if quota["AccountQuotaName"] == "DBClusters" and quota["Used"] >= quota["Max"]:
                yield f"{account.region} has {quota['Used']} database clusters of {quota['Max']}: request a larger quota"


def _addresses(account: Account) -> Iterator[str]:
    """Each NAT gateway needs an address. A stack that is there has some already, and may need more with new parameters."""
    stack = account.made_stack() or {}
    had = {each["ParameterKey"]: each["ParameterValue"] for each in stack.get("Parameters", [])}
    needed = _nat_gateways(account.value) - (_nat_gateways(had.get) if had else 0)
    if needed > 0:
        used = len(account.client("ec2").describe_addresses()["Addresses"])
        if used + needed > (most := _quota(account, "ec2", "L-0263D0A3", DEFAULT_ADDRESSES)):
            yield f"{account.region} has {used} elastic IP addresses of {most}, and the NAT gateways need {needed}"


def _nat_gateways(value: Callable[[str], str | None]) -> int:
    if value("VpcId"):
        return 0
    if value("Gateway") == "stripe":
        return int(value("NatGateways") or 1)
    return int(value("Webhooks") == "On")


def _quota(account: Account, service: str, code: str, default: int) -> int:
    try:
        found = account.client("service-quotas").get_service_quota(ServiceCode=service, QuotaCode=code)
        return int(found["Quota"]["Value"])
    except ClientError:
        return default


def domain(account: Account) -> Iterator[str]:
    if (name := account.value("ApiDomainName")) and (arn := account.value("ApiCertificateArn")):
        yield from certificate_problems(account.client("acm"), name, arn, account.region, bool(account.value("ApiTruststoreUri")))
        clients = account.client("apigatewayv2"), account.client("cloudformation")
        yield from owner_problems(*clients, name, account.deployment.stack)
    if uri := account.value("ApiTruststoreUri"):
        yield from truststore_problems(account.client("s3"), uri, account.value("ApiTruststoreVersion"))


class NotCheckedError(Exception):
    """The message says why."""


CHECKS = (parameters, issuer, stack, role, secrets, bus, zones, region, domain, quotas, restoring)


def report(account: Account) -> Iterator[tuple[str, str, str]]:
    """Yield (check, "ok" | "fails" | "not checked", text)."""
    for check in CHECKS:
        finds_nothing = True
        try:
            for problem in check(account):
                finds_nothing = False
                yield check.__name__, "fails", problem
        except (NotCheckedError, ClientError, BotoCoreError, ValueError) as error:
            yield check.__name__, "not checked", str(error)
            continue
        if finds_nothing:
            yield check.__name__, "ok", ""


def fetched(url: str) -> tuple[int, bytes]:
    """Return status and body. Raises OSError."""
    if not url.startswith("https://"):
        raise ValueError("JwtIssuer must begin with https://")
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - https alone
            return answer.status, answer.read(1_000_000)
    except urllib.error.HTTPError as error:
        return error.code, b""


def main(arguments: Sequence[str]) -> int:
    try:
        deployment = read(arguments)
    except ArgumentsError as error:
        print(error, file=sys.stderr)
        return 2
    session = boto3.session.Session(profile_name=deployment.profile, region_name=deployment.region)
    if not session.region_name:
        print("no region: name one with ARGS='--region eu-central-1', in samconfig.toml or in AWS_REGION", file=sys.stderr)
        return 2
    try:
        session.client("sts").get_caller_identity()
    except (ClientError, BotoCoreError) as error:
        print(f"AWS cannot be asked: {error}", file=sys.stderr)
        return 2
    failed = False
    for check, result, text in report(Account(deployment, session.region_name, session.client, fetched)):
        failed = failed or result == "fails"
        print(f"{result:<11}  {check:<10}  {text}".rstrip())
    return int(failed)


def _parts(parameter: dict[str, Any], value: str) -> list[str]:
    return [part.strip() for part in value.split(",")] if parameter["Type"] == "CommaDelimitedList" else [value]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
