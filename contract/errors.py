"""Writes docs/errors.md: every code that a caller can get, and what to do. `python -m contract.errors` writes it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from contract.examples import MESSAGES, PROBLEMS
from contract.words import ADVICE, DECLINES, table
from payments.api.answers import HTTP_STATUS
from payments.domain.declines import ADVICE_CODES, KNOWN_DECLINES, OVERTAKEN, public_decline_code

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "errors.md"

INTRODUCTION = """\
# Errors

Generated from the error table by `make openapi`; change the words in `contract/errors.py`.

An error is a problem document (RFC 9457, `application/problem+json`). Its `code` is for your program and stays as it is; `title`
and `detail` are for people and may change. A later version may add codes: treat one that you do not know by its HTTP status and
`retryable`.

**`retryable`** is true where the same request under the same Idempotency-Key can succeed: send it again, unchanged, after
`Retry-After` seconds if there is such a header. Where it is false, do not send the same again under the same key: change what is
wrong, or, after a decline, make another try under a new key if `advice_code` says so. A request that is refused (4xx other than
402) has moved no money, has written nothing, and has used no key up.

A direct invocation is answered with the same document, in an envelope. What is `retryable` it raises instead, so that Lambda
tries again; what is refused for good is also told as the event `payment.refused`, and stands under its key
([integration.md](integration.md)).
"""


@dataclass(frozen=True)
class Words:
    """When a problem comes and what to do about it. `retryable` says when it is not what the example of the problem says."""

    when: str
    what_to_do: str
    retryable: str = ""


_OVERTAKEN = ", ".join(f"`{code}`" for code in KNOWN_DECLINES if code in OVERTAKEN)
_NEXT_TRY = "See `decline_code` and `advice_code`. The same key gets this answer for ever, so another try needs a new one."
_NEXT_STEP = (
    f"{_NEXT_TRY} After {_OVERTAKEN} somebody was faster: the customer, a person at the gateway's dashboard or the bank. Sync "
    "the payment, or wait for its event, and go on from its new status."
)
_FAULT = "If it is retryable, repeat the request with the same key. Otherwise look the payment up first."
_IN_DOUBT = "Yes. No if it would fail again, or may have been started and has no key by which a repetition is recognized"

WORDS: Mapping[str, Words] = {
    "malformed_json": Words(
        "The body is empty, no JSON in UTF-8, nested more than 8 deep, or has a member twice.", "Send well-formed JSON."
    ),
    "idempotency_key_invalid": Words(
        "The Idempotency-Key is empty, longer than 255 characters, sent twice, or not visible ASCII without a comma.",
        "Send one key, such as a UUID.",
    ),
    "unauthenticated": Words("The token names no subject.", "Get a token from the deployment's issuer."),
    "payment_declined": Words(
        "The gateway declined the payment, which is FAILED now; or, told again under its key, the payment is VOIDED, because its "
        "customer did not come or it was given up. `payment_status` says which.",
        _NEXT_TRY,
    ),
    "capture_declined": Words(
        "The gateway declined the capture, which moved nothing. The payment is still AUTHORIZED, unless it has changed at the "
        "gateway.",
        _NEXT_STEP,
    ),
    "void_declined": Words(
        "The gateway declined the void. The payment is still AUTHORIZED or REQUIRES_ACTION, unless it has changed at the "
        "gateway.",
        _NEXT_STEP,
    ),
    "refund_declined": Words(
        "The gateway declined the refund. Its amount is free again, unless it was given back at the gateway.", _NEXT_STEP
    ),
    "forbidden": Words(
        "The token lacks the scope of the operation, or its subject is reserved.",
        "Get a token with the scope that `detail` names.",
    ),
    "payment_not_found": Words(
        "You have no payment with this id. It may be another owner's.",
        "Check the id. If the payment was just requested, wait for it.",
    ),
    "refund_not_found": Words("You have no refund with this id. It may be another owner's.", "Check the id."),
    "webhook_not_found": Words("You have no webhook with this id. It may be another owner's.", "Check the id."),
    "webhook_conflict": Words(
        "You have a webhook at this address, or as many webhooks as you may have.", "Delete the one that is no longer needed."
    ),
    "order_already_paid": Words(
        "Another payment of the order is authorized, captured or refunded.", "Look the order's payment up. `payment_id` names it."
    ),
    "order_in_progress": Words(
        "Another payment of the order has no outcome yet.", "Repeat the request later, or look the order up."
    ),
    "payment_state_conflict": Words(
        "The payment's status does not allow the command, or another command on the payment is in flight.",
        "Look at `payment_status`. If it is retryable, repeat the request later. A payment that is REQUIRES_ACTION waits for its "
        "customer for up to an hour: wait for its event instead.",
        retryable="While another command on the payment is in flight, or the payment has no outcome yet",
    ),
    "payment_disputed": Words(
        "The customer disputes the payment at the bank, and the gateway refuses refunds meanwhile. After a lost one it always "
        "does, because the customer has the money back.",
        "Answer the dispute in the gateway's dashboard. `disputes` in the look-up says how it stands, and "
        "`payment.dispute_closed` when it ends.",
    ),
    "idempotency_key_in_use": Words(
        "The first request with this key is still running, or we are asking the gateway what became of it.",
        "Repeat the request after `Retry-After`.",
    ),
    "body_too_large": Words("The body has more than 16,384 bytes.", "Send less; 20 pairs of metadata are allowed."),
    "unsupported_media_type": Words(
        "The body is not `application/json`, not in UTF-8, or compressed.",
        "Send JSON in UTF-8 with `Content-Type: application/json`.",
    ),
    "invalid_request": Words(
        "A member or parameter is missing, unknown, given twice or wrong.", "Correct what `errors` lists, 20 places at most."
    ),
    "card_data_not_accepted": Words(
        "Something in body, path, query or headers looks like a card number or a security code. It was not stored.",
        "Send a `payment_token` of the gateway. Change an id of your own that looks like a card number.",
    ),
    "amount_too_large": Words(
        "The amount is more than what is authorized, or than what is left to refund.",
        "Ask for `amount_available` at most.",
        retryable="While another refund holds what is missing, and would free it by failing",
    ),
    "not_supported_by_gateway": Words(
        "The gateway has no such payment method, currency or amount, or another gateway took the payment. `errors` names the "
        "member. Nothing was written, and the key is not used up.",
        "Choose another payment method or amount.",
    ),
    "idempotency_key_reused": Words(
        "The key belongs to another request of this operation.", "Send the request that the key belongs to, or a new key."
    ),
    "internal_error": Words(
        "Our code failed, or the database refused it. Our log has `request_id`.", _FAULT, retryable=_IN_DOUBT
    ),
    "service_unavailable": Words("The database cannot be reached or does not answer in time.", _FAULT, retryable=_IN_DOUBT),
}

NO_OTHER_CARD = """\
A capture, void or refund goes to the card of its payment and takes no token. After `confirm_card_data` and `do_not_try_again` it
needs a person. After a declined capture the hold is voided, and the order paid anew. After a declined void the hold lapses by
itself at `capture_before`. The money of a declined refund is given back in another way."""

FROM_API_GATEWAY: Mapping[int, tuple[str, str]] = {
    401: ("There is no token, or it is not valid or has ended.", "Get a new token."),
    403: ("The token lacks the scope.", "Get a token with the scope of the operation."),
    404: ("There is no such route; an id in the path may be empty.", "Check address and path."),
    413: ("The body is larger than 10 MB.", "Send at most 16,384 bytes."),
    429: ("All callers together send more than the deployment admits.", "Wait a second, then twice as long each time."),
    500: ("The function failed before it could answer.", "As `internal_error`."),
    503: ("The function took longer than 30 s, or could not be started.", "As `service_unavailable`."),
}


def text() -> str:
    return "\n".join((INTRODUCTION, _codes(), _declines(), _gateways()))


def _codes() -> str:
    lines = ["## Codes\n", "| status | `code` | when | `retryable` | what to do |", "|---|---|---|---|---|"]
    by_status = {error.code: status for error, status in HTTP_STATUS.items()}
    for code in sorted(PROBLEMS, key=lambda code: (by_status.get(code, 402), list(PROBLEMS).index(code))):
        words, problem = WORDS[code], PROBLEMS[code]
        retryable = words.retryable or ("Yes" if problem["retryable"] else "No")
        lines.append(f"| {problem['status']} | `{code}` | {words.when} | {retryable}. | {words.what_to_do} |")
    return "\n".join(lines) + "\n"


def _declines() -> str:
    lines = ["## Declines\n", "| `decline_code` | meaning | `advice_code` |", "|---|---|---|"]
    for code in KNOWN_DECLINES:
        advice = ADVICE_CODES.get(public_decline_code(code) or "")
        lines.append(f"| `{code}` | {DECLINES[code]} | {f'`{advice}`' if advice else 'none'} |")
    return "\n".join([*lines, "", table(ADVICE, "`advice_code`", "what to do"), "", NO_OTHER_CARD, ""])


def _gateways() -> str:
    lines = [
        "## Errors of API Gateway\n",
        'API Gateway answers these by itself, as `application/json` with `{"message": …}` alone. With 401 to 429 no function has',
        "seen the request. After 500 and 503 you do not know what became of it: repeat it with the same key, or look it up.\n",
        "| status | `message` | when | what to do |",
        "|---|---|---|---|",
    ]
    for status, (when, what_to_do) in FROM_API_GATEWAY.items():
        lines.append(f"| {status} | {MESSAGES[status]} | {when} | {what_to_do} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(text(), encoding="utf-8")
