"""Stripe: a payment is a PaymentIntent, which is created and confirmed in one call, or by its customer if there is no token.

docs/gateways.md has the table of what Stripe says and what we make of it. Stripe refuses a key whose parameters have changed, so
none of them depends on what changes between two attempts.
"""

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

from payments import __version__, telemetry
from payments.domain.declines import KNOWN_DECLINES
from payments.domain.operation import GATEWAY_KEY_LIFETIME_S
from payments.gateway import stripe_amounts
from payments.gateway.port import (
    ActionRequired,
    Alarm,
    Approved,
    Declined,
    GatewayRequest,
    Hint,
    NextAction,
    Pending,
    Reply,
    Seen,
    Unknown,
)
from payments.gateway.stripe_events import EVENT_TYPES, hint_of
from payments.gateway.stripe_http import Answer, NoAnswer, StripeHttp
from payments.gateway.stripe_seen import charge_of, end_of, key_of, seen
from payments.settings_error import SettingsError
from payments.stripe_settings import API

logger = logging.getLogger(__name__)

API_VERSION = "2026-08-26.dahlia"
"""The version whose recorded answers tests/gateway runs against. Take a newer one when there is a server that speaks it."""

CLOCKS_S = 60
"""Stripe's clock and ours may differ by this much, and a request may be under way for as long after our time-out."""

SURELY_OVER_S = 3600.0
"""An hour after our last call Stripe no longer works on it, also not after a 500."""

CARDS = frozenset({"credit_card", "debit_card", "stripe"})

ENDS = frozenset({"succeeded", "canceled", "processing"})
"""The statuses of an intent in which nobody can capture or cancel it any more."""

NEEDS_CUSTOMER = {"code": "authentication_required"}
ABANDONED = {"code": "payment_canceled"}
NOT_DONE = {"code": "processing_error"}
CANCELED = {"code": "payment_intent_unexpected_state", "message": "Stripe has canceled the payment."}
CAPTURED = {"code": "payment_intent_unexpected_state", "message": "Stripe has captured the payment."}


class _Unanswered(Exception):
    """We cannot say what became of the request."""

    def __init__(self, reason: str, **how: Any) -> None:
        self.unknown = Unknown(reason, **how)


