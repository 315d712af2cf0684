"""A shop with the client of openapi-python-client. It prints the name of each step when its answer was right."""

import sys
from typing import Any

from payments_client import AuthenticatedClient
from payments_client.api.look_ups import get_order, get_payment, list_payments
from payments_client.api.payments import process_payment
from payments_client.api.refunds import refund_payment
from payments_client.models import (
    CurrencyCode,
    DeclineCode,
    ErrorCode,
    Message,
    Payment,
    PaymentList,
    PaymentMethod,
    PaymentStatus,
    PaymentWithRefunds,
    Problem,
    ProblemOrMessage,
    ProcessRequest,
    RefundCreated,
    RefundRequest,
    RefundStatus,
)
from payments_client.types import UNSET, Response

URL, TOKEN = sys.argv[1:]
BIG = 5_000_000_000


def client(url: str = URL, token: str = TOKEN) -> AuthenticatedClient:
    return AuthenticatedClient(base_url=url, token=token)


def pay(order_id: str, amount: int, payment_token: str) -> Response[Any]:
    request = ProcessRequest(
        order_id=order_id,
        amount=amount,
        currency=CurrencyCode.USD,
        payment_method=PaymentMethod.CREDIT_CARD,
        payment_token=payment_token,
    )
    return process_payment.sync_detailed(client=client(), body=request, idempotency_key=f"pay-{order_id}")


def check(step: str, is_right: bool, found: object) -> None:
    if not is_right:
        raise AssertionError(f"{step}: {found}")
    print(step)


def main() -> None:
    paid = pay("big", BIG, "tok_ok").parsed
    assert isinstance(paid, Payment), paid
    check("pays", paid.status == PaymentStatus.CAPTURED and paid.amount_captured == BIG, paid)

    again = pay("big", BIG, "tok_ok")
    is_replayed = again.headers.get("Idempotent-Replayed") == "true"
    check("replays", is_replayed and isinstance(again.parsed, Payment) and again.parsed.payment_id == paid.payment_id, again)

    found = get_payment.sync(paid.payment_id, client=client())
    check("reads back", isinstance(found, PaymentWithRefunds) and found.amount == BIG, found)

    decline = pay("declined", 1999, "tok_card_declined")
    problem = decline.parsed
    assert isinstance(problem, Problem), problem
    is_declined = decline.status_code == 402 and problem.code == ErrorCode.PAYMENT_DECLINED
    check("is declined", is_declined and problem.decline_code == DeclineCode.CARD_DECLINED, problem)

    part = RefundRequest(payment_id=str(paid.payment_id), amount=2_000_000_000)
    refunded = refund_payment.sync(client=client(), body=part, idempotency_key="return-1")
    assert isinstance(refunded, RefundCreated), refunded
    is_refunded = refunded.status == RefundStatus.REFUND_SUCCEEDED and refunded.payment_status == PaymentStatus.PARTIALLY_REFUNDED
    check("refunds", is_refunded and refunded.amount_refunded == 2_000_000_000, refunded)

    for n in range(1, 6):
        pay(f"small-{n}", 100, "tok_ok")
    orders, pages, cursor = set(), 0, None
    while pages == 0 or cursor:
        page = list_payments.sync(client=client(), limit=3, cursor=cursor or UNSET)
        assert isinstance(page, PaymentList), page
        orders |= {payment.order_id for payment in page.data}
        pages, cursor = pages + 1, page.next_cursor
    check("lists", len(orders) == 7 and pages == 3, orders)

    unauthorized = get_payment.sync(paid.payment_id, client=client(URL, "expired"))
    check("meets 401", isinstance(unauthorized, ProblemOrMessage) and unauthorized.message == "Unauthorized", unauthorized)

    throttled = get_payment.sync(paid.payment_id, client=client(f"{URL}/throttled"))
    check("meets 429", isinstance(throttled, Message) and throttled.message == "Too Many Requests", throttled)

    newer = client(f"{URL}/newer")
    order, missing = get_order.sync("declined", client=newer), get_order.sync("missing", client=newer)
    assert isinstance(order, PaymentWithRefunds), order
    is_read = (order.status, order.decline_code, order.amount) == ("SETTLING", "wallet_empty", 1999)
    is_refused = isinstance(missing, ProblemOrMessage) and missing.code == "order_archived"
    check("meets unknown values", is_read and is_refused, (order, missing))


if __name__ == "__main__":
    main()
