"""The commands. Each one turns its options into requests, and the answers into output and an exit code."""

import contextlib
import functools
import itertools
import sys
import tomllib
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from typer.completion import get_completion_script  # type: ignore[attr-defined]

from payments_cli import __version__, webhooks
from payments_cli import options as o
from payments_cli.deployment import local_run
from payments_cli.dialogue import confirm, moment, present, unsaid, usage
from payments_cli.errors import Exit, Failed, course
from payments_cli.money import format_amount, minor_digits, parse_amount
from payments_cli.session import Session, command_of, examples, session
from payments_cli.streams import say

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="""
Take, refund and look up payments. The commands use the service on this
machine, or the one that [bold]--url[/bold] names.

A PAYMENT is a payment id, a transaction id (txn_...) or an order id.
Each command has its own [bold]--help[/bold].
""",
    epilog="""
[bold]Examples[/bold]
  payments process order-1042 19.99 USD    take a payment
  payments show order-1042                 show it, with every status it had
  payments sync order-1042                 ask the gateway what became of it
  payments refund order-1042 5.00          refund a part of it
  payments list --status failed --from 2h  failures of the last two hours
  payments list --all --json > all.jsonl   every payment, for a script
  payments tail --type refunded            watch refunds as they happen
  payments redrive --dry-run               show the failed invocations
  payments webhooks add https://shop.example.com/events
                                           have events sent to you

[bold]Another deployment[/bold]
  export PAYMENTS_URL=https://payments.example.com
  export PAYMENTS_BEARER_TOKEN=...
  export PAYMENTS_KAFKA=broker.example.com:9092    only tail needs it

[bold]Exit codes[/bold]
    0  done
    1  refused: the service or AWS does not allow it, there is no such
       payment or webhook, redrive could not read a message, or you
       answered no
    2  the command line is wrong, and no money was moved
    3  declined by the gateway
    4  the outcome is not known yet; the service will settle it
    5  the service, Kafka or AWS failed or cannot be reached, or an
       invocation failed again
    6  an unforeseen error; it says whether the command may have been sent
    7  output failed: what you see is incomplete, or the idempotency key
       could not be shown and nothing was sent
  130  interrupted with Ctrl-C; tail ends with 0
  141  the reader of the output has gone, as in payments list | head

Once the service has answered process, refund, capture or void, only its
answer decides: 0, 1, 3, 4 or 5. Output that fails then changes nothing.
After 4, 5, 6 or 130, look the payment up, or repeat the command with the
same --idempotency-key: it takes effect at most once.

With --json, standard output holds only JSON: one object, or one a line for
list, tail, redrive and webhooks list. An error is one line of JSON on standard error.
""",
)


command = functools.partial(command_of, app)


@dataclass(frozen=True)
class Manner:
    """How a command on one payment is carried out. refund, capture and void have the same options for it."""

    order: o.IsOrder = False
    key: o.Key = None
    yes: o.Yes = False


@command(
    "process",
    o.MONEY,
    "payments process order-1042 19.99 USD",
    "payments process order-1043 1500 JPY --method paypal --manual",
    "payments process order-1044 --amount-minor 1999 --currency USD --json",
)
def process(
    this: Session,
    order_id: o.Order,
    amount: o.Price = None,
    amount_minor: o.AmountMinor = None,
    currency: o.Currency = None,
    method: o.PaidWith = "credit_card",
    payment_token: o.PaymentToken = None,
    manual: o.Manual = False,
    off_session: o.OffSession = False,
    return_url: o.ReturnUrl = None,
    customer: o.Customer = None,
    description: o.Description = None,
    metadata: o.Metadata = None,
    key: o.Key = None,
) -> None:
    """Take a payment for an order."""
    currency = currency and currency.upper()
    if amount_minor is None:
        amount_minor, currency = _amount(amount, currency) or usage("The AMOUNT is missing. Example: 19.99 USD")
    elif amount or not currency:
        usage("Use --amount-minor with --currency, and without an AMOUNT.")
    pairs = [pair.partition("=") for pair in metadata or ()]
    if not all(name and equals for name, equals, _ in pairs):
        usage("--metadata must be KEY=VALUE.")
    body = {
        "order_id": order_id,
        "amount": amount_minor,
        "currency": currency,
        "payment_method": method,
        "payment_token": payment_token,
        "capture_method": "manual" if manual else None,
        "off_session": off_session or None,
        "return_url": return_url,
        "customer_id": customer,
        "description": description,
        "metadata": {name: value for name, _, value in pairs} or None,
    }
    _carry_out(this, "process", body, key)


