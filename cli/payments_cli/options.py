"""The commands' arguments and options, and their allowed words."""

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from typer import Argument, BadParameter, Option

Method = Literal["credit_card", "debit_card", "paypal", "stripe"]
Status = Literal[
    "PENDING", "PROCESSING", "REQUIRES_ACTION", "AUTHORIZED", "CAPTURED", "PARTIALLY_REFUNDED", "REFUNDED", "FAILED", "VOIDED"
]
EventType = StrEnum(
    "EventType",
    "requires_action authorized successful failed refunded voided capture_failed refund_failed void_failed"
    " disputed dispute_closed refused",
)
# A webhook is told what becomes of payments. A refusal is no payment's, and is told on the topic alone.
WebhookType = StrEnum(
    "WebhookType",
    "requires_action authorized successful failed refunded voided capture_failed refund_failed void_failed"
    " disputed dispute_closed",
)
Shell = Literal["bash", "zsh", "fish"]

MONEY, LOOK, SETUP, WHERE = "Move money", "Look up", "Set up", "Deployment"  # panels of the help texts

Text = str | None


def _an_id(text: str) -> str:
    """Refuse a text that would call another route. A script's unset variable, for example, gives an empty text."""
    if text in ("", ".", ".."):
        raise BadParameter(f"{text!r} is not an id.")
    return text


def _no_bearer_token(text: str | None) -> str | None:
    """Refuse a JSON Web Token as the payment's token: the service would keep it with the payment."""
    if text and re.fullmatch(r"\s*(Bearer\s+)?eyJ[\w-]*\.[\w-]+\.[\w-]*\s*", text):
        raise BadParameter("This is a bearer token, which says who you are: --bearer-token.")
    return text


def _no_payment_token(text: str | None) -> str | None:
    """Refuse the gateway's token as the caller's: a service on this machine asks for none, so it would take the money."""
    if text and text.strip().startswith("tok_"):
        raise BadParameter("This is a payment token, which says what is charged: --payment-token.")
    return text


def _no_longer(text: str | None) -> None:
    """Refuse the bearer token's old option, and name the two that there are."""
    if text is not None:
        raise BadParameter(
            "Which token? --payment-token (PAYMENTS_PAYMENT_TOKEN) says what is charged, "
            "--bearer-token (PAYMENTS_BEARER_TOKEN) who you are."
        )


Payment = Annotated[str, Argument(metavar="PAYMENT", callback=_an_id, help="Payment id, transaction id (txn_...) or order id.")]
IsOrder = Annotated[bool, Option("--order", help="PAYMENT is an order id, even if it looks like another id.")]
IsRefund = Annotated[bool, Option("--refund", help="PAYMENT is a refund id. Show that refund alone.")]
Amount = Annotated[list[str] | None, Argument(metavar="AMOUNT", help="For example 5.00 or 5.00 USD. Default: all of it.")]
AmountMinor = Annotated[int | None, Option(metavar="N", help="The amount in the currency's minor unit: 500 for 5.00 USD.")]
Reason = Annotated[Text, Option(metavar="TEXT", help="The reason; the service keeps it with the payment.")]
Key = Annotated[
    Text,
    Option("--idempotency-key", metavar="KEY", help="Key of the command to repeat. Default: a new key, which is printed."),
]
Yes = Annotated[bool, Option("--yes", "-y", help="Do not ask for a confirmation. Without a terminal, nobody is asked.")]
Utc = Annotated[bool, Option("--utc", help="Use UTC instead of local time.")]
Json = Annotated[bool, Option("--json", help="Print JSON for scripts.")]

Order = Annotated[str, Argument(metavar="ORDER", help="Order id. The service takes at most one payment for an order.")]
Price = Annotated[list[str] | None, Argument(metavar="AMOUNT CURRENCY", help="For example 19.99 USD or 1500 JPY.")]
Currency = Annotated[Text, Option(metavar="CODE", help="Currency of --amount-minor.")]
PaidWith = Annotated[Method, Option(case_sensitive=False, help="Payment method.")]
PaymentToken = Annotated[
    Text,
    Option(
        envvar="PAYMENTS_PAYMENT_TOKEN",
        metavar="TOKEN",
        callback=_no_bearer_token,
        help="The gateway's token of the card. Never a card number.",
    ),
]
Manual = Annotated[bool, Option("--manual", help="Only authorize; capture it later.")]
OffSession = Annotated[bool, Option("--off-session", help="The customer is not there, and can confirm nothing.")]
ReturnUrl = Annotated[Text, Option(metavar="URL", help="Your page, to which the customer comes back after confirming.")]
Customer = Annotated[Text, Option(metavar="ID", help="Customer id.")]
Description = Annotated[Text, Option(metavar="TEXT", help="Description of the payment.")]
Metadata = Annotated[list[str] | None, Option(metavar="KEY=VALUE", help="Any other data to keep; may be repeated.")]

OfOrder = Annotated[Text, Option("--order", metavar="ORDER", help="Show only this order.")]
OfCustomer = Annotated[Text, Option("--customer", metavar="ID", help="Show only payments of this customer.")]
WithMethod = Annotated[Method | None, Option("--method", case_sensitive=False, help="Show only payments with this method.")]
InCurrency = Annotated[Text, Option("--currency", metavar="CODE", help="Show only payments in this currency.")]
AmountFrom = Annotated[Text, Option(metavar="AMOUNT", help="Show only payments of at least this amount, such as '5.00 USD'.")]
AmountTo = Annotated[Text, Option(metavar="AMOUNT", help="Show only payments of at most this amount.")]
InStatus = Annotated[Status | None, Option(case_sensitive=False, help="Show only payments that have this status now.")]
From = Annotated[Text, Option("--from", metavar="TIME", help="Show only payments made at this time or later.")]
To = Annotated[Text, Option(metavar="TIME", help="Show only payments made before this time.")]
Limit = Annotated[int, Option("--limit", "-n", metavar="N", min=1, help="Show at most N payments.")]
All = Annotated[bool, Option("--all", help="Show all payments.")]

