/*
 * The protocol of payments/commands/phases.py in Promela: workers move money, and any of them may be killed, frozen or doubled.
 *
 * Each `atomic` is one transaction of the database, one call of the gateway or one message to the topic. Between any two of them
 * the other processes may take any steps. docs/protocol.md names the function of each step, and says what the model leaves out.
 *
 * There is no clock. A lease may run out at any moment: reconcile may take any operation without an outcome, whether its worker is
 * dead, frozen or only slow. The relay may take any event that is not marked. So the results hold for leases of any length.
 *
 * check.py defines one of the scenes below. The comment after an assertion is the invariant's name; check.py reports it.
 */

#if defined(ORDER)            /* two requests, say two cards, for one order */
#define PAYMENTS 2
#define REQUESTS 2
#define OPERATIONS 2
#define OWED_EARLIER 0
#define ROWS 4
#define WHEN_CHARGED CAPTURED
#elif defined(AUTHORIZATION)  /* a capture and a void of an authorized payment; its first event still waits */
#define PAYMENTS 1
#define REQUESTS 2
#define OPERATIONS 3
#define OWED_EARLIER 1
#define ROWS 5
#define WHEN_CHARGED AUTHORIZED
#elif defined(REFUNDS)        /* two refunds (a part, all, the rest) of a captured payment; its first event still waits */
#define PAYMENTS 1
#define REQUESTS 2
#define OPERATIONS 2
#define OWED_EARLIER 1
#define ROWS 4
#define WHEN_CHARGED CAPTURED
#elif defined(NO_KEY)         /* the same with one request without a key: each time a client sends it, it is another refund */
#define PAYMENTS 1
#define REQUESTS 1
#define OPERATIONS 2
#define OWED_EARLIER 1
#define ROWS 4
#define WHEN_CHARGED CAPTURED
#elif defined(LIFE)           /* from nothing: authorize, capture, refund */
#define PAYMENTS 1
#define REQUESTS 3
#define OPERATIONS 3
#define OWED_EARLIER 0
#define ROWS 4
#define WHEN_CHARGED AUTHORIZED
#endif

#ifndef SENDS
#define SENDS 4               /* how often clients invoke the workers, two at a time: first sends, retries and duplicates */
#endif
#ifndef ATTEMPTS
#define ATTEMPTS 3            /* an operation's last attempt meets no fault, so that everything can come to its end */
#endif

#define AMOUNT 2              /* a payment's amount, in units that can be refunded */
#define REST 0                /* the amount of a refund that names no amount: all that is left */
/* ROWS of outbox and topic: a payment's sequence 0 is a sentinel, sent and marked from the start. */
#define ROW(payment, sequence) ((payment) * (ROWS / PAYMENTS) + (sequence))
#define ALWAYS 255            /* the sentinel's event_id */
#define EARLIER 254           /* the event_id of the event that waits when the scene begins */

mtype:status  = { ABSENT, PROCESSING, AUTHORIZED, CAPTURED, PARTIALLY_REFUNDED, REFUNDED, FAILED, VOIDED };
mtype:kind    = { CHARGE, CAPTURE, VOID, REFUND };
mtype:outcome = { UNKNOWN, SUCCEEDED, DECLINED };

typedef Request   { mtype:kind kind; byte amount; bool keyed };
typedef Payment   { mtype:status status = ABSENT; byte version; byte refunded; byte reserved; byte events };
typedef Operation { byte request; byte payment; byte amount; byte attempt; mtype:outcome outcome = UNKNOWN };
typedef Row       { byte event_id; bool marked };

/* The clients: their requests, how often they may still send, and the final answer to each request. Request 0 is no request. */
Request requests[REQUESTS + 1];
byte sends = SENDS;
mtype:outcome reported[REQUESTS + 1] = UNKNOWN;
bool told_refused[REQUESTS + 1];             /* payment.refused: the refusals for good, of requests with a key */

