"""Output for people: panels, tables and lines, in colour on a terminal."""

import contextlib
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from payments_cli.money import format_amount
from payments_cli.options import EventType
from payments_cli.streams import plain

WIDE = 120  # a payment fits on one line of so many columns
STYLES = {
    "PENDING": "yellow",
    "PROCESSING": "yellow",
    "REQUIRES_ACTION": "yellow",
    "AUTHORIZED": "cyan",
    "CAPTURED": "green",
    "SUCCEEDED": "green",
    "PARTIALLY_REFUNDED": "magenta",
    "REFUNDED": "magenta",
    "FAILED": "red",
    "VOIDED": "bright_black",
    "ENABLED": "green",
    "FAILING": "yellow",
    "DISABLED": "red",
}


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    return Console(
        stderr=stderr,
        # In a pipe each payment has its own line, for grep.
        width=None if stream.isatty() or "COLUMNS" in os.environ else 200,
        color_system=None if os.environ.get("NO_COLOR") else "auto",
        # We show the customers' texts as they are.
        markup=False,
        emoji=False,
        highlight=False,
    )


out, err = _console(stderr=False), _console(stderr=True)


class Clock:
    """Formats the service's times (RFC 3339) in the local time zone, or in UTC."""

    def __init__(self, *, utc: bool) -> None:
        self._tzinfo: tzinfo | None = UTC
        self.zone = "UTC"
        if not utc:
            # TZ can name a zone that Python cannot use, or none that exists; the C library would show UTC under that name.
            with contextlib.suppress(KeyError, ValueError, OverflowError, OSError):
                name = os.environ.get("TZ", "").removeprefix(":")
                if "/" in name and not name.startswith("/"):
                    ZoneInfo(name)
                self.zone, self._tzinfo = plain(datetime.now().astimezone().tzname()) or "local time", None

    def show(self, at: str, form: str = "%Y-%m-%d %H:%M:%S") -> str:
        try:
            return datetime.fromisoformat(at).astimezone(self._tzinfo).strftime(form)
        except (ValueError, OverflowError, OSError):
            return at  # as of the year 1, which has no local time


def status(text: str, width: int = 0) -> Text:
    return Text(text.ljust(width), STYLES.get(text, ""))


def payment_panel(payment: dict[str, Any], clock: Clock, changes: list[dict[str, Any]] | None = None) -> Panel:
    """Return a panel of the payment and its refunds; with `changes`, also of its timeline."""
    facts = {
        "payment": payment["payment_id"],
        "transaction": payment["transaction_id"],
        "intent": payment["payment_intent_id"],
        "amount": _money(payment),
        "captured": payment["amount_captured"] and _money(payment, "amount_captured"),
        "refunded": payment["amount_refunded"] and _money(payment, "amount_refunded"),
        "refund pending": payment["amount_refund_pending"] and _money(payment, "amount_refund_pending"),
        "method": f"{payment['payment_method']}, {payment['capture_method']} capture",
        "waits for": payment["status"] == "REQUIRES_ACTION" and _action(payment.get("next_action"), clock),
        "declined": payment["decline_code"] and f"{payment['decline_code']}: {payment['error_message']}",
        "customer": payment["customer_id"],
        "description": payment["description"],
        "metadata": "\n".join(f"{name}={value}" for name, value in payment["metadata"].items()),
        "created": f"{clock.show(payment['created_at'])} {clock.zone}",
        "capture before": payment["capture_before"] and f"{clock.show(payment['capture_before'])} {clock.zone}",
    }
    parts: list[RenderableType] = [_grid(*facts.items())]
    if payment.get("refunds"):
        refunds = [
            (clock.show(r["created_at"]), status(r["status"]), f"{_money(r):>15}", r["decline_code"] or r["reason"], _origin(r))
            for r in payment["refunds"]
        ]
        parts += [Text("\nRefunds", "bold"), _grid(*refunds)]
    if payment.get("disputes"):
        disputes = [
            (
                clock.show(d["created_at"]),
                Text(d["outcome"] or d["status"], "bold"),
                f"{_money(d):>15}",
                d["reason"],
                f"evidence until {clock.show(d['due_by'])}" if d["due_by"] and not d["outcome"] else d["gateway_dispute_id"],
            )
            for d in payment["disputes"]
        ]
        parts += [Text("\nDisputes", "bold"), _grid(*disputes)]
    if changes:
        steps = [(clock.show(c["at"], "%Y-%m-%d %H:%M:%S.%f")[:-3], status(c["to"]), c["reason"]) for c in changes]
        parts += [Text(f"\nTimeline ({clock.zone})", "bold"), _grid(*steps)]
    return _panel(payment["status"], f"order {payment['order_id']}", *parts)


