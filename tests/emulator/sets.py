"""The parameter sets that are deployed. Together they make each condition of the template true and false."""

from __future__ import annotations

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

SETS: dict[str, dict[str, str]] = {
    "defaults": REQUIRED,
    "tokens": REQUIRED
    | NETWORK
    | DATABASE
    | ORDER_SERVICE
    | {
        "DatabaseResourceId": "cluster-ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        "KafkaBootstrapServers": "b-1.shop.kafka.us-east-1.amazonaws.com:9098,b-2.shop.kafka.us-east-1.amazonaws.com:9098",
        "KafkaClusterArn": f"arn:aws:kafka:{REGION}:{ACCOUNT}:cluster/shop/01234567-89ab-cdef-0123-456789abcdef-1",
        "SnapStart": "On",
    },
    "secrets": REQUIRED
    | NETWORK
    | DATABASE
    | {
        "DatabaseSecretArn": f"{SECRET}:payments-service-AbCdEf",
        "DatabaseOwnerSecretArn": f"{SECRET}:payments-owner-AbCdEf",
        "KafkaBootstrapServers": "kafka.internal:9096",
        "KafkaSecretArn": f"{SECRET}:kafka-AbCdEf",
    },
    "restored": REQUIRED
    | ORDER_SERVICE
    | {
        "DatabaseSnapshot": OF_ITS_OWN,
        "AvailabilityZones": f"{REGION}b,{REGION}c",
        "ReservedConcurrency": "5",
        "ProvisionedConcurrency": "2",
        "AlarmEmail": "alarms@shop.org",
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
    if "DatabaseSnapshot" in parameters:
        rds = emulator.client("rds", moto=True)
        told = {"DBClusterIdentifier": "before", "Engine": "aurora-postgresql", "MasterUsername": "payments_owner"}
        rds.create_db_cluster(**told, MasterUserPassword="of the time before", DatabaseName="payments")
        taken = rds.create_db_cluster_snapshot(DBClusterSnapshotIdentifier="before-1", DBClusterIdentifier="before")
        made["DatabaseSnapshot"] = taken["DBClusterSnapshot"]["DBClusterSnapshotArn"]
    return made