/* The database. An operation's number is also its key at the gateway. */
Payment payments[PAYMENTS];
Operation operations[3];
byte claimed;                                /* how many operations there are */
byte operation_of_key[REQUESTS + 1];         /* operations_idempotency_key_unique: the operation's number + 1, or 0 */
Row outbox[ROWS];                            /* event_id 0: there is no such row */

/* The gateway: its decision for each key, and how often it moved money for an operation, for a request, and in all. */
mtype:outcome answer[3] = UNKNOWN;
byte moved[3], moved_for[REQUESTS + 1], charged, captured, voided, returned;

/* The topic: the event_id under which an event was first seen, or 0. */
byte topic[ROWS];

#define OPERATION     operations[o]
#define PAYMENT       payments[operations[o].payment]
#define IS(a_kind)    (requests[OPERATION.request].kind == a_kind)
#define KEYED         (requests[OPERATION.request].keyed)
#define EVENT_ID      (o * ATTEMPTS + attempt)                         /* each settle makes a new one: no two attempts share it */
#define MAY_FAIL      (attempt < ATTEMPTS)

inline call_gateway() {
    if
    :: answer[o] == UNKNOWN -> answer[o] = DECLINED
    :: answer[o] == UNKNOWN ->
        answer[o] = SUCCEEDED;
        moved[o]++;
        moved_for[OPERATION.request]++;
        assert(moved[o] == 1);                                         /* an operation moves money once */
        assert(moved_for[OPERATION.request] == 1 || !KEYED);           /* a key moves money once */
        if
        :: IS(CHARGE)  -> charged++; assert(charged == 1)              /* an order is charged once */
        :: IS(CAPTURE) -> captured++; assert(voided == 0)              /* no capture of what was voided */
        :: IS(VOID)    -> voided++; assert(captured == 0)              /* no void of what was captured */
        :: IS(REFUND)  -> returned = returned + OPERATION.amount; assert(returned <= AMOUNT)  /* refunds within the capture */
        fi
    :: else                                                            /* the same key: the same answer, and nothing moves */
    fi
}

inline send(id) {
    assert(topic[row - 1] != 0);                                       /* events in order */
    assert(topic[row] == 0 || topic[row] == id);                       /* an event has one event_id */
    topic[row] = id
}

inline tell() {
    if
    :: reply != UNKNOWN && KEYED ->
        assert(reported[OPERATION.request] == UNKNOWN || reported[OPERATION.request] == reply);  /* no answer is contradicted */
        reported[OPERATION.request] = reply
    :: else
    fi
}

/* ---- the database ---- */

#define LIVE(p)       (payments[p].status != ABSENT && payments[p].status != FAILED && payments[p].status != VOIDED)
#define ORDER_IS_FREE (!LIVE(0) && !LIVE(PAYMENTS - 1))                /* payments_one_live_per_order */
#define PENDING(n)    (n < claimed && operations[n].outcome == UNKNOWN)
#define NO_OTHER      (!PENDING(0) && !PENDING(1) && !PENDING(2))      /* operations_one_in_flight_but_refunds */
#define DUE(n)        (PENDING(n) && operations[n].attempt < ATTEMPTS)
#define LEFT          (AMOUNT - payments[0].refunded - payments[0].reserved)
#define TAKE          (requests[request].amount == REST -> LEFT : requests[request].amount)
#define REFUNDABLE    ((payments[0].status == CAPTURED || payments[0].status == PARTIALLY_REFUNDED) && TAKE > 0 && TAKE <= LEFT)
/* Whether a refusal is for good: neither an operation in flight nor a later command can make the payment allow the request. */
#define PAID(p)       (LIVE(p) && payments[p].status != PROCESSING)
#define ENDED         (payments[0].status != ABSENT && payments[0].status != PROCESSING && payments[0].status != AUTHORIZED)
#define ASKED         (requests[request].amount == REST -> 1 : requests[request].amount)
#define TOO_MUCH      (!LIVE(0) || ASKED > AMOUNT - payments[0].refunded)
#define NEVER         (ENDED && (requests[request].kind != REFUND || TOO_MUCH))
#define HOPELESS      (requests[request].keyed && (requests[request].kind == CHARGE -> PAID(0) || PAID(PAYMENTS - 1) : NEVER))
#define MINE          (OPERATION.attempt == attempt && OPERATION.outcome == UNKNOWN)
#define UNCHANGED     (PAYMENT.version == version)
#define IS_NEXT(row)  (outbox[row - 1].marked)                         /* no older event of the payment waits */
#define HEAD(row)     (outbox[row].event_id != 0 && !outbox[row].marked && IS_NEXT(row))

