"""What `make preflight` says about a database that starts from a snapshot or from another cluster's backups, and about copies."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from deploy.account import Account

STARTS_FROM = ("DatabaseSnapshot", "DatabaseSourceCluster", "DatabaseRestoreTime")
"""A change of one of these puts another cluster into the place of the stack's own."""


def restoring(account: Account) -> Iterator[str]:
    """RDS refuses these after the network, the key and the brokers were made, and CloudFormation then takes all back."""
    snapshot, source = account.value("DatabaseSnapshot"), account.value("DatabaseSourceCluster")
    if (snapshot or source) and (own := _own_cluster(account)):
        if source:
            yield from _other_major_version(account, own)
    elif snapshot:
        yield from _snapshot(account, snapshot)
    elif source:
        yield from _moment(account, source)
    if arn := account.value("BackupCopyVaultArn"):
        yield from _copies(account, arn)


def _own_cluster(account: Account) -> dict[str, Any] | None:
    """Return the stack's cluster, if it started from what the parameters name.

    An update does not restore it again, so source and backups may be gone.
    """
    if not (stack := account.made_stack()):
        return None
    made_with = {each["ParameterKey"]: each["ParameterValue"] for each in stack.get("Parameters", [])}
    arns = [each["OutputValue"] for each in stack.get("Outputs", []) if each["OutputKey"] == "DatabaseArn"]
    if not arns or any(made_with.get(name, "") != account.value(name) for name in STARTS_FROM):
        return None
    return _cluster(account, arns[0].rpartition(":")[2])


def _snapshot(account: Account, name: str) -> Iterator[str]:
    rds = account.client("rds")
    try:
        [found] = rds.describe_db_cluster_snapshots(DBClusterSnapshotIdentifier=name, IncludeShared=True)["DBClusterSnapshots"]
    except ClientError as error:
        if error.response["Error"]["Code"] != "DBClusterSnapshotNotFoundFault":
            raise
        yield f"DatabaseSnapshot={name}: {account.region} has no such snapshot"
        return
    if (status := found["Status"]) != "available":
        yield f"DatabaseSnapshot={name} is {status}: wait until it is available"
    given, own = account.value("DatabaseEngineVersion"), found["EngineVersion"]
    if _numbers(given) < _numbers(own):
        yield f"DatabaseEngineVersion={given} is older than the snapshot's {own}, or lacks its minor version: give {own}"
    elif _numbers(given) > _numbers(own):
        offered = rds.describe_db_engine_versions(Engine="aurora-postgresql", EngineVersion=own)["DBEngineVersions"]
        targets = [target["EngineVersion"] for each in offered for target in each["ValidUpgradeTarget"]]
        if given not in targets:
            yield f"DatabaseEngineVersion={given}: the snapshot's {own} cannot be upgraded to it, but to {', '.join(targets)}"


def _moment(account: Account, name: str) -> Iterator[str]:
    if not (found := _cluster(account, name)):
        yield (
            f"DatabaseSourceCluster={name}: {account.region} has no such cluster. If it was deleted, its last snapshot is"
            " all that is left: give DatabaseSnapshot"
        )
        return
    yield from _other_major_version(account, found)
    if (moment := account.value("DatabaseRestoreTime")) in ("", "latest"):
        return
    earliest, latest = found.get("EarliestRestorableTime"), found.get("LatestRestorableTime")
    if earliest and latest and not earliest <= datetime.fromisoformat(moment) <= latest:
        span = f"{_utc(earliest)} to {_utc(latest)}"
        yield f"DatabaseRestoreTime={moment}: {name} can be restored to {span}"


def _other_major_version(account: Account, found: dict[str, Any]) -> Iterator[str]:
    given, own = account.value("DatabaseEngineVersion"), found["EngineVersion"]
    if _numbers(given)[0] != _numbers(own)[0]:
        yield f"DatabaseEngineVersion={given}: the restored cluster has its source's version {own}: give {own.partition('.')[0]}"


def _cluster(account: Account, name: str) -> dict[str, Any] | None:
    try:
        [found] = account.client("rds").describe_db_clusters(DBClusterIdentifier=name)["DBClusters"]
    except ClientError as error:
        if error.response["Error"]["Code"] != "DBClusterNotFoundFault":
            raise
        return None
    return dict(found)


def _copies(account: Account, arn: str) -> Iterator[str]:
    region = arn.split(":")[3]
    if region == account.region:
        yield f"BackupCopyVaultArn={arn}: that vault is in this stack's own region"
    if not account.client("backup").describe_region_settings()["ResourceTypeOptInPreference"].get("Aurora"):
        yield f'AWS Backup is not opted in for Aurora in {account.region}: see docs/operations.md, "A second region"'


def _numbers(version: str) -> tuple[int, ...]:
    """Return (17, 7) for 17.7, so that 17.10 is newer."""
    return tuple(int(part) for part in version.split(".") if part.isdecimal())


def _utc(moment: Any) -> str:
    return str(moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