ON_PAYMENT = (Manner, session)


@command(
    "refund",
    o.MONEY,
    "payments refund order-1042",
    'payments refund order-1042 5.00 USD --reason "late parcel"',
    shares=ON_PAYMENT,
)
def refund(
    manner: Manner,
    this: Session,
    payment: o.Payment,
    amount: o.Amount = None,
    amount_minor: o.AmountMinor = None,
    reason: o.Reason = None,
) -> None:
    """Refund a captured payment: all that is left, or a part."""
    body = _confirmed_body(this, manner, "refund", payment, amount, amount_minor)
    _carry_out(this, "refund", body | {"reason": reason}, manner.key)


@command("capture", o.MONEY, "payments capture order-1043", "payments capture order-1043 900 JPY", shares=ON_PAYMENT)
def capture(
    manner: Manner, this: Session, payment: o.Payment, amount: o.Amount = None, amount_minor: o.AmountMinor = None
) -> None:
    """Capture an authorized payment: all of it, or a part. The rest is released."""
    _carry_out(this, "capture", _confirmed_body(this, manner, "capture", payment, amount, amount_minor), manner.key)


@command("void", o.MONEY, 'payments void order-1043 --reason "out of stock"', shares=ON_PAYMENT)
def void(manner: Manner, this: Session, payment: o.Payment, reason: o.Reason = None) -> None:
    """Void an authorized payment, or one that waits for its customer, so that no money is taken."""
    _carry_out(this, "void", _confirmed_body(this, manner, "void", payment) | {"reason": reason}, manner.key)


@command("sync", o.LOOK, "payments sync order-1042")
def sync(this: Session, payment: o.Payment, order: o.IsOrder = False) -> None:
    """Have the service ask the gateway about a payment now, and show the payment.

    The service asks about a payment at most once in 2 s. In between, it shows what it knows already.
    If the payment waits for its customer, you see what the customer's browser needs. Show it to nobody else.
    """
    _show_outcome(this, "sync", *this.api.sync(payment, is_order=order))


SHOW_REFUND = "payments show 019c139f-b5d8-7c0e-8f4a-6b1d92c4e035 --refund"


@command("show", o.LOOK, "payments show order-1042", "payments show txn_5f0c9b1d2e3a4b5c6d7e8f90 --utc", SHOW_REFUND)
def show(this: Session, payment: o.Payment, order: o.IsOrder = False, refund: o.IsRefund = False, utc: o.Utc = False) -> None:
    """Show a payment: amounts, refunds and every status it had.

    If an order has several payments, show the one that is not FAILED or VOIDED, or else the latest.
    `payments list --order` shows all of them.
    """
    if refund and order:
        usage("Use --order or --refund, not both.")
    from payments_cli import output

    clock = output.Clock(utc=utc)
    if refund:
        present(this.api.refund(payment), lambda it: output.refund_panel(it, clock), this.as_json)
        return
    found = this.api.payment(payment, is_order=order)
    history = this.api.all_of(found["payment_id"], "history")
    if found.get("has_more_refunds"):
        found |= {"refunds": this.api.all_of(found["payment_id"], "refunds"), "has_more_refunds": False}
    present(found | {"history": history}, lambda it: output.payment_panel(it, clock, it["history"]), this.as_json)


LIST_AMOUNTS = "payments list --customer customer-7 --amount-from '5.00 USD'"


@command(
    "list", o.LOOK, "payments list --status processing", "payments list --from 2026-01-31 --to 2026-02-01 --all", LIST_AMOUNTS
)
def list_(
    this: Session,
    order: o.OfOrder = None,
    customer: o.OfCustomer = None,
    status: o.InStatus = None,
    method: o.WithMethod = None,
    amount_from: o.AmountFrom = None,
    amount_to: o.AmountTo = None,
    currency: o.InCurrency = None,
    from_: o.From = None,
    to: o.To = None,
    limit: o.Limit = 20,
    everything: o.All = False,
    utc: o.Utc = False,
) -> None:
    """List payments, newest first.

    An AMOUNT is the one that the payment was asked for. It names its currency, or --currency does.
    A TIME is a date (2026-01-31), a date and time ('2026-01-31 14:30') or an age (90m, 2h, 7d).
    It is local time, unless it ends with Z or an offset such as +01:00.
    """
    currency = currency and currency.upper()
    range_: list[int | None] = []
    for text in (amount_from, amount_to):
        minor, currency = _amount(None if text is None else [text], currency) or (None, currency)
        range_.append(minor)
    filters = {
        "order_id": order,
        "customer_id": customer,
        "status": status,
        "payment_method": method,
        "currency": currency,
        "amount_from": range_[0],
        "amount_to": range_[1],
        "created_from": moment(from_, utc=utc),
        "created_to": moment(to, utc=utc),
    }
    given = {name: str(value) for name, value in filters.items() if value is not None}
    from payments_cli import output

    clock, page, is_first = output.Clock(utc=utc), dict[str, Any](), True
    for page in this.api.pages(given, None if everything else limit):
        if page["data"]:
            present(page["data"], functools.partial(output.payment_rows, clock=clock, header=is_first), this.as_json)
            is_first = False
    if is_first and not this.as_json:
        say("No payments.")
    if page["has_more"]:
        say("There are more payments. Use --limit N or --all.")


