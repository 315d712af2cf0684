"""`payments redrive`: failed invocations go from the queue to the functions again."""

from __future__ import annotations

import io
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError
from moto import mock_aws
from typer.testing import CliRunner

from payments_cli import commands, output, redrive
from payments_cli.errors import Exit, Failed
from payments_cli.invocation import Unreadable, read
from tests.cli.stand import Stand
from tests.cli.terminal import Payments, new_order

REGION, ACCOUNT = "us-east-1", "123456789012"
PROCESS = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:ProcessFunction:direct"
TOKEN = "tok_canary"
QUEUE_URL = f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/failed"


def record(function: object = PROCESS, condition: str = "RetriesExhausted", **payload: Any) -> dict[str, Any]:
    """Return Lambda's record of a payment that failed; `payload` adds members."""
    paid = {"order_id": "order-1", "amount": 1999, "currency": "USD", "payment_method": "credit_card", "payment_token": TOKEN}
    return {
        "version": "1.0",
        "timestamp": "2026-01-31T12:00:00.000Z",
        "requestContext": {
            "requestId": "e4b46cbf-b738-4880-a18c-df61200e0000",
            "functionArn": function,
            "condition": condition,
            "approximateInvokeCount": 3,
        },
        "requestPayload": paid | payload,
        "responseContext": {"statusCode": 200, "executedVersion": "7", "functionError": "Unhandled"},
        "responsePayload": {"errorMessage": f"service_unavailable: {TOKEN}", "errorType": "ServiceUnavailable"},
    }


def answered(outcome: str = "succeeded", *, replayed: bool = False, **body: Any) -> dict[str, Any]:
    return {"outcome": outcome, "status": 201, "replayed": replayed, "body": body}


class Fault(Exception):
    """The function ends with a FunctionError."""


class Functions:
    """Plays Lambda's Invoke: gives its answers in turn, and repeats the last one."""

    def __init__(self, *answers: Any) -> None:
        self.answers = [*answers] or [answered()]
        self.asked: list[tuple[str, Any]] = []

    def invoke(self, *, FunctionName: str, InvocationType: str, Payload: bytes) -> dict[str, Any]:  # noqa: N803 - boto3's names
        assert InvocationType == "RequestResponse"
        self.asked.append((FunctionName, json.loads(Payload)))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Fault):
            failed = {"errorMessage": str(answer), "errorType": "Fault"}
            return {"FunctionError": "Unhandled", "Payload": io.BytesIO(json.dumps(failed).encode())}
        if isinstance(answer, BaseException):
            raise answer
        return {"Payload": io.BytesIO(json.dumps(answer).encode())}


class Killed(BaseException):
    """The process ends here."""


