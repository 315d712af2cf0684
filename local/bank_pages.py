"""The simulated gateway's pages: where a person acts for the customer, and does at a payment what a gateway's dashboard does.

The functions ask it here as well. No deployment has these pages, and they are no part of the API.
"""

import html
from urllib.parse import parse_qsl, quote

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from local.bank import STATES, Bank, NotPossible, Payment, not_refundable
from local.bank_questions import Call, Look, Since
from local.sites import GATEWAY_PAGES
from payments.domain.money import format_amount

LISTED = 50


class BankPages:
    def __init__(self, bank: Bank) -> None:
        self._bank = bank
        self.routes = [
            Route(GATEWAY_PAGES, self._list),
            Route(f"{GATEWAY_PAGES}/payments/{{intent}}", self._page),
            Route(f"{GATEWAY_PAGES}/payments/{{intent}}", self._press, methods=["POST"]),
            Route(f"{GATEWAY_PAGES}/{{what:str}}", self._answer, methods=["POST"]),
        ]

    # What the functions ask.

    async def _answer(self, request: Request) -> Response:
        body = await request.body()
        try:
            match request.path_params["what"]:
                case "call":
                    return JSONResponse(self._bank.called(Call.model_validate_json(body)))
                case "look":
                    return JSONResponse({"seen": self._bank.seen(Look.model_validate_json(body).payment_intent_id)})
                case "events":
                    return JSONResponse({"events": self._bank.events_since(Since.model_validate_json(body).since)})
        except ValidationError as error:
            return JSONResponse({"message": str(error)}, 400)
        return JSONResponse({"message": "Not Found"}, 404)

    # The pages.

    async def _list(self, _: Request) -> Response:
        payments = self._bank.payments()
        left_out = f"<p>The newest {LISTED} of {len(payments)}." if len(payments) > LISTED else ""
        rows = "".join(
            f'<li><a href="{GATEWAY_PAGES}/payments/{quote(one.payment_intent_id, safe="")}">'
            f"{html.escape(one.order_id)}</a>: {format_amount(one.amount_minor, one.currency)}, {one.state}"
            for one in reversed(payments[-LISTED:])
        )
        return _html(
            "Payments at the simulated gateway", f"{left_out}<ul>{rows}</ul>" if rows else "<p>None since the run began."
        )

    async def _page(self, request: Request) -> Response:
        payment = self._bank.payment(request.path_params["intent"])
        return _page_of(payment) if payment else _unknown()

    async def _press(self, request: Request) -> Response:
        """Do what a button says. The browser then gets a page to look at, so that it can be loaded again."""
        payment = self._bank.payment(request.path_params["intent"])
        if payment is None:
            return _unknown()
        form = dict(parse_qsl((await request.body()).decode("latin-1")))
        action = form.get("action", "")
        try:
            self._bank.act(payment, action, form.get("amount", ""), form.get("refund_id", ""))
        except NotPossible as error:
            return _page_of(payment, str(error), 409)
        back = payment.return_url if action in ("approve", "decline") else None
        return RedirectResponse(back or request.url.path, 303)


_BUTTONS = {
    "waiting": {"approve": "Approve", "decline": "Decline"},
    "authorized": {"lapse": "Let the authorization end"},
}


def _page_of(payment: Payment, problem: str = "", status: int = 200) -> Response:
    amount = format_amount(payment.amount_minor, payment.currency)
    parts = [f"<p>Order {html.escape(payment.order_id)}: <strong>{amount}</strong>", f"<p>{STATES[payment.state]}"]
    if problem and problem != STATES[payment.state]:
        parts.append(f'<p role="alert">{html.escape(problem)}')
    parts += [_button(action, text) for action, text in _BUTTONS.get(payment.state, {}).items()]
    if payment.return_url and payment.state != "waiting":
        parts.append(f'<p><a href="{html.escape(payment.return_url)}">Back to the shop</a>')
    if payment.state == "captured":
        left, why = format_amount(payment.left_minor, payment.currency), not_refundable(payment)
        parts.append(f"<h2>At the gateway's dashboard</h2><p>{why or f'{left} can be given back.'}")
        if not why:
            number = f'<input name="amount" inputmode="numeric" value="{payment.left_minor}">'
            label = f"<label>Amount in the minor unit ({payment.left_minor} is {left}) {number}</label> "
            parts += [_button("refund", "Refund", label), _button("dispute", "Dispute")]
        for refund in payment.refunds.values():
            shown = f"<p>Refund of {format_amount(refund.amount_minor, payment.currency)}: {refund.status}"
            named = f'<input type="hidden" name="refund_id" value="{html.escape(refund.gateway_refund_id)}">'
            parts.append(shown if refund.status == "failed" else shown + _button("fail_refund", "Let it fail", named))
        for dispute in payment.disputes:
            parts.append(f"<p>Dispute of {format_amount(dispute.amount_minor, payment.currency)}: {dispute.status}")
            parts += [] if dispute.outcome else [_button("won", "The shop wins"), _button("lost", "The shop loses")]
    return _html("Simulated gateway", "\n".join(parts), status)


def _button(action: str, text: str, fields: str = "") -> str:
    return f'<form method="post">{fields}<button name="action" value="{action}">{text}</button></form>'


def _unknown() -> Response:
    return _html("Simulated gateway", "<p>This run knows no such payment.", 404)


def _html(title: str, body: str, status: int = 200) -> Response:
    # In a frame of another page, a click could be a click on "Approve". Browsers would hold `form-action` against the way back
    # to the shop, so it is not there; whatever comes from a request is escaped.
    headers = {
        "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'",
        "referrer-policy": "same-origin",
        "cache-control": "no-store",
    }
    return HTMLResponse(_FRAME.format(title=title, body=body), status, headers)


_FRAME = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
  body {{font: 1rem/1.5 sans-serif; max-width: 36rem; margin: 2rem auto; padding: 0 1rem}}
  form {{display: inline}}
</style>
<h1>{title}</h1>
{body}
</html>
"""
