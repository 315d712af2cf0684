"""The functions' log: JSON lines with the request's ids, metrics in CloudWatch's embedded format, no secrets."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from payments import telemetry
from payments.gateway.port import Alarm
from payments.scheduled.gateway_events import LEFT, ORPHANS
from payments.telemetry import instrumented
from tests.api_client import EVERYTHING, Context, http_event
from tests.aws.test_template import RESOURCES, of_type
from tests.lambda_runtime import Invocation, LambdaRuntime
from tests.servers import Database

Functions = Callable[[str], LambdaRuntime]

STACK = "local"
"""The stack's name, when template.yaml is read here."""

CLAIMS = {"sub": "shop", "scope": EVERYTHING}
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
EMULATOR = re.compile(r"(START|END|REPORT) RequestId: |\d\d \w{3} \d{4} [\d:,]+ \[(INFO|WARNING)\] \(rapid\)")
"""The lines of the platform. CloudWatch has them too."""


def _lines(invocation: Invocation) -> list[dict[str, Any]]:
    """Return the lines of the function itself, which are all JSON."""
    return [json.loads(line) for line in invocation.logs.splitlines() if line.strip() and not EMULATOR.match(line)]


def _logged(invocation: Invocation) -> list[dict[str, Any]]:
    return [line for line in _lines(invocation) if "_aws" not in line]


def _metrics(invocation: Invocation) -> list[tuple[str, dict[str, Any]]]:
    """Return the name and the dimensions of each metric. An invocation writes them in one line."""
    found = []
    lines = [line for line in _lines(invocation) if "_aws" in line]
    assert len(lines) <= 1
    for line in lines:
        for directive in line["_aws"]["CloudWatchMetrics"]:
            assert directive["Namespace"] == "Payments"
            names = [name for names in directive["Dimensions"] for name in names]
            found += [(metric["Name"], {name: line[name] for name in names}) for metric in directive["Metrics"]]
            assert all(metric["Name"] in line for metric in directive["Metrics"])
    return found


def _process(**fields: object) -> dict[str, Any]:
    order = {"order_id": str(uuid4()), "amount": 1999, "currency": "USD", "payment_method": "paypal", "payment_token": "tok_ok"}
    return http_event("POST", "/api/v1/payments/process", order | fields, claims=CLAIMS)


def test_a_log_line_carries_the_ids_of_the_request(functions: Functions) -> None:
    event = _process()
    invocation = functions("process").invoke(event)
    (line,) = _logged(invocation)
    assert line["correlation_id"] == event["requestContext"]["requestId"]
    assert UUID.fullmatch(line["function_request_id"])
    assert (line["level"], line["message"], line["service"], line["function_name"]) == (
        "INFO",
        "operation",
        "payments",
        "ProcessFunction",
    )
    assert (line["kind"], line["outcome"], line["payment_status"]) == ("process", "succeeded", "CAPTURED")
    assert UUID.fullmatch(line["payment_id"])
    assert line["timestamp"]


def test_a_direct_invocations_lines_carry_lambdas_request_id(functions: Functions) -> None:
    (line,) = _logged(functions("process").invoke({"order_id": "7"}))
    assert (line["message"], line["code"]) == ("refused", "invalid_request")
    assert UUID.fullmatch(line["correlation_id"])
    assert line["correlation_id"] == line["function_request_id"]


def test_ids_of_one_request_are_gone_with_it(functions: Functions) -> None:
    first, second = _process(), _process(payment_token="tok_timeout_then_captured")
    functions("process").invoke(first)
    invocation = functions("process").invoke(second)
    lines = _logged(invocation)
    assert [line["level"] for line in lines] == ["WARNING", "INFO"]
    assert {line["correlation_id"] for line in lines} == {second["requestContext"]["requestId"]}


@pytest.mark.parametrize(
    ("event", "metrics"),
    [
        (_process(), [("Operations", {"service": STACK, "kind": "process", "outcome": "succeeded"})]),
        (
            _process(payment_token="tok_expired_card"),
            [
                ("Operations", {"service": STACK, "kind": "process", "outcome": "declined"}),
                ("Declines", {"service": STACK, "kind": "process", "decline_code": "expired_card"}),
            ],
        ),
        (
            _process(payment_token="tok_timeout_then_declined"),
            [("Operations", {"service": STACK, "kind": "process", "outcome": "unknown"})],
        ),
        (_process(amount=0), [("Refusals", {"service": STACK, "code": "invalid_request"})]),
    ],
    ids=["succeeded", "declined", "unknown", "refused"],
)
def test_every_command_is_counted(event: object, metrics: list[tuple[str, dict[str, Any]]], functions: Functions) -> None:
    found = _metrics(functions("process").invoke(event))
    assert [each for each in found if each[0] != "ColdStart"] == metrics


