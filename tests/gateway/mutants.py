"""Seeded defects of adapter and port. Each is a small patch of the tree, and names the tests that have to notice it."""

from __future__ import annotations

from dataclasses import dataclass

from chaos.defects import Patch

GATEWAY = "layers/shared/python/payments/gateway"
REPLIES = "tests/gateway/test_stripe_replies.py"
ACTIONS = "tests/gateway/test_stripe_actions.py"
SEEN = "tests/gateway/test_stripe_seen.py"
CALL = "tests/gateway/test_the_call.py"
PHASES = "layers/shared/python/payments/commands/phases.py"
AMOUNTS = "tests/gateway/test_stripe_amounts.py"


@dataclass(frozen=True)
class Mutant:
    """`tests` are pytest's arguments. At least one of those tests has to fail with the patches."""

    name: str
    tests: tuple[str, ...]
    patches: tuple[Patch, ...]


def _of_stripe(old: str, new: str, module: str = "stripe") -> tuple[Patch, ...]:
    return (Patch(f"{GATEWAY}/{module}.py", old, new),)


MUTANTS = (
    Mutant(
        "a new key for each attempt",
        (REPLIES, "-k", "depends_on_the_attempt"),
        _of_stripe(
            "parameters | _metadata(request), ends_s, key=request.key)\n        return self._charged",
            'parameters | _metadata(request), ends_s, key=f"{request.key}-{request.attempt}")\n        return self._charged',
        ),
    ),
    Mutant(
        "a 500 is a decline",
        (REPLIES, "-k", "all_else_is_unknown"),
        _of_stripe(
            '            raise _Unanswered(f"Stripe answered {status}", key_is_spent=is_remembered)\n',
            '            return _Answer(400, None, {"error": {"code": "processing_error"}})\n',
        ),
    ),
    Mutant(
        "a remembered 500 is asked for again",
        (REPLIES, "-k", "all_else_is_unknown"),
        _of_stripe("key_is_spent=is_remembered", "key_is_spent=False"),
    ),
    Mutant(
        "an idempotency error is a decline",
        (REPLIES, "-k", "all_else_is_unknown"),
        _of_stripe('error.get("type") == "idempotency_error"', 'error.get("type") == "idempotency_errors"'),
    ),
    Mutant(
        "a refused repetition is a decline",
        (REPLIES, "-k", "looked_at_the_key"),
        _of_stripe(
            "if request.attempt > 1 and isinstance(reply, Declined)", "if request.attempt > 9 and isinstance(reply, Declined)"
        ),
    ),
    Mutant(
        "what is not found is declined",
        (REPLIES, "-k", "question_without_an_answer or looked_for_around"),
        _of_stripe(
            '            raise _Unanswered(f"Stripe answered our question with',
            '            return answer\n            raise _Unanswered(f"Stripe answered our question with',
        )
        + _of_stripe(
            '        answer = self._get(_path_of(request.payment_intent_id), {"expand[]": "latest_charge"}, ends_s)\n',
            '        answer = self._get(_path_of(request.payment_intent_id), {"expand[]": "latest_charge"}, ends_s)\n'
            "        if answer.error:\n            return _declined(answer, answer.error, None)\n",
        ),
    ),
    Mutant(
        "what Stripe moved is taken for what we asked for",
        (REPLIES, "-k", "what_stripe_moved"),
        _of_stripe(
            "        amount_minor,\n        currency,\n        answer.raw", "        1999,\n        currency,\n        answer.raw"
        ),
    ),
    Mutant(
        "the table of currencies is skipped",
        (AMOUNTS,),
        _of_stripe('DIGITS = {"ISK": 2, "UGX": 2, "MGA": 0}', "DIGITS: dict[str, int] = {}", "stripe_amounts"),
    ),
    Mutant(
        "a decline leaves its intent open",
        (REPLIES, "-k", "after_its_intent_is_canceled"),
        _of_stripe(
            "        canceled = self._call(", "        return _declined(answer, error, intent)\n        canceled = self._call("
        ),
    ),
    Mutant(
        "a payment fails before its intent is canceled",
        (ACTIONS, "-k", "fails_the_check or late_decline"),
        _of_stripe(
            "                return self._closed(request, answer, why or NOT_DONE, intent, ends_s)",
            "                if request.gateway_id:\n                    return _declined(answer, why or NOT_DONE, intent)\n"
            "                return self._closed(request, answer, why or NOT_DONE, intent, ends_s)",
        ),
    ),
    Mutant(
        "an action that nobody can take leaves its intent open",
        (REPLIES, "-k", "needs_something_is_canceled"),
        _of_stripe(
            "return self._closed(request, answer, NEEDS_CUSTOMER, intent, ends_s)",
            "return _declined(answer, NEEDS_CUSTOMER, intent)",
        ),
    ),
    Mutant(
        "an action that nobody can take is waited for",
        (REPLIES, "-k", "needs_something_is_canceled"),
        _of_stripe('case "requires_action" if request.off_session:', 'case "requires_action" if False:'),
    ),
    Mutant(
        "the customer's secret is kept with the operation",
        (ACTIONS, "-k", "no_secret"),
        _of_stripe('("id", "status", "cancellation_reason"', '("id", "client_secret", "status", "cancellation_reason"'),
    ),
    Mutant(
        "the customer's secret is in a log line",
        (ACTIONS, "-k", "no_secret"),
        (
            Patch(
                f"{GATEWAY}/port.py",
                "client_secret: str | None = field(default=None, repr=False)",
                "client_secret: str | None = None",
            ),
        ),
    ),
    Mutant(
        "a declined card ends a payment that waits for any card",
        (ACTIONS, "-k", "payment_element"),
        _of_stripe(
            '"requires_payment_method" | "requires_confirmation" if not request.payment_token:',
            '"requires_confirmation" if False:',
        ),
    ),
    Mutant(
        "a payment that was given up failed by its last card",
        (ACTIONS, "-k", "given_up"),
        _of_stripe("declined = why if request.payment_token else error", "declined = why"),
    ),
    Mutant(
        "a refund of others is taken for ours",
        (SEEN, "-k", "reads_the_intent"),
        _of_stripe("        key=key_of(refund),", '        key=key_of(refund) or refund["id"],', "stripe_seen"),
    ),
    Mutant(
        "a dispute that is over stays open",
        (SEEN, "-k", "end_of_a_dispute"),
        _of_stripe('        outcome=OUTCOMES.get(dispute["status"]),', "        outcome=None,", "stripe_seen"),
    ),
    Mutant(
        "events of the other mode are told",
        (SEEN, "-k", "cannot_be_read"),
        _of_stripe("                self._check_mode(thing)\n                yield", "                yield"),
    ),
    Mutant(
        "a request is repeated after its answer has begun",
        ("tests/gateway/test_stripe_http.py", "-k", "has_begun or hangs_is_not"),
        _of_stripe("if kept is None or kept.has_answered or isinstance(error, TimeoutError):", "if kept is None:", "stripe_http"),
    ),
    Mutant(
        "a server that drips bytes gains time",
        ("tests/gateway/test_stripe_http.py", "-k", "drips"),
        (
            Patch(
                "layers/shared/python/payments/timed.py",
                "        self._connection.settimeout(left_s(self._ends_s))\n        count",
                "        self._connection.settimeout(max(self._ends_s - time.time(), 0.5))\n        count",
            ),
        ),
    ),
    Mutant(
        "the other mode goes unseen",
        (REPLIES, "-k", "other_mode"),
        _of_stripe('thing.get("livemode", self._is_live) is not self._is_live', "False"),
    ),
    Mutant(
        "a capture by others of another amount is taken for ours",
        (REPLIES, "-k", "somebody_else_of_another"),
        _of_stripe("if error and reply.amount_minor != request.amount_minor else reply", "if False else reply"),
    ),
    Mutant(
        "the amount is not compared",
        (CALL, "-k", "another_amount"),
        (Patch(PHASES, "(request.amount_minor, request.currency):", "(reply.amount_minor, reply.currency):"),),
    ),
    Mutant(
        "a key is used after its end",
        (CALL, "-k", "has_ended"),
        (Patch(PHASES, "request.gateway_id is not None or not claimed.key_lives", "request.gateway_id is not None"),),
    ),
    Mutant(
        "what the gateway has begun is begun again",
        (CALL, "-k", "has_named"),
        (Patch(PHASES, "request.gateway_id is not None or not claimed.key_lives", "not claimed.key_lives"),),
    ),
    Mutant(
        "another gateway's payment is sent to ours",
        (CALL, "-k", "another_gateways"),
        (Patch(PHASES, "if claimed.gateway not in (None, gateway.name):", "if False:"),),
    ),
)
