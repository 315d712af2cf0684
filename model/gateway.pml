/*
 * The customer acts, and the gateway speaks up: the second half of the protocol in Promela. payments.pml has the first.
 *
 * The customer approves, declines or does nothing, and the time for it ends. The gateway changes a payment by itself. It tells of
 * each change in an event, which may be lost, repeated, late, early and in any order. An event is a hint: it says that something
 * happened, and whoever handles it looks at the gateway's present state. Each of two workers is an invocation of any function.
 *
 * Each `atomic` is one transaction of the database or one call of the gateway. Between any two of them the other processes may take
 * any steps. There is no clock. A lease is HELD until its worker gives it back; then the operation is DUE, or RESTING while it
 * waits for the customer. Kills, lost replies, and leases that run out under a slow worker are mishaps, of which a run has
 * MISHAPS. The outbox and the topic are left out: payments.pml shows that what a settle writes gets there once and in order.
 *
 * check.py defines one of the scenes below. The comment after an assertion is the invariant's name; check.py reports it.
 */

#if defined(CUSTOMER)         /* a payment that may need its customer; the shop voids it meanwhile, twice if the first is declined */
#define OPERATIONS 3
#define REFUNDS 1
#define HINTS 3
#elif defined(LAPSE)          /* an authorization that is canceled or captured at the gateway, beside captures and voids of ours */
#define OPERATIONS 3
#define REFUNDS 1
#define HINTS 1
#elif defined(OUTSIDE)        /* a refund of ours and one of the gateway's dashboard; one that was done fails later */
#define OPERATIONS 1
#define REFUNDS 2
#define HINTS 3
#elif defined(EARLY)          /* the dashboard refunds a payment that we have no answer about; the event does not name our payment */
#define OPERATIONS 1
#define REFUNDS 2
#define HINTS 3
#elif defined(DISPUTE)        /* the customer's bank opens and closes a dispute, beside a refund of ours */
#define OPERATIONS 1
#define REFUNDS 1
#define HINTS 3
#endif

#ifndef MISHAPS
#define MISHAPS 2
#endif

#define AMOUNT 2              /* a payment's amount, in units that can be refunded */

mtype:status  = { ABSENT, PROCESSING, REQUIRES_ACTION, AUTHORIZED, CAPTURED, PARTIALLY_REFUNDED, REFUNDED, FAILED, VOIDED };
mtype:kind    = { PROCESS, CAPTURE, VOID, REFUND };
mtype:outcome = { UNKNOWN, SUCCEEDED, DECLINED };
mtype:lease   = { HELD, RESTING, DUE };
/* What the gateway has of a payment, a refund or a dispute. REFUSED: declined, and the customer may try another card. */
mtype:there   = { NOTHING, OPEN, REFUSED, RESERVED, PAID, CANCELED, DONE, UNDONE, CLOSED };
/* What has become of an event. SENT: not answered yet, so it is sent again, or pulled. FORGOTTEN: answered 200, and there is no row. */
mtype:hint    = { NONE, SENT, FORGOTTEN, WAITING, HANDLED };

typedef Operation { mtype:kind kind; byte amount; byte attempt; mtype:lease lease; mtype:outcome outcome = UNKNOWN };

/* The database: the payment, its operations, what is known of refunds (first our operations') and of the dispute, and the inbox. */
mtype:status status = ABSENT;
byte version, refunded, reserved;
Operation operations[OPERATIONS];
byte claimed;                                /* how many operations there are */
byte taken_by;                               /* the void that has taken over the process operation, which is number 0 */
bool named;                                  /* the process operation has the gateway's name of the payment */
mtype:there known[REFUNDS] = NOTHING, dispute = NOTHING;
mtype:hint inbox[HINTS + 1] = NONE;

/* The gateway: the payment, its first answers to the payment's key and to the refund's, the refunds, the dispute, its events. */
mtype:there intent = NOTHING, first = NOTHING, answer = NOTHING, refunds[REFUNDS] = NOTHING, disputed = NOTHING;
byte events;
bool expired;                                /* the time for the customer is over */

byte mishaps = MISHAPS;

