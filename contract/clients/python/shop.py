"""A shop with the client that openapi-generator makes for Python. It prints the name of each step when its answer was right."""

import sys
from collections.abc import Callable
from typing import Any

from payments_client import (
    ApiClient,
    ApiException,
    ApiResponse,
    Configuration,
    CurrencyCode,
    DeclineCode,
    ErrorCode,
    LookUpsApi,
    Payment,
    PaymentMethod,
    PaymentsApi,
    PaymentStatus,
    ProcessRequest,
    RefundRequest,
    RefundsApi,
    RefundStatus,
)

URL, TOKEN = sys.argv[1:]
BIG = 5_000_000_000


def client(url: str = URL, token: str = TOKEN) -> ApiClient:
    return ApiClient(Configuration(host=url, access_token=token))


def pay(order_id: str, amount: int, payment_token: str) -> ApiResponse[Payment]:
    request = ProcessRequest(
        order_id=order_id,
        amount=amount,
        currency=CurrencyCode.USD,
        payment_method=PaymentMethod.CREDIT_CARD,
        payment_token=payment_token,
    )
    return PaymentsApi(client()).process_payment_with_http_info(request, f"pay-{order_id}")


def refused(call: Callable[..., object], *arguments: object) -> Any:
    try:
        call(*arguments)
    except ApiException as refusal:
        return refusal
    raise AssertionError("it was not refused")


def check(step: str, is_right: bool, found: object) -> None:
    if not is_right:
        raise AssertionError(f"{step}: {found}")
    print(step)


def main() -> None:
    paid = pay("big", BIG, "tok_ok").data
    check("pays", paid.status == PaymentStatus.CAPTURED and paid.amount_captured == BIG, paid)

    again = pay("big", BIG, "tok_ok")
    is_replayed = (again.headers or {}).get("idempotent-replayed") == "true"
    check("replays", is_replayed and again.data.payment_id == paid.payment_id, again)

    look_ups = LookUpsApi(client())
    found = look_ups.get_payment(paid.payment_id)
    check("reads back", found.amount == BIG, found)

    decline = refused(pay, "declined", 1999, "tok_card_declined")
    is_declined = decline.status == 402 and decline.data.code == ErrorCode.PAYMENT_DECLINED
    check("is declined", is_declined and decline.data.decline_code == DeclineCode.CARD_DECLINED, decline)

    request = RefundRequest(payment_id=str(paid.payment_id), amount=2_000_000_000)
    refund = RefundsApi(client()).refund_payment(request, "return-1")
    is_refunded = refund.status == RefundStatus.REFUND_SUCCEEDED and refund.payment_status == PaymentStatus.PARTIALLY_REFUNDED
    check("refunds", is_refunded and refund.amount_refunded == 2_000_000_000, refund)

    for n in range(1, 6):
        pay(f"small-{n}", 100, "tok_ok")
    orders, pages, cursor, has_more = set(), 0, None, True
    while has_more:
        page = look_ups.list_payments(limit=3, cursor=cursor)
        orders |= {payment.order_id for payment in page.data}
        pages, cursor, has_more = pages + 1, page.next_cursor, page.has_more
    check("lists", len(orders) == 7 and pages == 3, orders)

    unauthorized = refused(LookUpsApi(client(URL, "expired")).get_payment, paid.payment_id)
    check("meets 401", unauthorized.status == 401 and unauthorized.data.message == "Unauthorized", unauthorized)

    throttled = refused(LookUpsApi(client(f"{URL}/throttled")).get_payment, paid.payment_id)
    check("meets 429", throttled.status == 429 and throttled.data.message == "Too Many Requests", throttled)

    newer = LookUpsApi(client(f"{URL}/newer"))
    order = newer.get_order("declined")
    is_read = (order.status, order.decline_code, order.amount) == ("SETTLING", "wallet_empty", 1999)
    missing = refused(newer.get_order, "missing")
    check("meets unknown values", is_read and missing.data.code == "order_archived", (order, missing))


if __name__ == "__main__":
    main()