OfPayment = Annotated[Text, Option("--payment", metavar="ID", help="Show only this payment id or transaction id.")]
OfTypes = Annotated[list[EventType] | None, Option("--type", help="Show only this type; may be repeated.")]
FromBeginning = Annotated[bool, Option("--from-beginning", help="Start with all events that the topic still holds.")]
EndAfter = Annotated[int | None, Option("--limit", "-n", metavar="N", min=1, help="End after N events.")]

Webhook = Annotated[str, Argument(metavar="WEBHOOK", callback=_an_id, help="Webhook id, or the address that events are sent to.")]
WebhookUrl = Annotated[str, Argument(metavar="URL", help="The https address to send events to.")]
About = Annotated[Text, Option("--description", metavar="TEXT", help="A text of your own, for people.")]
SentTypes = Annotated[
    list[WebhookType] | None, Option("--type", help="Send only this type; may be repeated. Default: all types, new ones too.")
]
EventId = Annotated[Text, Option("--event", metavar="ID", help="Send this event again. Its id is in the header webhook-id.")]
Since = Annotated[Text, Option("--from", metavar="TIME", help="Send events again that happened at this time or later.")]
Until = Annotated[Text, Option("--to", metavar="TIME", help="Send only events that happened before this time. Default: now.")]

QueueUrl = Annotated[
    Text, Option(envvar="PAYMENTS_FAILED_QUEUE", metavar="URL", help="The queue: the stack's output FailedInvocationsUrl.")
]
SendAtMost = Annotated[int | None, Option("--limit", "-n", metavar="N", min=1, help="Send at most N invocations.")]
Rate = Annotated[float, Option(metavar="PER_SECOND", min=0.01, max=1000, help="Send at most this many invocations a second.")]
DryRun = Annotated[bool, Option("--dry-run", help="Show what would be sent. Send and delete nothing.")]

Instead = Annotated[
    list[str] | None,
    Option(metavar="OLD=NEW", help="Invoke the alias NEW where a record names OLD, as after a restore; may be repeated."),
]
Refunds = Annotated[
    bool,
    Option("--refunds", help="With --instead: send refunds too, once you have looked at each one."),
]
GatewayList = Annotated[
    Path, Argument(metavar="LIST", exists=True, dir_okay=False, help="The gateway's list, from before the restored moment on.")
]
Enter = Annotated[bool, Option("--enter", help="Enter the captures, voids and refunds that the database lacks.")]
ClusterArn = Annotated[
    Text, Option("--cluster-arn", envvar="PAYMENTS_DATABASE_ARN", metavar="ARN", help="The stack's output DatabaseArn.")
]
SecretArn = Annotated[
    Text,
    Option("--secret-arn", envvar="PAYMENTS_DATABASE_SECRET_ARN", metavar="ARN", help="The stack's output DatabaseSecretArn."),
]
DatabaseUrl = Annotated[
    Text, Option("--database-url", envvar="PAYMENTS_DATABASE_URL", metavar="URL", help="Or a PostgreSQL of your own.")
]


def _file(envvar: str, about: str) -> Any:
    return Option(envvar=envvar, metavar="FILE", exists=True, dir_okay=False, help=about, rich_help_panel=WHERE)


Url = Annotated[
    Text, Option(envvar="PAYMENTS_URL", metavar="URL", help="The service. Default: this machine's.", rich_help_panel=WHERE)
]
BearerToken = Annotated[
    Text,
    Option(
        envvar="PAYMENTS_BEARER_TOKEN",
        metavar="TOKEN",
        callback=_no_payment_token,
        help="Your token, which says who you are. The variable is the safer place for it.",
        rich_help_panel=WHERE,
    ),
]
# The bearer token's option had this name: a payment token that was given here was not used, and the payment was taken without it.
Token = Annotated[Text, Option("--token", envvar="PAYMENTS_TOKEN", hidden=True, callback=_no_longer)]
ClientCertificate = Annotated[
    Path | None,
    _file("PAYMENTS_CLIENT_CERTIFICATE", "PEM file of your certificate, for a service that asks for one (mutual TLS)."),
]
ClientKey = Annotated[
    Path | None, _file("PAYMENTS_CLIENT_KEY", "PEM file of the certificate's private key. Default: the certificate's file.")
]
Owner = Annotated[Text, Option(metavar="NAME", help="Act as this owner. Local service only.", rich_help_panel=WHERE)]
Scopes = Annotated[
    Text,
    Option(metavar="SCOPES", help="Act with these scopes, such as payments/read. Local service only.", rich_help_panel=WHERE),
]
Retry = Annotated[
    bool, Option("--retry/--no-retry", help="Try again a few times if the service is unavailable.", rich_help_panel=WHERE)
]
Kafka = Annotated[
    Text,
    Option(envvar="PAYMENTS_KAFKA", metavar="HOST:PORT,...", help="Kafka. Default: this machine's.", rich_help_panel=WHERE),
]
Topic = Annotated[
    Text, Option(envvar="PAYMENTS_TOPIC", metavar="NAME", help="The topic. Default: payments.", rich_help_panel=WHERE)
]
KafkaConfig = Annotated[
    Path | None,
    _file("PAYMENTS_KAFKA_CONFIG", "TOML file with options of kafka-python's consumer, such as security_protocol = 'SSL'."),
]
