"""`make demo`: send sample payments, captures, voids and refunds to the running service, and show their events.

The demo finds the service in $DATA_DIR/run.json; URL, KAFKA_BOOTSTRAP_SERVERS and KAFKA_TOPIC name another one. It exits with
status 1 if a request failed, or if a separate consumer process or a webhook did not get an expected event in time. A service
that does not send to this machine is tried without a webhook.
"""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.progress import track
from rich.table import Table

from local import events
from local.receiver import Receiver, Seen
from payments.domain.money import format_amount

AT_ONCE = 4  # payments in flight, so that the workers scale out
SETTLE_TIMEOUT_S = 30  # an unknown outcome settles locally in 1 to 2 s; this allows for several more attempts
EVENTS_TIMEOUT_S = 20  # the relay publishes waiting events every second; it needs a few seconds to find a restarted broker
WEBHOOK = "a receiver of make demo"  # the webhook's description, by which a later demo finds what a killed one left
REQUEST_TIMEOUT_S = 35  # longer than API Gateway would wait (30 s)

OPEN = ("PROCESSING", "REQUIRES_ACTION")

# A payment that has the timestamp must have the event.
EVENT_OF = {
    "authorized_at": "payment.authorized",
    "captured_at": "payment.successful",
    "failed_at": "payment.failed",
    "voided_at": "payment.voided",
}


@dataclass(frozen=True)
class Sample:
    payment_method: str
    amount: int  # in the currency's minor unit
    currency: str
    payment_token: str = "tok_ok"
    capture_method: str = "automatic"
    then: tuple[tuple[str, dict[str, Any]], ...] = ()  # further commands, each with its fields


@dataclass
class Result:
    payment: dict[str, Any] = field(default_factory=dict)  # as the service shows it at the end
    waited: bool = False  # for the customer
    declined: Counter[str] = field(default_factory=Counter)  # further commands that the gateway declined
    problems: list[str] = field(default_factory=list)

    @property
    def owed(self) -> Counter[str]:
        """Return how many events of each type the payment must have."""
        refunds = [each for each in self.payment.get("refunds", ()) if each["status"] == "SUCCEEDED"]
        done = Counter([name for at, name in EVENT_OF.items() if self.payment.get(at)] + ["payment.refunded"] * len(refunds))
        done += Counter(["payment.requires_action"] * self.waited)
        return done + Counter({f"payment.{command}_failed": times for command, times in self.declined.items()})


FULL_REFUND = (("refund", {"reason": "returned"}),)
TWO_REFUNDS = (("refund", {"amount": 500}), ("refund", {"amount": 250}))
SAMPLES = [
    Sample(method, amount, currency, then=then)
    for method, then in (("credit_card", ()), ("debit_card", FULL_REFUND), ("paypal", TWO_REFUNDS), ("stripe", ()))
    for amount, currency in ((1999, "USD"), (4950, "EUR"), (3000, "JPY"), (12500, "KWD"))
] + [
    Sample("credit_card", 25000, "USD", "tok_insufficient_funds"),
    Sample("debit_card", 8900, "EUR", "tok_expired_card"),
    Sample("credit_card", 120000, "JPY", "tok_stolen_card"),
    Sample("stripe", 64000, "KWD", "tok_processing_error"),
    Sample("credit_card", 7700, "EUR", "tok_timeout_then_captured"),
    Sample("debit_card", 6400, "EUR", "tok_requires_action"),
    Sample("credit_card", 31500, "USD", capture_method="manual", then=(("capture", {}),)),
    Sample("debit_card", 15000, "EUR", capture_method="manual", then=(("capture", {"amount": 9000}), *FULL_REFUND)),
    Sample("credit_card", 9900, "USD", capture_method="manual", then=(("void", {"reason": "out of stock"}),)),
    Sample("debit_card", 5400, "USD", "tok_refund_declined", then=FULL_REFUND),
    Sample("credit_card", 8800, "EUR", "tok_capture_declined", "manual", then=(("capture", {}), ("void", {}))),
]


class Caller(Protocol):
    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]: ...