class Box:
    """A queue of moto."""

    def __init__(self) -> None:
        self.sqs = boto3.client("sqs", region_name=REGION)
        self.url = self.sqs.create_queue(QueueName="failed")["QueueUrl"]

    def put(self, *bodies: Any) -> None:
        for body in bodies:
            self.sqs.send_message(QueueUrl=self.url, MessageBody=body if isinstance(body, str) else json.dumps(body))

    def queue(self) -> redrive.Queue:
        queue = redrive.Queue(self.sqs, self.url)
        queue.size()
        return queue

    def run(self, functions: Any, *, limit: int | None = None, dry_run: bool = False) -> list[dict[str, Any]]:
        pace = redrive.Pace(1000, sleep=lambda _: None)
        return [*redrive.redriven(self.queue(), functions, pace, limit=limit, dry_run=dry_run, wait_s=0)]

    @property
    def counts(self) -> tuple[int, int]:
        """How many messages can be received, and how many are hidden."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)["Attributes"]
        return int(found[names[0]]), int(found[names[1]])


@pytest.fixture
def box(monkeypatch: pytest.MonkeyPatch) -> Iterator[Box]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    with mock_aws(config={"core": {"passthrough": {"urls": [r"http://127\.0\.0\.1.*"]}}}):
        yield Box()


def refused_by_aws(code: str, status: int) -> ClientError:
    about: Any = {"Error": {"Code": code, "Message": f"about {TOKEN}"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(about, "Invoke")


def test_an_answered_invocation_leaves_the_queue(box: Box) -> None:
    box.put(record(idempotency_key="key-1", operation="process"))
    functions = Functions(answered(payment_id="p"))
    [told] = box.run(functions)
    assert functions.asked == [(PROCESS, record(idempotency_key="key-1", operation="process")["requestPayload"])]
    assert told.pop("message_id")
    assert told == {
        "result": "redriven",
        "function": PROCESS,
        "operation": "process",
        "order_id": "order-1",
        "idempotency_key": "key-1",
        "outcome": "succeeded",
        "code": None,
        "replayed": False,
    }
    assert box.counts == (0, 0)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (answered("declined", decline_code="insufficient_funds"), "insufficient_funds"),
        (answered("refused", code="order_already_paid"), "order_already_paid"),
        (answered("unknown"), None),
        ({"outcome": "kept"}, None),
    ],
    ids=["declined", "refused", "unknown", "an event of Stripe's"],
)
def test_every_outcome_of_the_service_is_final(box: Box, answer: dict[str, Any], code: str | None) -> None:
    box.put(record())
    [told] = box.run(Functions(answer))
    assert (told["result"], told["outcome"], told["code"]) == ("redriven", answer["outcome"], code)
    assert box.counts == (0, 0)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (Fault(f"payment_state_conflict: of {TOKEN}"), "payment_state_conflict"),
        (Fault(f"{TOKEN} broke it"), "Fault"),
        ({"outcome": "sent"}, "unexpected_answer"),
        (["ok"], "unexpected_answer"),
        (refused_by_aws("ResourceNotFoundException", 404), "ResourceNotFoundException"),
    ],
    ids=["refusal", "fault", "other outcome", "no object", "no function"],
)
def test_what_fails_again_stays_in_the_queue_and_the_next_one_has_its_turn(box: Box, answer: Any, code: str) -> None:
    box.put(record(order_id="order-1"), record(order_id="order-2"))
    functions = Functions(answer, answered())
    told = box.run(functions)
    assert [(one["result"], one["code"]) for one in told] == [("still_failing", code), ("redriven", None)]
    assert len(functions.asked) == 2
    assert box.counts == (1, 0), "the next run gets it at once"
    assert TOKEN not in json.dumps(told)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("null", "It is not Lambda's record of an invocation."),
        ("tombstone", "It is not JSON."),
        ('{"requestContext": NaN}', "It is not JSON."),
        ("[" * 100_000, "It is not JSON."),
        ("[]", "It is not Lambda's record of an invocation."),
        ({"requestContext": []}, "It is not Lambda's record of an invocation."),
        (
            {name: value for name, value in record().items() if name != "requestPayload"},
            "It is not Lambda's record of an invocation.",
        ),
        (record(condition="Success"), "It does not record a failure."),
        (json.dumps(record()).replace("1999", "1e999"), "Its payload cannot be sent as JSON."),
        (record(function=None), "It does not name the alias of a function."),
        (record(function="ProcessFunction"), "It does not name the alias of a function."),
        (record(function=PROCESS.removesuffix(":direct")), "It does not name the alias of a function."),
        (record(function=PROCESS.replace(":direct", ":$LATEST")), "It does not name the alias of a function."),
        (record(function=PROCESS.replace(":direct", ":7")), "It does not name the alias of a function."),
        (record(function=PROCESS.replace("lambda", "sqs")), "It does not name the alias of a function."),
        (record(function=PROCESS + "\n"), "It does not name the alias of a function."),
        (
            record(function=PROCESS.replace(ACCOUNT, "999999999999")),
            "The function is in another account or region than the queue.",
        ),
        (record(function=PROCESS.replace(REGION, "eu-west-1")), "The function is in another account or region than the queue."),
    ],
    ids=lambda value: None,
)
def test_what_is_no_record_of_ours_is_told_and_left(box: Box, body: Any, reason: str) -> None:
    box.put(body, record())
    functions = Functions()
    told = {one["result"]: one for one in box.run(functions)}
    assert told["left_alone"].keys() == {"message_id", "result", "reason"}
    assert told["left_alone"]["reason"] == reason
    assert told["redriven"], "the run goes on"
    assert len(functions.asked) == 1
    assert box.counts == (1, 0)


def test_after_a_restore_the_new_stacks_functions_are_invoked(box: Box) -> None:
    refund = PROCESS.replace("ProcessFunction", "RefundFunction")
    box.put(record(order_id="order-1"), record(function=refund, order_id="order-2"))
    new = PROCESS.replace("ProcessFunction", "new-ProcessFunction")
    functions, queue = Functions(), box.queue()
    instead = redrive.replacements([f"{PROCESS}={new}"], queue.place)
    pace = redrive.Pace(1000, sleep=lambda _: None)
    told = [*redrive.redriven(queue, functions, pace, limit=None, dry_run=False, wait_s=0, instead=instead)]
    assert [name for name, _ in functions.asked] == [new]
    assert {one["result"] for one in told} == {"redriven", "left_alone"}
    assert box.counts == (1, 0), "what has no replacement stays, because its own function has the lost database"


@pytest.mark.parametrize("looked_at", [False, True])
def test_after_a_restore_a_refund_is_sent_only_when_somebody_has_looked_at_it(box: Box, looked_at: bool) -> None:
    refund = PROCESS.replace("ProcessFunction", "RefundFunction")
    named = {"transaction_id": "txn_1", "amount": 500, "idempotency_key": "return-77"}
    messages = [record(function=refund) | {"requestPayload": named | each} for each in ({}, {"operation": "refund"})]
    captured = record() | {"requestPayload": named | {"operation": "capture"}}
    box.put(*messages, record(), captured)
    functions, queue = Functions(), box.queue()
    pace = redrive.Pace(1000, sleep=lambda _: None)
    instead = {PROCESS: PROCESS.replace("Process", "new-Process"), refund: refund.replace("Refund", "new-Refund")}
    told = [*redrive.redriven(queue, functions, pace, limit=None, dry_run=False, wait_s=0, instead=instead, refunds=looked_at)]
    alone = [one for one in told if one["result"] == "left_alone"]
    assert len(functions.asked) == (4 if looked_at else 2)
    assert box.counts == (0 if looked_at else 2, 0)
    for one in alone:
        assert one["reason"] == redrive.A_REFUND
        assert (one["transaction_id"], one["amount"], one["idempotency_key"]) == ("txn_1", 500, "return-77")
        assert "transaction_id txn_1  amount 500" in output.redrive_line(one).plain
    assert len(alone) == (0 if looked_at else 2)


@pytest.mark.parametrize(("named", "recorded"), [("live", "live"), ("direct", "live"), ("direct", "direct")])
def test_a_stack_of_an_older_release_still_names_live(box: Box, named: str, recorded: str) -> None:
    box.put(record(function=PROCESS.replace(":direct", f":{recorded}")))
    functions, queue = Functions(), box.queue()
    new = PROCESS.replace("ProcessFunction", "new-ProcessFunction")
    instead = redrive.replacements([f"{PROCESS.replace(':direct', f':{named}')}={new}"], queue.place)
    pace = redrive.Pace(1000, sleep=lambda _: None)
    [told] = redrive.redriven(queue, functions, pace, limit=None, dry_run=False, wait_s=0, instead=instead)
    assert (told["result"], functions.asked[0][0]) == ("redriven", new)


@pytest.mark.parametrize("pair", ["", PROCESS, f"{PROCESS}=ProcessFunction", f"{PROCESS}={PROCESS.replace(REGION, 'eu-west-1')}"])
def test_a_replacement_names_two_aliases_of_the_queues_account_and_region(pair: str) -> None:
    with pytest.raises(redrive.WrongSetup, match="no ARN of an alias"):
        redrive.replacements([pair], ("aws", REGION, ACCOUNT))


def test_a_message_without_a_body_is_no_record() -> None:
    with pytest.raises(Unreadable):
        read(None, ("aws", REGION, ACCOUNT))


def test_a_dry_run_sends_and_deletes_nothing(box: Box) -> None:
    box.put(*(record(order_id=f"order-{number}") for number in range(12)), "damaged")
    functions = Functions()
    told = box.run(functions, dry_run=True)
    assert Counter(one["result"] for one in told) == {"would_redrive": 12, "left_alone": 1}
    assert functions.asked == []
    assert box.counts == (13, 0)
    assert TOKEN not in json.dumps(told)


@pytest.mark.parametrize("dry_run", [False, True], ids=["run", "dry run"])
def test_the_limit_counts_invocations(box: Box, dry_run: bool) -> None:
    box.put("damaged", *(record(order_id=f"order-{number}") for number in range(5)))
    told = box.run(Functions(), limit=2, dry_run=dry_run)
    assert [one["result"] for one in told if one["result"] != "left_alone"] == ["would_redrive" if dry_run else "redriven"] * 2
    assert box.counts == (6 if dry_run else 4, 0)


def test_invocations_keep_the_rate(box: Box) -> None:
    box.put(*(record(order_id=f"order-{number}") for number in range(4)))
    now, starts = 0.0, list[float]()

    def sleep(for_s: float) -> None:
        nonlocal now
        now += for_s

    class Slow(Functions):
        def invoke(self, **asked: Any) -> dict[str, Any]:
            nonlocal now
            starts.append(now)
            now += 0.1 if len(starts) < 3 else 5
            return super().invoke(**asked)

    pace = redrive.Pace(2, clock=lambda: now, sleep=sleep)
    told = [*redrive.redriven(box.queue(), Slow(), pace, limit=None, dry_run=False, wait_s=0)]
    assert len(told) == 4
    assert starts == [0, 0.5, 1, 6], "a slow invocation is followed by no burst"


def test_a_run_that_is_killed_before_it_deletes_sends_the_same_payload_again(box: Box) -> None:
    box.put(record())
    functions = Functions(answered(), answered(replayed=True))
    receipts = []

    class Dying(redrive.Queue):
        def delete(self, message: dict[str, Any]) -> None:
            receipts.append(message["ReceiptHandle"])
            raise Killed

        def give_back(self) -> None:
            """A process that is dead gives nothing back."""

    queue = Dying(box.sqs, box.url)
    queue.size()
    with pytest.raises(Killed):
        [*redrive.redriven(queue, functions, redrive.Pace(1000), limit=None, dry_run=False, wait_s=0)]
    assert box.counts == (0, 1), "hidden, and not lost"
    assert box.run(functions) == []
    box.sqs.change_message_visibility(QueueUrl=box.url, ReceiptHandle=receipts[0], VisibilityTimeout=0)  # as after HELD_S
    [told] = box.run(functions)
    assert (told["result"], told["replayed"]) == ("redriven", True)
    assert functions.asked == [(PROCESS, record()["requestPayload"])] * 2
    assert box.counts == (0, 0)


@pytest.mark.parametrize(
    ("error", "exit_code", "code"),
    [
        (refused_by_aws("AccessDeniedException", 403), Exit.REFUSED, "AccessDeniedException"),
        (refused_by_aws("TooManyRequestsException", 429), Exit.UNAVAILABLE, "TooManyRequestsException"),
        (refused_by_aws("ServiceException", 500), Exit.UNAVAILABLE, "ServiceException"),
        (EndpointConnectionError(endpoint_url="https://lambda"), Exit.UNAVAILABLE, "unreachable"),
        (ReadTimeoutError(endpoint_url="https://lambda"), Exit.UNAVAILABLE, "no_answer"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_failure_of_aws_ends_the_run_and_keeps_the_message(box: Box, error: Exception, exit_code: Exit, code: str) -> None:
    box.put(record(), record())
    with pytest.raises(Failed) as failed:
        box.run(Functions(error))
    assert (failed.value.exit_code, failed.value.problem["code"]) == (exit_code, code)
    assert box.counts == (2, 0)


def test_a_message_that_comes_round_again_is_not_sent_again(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that takes longer than HELD_S receives again what failed."""
    monkeypatch.setattr(redrive, "HELD_S", 0)
    box.put(record())
    functions = Functions(Fault("service_unavailable"))
    assert len(box.run(functions)) == len(functions.asked) == 1
    assert box.counts == (1, 0)


