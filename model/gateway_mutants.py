"""Defects for gateway.pml: what must not happen when the customer acts and the gateway speaks up."""

from __future__ import annotations

from model.mutants import Mutant

_LATER = "        :: open -> look_later()\n        :: !open -> forget_look()\n"
_INBOX = "mtype:hint inbox[HINTS + 1] = NONE;\n"

MUTANTS = (
    Mutant(
        name="failed_before_the_cancel",
        scene="CUSTOMER",
        bound=0,
        what="a payment that was declined late is FAILED before it is canceled at the gateway",
        changes=((":: IS(PROCESS) && (reply == REFUSED || reply == OPEN && expired) -> goto cancel\n", ""),),
        breaks="no FAILED or VOIDED payment can still be paid",
    ),
    Mutant(
        name="expired_without_the_gateway",
        scene="CUSTOMER",
        bound=0,
        what="when the time for the customer is over, the payment is VOIDED whatever the gateway answers to the cancel",
        changes=(
            (
                "    :: intent == PAID -> reply = PAID\n",
                "    :: intent == PAID && reply != OPEN -> reply = PAID\n    :: reply == OPEN -> reply = CANCELED\n",
            ),
        ),
        breaks="no FAILED or VOIDED payment can still be paid",
    ),
    Mutant(
        name="payload_trusted",
        scene="CUSTOMER",
        bound=0,
        what="an event's own text decides on the payment, in place of the gateway's present state",
        changes=(
            (_INBOX, _INBOX + "mtype:there says[HINTS + 1] = NOTHING;\n"),
            ("inbox[events] = SENT; happens() }", "inbox[events] = SENT; says[events] = intent; happens() }"),
            (
                ":: OPENED(0) && ENDS(0) -> end_lease(0); claim_again(0); goto charge",
                ":: OPENED(0) && ENDS(0) -> end_lease(0); claim_again(0); reply = says[row]; goto settle",
            ),
        ),
        breaks="no FAILED or VOIDED payment can still be paid",
    ),
    Mutant(
        name="settled_under_a_live_lease",
        scene="CUSTOMER",
        bound=0,
        what="an event settles an operation that it has not claimed: it compares neither attempt nor outcome",
        changes=(
            (
                ":: OPENED(0) && ENDS(0) -> end_lease(0); claim_again(0); goto charge",
                ":: OPENED(0) -> o = 0; attempt = operations[0].attempt; seen_version = version; goto charge",
            ),
            ("        :: MINE && UNCHANGED && !(IS(PROCESS)", "        :: (MINE || row != 0) && UNCHANGED && !(IS(PROCESS)"),
            ("        :: MINE && !UNCHANGED ->", "        :: (MINE || row != 0) && !UNCHANGED ->"),
            ("        :: !MINE\n", "        :: !MINE && row == 0\n"),
        ),
        breaks="each outcome's event once",
    ),
    Mutant(
        name="void_takes_nothing_over",
        scene="CUSTOMER",
        bound=0,
        what="a void leaves the process operation of a payment that waits for its customer to reconcile and events",
        changes=(
            ("            operations[0].attempt++;                                   /* whoever", "            /* whoever"),
            ("            taken_by = o;\n", ""),
        ),
        breaks="no status regresses",
    ),
    Mutant(
        name="void_leaves_the_attempt",
        scene="CUSTOMER",
        bound=1,
        what="a void takes the process operation over, but whoever holds it can still settle it",
        changes=(
            ("            operations[0].attempt++;                                   /* whoever", "            /* whoever"),
        ),
        breaks="no status regresses",
    ),
    Mutant(
        name="taken_operation_claimed",
        scene="CUSTOMER",
        bound=0,
        what="an event claims a process operation that a void has taken over",
        changes=((":: OPENED(0) && ENDS(0) -> end_lease(0);", ":: PENDING(0) && ENDS(0) -> end_lease(0);"),),
        breaks="no status regresses",
    ),
    Mutant(
        name="declined_void_gives_nothing_back",
        scene="CUSTOMER",
        bound=0,
        what="a void that is declined, because the customer was faster, keeps the process operation",
        changes=((":: taken_by == o && o != 0 -> operations[0].lease = DUE; taken_by = 0 ", ":: false"),),
        breaks="nothing is stuck",
    ),
    Mutant(
        name="first_answer_believed",
        scene="CUSTOMER",
        bound=1,
        what="what the gateway tells again under a known key is taken for its present state",
        changes=(("        :: IS(PROCESS) && reply == OPEN && !named && attempt > 1       /* told again */\n", ""),),
        breaks=None,
        search="invariants",
    ),
    Mutant(
        name="answered_before_the_insert",
        scene="OUTSIDE",
        bound=0,
        what="the door answers 200 and then inserts the row, unless it is killed in between",
        changes=(
            (
                "        :: inbox[1] == SENT -> inbox[1] = WAITING\n",
                "        :: inbox[1] == SENT ->\n"
                "            inbox[1] = FORGOTTEN;\n"
                "            if\n"
                "            :: inbox[1] = WAITING\n"
                "            :: true\n"
                "            fi\n",
            ),
        ),
        breaks="no event answered 200 is forgotten",
    ),
    Mutant(
        name="deduplicated_by_type",
        scene="OUTSIDE",
        bound=0,
        what="an event is taken for a repetition if the payment has a row of its type",
        changes=(
            (_INBOX, _INBOX + "bool created[HINTS + 1];\n"),
            ("refunds[o] = DONE; answer = DONE; emit()", "refunds[o] = DONE; answer = DONE; emit(); created[events] = true"),
            (
                ":: refunds[1] == NOTHING && RETURNED < AMOUNT -> refunds[1] = DONE; emit()",
                ":: refunds[1] == NOTHING && RETURNED < AMOUNT -> refunds[1] = DONE; emit(); created[events] = true",
            ),
            (
                "        :: inbox[2] == SENT -> inbox[2] = WAITING\n",
                "        :: inbox[2] == SENT -> inbox[2] = (created[1] && created[2] && inbox[1] != SENT -> HANDLED : WAITING)\n",
            ),
        ),
        breaks="the books are the gateway's ledger",
    ),
    Mutant(
        name="failed_refund_left_out",
        scene="OUTSIDE",
        bound=0,
        what="a look writes nothing of a refund that is not in the books and has failed, so that an older look enters it as done",
        changes=(("        :: FAILED_UNSEEN(1) -> known[1] = UNDONE; tell(told_failed[1]); version++\n", ""),),
        breaks="the books are the gateway's ledger",
    ),
    Mutant(
        name="entered_beside_a_reservation",
        scene="OUTSIDE",
        bound=0,
        what="the dashboard's refund is entered although a refund of ours has reserved its amount",
        changes=(
            ("        :: MADE(1) && !MAKES_ROOM && refunded + reserved == AMOUNT -> open = true; goto looked\n", ""),
            (":: MADE(1) && !MAKES_ROOM && refunded + reserved < AMOUNT ->", ":: MADE(1) && !MAKES_ROOM ->"),
        ),
        breaks="refunds within the capture",
    ),
    Mutant(
        name="room_is_made_last",
        scene="OUTSIDE",
        bound=0,
        what="a refund of the dashboard waits for room before a look enters the refund whose failure makes the room",
        changes=(
            (
                ":: MADE(1) && !MAKES_ROOM && refunded + reserved == AMOUNT -> open = true; goto looked\n",
                ":: MADE(1) && refunded + reserved == AMOUNT -> open = true; goto looked\n",
            ),
            (
                ":: FAILED_LATER(0) -> refund_less",
                ":: FAILED_LATER(0) && !(MADE(1) && refunded + reserved == AMOUNT) -> refund_less",
            ),
        ),
        breaks="nothing is stuck",
    ),
    Mutant(
        name="own_refund_entered",
        scene="OUTSIDE",
        bound=0,
        what="a look enters a refund of ours whose operation has no outcome yet",
        changes=(
            (
                ":: FAILED_LATER(0) ->",
                ":: MADE(0) && refunded + reserved < AMOUNT -> refund_more(0); version++\n        :: FAILED_LATER(0) ->",
            ),
        ),
        breaks="each outcome's event once",
    ),
    Mutant(
        name="live_lease_ends_the_event",
        scene="OUTSIDE",
        bound=0,
        what="an event that meets a live lease is done, and not looked at later",
        changes=((_LATER, "        :: open = false; forget_look()\n"),),
        breaks="the books are the gateway's ledger",
    ),
    Mutant(
        name="entered_beside_an_operation",
        scene="LAPSE",
        bound=0,
        what="the end of an authorization at the gateway is entered although a capture or void of ours is in flight",
        changes=(
            ("        :: status == AUTHORIZED && seen != RESERVED && !NONE_PENDING -> open = true; goto looked\n", ""),
            (":: status == AUTHORIZED && seen == CANCELED && NONE_PENDING ->", ":: status == AUTHORIZED && seen == CANCELED ->"),
            (":: status == AUTHORIZED && seen == PAID && NONE_PENDING ->", ":: status == AUTHORIZED && seen == PAID ->"),
        ),
        breaks="no status regresses",
    ),
    Mutant(
        name="foreign_at_once",
        scene="EARLY",
        bound=0,
        what="an event that names a payment of the gateway's which the books do not have yet is nobody's",
        changes=(
            (
                ":: NAMELESS && status == PROCESSING -> look_later() ",
                ":: NAMELESS && status == PROCESSING -> goto handled",
            ),
        ),
        breaks=None,
        search="invariants",
    ),
    Mutant(
        name="dispute_ignored",
        scene="DISPUTE",
        bound=0,
        what="a look writes nothing of a dispute",
        changes=((":: seen != dispute && IS_NEWER ->\n", ":: seen != dispute && IS_NEWER -> goto looked;\n"),),
        breaks="the books are the gateway's ledger",
    ),
    Mutant(
        name="older_look_of_a_dispute",
        scene="DISPUTE",
        bound=0,
        what="a look writes what it saw of a dispute over what a later look has written",
        changes=(
            ("        :: seen != dispute && !IS_NEWER -> open = true; goto looked ", "       "),
            (":: seen != dispute && IS_NEWER ->", ":: seen != dispute ->"),
        ),
        breaks="each outcome's event once",
    ),
)
