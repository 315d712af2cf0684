"""Arguments and options that several commands have, and the words that may be chosen from."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, BadParameter, Option

Method = Literal["credit_card", "debit_card", "paypal", "stripe"]
Status = Literal["PENDING", "PROCESSING", "AUTHORIZED", "CAPTURED", "PARTIALLY_REFUNDED", "REFUNDED", "FAILED", "VOIDED"]
EventType = StrEnum("EventType", ["authorized", "successful", "failed", "refunded", "voided"])
Shell = Literal["bash", "zsh", "fish"]

MONEY, LOOK, SETUP, WHERE = "Move money", "Look up", "Set up", "Deployment"  # panels of the help texts

Text = str | None


def _an_id(text: str) -> str:
    """What a script's unset variable leaves is none, and these would be another route's path."""
    if text in ("", ".", ".."):
        raise BadParameter(f"{text!r} is no id.")
    return text


Payment = Annotated[str, Argument(metavar="PAYMENT", callback=_an_id, help="Payment id, transaction id (txn_...) or order id.")]
IsOrder = Annotated[bool, Option("--order", help="PAYMENT is an order id, even if it looks like another.")]
Amount = Annotated[list[str] | None, Argument(metavar="AMOUNT", help="Such as 5.00 or 5.00 USD. All of it by default.")]
AmountMinor = Annotated[int | None, Option(metavar="N", help="The amount in the currency's minor unit: 500 for 5.00 USD.")]
Reason = Annotated[Text, Option(metavar="TEXT", help="Why; kept with the payment.")]
Key = Annotated[Text, Option("--idempotency-key", metavar="KEY", help="To repeat an earlier command. A fresh one is printed.")]
Yes = Annotated[bool, Option("--yes", "-y", help="Do not ask. Nothing is asked unless a terminal is there.")]
Utc = Annotated[bool, Option("--utc", help="Times in UTC instead of local time.")]
Json = Annotated[bool, Option("--json", help="JSON for scripts.")]

Order = Annotated[str, Argument(metavar="ORDER", help="Order id. An order is paid once at most.")]
Price = Annotated[list[str] | None, Argument(metavar="AMOUNT CURRENCY", help="Such as 19.99 USD or 1500 JPY.")]
Currency = Annotated[Text, Option(metavar="CODE", help="Currency of --amount-minor.")]
PaidWith = Annotated[Method, Option(case_sensitive=False, help="How it is paid.")]
PaymentToken = Annotated[
    Text, Option(envvar="PAYMENTS_PAYMENT_TOKEN", metavar="TOKEN", help="The gateway's token of the card. Never a card number.")
]
Manual = Annotated[bool, Option("--manual", help="Authorize only; take it later with capture.")]
Customer = Annotated[Text, Option(metavar="ID", help="Customer id.")]
Description = Annotated[Text, Option(metavar="TEXT", help="What it is for.")]
Metadata = Annotated[list[str] | None, Option(metavar="KEY=VALUE", help="Anything else to keep; may be repeated.")]

OfOrder = Annotated[Text, Option("--order", metavar="ORDER", help="Those of this order.")]
InStatus = Annotated[Status | None, Option(case_sensitive=False, help="Those that are in this status now.")]
From = Annotated[Text, Option("--from", metavar="TIME", help="Those made at this time or later.")]
To = Annotated[Text, Option(metavar="TIME", help="Those made before this time.")]
Limit = Annotated[int, Option("--limit", "-n", metavar="N", min=1, help="So many at most.")]
All = Annotated[bool, Option("--all", help="All of them, however many.")]

OfPayment = Annotated[Text, Option("--payment", metavar="ID", help="Those of this payment id or transaction id.")]
OfTypes = Annotated[list[EventType] | None, Option("--type", help="Those of this type; may be repeated.")]
FromBeginning = Annotated[bool, Option("--from-beginning", help="First all that the topic still holds.")]
EndAfter = Annotated[int | None, Option("--limit", "-n", metavar="N", min=1, help="End after so many.")]

Url = Annotated[
    Text, Option(envvar="PAYMENTS_URL", metavar="URL", help="The service, if not this machine's own.", rich_help_panel=WHERE)
]
Token = Annotated[
    Text, Option(envvar="PAYMENTS_TOKEN", metavar="TOKEN", help="Bearer token; safer in the variable.", rich_help_panel=WHERE)
]
Owner = Annotated[Text, Option(metavar="NAME", help="Act as this owner. Local service only.", rich_help_panel=WHERE)]
Scopes = Annotated[
    Text, Option(metavar="SCOPES", help="Act with these, such as payments/read. Local service only.", rich_help_panel=WHERE)
]
Retry = Annotated[
    bool, Option("--retry/--no-retry", help="Try again, a few times, while the service is away.", rich_help_panel=WHERE)
]
Kafka = Annotated[
    Text,
    Option(envvar="PAYMENTS_KAFKA", metavar="HOST:PORT,...", help="Kafka, if not this machine's own.", rich_help_panel=WHERE),
]
Topic = Annotated[
    Text, Option(envvar="PAYMENTS_TOPIC", metavar="NAME", help="The topic, if not payments.", rich_help_panel=WHERE)
]
KafkaConfig = Annotated[
    Path | None,
    Option(
        envvar="PAYMENTS_KAFKA_CONFIG",
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="TOML with options of kafka-python's consumer, such as security_protocol = 'SSL'.",
        rich_help_panel=WHERE,
    ),
]
