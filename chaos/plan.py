"""The plan of a run, drawn from its seed: the clients' stories, and each invocation's fault."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import Literal

from chaos.crash import Act, Moment, Trap
from chaos.environments import NO_FAULT, Fault

Kind = Literal["process", "capture", "void", "refund"]

Deed = Literal["passes", "fails", "stays away"]
"""What a customer does whom the gateway asks: he pays, does not pass the bank's check, or never comes."""

LOST_REPLY_RATE = 0.08
"""The share of the gateway's replies that get lost."""

OWNERS = ("shop-a", "shop-b", "shop-c")
DIRECT_OWNER = "order-service"

CAPTURE_WINDOW_S = 12
"""Short, so that reconcile voids authorizations while clients capture them."""

ACTION_WINDOW_S = 8
"""Short too, so that the time of some customers ends while they act, or while a client gives the payment up."""

ASKED = 0.2
"""The share of the stories whose customer the gateway asks."""

SLIPS = 0.08
"""The share of the first requests of a group before which a client sends a wrong one under the same key."""

FIRST_OF_KIND = ("pay", "capture", "void", "refund-0-0")

OK = "tok_ok"

OFF_SESSION = "tok_threeDSecure2Required"
"""Stripe's card that needs its owner. No client here is a customer's browser, so it is charged off session, and declined."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """What one can pay with. The token of a payment decides the gateway's answers.

    `weights` are those of a story's first command. What is paid with `no_refund` is not refunded, and so on; "" if there is none.
    With those of `asks` the gateway asks the customer, who then does this.
    """

    good: str
    weights: Mapping[str, int]
    no_refund: str
    no_capture: str = ""
    no_void: str = ""
    asks: Mapping[Deed, str] = field(default_factory=dict)


# For `tok_by_rate`, which is no scenario, the gateway draws the outcome from the key and the seed.
_WEIGHTS = {
    OK: 50,
    "tok_timeout_then_captured": 8,
    "tok_refund_timeout": 8,
    "tok_refund_declined": 8,
    "tok_insufficient_funds": 5,
    "tok_timeout_then_declined": 5,
    "tok_capture_declined": 8,
    "tok_void_declined": 6,
    "tok_stolen_card": 4,
    "tok_by_rate": 11,
}
SIMULATED_TOKENS = Tokens(OK, _WEIGHTS, "tok_refund_declined", "tok_capture_declined", "tok_void_declined")


@dataclass(frozen=True, slots=True)
class Command:
    """One request of a client. The client sends `copies` of it at once, each up to `tries` times.

    `share` is the share of the payment's amount; None leaves the amount out, which means all of it. If a direct process is not
    `keyed`, the service derives its key from the payload. `by` is the id that names an existing payment. `key_of_name` names
    another command whose key this one has. A `slip` is a request that no service may accept.
    """

    name: str
    kind: str
    share: float | None = None
    token: str = OK
    copies: int = 1
    keyed: bool = True
    tries: int = 4
    by: str = "transaction_id"
    key_of_name: str = ""
    slip: bool = False

    def key_of(self, story: Story) -> str:
        """Return the command's key. A key is valid per owner and kind, so the first command of each kind may use the same one."""
        name = self.key_of_name or self.name
        return f"key-{story.number}" if name in FIRST_OF_KIND else f"key-{story.number}-{name}"


@dataclass(frozen=True, slots=True)
class Customer:
    """Whom the gateway asks, and what the client does meanwhile: each group after its pause, in seconds since the payment waits.

    The customer does what he does after `after_s`.
    """

    does: Deed
    after_s: float
    meanwhile: tuple[tuple[float, tuple[Command, ...]], ...]


@dataclass(frozen=True, slots=True)
class Story:
    """One order, as groups of commands. The commands of a group overlap; a group begins after the last one has its answers."""

    number: int
    owner: str
    direct: bool
    amount: int
    currency: str
    manual: bool
    groups: tuple[tuple[Command, ...], ...]
    wait_s: float = 0.0
    """The pause before a capture or a void, so that some come when reconcile voids the expired authorization."""
    customer: Customer | None = None

    @property
    def order_id(self) -> str:
        return f"order-{self.number}"