class Service:
    def __init__(self, url: str) -> None:
        self._url = url
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # the service is on this machine: no proxy

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        headers = {"Content-Type": "application/json", "Idempotency-Key": str(uuid.uuid4())} if body is not None else {}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, headers, method=method)  # noqa: S310 - the service's own URL
        try:
            with self._opener.open(request, timeout=REQUEST_TIMEOUT_S) as answer:
                return answer.status, json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def run(self, sample: Sample, order_id: str) -> Result:
        """Send the sample's payment, then its further commands."""
        result = Result()
        body = {key: value for key, value in vars(sample).items() if key != "then"} | {"order_id": order_id}
        status, answer = self.call("POST", "/api/v1/payments/process", body)
        if status not in (201, 202, 402):
            result.problems.append(f"process: {status} {answer.get('code', answer.get('message'))}")
            return result
        payment_id = answer["payment_id"]
        result.waited = answer["status"] == "REQUIRES_ACTION"
        if result.waited:
            self.act(answer["next_action"], payment_id)
        self.settled(payment_id)
        for command, fields in sample.then:
            status, answer = self.call("POST", f"/api/v1/payments/{command}", {"order_id": order_id, **fields})
            if status == 402:
                result.declined[command] += 1
            elif status not in (200, 201):
                result.problems.append(f"{command}: {status} {answer.get('code', answer.get('message'))}")
        result.payment = self.settled(payment_id)
        return result

    def act(self, next_action: dict[str, Any], payment_id: str) -> None:
        """Approve at the simulated gateway's page, as the customer would. Where there is no page, the customer leaves."""
        if next_action["type"] == "redirect":
            with self._opener.open(next_action["url"], b"action=approve", timeout=REQUEST_TIMEOUT_S):
                self.call("POST", "/api/v1/payments/sync", {"payment_id": payment_id})
        else:
            self.call("POST", "/api/v1/payments/void", {"payment_id": payment_id, "reason": "the customer left"})

    def settled(self, payment_id: str) -> dict[str, Any]:
        """Wait until the payment has an outcome, at most SETTLE_TIMEOUT_S, and return it; {} if it was never found."""
        deadline = time.monotonic() + SETTLE_TIMEOUT_S
        while True:
            status, payment = self.call("GET", f"/api/v1/payments/payment/{payment_id}")
            if status == 200 and (payment["status"] not in OPEN or time.monotonic() > deadline):
                return payment
            if time.monotonic() > deadline:
                return {}
            time.sleep(0.2)


class Consumer(Seen):
    """A separate process that reads the topic."""

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        super().__init__()
        command = [sys.executable, "-m", "local.demo", "--consume", bootstrap_servers, topic]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        self._process.stdout.readline()  # the process writes a line when it stands at the end of the topic
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in self._process.stdout or ():
            self.add(*json.loads(line))

    def close(self) -> None:
        self._process.communicate()


def consume(bootstrap_servers: str, topic: str) -> None:
    stop = threading.Event()

    def stop_with_the_demo() -> None:
        sys.stdin.read()
        stop.set()

    threading.Thread(target=stop_with_the_demo, daemon=True).start()
    for event in events.read(bootstrap_servers, topic, stop, from_beginning=False, on_ready=lambda: print("ready", flush=True)):
        if event.type != events.REFUSED:
            print(json.dumps([event.payment["payment_id"], event.event_id, event.type, event.sequence]), flush=True)


@contextlib.contextmanager
def webhook(service: Caller, say: Callable[[str], object]) -> Iterator[Receiver | None]:
    """Register a receiver of our own, and give it. None if the service does not send to this machine: then say why."""
    _, found = service.call("GET", "/api/v1/webhooks")
    for left in found.get("data", ()):
        if left["description"] == WEBHOOK and left["failing_since"]:
            service.call("DELETE", f"/api/v1/webhooks/{left['webhook_id']}")
    with contextlib.closing(Receiver()) as receiver:
        status, made = service.call("POST", "/api/v1/webhooks", {"url": receiver.url, "description": WEBHOOK})
        if status != 201:
            say(f"No webhook was registered: {status} {made.get('code', made.get('message'))}.")
            yield None
            return
        receiver.believe(made["secret"])
        try:
            yield receiver
        finally:
            with contextlib.suppress(OSError):  # the service may be gone
                service.call("DELETE", f"/api/v1/webhooks/{made['webhook_id']}")


def running_service() -> tuple[str, str, str]:
    """Return the service's URL, its bootstrap servers and its topic. Raises KeyError or OSError if none runs."""
    run: dict[str, Any] = {"topic": "payments"}
    with contextlib.suppress(OSError, ValueError):
        run |= json.loads((Path(os.environ.get("DATA_DIR") or ".local") / "run.json").read_text())
    settings = (("URL", "url"), ("KAFKA_BOOTSTRAP_SERVERS", "kafka_bootstrap_servers"), ("KAFKA_TOPIC", "topic"))
    url, bootstrap_servers, topic = (os.environ.get(variable) or run[key] for variable, key in settings)
    Service(url).call("GET", "/health")
    return url, bootstrap_servers, topic