@app.command(
    rich_help_panel=o.LOOK, epilog=examples("payments tail --type failed --type refunded", "payments tail --order order-1042")
)
def tail(
    payment: o.OfPayment = None,
    order: o.OfOrder = None,
    types: o.OfTypes = None,
    from_beginning: o.FromBeginning = False,
    limit: o.EndAfter = None,
    utc: o.Utc = False,
    bootstrap_servers: o.Kafka = None,
    topic: o.Topic = None,
    kafka_config: o.KafkaConfig = None,
    as_json: o.Json = False,
) -> None:
    """Watch events as they reach Kafka, until Ctrl-C.

    Kafka may deliver an event more than once. A repeated event is marked as a duplicate.
    """
    try:
        config = tomllib.loads(kafka_config.read_text("utf-8")) if kafka_config else {}
    except (OSError, ValueError, RecursionError) as error:
        usage(f"{kafka_config} is not TOML: {error}")
    run = {} if bootstrap_servers else local_run()
    servers = bootstrap_servers or run.get("kafka_bootstrap_servers")
    if not servers:
        usage("No service runs on this machine. Name the Kafka servers with --bootstrap-servers or PAYMENTS_KAFKA.")
    topic = topic or run.get("topic") or "payments"
    from payments_cli import output
    from payments_cli.tail import events

    clock = output.Clock(utc=utc)

    def is_wanted(event: dict[str, Any]) -> bool:
        data = event["data"]
        return (
            payment in (None, data.get("payment_id"), data.get("transaction_id"))
            and order in (None, data.get("order_id"))
            and (not types or event["type"].removeprefix("payment.") in types)
        )

    try:
        # Closing ends the threads of kafka-python. After output that failed, Python would wait for them.
        with contextlib.closing(events(servers, topic, config, from_beginning=from_beginning, say=say)) as found:
            for event in itertools.islice(filter(is_wanted, found), limit):
                present(event, lambda it: output.event_line(it, clock), as_json, soft_wrap=True)
    except KeyboardInterrupt:
        pass  # Ctrl-C is the normal end of tail


@app.command(
    rich_help_panel=o.MONEY,
    epilog=examples("payments redrive --dry-run", "payments redrive --limit 1", "payments redrive --rate 10 --yes --json"),
)
def redrive(
    queue_url: o.QueueUrl = None,
    limit: o.SendAtMost = None,
    rate: o.Rate = 2,
    dry_run: o.DryRun = False,
    instead: o.Instead = None,
    refunds: o.Refunds = False,
    yes: o.Yes = False,
    as_json: o.Json = False,
) -> None:
    """Send invocations again that Lambda gave up and put into the queue FailedInvocations.

    Each one goes to the alias that it was for, with the same payload. Its
    message is deleted once the service has answered: succeeded, declined,
    refused, or unknown, which reconcile settles. What fails again, and what
    is no record of an invocation, stays in the queue.

    Nothing takes effect twice, and you may end the command at any moment: a
    message that was sent and not deleted comes again, as a replay. A refund,
    capture or void carries its key. For a payment without one, the service
    derives the key from the request.

    After a restore (--instead), the database does not know the keys of the
    refunds that payments compare entered, and could pay them a second time. So
    refunds are left alone, unless --refunds says that you looked at each one.

    It uses the credentials and the settings of the AWS SDK, and needs boto3.
    """
    if not queue_url:
        usage("Name the queue with --queue-url or PAYMENTS_FAILED_QUEUE: the stack's output FailedInvocationsUrl.")
    try:
        from payments_cli.redrive import Pace, Queue, WrongSetup, clients, exit_code, redriven, replacements, total
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in ("boto3", "botocore"):
            raise
        usage("redrive needs boto3. Install it with: pipx inject payments-cli boto3 (or: pipx install './cli[aws]')")
    try:
        sqs, functions = clients(queue_url)
        queue = Queue(sqs, queue_url)
        waiting = queue.size()
        others = replacements(instead or (), queue.place)
    except WrongSetup as error:
        usage(f"AWS cannot be called: {error}")
    if not (yes or dry_run) and sys.stdin.isatty():
        at_most = f"at most {limit} of " if limit else ""
        confirm(f"Send {at_most}about {waiting} failed invocations again?")
    from payments_cli import output

    results = Counter[str]()
    if not dry_run:
        course.again = "What is left in the queue can be sent again: what was carried out already is answered as a replay."
    try:
        # Closing gives the messages that stay in the queue back to the next run.
        with contextlib.closing(
            redriven(queue, functions, Pace(rate), limit=limit, dry_run=dry_run, instead=others, refunds=refunds)
        ) as found:
            for result in found:
                results[result["result"]] += 1
                present(result, output.redrive_line, as_json, soft_wrap=True)
    except Failed:
        present(total(results), output.counts_line, as_json)
        raise
    if dry_run:
        present({"would_redrive": results["would_redrive"], "left_alone": results["left_alone"]}, output.counts_line, as_json)
        return
    present(total(results), output.counts_line, as_json)
    raise typer.Exit(exit_code(results))