def story(seed: str, number: int, tokens: Tokens = SIMULATED_TOKENS) -> Story:
    random = Random(f"{seed}/story/{number}")
    direct = random.random() < 0.3
    manual = random.random() < 0.4
    tries = random.choice((1, 4, 4, 6))

    def command(name: str, kind: str, share: float | None = None, token: str = tokens.good) -> Command:
        return Command(
            name,
            kind,
            share,
            token,
            copies=random.choice((1, 1, 1, 2, 3)),
            # By direct invocation, only process works without a key: the service then derives one.
            keyed=random.random() < 0.8 or (direct and kind != "process"),
            tries=tries,
            by=random.choice(("transaction_id", "payment_id", "order_id")),
        )

    def slip(of: Command) -> Command:
        """Return a wrong request, to be sent before the right one."""
        return replace(of, name=f"slip-{of.name}", key_of_name=of.name, slip=True)

    [token] = random.choices(list(tokens.weights), list(tokens.weights.values()))
    first = [command("pay", "process", token=token)]
    if random.random() < 0.15:
        first.append(command("rival", "process"))  # another attempt at the same order, at the same time
    groups = [tuple(first)]
    if random.random() < SLIPS:
        groups.insert(0, (slip(first[0]),))
    if random.random() < 0.5:
        groups.append((command("again", "process"),))  # it succeeds if the first was declined, else the service refuses it
    if manual:
        ends = [command("capture", "capture", random.choice((None, 0.5, 1.0, 1.5, 1.5)))]
        if random.random() < 0.4:
            ends.append(command("void", "void"))
        if random.random() < 0.2:
            ends.append(command("capture-too", "capture", 0.7))
        groups.append(tuple(random.sample(ends, random.randint(1, len(ends)))))
    for number_of_group in range(random.choice((0, 1, 1, 2))):
        # Some of these exceed the capture together. A refund without a share takes all that is left.
        shares = random.choice(((0.4, 0.4, 0.4), (0.3, 0.8), (None, 0.5), (1.0, None), (0.2, 0.2, 0.2, None), (0.25,)))
        refunds = [command(f"refund-{number_of_group}-{n}", "refund", share) for n, share in enumerate(shares)]
        if random.random() < SLIPS:
            groups.append((slip(refunds[0]),))
        groups.append(tuple(refunds))
        if random.random() < SLIPS:
            groups.append((replace(refunds[0], name=f"other-{refunds[0].name}", key_of_name=refunds[0].name, share=0.11),))
    if random.random() < 0.1:
        groups.append((command("late-capture", "capture"), command("late-void", "void")))  # refused, except after a decline
    does, own = _deed(seed, number) if tokens.asks else None, first[0]
    if does:
        own = replace(own, token=tokens.asks[does])
        groups = [tuple(own if one is first[0] else one for one in group) for group in groups]
    return Story(
        number=number,
        owner=DIRECT_OWNER if direct else random.choice(OWNERS),
        direct=direct,
        amount=random.choice((100, 1999, 5000, 123_456)),
        currency=random.choice(("USD", "EUR", "JPY", "KWD")),
        manual=manual,
        groups=tuple(groups),
        wait_s=random.uniform(-2.0, 2.0) + CAPTURE_WINDOW_S if random.random() < 0.15 else 0.0,
        customer=_customer(seed, number, does, own, direct=direct) if does else None,
    )


# These draw from a source of their own, so that the other stories of a seed stay as they are.


def _deed(seed: str, number: int) -> Deed | None:
    random = Random(f"{seed}/asked/{number}")
    deeds: tuple[Deed, ...] = ("passes", "fails", "stays away")
    return random.choices(deeds, (6, 2, 2))[0] if random.random() < ASKED else None


def _customer(seed: str, number: int, does: Deed, pay: Command, *, direct: bool) -> Customer:
    """Draw when the customer acts, and when the client asks, repeats the request under its key, or gives the payment up."""
    random = Random(f"{seed}/customer/{number}")
    meanwhile = []
    for group in range(random.choice((0, 1, 2, 2, 3))):
        commands = []
        if random.random() < 0.6:
            by = random.choice(("payment_id", "order_id"))
            commands.append(Command("sync", "sync", copies=random.choice((1, 1, 2)), keyed=False, tries=2, by=by))
        if random.random() < 0.5 and (pay.keyed or direct):
            commands.append(replace(pay, copies=1, tries=1))
        if random.random() < 0.4:
            by, keyed = random.choice(("payment_id", "payment_id", "order_id")), direct or random.random() < 0.8
            commands.append(Command(f"give-up-{group}", "void", copies=random.choice((1, 1, 2)), keyed=keyed, by=by))
        # Early ones meet a payment that nobody asks about, late ones also the lease of a reconcile that was killed.
        after_s = random.uniform(0.0, random.choice((0.3, 1.1 * ACTION_WINDOW_S)))
        meanwhile.append((after_s, tuple(commands)))
    return Customer(does, random.uniform(0.1, 1.1 * ACTION_WINDOW_S), tuple(meanwhile))


@dataclass(frozen=True, slots=True)
class Rates:
    """The shares of the invocations that get a fault. Some faults miss, because the invocation ends first."""

    kill: float = 0.5
    freeze: float = 0.004
    cut: float = 0.03
    """Half of these are cut connections, half are answers that come too late."""


def fault(seed: str, label: str, rates: Rates) -> Fault:
    """Return the fault of the invocation with this label."""
    random = Random(f"{seed}/fault/{label}")
    draw = random.random()
    freeze_s = random.uniform(7.0, 9.0)  # longer than the lease of a client's command, see clients.REMAINING_S
    if draw < rates.kill:
        if random.random() < 0.5:
            return Fault(at_share=random.uniform(0.02, 1.1))
        return Fault(trap=_trap(random, "kill"))
    if draw < rates.kill + rates.freeze:
        return Fault(trap=_trap(random, "stop"), freeze_s=freeze_s)
    if draw < rates.kill + 2 * rates.freeze:
        return Fault(at_share=random.uniform(0.1, 1.0), signal="stop", freeze_s=freeze_s)
    if draw < rates.kill + 2 * rates.freeze + rates.cut:
        act: Act = random.choice(("cut", "stall"))
        return Fault(trap=_trap(random, act) | {"moment": "after"} if act == "stall" else _trap(random, act))
    return NO_FAULT


def _trap(random: Random, act: Act) -> Trap:
    moments: tuple[Moment, ...] = ("before", "half", "after")
    # A warm command writes about 6 times: to the database, the gateway and the broker. A cold one writes about twice as often. If
    # the service refuses a command, it writes once or twice.
    number = random.choice((1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 7, 8, 10))
    return {"number": number, "where": None, "phase": 0, "moment": random.choice(moments), "act": act}