def main() -> int:
    console = Console()
    try:
        url, bootstrap_servers, topic = running_service()
    except (KeyError, OSError):
        console.print("The service is not running here. Start it in another terminal: make run", style="red")
        return 1
    if not events.has_topic(bootstrap_servers, topic):
        console.print(f"The Kafka at {bootstrap_servers} does not answer or has no topic {topic}.", style="red")
        return 1
    service, consumer = Service(url), Consumer(bootstrap_servers, topic)
    with contextlib.closing(consumer), webhook(service, console.print) as receiver:
        return play(service, consumer, receiver, console)


def play(service: Service, consumer: Consumer, receiver: Receiver | None, console: Console) -> int:
    """Send the samples, wait for their events, and tell how it went. Return the exit status."""
    order = f"demo-{uuid.uuid4().hex[:6]}"
    try:
        with ThreadPoolExecutor(AT_ONCE) as threads:
            running = [threads.submit(service.run, sample, f"{order}-{n:02}") for n, sample in enumerate(SAMPLES, 1)]
            results = [each.result() for each in track(running, "Payments", console=console)]
    except OSError as error:
        console.print(f"The service stopped answering: {error}", style="red")
        return 1
    paid = [result for result in results if result.payment]
    everybody: list[Seen] = [consumer, *([receiver] if receiver else [])]

    def lacking(seen: Seen) -> list[Result]:
        return [result for result in paid if result.owed - seen.types(result.payment["payment_id"])]

    deadline = time.monotonic() + EVENTS_TIMEOUT_S
    while time.monotonic() < deadline and any(map(lacking, everybody)):
        time.sleep(0.1)
    console.print(payments_table(results, consumer), "", events_table(paid, consumer, receiver), "")
    gaps = [r for r in paid if consumer.sequence(r.payment["payment_id"]) != list(range(1, r.owed.total() + 1))]
    problems = [problem for result in results for problem in result.problems]
    is_well = True
    if (missing := lacking(consumer)) or gaps or problems:
        console.print(f"{len(problems)} requests failed. Of {len(paid)} payments, {len(missing)} lack an event", style="red")
        console.print(f"after {EVENTS_TIMEOUT_S} s, and {len(gaps)} have a gap in their events' numbers.", style="red")
        is_well = False
    else:
        console.print("Every payment's events arrived, numbered without a gap.", style="green")
    if receiver:
        mixed = [r for r in paid if receiver.arrivals(r.payment["payment_id"]) != list(range(1, r.owed.total() + 1))]
        if (missing := lacking(receiver)) or mixed or receiver.refused:
            console.print(f"Of {len(paid)} payments, {len(missing)} lack an event at the webhook, and {len(mixed)}", style="red")
            console.print(f"have them in another order. {receiver.refused} requests had no valid signature.", style="red")
            is_well = False
        else:
            console.print("The webhook got them too, each payment's in order and with valid signatures.", style="green")
    return 0 if is_well else 1


def payments_table(results: list[Result], consumer: Consumer) -> Table:
    table = Table("", "method", "amount", "status", "refunded", "events", title="Payments", box=None)
    for number, (sample, result) in enumerate(zip(SAMPLES, results, strict=True), 1):
        payment = result.payment
        refunded = payment.get("amount_refunded")
        table.add_row(
            str(number),
            sample.payment_method,
            format_amount(sample.amount, sample.currency),
            " ".join([payment.get("status", ""), payment.get("decline_code") or "", *result.problems]),
            format_amount(refunded, sample.currency) if refunded else "",
            " ".join(f"#{each}" for each in consumer.sequence(payment.get("payment_id", ""))),
        )
    return table


def events_table(paid: list[Result], consumer: Seen, receiver: Seen | None) -> Table:
    told = {"seen by a separate consumer": consumer} | ({"sent to a webhook": receiver} if receiver else {})
    table = Table("event", "expected", *told, box=None)
    owed: Counter[str] = sum((result.owed for result in paid), Counter())
    seen = [sum((each.types(result.payment["payment_id"]) for result in paid), Counter[str]()) for each in told.values()]
    for kind in sorted(set(owed).union(*seen)):
        table.add_row(kind, str(owed[kind]), *(str(counted[kind]) for counted in seen))
    return table


if __name__ == "__main__":
    if sys.argv[1:2] == ["--consume"]:
        consume(*sys.argv[2:])
    else:
        sys.exit(main())