inline look_at_payment() { version = PAYMENT.version }

inline write_operation() {
    o = claimed;
    claimed++;
    attempt = 1;
    OPERATION.request = request;
    OPERATION.payment = (requests[request].kind == CHARGE && payments[0].status != ABSENT -> 1 : 0);
    OPERATION.amount = TAKE;
    OPERATION.attempt = attempt;
    operation_of_key[request] = (requests[request].keyed -> o + 1 : 0);
    assert(!told_refused[request])                                     /* a refusal for good stays true */
}

inline move(to) {
    assert((PAYMENT.status == ABSENT && to == PROCESSING)
        || (PAYMENT.status == PROCESSING && (to == AUTHORIZED || to == CAPTURED || to == FAILED))
        || (PAYMENT.status == AUTHORIZED && (to == CAPTURED || to == VOIDED))
        || (PAYMENT.status == CAPTURED && (to == PARTIALLY_REFUNDED || to == REFUNDED))
        || (PAYMENT.status == PARTIALLY_REFUNDED && (to == PARTIALLY_REFUNDED || to == REFUNDED)));  /* no status regresses */
    PAYMENT.status = to
}

/* Write the outcome, the payment after it and the event. Each outcome has one, a decline too. `row` becomes the event's row. */
inline write_outcome() {
    assert((reply == SUCCEEDED) == (answer[o] == SUCCEEDED));          /* an outcome is the gateway's */
    OPERATION.outcome = reply;
    if
    :: IS(CHARGE) && reply == SUCCEEDED -> move(WHEN_CHARGED)
    :: IS(CHARGE) && reply == DECLINED -> move(FAILED)
    :: IS(CAPTURE) && reply == SUCCEEDED -> move(CAPTURED)
    :: IS(VOID) && reply == SUCCEEDED -> move(VOIDED)
    :: (IS(CAPTURE) || IS(VOID)) && reply == DECLINED                  /* the payment stays AUTHORIZED */
    :: IS(REFUND) && reply == SUCCEEDED ->
        PAYMENT.reserved = PAYMENT.reserved - OPERATION.amount;
        PAYMENT.refunded = PAYMENT.refunded + OPERATION.amount;
        if
        :: PAYMENT.refunded == AMOUNT -> move(REFUNDED)
        :: else -> move(PARTIALLY_REFUNDED)
        fi
    :: IS(REFUND) && reply == DECLINED -> PAYMENT.reserved = PAYMENT.reserved - OPERATION.amount
    fi;
    PAYMENT.version++;
    PAYMENT.events++;
    row = ROW(OPERATION.payment, PAYMENT.events);
    outbox[row].event_id = EVENT_ID
}

/* ---- a Lambda environment: of process and refund, or of reconcile ---- */

inline forget() { o = 0; attempt = 0; version = 0; reply = UNKNOWN }
inline end_invocation() { request = 0; row = 0; for_good = false; forget(); goto end_idle }

inline claim_due() { OPERATION.attempt++; attempt = OPERATION.attempt; look_at_payment(); goto charge }

/* Answer the request with the outcome of the first request with its key. */
inline answer_with_first() { o = operation_of_key[request] - 1; reply = OPERATION.outcome; tell(); end_invocation() }

inline find_reason() { for_good = HOPELESS }

inline find_key() {
    if
    :: operation_of_key[request] != 0 -> answer_with_first()
    :: else -> refuse()
    fi
}

/* The code reads first the reason and then the key. In the other scenes both are of the claim's moment, to save memory. */
#if defined(AUTHORIZATION)
#define REFUSE goto refused
#else
#define REFUSE find_reason(); find_key()
#endif