/* An event that was looked at in vain waits until something happens. So one that waits for nothing is stuck. */
bool in_vain[HINTS + 1], still[3];           /* nothing has happened since this worker, 1 or 2, began its look */

/* What was told, for the checks: the outcomes, and of each refund that it was done and that it failed. */
bool told_outcome[OPERATIONS], told_action, told_done[REFUNDS], told_failed[REFUNDS], told_end, told_opened, told_closed;

#define OPERATION     operations[o]
#define IS(a_kind)    (OPERATION.kind == a_kind)
#define PENDING(n)    (n < claimed && operations[n].outcome == UNKNOWN)
#define OPENED(n)     (PENDING(n) && !(n == 0 && taken_by != 0))
#define NO_OTHER      (!PENDING(1) && !PENDING(2))                     /* operations_one_in_flight_after_process */
#define NONE_PENDING  (!PENDING(0) && NO_OTHER)
#define ENDS(n)       (operations[n].lease != HELD || mishaps > 0)
#define HELD_NOW(n)   (OPENED(n) && operations[n].lease == HELD)
#define MINE          (OPERATION.attempt == attempt && OPERATION.outcome == UNKNOWN)
#define UNCHANGED     (version == seen_version)
#define REFUNDABLE    ((status == CAPTURED || status == PARTIALLY_REFUNDED) && refunded + reserved < AMOUNT && dispute != OPEN)
#if defined(EARLY)
#define NAMELESS      (row > 1)                                        /* a refund's event does not name our payment */
#else
#define NAMELESS      false
#endif
#define PAYABLE       (intent == OPEN || intent == REFUSED || intent == RESERVED)
#define MADE(n)       (status != PROCESSING && (done & (1 << n)) && known[n] == NOTHING)
#define FAILED_LATER(n) ((undone & (1 << n)) && known[n] == DONE)
#define FAILED_UNSEEN(n) (status != PROCESSING && (undone & (1 << n)) && known[n] == NOTHING)
#define MAKES_ROOM    (FAILED_LATER(0) || FAILED_LATER(1))            /* what failed is entered first */
#define IS_NEWER      (dispute == before || (dispute == OPEN && seen == CLOSED))
#define SIZE(n)       (n < OPERATIONS -> operations[n].amount : 1)
#define OUT(n)        (refunds[n] == DONE -> SIZE(n) : 0)
#if REFUNDS > 1
#define RETURNED      (OUT(0) + OUT(1))
#else
#define RETURNED      OUT(0)
#endif

inline mishap() { mishaps > 0; mishaps-- }

inline happens() {
    in_vain[1] = false;
#if HINTS > 1
    in_vain[2] = false; in_vain[3] = false;
#endif
    still[1] = false; still[2] = false
}

inline end_lease(n) {
    if
    :: operations[n].lease == HELD -> mishap()
    :: operations[n].lease != HELD
    fi
}

/* ---- the gateway ---- */

inline emit() { events++; assert(events <= HINTS); inbox[events] = SENT; happens() }

inline call_gateway() {
    if
    :: IS(PROCESS) && !named && first == NOTHING ->
        if
#if !defined(EARLY)
        :: intent = OPEN
        :: intent = REFUSED
#endif
        :: intent = PAID
        fi;
        first = intent; reply = intent; emit()
    :: IS(PROCESS) && !named && first != NOTHING -> reply = first      /* the same key: the same answer, and it may be old */
    :: IS(PROCESS) && named -> reply = intent
    :: IS(VOID) && PAYABLE -> intent = CANCELED; reply = intent; emit()
    :: IS(CAPTURE) && PAYABLE -> intent = PAID; reply = intent; emit()
    :: (IS(VOID) || IS(CAPTURE)) && !PAYABLE -> reply = intent
    :: IS(REFUND) && answer == NOTHING ->
        if
        :: RETURNED + OPERATION.amount <= AMOUNT && disputed != OPEN -> refunds[o] = DONE; answer = DONE; emit()
        :: answer = UNDONE
        fi;
        reply = answer
    :: IS(REFUND) && answer != NOTHING -> reply = answer
    fi
}

