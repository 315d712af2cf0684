"""Decline codes, in the words of the card networks, and the ones that a caller may see."""

DECLINE_MESSAGES = {
    "insufficient_funds": "The account does not have enough funds.",
    "card_declined": "The card was declined.",
    "expired_card": "The card has expired.",
    "incorrect_cvc": "The card's security code is incorrect.",
    "processing_error": "An error occurred while processing the card. Try again in a little while.",
    "lost_card": "The card was reported lost.",
    "stolen_card": "The card was reported stolen.",
    "fraudulent": "The payment was suspected to be fraudulent.",
    "generic_decline": "The bank or the gateway declined it.",
}

OTHER_DECLINES = {
    "authentication_required": "The customer's bank asks for a confirmation, and the customer is not there to give it.",
    "action_expired": "The customer did not confirm the payment in time.",
    "payment_canceled": "The payment was canceled before the customer confirmed it.",
    "payment_intent_authentication_failure": "The customer did not pass the bank's check.",
    "amount_too_small": "The gateway does not take so small an amount.",
    "charge_already_refunded": "The gateway has given all of the payment back already.",
    "charge_disputed": "The customer disputes the payment, so the gateway does not give it back.",
    "charge_expired": "The authorization has run out at the gateway.",
    "payment_intent_unexpected_state": "The payment was confirmed, captured or canceled at the gateway before.",
    "invalid_request_error": "The gateway cannot do this with the payment as it is there.",
    "resource_missing": "The gateway does not know the payment token or the payment.",
}
"""Declines in the words of the gateways or in our own. The card networks have no code for them."""

ABANDONED = frozenset({"action_expired", "payment_canceled"})
"""Declines of a payment that nobody refused: its customer did not come."""

OVERTAKEN = frozenset(
    {"payment_intent_unexpected_state", "invalid_request_error", "charge_already_refunded", "charge_disputed", "charge_expired"}
)
"""Declines of a capture, void or refund that say that the gateway has the payment otherwise than our books: the customer, the
bank or somebody at its dashboard was faster."""

KNOWN_DECLINES = DECLINE_MESSAGES | OTHER_DECLINES

# A thief must not learn that the card is known to be stolen, so callers and events see "generic_decline" for these. The database
# keeps the gateway's own code, and the admin scope sees it.
CONFIDENTIAL_DECLINES = frozenset({"lost_card", "stolen_card", "fraudulent"})


PUBLIC_DECLINES = KNOWN_DECLINES.keys() - CONFIDENTIAL_DECLINES


def public_decline_code(decline_code: str | None) -> str | None:
    """Return the code as callers see it. A gateway has many that we do not know."""
    return decline_code if decline_code is None or decline_code in PUBLIC_DECLINES else "generic_decline"


def public_decline_message(decline_code: str | None, message: str | None) -> str | None:
    return message if decline_code is None or decline_code in PUBLIC_DECLINES else DECLINE_MESSAGES["generic_decline"]


# Under the same idempotency key nothing helps, because a key keeps its outcome. Look a code up as the caller sees it.
ADVICE_CODES = dict.fromkeys(("insufficient_funds", "processing_error"), "try_again_later")
ADVICE_CODES |= dict.fromkeys(("expired_card", "incorrect_cvc"), "confirm_card_data") | {"generic_decline": "do_not_try_again"}
"""What a new try needs, in Stripe's words. A code that is not here has no advice."""
