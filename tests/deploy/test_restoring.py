"""What `make preflight` says about a database that is restored. botocore's stubs answer, which check their answers."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber
from moto import mock_aws

from deploy.account import Account
from deploy.arguments import read
from deploy.preflight import CHECKS
from deploy.restoring import restoring

SNAPSHOT = {"DatabaseSnapshot": "arn:aws:rds:us-east-1:210987654321:cluster-snapshot:last", "DatabaseEngineVersion": "17.7"}
SOURCE = {"DatabaseSourceCluster": "payments-01234567", "DatabaseRestoreTime": "2026-11-28T12:00:00Z"}
VAULT = {"BackupCopyVaultArn": "arn:aws:backup:eu-west-1:210987654321:backup-vault:payments"}


def rds(operation: str, answer: dict[str, Any] | None, *, targets: tuple[str, ...] = ()) -> Any:
    """Return RDS's client with one answer, or with an error that says that there is no such thing. botocore checks the answer."""
    client = boto3.client("rds", region_name="us-east-1")
    stub = Stubber(client)
    if answer is None:
        fault = {"describe_db_clusters": "DBClusterNotFoundFault"}.get(operation, "DBClusterSnapshotNotFoundFault")
        stub.add_client_error(operation, fault)
    else:
        stub.add_response(operation, answer)
    if targets:
        found = [{"ValidUpgradeTarget": [{"EngineVersion": target} for target in targets]}]
        stub.add_response("describe_db_engine_versions", {"DBEngineVersions": found})
    stub.activate()
    return client


def snapshot(version: str, status: str = "available") -> dict[str, Any]:
    return {"DBClusterSnapshots": [{"EngineVersion": version, "Status": status}]}


def cluster(version: str) -> dict[str, Any]:
    earliest, latest = datetime(2026, 11, 15, tzinfo=UTC), datetime(2026, 11, 29, tzinfo=UTC)
    return {"DBClusters": [{"EngineVersion": version, "EarliestRestorableTime": earliest, "LatestRestorableTime": latest}]}


def no_stack(**_: Any) -> None:
    raise ClientError({"Error": {"Code": "ValidationError", "Message": "does not exist"}}, "DescribeStacks")


def said(given: dict[str, str], tmp_path: Any, **clients: Any) -> list[str]:
    clients = {"cloudformation": SimpleNamespace(describe_stacks=no_stack)} | clients
    pairs = [f"{name}={value}" for name, value in given.items()]
    deployment = read(["--stack-name", "new", *pairs], tmp_path)
    return list(restoring(Account(deployment, "us-east-1", lambda name: clients[name], lambda url: (404, b""))))


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")


def test_preflight_asks_about_it() -> None:
    assert restoring in CHECKS


def test_a_stack_without_any_of_it_asks_nobody(tmp_path: Any) -> None:
    assert said({}, tmp_path) == []


@pytest.mark.parametrize(
    ("given", "own", "problem"),
    [
        ("17.7", "17.7", ""),
        ("17.5", "17.7", "older than the snapshot's 17.7"),
        ("17.9", "17.10", "older than the snapshot's 17.10"),
        ("17", "17.7", "give 17.7"),
        ("16.9", "17.4", "give 17.4"),
    ],
)
def test_a_snapshot_that_is_newer_than_the_parameter_is_told(given: str, own: str, problem: str, tmp_path: Any) -> None:
    """Aurora upgrades minor versions by itself, so the snapshot is often newer than what somebody once wrote."""
    problems = said(
        SNAPSHOT | {"DatabaseEngineVersion": given}, tmp_path, rds=rds("describe_db_cluster_snapshots", snapshot(own))
    )
    assert [problem in each for each in problems] == [True] * bool(problem)


@pytest.mark.parametrize(("given", "problem"), [("18.1", ""), ("17.9", "but to 17.8, 18.1")])
def test_a_snapshot_is_upgraded_to_what_rds_can_upgrade_it_to(given: str, problem: str, tmp_path: Any) -> None:
    client = rds("describe_db_cluster_snapshots", snapshot("17.7"), targets=("17.8", "18.1"))
    problems = said(SNAPSHOT | {"DatabaseEngineVersion": given}, tmp_path, rds=client)
    assert [problem in each for each in problems] == [True] * bool(problem)


def test_a_snapshot_must_be_there_and_complete(tmp_path: Any) -> None:
    [problem] = said(SNAPSHOT, tmp_path, rds=rds("describe_db_cluster_snapshots", None))
    assert "us-east-1 has no such snapshot" in problem
    [problem] = said(SNAPSHOT, tmp_path, rds=rds("describe_db_cluster_snapshots", snapshot("17.7", "creating")))
    assert "is creating" in problem