/* Cancel a payment that was declined late, or whose time is over. The gateway's answer alone decides. */
inline cancel_at_gateway() {
    if
    :: PAYABLE -> intent = CANCELED; emit()
    :: else
    fi;
    if
    :: intent == PAID -> reply = PAID
    :: intent == CANCELED && reply == OPEN -> reply = CANCELED
    :: else                                                            /* declined late */
    fi
}

/* ---- the database ---- */

inline move(to) {
    assert((status == ABSENT && to == PROCESSING)
        || (status == PROCESSING && (to == REQUIRES_ACTION || to == CAPTURED || to == FAILED))
        || (status == REQUIRES_ACTION && (to == CAPTURED || to == FAILED || to == VOIDED))
        || (status == AUTHORIZED && (to == CAPTURED || to == VOIDED))
        || (status == CAPTURED && (to == PARTIALLY_REFUNDED || to == REFUNDED))
        || (status == PARTIALLY_REFUNDED && (to == PARTIALLY_REFUNDED || to == REFUNDED || to == CAPTURED))
        || (status == REFUNDED && (to == PARTIALLY_REFUNDED || to == CAPTURED)));  /* no status regresses */
    status = to;
    assert((to != FAILED && to != VOIDED) || intent == CANCELED)       /* no FAILED or VOIDED payment can still be paid */
}

inline tell(what) { assert(!what); what = true }                       /* each outcome's event once */

inline refund_more(n) {
    refunded = refunded + SIZE(n);
    assert(refunded + reserved <= AMOUNT);                             /* refunds within the capture */
    known[n] = DONE;
    tell(told_done[n]);
    if
    :: refunded == AMOUNT -> move(REFUNDED)
    :: else -> move(PARTIALLY_REFUNDED)
    fi
}

inline refund_less(n) {
    assert(told_done[n]);                                              /* events in order */
    refunded = refunded - SIZE(n);
    known[n] = UNDONE;
    tell(told_failed[n]);
    if
    :: refunded == 0 -> move(CAPTURED)
    :: else -> move(PARTIALLY_REFUNDED)
    fi
}

inline claim(a_kind, an_amount) {
    o = claimed;
    claimed++;
    attempt = 1;
    OPERATION.kind = a_kind; OPERATION.amount = an_amount; OPERATION.attempt = 1; OPERATION.lease = HELD;
    seen_version = version;
    happens()
}

/* Claim an operation one attempt on. Only by a mishap does a lease run out that is held. */
inline claim_again(n) {
    o = n;
    OPERATION.attempt++;
    attempt = OPERATION.attempt; OPERATION.lease = HELD;
    seen_version = version;
    happens()
}

inline end_with(an_outcome) { OPERATION.outcome = an_outcome; OPERATION.lease = RESTING; tell(told_outcome[o]) }

/* Write the outcome, the payment after it and the event. */
inline write_outcome() {
    if
    :: IS(PROCESS) && reply == PAID -> end_with(SUCCEEDED); move(CAPTURED)
    :: IS(PROCESS) && reply == REFUSED -> end_with(DECLINED); move(FAILED)
    :: IS(PROCESS) && reply == CANCELED && status == PROCESSING -> end_with(DECLINED); move(FAILED)
    :: IS(PROCESS) && reply == CANCELED && status != PROCESSING -> end_with(DECLINED); move(VOIDED)
    :: IS(CAPTURE) && reply == PAID -> end_with(SUCCEEDED); move(CAPTURED)
    :: IS(CAPTURE) && reply == CANCELED -> end_with(DECLINED); assert(status == AUTHORIZED)  /* no status regresses */
    :: IS(VOID) && reply == CANCELED ->
        end_with(SUCCEEDED);
        move(VOIDED);
        if
        :: taken_by == o && o != 0 ->                                  /* one event tells of both */
            operations[0].outcome = DECLINED; tell(told_outcome[0]); taken_by = 0
        :: else
        fi
    :: IS(VOID) && reply == PAID ->
        end_with(DECLINED);
        assert(status == AUTHORIZED || status == REQUIRES_ACTION);     /* no status regresses */
        if
        :: taken_by == o && o != 0 -> operations[0].lease = DUE; taken_by = 0  /* the process operation is given back */
        :: else
        fi
    :: IS(REFUND) && reply == DONE -> end_with(SUCCEEDED); reserved = reserved - OPERATION.amount; refund_more(o)
    :: IS(REFUND) && reply == UNDONE -> end_with(DECLINED); reserved = reserved - OPERATION.amount
    fi;
    version++;
    happens()
}

