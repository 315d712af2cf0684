"""Seeded defects. Each is a small patch of the tree, and names the part of the harness that should notice it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chaos.crash import Act, Moment
from chaos.crash_points import Sweep
from chaos.plan import Rates

PAYMENTS = "layers/shared/python/payments"
STRIPE = f"{PAYMENTS}/gateway/stripe.py"
TABLES = "migrations/001_create_payment_tables.sql"

NOTHING_ELSE: dict[str, Any] = {"sweep": None, "stale": (), "load": False, "outages": ()}


def _points(kind: str, act: Act = "kill", moment: Moment = "before", *, cold: bool = True) -> dict[str, Any]:
    return NOTHING_ELSE | {"sweep": Sweep((kind,), (act,), (moment,), (cold,))}


def _lost_at_stripe(kind: str, most: int = 4) -> dict[str, Any]:
    """Every second answer is a 500, the others break off, so a few hits are enough."""
    return NOTHING_ELSE | {"gateway": "stripe-world", "sweep": Sweep((kind,), ("kill",), ("before",), (True,), most=most)}


def _at_dashboard(kind: str) -> dict[str, Any]:
    return NOTHING_ELSE | {"gateway": "stripe-world", "sweep": Sweep((kind,), ("kill",), ("before",), (True,), most=4)}


def _stale(*kinds: str) -> dict[str, Any]:
    return NOTHING_ELSE | {"stale": kinds}


def _load(invocations: int = 500) -> dict[str, Any]:
    return NOTHING_ELSE | {"load": True, "invocations": invocations, "hurry": 0.2, "rates": Rates(kill=0.2, freeze=0.0)}


@dataclass(frozen=True, slots=True)
class Patch:
    """Replace `old`, which `file` (relative to the tree) contains exactly once, with `new`."""

    file: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """`how` are the options of the run that should catch the mutant, see run.Options; `sign` is part of its violation's text."""

    name: str
    sign: str
    patches: tuple[Patch, ...]
    how: Mapping[str, Any]

    @property
    def gateway(self) -> str:
        return str(self.how.get("gateway", "simulated"))


DEDUPLICATED_BY_TYPE = (
    Patch(
        f"{PAYMENTS}/scheduled/gateway_events.py",
        "        if payment is not None:\n            outcome = EventOutcome(look(",
        "        if payment is not None and all(gateway_events.has_had(db, event) for event in events):\n"
        "            outcome = EventOutcome.NOTHING_NEW\n"
        "        elif payment is not None:\n            outcome = EventOutcome(look(",
    ),
    Patch(
        f"{PAYMENTS}/store/gateway_events.py",
        "def has_nameless(",
        "HAD = Statement(\n"
        "    'SELECT EXISTS (SELECT FROM gateway_events WHERE payment_intent_id = :intent AND type = :type"
        " AND handled_at IS NOT NULL)'\n)\n\n\n"
        "def has_had(db, event):\n"
        "    return db.run(HAD(intent=event.payment_intent_id, type=event.type))[0][0][0]\n\n\n"
        "def has_nameless(",
    ),
)
"""An event is thrown away if the payment has had one of its type."""