@app.command(
    rich_help_panel=o.MONEY,
    epilog=examples("payments compare gateway.csv", "payments compare gateway.csv --enter --yes --json"),
)
def compare(
    gateway_list: o.GatewayList,
    enter: o.Enter = False,
    cluster: o.ClusterArn = None,
    secret: o.SecretArn = None,
    database_url: o.DatabaseUrl = None,
    yes: o.Yes = False,
    as_json: o.Json = False,
) -> None:
    """Compare the gateway's list with a restored database.

    The list is CSV with a header, or JSON lines, with key, kind, amount,
    currency, transaction_id, at and perhaps result (approved, declined). The
    key is the idempotency key that the gateway got. The kind is charge,
    authorization, capture, void or refund; the amount is in the minor unit.
    The list has to be complete from its first line until now, with all kinds.
    What succeeded in the database in that time and is not on the list is
    shown as unlisted.

    With --enter, a capture, void or refund that the database lacks becomes an
    operation without an outcome, under its old key. Reconcile settles it, and
    the gateway moves no money a second time. A charge that the database lacks
    is for you to take back at the gateway. The exit code is 4 while there is
    work for reconcile, and 1 when there is work for you.
    """
    from payments_cli import output
    from payments_cli.compare import Comparison, Database
    from payments_cli.gateway_list import WrongList, movements

    try:
        listed = movements(gateway_list)
    except WrongList as error:
        usage(str(error))
    try:
        from payments_cli.books import DataApi, Postgres

        if database_url:
            database: Database = Postgres(database_url)
        elif cluster and secret:
            database = DataApi(cluster, secret)
        else:
            usage("Name the restored database: --cluster-arn and --secret-arn (the stack's outputs), or --database-url.")
    except ImportError as error:
        library = "pg8000" if database_url else "boto3"
        if (error.name or "").partition(".")[0] != library:
            raise
        usage(f"compare needs {library}. Install it with: pipx inject payments-cli {library}")
    if enter and not yes and sys.stdin.isatty():
        confirm("Have all functions that take payments been stopped, and shall what is missing be entered?")
    try:
        comparison = Comparison.of(database, listed)
    except WrongList as error:
        usage(str(error))
    counts = Counter[str]()
    for result in comparison.results(enter=enter):
        counts[result["result"]] += 1
        present(result, output.compare_line, as_json, soft_wrap=True)
    present({"agreed": comparison.agreed, **counts}, output.counts_line, as_json)
    if counts.keys() & {"take_back", "differs", "by_hand", "missing", "unlisted"}:
        raise typer.Exit(Exit.REFUSED)
    if counts:
        raise typer.Exit(Exit.UNKNOWN)


app.add_typer(webhooks.app, name="webhooks", rich_help_panel=o.SETUP)


@app.command(rich_help_panel=o.SETUP, epilog=examples("source <(payments completions bash)"))
def completions(shell: Annotated[o.Shell, typer.Argument(help="Your shell.")] = "bash") -> None:
    """Print a completion script. `payments --install-completion` installs it."""
    typer.echo(get_completion_script(prog_name="payments", complete_var="_PAYMENTS_COMPLETE", shell=shell))


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"payments {__version__}")
        raise typer.Exit