/* Write that the payment waits for its customer, unless it does already. The operation keeps no outcome. */
inline wait_for_customer() {
    if
    :: status == PROCESSING -> move(REQUIRES_ACTION); tell(told_action); version++
    :: else
    fi;
    named = true;
    OPERATION.lease = RESTING;
    happens()
}

/* ---- a Lambda environment, for any function ---- */

inline forget_operation() { o = 0; attempt = 0; seen_version = 0; reply = NOTHING }
inline forget_look() { seen = NOTHING; before = NOTHING; done = 0; undone = 0 }
inline look_later() { in_vain[row] = still[_pid]; end_invocation() }
inline end_invocation() { still[_pid] = false; row = 0; open = false; forget_operation(); forget_look(); goto end_idle }

proctype worker() {
    byte o, attempt, seen_version, row, done, undone;
    bool open;
    mtype:there reply = NOTHING, seen = NOTHING, before = NOTHING;

end_idle:
    atomic {
        if
        /* requests */
#if defined(CUSTOMER) || defined(EARLY)
        :: status == ABSENT -> claim(PROCESS, AMOUNT); move(PROCESSING); version++; seen_version = version; goto charge
#endif
#if defined(CUSTOMER)
        :: status == REQUIRES_ACTION && OPENED(0) && ENDS(0) && NO_OTHER && claimed < OPERATIONS ->
            end_lease(0);
            claim(VOID, AMOUNT);
            operations[0].attempt++;                                   /* whoever holds it can no longer settle it */
            taken_by = o;
            goto charge
#elif defined(LAPSE)
        :: status == AUTHORIZED && NONE_PENDING && claimed < OPERATIONS - 1 -> claim(CAPTURE, AMOUNT); goto charge
        :: status == AUTHORIZED && NONE_PENDING && claimed < OPERATIONS - 1 -> claim(VOID, AMOUNT); goto charge
#elif defined(OUTSIDE) || defined(DISPUTE)
        :: REFUNDABLE && claimed < OPERATIONS ->
            if
            :: claim(REFUND, 1)
            :: refunded + reserved == 0 -> claim(REFUND, AMOUNT)
            fi;
            reserved = reserved + OPERATION.amount; version++; seen_version = version;
            goto charge
#endif
        /* reconcile */
        :: OPENED(0) && (operations[0].lease == DUE || operations[0].lease == RESTING && expired) -> claim_again(0); goto charge
        :: OPENED(0) && operations[0].lease != DUE && mishaps > 0 -> mishap(); claim_again(0); goto charge
#if OPERATIONS > 1
        :: PENDING(1) && operations[1].lease == DUE -> claim_again(1); goto charge
        :: PENDING(1) && operations[1].lease != DUE && mishaps > 0 -> mishap(); claim_again(1); goto charge
        :: PENDING(2) && operations[2].lease == DUE -> claim_again(2); goto charge
        :: PENDING(2) && operations[2].lease != DUE && mishaps > 0 -> mishap(); claim_again(2); goto charge
#endif
        /* the inbox */
        :: inbox[1] == WAITING && !in_vain[1] -> row = 1
#if HINTS > 1
        :: inbox[2] == WAITING && !in_vain[2] -> row = 2
        :: inbox[3] == WAITING && !in_vain[3] -> row = 3
#endif
        fi
    }

looking:
    atomic {
        still[_pid] = true;
        forget_operation();
        if
        :: NAMELESS && status == PROCESSING -> look_later()            /* it may be about what our call made */
        :: else
        fi;
        if
        :: OPENED(0) && ENDS(0) -> end_lease(0); claim_again(0); goto charge
#if OPERATIONS > 1
        :: PENDING(1) && ENDS(1) -> end_lease(1); claim_again(1); goto charge
        :: PENDING(2) && ENDS(2) -> end_lease(2); claim_again(2); goto charge
#endif
        :: HELD_NOW(0) || HELD_NOW(1) || HELD_NOW(2) -> open = true    /* a live lease is left alone */
        :: NONE_PENDING
        fi;
        before = dispute
    }

    atomic {                                                           /* the gateway's present state */
        seen = intent;
#if REFUNDS > 1
        done = (refunds[0] == DONE) + 2 * (refunds[1] == DONE);
        undone = (refunds[0] == UNDONE) + 2 * (refunds[1] == UNDONE);
#elif defined(DISPUTE)
        seen = disputed;
#endif
    }

/* What the gateway shows and the books lack is entered, on the books as they are then. The gateway's answer may be old by then. */
enter:
    atomic {
        if
#if defined(LAPSE)
        :: status == AUTHORIZED && seen != RESERVED && !NONE_PENDING -> open = true; goto looked
        :: status == AUTHORIZED && seen == CANCELED && NONE_PENDING -> move(VOIDED); version++; tell(told_end)
        :: status == AUTHORIZED && seen == PAID && NONE_PENDING -> move(CAPTURED); version++; tell(told_end)
#elif REFUNDS > 1
        :: MADE(1) && !MAKES_ROOM && refunded + reserved == AMOUNT -> open = true; goto looked
        :: MADE(1) && !MAKES_ROOM && refunded + reserved < AMOUNT -> refund_more(1); version++
        :: FAILED_UNSEEN(1) -> known[1] = UNDONE; tell(told_failed[1]); version++
        :: FAILED_LATER(0) -> refund_less(0); version++
        :: FAILED_LATER(1) -> refund_less(1); version++
#elif defined(DISPUTE)
        :: seen != dispute && !IS_NEWER -> open = true; goto looked    /* somebody has looked since: later */
        :: seen != dispute && IS_NEWER ->
            if
            :: dispute == NOTHING -> dispute = OPEN; tell(told_opened) /* a dispute opens before it ends */
            :: dispute != NOTHING && seen == OPEN -> dispute = OPEN; tell(told_opened)
            :: dispute != NOTHING && seen == CLOSED -> dispute = CLOSED; tell(told_closed)
            fi;
            before = dispute
#endif
        :: else -> goto looked
        fi;
        happens();
        goto enter
    }

looked:
    atomic {
        if
        :: open -> look_later()
        :: !open -> forget_look()
        fi
    }

handled:
    atomic {
        if
        :: inbox[row] = HANDLED
        :: mishaps > 0 -> mishap()                                     /* killed */
        fi;
        end_invocation()
    }

charge:
    atomic {
        if
        :: call_gateway()
        :: mishaps > 0 -> mishap(); call_gateway(); goto unknown       /* the reply was lost, or killed */
        :: mishaps > 0 -> mishap(); goto unknown                       /* the request was lost, or killed */
        fi;
        if
        :: IS(PROCESS) && reply == OPEN && !named && attempt > 1       /* told again */
        :: IS(PROCESS) && (reply == REFUSED || reply == OPEN && expired) -> goto cancel
        :: else -> goto settle
        fi
    }

    atomic {
        if
        :: reply = intent
        :: mishaps > 0 -> mishap(); goto unknown
        fi;
        if
        :: reply == REFUSED
        :: reply != REFUSED -> goto settle
        fi
    }

cancel:
    atomic {
        if
        :: cancel_at_gateway()
        :: mishaps > 0 -> mishap(); cancel_at_gateway(); goto unknown
        :: mishaps > 0 -> mishap(); goto unknown
        fi
    }

settle:
    atomic {
        if
        :: MINE && UNCHANGED && !(IS(PROCESS) && reply == OPEN) -> write_outcome()
        :: MINE && UNCHANGED && IS(PROCESS) && reply == OPEN ->
            wait_for_customer();
            if
            :: row != 0 -> goto handled
            :: else
            fi
        :: MINE && !UNCHANGED -> seen_version = version; goto settle
        :: !MINE
        :: mishaps > 0 -> mishap(); goto unknown                       /* killed */
        fi;
        if
        :: row != 0 -> goto looking
        :: row == 0 -> end_invocation()
        fi
    }

unknown:
    atomic {                                                           /* given back, or the lease of the dead runs out */
        if
        :: MINE -> OPERATION.lease = DUE; happens()
        :: else
        fi;
        end_invocation()
    }
}