@pytest.mark.parametrize(
    ("given", "own", "problem"),
    [
        ({}, "17.7", ""),
        ({"DatabaseRestoreTime": "latest"}, "17.7", ""),
        ({"DatabaseRestoreTime": "2026-11-14T23:59:59Z"}, "17.7", "2026-11-15T00:00:00Z to 2026-11-29T00:00:00Z"),
        ({"DatabaseRestoreTime": "2026-11-29T00:00:01Z"}, "17.7", "2026-11-15T00:00:00Z to 2026-11-29T00:00:00Z"),
        ({}, "16.11", "give 16"),
    ],
)
def test_a_moment_must_be_in_the_source_clusters_backups(given: dict[str, str], own: str, problem: str, tmp_path: Any) -> None:
    problems = said(SOURCE | given, tmp_path, rds=rds("describe_db_clusters", cluster(own)))
    assert [problem in each for each in problems] == [True] * bool(problem)


def test_a_source_cluster_must_be_in_the_region(tmp_path: Any) -> None:
    [problem] = said(SOURCE, tmp_path, rds=rds("describe_db_clusters", None))
    assert "us-east-1 has no such cluster" in problem
    assert "give DatabaseSnapshot" in problem


@pytest.fixture
def restored() -> Iterator[dict[str, Any]]:
    """Clients of an account with the stack `new`, whose cluster started from SOURCE. The source is gone since."""
    with mock_aws():
        rds = boto3.client("rds", region_name="us-east-1")
        of_owner = {"MasterUsername": "payments_owner", "MasterUserPassword": "of the owner"}
        made = rds.create_db_cluster(
            DBClusterIdentifier="payments-89abcdef", Engine="aurora-postgresql", EngineVersion="17.7", **of_owner
        )
        stack = {
            "Parameters": [{"ParameterKey": name, "ParameterValue": value} for name, value in SOURCE.items()],
            "Outputs": [{"OutputKey": "DatabaseArn", "OutputValue": made["DBCluster"]["DBClusterArn"]}],
        }
        # moto's CloudFormation makes no Aurora cluster.
        yield {"rds": rds, "cloudformation": SimpleNamespace(describe_stacks=lambda **_: {"Stacks": [stack]})}


def test_a_stack_that_was_restored_needs_its_source_no_more(restored: dict[str, Any], tmp_path: Any) -> None:
    """An update restores nothing again. The time is out of all backups by then, too."""
    assert said(SOURCE, tmp_path, **restored) == []
    [problem] = said(SOURCE | {"DatabaseEngineVersion": "18"}, tmp_path, **restored)
    assert "has its source's version 17.7: give 17" in problem


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (SOURCE | {"DatabaseRestoreTime": "latest"}, "us-east-1 has no such cluster"),
        (SOURCE | {"DatabaseSourceCluster": "payments-00000000"}, "us-east-1 has no such cluster"),
        (SNAPSHOT, "us-east-1 has no such snapshot"),
    ],
)
def test_a_stack_that_would_get_another_cluster_needs_its_source(
    restored: dict[str, Any], tmp_path: Any, given: dict[str, str], problem: str
) -> None:
    [found] = said(given, tmp_path, **restored)
    assert problem in found


def test_a_stack_whose_own_cluster_is_gone_needs_its_source(restored: dict[str, Any], tmp_path: Any) -> None:
    restored["rds"].delete_db_cluster(DBClusterIdentifier="payments-89abcdef", SkipFinalSnapshot=True)
    [problem] = said(SOURCE, tmp_path, **restored)
    assert "us-east-1 has no such cluster" in problem


def test_what_preflight_may_not_see_is_no_answer(tmp_path: Any) -> None:
    client = boto3.client("rds", region_name="us-east-1")
    stub = Stubber(client)
    stub.add_client_error("describe_db_clusters", "AccessDenied")
    stub.activate()
    with pytest.raises(ClientError, match="AccessDenied"):
        said(SOURCE, tmp_path, rds=client)


@pytest.mark.parametrize(
    ("vault", "opted_in", "problem"),
    [
        ("eu-west-1", True, ""),
        ("us-east-1", True, "in this stack's own region"),
        ("eu-west-1", False, "not opted in for Aurora"),
    ],
)
def test_copies_go_to_another_region_with_aws_backup_opted_in(vault: str, opted_in: bool, problem: str, tmp_path: Any) -> None:
    backup = boto3.client("backup", region_name="us-east-1")
    stub = Stubber(backup)
    stub.add_response("describe_region_settings", {"ResourceTypeOptInPreference": {"Aurora": opted_in, "RDS": True}})
    stub.activate()
    arn = VAULT["BackupCopyVaultArn"].replace("eu-west-1", vault)
    problems = said({"BackupCopyVaultArn": arn}, tmp_path, backup=backup)
    assert [problem in each for each in problems] == [True] * bool(problem)