MUTANTS = (
    Mutant(
        "the event is published before the commit",
        "is on the topic and not in the outbox",
        (
            Patch(
                f"{PAYMENTS}/commands/settle.py",
                "        done, next_event = settlement.settle(",
                "        service.publisher.publish([event], 2.0)\n        done, next_event = settlement.settle(",
            ),
        ),
        _points("process"),
    ),
    Mutant(
        "settled without the outbox row",
        "the outbox has []",
        (
            Patch(
                f"{PAYMENTS}/store/settlement.py",
                "        FROM paid RETURNING event_id",
                "        FROM paid WHERE false RETURNING event_id",
            ),
        ),
        _points("process"),
    ),
    Mutant(
        "the outbox row in a transaction of its own",
        "is not on the topic",
        (
            Patch(
                f"{PAYMENTS}/store/settlement.py",
                "        FROM paid RETURNING event_id",
                "        FROM paid WHERE false RETURNING event_id",
            ),
            Patch(
                f"{PAYMENTS}/store/settlement.py",
                "    return written(event, db.run(statement, *ending)[0][0])\n",
                "    row = db.run(statement, *ending)[0][0]\n"
                "    if row[0] and event:\n"
                '        owe = Statement("INSERT INTO outbox VALUES (:id, :of, :sequence, :type, :data, NULL, :at, :at, NULL)")\n'
                "        data, ids = event.data, {'id': event.event_id, 'of': event.payment_id}\n"
                "        db.run(owe(**ids, sequence=event.sequence, type=event.type, data=data, at=row[1]))\n"
                "    return written(event, row)\n",
            ),
        ),
        _points("process"),
    ),
    Mutant(
        "a new gateway key for each attempt",
        "which no operation has",
        (
            Patch(
                f"{PAYMENTS}/commands/phases.py",
                "key=operation.gateway_key,",
                'key=operation.gateway_key + f"-{operation.attempt}" * (operation.attempt > 1),',
            ),
        ),
        _points("process", "kill", "after"),
    ),
    Mutant(
        "refunds guarded in Python only",
        "captured, by the gateway",
        (
            Patch(
                f"{PAYMENTS}/store/claims_on_payment.py",
                "+ payment.take_minor <= payments.captured_minor",
                "+ payment.take_minor > 0",
            ),
            Patch(
                TABLES,
                "refund_reserved_minor >= 0 AND refunded_minor + refund_reserved_minor <= captured_minor)",
                "refund_reserved_minor >= 0)",
            ),
            Patch(
                f"{PAYMENTS}/commands/refund.py",
                "from payments.store import claims_on_payment, disputes\n",
                "from payments.store import claims_on_payment, disputes, lookups\n",
            ),
            Patch(
                f"{PAYMENTS}/commands/refund.py",
                "        refund_id = service.new_id()\n",
                "        seen = lookups.find_payment(service.db, draft.owner, *request.payment)\n"
                "        if seen and (request.amount or 0) > seen.refundable_minor:\n"
                "            raise AmountTooLarge('only Python guards')\n"
                "        refund_id = service.new_id()\n",
            ),
        ),
        _load(),
    ),
    Mutant(
        "every refund takes all that is left",
        "is not what was asked",
        (
            Patch(
                f"{PAYMENTS}/store/claims_on_payment.py",
                "COALESCE(:amount_minor::bigint, captured_minor - refunded_minor - refund_reserved_minor) AS take_minor",
                "COALESCE(:amount_minor::bigint * 0, 0) + captured_minor - refunded_minor - refund_reserved_minor AS take_minor",
            ),
        ),
        _load(),
    ),
    Mutant(
        "captured beyond the authorization",
        "authorized, by the gateway",
        (
            Patch(
                f"{PAYMENTS}/store/claims_on_payment.py",
                "AND take_minor <= amount_minor",
                "AND take_minor > 0",
            ),
            Patch(TABLES, "CHECK (captured_minor BETWEEN 0 AND amount_minor)", "CHECK (captured_minor >= 0)"),
        ),
        _load(1500),
    ),
    Mutant(
        "ON CONFLICT DO NOTHING for a refund's operation",
        "has no operation",
        (
            Patch(
                f"{PAYMENTS}/store/claims_on_payment.py",
                'inserted_operation("take_minor", "reserved")',
                'inserted_operation("take_minor", "reserved ON CONFLICT DO NOTHING")',
            ),
        ),
        _load(),
    ),
    Mutant(
        "the idempotency key forgotten on an exception",
        "different payments or refunds",
        (
            Patch(
                f"{PAYMENTS}/store/due.py",
                "SET lease_until = now(), reply = ",
                "SET lease_until = now(), idempotency_key = NULL, reply = ",
            ),
            Patch(TABLES, "GRANT UPDATE (attempt, ", "GRANT UPDATE (idempotency_key, attempt, "),
        ),
        _load(),
    ),
    Mutant(
        "reconcile ignores leases",
        "two workers at one operation",
        (Patch(f"{PAYMENTS}/store/due.py", "outcome IS NULL AND next_attempt_at <= now()", "outcome IS NULL"),),
        _load(),
    ),
    Mutant(
        "an unknown outcome treated as declined",
        "and the gateway moved the money",
        (
            Patch(
                f"{PAYMENTS}/commands/settle.py",
                "        if isinstance(reply, Approved | Declined):\n",
                "        if isinstance(reply, Unknown):\n"
                '            reply = Declined("processing_error", reply.reason, None, None, {})\n'
                "        if isinstance(reply, Approved | Declined):\n",
            ),
        ),
        _points("reconcile"),
    ),
    Mutant(
        "three Syncs for a statement behind the pooler",
        "unexpected error",
        (
            Patch(
                f"{PAYMENTS}/store/connection.py",
                "        self.send(statements)\n        return self.receive()\n",
                "        done = [self.execute_unnamed(s.sql, make_params(self.py_types, s.values)) for s in statements]\n"
                "        return [context.rows or [] for context in done]\n",
            ),
        ),
        _load(),
    ),
    Mutant(
        "the connection reused after a time-out",
        # Often a gateway key is used for different requests too, but that depends on which rows arrive late.
        "unexpected error",
        (
            Patch(
                f"{PAYMENTS}/store/connection.py", "self._connection = None  # until", "self._connection = connection  # until"
            ),
            Patch(
                f"{PAYMENTS}/store/connection.py",
                "is not None and (not 0 <= idle_s <= IDLE_LIMIT_S or now_s > self._connection.ends_at_s):",
                "is None and False:",
            ),
            Patch(f"{PAYMENTS}/store/connection.py", "is not None and self._connection.is_stale():", "is None and False:"),
            Patch(
                f"{PAYMENTS}/store/connection.py",
                "            elif connection is not None:\n                _close_quietly(connection)\n            raise\n",
                # Python does not read on from a file that timed out. That would hide the defect, so the patch makes a new file.
                "            elif connection is not None:\n"
                '                connection._sock = connection._usock.makefile(mode="rwb")\n'
                "            raise\n",
            ),
        ),
        _points("process", "stall", "after", cold=False),
    ),
    Mutant(
        "a lost commit reply taken for a refusal",
        "says that nothing was done",
        (
            Patch(
                f"{PAYMENTS}/commands/claim.py",
                "    if claimed.resent and (ours :=",
                "    if False and (ours :=",
            ),
            Patch(f"{PAYMENTS}/commands/claim.py", "    if claimed.resent:\n", "    if claimed.resent and False:\n"),
        ),
        _points("refund", "cut", "after", cold=False),
    ),
    Mutant(
        "the relay marks before the acknowledgement",
        "is not on the topic",
        (
            Patch(
                f"{PAYMENTS}/scheduled/relay.py",
                "                sending = sender.submit",
                "                outbox.mark_published(service.db, [event.event_id for event in events])\n"
                "                sending = sender.submit",
            ),
        ),
        _points("relay"),
    ),
    Mutant(
        "an event overtakes an older one of its payment",
        "its events came in the order",
        (Patch(f"{PAYMENTS}/store/settlement.py", "if done and is_next else None", "if done else None"),),
        _stale("process"),
    ),
    Mutant(
        "a new event id for each sending",
        "is on the topic as",
        (Patch(f"{PAYMENTS}/domain/events.py", '"id": str(event.event_id)', '"id": str(__import__("uuid").uuid4())'),),
        _points("process"),
    ),
    Mutant(
        "states regress, for the guards are gone",
        "went from",
        (
            Patch(
                f"{PAYMENTS}/store/settlement.py",
                "attempt = :attempt AND {IN_FLIGHT} FOR UPDATE",
                "(attempt = :attempt OR true) FOR UPDATE",
            ),
            Patch(f"{PAYMENTS}/store/settlement.py", "AND version = :version_before", "AND (version = :version_before OR true)"),
            Patch(
                "migrations/012_a_payment_begins_in_one_statement.sql",
                "WHEN (NEW.status <> OLD.status AND",
                "WHEN (NEW.status <> NEW.status AND",
            ),
            Patch(TABLES, "one_event_per_sequence UNIQUE (payment_id, sequence)", "one_event_per_sequence CHECK (sequence > 0)"),
            Patch(TABLES, "    PRIMARY KEY (payment_id, version)\n", "    CHECK (version > 0)\n"),
        ),
        _stale("process"),
    ),
    Mutant(
        "two live payments for an order",
        "is paid 2 times",
        (Patch(TABLES, "CREATE UNIQUE INDEX payments_one_live_per_order", "CREATE INDEX payments_one_live_per_order"),),
        _load(),
    ),
    Mutant(
        "a capture and a void in flight together",
        "both captured and voided",
        (
            Patch(
                "migrations/003_one_operation_in_flight.sql",
                "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS operations_one_in_flight_but_refunds",
                "CREATE INDEX CONCURRENTLY IF NOT EXISTS operations_one_in_flight_but_refunds",
            ),
        ),
        _load(),
    ),
    Mutant(
        "a reservation released while the outcome is unknown",
        "captured, by the gateway",
        (
            Patch(
                f"{PAYMENTS}/store/due.py",
                'GIVE_BACK = Statement(f"""-- give_back\n    UPDATE',
                'GIVE_BACK = Statement(f"""\n    WITH given AS (UPDATE',
            ),
            Patch(
                f"{PAYMENTS}/store/due.py",
                "AND attempt = :attempt AND {IN_FLIGHT}\n    RETURNING next_attempt_at\n",
                "AND attempt = :attempt AND {IN_FLIGHT} RETURNING kind, payment_id, amount_minor, next_attempt_at)\n"
                "    UPDATE payments SET refund_reserved_minor = 0, version = version + 1 FROM given\n"
                "    WHERE given.kind = 'refund' AND payments.payment_id = given.payment_id\n",
            ),
            Patch(
                f"{PAYMENTS}/domain/payment.py",
                "to = S.REFUNDED if",
                "amount_minor = min(amount_minor, payment.refund_reserved_minor)\n            to = S.REFUNDED if",
            ),
            Patch(
                f"{PAYMENTS}/domain/payment.py",
                'changes = {"status_reason": _declined("refund "',
                "amount_minor = min(amount_minor, payment.refund_reserved_minor)\n"
                '            changes = {"status_reason": _declined("refund "',
            ),
        ),
        # A few hits are enough: the defect leaves operations that reconcile can never settle.
        NOTHING_ELSE | {"sweep": Sweep(("reconcile-refund",), ("kill",), ("before",), (True,), most=4)},
    ),
    Mutant(
        "a slow clock turns the payment's story back",
        "history goes back in time",
        (
            Patch(
                f"{PAYMENTS}/store/claims_on_payment.py",
                "GREATEST(payments.updated_at, payment.taken_at)",
                ":created_at::timestamptz",
            ),
        ),
        _load(),
    ),
    Mutant(
        "a direct payload's key derived from the moment",
        "after the outcome had been told",
        (
            Patch(
                f"{PAYMENTS}/api/direct.py",
                'f"request-{request.digest}"',
                "f\"request-{request.digest}-{__import__('time').time_ns()}\"",
            ),
        ),
        _points("process", cold=False),
    ),
    Mutant(
        "a declined refund owes no event",
        "the outbox has [",
        (
            Patch(
                f"{PAYMENTS}/store/settlement.py",
                "        FROM paid RETURNING event_id",
                "        FROM paid WHERE :type::text <> 'payment.refund_failed' RETURNING event_id",
            ),
        ),
        NOTHING_ELSE | {"sweep": Sweep(("refund-declined",), ("kill",), ("after",), (True,), most=4)},
    ),
    Mutant(
        "a declined capture has no number",
        "outcomes of operations, its history tells",
        (
            Patch(
                f"{PAYMENTS}/domain/payment.py",
                "payment.event_sequence + isinstance(change, Published)",
                "payment.event_sequence + (isinstance(change, Published) and not isinstance(change, CaptureFailed))",
            ),
            Patch(
                f"{PAYMENTS}/store/settlement.py",
                "        FROM paid RETURNING event_id",
                "        FROM paid WHERE :type::text <> 'payment.capture_failed' RETURNING event_id",
            ),
        ),
        NOTHING_ELSE | {"sweep": Sweep(("capture-declined",), ("kill",), ("after",), (True,), most=4)},
    ),
    Mutant(
        "an event shows the gateway's own decline code",
        "has the decline code",
        (
            Patch(
                f"{PAYMENTS}/domain/events.py",
                "body = payment_body(after) |",
                "body = payment_body(after, confidential=True) |",
            ),
        ),
        _load(),
    ),
    Mutant(
        "a refusal is told on every retry",
        "times as refused",
        (
            Patch(
                f"{PAYMENTS}/api/direct.py",
                "refusal_event(_event_id(owner, once), ",
                "refusal_event(service.new_id(), ",
            ),
        ),
        _points("refused", "kill", "after"),
    ),
    Mutant(
        "a retryable refusal is returned instead of raised",
        "instead of raising it",
        (Patch(f"{PAYMENTS}/api/direct.py", "    if error.retryable:\n", "    if False:\n"),),
        _stale("capture-behind-void"),
    ),
    Mutant(
        "a final refusal is raised for ever",
        "has no final answer",
        (Patch(f"{PAYMENTS}/api/direct.py", "    if error.retryable:\n", "    if True:\n"),),
        _points("refused"),
    ),
    Mutant(
        "a final refusal is not written",
        "which is not told",
        (
            Patch(
                f"{PAYMENTS}/api/direct.py",
                "    if written := outbox.write(service.db, refusal, PUBLISH_LEASE_S):",
                "    if written := None:",
            ),
        ),
        _points("refused"),
    ),
    Mutant(
        "a refusal is published before it is written",
        "has another value on the topic",
        (
            Patch(
                f"{PAYMENTS}/api/direct.py", "phases import perform, publish_and_mark\n", "phases import mark, perform, publish\n"
            ),
            Patch(
                f"{PAYMENTS}/api/direct.py",
                "    if written := outbox.write(service.db, refusal, PUBLISH_LEASE_S):\n"
                "        publish_and_mark(written, service)\n",
                "    sent = publish([refusal], service)\n"
                "    if outbox.write(service.db, refusal, PUBLISH_LEASE_S):\n        mark(sent, service)\n",
            ),
        ),
        _points("refused"),
    ),
    Mutant(
        "the reason of a refusal is read after the key",
        "for good, and its capture",
        (
            Patch(
                f"{PAYMENTS}/commands/claim.py",
                "    refusal = command.why_not(claimed, request, call, service)\n",
                "",
            ),
            Patch(
                f"{PAYMENTS}/commands/claim.py",
                "    raise refusal\n",
                "    raise command.why_not(claimed, request, call, service)\n",
            ),
        ),
        _stale("capture-behind-void"),
    ),
    Mutant(
        "a refusal overlooks the operation in flight",
        "was never authorized or captured",
        (
            Patch(
                f"{PAYMENTS}/store/lookups.py",
                "SELECT EXISTS (SELECT FROM operations ",
                "SELECT false AND EXISTS (SELECT FROM operations ",
            ),
        ),
        _load(1500),
    ),
    Mutant(
        "a customer's time ends without the gateway",
        "its customer can still pay it at the gateway",
        (
            Patch(
                f"{PAYMENTS}/commands/customer.py",
                "    canceled = gateway.void(cancel)\n",
                '    canceled = Approved("", reply.payment_intent_id, cancel.amount_minor, cancel.currency, {})\n',
            ),
        ),
        _points("action-expiry"),
    ),
    Mutant(
        "a payment is given up without the gateway",
        "its customer can still pay it at the gateway",
        (
            Patch(
                f"{PAYMENTS}/commands/void.py",
                "        return gateway.void(request)\n",
                "        if request.transaction_id is None:\n"
                '            return Approved("", request.payment_intent_id or "", request.amount_minor, request.currency, {})\n'
                "        return gateway.void(request)\n",
            ),
        ),
        _points("give-up"),
    ),
    Mutant(
        "a payment whose customer was faster than its void is forgotten",
        "is stuck in REQUIRES_ACTION",
        (Patch(f"{PAYMENTS}/store/waiting.py", "WHEN 'declined' THEN now() END,", "WHEN 'pending' THEN now() END,"),),
        _points("give-up", cold=False),
    ),
    Mutant(
        "the customer's secret is kept",
        "which is for the customer alone",
        (
            Patch(
                f"{PAYMENTS}/commands/customer.py",
                '"raw": reply.raw}',
                '"raw": reply.raw | {"of_customer": reply.next_action.client_secret}}',
            ),
        ),
        _points("asked"),
    ),
    Mutant(
        "a reserved amount counts as spent",
        "are left at last",
        (
            Patch(
                f"{PAYMENTS}/commands/on_payment.py",
                "retryable = asked_minor <= limit_minor + payment.refund_reserved_minor",
                "retryable = False",
            ),
        ),
        _load(2500),
    ),
    Mutant(
        "a webhook's delivery is deleted before it is sent",
        "never reached the webhook",
        (
            Patch(
                f"{PAYMENTS}/scheduled/courier.py",
                "                sending |= {threads.submit(_timed",
                "                if claimed:\n"
                "                    webhooks.delivered(service.db, claimed, [])\n"
                "                sending |= {threads.submit(_timed",
            ),
        ),
        _points("courier"),
    ),
    Mutant(
        "a webhook's deliveries overtake each other",
        "before [1]",
        (
            Patch(
                f"{PAYMENTS}/store/webhooks.py",
                "AND before.sequence < one.sequence AND {_NOT_GIVEN_UP",
                "AND before.sequence < one.sequence AND false AND {_NOT_GIVEN_UP",
            ),
        ),
        # The receiver refuses the first that comes, so it had not taken event 1 when event 2 came, in whatever order they came.
        NOTHING_ELSE | {"sweep": Sweep(("courier-refused",), ("kill",), ("before",), (True,), most=4)},
    ),
    Mutant(
        "a webhook's delivery is not set free when the one before it has arrived",
        "is still owed to a webhook",
        (
            Patch(
                f"{PAYMENTS}/store/webhooks.py",
                "AND one.sequence > ended.sequence AND",
                "AND one.sequence > ended.sequence AND false AND",
            ),
        ),
        _points("courier"),
    ),
    # Those from here on are of the adapter to Stripe, or of the guards around it. They run against Stripe World.
    Mutant(
        "Stripe gets a new key for each attempt",
        "moved the money 2 times",
        (
            Patch(
                STRIPE,
                "parameters | _metadata(request), ends_s, key=request.key)\n        return self._charged",
                'parameters | _metadata(request), ends_s, key=f"{request.key}-{request.attempt}")\n        return self._charged',
            ),
        ),
        _lost_at_stripe("reconcile"),
    ),
    Mutant(
        "an answer of Stripe's that never came is a decline",
        "is declined, and the gateway moved the money",
        (
            Patch(
                STRIPE,
                "            return unanswered.unknown\n",
                "            return _declined(_Answer(0, None, {}), NOT_DONE, None)\n",
            ),
        ),
        _lost_at_stripe("reconcile"),
    ),
    Mutant(
        "a 500 of Stripe's is a decline",
        "is declined, and the gateway moved the money",
        (
            Patch(
                STRIPE,
                '            raise _Unanswered(f"Stripe answered {status}", key_is_spent=is_remembered)\n',
                '            return _Answer(400, None, {"error": NOT_DONE})\n',
            ),
        ),
        _lost_at_stripe("reconcile"),
    ),
    Mutant(
        "a remembered 500 is asked for again",
        "never got an outcome",
        (Patch(STRIPE, "key_is_spent=is_remembered", "key_is_spent=False"),),
        _lost_at_stripe("reconcile-refund"),
    ),
    Mutant(
        "a key of Stripe's is used after its end",
        "moved the money 2 times",
        (
            Patch(
                f"{PAYMENTS}/commands/phases.py",
                "only_ask = request.gateway_id is not None or not claimed.key_lives",
                "only_ask = request.gateway_id is not None",
            ),
        ),
        _lost_at_stripe("ended-key"),
    ),
    Mutant(
        "Stripe captures all, and nobody compares the amount",
        "at the gateway, in the tables",
        (
            Patch(STRIPE, '{"amount_to_capture": amount}', "{}"),
            Patch(
                f"{PAYMENTS}/commands/phases.py",
                "    if isinstance(reply, Approved) and (reply.amount_minor, reply.currency) != ",
                "    if False and isinstance(reply, Approved) and (reply.amount_minor, reply.currency) != ",
            ),
        ),
        _lost_at_stripe("capture"),
    ),
    Mutant(
        "a decline leaves its intent at Stripe open",
        "whoever has its secret can still pay it",
        (
            Patch(
                STRIPE,
                "        canceled = self._call(",
                "        return _declined(answer, error, intent)\n        canceled = self._call(",
            ),
        ),
        _load(300) | {"gateway": "stripe-world"},
    ),
    Mutant(
        "Stripe gets its 200 before its event is in the inbox",
        "is not in the inbox, and",
        (
            Patch(
                "functions/gateway_events/handler.py",
                "        gateway_events.insert(service.db, service.gateway.name, door, [hint])\n"
                "        service.later(partial(look, service, hint.event_id))\n",
                "        insert = partial(gateway_events.insert, service.db, service.gateway.name, door, [hint])\n"
                "        service.later(lambda: (insert(), look(service, hint.event_id)))\n",
            ),
        ),
        _points("gateway-event") | {"gateway": "stripe-world", "after_answer": True},
    ),
    Mutant(
        "a dispute is ignored",
        "the bank's dispute",
        (
            Patch(
                f"{PAYMENTS}/commands/look.py",
                "return has_entered | dispute.record(service, before, seen.disputes), is_unfinished",
                "return has_entered, is_unfinished",
            ),
        ),
        _load(300) | {"gateway": "stripe-world"},
    ),
    Mutant(
        "an event is thrown away if the payment has had one of its type",
        "the dashboard's refund",
        DEDUPLICATED_BY_TYPE,
        _at_dashboard("dashboard-refunds"),
    ),
    Mutant(
        "a capture of the dashboard's is ignored",
        "has a capture under key 'gateway-capture-",
        (
            Patch(
                f"{PAYMENTS}/commands/outside.py",
                'AUTHORIZED and seen.state in ("captured", "canceled"):',
                'AUTHORIZED and seen.state == "canceled":',
            ),
        ),
        _at_dashboard("dashboard-captures"),
    ),
    Mutant(
        "a dispute stays as it was first heard of",
        "in the books, the bank has",
        (
            Patch(
                f"{PAYMENTS}/domain/dispute.py",
                "    if before.outcome is not None and before.outcome == seen.outcome:",
                "    if before is not None:",
            ),
        ),
        _at_dashboard("dispute-ends"),
    ),
)
