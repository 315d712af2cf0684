"""The witness, third part: every answer to a client stays true."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import TypeVar

from chaos.answers import Answer
from chaos.books import Books
from chaos.evidence import Evidence, Row
from chaos.oracle import CONFIDENTIAL, PAID, Life, codes_of_given_up, moment, public_code

OUTCOMES = {200: "succeeded", 201: "succeeded", 402: "declined"}

COMMANDS = ("process", "capture", "void", "refund")


def check(evidence: Evidence, lives: dict[str, Life], every_answer: Iterable[Answer] = ()) -> Iterator[str]:
    """`every_answer` has the answers that are no evidence too: a lost database took with it what made them true."""
    by_key, by_trace = {}, {}
    for operation in evidence.tables["operations"]:
        by_key[operation["owner"], operation["kind"], operation["idempotency_key"]] = operation
        by_trace[operation["kind"], operation["traceparent"]] = operation
    requests: defaultdict[str, list[Answer]] = defaultdict(list)
    deliveries: defaultdict[str, set[str]] = defaultdict(set)
    for answer in every_answer or evidence.answers:
        deliveries[answer.request].add(answer.label)
    for answer in evidence.answers:
        if answer.status == 500 or (answer.end == "raised" and answer.status is None):
            yield f"{answer.label}: an unexpected error ({answer.error or (answer.body or {}).get('request_id')})"
        yield from _names_and_codes(answer, lives)
        if answer.kind not in COMMANDS or answer.status is None:
            continue
        keyed = answer.key is not None
        found = by_key.get((answer.owner, answer.kind, answer.key)) if keyed else by_trace.get((answer.kind, answer.traceparent))
        own = by_trace.get((answer.kind, answer.traceparent))
        # All deliveries of a direct request are alike, so with several we do not know which one made the operation.
        alone = not answer.direct or len(deliveries[answer.request]) == 1
        yield from _one_answer(answer, found, own if alone else None, lives)
        if answer.status == 402 and found and answer.body:
            codes = _codes(found, lives.get(found["payment_id"]), evidence.books)
            if answer.body["decline_code"] not in codes:
                yield f"{answer.label}: shows the decline code {answer.body['decline_code']}, told may be {codes}"
        if keyed or answer.direct:
            requests[answer.request].append(answer)
    for request, answers in requests.items():
        yield from _one_request(request, answers)
    yield from _never_back(evidence.answers, lives)


def _codes(operation: Row, life: Life | None, books: Books) -> tuple[str | None, ...]:
    if operation["kind"] == "process" and life is not None and life.given_up:
        return codes_of_given_up(operation, books)
    return (public_code(operation, books),)


def _one_answer(answer: Answer, found: Row | None, own: Row | None, lives: dict[str, Life]) -> Iterator[str]:
    """`found` is the operation that belongs to the request; `own` is the operation that this delivery made."""
    body, got = answer.body or {}, f"{answer.label}: got {answer.status} {answer.code}".rstrip()
    if answer.status in (200, 201, 202, 402):
        if found is None:
            yield f"{got}, but there is no such operation"
        elif answer.status in OUTCOMES and found["outcome"] != OUTCOMES[answer.status]:
            yield f"{got}, but the {answer.kind} {found['operation_id']} is {found['outcome']}"
        elif body.get("payment_id") != found["payment_id"] or body.get("refund_id") not in (None, found["refund_id"]):
            yield f"{got} with another payment or refund than its operation's"
    elif answer.code == "idempotency_key_in_use":
        if found is None:
            yield f"{got}, but no operation has the key"
    elif 400 <= (answer.status or 0) < 500 and own is not None:
        yield f"{got}, which says that nothing was done, but operation {own['operation_id']} exists"
    if answer.code == "order_already_paid":
        statuses = {entry["to_status"] for entry in lives[body["payment_id"]].history}
        if not statuses & {"AUTHORIZED", *PAID}:
            yield f"{got}, but payment {body['payment_id']} was never authorized or captured"


def _names_and_codes(answer: Answer, lives: dict[str, Life]) -> Iterator[str]:
    """A problem about a payment names its order, and no answer names a decline code that callers must not see."""
    body = answer.body or {}
    if body.get("decline_code") in CONFIDENTIAL:
        yield f"{answer.label}: shows the decline code {body['decline_code']}"
    life = lives.get(body.get("payment_id", ""))
    if answer.refused and life and body.get("order_id") != life.payment["order_id"]:
        yield f"{answer.label}: a problem about payment {life.id} names the order {body.get('order_id')}"


def _one_request(request: str, answers: list[Answer]) -> Iterator[str]:
    """All requests with one key are one payment or refund, and a reported outcome never changes."""
    subjects = {(answer.body or {}).get("refund_id" if answer.kind == "refund" else "payment_id") for answer in _about(answers)}
    if len(subjects) > 1:
        yield f"request {request}: answered with {len(subjects)} different payments or refunds: {sorted(map(str, subjects))}"
    known = {OUTCOMES[answer.status] for answer in answers if answer.status in OUTCOMES}
    if len(known) > 1:
        yield f"request {request}: reported both as succeeded and as declined"
    first_s = min((answer.received_s for answer in answers if answer.status in OUTCOMES), default=float("inf"))
    accepted_s = min((answer.received_s for answer in answers if answer.status == 202), default=float("inf"))
    for answer in answers:
        if answer.sent_s > first_s and answer.status not in (*OUTCOMES, 503):
            yield f"{answer.label}: got {answer.status} {answer.code} after the outcome had been told"
        if answer.sent_s > accepted_s and answer.status not in (*OUTCOMES, 202, 503) and answer.code != "idempotency_key_in_use":
            yield f"{answer.label}: got {answer.status} {answer.code} after the request had been accepted"


def _about(answers: list[Answer]) -> list[Answer]:
    return [answer for answer in answers if answer.status in (200, 201, 202, 402)]


def _never_back(answers: list[Answer], lives: dict[str, Life]) -> Iterator[str]:
    """A client that knows a state never gets an earlier one in a later answer, and no answer shows a state that never existed."""
    positions: defaultdict[str, list[tuple[Answer, int, int]]] = defaultdict(list)
    updates: defaultdict[str, list[tuple[Answer, datetime]]] = defaultdict(list)
    known_orders: dict[str, float] = {}
    for answer in sorted(answers, key=lambda answer: answer.received_s):
        body = answer.body or {}
        order = answer.request.partition(".")[0]
        if answer.kind == "look-up" and answer.status == 404 and answer.sent_s > known_orders.get(order, float("inf")):
            yield f"{answer.label}: the order's payment is not found, but an earlier answer showed it"
        payment_id, status = body.get("payment_id"), body.get("payment_status") or body.get("status")
        if payment_id is None or not isinstance(status, str):
            continue
        if answer.refused and answer.replayed:
            continue  # It repeats what was true when the request was refused for good.
        known_orders.setdefault(order, answer.received_s)
        if payment_id not in lives:
            yield f"{answer.label}: shows payment {payment_id}, which does not exist"
            continue
        refunded = body.get("amount_refunded")
        states = lives[payment_id].states
        matching = [n for n, state in enumerate(states) if state[0] == status and refunded in (None, state[1])]
        if not matching:
            yield f"{answer.label}: shows payment {payment_id} as {status}, {refunded} refunded, but it never had this state"
            continue
        if answer.kind != "refund" and (updated_at := body.get("updated_at")):
            updates[payment_id].append((answer, moment(updated_at)))
        positions[payment_id].append((answer, matching[0], matching[-1]))
    for payment_id, shown_states in positions.items():
        # A problem document names only the status, and several states may have it. In doubt we assume that the client knew the
        # first of them, and that the answer showed the last.
        states = lives[payment_id].states
        for answer, shown, floor in _behind(shown_states):
            yield f"{answer.label}: shows payment {payment_id} as {states[shown]} after an answer showed {states[floor]}"
    for payment_id, changed in updates.items():
        for answer, shown_at, floor_at in _behind([(answer, at, at) for answer, at in changed]):
            yield f"{answer.label}: shows payment {payment_id} as of {shown_at} after an answer showed it as of {floor_at}"


Position = TypeVar("Position", int, datetime)


def _behind(answers: list[tuple[Answer, Position, Position]]) -> Iterator[tuple[Answer, Position, Position]]:
    """Yield each answer that shows less than the client knew when it sent the request: (answer, shown, known before).

    `answers` holds (answer, position that the client knows from it, position that it shows), in the order of received_s.
    """
    waiting = iter(answers)
    upcoming = next(waiting, None)
    floor = None
    # We walk by sent_s, and keep the latest position that an answer had shown by then.
    for answer, _, shown in sorted(answers, key=lambda entry: entry[0].sent_s):
        while upcoming is not None and upcoming[0].received_s < answer.sent_s:
            floor = upcoming[1] if floor is None else max(floor, upcoming[1])
            upcoming = next(waiting, None)
        if floor is not None and shown < floor:
            yield answer, shown, floor
