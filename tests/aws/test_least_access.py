"""What keeps queue, topic, endpoint, key and network closed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from payments.webhooks.target import PUBLIC
from tests.aws.test_deployments import translated_with
from tests.aws.test_template import CALL_THE_GATEWAY, RESOURCES, TEMPLATE, of_type, statements

INSECURE = {"Bool": {"aws:SecureTransport": "false"}}


def policy(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = RESOURCES[name]["Properties"]["PolicyDocument"]["Statement"]
    return found


@pytest.mark.parametrize(
    ("kind", "policies", "names", "refused"),
    [
        ("AWS::SQS::Queue", "AWS::SQS::QueuePolicy", "Queues", "sqs:*"),
        # A topic's policy takes no sns:*.
        ("AWS::SNS::Topic", "AWS::SNS::TopicPolicy", "Topics", ["sns:Publish", "sns:Subscribe"]),
    ],
)
def test_queues_and_topics_take_nothing_without_tls(kind: str, policies: str, names: str, refused: object) -> None:
    closed = []
    for each in of_type(policies).values():
        [denied] = [one for one in each["PolicyDocument"]["Statement"] if one["Effect"] == "Deny"]
        assert (denied["Principal"], denied["Action"], denied["Condition"]) == ("*", refused, INSECURE)
        closed += [name["Ref"] for name in each[names]]
        assert denied["Resource"] in ({"Ref": closed[-1]}, {"Fn::GetAtt": f"{closed[-1]}.Arn"})
    assert sorted(closed) == sorted(of_type(kind))
    assert closed


def test_what_delivers_to_them_still_may() -> None:
    """Lambda sends with the function's role, which an empty queue policy leaves alone. CloudWatch has no role."""
    assert {one["Effect"] for one in policy("FailedInvocationsPolicy")} == {"Deny"}
    [allowed] = [one for one in policy("AlarmsPolicy") if one["Effect"] == "Allow"]
    assert (allowed["Principal"], allowed["Action"]) == ({"Service": "cloudwatch.amazonaws.com"}, "sns:Publish")
    assert allowed["Condition"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}


@pytest.mark.server
def test_a_function_may_send_to_the_queue() -> None:
    [resources] = translated_with({})
    for name in ("ProcessFunctionRole", "RefundFunctionRole"):
        role = resources[name]["Properties"]
        assert {"Ref": "FailurePolicy"} in role["ManagedPolicyArns"]
        sent = [one for each in role["Policies"] for one in [each["PolicyDocument"]["Statement"]] if "sqs" in json.dumps(one)]
        assert "sqs:SendMessage" in json.dumps(sent)
        assert "FailedInvocations" in json.dumps(sent)


def test_every_use_of_the_key_goes_through_a_service() -> None:
    of_the_stack = {"Fn::GetAtt": "Key.Arn"}
    used = [(name, one) for name, one in statements() if "kms:" in json.dumps(one["Action"]) and one["Resource"] == of_the_stack]
    assert {name for name, _ in used} == {"FailurePolicy", "ServiceSecretPolicy", "ProxyRole"}
    through = {name: one["Condition"]["StringEquals"]["kms:ViaService"]["Fn::Sub"] for name, one in used}
    assert through["FailurePolicy"] == "sqs.${AWS::Region}.amazonaws.com"
    assert set(through.values()) == {through["FailurePolicy"], "secretsmanager.${AWS::Region}.amazonaws.com"}


def test_who_reads_a_secret_of_ones_own_may_use_its_key_to_read_it() -> None:
    """Secrets Manager decrypts under a key of one's own for who may use the key. MSK demands one for its passwords."""
    own = {"DatabaseSecretArn", "DatabaseOwnerSecretArn", "KafkaSecretArn", "StripeSecretArn"}
    readers = {name for name, one in statements() if any(f'"{secret}"' in json.dumps(one) for secret in own)}
    decrypt = {
        "Effect": "Allow",
        "Action": "kms:Decrypt",
        "Resource": {"Ref": "SecretsKeyArns"},
        "Condition": {"StringEquals": {"kms:ViaService": {"Fn::Sub": "secretsmanager.${AWS::Region}.amazonaws.com"}}},
    }
    assert (
        {name for name, one in statements() if one == decrypt}
        == readers
        == {"SecretsPolicy", "OwnerSecretPolicy", "StripePolicy"}
    )
    for name in readers:
        assert {"Fn::If": ["HasSecretsKeys", decrypt, {"Ref": "AWS::NoValue"}]} in policy(name), (
            "without keys there is no statement"
        )


def test_every_endpoint_has_a_policy_that_names_what_is_behind_it() -> None:
    endpoints = of_type("AWS::EC2::VPCEndpoint")
    assert endpoints
    for name, endpoint in endpoints.items():
        [one] = endpoint["PolicyDocument"]["Statement"]
        [read] = [each for each in policy("ServiceSecretPolicy") if "secretsmanager:GetSecretValue" in each["Action"]]
        of_stripe = policy("StripePolicy")[0]
        with_stripe = {"Fn::If": ["UsesStripe", of_stripe["Resource"], {"Ref": "AWS::NoValue"}]}
        assert (one["Action"], one["Resource"]) == (read["Action"], [*read["Resource"], with_stripe]), (
            f"{name}: who could not read?"
        )
        assert one["Condition"] == {"StringEquals": {"aws:PrincipalAccount": {"Ref": "AWS::AccountId"}}}
    # Who reads a secret from within the VPC of the stack reads one of these: the rules refuse servers of one's own there.
    for rule, parameter in (("DatabaseIsReached", "DatabaseUrl"), ("KafkaIsReached", "KafkaBootstrapServers")):
        assert {"Ref": parameter} in TEMPLATE["Rules"][rule]["RuleCondition"]["Fn::Not"][0]["Fn::Equals"]
        needed = [each["Assert"] for each in TEMPLATE["Rules"][rule]["Assertions"]]
        assert {"Fn::Not": [{"Fn::Equals": [{"Ref": "VpcId"}, ""]}]} in needed


