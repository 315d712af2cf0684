"""Signatures of Stripe's webhooks: HMAC-SHA256 of the time and the body, in the header Stripe-Signature."""

import hashlib
import hmac
from collections.abc import Sequence

TOLERANCE_S = 300
"""So far may the signature's time be from ours, as in Stripe's own libraries. Whoever records a request can send it again for as
long, and an event that is known changes nothing."""


class SignatureRefused(ValueError):
    """The body is not Stripe's, or is too old. The message says why, and quotes nothing."""


def check_signature(header: str, body: bytes, secrets: Sequence[str], now_s: float) -> None:
    """Raise SignatureRefused unless the header signs these very bytes, with one of the secrets, within TOLERANCE_S of `now_s`.

    While a secret is changed there are two, at Stripe or here: one signature has to be of one of them. `now_s` is in seconds
    since the epoch.
    """
    parts = [part.strip().partition("=") for part in header.split(",")]
    times = [value for name, _, value in parts if name == "t"]
    signatures = [value.encode(errors="replace") for name, _, value in parts if name == "v1"]
    if len(times) != 1 or not (times[0].isascii() and times[0].isdigit()) or len(times[0]) > 15 or not signatures:
        raise SignatureRefused("the header Stripe-Signature is missing or cannot be read")
    content = times[0].encode() + b"." + body
    expected = [hmac.digest(secret.encode(), content, hashlib.sha256).hex().encode() for secret in secrets]
    # All are compared before one counts: how long that takes says nothing of them.
    equal = [hmac.compare_digest(ours, theirs) for ours in expected for theirs in signatures]
    if not any(equal):
        raise SignatureRefused("no signature in it is of a secret of ours")
    if abs(now_s - int(times[0])) > TOLERANCE_S:
        raise SignatureRefused(f"it was signed more than {TOLERANCE_S} s ago, or a clock is wrong")
