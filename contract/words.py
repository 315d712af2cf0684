"""What the documents say about each member and each value: the words that the shipped code does not carry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from payments.api.answers import HTTP_STATUS
from payments.commands.catalog import COMMANDS
from payments.commands.process import ProcessRequest
from payments.domain.currencies import MINOR_UNIT_DIGITS
from payments.domain.declines import DECLINE_MESSAGES, KNOWN_DECLINES
from payments.domain.dispute import DisputeOutcome
from payments.domain.payment import PaymentStatus
from payments.domain.refund import Origin, RefundStatus


@dataclass(frozen=True)
class Vocabulary:
    """The known values of a member, with their meanings as far as they need any."""

    description: str
    meanings: Mapping[str, str | None]


_CONFIDENTIAL = "Only the scope `payments/admin` sees this; others see `generic_decline`."
DECLINES = {
    "insufficient_funds": "The account does not have enough money, or the card has reached its limit.",
    "card_declined": "The issuer declined the card and gave no reason.",
    "expired_card": "The card has expired.",
    "incorrect_cvc": "The card's security code is wrong.",
    "processing_error": "The gateway or the issuer failed while it processed the card.",
    "lost_card": f"The card was reported lost. {_CONFIDENTIAL}",
    "stolen_card": f"The card was reported stolen. {_CONFIDENTIAL}",
    "fraudulent": f"The payment is suspected to be fraud. {_CONFIDENTIAL}",
    "generic_decline": "The bank or the gateway declined it, for a reason that callers must not learn, or that has no code here.",
    "authentication_required": "The customer's bank asks the customer to confirm the payment. The request says `off_session`: "
    "the customer is not there.",
    "action_expired": "The customer did not confirm the payment in time. It is VOIDED, and the order can be paid anew.",
    "payment_canceled": "The payment was canceled before the customer confirmed it: by a void, or at the gateway. It is VOIDED.",
    "payment_intent_authentication_failure": "The customer did not pass the bank's check (3-D Secure), or turned it down.",
    "amount_too_small": "The gateway does not take so small an amount.",
    "charge_already_refunded": "The gateway has given all of the payment back already.",
    "charge_disputed": "The customer disputes the payment at the bank, so the gateway gives nothing back.",
    "charge_expired": "The authorization has run out at the gateway.",
    "payment_intent_unexpected_state": "The payment is in another state at the gateway: its customer confirmed it, or somebody "
    "captured or canceled it there. The service looks at it within a minute or two.",
    "invalid_request_error": "The gateway cannot do this with the payment as it is there, as when a refund at its dashboard has "
    "left less than the amount. The service looks at it within a minute or two.",
    "resource_missing": "The gateway does not know the payment token, or no longer.",
}

ADVICE = {
    "try_again_later": "The same request may succeed later, under a new Idempotency-Key.",
    "confirm_card_data": "Let the customer correct the card's data or name another card, and send the new token under a new key.",
    "do_not_try_again": "Another try with this card fails too. Let the customer pay in another way.",
}

ERROR_CODES = sorted({error.code for error in HTTP_STATUS} | {f"{command.noun}_declined" for command in COMMANDS.values()})

VOCABULARIES: Mapping[str, Vocabulary] = {
    "PaymentStatus": Vocabulary(
        "The status of a payment",
        {
            PaymentStatus.PENDING: "The payment is requested. No answer shows it; the history begins with it.",
            PaymentStatus.PROCESSING: "The gateway has not answered yet.",
            PaymentStatus.REQUIRES_ACTION: "No money has moved: the customer has to act, see `next_action`.",
            PaymentStatus.AUTHORIZED: "The money is held until `capture_before`. Capture or void it.",
            PaymentStatus.CAPTURED: "The money was taken.",
            PaymentStatus.PARTIALLY_REFUNDED: "A part of the captured money was given back.",
            PaymentStatus.REFUNDED: "All captured money was given back.",
            PaymentStatus.FAILED: "The gateway declined the payment. The order can be paid by a new payment.",
            PaymentStatus.VOIDED: "The authorization was released, on request or because it ran out; or no customer acted.",
        },
    ),
    "RefundStatus": Vocabulary(
        "The status of a refund",
        {
            RefundStatus.PENDING: "The gateway has not answered yet. The amount is reserved.",
            RefundStatus.SUCCEEDED: "The money was given back.",
            RefundStatus.FAILED: "The gateway declined the refund, or the bank sent it back. Its amount is free again.",
        },
    ),
    "RefundOrigin": Vocabulary(
        "Who made a refund",
        {
            Origin.SERVICE: "This service, because somebody asked for it.",
            Origin.GATEWAY: "The gateway by itself, as when a person refunds in its dashboard.",
        },
    ),
    "DisputeOutcome": Vocabulary(
        "How a dispute ended",
        {
            DisputeOutcome.WON: "The bank left the money with you, or gave it back.",
            DisputeOutcome.LOST: "The bank gave the money to the customer.",
            DisputeOutcome.CLOSED: "An inquiry ended, and no money had moved.",
        },
    ),
    "PaymentMethod": Vocabulary(
        "How the customer pays", dict.fromkeys(get_args(ProcessRequest.model_fields["payment_method"].annotation))
    ),
    "CaptureMethod": Vocabulary(
        "When the money is taken",
        {
            "automatic": "The money is taken at once.",
            "manual": "The money is held, until a capture takes it or a void releases it.",
        },
    ),
    "NextActionType": Vocabulary(
        "What the customer's browser has to do",
        {
            "stripe_js": "Give `client_secret` to Stripe.js, whose `handleNextAction` or Payment Element does the rest.",
            "redirect": "Go to `url`. The gateway sends the browser back to `return_url`.",
        },
    ),
    "CurrencyCode": Vocabulary("A currency of ISO 4217 that has a minor unit", dict.fromkeys(sorted(MINOR_UNIT_DIGITS))),
    "DeclineCode": Vocabulary("Why the gateway declined", {code: DECLINES[code] for code in KNOWN_DECLINES}),
    "AdviceCode": Vocabulary(
        "What to do after a decline. It is absent when the gateway gives no advice: then let the customer pay in another way",
        ADVICE,
    ),
    "ErrorCode": Vocabulary("What went wrong; docs/errors.md explains each code", dict.fromkeys(ERROR_CODES)),
}
"""The named enumerations of the documents."""

OF_FIELDS: Mapping[str, str] = {
    "ListQuery.status": "PaymentStatus",
    "ListQuery.payment_method": "PaymentMethod",
    "Payment.status": "PaymentStatus",
    "Refund.status": "RefundStatus",
    "Refund.origin": "RefundOrigin",
    "Dispute.outcome": "DisputeOutcome",
    "payment_status": "PaymentStatus",
    "StatusChange.from": "PaymentStatus",
    "StatusChange.to": "PaymentStatus",
    "payment_method": "PaymentMethod",
    "capture_method": "CaptureMethod",
    "ProcessRequest.currency": "CurrencyCode",
    "decline_code": "DeclineCode",
    "advice_code": "AdviceCode",
    "code": "ErrorCode",
    "NextAction.type": "NextActionType",
}
"""The vocabulary of a member, by its name or by model and name."""

_MINOR = "in the currency's minor unit: 1999 with USD is 19.99 dollars, with JPY 1999 yen"
_NAMES_IT = "Send exactly one of `transaction_id`, `payment_id` and `order_id`"
_NEW_ID = "In Unicode's normal form NFC, without invisible characters and without white space at either end"

MEMBERS: Mapping[str, str] = {
    # Payments and refunds
    "payment_id": "The payment's id, a UUID",
    "order_id": "The order that the payment pays. An order has at most one payment that is neither FAILED nor VOIDED",
    "refund_id": "The refund's id, a UUID",
    "transaction_id": "The gateway's id of the charge; null until the gateway has answered",
    "Refund.transaction_id": "The gateway's id of the payment's charge",
    "payment_intent_id": "The gateway's id of the payment intent; null until the gateway has answered",
    "Payment.status": "The payment's status",
    "Refund.status": "The refund's status",
    "Refund.origin": "Who made the refund",
    "payment_status": "The status of the payment now",
    "Payment.amount": f"The amount that was requested, {_MINOR}",
    "Refund.amount": f"The amount of the refund, {_MINOR}",
    "currency": "The ISO 4217 code, as in the request. An old payment may have one that ISO 4217 no longer lists",
    "payment_method": "As in the request. An old payment may have one that is no longer accepted",
    "capture_method": "As in the request, `automatic` if it named none",
    "amount_captured": "What was taken, in the currency's minor unit",
    "amount_refunded": "What all refunds together have given back, in the currency's minor unit",
    "amount_refund_pending": "What refunds reserve whose outcome is not known yet, in the currency's minor unit",
    "decline_code": "Why the gateway declined: the payment, or the last capture or void of an authorized one. Of a VOIDED one: "
    "`action_expired` or `payment_canceled` if it waited for its customer and nobody voided it here. Null if it did not",
    "Refund.decline_code": "Why the gateway declined the refund. Null without a decline",
    "error_message": "The decline in words for the customer. Null without a decline",
    "customer_id": "The customer's id in your system, as in the request",
    "description": "The description of the request",
    "metadata": "The metadata of the request; an empty object if it had none",
    "reason": "The reason of the request",
    "created_at": "When it was requested (RFC 3339, UTC)",
    "updated_at": "When it last changed (RFC 3339, UTC)",
    "authorized_at": "When the gateway authorized the payment; null for a payment that was captured at once",
    "captured_at": "When the money was taken; null before",
    "failed_at": "When the gateway declined the payment; null otherwise",
    "voided_at": "When the authorization was released, or the payment was given up because its customer had not acted; null "
    "otherwise",
    "capture_before": "When the authorization runs out and is voided; null unless the payment is AUTHORIZED",
    "refunds": "The newest refunds of the payment, oldest first: 20 in a look-up, 5 in a list",
    "has_more_refunds": "Whether there are older refunds: `GET /api/v1/payments/payment/{payment_id}/refunds` has them all",
    "refund": "The refund that the event tells of",
    "next_action": "What the customer's browser needs while the payment is REQUIRES_ACTION. It is in these answers alone, and "
    "absent when the gateway could not say, or was asked just now: sync the payment, or repeat the request with its key",
    "NextAction.type": "What the customer's browser has to do",
    "client_secret": "A secret of this payment, for the customer's browser alone. Log it nowhere",
    "NextAction.url": "The page on which the customer confirms the payment. It is a secret of this payment too",
    "expires_at": "The payment is canceled then (RFC 3339, UTC)",
    "disputes": "The newest disputes of the payment, oldest first: 20 in a look-up, 5 in a list",
    "has_more_disputes": "Whether there are older disputes",
    "dispute": "The dispute that the event tells of",
    "dispute_id": "The dispute's id, a UUID",
    "gateway_dispute_id": "The gateway's id of the dispute, under which its dashboard takes evidence",
    "Dispute.amount": "What the bank asks for, in the minor unit of the dispute's currency. The payment's may be another",
    "Dispute.currency": "The ISO 4217 code of the amount. It may differ from the payment's currency",
    "Dispute.reason": "Why the customer disputes the payment, in the gateway's word, such as `fraudulent`",
    "Dispute.status": "The gateway's word for where it stands, such as `needs_response`. There may be others tomorrow",
    "Dispute.outcome": "How it ended; null while it is open",
    "due_by": "Until then the gateway takes evidence; null while it takes none",
    "is_refundable": "Whether the gateway takes refunds of the payment. If not, they are refused as `payment_disputed`",
    "Dispute.created_at": "When it began at the gateway (RFC 3339, UTC)",
    # History, pages and health
    "StatusChange.from": "The status before the change; null for the first",
    "StatusChange.to": "The status after the change. It may be the same: a later decline leaves the status alone",
    "at": "When it changed (RFC 3339, UTC)",
    "StatusChange.reason": "Why it changed",
    "data": "The rows of this page",
    "has_more": "Whether there is a next page",
    "next_cursor": "Send it as `cursor` to get the next page; null on the last page",
    "Health.status": "`ok`, or `degraded` when a check failed",
    "version": "The version of the service",
    "checks": "The checks by the name of the part, `database` and `broker`, with `deep` alone",
    "ok": "Whether the part answered",
    "latency_ms": "How long it took to answer, or to fail, in milliseconds",
    "error": "`unavailable` when the part did not answer; the service's log says why",
    # Webhooks
    "webhook_id": "The webhook's id, a UUID",
    "url": "Where the events are sent",
    "Webhook.description": "The description of the request; null if it had none",
    "Webhook.event_types": "The types of events that are sent; null stands for all types",
    "Webhook.created_at": "When it was registered (RFC 3339, UTC)",
    "previous_until": "Until then the secret before the present one signs too; null without one",
    "disabled_at": "Nothing is sent since then, and events from then on are not kept for it; null while it is enabled",
    "disabled_reason": "`gone`: it answered 410; `failing`: it failed for three days. Null while it is enabled",
    "failing_since": "The first failure after the last success; null without one",
    "last_error": "Why the last attempt failed; null without one",
    "waiting": "How many events are still to be sent, counted up to 1000",
    "failed": "How many events were given up in the last 30 days, counted up to 1000",
    "secret": "It is shown this once. Standard Webhooks' libraries take it as it is",
    "WebhookList.data": "Your webhooks",
    "events": "How many events are sent again",
    "resume_at": "Ask again from this moment on; null at the end of the range",
    # Problems
    "Problem.type": "A URN of the code: `urn:payments:problem:` and `code`",
    "title": "The kind of problem in words. It may change; `code` does not",
    "Problem.status": "The HTTP status",
    "detail": "What happened and what you can do, for people",
    "code": "The kind of problem, for programs. docs/errors.md lists them all",
    "request_id": "The id of the request, as in the header `Apigw-Requestid`. Name it when you ask for help",
    "retryable": "Whether the same request under the same key can succeed. After a decline it cannot: see `advice_code`",
    "Problem.payment_id": "The payment that the problem is about",
    "Problem.order_id": "The order of that payment",
    "Problem.transaction_id": "The gateway's id of the payment's charge",
    "Problem.payment_intent_id": "The gateway's id of the payment intent",
    "Problem.refund_id": "The refund that was declined",
    "Problem.decline_code": "Why the gateway declined",
    "advice_code": "What to do after a decline. Absent when the gateway gives no advice",
    "amount_available": "The largest amount that the payment allows now, in the currency's minor unit",
    "errors": "What is wrong with the request, 20 places at most. They never quote the input",
    "location": "Where it is: `body.amount`, `query.limit`, `header.x-note` or `path`, for example",
    "FieldError.message": "What is wrong there",
    "message": "API Gateway's error in words, such as `Unauthorized` or `Too Many Requests`",
    "operation": "The command that was asked for: process, capture, void or refund. Null if it was none of these",
    "idempotency_key": "The key of the request, or null",
    "RequestRefused.order_id": "The order that the request named, or that of the payment. Null if there is none",
    "RequestRefused.payment_id": "The payment that the request named, as it wrote it, or found. Null if it did neither",
    "RequestRefused.transaction_id": "The transaction that the request named, or null",
    # Requests
    "ProcessRequest.order_id": f"Your order. It is paid once: a second payment is refused unless the first failed. {_NEW_ID}",
    "ProcessRequest.amount": f"The amount, {_MINOR}",
    "ProcessRequest.currency": "The ISO 4217 code in capitals",
    "ProcessRequest.payment_method": "How the customer pays",
    "ProcessRequest.payment_token": "The gateway's token for the card or account, never a card number. Without one, Stripe "
    "waits for what the customer enters in its Payment Element (REQUIRES_ACTION). With the simulated "
    "gateway, a scenario token decides what happens: the introduction lists them",
    "ProcessRequest.capture_method": "`manual` holds the money for a later capture. If you leave it out, it is `automatic`",
    "ProcessRequest.off_session": "True when the customer is not there to act. Then a payment that needs the customer is "
    "declined (`authentication_required`), and a `payment_token` is needed",
    "ProcessRequest.return_url": "Where the customer's browser comes back to after another page: an `https` address, or `http` "
    "with localhost. Without it, only a gateway's own script can ask the customer",
    "ProcessRequest.customer_id": f"The customer's id in your system. {_NEW_ID}",
    "ProcessRequest.description": "A text of your own, for people",
    "ProcessRequest.metadata": "Up to 20 pairs of your own. The service stores and returns them",
    "PaymentRequest.transaction_id": f"The payment by the gateway's id of its charge. {_NAMES_IT}",
    "PaymentRequest.payment_id": f"The payment by its id. {_NAMES_IT}",
    "PaymentRequest.order_id": f"The payment by its order: its live one, which is neither FAILED nor VOIDED. {_NAMES_IT}",
    "CaptureRequest.amount": "How much to take, in the currency's minor unit. The rest is released. Without it, all is taken",
    "RefundRequest.amount": "How much to give back, in the currency's minor unit. Without it, all that is left",
    "WebhookRequest.url": "Where to send events: an `https` address that the internet can reach, without a user or a fragment",
    "WebhookRequest.description": "A text of your own, for people",
    "WebhookRequest.event_types": "The types of events to send. Without it, all of them, also those of later versions",
    "RedeliverRequest.event_id": "The event to send again. Name either one event or a range",
    "RedeliverRequest.from": "Send the events again that happened then or later (RFC 3339 with a zone)",
    "RedeliverRequest.to": "Send the events again that happened before (RFC 3339 with a zone)",
    "VoidRequest.reason": "Why, for the payment's history",
    "RefundRequest.reason": "Why, for people",
}
"""What a member means, by its name or by model and name. A test fails when one is missing or is not used."""

EXAMPLES: Mapping[str, object] = {"amount": 1999, "currency": "USD"}

SCENARIOS: Mapping[str, str] = {
    "tok_ok": "Approved.",
    "tok_slow": "Approved after three seconds.",
    **{f"tok_{code}": "Declined with this code." for code in DECLINE_MESSAGES if code != "generic_decline"},
    "tok_timeout_then_captured": "The reply is lost: 202, and the payment is captured (or authorized) a little later.",
    "tok_timeout_then_declined": "The reply is lost: 202, and the payment is declined a little later.",
    "tok_capture_declined": "With `capture_method: manual`, the later capture is declined. Otherwise the payment is.",
    "tok_void_declined": "The payment is approved, and a later void is declined.",
    "tok_refund_declined": "The payment is approved, and later refunds are declined.",
    "tok_429": "The gateway has too many requests: 202, and the payment succeeds two seconds later.",
    "tok_pending": "The gateway has not finished: 202, and the payment succeeds a little later.",
    "tok_refund_pending": "The payment is approved. The gateway has not finished a refund: 202, and it succeeds a little later.",
    "tok_500_remembered": "The gateway answers 500 to this key for ever: 202. A look-up there shows a little later that the "
    "payment was captured (or authorized).",
    "tok_key_refused": "The gateway says that the key belongs to another request: 202. A look-up there shows a little later "
    "that the payment was never confirmed: it fails.",
    "tok_requires_action": "The customer has to act: 202 with `next_action`. With `make run` a "
    "person does, at the page that it names. Elsewhere nobody does: the payment is VOIDED after an hour. With `off_session` it "
    "is declined.",
    "tok_action_then_captured": "The customer has to act: 202 with `next_action`. A little later the customer has confirmed.",
    "tok_action_then_declined": "The customer has to act: 202 with `next_action`. A little later the bank declines.",
    "tok_wrong_amount": "The gateway takes another amount than the payment's: 202, an alarm, and the payment stays PROCESSING "
    "until a person settles it.",
    "tok_refund_timeout": "The payment is approved. A refund's reply is lost: 202, and the refund succeeds a little later.",
}
"""The tokens with which the simulated gateway plays a scenario. A test compares the names with the gateway's."""


def table(rows: Mapping[str, str | None], *heads: str) -> str:
    """Return a table in Markdown."""
    lines = [f"| {' | '.join(heads)} |", "|---|---|", *(f"| `{name}` | {text} |" for name, text in rows.items())]
    return "\n".join(lines)


def words_of(models: tuple[str, ...], field: str, known: Mapping[str, str]) -> str | None:
    """Return what `known` says about the member: under the name of its model or of one of its bases, else under its own name."""
    return next((known[name] for name in (*(f"{model}.{field}" for model in models), field) if name in known), None)