@app.callback()
def before_each_command(
    version: Annotated[  # noqa: ARG001 - its callback does the work
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    if any("\ud800" <= character <= "\udfff" for character in "".join(sys.argv)):
        usage("The arguments hold bytes that are no text in the terminal's encoding.")


def _confirmed_body(
    this: Session, manner: Manner, name: str, payment: str, amount: list[str] | None = None, amount_minor: int | None = None
) -> dict[str, Any]:
    """Return the body of a command on a payment, after the person at the terminal has confirmed it.

    We look the payment up only if we need its transaction, its currency or a text for the confirmation.
    """
    if amount and amount_minor is not None:
        usage("The amount is given twice. Use AMOUNT or --amount-minor.")
    confirms = not manner.yes and sys.stdin.isatty()
    if payment.startswith("txn_") and not manner.order and not amount and not confirms:
        return {"transaction_id": payment, "amount": amount_minor}
    found = this.api.payment(payment, is_order=manner.order)
    name_of_it = "transaction_id" if found["transaction_id"] else "payment_id"
    if not found["transaction_id"] and (when := _not_yet(name, found["status"])):
        detail = f"You can {name} it once {when} {found['payment_id']}"
        raise Failed(
            {"title": f"The payment is {found['status']}", "detail": detail, "code": "payment_state_conflict"}, Exit.REFUSED
        )
    currency = found["currency"]
    if amount and minor_digits(currency) is None:
        usage(f"{currency} is not in the list of currencies. Give the amount in its minor unit, with --amount-minor.")
    if words := _amount(amount, currency):
        amount_minor = words[0]
    if confirms:
        how_much = "all that is left" if amount_minor is None else format_amount(amount_minor, currency)
        whole = f"order {found['order_id']}, {format_amount(found['amount'], currency)}, {found['status']}"
        confirm(f"{name.capitalize()} {how_much} of {whole}?")
    return {name_of_it: found[name_of_it], "amount": amount_minor}


def _not_yet(name: str, status: str) -> str | None:
    """Return what has to happen first. Of a payment that is over, the service itself says why it refuses the command."""
    if status == "REQUIRES_ACTION":
        return None if name == "void" else "its customer has acted. Ask with: payments sync"
    return "the gateway has answered. Check with: payments show" if status in ("PENDING", "PROCESSING") else None


def _carry_out(this: Session, name: str, body: dict[str, Any], key: str | None) -> None:
    """Send the command and show its answer. We print the key first, so that the person can repeat a failed command."""
    from payments_cli import output

    if key is not None and not (key.isascii() and key.isprintable()):
        usage("--idempotency-key can hold only visible ASCII characters.")
    if key is None:
        key = str(uuid.uuid4())
        # Without the key, nobody could repeat the command safely if its outcome stays unknown.
        if not say(f"Idempotency key: {key}"):
            raise unsaid("The idempotency key", "Give the command a key of yours with --idempotency-key.")
    course.again = f"The outcome is not known. Repeat the command with --idempotency-key {key}: it takes effect at most once."
    try:
        answer, is_settled = this.api.command(name, {n: v for n, v in body.items() if v is not None}, key)
    except Failed as error:
        course.failed = error
        raise
    _show_outcome(this, name, answer, is_settled, output.refund_panel if name == "refund" else None)


def _show_outcome(
    this: Session, name: str, answer: dict[str, Any], is_settled: bool, panel: Callable[..., Any] | None = None
) -> None:
    from payments_cli import output

    course.told, course.answered = answer, Exit.DONE if is_settled else Exit.UNKNOWN
    payment, show = answer.get("payment_id", "PAYMENT"), panel or output.payment_panel
    if answer.get("status") == "REQUIRES_ACTION" and name in ("process", "sync"):
        say(f"The payment waits for its customer. Ask what became of it with: payments sync {payment}")
        if "next_action" not in answer:
            why = "it asked the gateway less than 2 s ago, or the gateway cannot say now"
            say(f"The service does not say what the customer needs: {why}. Sync again in 2 s.")
    elif not is_settled:
        say(f"The gateway has not answered yet, and the service keeps trying. Check with: payments show {payment}")
    present(answer, lambda it: show(it, output.Clock(utc=False)), this.as_json)
    raise typer.Exit(course.answered)


def _amount(words: list[str] | None, currency: str | None) -> tuple[int, str] | None:
    try:
        return parse_amount(" ".join(words), currency) if words else None
    except ValueError as error:
        usage(str(error))
