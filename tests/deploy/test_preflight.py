"""`make preflight` on an account that moto plays; what moto does not play is answered by a stand-in."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from botocore.stub import Stubber
from moto import mock_aws

from deploy import preflight
from deploy.account import Account
from deploy.arguments import read
from deploy.domain_name import owner_problems
from deploy.preflight import (
    COURIER_ENVIRONMENTS,
    SCHEDULED_ENVIRONMENTS,
    STRIPE_ENVIRONMENTS,
    ZONES_WITHOUT_A_SERVICE,
    report,
)
from tests.aws.test_template import of_type
from tests.cases import case

ISSUER = "https://login.shop.org/"
GOOD = {"JwtIssuer": ISSUER, "JwtAudience": "payments"}
DISCOVERY = {"issuer": ISSUER, "jwks_uri": ISSUER + "keys"}


class Pages:
    def __init__(self, *pages: dict[str, Any]) -> None:
        self.pages = pages

    def paginate(self, **_: Any) -> tuple[dict[str, Any], ...]:
        return self.pages


def rds(versions: list[str], clusters: tuple[int, int] = (0, 40)) -> SimpleNamespace:
    offers = [{"OrderableDBInstanceOptions": [{"EngineVersion": version}]} for version in versions]
    quota = {"AccountQuotaName": "DBClusters", "Used": clusters[0], "Max": clusters[1]}
    return SimpleNamespace(get_paginator=lambda _: Pages(*offers), describe_account_attributes=lambda: {"AccountQuotas": [quota]})


def lambdas(unreserved: int) -> SimpleNamespace:
    return SimpleNamespace(get_account_settings=lambda: {"AccountLimit": {"UnreservedConcurrentExecutions": unreserved}})


def no_stack(**_: Any) -> None:
    raise ClientError({"Error": {"Code": "ValidationError", "Message": "does not exist"}}, "DescribeStacks")


def no_name(**_: Any) -> None:
    raise ClientError({"Error": {"Code": "NotFoundException", "Message": "Invalid domain name"}}, "GetDomainName")


Check = Callable[..., dict[str, list[str]]]


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Check]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")

    def checked(
        *, stack: str = "new", region: str = "us-east-1", discovery: Any = (200, DISCOVERY), fakes: Any = None, **given: str
    ) -> dict[str, list[str]]:
        """Return the problems by check. A check that was not made has the text in brackets."""
        played = {
            "rds": rds(["16.9", "17.7"]),
            "lambda": lambdas(1000),
            "cloudformation": SimpleNamespace(describe_stacks=no_stack),
            "apigatewayv2": SimpleNamespace(get_domain_name=no_name),
        }
        played |= fakes or {}
        pairs = [f"{name}={value}" for name, value in (GOOD | given).items()]
        status, document = discovery
        account = Account(
            read(["--stack-name", stack, *pairs], tmp_path),
            region,
            lambda name: played.get(name) or boto3.client(name, region_name=region),
            lambda url: (status, json.dumps(document).encode()),
        )
        found: dict[str, list[str]] = {}
        for name, result, text in report(account):
            if result != "ok":
                found.setdefault(name, []).append(f"[{text}]" if result == "not checked" else text)
        return found

    with mock_aws():
        yield checked


def zone_by_id(identifier: str) -> str:
    zones = boto3.client("ec2", region_name="us-east-1").describe_availability_zones()["AvailabilityZones"]
    return next(str(zone["ZoneName"]) for zone in zones if zone["ZoneId"] == identifier)


@pytest.mark.parametrize("region", ["us-east-1", "eu-central-1"])
def test_an_account_that_is_ready_has_no_problem(check: Check, region: str) -> None:
    assert check(region=region) == {}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"JwtIssuer": ""}, "JwtIssuer is missing"),
        ({"JwtAudience": "AUDIENCE"}, "an audience of your own"),
        ({"OrderServiceRoleArn": "arn:aws:iam::ACCOUNT:role/ROLE"}, "a role of your own"),
        ({"SnapStart": "yes"}, "must be one of On, Off"),
        ({"ReservedConcurrency": "many"}, "must be a whole number"),
    ],
)
def test_a_parameter_that_the_template_refuses_is_told(check: Check, given: dict[str, str], said: str) -> None:
    [problem] = check(**given)["parameters"]
    assert said in problem


@pytest.mark.parametrize(
    ("discovery", "said"),
    [
        ((404, {}), "answers 404"),
        ((200, {**DISCOVERY, "issuer": ISSUER.rstrip("/")}), "a slash at its end too"),
        ((200, ["no object"]), "the issuer is ['no object']"),
        ((200, {"issuer": ISSUER}), "no jwks_uri"),
    ],
)
def test_an_issuer_whose_document_api_gateway_would_refuse_is_told(check: Check, discovery: Any, said: str) -> None:
    [problem] = check(discovery=discovery)["issuer"]
    assert said in problem
    assert "shop.org/.well-known/openid-configuration" in problem


def test_an_issuer_is_asked_over_https_alone() -> None:
    with pytest.raises(ValueError, match="https"):
        preflight.fetched("http://login.shop.org/.well-known/openid-configuration")


def test_a_role_must_be_there_and_be_named_with_its_path(check: Check) -> None:
    iam = boto3.client("iam")
    account = boto3.client("sts", region_name="us-east-1").get_caller_identity()["Account"]
    iam.create_role(Path="/shop/", RoleName="orders", AssumeRolePolicyDocument="{}")
    role = f"arn:aws:iam::{account}:role"
    # moto's account has the number of the examples, which the template refuses.
    assert "role" not in check(OrderServiceRoleArn=f"{role}/shop/orders")
    [problem] = check(OrderServiceRoleArn=f"{role}/orders")["role"]
    assert "/shop/orders" in problem
    [problem] = check(OrderServiceRoleArn=f"{role}/nobody")["role"]
    assert "no such role" in problem
    assert check(OrderServiceRoleArn="arn:aws:iam::210987654321:role/orders") == {
        "role": ["[arn:aws:iam::210987654321:role/orders is in another account]"]
    }


def test_a_zone_without_proxy_and_brokers_is_refused_under_the_name_that_the_account_gives_it(check: Check) -> None:
    [without] = ZONES_WITHOUT_A_SERVICE
    bad, good, other = zone_by_id(without), zone_by_id("use1-az4"), zone_by_id("use1-az6")
    assert check(AvailabilityZones=f"{good},{other}") == {}
    [problem] = check(AvailabilityZones=f"{good},{bad}")["zones"]
    assert f"{bad} is use1-az3 in this account" in problem
    assert "two different" in check(AvailabilityZones=f"{good},{good}")["zones"][0]
    assert "no available zone" in check(AvailabilityZones=f"{good},us-east-1z")["zones"][0]


def test_subnets_of_ones_own_are_in_the_vpc_and_in_two_zones_that_have_everything(check: Check) -> None:
    ec2 = boto3.client("ec2", region_name="us-east-1")
    vpc, other = (ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"] for _ in range(2))

    def subnet(zone: str, number: int, owner: str = vpc) -> str:
        made = ec2.create_subnet(VpcId=owner, CidrBlock=f"10.0.{number}.0/24", AvailabilityZone=zone_by_id(zone))
        return str(made["Subnet"]["SubnetId"])

    a, b, bad, foreign = subnet("use1-az4", 1), subnet("use1-az6", 2), subnet("use1-az3", 3), subnet("use1-az6", 4, other)
    own = {"VpcId": vpc}
    assert check(**own, SubnetIds=f"{a},{b}") == {}
    assert check(**own, SubnetIds=a)["zones"] == ["SubnetIds: name private subnets in two zones at least"]
    assert check(**own, SubnetIds=f"{a},{bad}")["zones"] == [f"SubnetIds: {bad} is in use1-az3, which lacks RDS Proxy and MSK"]
    assert check(**own, SubnetIds=f"{a},{foreign}")["zones"] == [f"SubnetIds: {foreign} is in {other}, not in {vpc}"]
    assert "subnet-0 does not exist" in check(**own, SubnetIds=f"{a},{b},subnet-0")["zones"][0]


def test_a_region_without_the_database_or_the_brokers_is_told(check: Check) -> None:
    assert check(DatabaseEngineVersion="17.7") == {}
    assert "has no Aurora PostgreSQL 18" in check(DatabaseEngineVersion="18")["region"][0]
    assert "has no Aurora PostgreSQL 17.70" in check(DatabaseEngineVersion="17.70")["region"][0]

    def unreachable(**_: Any) -> None:
        raise EndpointConnectionError(endpoint_url="https://kafka.invalid")

    assert "MSK" in check(fakes={"kafka": SimpleNamespace(list_clusters_v2=unreachable)})["region"][0]


def test_quotas_that_the_stack_would_exceed_are_told(check: Check) -> None:
    assert check(fakes={"lambda": lambdas(10)}) == {}
    small = {"lambda": lambdas(100 + 3 * 50 + SCHEDULED_ENVIRONMENTS - 1)}
    assert "takes 159 environments of Lambda, and 158" in check(fakes=small, ReservedConcurrency="50")["quotas"][0]
    small = {"lambda": lambdas(100 + 4 * 50 + SCHEDULED_ENVIRONMENTS + COURIER_ENVIRONMENTS - 1)}
    assert "takes 212 environments" in check(fakes=small, ReservedConcurrency="50", Webhooks="On")["quotas"][0]
    small = {"lambda": lambdas(100 + 3 * 50 + SCHEDULED_ENVIRONMENTS + STRIPE_ENVIRONMENTS - 1)} | stripes_secret()
    assert "takes 169 environments" in check(fakes=small, ReservedConcurrency="50", **STRIPE)["quotas"][0]
    assert "40 database clusters of 40" in check(fakes={"rds": rds(["17.7"], (40, 40))})["quotas"][0]
    for number in range(5):
        boto3.client("ec2", region_name="us-east-1").create_vpc(CidrBlock=f"10.{number}.0.0/16")
    assert "VPCs of 5" in check()["quotas"][0]


ARN = "arn:aws:secretsmanager:us-east-1:210987654321:secret:payments/stripe-AbCdEf"
STRIPE = {"Gateway": "stripe", "StripeSecretArn": ARN}


def stripes_secret(**facts: Any) -> dict[str, Any]:
    exceptions = SimpleNamespace(ResourceNotFoundException=KeyError)
    return {"secretsmanager": SimpleNamespace(describe_secret=lambda **_: facts, exceptions=exceptions)}


def test_a_bus_of_stripes_that_is_not_there_is_told(check: Check) -> None:
    bus = "aws.partner/stripe.com/ed_test_1"
    assert check(fakes=stripes_secret(), **STRIPE, StripeEventBusName=bus)["bus"] == [
        f"StripeEventBusName={bus}: us-east-1 has no such bus; associate Stripe's partner event source first"
    ]
    associated = {"events": SimpleNamespace(describe_event_bus=lambda **_: {"Name": bus}, exceptions=Exception)}
    assert check(fakes=stripes_secret() | associated, **STRIPE, StripeEventBusName=bus) == {}


def test_a_way_out_needs_an_address_for_each_nat_gateway(check: Check) -> None:
    def problems(used: int, **given: str) -> str:
        ec2 = boto3.client("ec2", region_name="us-east-1")
        for _ in range(used - len(ec2.describe_addresses()["Addresses"])):
            ec2.allocate_address()
        return "".join(check(fakes=stripes_secret(), **given).get("quotas", []))

    both = STRIPE | {"NatGateways": "2"}
    assert problems(3, **both) == ""
    assert "4 elastic IP addresses of 5, and the NAT gateways need 2" in problems(4, **both)
    assert problems(4, **STRIPE, Webhooks="On") == "", "both use the same NAT gateway"
    assert problems(5) == ""
    for given in (STRIPE, {"Webhooks": "On"}):
        assert "5 elastic IP addresses of 5, and the NAT gateways need 1" in problems(5, **given)


def test_a_stack_that_turns_to_stripe_needs_the_addresses_that_it_has_not_got(check: Check) -> None:
    for _ in range(5):
        boto3.client("ec2", region_name="us-east-1").allocate_address()

    def problems(before: dict[str, str], **given: str) -> str:
        parameters = [{"ParameterKey": name, "ParameterValue": value} for name, value in before.items()]
        stack = {"StackStatus": "UPDATE_COMPLETE", "Parameters": parameters}
        fakes = {"cloudformation": SimpleNamespace(describe_stacks=lambda **_: {"Stacks": [stack]})}
        return "".join(check(fakes=stripes_secret() | fakes, **given).get("quotas", []))

    was_simulated = {"VpcId": "", "Gateway": "simulated", "Webhooks": "Off", "NatGateways": "1"}
    assert "the NAT gateways need 1" in problems(was_simulated, **STRIPE)
    assert problems(was_simulated | {"Webhooks": "On"}, **STRIPE) == ""
    assert problems(was_simulated | {"Gateway": "stripe"}, **STRIPE) == ""
    assert "the NAT gateways need 1" in problems(was_simulated | {"Gateway": "stripe"}, **STRIPE, NatGateways="2")


OWN_SECRETS = ("DatabaseSecretArn", "DatabaseOwnerSecretArn", "KafkaSecretArn", "StripeSecretArn")


@pytest.mark.parametrize("name", OWN_SECRETS)
def test_a_secret_that_is_not_there_is_told(check: Check, name: str) -> None:
    made = boto3.client("secretsmanager", region_name="us-east-1")
    arn = made.create_secret(Name="payments/own", SecretString="{}")["ARN"]
    assert "secrets" not in check(**{name: arn})
    [told] = check(**{name: ARN})["secrets"]
    assert told == f"{name}={ARN}: there is no such secret"
    [told] = check(region="eu-west-1", **{name: ARN})["secrets"]
    assert told == f"{name}: the secret is in us-east-1, and has to be in eu-west-1"
    made.delete_secret(SecretId=arn)
    [told] = check(**{name: arn})["secrets"]
    assert "about to be deleted" in told


@pytest.mark.parametrize("name", OWN_SECRETS)
def test_a_secret_under_a_key_that_nobody_named_is_told(check: Check, name: str) -> None:
    key = boto3.client("kms", region_name="us-east-1").create_key()["KeyMetadata"]
    made = boto3.client("secretsmanager", region_name="us-east-1")

    def secret(alias: str, key_id: str) -> str:
        return str(made.create_secret(Name=alias, SecretString="{}", KmsKeyId=key_id)["ARN"])

    for under in (secret("by-id", key["KeyId"]), secret("by-arn", key["Arn"])):
        [told] = check(**{name: under})["secrets"]
        assert told == f"{name}: a key of your own encrypts the secret, so SecretsKeyArns has to name {key['Arn']}"
        assert "secrets" not in check(
            SecretsKeyArns=f"arn:aws:kms:us-east-1:210987654321:key/other,{key['Arn']}", **{name: under}
        )
        assert "secrets" in check(SecretsKeyArns="arn:aws:kms:us-east-1:210987654321:key/other", **{name: under})
    assert "secrets" not in check(**{name: secret("of-aws", "alias/aws/secretsmanager")})


def test_a_secret_that_may_not_be_seen_hides_no_other(check: Check) -> None:
    def describe_secret(SecretId: str) -> dict[str, Any]:  # noqa: N803 - as boto3 names it
        if SecretId == ARN:
            raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "not yours"}}, "DescribeSecret")
        return {"DeletedDate": "today"}

    exceptions = SimpleNamespace(ResourceNotFoundException=KeyError)
    fakes = {"secretsmanager": SimpleNamespace(describe_secret=describe_secret, exceptions=exceptions)}
    deleted = ARN.replace("stripe", "brokers")
    told = "".join(check(fakes=fakes, DatabaseSecretArn=ARN, KafkaSecretArn=deleted)["secrets"])
    assert "not yours" in told
    assert f"KafkaSecretArn={deleted}: the secret is about to be deleted" in told


def test_a_key_that_is_of_no_use_is_told(check: Check) -> None:
    kms = boto3.client("kms", region_name="us-east-1")
    key = kms.create_key()["KeyMetadata"]
    made = boto3.client("secretsmanager", region_name="us-east-1")
    arn = str(made.create_secret(Name="payments/own", SecretString="{}", KmsKeyId=key["KeyId"])["ARN"])
    other = "arn:aws:kms:us-east-1:210987654321:key/other"
    assert "secrets" not in check(KafkaSecretArn=arn, SecretsKeyArns=f"'{other}, {key['Arn']}'")
    kms.disable_key(KeyId=key["KeyId"])
    assert check(KafkaSecretArn=arn, SecretsKeyArns=key["Arn"])["secrets"] == [
        f"KafkaSecretArn: the secret's key {key['Arn']} is Disabled"
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DatabaseUrl", "postgresql://me:canary@h/d"),
        ("DatabaseOwnerUrl", "postgresql://me:canary@h/d"),
        ("StripeSecretArn", "sk_live_canary"),
        ("KafkaSecretArn", "arn:canary"),
    ],
)
def test_a_value_that_may_be_a_secret_is_refused_and_not_shown(check: Check, name: str, value: str) -> None:
    told = [problem for problems in check(**{name: value}).values() for problem in problems]
    assert any(problem.startswith(f"{name}: ") for problem in told)
    assert "canary" not in "".join(told)


def test_subnets_of_ones_own_lead_to_stripe(check: Check) -> None:
    ec2 = boto3.client("ec2", region_name="us-east-1")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    a, b = (
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{number}.0/24", AvailabilityZone=zone_by_id(zone))["Subnet"]["SubnetId"]
        for number, zone in enumerate(("use1-az4", "use1-az6"))
    )
    internet = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(VpcId=vpc, InternetGatewayId=internet)
    nat = ec2.create_nat_gateway(SubnetId=a, ConnectivityType="private")["NatGateway"]["NatGatewayId"]
    own = {"VpcId": vpc, "SubnetIds": f"{a},{b}"}

    def problems(**given: str) -> list[str]:
        told = check(fakes=stripes_secret(), **own, **given).get("zones", [])
        return sorted(text.split()[1] for text in told if "no route" in text)

    assert problems() == [], "without Stripe they need no way out"
    assert problems(**STRIPE) == sorted([a, b])
    [main] = ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["RouteTables"]
    ec2.create_route(RouteTableId=main["RouteTableId"], DestinationCidrBlock="0.0.0.0/0", NatGatewayId=nat)
    assert problems(**STRIPE) == []
    table = ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
    ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", GatewayId=internet)
    ec2.associate_route_table(RouteTableId=table, SubnetId=b)
    assert problems(**STRIPE) == [b], "an internet gateway serves no function"


def test_the_reservations_of_the_template_are_those_that_are_counted() -> None:
    reserved = [each["ReservedConcurrentExecutions"]["Fn::If"][1] for each in of_type("AWS::Serverless::Function").values()]
    fixed = SCHEDULED_ENVIRONMENTS + COURIER_ENVIRONMENTS + STRIPE_ENVIRONMENTS
    assert sum(each for each in reserved if isinstance(each, int)) == fixed
    assert sum(1 for each in reserved if each == {"Ref": "ReservedConcurrency"}) == 3 + 1, "the fourth is that of webhooks"


def test_what_an_earlier_stack_left_is_told(check: Check) -> None:
    logs = boto3.client("logs", region_name="us-east-1")
    logs.create_log_group(logGroupName="/aws/lambda/newer")
    assert check(stack="new") == {}
    for group in ("/aws/lambda/new", "/aws/vpc/new"):
        logs.create_log_group(logGroupName=group)
        assert f"{group} is left" in check(stack="new")["stack"][-1]


@pytest.mark.parametrize(
    ("status", "said"),
    [("ROLLBACK_COMPLETE", "delete it first"), ("UPDATE_IN_PROGRESS", "no update now"), ("CREATE_COMPLETE", "")],
)
def test_a_stack_that_takes_no_update_is_told(check: Check, status: str, said: str) -> None:
    played = SimpleNamespace(describe_stacks=lambda **_: {"Stacks": [{"StackStatus": status}]})
    problems = check(fakes={"cloudformation": played}).get("stack", [])
    assert said in "".join(problems)
    assert bool(problems) == bool(said)


def issued(status: str = "ISSUED", kind: str = "AMAZON_ISSUED") -> SimpleNamespace:
    class MissingError(Exception):
        pass

    def describe_certificate(**asked: str) -> dict[str, Any]:
        if asked["CertificateArn"].endswith("/none"):
            raise MissingError
        names = {"DomainName": "shop.org", "SubjectAlternativeNames": ["*.shop.org"]}
        return {"Certificate": names | {"Status": status, "Type": kind}}

    exceptions = SimpleNamespace(ResourceNotFoundException=MissingError)
    return SimpleNamespace(describe_certificate=describe_certificate, exceptions=exceptions)


CERTIFICATE = "arn:aws:acm:us-east-1:210987654321:certificate/one"
OWN_NAME = {"ApiDomainName": "pay.shop.org", "ApiCertificateArn": CERTIFICATE}


def test_a_domain_name_that_api_gateway_would_refuse_is_told(check: Check) -> None:
    s3 = boto3.client("s3", region_name="us-east-1")
    s3.create_bucket(Bucket="trusted")
    s3.put_object(Bucket="trusted", Key="authorities.pem", Body=b"")
    cases: list[tuple[dict[str, str], SimpleNamespace, str]] = [
        (OWN_NAME, issued(), ""),
        (OWN_NAME, issued("PENDING_VALIDATION"), "PENDING_VALIDATION"),
        (OWN_NAME | {"ApiDomainName": "pay.eu.shop.org"}, issued(), "the certificate is for *.shop.org, shop.org"),
        (OWN_NAME | {"ApiCertificateArn": CERTIFICATE.replace("/one", "/none")}, issued(), "no such certificate"),
        (OWN_NAME | {"ApiCertificateArn": CERTIFICATE.replace("us-east-1", "eu-west-1")}, issued(), "has to be in us-east-1"),
        (OWN_NAME, issued(kind="IMPORTED"), ""),
        (OWN_NAME | {"ApiTruststoreUri": "s3://trusted/authorities.pem"}, issued(kind="IMPORTED"), "this one is IMPORTED"),
        (OWN_NAME | {"ApiTruststoreUri": "s3://trusted/authorities.pem"}, issued(), ""),
        (OWN_NAME | {"ApiTruststoreUri": "s3://trusted/other.pem"}, issued(), "no such file"),
        (OWN_NAME | {"ApiTruststoreUri": "s3://nobodys/authorities.pem"}, issued(), "no such file"),
        (
            OWN_NAME | {"ApiTruststoreUri": "s3://trusted/authorities.pem", "ApiTruststoreVersion": "0"},
            issued(),
            "no such file of version 0",
        ),
    ]
    for given, acm, said in cases:
        with case(str(given)):
            problems = check(fakes={"acm": acm, "s3": s3}, **given).get("domain", [])
            assert said in "".join(problems)
            assert bool(problems) == bool(said)


@pytest.mark.parametrize(
    ("is_there", "owned", "said"),
    [(False, None, ""), (True, "pay.shop.org", ""), (True, "other.org", "another stack"), (True, None, "another stack")],
)
@pytest.mark.usefixtures("check")
def test_a_domain_name_that_another_stack_has_is_told(is_there: bool, owned: str | None, said: str) -> None:
    gateway, stacks = (boto3.client(name, region_name="us-east-1") for name in ("apigatewayv2", "cloudformation"))
    with Stubber(gateway) as of_gateway, Stubber(stacks) as of_stacks:
        if is_there:
            of_gateway.add_response("get_domain_name", {"DomainName": "pay.shop.org"}, {"DomainName": "pay.shop.org"})
        else:
            of_gateway.add_client_error("get_domain_name", "NotFoundException")
        if owned:
            facts = {"LogicalResourceId": "Domain", "ResourceType": "AWS::ApiGatewayV2::DomainName", "PhysicalResourceId": owned}
            facts |= {"ResourceStatus": "CREATE_COMPLETE"}
            of_stacks.add_response(
                "describe_stack_resource", {"StackResourceDetail": facts | {"LastUpdatedTimestamp": datetime.now(UTC)}}
            )
        else:
            of_stacks.add_client_error("describe_stack_resource", "ValidationError")
        assert said in "".join(problems := list(owner_problems(gateway, stacks, "pay.shop.org", "new")))
        assert bool(problems) == bool(said)


def test_what_the_caller_may_not_read_is_told_and_is_no_failure(check: Check) -> None:
    def forbidden() -> None:
        raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "GetAccountSettings")

    [said] = check(fakes={"lambda": SimpleNamespace(get_account_settings=forbidden)})["quotas"]
    assert said.startswith("[") and "AccessDeniedException" in said


@pytest.mark.usefixtures("check")
def test_the_program_ends_with_what_it_found(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = ["--config-file", str(tmp_path / "none.toml")]
    monkeypatch.setattr(preflight, "fetched", lambda _: (200, json.dumps(DISCOVERY).encode()))
    monkeypatch.setattr(preflight, "CHECKS", (preflight.parameters, preflight.issuer))
    pairs = [f"{name}={value}" for name, value in GOOD.items()]
    assert preflight.main([*pairs, "--region", "eu-west-1", *config]) == 0
    assert preflight.main(["JwtAudience=payments", "--region", "eu-west-1", *config]) == 1
    assert "fails        parameters  JwtIssuer is missing" in capsys.readouterr().out
    assert preflight.main(["Nothing=1", *config]) == 2
    monkeypatch.delenv("AWS_REGION", raising=False)
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    assert preflight.main([*pairs, *config]) == 2