def test_a_payment_writes_one_line_of_log_and_one_of_metrics(functions: Functions) -> None:
    assert ["_aws" in line for line in _lines(functions("process").invoke(_process()))] == [False, True]


def test_a_metric_that_one_line_cannot_hold_beside_the_others_begins_another(capsys: pytest.CaptureFixture[str]) -> None:
    @instrumented
    def handle(event: object, context: object) -> None:
        for kind in ("process", "refund", "refund"):
            telemetry.count("Operations", kind=kind)

    instrumented(lambda *_: None)({}, Context())
    capsys.readouterr()
    handle({}, Context())
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["kind"], line["Operations"]) for line in lines] == [("process", 1), ("refund", 1), ("refund", 1)]


def test_a_replay_is_counted_apart(functions: Functions) -> None:
    event = {
        "order_id": str(uuid4()),
        "amount": 1,
        "currency": "USD",
        "payment_method": "paypal",
        "payment_token": "tok_expired_card",
    }
    functions("process").invoke(event)
    found = dict(_metrics(functions("process").invoke(event)))
    assert found["Operations"]["outcome"] == "replayed"
    assert "Declines" not in found


@pytest.mark.parametrize(
    ("function", "names"),
    [
        ("relay", {"EventsRelayed", "OutboxUnpublished", "OutboxLag"}),
        ("reconcile", {"OperationsReconciled", "OutcomesStillUnknown", "AuthorizationsExpired"}),
    ],
)
def test_a_scheduled_run_reports_what_it_did(function: str, names: set[str], functions: Functions) -> None:
    assert {name for name, _ in _metrics(functions(function).invoke({}))} >= names


def test_the_first_invocation_counts_a_cold_start_and_the_second_none(start: Callable[..., LambdaRuntime]) -> None:
    function = start("lookups")
    counts = [
        [name for name, _ in _metrics(function.invoke(http_event("GET", "/health", claims=None)))].count("ColdStart")
        for _ in range(2)
    ]
    assert counts == [1, 0]


def test_tokens_and_personal_data_are_not_logged(start: Callable[..., LambdaRuntime]) -> None:
    function = start("process", {"POWERTOOLS_LOG_LEVEL": "DEBUG"})
    private = {
        "description": "Hush one",
        "customer_id": "hush-two",
        "metadata": {"hush-three": "hush-four"},
        "order_id": "hush-five",
    }
    for token in ("tok_ok", "tok_expired_card", "tok_timeout_then_captured", "tok_hush"):
        function.invoke(_process(**private | {"order_id": f"hush-{token}"}, payment_token=token))
        function.invoke(
            {"order_id": "order-six", "amount": 1, "currency": "USD", "payment_method": "paypal", "payment_token": token}
        )
    assert "operation" in function.logs()
    assert "order-six" in function.logs(), "a direct invocation that is refused is logged with its order"
    assert "hush" not in function.logs().lower()
    assert "tok_" not in function.logs()


TALKATIVE: list[dict[str, str]] = [
    {"POWERTOOLS_LOGGER_LOG_EVENT": "true"},
    {
        "POWERTOOLS_LOGGER_LOG_EVENT": "1",
        "POWERTOOLS_DEV": "true",
        "POWERTOOLS_DEBUG": "true",
        "LOG_LEVEL": "DEBUG",
        "POWERTOOLS_LOG_LEVEL": "DEBUG",
        "POWERTOOLS_LOGGER_SAMPLE_RATE": "1",
        "PYTHONASYNCIODEBUG": "1",
    },
    {"AWS_LAMBDA_LOG_LEVEL": "TRACE", "AWS_LAMBDA_LOG_FORMAT": "JSON", "POWERTOOLS_LOG_LEVEL": "DEBUG"},
]
"""Variables that make Powertools, the runtime and the libraries say more. Somebody sets them to find a fault."""