def _action(action: dict[str, Any] | None, clock: Clock) -> str:
    """Say what the customer does. The owner alone is told where, and a look-up tells nobody."""
    if not action:
        return "the customer, who has to confirm it"
    where = action.get("url") or "Stripe.js, with the client_secret that --json shows"
    until = f", until {clock.show(action['expires_at'])} {clock.zone}" if action.get("expires_at") else ""
    return f"the customer at {where}{until}"


def refund_panel(refund: dict[str, Any], clock: Clock) -> Panel:
    so_far = refund.get("payment_status") and f"{refund['payment_status']}, {_money(refund, 'amount_refunded')} refunded in all"
    facts = {
        "refund": refund["refund_id"],
        "amount": _money(refund),
        "reason": refund["reason"],
        "origin": _origin(refund),
        "payment": refund["payment_id"],
        "transaction": refund["transaction_id"],
        "status": so_far,
        "declined": refund["decline_code"],
        "created": f"{clock.show(refund['created_at'])} {clock.zone}",
    }
    return _panel(refund["status"], "refund", _grid(*facts.items()))


def _origin(refund: dict[str, Any]) -> str | None:
    return "made at the gateway" if refund.get("origin") == "gateway" else None


def payment_rows(payments: list[dict[str, Any]], clock: Clock, *, header: bool) -> Table:
    """Return a page of a list: one line for a payment if there is room, else two. Widths are fixed, so that pages line up."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", show_header=header, pad_edge=False)
    is_wide = out.width >= WIDE
    created, amount = f"created ({clock.zone})", "amount"
    columns = {created: 19, "payment": 36, "status": 18, amount: 17, "order": None}
    if not is_wide:
        columns = {"order\npayment": 36, f"status\n{created}": 20, (amount := "amount\nrefunded"): 17}
    for name, width in columns.items():
        table.add_column(name, width=width, overflow="fold", justify="right" if name == amount else "left")
    for p in payments:
        made, state = clock.show(p["created_at"]), status(p["status"])
        if is_wide:
            table.add_row(made, p["payment_id"], state, _taken(p), p["order_id"])
        else:
            refunded = [_money(p, "amount_refunded")] if p["amount_refunded"] else []
            money = "\n".join([_taken(p), *refunded])
            table.add_row(f"{p['order_id']}\n{p['payment_id']}", Text("\n").join([state, Text(made)]), money)
    return table


def event_line(event: dict[str, Any], clock: Clock) -> Text:
    """Return one line: time, type, amount, the payment's status, its id if there is room, and its order."""
    payment = event["data"]
    begin = [
        Text(clock.show(event["time"], "%H:%M:%S"), "bright_black"),
        Text(event["type"].removeprefix("payment.").ljust(max(map(len, EventType)))),
    ]
    end = [Text("duplicate", "yellow")] if event["duplicate"] else []
    if event["type"] == "payment.refused":  # perhaps before there was a payment
        return Text("  ").join([*begin, Text(payment["code"]), Text(payment["order_id"] or "no order"), *end])
    about = payment.get("refund") or payment.get("dispute")
    return Text("  ").join(
        [
            *begin,
            Text((_money(about) if about else _taken(payment)).rjust(15)),
            status(payment["status"], 18),
            *([Text(payment["payment_id"])] if out.width >= WIDE else []),
            Text(payment["order_id"]),
            *end,
        ]
    )


def webhook_panel(webhook: dict[str, Any], clock: Clock) -> Panel:
    def at(name: str) -> str | None:
        return webhook[name] and f"{clock.show(webhook[name])} {clock.zone}"

    facts = {
        "webhook": webhook["webhook_id"],
        "events": ", ".join(each.removeprefix("payment.") for each in webhook["event_types"] or ["all"]),
        "description": webhook["description"],
        "created": at("created_at"),
        "waiting": webhook["waiting"],
        "given up": webhook["failed"],
        "failing since": at("failing_since"),
        "last error": webhook["last_error"],
        "disabled": at("disabled_at"),
        "reason": webhook["disabled_reason"],
        "earlier secret": webhook["previous_until"] and f"signs too until {at('previous_until')}",
    }
    return _panel(_state(webhook), webhook["url"], _grid(*facts.items()))


