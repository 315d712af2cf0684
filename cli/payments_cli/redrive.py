"""Send failed asynchronous invocations again: from the queue that keeps Lambda's records of them to the functions.

A message is deleted only after the service has answered it. So a run that ends at any moment loses nothing: a message that was
sent and not deleted comes again. And it doubles nothing: the second invocation carries the same payload, whose key, or the key
that the service derives from it, leads to the outcome of the first.
"""

import contextlib
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as NoConnection

from payments_cli.errors import Exit, Failed
from payments_cli.invocation import ALIAS, Invocation, Unreadable, read

# Nobody else gets a message while we invoke its function, which takes three tries of READ_TIMEOUT_S at most. After a run that was
# killed, its last messages come again when this time is over.
HELD_S = 900
SHOWN_S = 60  # a dry run gives its messages back at its end; this is for one that was killed
WAIT_S = 2  # a receive that waits asks all servers of the queue, so an empty answer means that it is empty
READ_TIMEOUT_S = 60  # the functions run for 20 s at most, and a cold start comes before that
ROUND = 20  # so many messages in a row that we have had already: the rest of the queue is going round

A_REFUND = (
    "It is a refund, and after a restore its key may be unknown, so it may be paid a second time. If it was entered or is on the"
    " gateway's list, delete the message. When each refund in the queue was looked at, --refunds sends them."
)

FINAL = ("succeeded", "declined", "refused", "unknown", "kept")
QUEUE_HOST = re.compile(r"https://sqs(?:-fips)?\.([a-z0-9-]+)\.(?:amazonaws\.com(?:\.cn)?|api\.aws)/")
# Other errors of an invocation would meet every message, so they end the run.
OF_ONE_MESSAGE = {
    "ResourceNotFoundException",
    "InvalidRequestContentException",
    "InvalidParameterValueException",
    "RequestTooLargeException",
}
THROTTLED = re.compile(r"Throttl|TooManyRequests|LimitExceeded|SlowDown")

Client = Any  # boto3 ships no types


class WrongSetup(Exception):
    """AWS cannot be called with this environment. The message says why."""


@dataclass
class Queue:
    """The queue of failed invocations. Its methods raise Failed."""

    client: Client
    url: str
    held: dict[str, str] = field(default_factory=dict)
    """The receipts of the messages that we have and that are not deleted, by message id."""
    place: tuple[str, ...] = ()
    """Partition, region and account, in which the functions have to be."""

    def size(self) -> int:
        """Return about how many messages wait. Raises WrongSetup too, because this is the first call."""
        names = ["QueueArn", "ApproximateNumberOfMessages"]
        with _aws(first=True):
            found = self.client.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)["Attributes"]
        _, partition, _, region, account, *_ = found["QueueArn"].split(":")
        self.place = (partition, region, account)
        return int(found["ApproximateNumberOfMessages"])

    def receive(self, count: int, hidden_s: int, wait_s: int) -> list[dict[str, Any]]:
        with _aws():
            answer = self.client.receive_message(
                QueueUrl=self.url, MaxNumberOfMessages=count, VisibilityTimeout=hidden_s, WaitTimeSeconds=wait_s
            )
        messages: list[dict[str, Any]] = answer.get("Messages", [])
        self.held |= {message["MessageId"]: message["ReceiptHandle"] for message in messages}
        return messages

    def delete(self, message: dict[str, Any]) -> None:
        with _aws():
            self.client.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
        self.held.pop(message["MessageId"], None)

    def give_back(self) -> None:
        """Show the messages that we still have to the next run. If this fails, they come again by themselves, but later."""
        receipts = [*self.held.values()]
        self.held.clear()
        with contextlib.suppress(BotoCoreError, ClientError):
            for start in range(0, len(receipts), 10):
                entries = [
                    {"Id": str(number), "ReceiptHandle": receipt, "VisibilityTimeout": 0}
                    for number, receipt in enumerate(receipts[start : start + 10])
                ]
                self.client.change_message_visibility_batch(QueueUrl=self.url, Entries=entries)


