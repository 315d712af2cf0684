"""Defects for the model. Each mutant changes payments.pml in one way, and names the invariant that it breaks.

gateway_mutants.py has those of gateway.pml.
"""

from __future__ import annotations

from dataclasses import dataclass


class DoesNotApply(Exception):
    """The model does not have the mutant's old text exactly once. Somebody changed the model, and must update the mutant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """`changes` are pairs (old text, new text) of the model that has the scene. `breaks` is None if other guards make up for the
    guard that the mutant takes away; we check that too, because it shows how the guards overlap.

    `bound` is how often clients invoke the workers (payments.pml), or how many mishaps a run has (gateway.pml).
    """

    name: str
    scene: str
    what: str
    changes: tuple[tuple[str, str], ...]
    breaks: str | None
    search: str = "shortest"
    bound: int = 2

    def applied_to(self, model: str) -> str:
        """Return the model with the defect. Raises DoesNotApply."""
        for old, new in self.changes:
            if model.count(old) != 1:
                raise DoesNotApply(f"{self.name}: the model has {old!r} {model.count(old)} times")
            model = model.replace(old, new)
        return model


_CLAIM = "        if                                                             /* claim */\n"
_LOCALS = "    byte request, o, attempt,"
_END_OF_UNKNOWN = "    atomic { end_invocation() }"

MUTANTS = (
    Mutant(
        name="publish_before_commit",
        scene="ORDER",
        what="the worker sends the event before the transaction that settles",
        changes=(
            (
                "settle:\n",
                "    atomic {\n"
                "        row = ROW(OPERATION.payment, PAYMENT.events + 1);\n"
                "        send(EVENT_ID)\n"
                "    }\n"
                "settle:\n",
            ),
        ),
        breaks="an event has one event_id",
    ),
    Mutant(
        name="settle_without_outbox_row",
        scene="ORDER",
        what="settle writes no outbox row",
        changes=(("outbox[row].event_id = EVENT_ID", "tell(); end_invocation()"),),
        breaks="no event is lost",
    ),
    Mutant(
        name="decline_without_event",
        scene="REFUNDS",
        what="a declined capture, void or refund owes no event",
        changes=(
            (
                "    PAYMENT.events++;\n",
                "    if\n"
                "    :: reply == DECLINED && !IS(CHARGE) -> tell(); end_invocation()\n"
                "    :: else\n"
                "    fi;\n"
                "    PAYMENT.events++;\n",
            ),
        ),
        breaks="no event is lost",
    ),
    Mutant(
        name="new_gateway_key_per_attempt",
        scene="ORDER",
        what="each attempt has its own gateway key, or the gateway has forgotten the key",
        changes=(
            (":: answer[o] == UNKNOWN -> answer[o] = DECLINED", ":: answer[o] = DECLINED"),
            (":: answer[o] == UNKNOWN ->\n", ":: true ->\n"),
            ("    :: else                                                            /* the same key", "    /* the same key"),
        ),
        breaks="an operation moves money once",
    ),
    Mutant(
        name="refund_guarded_in_python",
        scene="REFUNDS",
        what="one transaction reads the refundable amount, another one reserves it",
        changes=(
            (_LOCALS, "    byte reserved_seen; bool refundable;\n" + _LOCALS),
            (
                _CLAIM,
                "        reserved_seen = payments[0].reserved;\n        refundable = REFUNDABLE\n    }\n    atomic {\n" + _CLAIM,
            ),
            (":: requests[request].kind == REFUND && REFUNDABLE ->", ":: requests[request].kind == REFUND && refundable ->"),
            ("PAYMENT.reserved = PAYMENT.reserved + OPERATION.amount", "PAYMENT.reserved = reserved_seen + OPERATION.amount"),
        ),
        breaks="refunds within the capture",
    ),
    Mutant(
        name="refund_on_conflict_do_nothing",
        scene="REFUNDS",
        what="a refund with a taken key writes no operation and goes on",
        changes=(
            (
                ":: operation_of_key[request] != 0 -> REFUSE",
                ":: operation_of_key[request] != 0 && claimed == OPERATIONS -> REFUSE",
            ),
            ("OPERATION.attempt = attempt;", "OPERATION.attempt = (operation_of_key[request] == 0 -> attempt : 0);"),
        ),
        breaks="a key moves money once",
    ),
    Mutant(
        name="key_forgotten_on_exception",
        scene="REFUNDS",
        what="a failed invocation deletes its idempotency key",
        changes=((_END_OF_UNKNOWN, "    atomic { operation_of_key[OPERATION.request] = 0; end_invocation() }"),),
        breaks="a key moves money once",
    ),
    Mutant(
        name="unknown_treated_as_declined",
        scene="ORDER",
        what="the worker takes a missing reply for a decline",
        changes=((_END_OF_UNKNOWN, "    atomic { reply = DECLINED; goto settle }"),),
        breaks="an outcome is the gateway's",
    ),
    Mutant(
        name="relay_marks_before_the_ack",
        scene="ORDER",
        what="the relay marks an event and then sends it",
        changes=(("#endif\n        fi\n", "#endif\n        fi;\n        outbox[row].marked = true\n"),),
        breaks="no event is lost",
    ),
    Mutant(
        name="regressing_state",
        scene="LIFE",
        bound=3,
        what="settle compares neither attempt, outcome nor version",
        changes=(("        :: MINE && UNCHANGED ->", "        :: true ->"), ("        :: !(MINE && UNCHANGED)\n", "")),
        breaks="no status regresses",
    ),
    Mutant(
        name="lost_update",
        scene="REFUNDS",
        what="settle does not compare the payment's version",
        changes=(
            (_LOCALS, "    byte refunded_seen, reserved_seen;\n" + _LOCALS),
            (
                "inline look_at_payment() { version = PAYMENT.version }",
                "inline look_at_payment() { refunded_seen = PAYMENT.refunded; reserved_seen = PAYMENT.reserved }",
            ),
            ("#define UNCHANGED     (PAYMENT.version == version)", "#define UNCHANGED true"),
            (
                "    OPERATION.outcome = reply;\n",
                "    OPERATION.outcome = reply;\n    PAYMENT.refunded = refunded_seen;\n    PAYMENT.reserved = reserved_seen;\n",
            ),
        ),
        breaks="the books are the gateway's ledger",
    ),
    Mutant(
        name="order_guarded_in_python",
        scene="ORDER",
        what="one transaction looks for a live payment of the order, another one inserts the payment",
        changes=(
            (_LOCALS, "    bool free;\n" + _LOCALS),
            (_CLAIM, "        free = ORDER_IS_FREE\n    }\n    atomic {\n" + _CLAIM),
            (":: requests[request].kind == CHARGE && ORDER_IS_FREE ->", ":: requests[request].kind == CHARGE && free ->"),
        ),
        breaks="an order is charged once",
    ),
    Mutant(
        name="capture_and_void_in_flight",
        scene="AUTHORIZATION",
        what="a capture and a void may be in flight at once",
        changes=(("#define NO_OTHER      (!PENDING(0) && !PENDING(1) && !PENDING(2))", "#define NO_OTHER true"),),
        breaks="no void of what was captured",
    ),
    Mutant(
        name="own_claim_forgotten",
        scene="NO_KEY",
        what="a claim's commit gets no answer; sent again, the claim meets its own rows, and the caller gets a refusal",
        changes=(
            (
                "        request = 0;\n        if\n        :: IS(CHARGE)\n",
                "        if\n        :: !REFUNDABLE -> find_reason(); refuse()\n        :: else\n        fi;\n"
                "        request = 0;\n        if\n        :: IS(CHARGE)\n",
            ),
        ),
        breaks="refused means that nothing was written",
    ),
    Mutant(
        name="key_before_reason",
        scene="AUTHORIZATION",
        bound=3,
        what="a refused worker looks for the key first and reads the reason afterwards",
        changes=(
            (
                "    atomic { find_reason() }\n    atomic { find_key() }\n",
                "    atomic {\n"
                "        if\n"
                "        :: operation_of_key[request] != 0 -> answer_with_first()\n"
                "        :: else\n"
                "        fi\n"
                "    }\n"
                "    atomic { find_reason(); refuse() }\n",
            ),
        ),
        breaks="a refusal for good stays true",
    ),
    Mutant(
        name="operation_in_flight_overlooked",
        scene="AUTHORIZATION",
        bound=3,
        what="the reason of a refusal leaves out that another operation is in flight",
        changes=((" && payments[0].status != AUTHORIZED)", ")"),),
        breaks="a refusal for good stays true",
    ),
    Mutant(
        name="reserved_counts_as_spent",
        scene="REFUNDS",
        bound=3,
        what="a refund is refused for good although what it lacks is only reserved for another refund",
        changes=(("ASKED > AMOUNT - payments[0].refunded", "ASKED > LEFT"),),
        breaks="a refusal for good stays true",
    ),
    Mutant(
        name="invocation_overtakes",
        scene="LIFE",
        bound=3,
        what="an invocation sends its event although an older event of the payment waits",
        changes=((":: IS_NEXT(row) -> forget()", ":: true -> forget()"),),
        breaks="events in order",
    ),
    Mutant(
        name="relay_overtakes",
        scene="LIFE",
        bound=3,
        what="the relay sends any unpublished event, not the oldest of each payment",
        changes=(("&& !outbox[row].marked && IS_NEXT(row))", "&& !outbox[row].marked)"),),
        breaks="events in order",
    ),
    Mutant(
        name="relay_never_marks",
        scene="ORDER",
        what="the relay sends and does not mark",
        changes=((":: outbox[row].marked = true; row = 0; goto end_idle", ":: row = 0; goto end_idle"),),
        breaks="nobody goes round in circles",
        search="progress",
    ),
    Mutant(
        name="only_version_compared",
        scene="LIFE",
        bound=3,
        what="settle compares the version, but neither attempt nor outcome",
        changes=(
            ("        :: MINE && UNCHANGED ->", "        :: UNCHANGED ->"),
            ("        :: !(MINE && UNCHANGED)\n", "        :: !UNCHANGED\n"),
        ),
        breaks="no status regresses",
    ),
    Mutant(
        name="attempt_not_compared",
        scene="LIFE",
        bound=3,
        what="settle compares outcome and version, but not the attempt",
        changes=(
            (
                "#define MINE          (OPERATION.attempt == attempt && OPERATION.outcome == UNKNOWN)",
                "#define MINE (OPERATION.outcome == UNKNOWN)",
            ),
        ),
        breaks=None,
        search="invariants",
    ),
    Mutant(
        name="outcome_not_compared",
        scene="LIFE",
        bound=3,
        what="settle compares attempt and version, but not the outcome",
        changes=(
            ("        :: MINE && UNCHANGED ->", "        :: OPERATION.attempt == attempt && UNCHANGED ->"),
            ("        :: !(MINE && UNCHANGED)\n", "        :: !(OPERATION.attempt == attempt && UNCHANGED)\n"),
        ),
        breaks=None,
        search="invariants",
    ),
)