/* Refuse the request. A refusal for good is told, so nothing may have been done for this request, and nothing may be later. */
inline refuse() {
    assert(attempt == 0);                                              /* refused means that nothing was written */
    if
    :: for_good -> assert(operation_of_key[request] == 0); told_refused[request] = true  /* a refusal for good stays true */
    :: else
    fi;
    end_invocation()
}

proctype environment(bool scheduled) {
    byte request, o, attempt, version, row;
    bool for_good;
    mtype:outcome reply = UNKNOWN;

end_idle:
    atomic {
        if
        :: !scheduled && sends > 0 -> sends--; request = 1
        :: !scheduled && sends > 0 && REQUESTS > 1 -> sends--; request = 2
        :: !scheduled && sends > 0 && REQUESTS > 2 -> sends--; request = 3
        :: !scheduled && sends > 0 -> sends = 0; goto end_idle         /* the clients send nothing more */
        :: scheduled && DUE(0) -> o = 0; claim_due()
        :: scheduled && DUE(1) -> o = 1; claim_due()
        :: scheduled && DUE(2) -> o = 2; claim_due()
        fi;
        if                                                             /* claim */
        :: operation_of_key[request] != 0 -> REFUSE
        :: operation_of_key[request] == 0 && claimed == OPERATIONS -> end_invocation()  /* the model is full */
        :: else
        fi;
        if
        :: requests[request].kind == CHARGE && ORDER_IS_FREE ->
            write_operation();
            move(PROCESSING)
        :: requests[request].kind == CAPTURE && payments[0].status == AUTHORIZED && NO_OTHER -> write_operation()
        :: requests[request].kind == VOID && payments[0].status == AUTHORIZED && NO_OTHER -> write_operation()
        :: requests[request].kind == REFUND && REFUNDABLE ->
            write_operation();
            PAYMENT.reserved = PAYMENT.reserved + OPERATION.amount;
            PAYMENT.version++
        :: else -> REFUSE
        fi;
        look_at_payment();
        if
        :: request = 0; goto charge
        :: true                                                        /* the commit's answer was lost */
        fi
    }

claim_again:
    atomic {                                                           /* sent again, the claim meets its own rows */
        request = 0;
        if
        :: IS(CHARGE)
        :: !IS(CHARGE) -> look_at_payment()
        fi;
        goto charge
    }

charge:
    atomic {
        if
        :: call_gateway(); reply = answer[o]
        :: MAY_FAIL -> call_gateway(); goto unknown                    /* the reply was lost */
        :: MAY_FAIL -> goto unknown                                    /* the request was lost, or there was no time to send it */
        :: MAY_FAIL -> end_invocation()                                /* killed */
        fi
    }

settle:
    atomic {
        if
        :: MINE && UNCHANGED ->
            write_outcome();
            tell();
            if
            :: IS_NEXT(row) -> forget(); goto publish
            :: !IS_NEXT(row) -> end_invocation()                       /* the relay sends the older event, then this one */
            :: row = 0; goto look                                      /* the answer was lost, and settle is sent again in vain */
            fi
        :: !(MINE && UNCHANGED)
        :: MAY_FAIL -> end_invocation()                                /* killed */
        fi
    }

look:
    atomic {
        if
        :: MINE
        :: !MINE -> reply = OPERATION.outcome; tell(); end_invocation()
        fi
    }
    atomic {
        look_at_payment();
        if
        :: goto settle
        :: MAY_FAIL                                                    /* the payment kept changing */
        fi
    }

unknown:
    atomic { end_invocation() }                                        /* give_back: the caller gets 202, reconcile goes on */

#if defined(AUTHORIZATION)
refused:
    atomic { find_reason() }
    atomic { find_key() }
#endif

publish:
    atomic {
        if
        :: send(outbox[row].event_id)
        :: send(outbox[row].event_id); end_invocation()                /* not acknowledged, or killed */
        :: end_invocation()                                            /* not sent, or killed */
        fi
    }

mark:
    atomic {
        if
        :: outbox[row].marked = true
        :: true                                                        /* killed */
        fi;
        end_invocation()
    }
}

