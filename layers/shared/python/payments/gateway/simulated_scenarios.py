"""What a payment's token makes the simulated gateway do, whatever the rates are.

Charges: `tok_ok`, `tok_<decline code>` for each decline, `tok_timeout_then_captured`, `tok_timeout_then_declined`, `tok_slow`,
`tok_429`, `tok_pending`, `tok_500_remembered`, `tok_key_refused`, `tok_wrong_amount`; and of a customer who has to act,
`tok_requires_action` (nobody does, or a person at the pages of a local run), `tok_action_then_captured`,
`tok_action_then_declined`. Later calls: `tok_capture_declined` (with automatic capture the charge), `tok_void_declined`,
`tok_refund_declined`, `tok_refund_timeout`, `tok_refund_pending`.
"""

from collections.abc import Callable

from payments.domain.declines import DECLINE_MESSAGES
from payments.gateway.port import ActionRequired, GatewayRequest, NextAction, Pending, Unknown

DECLINE_CODES = tuple(code for code in DECLINE_MESSAGES if code != "generic_decline")

SLOW_S = 3.0
"""`tok_slow`: long enough to watch a request in flight from a second terminal, shorter than all our time-outs."""

REQUIRES_ACTION_TOKEN = "tok_requires_action"
ACTIONS = frozenset({REQUIRES_ACTION_TOKEN, "tok_action_then_captured", "tok_action_then_declined"})
"""Of these the customer has to act, unless the payment is `off_session`, which is then declined."""

_OF_CHARGES = ("ok", "slow", "timeout_then_captured", "timeout_then_declined", *DECLINE_CODES)
_OF_CHARGES += ("429", "pending", "500_remembered", "key_refused", "wrong_amount")
_OF_LATER_CALLS = ("capture_declined", "void_declined", "refund_declined", "refund_timeout", "refund_pending")
SCENARIO_TOKENS = frozenset(f"tok_{name}" for name in _OF_CHARGES + _OF_LATER_CALLS) | ACTIONS

RAW = {"gateway": "simulated"}

Ids = Callable[[str, str], str]
"""Makes the id of a purpose and a key."""


def unfinished(request: GatewayRequest, action: str, ids: Ids) -> Pending | ActionRequired | Unknown | None:
    """Return the answer to a call that says nothing of its outcome; None if this call is answered with the outcome."""
    is_first = request.attempt == 1
    match action, request.payment_token:
        case ("charge", "tok_timeout_then_captured" | "tok_timeout_then_declined") | ("refund", "tok_refund_timeout") if is_first:
            return Unknown("the reply was lost")
        case "charge", "tok_429" if is_first:
            return Unknown("too many requests", wait_s=2)
        case ("charge", "tok_pending") | ("refund", "tok_refund_pending") if is_first:
            return Pending("sim_" + ids(action, request.key), RAW | {"result": "pending"})
        case "charge", token if token in ACTIONS and not request.off_session and (is_first or token == REQUIRES_ACTION_TOKEN):
            intent, secret = "pi_" + ids("intent", request.key), "sim_secret_" + ids("secret", request.key)
            asked = NextAction("stripe_js", client_secret=secret)
            return ActionRequired(intent, intent, None, asked, RAW | {"result": "requires_action"})
        case "charge", "tok_500_remembered":
            return Unknown("it answers 500 to this key for ever", key_is_spent=True)
        case "charge", "tok_key_refused":
            return Unknown("the key belongs to another request", key_is_spent=True)
    return None


def decline_of(request: GatewayRequest) -> str | None:
    """Return the code with which a charge is declined in the end; None if it is approved."""
    match request.payment_token:
        case "tok_timeout_then_declined" | "tok_action_then_declined":
            return "card_declined"
        case "tok_capture_declined" if request.capture:
            return "card_declined"
        case token if token in ACTIONS and request.off_session:
            return "authentication_required"
        case "tok_key_refused":  # The other request with its key was never confirmed.
            return "processing_error"
    code = (request.payment_token or "").removeprefix("tok_")
    return code if code in DECLINE_CODES else None
