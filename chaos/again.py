"""The old stack's queue of failed invocations, which the operator of restore.py sends with `payments redrive --instead`."""

from __future__ import annotations

import asyncio
import io
import json
from collections import Counter
from typing import Any

from chaos.clients import Clients
from payments_cli import redrive

PLACE = ("aws", "us-east-1", "123456789012")
ALIASES = {
    (stack, function): f"arn:aws:lambda:us-east-1:123456789012:function:{stack}-{function}:direct"
    for stack in ("old", "new")
    for function in ("process", "refund")
}
INSTEAD = {ALIASES["old", function]: ALIASES["new", function] for function in ("process", "refund")}


class Sqs:
    """Holds the messages. A message that is not deleted is shown once, as to a run that hides what it has."""

    def __init__(self, bodies: dict[str, str]) -> None:
        self.left, self._unseen = bodies, [*bodies]

    def receive_message(self, *, MaxNumberOfMessages: int, **_: Any) -> dict[str, Any]:  # noqa: N803 - boto3's names
        shown, self._unseen = self._unseen[:MaxNumberOfMessages], self._unseen[MaxNumberOfMessages:]
        return {"Messages": [{"MessageId": name, "ReceiptHandle": name, "Body": self.left[name]} for name in shown]}

    def delete_message(self, *, ReceiptHandle: str, **_: Any) -> None:  # noqa: N803
        del self.left[ReceiptHandle]

    def change_message_visibility_batch(self, **_: Any) -> None:
        """The run is over."""


class Functions:
    """Lambda's Invoke: the new stack's environments carry the request out."""

    def __init__(self, clients: Clients, loop: asyncio.AbstractEventLoop, names: dict[str, str]) -> None:
        self._clients, self._loop, self._names = clients, loop, names

    def invoke(self, *, FunctionName: str, InvocationType: str, Payload: bytes) -> dict[str, Any]:  # noqa: N803
        name = self._names[json.loads(Payload)["traceparent"]]
        function, event = self._clients.event_of(name)
        if (FunctionName, InvocationType, json.loads(Payload)) != (ALIASES["new", function], "RequestResponse", event):
            raise RuntimeError(f"redrive changed the invocation {name}")
        ended = asyncio.run_coroutine_threadsafe(self._clients.repeat(name), self._loop).result()
        if ended.end != "answered":
            return {"FunctionError": "Unhandled", "Payload": _json({"errorMessage": ended.error, "errorType": ended.end})}
        return {"Payload": _json(ended.result)}


async def send(clients: Clients, names: list[str], *, refunds: bool) -> dict[str, int]:
    """Send these requests as the messages of the queue, and drop what stays in it. Return how many had which result."""
    bodies = {}
    for name in names:
        function, event = clients.event_of(name)
        context = {"functionArn": ALIASES["old", function], "condition": "RetriesExhausted"}
        bodies[name] = json.dumps({"requestContext": context, "requestPayload": event})
    traces = {clients.event_of(name)[1]["traceparent"]: name for name in names}
    sqs, loop = Sqs(bodies), asyncio.get_running_loop()
    queue = redrive.Queue(sqs, "old", place=PLACE)
    pace = redrive.Pace(1000)

    def run() -> Counter[str]:
        results = redrive.redriven(
            queue, Functions(clients, loop, traces), pace, limit=None, dry_run=False, wait_s=0, instead=INSTEAD, refunds=refunds
        )
        return Counter(f"{each.get('operation')} {each['result']}" for each in results)

    results = await asyncio.to_thread(run)
    for name in sqs.left:
        clients.drop(name)
    return dict(results)


def _json(value: object) -> io.BytesIO:
    return io.BytesIO(json.dumps(value).encode())
