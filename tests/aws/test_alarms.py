"""Alarms and widgets on metrics that AWS writes: each name, dimension and unit is one of AWS's documentation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.aws.test_template import RESOURCES, TEMPLATE, of_type

DOCUMENTED: dict[tuple[str, ...], set[str]] = {
    # https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
    ("AWS/Lambda", "FunctionName"): {
        "Errors",
        "Throttles",
        "Duration",
        "ConcurrentExecutions",
        "AsyncEventsReceived",
        "AsyncEventAge",
        "AsyncEventsDropped",
        "DestinationDeliveryFailures",
    },
    # https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html
    ("AWS/SQS", "QueueName"): {"ApproximateNumberOfMessagesVisible", "ApproximateAgeOfOldestMessage"},
    # https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-metrics.html
    ("AWS/ApiGateway", "ApiId"): {"Count", "4xx", "5xx", "Latency"},
    # https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/rds-proxy.monitoring.html
    ("AWS/RDS", "ProxyName"): {
        "ClientConnections",
        "DatabaseConnections",
        "DatabaseConnectionsBorrowLatency",
        "DatabaseConnectionsCurrentlySessionPinned",
    },
    # https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/Aurora.AuroraMonitoring.Metrics.html
    ("AWS/RDS", "DBClusterIdentifier"): {"ACUUtilization", "CommitLatency", "MaximumUsedTransactionIDs"},
    # https://docs.aws.amazon.com/aws-backup/latest/devguide/cloudwatch.html
    ("AWS/Backup", "BackupVaultName"): {
        "NumberOfBackupJobsExpired",
        "NumberOfBackupJobsFailed",
        "NumberOfCopyJobsFailed",
    },
}


def watched() -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
    """Yield (who watches, namespace, metric, dimensions) of alarms and widgets, apart from searches."""
    for name, alarm in of_type("AWS::CloudWatch::Alarm").items():
        for each in [alarm, *(metric["MetricStat"]["Metric"] for metric in alarm.get("Metrics", []) if "MetricStat" in metric)]:
            if "Namespace" in each:
                yield name, each["Namespace"], each["MetricName"], tuple(one["Name"] for one in each["Dimensions"])
    for widget in json.loads(RESOURCES["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"][0])["widgets"]:
        for line in widget["properties"]["metrics"]:
            words = [part for part in line if isinstance(part, str)]
            if words:
                yield widget["properties"]["title"], words[0], words[1], tuple(words[2::2])


def test_every_metric_of_aws_is_documented() -> None:
    found = [each for each in watched() if each[1] != "Payments"]
    assert len(found) > 30
    assert [each for each in found if each[2] not in DOCUMENTED.get((each[1], *each[3]), set())] == []


def alarm(name: str) -> dict[str, Any]:
    found: dict[str, Any] = RESOURCES[name]["Properties"]
    return found


def metrics_of(name: str) -> set[tuple[str, str]]:
    """Return (metric, function) of an alarm over several functions."""
    parts = [each["MetricStat"]["Metric"] for each in alarm(name)["Metrics"] if "MetricStat" in each]
    return {(each["MetricName"], each["Dimensions"][0]["Value"]["Ref"]) for each in parts}


def test_what_is_lost_of_the_order_services_invocations_is_told() -> None:
    """An invocation that Lambda gives up goes to the queue, and one that the queue does not get is gone.

    An event of the gateway's moves no money, and the queue's own alarm tells of it.
    """
    invoked = {
        name
        for name, properties in of_type("AWS::Serverless::Function").items()
        if properties.get("EventInvokeConfig", {}).get("MaximumRetryAttempts")
    }
    assert invoked == {"ProcessFunction", "RefundFunction", "GatewayEventsFunction"}
    invoked.remove("GatewayEventsFunction")
    assert metrics_of("DroppedEventsAlarm") == {("AsyncEventsDropped", name) for name in invoked}
    assert metrics_of("LostInvocationsAlarm") == {("DestinationDeliveryFailures", name) for name in invoked}
    for name in ("DroppedEventsAlarm", "LostInvocationsAlarm"):
        assert (alarm(name)["Threshold"], alarm(name)["EvaluationPeriods"]) == (0, 1)


def test_functions_that_drop_events_on_purpose_have_an_alarm_on_what_they_leave_behind() -> None:
    for name, lag in (("RelayFunction", "OutboxLagAlarm"), ("ReconcileFunction", "OutcomesExhaustedAlarm")):
        assert RESOURCES[name]["Properties"]["EventInvokeConfig"]["MaximumRetryAttempts"] == 0
        assert alarm(lag)["TreatMissingData"] == "breaching", "a run that was dropped writes no metric"


def test_a_message_is_told_again_long_before_the_queue_deletes_it() -> None:
    kept_s = RESOURCES["FailedInvocations"]["Properties"]["MessageRetentionPeriod"]
    assert alarm("OldestFailedInvocationAlarm")["Threshold"] == 86400
    assert kept_s - 86400 == 13 * 86400


def test_a_copy_in_another_region_that_is_not_made_is_told() -> None:
    """AWS Backup counts a backup by the vault that it is in, and a copy by the vault that it goes to."""
    parts = {each["Id"]: each["MetricStat"]["Metric"] for each in alarm("BackupCopyAlarm")["Metrics"] if "MetricStat" in each}
    own, other = {"Ref": "BackupVault"}, {"Fn::Select": [6, {"Fn::Split": [":", {"Ref": "BackupCopyVaultArn"}]}]}
    assert {(each["MetricName"], str(each["Dimensions"][0]["Value"])) for each in parts.values()} == {
        ("NumberOfBackupJobsFailed", str(own)),
        ("NumberOfBackupJobsExpired", str(own)),
        ("NumberOfCopyJobsFailed", str(other)),
    }
    assert all(f"FILL({name}, 0)" in alarm("BackupCopyAlarm")["Metrics"][0]["Expression"] for name in parts)
    assert (alarm("BackupCopyAlarm")["Threshold"], alarm("BackupCopyAlarm")["EvaluationPeriods"]) == (0, 1)


def test_the_database_still_has_days_of_transaction_ids_when_their_alarm_goes_off() -> None:
    found = alarm("TransactionIdsAlarm")
    assert found["Metrics"][0]["Expression"] == {"Fn::Sub": "used - ${DatabaseFreezeMaxAge}"}
    above, last, a_day = found["Threshold"], 2**31 - 3_000_000, 3 * 1000 * 86400
    assert above > a_day, "autovacuum needs time, at 1,000 payments a second with three transactions each"
    begins = TEMPLATE["Parameters"]["DatabaseFreezeMaxAge"]
    assert (last - begins["Default"] - above) / a_day > 6
    assert (last - begins["MaxValue"] - above) / a_day > 2
    settings = RESOURCES["DatabaseParameters"]["Properties"]["Parameters"]
    assert settings["autovacuum_freeze_max_age"] == {"Ref": "DatabaseFreezeMaxAge"}
