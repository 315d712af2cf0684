"""What a gateway's own books say at the end. The oracle compares them with the tables, whoever keeps the books.

Two gateways keep books: the simulated one (gateway.py writes its ledger, simulated.py reads it) and Stripe World,
see stripe_books.py.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

TOO_LATE = "payment_intent_unexpected_state"
"""The decline code of a cancel that came after the customer had paid: Stripe's."""


@dataclass(frozen=True, slots=True)
class Move:
    """Money that the gateway moved once, or an authorization that it gave or ended.

    `action` is charge, capture, void or refund; a charge that is not `captured` is an authorization. `key` is the key of the call
    that moved it, and "" if the gateway knows none.
    """

    key: str
    action: str
    amount: int
    currency: str
    transaction_id: str
    captured: bool = True

    @property
    def shown(self) -> str:
        """What a gateway's list calls it."""
        return "authorization" if self.action == "charge" and not self.captured else self.action


@dataclass(slots=True)
class Asked:
    """A payment whose customer the gateway asked to act. Times are monotonic seconds, and None if the gateway does not say so.

    `canceled_by` is the key of the call after which nobody can pay it any more, and None if there was none.
    """

    payment_intent_id: str
    acted_s: float | None = None
    canceled_by: str | None = None
    canceled_s: float | None = None


@dataclass(frozen=True, slots=True)
class Disputed:
    """What a gateway says of a dispute at one moment, in its own words."""

    amount: int
    currency: str
    reason: str
    status: str
    is_refundable: bool


@dataclass(frozen=True, slots=True)
class Dispute:
    """A dispute of a charge, with all that the gateway has said of it, the oldest first. The end is `outcome`, or None."""

    dispute_id: str
    transaction_id: str
    said: list[Disputed]
    outcome: str | None


@dataclass(frozen=True, slots=True)
class Books:
    moves: list[Move]
    declines: Mapping[str, str]
    """The gateway's decline code of each key that it declined."""
    account: Mapping[str, int] | None = None
    """What the gateway's account holds of the payments, by currency, if there is an account."""
    contradictions: list[str] = field(default_factory=list)
    """Where the books contradict themselves, or leave something open."""
    disputes: list[Dispute] = field(default_factory=list)
    asked: Mapping[str, Asked] = field(default_factory=dict)
    """The payments whose customer was asked, by the key of the charge."""

    def by_key(self) -> dict[str, list[Move]]:
        by_key: defaultdict[str, list[Move]] = defaultdict(list)
        for move in self.moves:
            by_key[move.key].append(move)
        return dict(by_key)