@dataclass(frozen=True)
class Pace:
    """Keeps invocations apart. `clock` and `sleep` are those of the module time, unless a test has others."""

    per_second: float
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], object] = time.sleep

    def after(self, begun: float) -> None:
        if (rest := begun + 1 / self.per_second - self.clock()) > 0:
            self.sleep(rest)


def clients(queue_url: str) -> tuple[Client, Client]:
    """Return clients for the queue and for the functions, in the region that the address names. Raises WrongSetup."""
    found = QUEUE_HOST.match(queue_url)
    retries = {"mode": "standard", "total_max_attempts": 3}
    settings = Config(connect_timeout=5, read_timeout=READ_TIMEOUT_S, retries=retries, tcp_keepalive=True)
    try:
        session = boto3.session.Session(region_name=found[1] if found else None)
        return session.client("sqs", config=settings), session.client("lambda", config=settings)
    except (BotoCoreError, ValueError) as error:
        raise WrongSetup(_reason(error)) from None


def replacements(pairs: Iterable[str], place: tuple[str, ...]) -> dict[str, str]:
    """Return the new alias by the old one, from OLD=NEW. Raises WrongSetup. Both have to be in the queue's place."""
    found = {}
    for pair in pairs:
        old, _, new = pair.partition("=")
        for name in (old, new):
            alias = ALIAS.fullmatch(name)
            if not alias or alias.groups() != place:
                raise WrongSetup(f"{name or pair!r} is no ARN of an alias in the queue's account and region")
        found[old] = new
    return found


def redriven(
    queue: Queue,
    functions: Client,
    pace: Pace,
    *,
    limit: int | None,
    dry_run: bool,
    wait_s: int = WAIT_S,
    instead: Mapping[str, str] | None = None,
    refunds: bool = False,
) -> Generator[dict[str, Any]]:
    """Send up to `limit` invocations again, and yield what became of each message. Raises Failed when AWS fails.

    With `instead`, an invocation goes to the alias that replaces its own, and one without a replacement is left alone. So is a
    refund, unless `refunds` says that each was looked at: `payments compare` enters refunds without their idempotency keys, so
    the restored database does not know them again. A second capture or void is refused by the payment's status, and a payment
    by the order's.

    A message that failed again or that cannot be read stays in the queue, hidden until the end of the run, so that each one has
    its turn once. A dry run only reads. Close the iterator, so that the messages are shown again at once.
    """
    sent = repeated = 0
    begun: float | None = None
    seen, done = set[str](), set[str]()
    try:
        while limit is None or sent < limit:
            # The wait comes before the message: a message that waits here, held, would come again elsewhere.
            if begun is not None:
                pace.after(begun)
                begun = None
            # One at a time: after a kill only this one, and those that failed, are hidden for a while.
            messages = queue.receive(10, SHOWN_S, wait_s) if dry_run else queue.receive(1, HELD_S, wait_s)
            if not messages:
                return
            for message in messages:
                if limit is not None and sent >= limit:
                    return
                name = message["MessageId"]
                if name in seen:
                    repeated += 1
                    if name in done:  # the queue delivers at least once, and may show a deleted message again
                        queue.delete(message)
                    continue
                seen.add(name)
                repeated = 0
                try:
                    invocation = read(message.get("Body"), queue.place, instead)
                except Unreadable as error:
                    yield {"message_id": name, "result": "left_alone", "reason": str(error)}
                    continue
                if instead and not refunds and invocation.may_refund:
                    yield {"message_id": name, "result": "left_alone", "reason": A_REFUND} | invocation.refund_facts
                    continue
                sent += 1
                result = {"message_id": name, "result": "would_redrive"} | invocation.facts
                if not dry_run:
                    begun = pace.clock()
                    answer = invoke(functions, invocation)
                    result |= answer
                    if answer["result"] == "redriven":
                        queue.delete(message)
                        done.add(name)
                yield result
            if repeated >= ROUND:
                return
    finally:
        queue.give_back()