def test_the_stacks_own_network_is_recorded() -> None:
    [record] = of_type("AWS::EC2::FlowLog").values()
    assert record["ResourceId"] == {"Ref": "Vpc"}
    assert record["TrafficType"] == "ALL"
    assert record["LogDestination"] == {"Fn::GetAtt": "FlowLogs.Arn"}
    for name in ("FlowLog", "FlowLogs", "FlowLogRole"):
        assert RESOURCES[name]["Condition"] == RESOURCES["Vpc"]["Condition"], name
    trust = RESOURCES["FlowLogRole"]["Properties"]["AssumeRolePolicyDocument"]["Statement"][0]
    assert trust["Condition"]["StringEquals"] == {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}


def test_logs_are_kept_for_over_a_year_and_under_the_stacks_key() -> None:
    parameter = TEMPLATE["Parameters"]["LogRetentionDays"]
    assert parameter["Default"] == 400
    assert {1, 400, 3653} < set(parameter["AllowedValues"])
    groups = of_type("AWS::Logs::LogGroup")
    assert {name for name, group in groups.items() if group["RetentionInDays"] != {"Ref": "LogRetentionDays"}} == set()
    assert {name for name, group in groups.items() if "KmsKeyId" not in group} == {"KafkaBootstrapLogs"}


@pytest.mark.server
def test_who_uses_a_domain_of_ones_own_cannot_be_passed_by() -> None:
    """The certificates of clients are checked at the domain name alone, so the address that API Gateway makes is off."""
    [resources] = translated_with({})
    [server] = resources["HttpApi"]["Properties"]["Body"]["servers"]
    off = server["x-amazon-apigateway-endpoint-configuration"]["disableExecuteApiEndpoint"]
    assert off == {"Fn::If": ["ClosesOldAddress", True, False]}
    has_domain, closed = TEMPLATE["Conditions"]["ClosesOldAddress"]["Fn::And"]
    assert (has_domain, closed) == ({"Condition": "HasDomain"}, {"Fn::Equals": [{"Ref": "ApiKeepsOldAddress"}, "false"]})
    assert TEMPLATE["Parameters"]["ApiKeepsOldAddress"]["Default"] == "false"
    mapping = resources["DomainMapping"]
    assert mapping["Condition"] == resources["Domain"]["Condition"] == "HasDomain"
    assert resources[mapping["Properties"]["Stage"]["Ref"]]["Type"] == "AWS::ApiGatewayV2::Stage"
    assert mapping["Properties"]["ApiId"] == {"Ref": "HttpApi"}
    domain = resources["Domain"]["Properties"]
    assert domain["DomainNameConfigurations"][0]["SecurityPolicy"] == "TLS_1_2"
    condition, trusted, otherwise = domain["MutualTlsAuthentication"]["Fn::If"]
    assert (condition, otherwise) == ("HasTruststore", {"Ref": "AWS::NoValue"})
    assert trusted["TruststoreUri"] == {"Ref": "ApiTruststoreUri"}
    assert TEMPLATE["Outputs"]["ApiUrl"]["Value"]["Fn::If"][:2] == ["HasDomain", {"Fn::Sub": "https://${ApiDomainName}"}]


def test_in_the_stacks_own_network_nobody_reaches_further_than_it_has_to() -> None:
    """The functions reach their servers, in the VPC alone, and Stripe and webhooks at the ports that these have."""
    groups = of_type("AWS::EC2::SecurityGroup")
    out = {name: each["SecurityGroupEgress"] for name, each in groups.items() if "0.0.0.0/0" in json.dumps(each)}
    assert {name: [(rule["FromPort"], rule["ToPort"]) for rule in rules] for name, rules in out.items()} == {
        "FunctionsSecurityGroup": [(443, 65535)],
        "GatewaySecurityGroup": [(443, 443)],
        "CourierSecurityGroup": [(443, 443), (8443, 8443)],
    }
    [inside] = out["FunctionsSecurityGroup"]
    assert inside["CidrIp"] == {"Fn::If": ["MakesVpc", {"Ref": "VpcCidr"}, "0.0.0.0/0"]}
    assert "(443|8443)" in PUBLIC.pattern


@pytest.mark.server
def test_a_function_is_in_the_groups_that_it_is_to_be_in_once_each() -> None:
    """SAM adds a function's own groups to those of Globals."""
    [resources] = translated_with({})
    for name in of_type("AWS::Serverless::Function"):
        groups = [json.dumps(each) for each in resources[name]["Properties"]["VpcConfig"]["SecurityGroupIds"]]
        assert sorted(set(groups)) == sorted(groups), name
        assert "FunctionsSecurityGroup" in groups[0]
        wanted = "Courier" if name == "CourierFunction" else "Gateway" if name in CALL_THE_GATEWAY else None
        assert [f"{wanted}SecurityGroup" in each for each in groups[1:]] == ([True] if wanted else []), name