/*
 * The doors: the signed route, the rule, and reconcile's pull of what nobody answered. The row is committed before the 200, and
 * until there is a row the gateway sends the event again. One that comes again finds its row, and is answered.
 */
proctype doors() {
end_idle:
    atomic {
        if
        :: inbox[1] == SENT -> inbox[1] = WAITING
#if HINTS > 1
        :: inbox[2] == SENT -> inbox[2] = WAITING
        :: inbox[3] == SENT -> inbox[3] = WAITING
#endif
        fi;
        goto end_idle
    }
}

/* What nobody asks us for. */
proctype others() {
    bool failed;

end_idle:
    atomic {
        if
#if defined(CUSTOMER)
        :: intent == OPEN -> intent = PAID; emit()                     /* the customer approves */
        :: intent == OPEN -> intent = REFUSED; emit()                  /* the customer, or the bank, declines */
        :: intent == REFUSED -> intent = PAID; emit()                  /* another card */
        :: intent == OPEN || intent == REFUSED -> intent = CANCELED; emit()  /* the dashboard, or whoever asked and met a decline */
        :: status == REQUIRES_ACTION && !expired -> expired = true; happens()
#elif defined(LAPSE)
        :: intent == RESERVED -> intent = CANCELED; emit()             /* it lapses */
        :: intent == RESERVED -> intent = PAID; emit()                 /* the dashboard captures */
#elif defined(EARLY)
        :: intent == PAID && refunds[1] == NOTHING -> refunds[1] = DONE; emit()
        :: refunds[1] == DONE && !failed -> refunds[1] = UNDONE; failed = true; emit()
        :: true -> goto over
#elif defined(OUTSIDE)
        :: refunds[1] == NOTHING && RETURNED < AMOUNT -> refunds[1] = DONE; emit()
        :: refunds[0] == DONE && !failed -> refunds[0] = UNDONE; failed = true; emit()
        :: refunds[1] == DONE && !failed -> refunds[1] = UNDONE; failed = true; emit()
        :: true -> goto over
#elif defined(DISPUTE)
        :: disputed == NOTHING -> disputed = OPEN; emit()
        :: disputed == OPEN -> disputed = CLOSED; emit(); goto over
        :: true -> goto over
#endif
        fi;
        goto end_idle
    }
over:
    skip
}