def webhook_rows(webhooks: list[dict[str, Any]]) -> Table:
    """Return a line for each webhook if there is room, else two."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    is_wide = out.width >= WIDE
    for name in (
        ("webhook", "status", "waiting", "given up", "url") if is_wide else ("webhook\nurl", "status", "waiting\ngiven up")
    ):
        table.add_column(name, overflow="fold")
    for each in webhooks:
        state, counts = status(_state(each)), (str(each["waiting"]), str(each["failed"]))
        if is_wide:
            table.add_row(each["webhook_id"], state, *counts, each["url"])
        else:
            table.add_row(f"{each['webhook_id']}\n{each['url']}", state, "\n".join(counts))
    return table


def _state(webhook: dict[str, Any]) -> str:
    return "DISABLED" if webhook["disabled_at"] else "FAILING" if webhook["failing_since"] else "ENABLED"


FINDS_A_REFUND = ("order_id", "payment_id", "transaction_id", "amount")


def redrive_line(result: dict[str, Any]) -> Text:
    """Return one line: what became of the message, its id, and what it asked for."""
    kind = result["result"]
    style = {"redriven": "green", "still_failing": "red", "left_alone": "yellow"}.get(kind, "")
    begin = [Text(kind.replace("_", " ").ljust(len("would redrive")), style), Text(result["message_id"])]
    if kind == "left_alone":
        known = [f"{name} {result[name]}" for name in FINDS_A_REFUND if result.get(name) is not None]
        return Text("  ").join([*begin, *map(Text, known), Text(result["reason"])])
    words = [result["function"].partition(":function:")[2], *(result[name] for name in ("operation", "order_id"))]
    words.append(result["idempotency_key"] and f"key {result['idempotency_key']}")
    words += [result.get("outcome"), result.get("code"), "replayed" if result.get("replayed") else None]
    return Text("  ").join([*begin, *(Text(word) for word in words if word)])


def compare_line(result: dict[str, Any]) -> Text:
    """Return one line: what is to be done about a movement at the gateway, the movement, and why."""
    style = {"entered": "green", "open": "cyan", "waits": "cyan"}.get(result["result"], "yellow")
    money = format_amount(result["amount"], result["currency"])
    words = (result["kind"], money, result["transaction_id"], f"key {result['key']}", result["detail"])
    return Text("  ").join([Text(result["result"].replace("_", " ").ljust(9), style), *map(Text, words)])


def counts_line(counts: dict[str, int]) -> Text:
    return Text(", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items()))


def problem_text(problem: Mapping[str, Any]) -> Group:
    """Return a problem document as text: what went wrong, what to do, and the ids that support needs."""
    names = ("code", "decline_code", "advice_code", "payment_id", "payment_status", "refund_id", "amount_available", "request_id")
    minor = problem.get("amount_available")
    readable = {**problem, "amount_available": None if minor is None else f"{minor} in the currency's minor unit"}
    facts = [(name, readable.get(name)) for name in names]
    wrong_fields = [(error["location"], error["message"]) for error in problem.get("errors", ())]
    detail = Text(problem.get("detail", ""))
    return Group(
        Text(problem["title"], "bold red"), Padding(Group(detail, _grid(*wrong_fields, *facts)), (0, 0, 0, 2), expand=False)
    )


def _taken(payment: dict[str, Any]) -> str:
    """Return the captured amount, which may be less than the authorized one; before the capture, the requested amount."""
    return _money(payment, "amount_captured" if payment.get("amount_captured") else "amount")


def _money(thing: dict[str, Any], name: str = "amount") -> str:
    return format_amount(thing[name], thing["currency"])


def _panel(state: str, subject: str, *parts: RenderableType) -> Panel:
    title = Text.assemble((state, f"bold {STYLES.get(state, '')}"), f"  {subject}")
    return Panel(Group(*parts), title=title, title_align="left", padding=(1, 2), expand=False)


def _grid(*rows: tuple[Any, ...]) -> Table:
    """Return columns without lines. Leave out a row that has only a name."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bright_black", no_wrap=True)
    for row in rows:
        if any(row[1:]):
            grid.add_row(*(cell if isinstance(cell, Text) else "" if cell is None else str(cell) for cell in row))
    return grid