@pytest.mark.parametrize("variables", TALKATIVE, ids=["the event", "Powertools", "the runtime"])
def test_no_variable_makes_the_log_show_tokens_or_personal_data(
    variables: dict[str, str], start: Callable[..., LambdaRuntime]
) -> None:
    function = start("process", variables)
    private = {"description": "Hush one", "customer_id": "hush-two", "metadata": {"hush-three": "hush-four"}}
    for token in ("tok_ok", "tok_hush", "tok_timeout_then_captured", "tok_stolen_card"):
        event = _process(**private, payment_token=token)
        event["headers"]["authorization"] = "Bearer hush.jwt.canary"
        event["headers"]["x-api-key"] = "hush-key"
        assert function.invoke(event).payload["statusCode"] in {201, 202, 402}
        direct = {"order_id": str(uuid4()), "amount": 1, "currency": "USD", "payment_method": "paypal"}
        function.invoke(direct | private | {"payment_token": token})
        function.invoke(direct | private | {"payment_token": token, "amount": "hush"})
    assert "INFO" in function.logs()
    assert "hush" not in function.logs().lower()
    assert "tok_" not in function.logs()


def test_the_level_of_the_template_is_heeded(start: Callable[..., LambdaRuntime]) -> None:
    function = start("process", {"POWERTOOLS_LOG_LEVEL": "ERROR"})
    assert _logged(function.invoke(_process())) == []
    assert _logged(function.invoke(_process(amount=0))) == []


Series = tuple[str, frozenset[tuple[str, str]]]


def _watched() -> tuple[set[Series], set[tuple[str, frozenset[str]]]]:
    """Return the series that alarms and widgets name, and (metric, names of dimensions) of those that widgets search for."""

    def resolved(text: Any) -> str:
        return STACK if text == {"Ref": "AWS::StackName"} else str(text).replace("${AWS::StackName}", STACK)

    series: set[Series] = set()
    for alarm in of_type("AWS::CloudWatch::Alarm").values():
        for each in [alarm, *(metric["MetricStat"]["Metric"] for metric in alarm.get("Metrics", []) if "MetricStat" in metric)]:
            if each.get("Namespace") == "Payments":
                pairs = frozenset((one["Name"], resolved(one["Value"])) for one in each["Dimensions"])
                series.add((each["MetricName"], pairs))
    searched = set()
    for widget in json.loads(RESOURCES["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"][0])["widgets"]:
        for metric in widget["properties"]["metrics"]:
            if metric[0] == "Payments":
                names = [part for part in metric[1:] if isinstance(part, str)]
                pairs = frozenset(zip(names[1::2], map(resolved, names[2::2]), strict=True))
                series.add((names[0], pairs))
            elif isinstance(metric[0], dict):
                text = resolved(metric[0]["expression"])
                found = re.search(r"\{Payments,([a-z_,]+)\} MetricName=\"(\w+)\" service=\"local\"", text)
                assert found, f"{text} finds the series of other stacks too"
                searched.add((found[2], frozenset(found[1].split(","))))
    return series, searched


def test_alarms_and_widgets_watch_series_of_this_stack_that_the_functions_write(
    start: Callable[..., LambdaRuntime], runtime_database: Database
) -> None:
    process, relay, reconcile, courier = start("process"), start("relay"), start("reconcile"), start("courier")
    without_tables = start("process", {"DATABASE_URL": runtime_database.service_url.rpartition("/")[0] + "/postgres"})
    paid = [_process(payment_token=f"tok_{name}") for name in ("ok", "expired_card", "timeout_then_declined")]
    ran = [
        *(process.invoke(event) for event in [*paid, _process(amount=0)]),
        relay.invoke({}),
        reconcile.invoke({}),
        courier.invoke({}),
    ]
    ran.append(without_tables.invoke(paid[0]))
    assert ran[-1].payload["statusCode"] == 500, ran[-1].logs
    written = [(name, frozenset(dimensions.items())) for one in ran for name, dimensions in _metrics(one)]
    assert {dict(dimensions)["service"] for _, dimensions in written} == {STACK}
    series, searched = _watched()
    # What causes these is shown by tests/commands/test_finding_out.py and tests/scheduled/test_gateway_events.py.
    written += [(alarm, frozenset({("service", STACK)})) for alarm in (*Alarm, ORPHANS, LEFT)]
    assert len(series) >= 6 and len(searched) >= 4
    assert series - set(written) == set()
    assert searched - {(name, frozenset(dict(dimensions))) for name, dimensions in written} == set()