proctype relay() {
    byte row;

end_idle:
    atomic {
        if
        :: HEAD(1) -> row = 1
        :: HEAD(2) -> row = 2
        :: HEAD(3) -> row = 3
#if ROWS > 4
        :: HEAD(4) -> row = 4
#endif
        fi
    }

publish:
    atomic {
        if
        :: send(outbox[row].event_id)
        :: send(outbox[row].event_id); goto progress_failed            /* not acknowledged, or killed */
        :: goto progress_failed                                        /* not sent, or killed */
        fi
    }

mark:
    atomic {
        if
        :: outbox[row].marked = true; row = 0; goto end_idle
        :: goto progress_failed                                        /* killed */
        fi
    }

progress_failed:
    atomic { row = 0; goto end_idle }
}

/* The checks once no other process has anything left to do. */
proctype quiet() {
    byte n, owed[PAYMENTS] = OWED_EARLIER;

    timeout;
    d_step {
        do
        :: n < claimed ->
            assert(operations[n].outcome != UNKNOWN);                  /* nothing is stuck */
            assert((operations[n].outcome == SUCCEEDED) == (moved[n] == 1));  /* the books are the gateway's ledger */
            assert(reported[operations[n].request] == UNKNOWN
                || reported[operations[n].request] == operations[n].outcome);  /* no answer is contradicted */
            owed[operations[n].payment]++;
            n++
        :: else -> break
        od;
        assert(payments[0].refunded == returned && payments[0].reserved == 0);  /* the books are the gateway's ledger */
        n = 0;
        do
        :: n < ROWS && n % (ROWS / PAYMENTS) <= owed[n / (ROWS / PAYMENTS)] ->
            assert(topic[n] != 0 && outbox[n].marked);                 /* no event is lost */
            assert(topic[n] == outbox[n].event_id);                    /* an event is what was settled */
            n++
        :: n < ROWS && n % (ROWS / PAYMENTS) > owed[n / (ROWS / PAYMENTS)] ->
            assert(topic[n] == 0);                                     /* an event is what was settled */
            n++
        :: else -> break
        od
    }
}

init {
    atomic {
        outbox[0].event_id = ALWAYS; outbox[0].marked = true; topic[0] = ALWAYS;
        requests[1].keyed = true;
#if defined(ORDER)
        outbox[ROW(1, 0)].event_id = ALWAYS; outbox[ROW(1, 0)].marked = true; topic[ROW(1, 0)] = ALWAYS;
        requests[1].kind = CHARGE;
        requests[2].kind = CHARGE;
#elif defined(AUTHORIZATION)
        payments[0].status = AUTHORIZED; payments[0].events = 1; outbox[1].event_id = EARLIER;
        requests[1].kind = CAPTURE;
        requests[2].kind = VOID;
#elif defined(REFUNDS)
        payments[0].status = CAPTURED; payments[0].events = 1; outbox[1].event_id = EARLIER;
        requests[1].kind = REFUND;
        requests[2].kind = REFUND; requests[2].keyed = true;
        if
        :: requests[1].amount = 1; requests[2].amount = 1
        :: requests[1].amount = 1; requests[2].amount = AMOUNT
        :: requests[1].amount = 1; requests[2].amount = REST
        :: requests[1].amount = AMOUNT; requests[2].amount = REST
        fi;
#elif defined(NO_KEY)
        payments[0].status = CAPTURED; payments[0].events = 1; outbox[1].event_id = EARLIER;
        requests[1].kind = REFUND; requests[1].keyed = false;
        if
        :: requests[1].amount = 1
        :: requests[1].amount = REST
        fi;
#elif defined(LIFE)
        requests[1].kind = CHARGE;
        requests[2].kind = CAPTURE; requests[2].keyed = true;
        requests[3].kind = REFUND; requests[3].keyed = true;
#endif
#if defined(ORDER) || defined(AUTHORIZATION)
        if
        :: requests[2].keyed = true
        :: true
        fi;
#endif
        run environment(false);
        run environment(false);
        run environment(true);
        run relay();
        run quiet()
    }
}