def invoke(functions: Client, invocation: Invocation) -> dict[str, Any]:
    """Invoke the function and wait for the answer. Return what to tell of it. Raises Failed when AWS fails."""
    payload = json.dumps(invocation.payload).encode()
    try:
        with _aws():
            answer = functions.invoke(FunctionName=invocation.function, InvocationType="RequestResponse", Payload=payload)
            text = answer["Payload"].read()
    except Failed as error:
        if error.problem["code"] in OF_ONE_MESSAGE:
            return {"result": "still_failing", "code": error.problem["code"]}
        raise
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        told = None
    told = told if isinstance(told, dict) else {}
    if answer.get("FunctionError"):
        return {"result": "still_failing", "code": _code_of_error(told)}
    outcome, body = told.get("outcome"), told.get("body")
    if outcome not in FINAL:  # another function has this name: its answer says nothing about the command
        return {"result": "still_failing", "code": "unexpected_answer"}
    body = body if isinstance(body, dict) else {}
    code = body.get("code") if outcome == "refused" else body.get("decline_code") or body.get("code")
    return {"result": "redriven", "outcome": outcome, "code": _word(code), "replayed": told.get("replayed") is True}


def total(results: Counter[str]) -> dict[str, int]:
    return {name: results[name] for name in ("redriven", "still_failing", "left_alone")}


def exit_code(results: Counter[str]) -> Exit:
    if results["still_failing"]:
        return Exit.UNAVAILABLE
    return Exit.REFUSED if results["left_alone"] else Exit.DONE


def _word(value: object) -> str | None:
    return value if isinstance(value, str) and re.fullmatch(r"[A-Za-z][A-Za-z0-9_.]{0,63}", value) else None


def _code_of_error(told: dict[str, Any]) -> str:
    """Return the code with which the service's message begins, or else the kind of error. The rest may quote the request."""
    message = told.get("errorMessage")
    begins = re.match(r"([a-z]+(?:_[a-z]+)+)(?::|$)", message) if isinstance(message, str) else None
    return begins[1] if begins else _word(told.get("errorType")) or "function_error"


@contextlib.contextmanager
def _aws(*, first: bool = False) -> Iterator[None]:
    """Turn the errors of boto3 into Failed, and on the first call, what is wrong with the environment into WrongSetup."""
    try:
        yield
    except ClientError as error:
        raise _refusal(error) from None
    except (HTTPClientError, NoConnection) as error:
        arrived = not isinstance(error, NoConnection)
        title, code = ("AWS did not answer", "no_answer") if arrived else ("AWS cannot be reached", "unreachable")
        raise Failed({"title": title, "detail": _reason(error), "code": code}, Exit.UNAVAILABLE) from None
    except BotoCoreError as error:
        if first:
            raise WrongSetup(_reason(error)) from None
        problem = {"title": "AWS cannot be called any more", "detail": _reason(error), "code": type(error).__name__}
        raise Failed(problem, Exit.UNAVAILABLE) from None


def _refusal(error: ClientError) -> Failed:
    answer, about = error.response.get("Error", {}), error.response.get("ResponseMetadata", {})
    code, status = str(answer.get("Code", "")), about.get("HTTPStatusCode", 0)
    detail = f"{error.operation_name}: {answer.get('Message') or code}"
    if error.operation_name == "Invoke" and code in OF_ONE_MESSAGE:
        detail = f"{error.operation_name}: {code}"  # AWS quotes a payload that it cannot read
    problem = {"title": "AWS refused a call", "detail": detail, "code": code, "request_id": about.get("RequestId")}
    may_pass = status >= 500 or status == HTTPStatus.TOO_MANY_REQUESTS or THROTTLED.search(code)
    return Failed(problem, Exit.UNAVAILABLE if may_pass else Exit.REFUSED)


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