/* The checks once no other process has anything left to do. */
proctype quiet() {
    byte n;

    timeout;
    d_step {
        do
        :: n < claimed ->
            assert(operations[n].outcome != UNKNOWN && told_outcome[n]);  /* nothing is stuck */
            n++
        :: else -> break
        od;
        n = 1;
        do
        :: n <= events ->
            assert(inbox[n] != FORGOTTEN);                             /* no event answered 200 is forgotten */
            assert(inbox[n] == HANDLED);                               /* nothing is stuck */
            n++
        :: else -> break
        od;
        assert(taken_by == 0);                                         /* nothing is stuck */
        n = 0;
        do
        :: n < REFUNDS ->
            assert((known[n] == DONE) == (refunds[n] == DONE));        /* the books are the gateway's ledger */
            assert((known[n] == DONE) == (told_done[n] && !told_failed[n]));  /* each outcome's event once */
            n++
        :: else -> break
        od;
        assert(refunded == RETURNED && reserved == 0);                 /* the books are the gateway's ledger */
        assert(dispute == disputed);                                   /* the books are the gateway's ledger */
        assert((intent == PAID) == (status == CAPTURED || status == PARTIALLY_REFUNDED || status == REFUNDED)
            && (intent == CANCELED) == (status == FAILED || status == VOIDED))  /* the books are the gateway's ledger */
    }
}

init {
    atomic {
#if defined(LAPSE)
        status = AUTHORIZED; intent = RESERVED;
#elif defined(OUTSIDE) || defined(DISPUTE)
        status = CAPTURED; intent = PAID;
#endif
        run worker();
        run worker();
        run doors();
        run others();
        run quiet()
    }
}
