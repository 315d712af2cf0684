"""The parameter sets that are deployed. Together they make each condition of the template true and false."""

from __future__ import annotations

import uuid
from typing import Any

from tests.emulator.stacks import ACCOUNT, REGION, Emulator

REQUIRED = {"JwtIssuer": "https://login.shop.org/", "JwtAudience": "payments,refunds"}
OF_ITS_OWN = "OF-ITS-OWN"
"""Stands for the id of something that `own_servers` makes first."""
SECRET = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret"
NETWORK = {"VpcId": OF_ITS_OWN, "SubnetIds": OF_ITS_OWN}
DATABASE = {
    "DatabaseUrl": "postgresql://payments_service@db.internal:5432/payments",
    "DatabaseOwnerUrl": "postgresql://payments_owner@db.internal:5432/payments",
}
ORDER_SERVICE = {"OrderServiceRoleArn": f"arn:aws:iam::{ACCOUNT}:role/order-service"}
DOMAIN = {
    "ApiDomainName": "payments.shop.org",
    "ApiCertificateArn": f"arn:aws:acm:{REGION}:{ACCOUNT}:certificate/01234567-89ab-cdef-0123-456789abcdef",
}
STRIPE = {"Gateway": "stripe", "StripeSecretArn": f"{SECRET}:payments/stripe-AbCdEf"}
STRIPE_BUS = {"StripeEventBusName": "aws.partner/stripe.com/ed_test_61RaYT"}
COPIES = {"BackupCopyVaultArn": f"arn:aws:backup:eu-west-1:{ACCOUNT}:backup-vault:payments"}

SETS: dict[str, dict[str, str]] = {
    "defaults": REQUIRED,
    "tokens": REQUIRED
    | NETWORK
    | DATABASE
    | ORDER_SERVICE
    | DOMAIN
    | {
        "DatabaseResourceId": "cluster-ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        "KafkaBootstrapServers": "b-1.shop.kafka.us-east-1.amazonaws.com:9098,b-2.shop.kafka.us-east-1.amazonaws.com:9098",
        "KafkaClusterArn": f"arn:aws:kafka:{REGION}:{ACCOUNT}:cluster/shop/01234567-89ab-cdef-0123-456789abcdef-1",
        "SnapStart": "On",
        "Webhooks": "On",
        "CourierSubnetIds": OF_ITS_OWN,
        "ApiTruststoreUri": "s3://shop-authorities/clients.pem",
        "ApiTruststoreVersion": "3",
    },
    "secrets": REQUIRED
    | NETWORK
    | DATABASE
    | DOMAIN
    | STRIPE
    | {
        "GatewayLive": "On",
        "ApiDomainName": "pay.shop.org",
        "ApiKeepsOldAddress": "true",
        "PublishAfterAnswer": "On",
        "DatabaseConnections": "200",
        "DatabaseSecretArn": f"{SECRET}:payments-service-AbCdEf",
        "DatabaseOwnerSecretArn": f"{SECRET}:payments-owner-AbCdEf",
        "KafkaBootstrapServers": "kafka.internal:9096",
        "KafkaSecretArn": f"{SECRET}:kafka-AbCdEf",
    },
    "restored": REQUIRED
    | ORDER_SERVICE
    | STRIPE
    | STRIPE_BUS
    | {
        "NatGateways": "2",
        "DatabaseSnapshot": OF_ITS_OWN,
        "DatabaseEngineVersion": "17.7",
        "DatabaseFreezeMaxAge": "1000000000",
        "AvailabilityZones": f"{REGION}b,{REGION}c",
        "ReservedConcurrency": "5",
        "ProvisionedConcurrency": "2",
        "AlarmEmail": "alarms@shop.org",
    },
    "moment": REQUIRED
    | NETWORK
    | COPIES
    | {
        "DatabaseSourceCluster": OF_ITS_OWN,
        "DatabaseRestoreTime": "2026-01-31T12:00:00Z",
        "DeploymentPreference": "Canary10Percent10Minutes",
    },
    # The emulator can make a list that is joined in a condition, and not update it. So this set has it, which no test updates.
    "latest": REQUIRED
    | STRIPE
    | {
        "Webhooks": "On",
        "DatabaseSourceCluster": OF_ITS_OWN,
        "DatabaseRestoreTime": "latest",
        "SecretsKeyArns": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/01234567-89ab-cdef-0123-456789abcdef,"
        f"arn:aws:kms:{REGION}:{ACCOUNT}:key/mrk-0123456789abcdef0123456789abcdef",
    },
}


def own_servers(emulator: Emulator, parameters: dict[str, str]) -> dict[str, str]:
    """Make what the parameters name as one's own; return its ids."""
    made = {}
    if "VpcId" in parameters:
        ec2 = emulator.client("ec2")
        made["VpcId"] = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        subnets = [
            ec2.create_subnet(VpcId=made["VpcId"], CidrBlock=f"10.0.{number}.0/24", AvailabilityZone=f"{REGION}{zone}")["Subnet"]
            for number, zone in enumerate("bc")
        ]
        made["SubnetIds"] = ",".join(subnet["SubnetId"] for subnet in subnets)
        if "CourierSubnetIds" in parameters:
            made["CourierSubnetIds"] = subnets[0]["SubnetId"]
    if bus := parameters.get("StripeEventBusName"):
        emulator.client("events").create_event_bus(Name=bus, EventSourceName=bus)
    if "DatabaseSnapshot" in parameters:
        rds = emulator.client("rds", moto=True)
        told = {"DBClusterSnapshotIdentifier": "before-1", "DBClusterIdentifier": earlier_database(rds)}
        taken = rds.create_db_cluster_snapshot(**told)
        made["DatabaseSnapshot"] = taken["DBClusterSnapshot"]["DBClusterSnapshotArn"]
    if "DatabaseSourceCluster" in parameters:
        made["DatabaseSourceCluster"] = earlier_database(emulator.client("rds", moto=True))
    return made


def earlier_database(rds: Any) -> str:
    name = f"payments-{uuid.uuid4().hex[:8]}"
    told = {"DBClusterIdentifier": name, "Engine": "aurora-postgresql", "MasterUsername": "payments_owner"}
    rds.create_db_cluster(**told, MasterUserPassword="of the time before", DatabaseName="payments")
    return name