@dataclass(frozen=True, slots=True)
class _Answer:
    """What Stripe says: an object, or an error, which may carry an intent."""

    status: int
    request_id: str | None
    body: dict[str, Any]
    is_replayed: bool = False

    @property
    def error(self) -> dict[str, Any] | None:
        return self.body.get("error")

    def raw(self, of: Mapping[str, Any], error: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return what the operation keeps: no client secret, no token, no card."""
        kept = {"gateway": "stripe", "http_status": self.status, "request_id": self.request_id}
        kept |= {"replayed": self.is_replayed or None}
        kept |= {name: of.get(name) for name in ("id", "status", "cancellation_reason", "failure_reason")}
        kept |= {
            name: (error or {}).get(name) for name in ("code", "decline_code", "advice_code", "network_decline_code", "type")
        }
        return {name: value for name, value in kept.items() if value is not None}


class StripeGateway:
    """Serves `api_key`'s account. Each reply has to be of the mode that `is_live` says. `base` is for tests.

    It calls `refused` when Stripe refuses the key, because that may have been rotated.
    """

    name = "stripe"

    def __init__(
        self,
        api_key: Callable[[], str],
        *,
        is_live: bool,
        refused: Callable[[], None] = lambda: None,
        base: str = API,
        http: StripeHttp | None = None,
    ) -> None:
        self._api_key, self._refused, self._is_live, self._http = api_key, refused, is_live, http or StripeHttp(base)

    def key_lifetime_s(self, kind: str) -> float:  # noqa: ARG002  # at Stripe all keys live equally long
        return GATEWAY_KEY_LIFETIME_S

    def refuses(
        self,
        payment_method: str,
        amount_minor: int,
        currency: str,
        *,
        is_part: bool = False,
        has_token: bool = True,  # noqa: ARG002  # without one the customer enters a card in Stripe's Payment Element
    ) -> tuple[str, str] | None:
        if payment_method not in CARDS:
            return "payment_method", f"must be one of {', '.join(sorted(CARDS))}, which Stripe takes as cards"
        return stripe_amounts.refuses(amount_minor, currency, is_part=is_part)

    def charge(self, request: GatewayRequest) -> Reply:
        return self._answered(request, self._charge)

    def capture(self, request: GatewayRequest) -> Reply:
        return self._answered(request, self._capture)

    def void(self, request: GatewayRequest) -> Reply:
        return self._answered(request, self._void)

    def refund(self, request: GatewayRequest) -> Reply:
        return self._answered(request, self._refund)

    def find(self, request: GatewayRequest) -> Reply:
        return self._answered(request, self._find)

    def look(self, payment_intent_id: str, timeout_s: float) -> Seen | None:
        """Ask for the intent, and of one that is captured for its refunds and disputes: only what was taken can be given back."""
        ends_s, of_it = time.time() + timeout_s, {"payment_intent": payment_intent_id}
        try:
            intent = self._get(_path_of(payment_intent_id), {"expand[]": "latest_charge"}, ends_s).body
            if intent["status"] != "succeeded":
                return seen(intent, (), ())
            refunds = [refund for _, refund in self._pages("/v1/refunds", of_it, ends_s)]
            return seen(intent, refunds, [dispute for _, dispute in self._pages("/v1/disputes", of_it, ends_s)])
        except _Unanswered as unanswered:
            _ring(unanswered)
            logger.warning("a look at Stripe failed", extra=of_it | {"reason": unanswered.unknown.reason})
        except (AttributeError, KeyError, TypeError, ValueError):
            logger.exception("Stripe's answer is not what its documents say", extra=of_it)
        return None

    def undelivered(self, since: datetime, timeout_s: float, until: datetime | None = None) -> Iterator[Hint]:
        """Ask for the events that Stripe could not deliver to an endpoint of ours. Stripe has those of 30 days.

        They are told page by page. One page is of many moments, so `until` goes on: events of one second fill no run.
        """
        wanted = {"delivery_success": "false", "created[gte]": int(since.timestamp()), "types[]": EVENT_TYPES}
        wanted |= {"created[lte]": int(until.timestamp())} if until else {}
        try:
            for _, event in self._pages("/v1/events", wanted, time.time() + timeout_s):
                if hint := _hint_of(event):
                    yield hint
        except _Unanswered as unanswered:
            _ring(unanswered)
            raise OSError(unanswered.unknown.reason) from None
        except (AttributeError, KeyError, TypeError, ValueError):
            raise OSError("Stripe's answer is not what its documents say") from None

    def _answered(self, request: GatewayRequest, act: Callable[[GatewayRequest, float], Reply]) -> Reply:
        try:
            reply = act(request, time.time() + request.timeout_s)
            if request.attempt > 1 and isinstance(reply, Declined) and _knows_no_key(reply.raw):
                return Unknown("Stripe refused the request, perhaps before it looked at the key")
            return reply
        except _Unanswered as unanswered:
            return unanswered.unknown
        except (AttributeError, KeyError, TypeError, ValueError):
            logger.exception("Stripe's answer is not what its documents say", extra={"payment_id": request.payment_id})
            return Unknown("Stripe's answer is not what its documents say")

    # What we ask.

    def _charge(self, request: GatewayRequest, ends_s: float) -> Reply:
        method = request.payment_token or ""
        if method.startswith("tok_"):
            card = {"type": "card", "card[token]": method}
            made = self._call("POST", "/v1/payment_methods", card, ends_s, key=f"{request.key}-method")
            if made.error:
                return _declined(made, made.error, None)
            method = made.body["id"]
        parameters = {
            "amount": stripe_amounts.to_stripe(request.amount_minor, request.currency),
            "currency": request.currency.lower(),
            "payment_method_types[]": "card",  # vouchers and bank debits take days, and we give the customer an hour
            "capture_method": "automatic" if request.capture else "manual",
            "expand[]": "latest_charge",
        }
        if method:  # Stripe takes the others with `confirm` alone. Without it the customer confirms, from his own page.
            parameters |= {"payment_method": method, "confirm": "true"}
            parameters |= {"off_session": "true"} if request.off_session else {}
            parameters |= {"return_url": request.return_url} if request.return_url else {}
        answer = self._call("POST", "/v1/payment_intents", parameters | _metadata(request), ends_s, key=request.key)
        return self._charged(request, answer, answer.error, ends_s)

    def _capture(self, request: GatewayRequest, ends_s: float) -> Reply:
        amount = stripe_amounts.to_stripe(request.amount_minor, request.currency)
        path = f"{_path_of(request.payment_intent_id)}/capture"  # the rest of the authorization is released
        answer = self._call("POST", path, {"amount_to_capture": amount}, ends_s, key=request.key)
        return self._ended(request, answer, answer.error)

    def _void(self, request: GatewayRequest, ends_s: float) -> Reply:
        answer = self._call("POST", f"{_path_of(request.payment_intent_id)}/cancel", {}, ends_s, key=request.key)
        return self._ended(request, answer, answer.error)

    def _refund(self, request: GatewayRequest, ends_s: float) -> Reply:
        amount = stripe_amounts.to_stripe(request.amount_minor, request.currency)
        parameters = {"payment_intent": request.payment_intent_id, "amount": amount}
        answer = self._call("POST", "/v1/refunds", parameters | _metadata(request), ends_s, key=request.key)
        return _declined(answer, answer.error, None) if answer.error else self._refunded(answer, answer.body)

    def _find(self, request: GatewayRequest, ends_s: float) -> Reply:
        if request.kind == "refund":
            if request.gateway_id:
                answer = self._get(f"/v1/refunds/{quote(request.gateway_id, safe='')}", {}, ends_s)
                return self._refunded(answer, answer.body)
            pages = self._pages("/v1/refunds", {"payment_intent": request.payment_intent_id}, ends_s)
            return self._refunded(*_of(request, pages))
        if request.kind == "process":
            return self._found_charge(request, ends_s)
        answer = self._get(_path_of(request.payment_intent_id), {"expand[]": "latest_charge"}, ends_s)
        if answer.body["status"] not in ENDS:
            # Nobody calls with the key again, and Stripe is at work on no call of ours. So it was not done, and will not be.
            if not request.asked_at or time.time() - max(request.asked_at).timestamp() < SURELY_OVER_S:
                raise _Unanswered("Stripe has not done it, and may be at work on it")
            return _declined(answer, NOT_DONE, answer.body)
        return self._ended(request, answer, CANCELED if request.kind == "capture" else CAPTURED)

    def _found_charge(self, request: GatewayRequest, ends_s: float) -> Reply:
        if request.gateway_id:
            answer = self._get(_path_of(request.gateway_id), {"expand[]": "latest_charge"}, ends_s)
            return self._charged(request, answer, None, ends_s)
        # Stripe's search would find it in one call, but may lag by an hour, and by more in an outage.
        for first_s, last_s in _close_together(sorted(int(asked_at.timestamp()) for asked_at in request.asked_at)):
            around = {"created[gte]": first_s - CLOCKS_S, "created[lte]": last_s + int(request.timeout_s) + CLOCKS_S}
            pages = self._pages("/v1/payment_intents", around | {"expand[]": "data.latest_charge"}, ends_s)
            for answer, intent in pages:
                if key_of(intent) == request.key:
                    return self._charged(request, _Answer(answer.status, answer.request_id, intent), None, ends_s)
        raise _Unanswered("Stripe shows no trace of it")

    # What we make of the answer.

    def _charged(self, request: GatewayRequest, answer: _Answer, error: Mapping[str, Any] | None, ends_s: float) -> Reply:
        intent = self._intent(answer)
        if intent is None:
            return _declined(answer, error or {}, None)
        why = error or intent.get("last_payment_error")
        match intent["status"]:
            case "succeeded" | "requires_capture":
                # Somebody at the dashboard may have captured what we have not seen authorized. A look enters that capture.
                was_held = intent["status"] == "succeeded" and request.attempt > 1
                held = "amount" if was_held else "amount_capturable"
                return _approved(answer, intent, "amount_received" if request.capture else held)
            case "processing":
                return Pending(intent["id"], answer.raw(intent, None))
            case "canceled":  # by us after a decline, by a void, or by somebody else while it waited
                # Without a token it ends after no decline, because the customer may try another card. So it was given up.
                declined = why if request.payment_token else error
                return _declined(answer, declined or (ABANDONED if request.gateway_id else NOT_DONE), intent)
            case "requires_action" if request.off_session:
                return self._closed(request, answer, NEEDS_CUSTOMER, intent, ends_s)
            case "requires_action":
                return _action_required(request, answer, intent)
            case "requires_payment_method" | "requires_confirmation" if not request.payment_token:
                return _action_required(request, answer, intent)  # also after a declined card: the customer tries another
            case "requires_payment_method" | "requires_confirmation":
                return self._closed(request, answer, why or NOT_DONE, intent, ends_s)
        raise _odd(intent["status"])

    def _closed(
        self, request: GatewayRequest, answer: _Answer, error: Mapping[str, Any], intent: Mapping[str, Any], ends_s: float
    ) -> Reply:
        """Cancel a declined intent, which whoever gets its secret could still pay."""
        # A second cancel is refused and shows the intent, so this needs no key, which would remember a 500.
        canceled = self._call("POST", f"{_path_of(intent['id'])}/cancel", {"expand[]": "latest_charge"}, ends_s)
        after = self._intent(canceled)
        if after is None or after["status"] not in ENDS | {"requires_capture"}:
            raise _Unanswered("the intent of a decline could not be canceled")
        if after["status"] == "canceled":
            return _declined(answer, error, intent)
        return self._charged(request, canceled, None, ends_s)  # somebody paid it between the two

    def _ended(self, request: GatewayRequest, answer: _Answer, error: Mapping[str, Any] | None) -> Reply:
        """Return what became of a capture or void, by where the intent ended."""
        done, amount = ("succeeded", "amount_received") if request.kind == "capture" else ("canceled", "amount")
        intent = self._intent(answer)
        if intent and intent["status"] == done:
            reply = _approved(answer, intent, amount)
            # An intent is captured once. So another amount is somebody else's capture, which a look enters, and ours never comes.
            return _declined(answer, error, intent) if error and reply.amount_minor != request.amount_minor else reply
        if intent and intent["status"] == "processing":
            return Pending(intent["id"], answer.raw(intent, None))
        if error:
            return _declined(answer, error, intent)
        raise _odd(answer.body["status"])

    def _refunded(self, answer: _Answer, refund: Mapping[str, Any]) -> Reply:
        try:
            status, failure_code = end_of(refund)
        except KeyError:
            raise _odd(refund.get("status")) from None
        if status == "failed":
            return _declined(answer, {"code": failure_code}, refund)
        return _approved(answer, refund, "amount") if status == "succeeded" else Pending(refund["id"], answer.raw(refund, None))

    def _intent(self, answer: _Answer) -> dict[str, Any] | None:
        """Return the intent that the answer is or carries."""
        intent = answer.error.get("payment_intent") if answer.error else answer.body
        if intent:
            self._check_mode(intent)
        return intent

    def _check_mode(self, thing: Mapping[str, Any]) -> None:
        if thing.get("livemode", self._is_live) is not self._is_live:  # refunds and lists have no mode of their own
            raise _Unanswered("Stripe answered in the other mode", alarm=Alarm.REFUSES_US)

    # How we ask.

    def _pages(self, path: str, parameters: dict[str, Any], ends_s: float) -> Iterator[tuple[_Answer, dict[str, Any]]]:
        """Yield each object of a list with its answer, newest first."""
        more: dict[str, Any] = {"limit": 100}
        while True:
            answer = self._get(path, parameters | more, ends_s)
            for thing in answer.body["data"]:
                self._check_mode(thing)
                yield answer, thing
            if not answer.body["has_more"]:
                return
            more["starting_after"] = answer.body["data"][-1]["id"]

    def _get(self, path: str, parameters: dict[str, Any], ends_s: float) -> _Answer:
        answer = self._call("GET", f"{path}?{urlencode(parameters, doseq=True)}", None, ends_s)
        if answer.error:  # it says nothing of what became of an earlier call
            raise _Unanswered(f"Stripe answered our question with {answer.status} {answer.error.get('code', '')}".rstrip())
        return answer

    def _call(self, method: str, path: str, parameters: dict[str, Any] | None, ends_s: float, key: str | None = None) -> _Answer:
        """Return an object, or an error that is definite. Raises _Unanswered."""
        headers = {"Stripe-Version": API_VERSION, "User-Agent": f"payments-on-lambda/{__version__}"}
        if method == "POST":
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        if key:
            headers["Idempotency-Key"] = key
        body = None if parameters is None else urlencode(parameters).encode()
        answer = self._exchange(method, path, headers, body, ends_s)
        status = answer.status
        if status in (401, 403):
            raise _Unanswered(f"Stripe refuses our key: {status}", alarm=Alarm.REFUSES_US)
        if status == 429:
            wait = answer.headers.get("Retry-After", "")
            raise _Unanswered("Stripe limits our rate", wait_s=float(wait) if wait.isdecimal() else None)
        if status >= 500:
            is_remembered = key is not None and answer.headers.get("Idempotent-Replayed") == "true"
            raise _Unanswered(f"Stripe answered {status}", key_is_spent=is_remembered)
        try:
            said = json.loads(answer.body)
        except ValueError:
            raise _Unanswered(f"Stripe answered {status} without JSON") from None
        error = said.get("error")
        if status == 400 and error and error.get("type") == "idempotency_error":
            raise _Unanswered("Stripe knows the key with other parameters", key_is_spent=True)
        if status not in (200, 400, 402, 404) or (status == 200) is bool(error):
            raise _Unanswered(f"Stripe answered {status}")
        self._check_mode(said)
        return _Answer(status, answer.headers.get("Request-Id"), said, answer.headers.get("Idempotent-Replayed") == "true")

    def _exchange(self, method: str, path: str, headers: dict[str, str], body: bytes | None, ends_s: float) -> Answer:
        """Return the answer. A request whose API key is refused has done nothing, so it is sent again if there is a new key."""

        def sent(api_key: str) -> Answer:
            try:
                return self._http.exchange(method, path, headers | {"Authorization": f"Bearer {api_key}"}, body, ends_s)
            except NoAnswer as none:
                raise _Unanswered(f"Stripe: {none}") from none

        answer = sent(api_key := self._key())
        if answer.status == 401:
            self._refused()
            if (another := self._key()) != api_key:
                return sent(another)
        return answer

    def _key(self) -> str:
        try:
            api_key = self._api_key()
        except (OSError, SettingsError):
            raise _Unanswered("our API key cannot be read", alarm=Alarm.REFUSES_US) from None
        if not (api_key.isascii() and api_key.isprintable()):
            raise _Unanswered("the API key has characters that no key has", alarm=Alarm.REFUSES_US)
        return api_key


def _close_together(moments_s: Sequence[int]) -> list[tuple[int, int]]:
    """Return the first and the last one of each group of moments in which none is further from the next than what is searched."""
    groups: list[tuple[int, int]] = []
    for moment_s in moments_s:
        first_s = groups.pop()[0] if groups and moment_s - groups[-1][1] <= 2 * CLOCKS_S else moment_s
        groups.append((first_s, moment_s))
    return groups


def _ring(unanswered: _Unanswered) -> None:
    """Raise the alarm of a question that no operation asked, such as Alarm.REFUSES_US for a permission that the key lacks."""
    if alarm := unanswered.unknown.alarm:
        telemetry.count(alarm)


def _hint_of(event: Mapping[str, Any]) -> Hint | None:
    """Return the event's hint; None for what is no event, which must not keep the others away for ever."""
    try:
        return hint_of(event)
    except ValueError:
        logger.error("what Stripe lists as an event is none")
        return None


def _metadata(request: GatewayRequest) -> dict[str, str]:
    """Return what `find` recognizes our intent or refund by, and a person in Stripe's dashboard."""
    return {
        "metadata[payment_id]": str(request.payment_id),
        "metadata[order_id]": request.order_id,
        "metadata[gateway_key]": request.key,
    }


def _of(request: GatewayRequest, pages: Iterator[tuple[_Answer, dict[str, Any]]]) -> tuple[_Answer, dict[str, Any]]:
    for answer, thing in pages:
        if key_of(thing) == request.key:
            return answer, thing
    raise _Unanswered("Stripe shows no trace of it")


def _path_of(payment_intent_id: str | None) -> str:
    return f"/v1/payment_intents/{quote(payment_intent_id or '', safe='')}"


def _action_required(request: GatewayRequest, answer: _Answer, intent: Mapping[str, Any]) -> ActionRequired:
    """Return what the customer's browser needs: Stripe's page if we named one to come back to, else the secret for Stripe.js."""
    step = intent.get("next_action") or {}
    if request.payment_token and step.get("type") == "redirect_to_url":
        action = NextAction("redirect", url=step["redirect_to_url"]["url"])
    else:  # a page with Stripe's Payment Element goes on with the secret, whatever it has begun
        action = NextAction("stripe_js", client_secret=intent["client_secret"])
    return ActionRequired(intent["id"], intent["id"], charge_of(intent)[0], action, answer.raw(intent, None))


def _approved(answer: _Answer, thing: Mapping[str, Any], amount: str) -> Approved:
    """Return that `thing`, an intent or a refund, moved what its member `amount` says."""
    currency = thing["currency"].upper()
    try:
        amount_minor = stripe_amounts.from_stripe(thing[amount], currency)
    except (KeyError, ValueError):
        raise _Unanswered(f"Stripe moved an amount that {currency} does not have", alarm=Alarm.AMOUNT_MISMATCH) from None
    charge_id, charge = charge_of(thing)
    if charge_id is None and thing["status"] != "canceled":  # a void of what nobody had paid
        raise KeyError("charge")
    card = (charge.get("payment_method_details") or {}).get("card") or {}
    capture_before = card.get("capture_before")
    is_refund = thing["object"] == "refund"
    return Approved(
        charge_id or "",
        thing["payment_intent"] if is_refund else thing["id"],
        amount_minor,
        currency,
        answer.raw(thing, None),
        datetime.fromtimestamp(capture_before, UTC) if capture_before else None,
        thing["id"] if is_refund else None,
    )


def _declined(answer: _Answer, error: Mapping[str, Any], thing: Mapping[str, Any] | None) -> Declined:
    code = error.get("decline_code")
    if code in (None, "generic_decline"):  # the bank gives no reason
        code = error.get("code") or error.get("type") or "generic_decline"
    message = KNOWN_DECLINES.get(code)
    if not message:  # Stripe's texts for other errors than a card's repeat parameters, tokens among them
        message = error.get("message") if error.get("type") in ("card_error", None) else None
        message = message or f"Stripe refused the request: {code}."
    charge_id = charge_of(thing)[0] if thing else None
    intent_id = (thing["payment_intent"] if thing["object"] == "refund" else thing["id"]) if thing else None
    return Declined(code, message, charge_id, intent_id, answer.raw(thing or {}, error), error.get("advice_code"))


def _knows_no_key(raw: Mapping[str, Any]) -> bool:
    """Return whether Stripe may have refused a request before it looked for an earlier one with the key.

    It remembers what it refused after that, so the next attempt is told.
    """
    return raw.get("type") == "invalid_request_error" and "status" not in raw and "replayed" not in raw


def _odd(status: object) -> _Unanswered:
    return _Unanswered(f"Stripe's status is {status}")