def test_a_deleted_message_that_is_shown_again_is_deleted_again(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQS delivers at least once."""
    monkeypatch.setattr(redrive, "HELD_S", 0)
    box.put(record())
    deletes = []

    class Forgetful(redrive.Queue):
        def delete(self, message: dict[str, Any]) -> None:
            deletes.append(message["MessageId"])
            if len(deletes) > 1:
                super().delete(message)

    queue, functions = Forgetful(box.sqs, box.url), Functions()
    queue.size()
    told = [*redrive.redriven(queue, functions, redrive.Pace(1000), limit=None, dry_run=False, wait_s=0)]
    assert (len(told), len(functions.asked), len(deletes)) == (1, 1, 2)
    assert box.counts == (0, 0)


def test_a_card_number_in_a_payload_is_not_shown(box: Box) -> None:
    box.put(record(order_id="order 4242 4242 4242 4242", idempotency_key="x" * 300))
    [told] = box.run(Functions(), dry_run=True)
    assert told["order_id"] == "(hidden: like a card number)"
    assert len(told["idempotency_key"]) == 255


@pytest.fixture
def sqs_and_lambda(standing_in: Callable[..., Stand], payments_alone: Payments) -> Callable[..., Any]:
    """Return a function that runs the command in a process, with servers that play SQS and Lambda."""

    def run(body: str, answer: Any, *options: str, headers: dict[str, str] | None = None, at_terminal: str = "") -> Any:
        held = {"MessageId": "message-1", "ReceiptHandle": "receipt-1", "Body": body}
        facts = {"QueueArn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:failed", "ApproximateNumberOfMessages": "1"}
        steps = [{"Attributes": facts}, {"Messages": [held]}, {}, {}]
        sqs = standing_in(*((200, {}, json.dumps(step)) for step in steps))
        functions = standing_in((200, headers or {}, json.dumps(answer)))
        environment = {
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_ENDPOINT_URL_SQS": sqs.url,
            "AWS_ENDPOINT_URL_LAMBDA": functions.url,
            "PAYMENTS_FAILED_QUEUE": QUEUE_URL,
        }
        if at_terminal:
            done = payments_alone.at_terminal("redrive", *options, typed=at_terminal, **environment)
        else:
            done = payments_alone("redrive", *options, **environment)
        calls = [headers["x-amz-target"].partition(".")[2] for _, headers, _ in sqs.asked]
        return done, calls, functions

    return run


@pytest.mark.server
def test_the_command_tells_each_message_and_counts(sqs_and_lambda: Callable[..., Any], prefork: Any) -> None:
    done, calls, functions = sqs_and_lambda(json.dumps(record()), answered(payment_token=TOKEN))
    assert done.exit_code == 0, done.err
    first, last = done.out.splitlines()
    assert first.split() == ["redriven", "message-1", "ProcessFunction:direct", "order-1", "succeeded"]
    assert last == "1 redriven, 0 still failing, 0 left alone"
    assert calls == ["GetQueueAttributes", "ReceiveMessage", "DeleteMessage", "ReceiveMessage"]
    assert len(functions.asked) == 1
    assert TOKEN not in done.out + done.err


@pytest.mark.server
def test_a_script_gets_lines_of_json_and_5_when_one_fails_again(sqs_and_lambda: Callable[..., Any], prefork: Any) -> None:
    failed = {"errorMessage": f"service_unavailable: {TOKEN}", "errorType": "ServiceUnavailable"}
    headers = {"x-amz-function-error": "Unhandled"}
    done, calls, _ = sqs_and_lambda(json.dumps(record()), failed, "--json", headers=headers)
    assert done.exit_code == 5, done.err
    told, counts = done.lines
    assert (told["result"], told["code"]) == ("still_failing", "service_unavailable")
    assert counts == {"redriven": 0, "still_failing": 1, "left_alone": 0}
    assert calls == ["GetQueueAttributes", "ReceiveMessage", "ReceiveMessage", "ChangeMessageVisibilityBatch"]
    assert "can be sent again" in done.err
    assert TOKEN not in done.out + done.err


@pytest.mark.server
def test_a_message_that_is_left_alone_is_no_success(sqs_and_lambda: Callable[..., Any], prefork: Any) -> None:
    done, _, functions = sqs_and_lambda("damaged", {})
    assert done.exit_code == 1
    assert done.out.splitlines()[-1] == "0 redriven, 0 still failing, 1 left alone"
    assert functions.asked == []


@pytest.mark.server
def test_a_person_who_says_no_sends_nothing(sqs_and_lambda: Callable[..., Any], prefork: Any) -> None:
    done, calls, functions = sqs_and_lambda(json.dumps(record()), {}, at_terminal="n\n")
    assert done.exit_code == 1
    assert "Send about 1 failed invocations again? [y/N]" in done.out
    assert (calls, functions.asked) == (["GetQueueAttributes"], [])


def test_without_a_queue_the_command_says_where_its_address_is() -> None:
    done = CliRunner().invoke(commands.app, ["redrive"], env={"PAYMENTS_FAILED_QUEUE": "", "COLUMNS": "200"})
    assert done.exit_code == 2
    assert "FailedInvocationsUrl" in done.output


def test_without_boto3_the_command_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "payments_cli.redrive")
    monkeypatch.delattr("payments_cli.redrive")
    monkeypatch.setitem(sys.modules, "boto3", None)
    done = CliRunner().invoke(commands.app, ["redrive", "--queue-url", QUEUE_URL], env={"COLUMNS": "200"})
    assert done.exit_code == 2
    assert "pipx inject payments-cli boto3" in done.output


def test_without_credentials_the_command_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    done = CliRunner().invoke(commands.app, ["redrive", "--queue-url", QUEUE_URL], env={"COLUMNS": "200"})
    assert done.exit_code == 2
    assert "Unable to locate credentials" in done.output


@pytest.mark.parametrize("alias", ["live", "prod", "Live", "live2"])
def test_what_came_through_live_is_sent_through_direct(box: Box, alias: str) -> None:
    """`live` is API Gateway's alone since there is `direct`. The record of an alias of another name is left as it is."""
    functions = Functions()
    box.put(record(function=PROCESS.replace(":direct", f":{alias}")))
    [told] = box.run(functions)
    expected = PROCESS if alias == "live" else PROCESS.replace(":direct", f":{alias}")
    assert (told["result"], told["function"]) == ("redriven", expected)
    assert [function for function, _ in functions.asked] == [expected]
    assert box.counts == (0, 0)


def test_a_failed_payment_is_carried_out_once_by_the_real_service(box: Box, payments: Payments, data_dir: Path) -> None:
    """The message comes twice, as after a kill: the second invocation is a replay, though the payload has no key."""
    order = new_order()
    of_before = record(order_id=order, payment_token="tok_ok", function=PROCESS.replace(":direct", ":live"))
    box.put(record(order_id=order, payment_token="tok_ok"), of_before, record(order_id=new_order(), operation="unheard-of"))
    url = json.loads((data_dir / "run.json").read_text())["url"]
    functions = boto3.client("lambda", region_name=REGION, endpoint_url=url, config=Config(retries={"total_max_attempts": 1}))
    told = [(one.get("outcome"), one.get("code"), one.get("replayed")) for one in box.run(functions)]
    assert told == [("succeeded", None, False), ("succeeded", None, True), ("refused", "invalid_request", False)]
    assert [payment["status"] for payment in payments("list", "--order", order, "--json").lines] == ["CAPTURED"]
    assert box.counts == (0, 0)
