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
    "generic_decline": "The card was declined.",
}

# A thief must not learn that the card is known to be stolen, so callers and events see "generic_decline" for these. The database
# keeps the gateway's own code, and the admin scope sees it.
CONFIDENTIAL_DECLINES = frozenset({"lost_card", "stolen_card", "fraudulent"})


def public_decline_code(decline_code: str | None) -> str | None:
    return "generic_decline" if decline_code in CONFIDENTIAL_DECLINES else decline_code


def public_decline_message(decline_code: str | None, message: str | None) -> str | None:
    return DECLINE_MESSAGES["generic_decline"] if decline_code in CONFIDENTIAL_DECLINES else message


# Under the same idempotency key nothing helps, because a key keeps its outcome. Look a code up as the caller sees it.
ADVICE_CODES = dict.fromkeys(("insufficient_funds", "processing_error"), "try_again_later")
ADVICE_CODES |= dict.fromkeys(("expired_card", "incorrect_cvc"), "confirm_card_data") | {"generic_decline": "do_not_try_again"}
"""What a new try needs, in Stripe's words. A code that is not here has no advice."""
