"""What GATEWAY=stripe needs besides. Nothing of it is read with another gateway."""

import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from payments.settings_error import SettingsError

logger = logging.getLogger(__name__)

Secret = TypeVar("Secret")

API = "https://api.stripe.com"

REREAD_S = 60.0
"""A refused key is read again at most once in this time: a gateway that refuses every key makes no storm of reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StripeSettings:
    """`is_live` says whether real money moves; the key has to be of the same mode. Either `api_key` and `webhook_secrets` are
    given, or `secret`, the ARN of a secret that has them. Tests name another `base`, and template.yaml names none."""

    is_live: bool
    secret: str
    api_key: str = field(repr=False)
    webhook_secrets: tuple[str, ...] = field(repr=False)
    base: str


def stripe_key(text: str, *, is_live: bool) -> str:
    """Return Stripe's API key if it is of the mode that GATEWAY_LIVE says. Raises SettingsError, which does not quote it."""
    key = re.fullmatch(r"[sr]k_(live|test)_[A-Za-z0-9_]+", text)
    if not key:
        raise SettingsError("Stripe's API key must begin with sk_test_, rk_test_, sk_live_ or rk_live_, and have no blanks")
    if (key[1] == "live") is not is_live:
        raise SettingsError(f"GATEWAY_LIVE is {'On' if is_live else 'Off'}, and Stripe's API key is a {key[1]} one")
    return text


def webhook_secrets_in(
    texts: object, where: str = "webhook_secrets in the secret must be a JSON list of texts"
) -> tuple[str, ...]:
    """Return the secrets that Stripe signs its events with. There may be none, because a stack may have no endpoint. None of them
    may be empty, because everybody could sign with it. Raises SettingsError, which does not quote them."""
    texts = [] if texts is None else texts
    if not isinstance(texts, list) or not all(isinstance(text, str) and re.fullmatch(r"whsec_\S{8,}", text) for text in texts):
        raise SettingsError(f"{where}, each of them whsec_ and eight or more characters, without blanks")
    return tuple(texts)


def stripe_settings_from(environment: Mapping[str, str]) -> StripeSettings:
    """Read the environment. Raises SettingsError."""
    live = environment.get("GATEWAY_LIVE") or "Off"
    if live not in ("Off", "On"):
        raise SettingsError("GATEWAY_LIVE must be Off or On")
    arn, key = environment.get("STRIPE_SECRET") or "", environment.get("STRIPE_API_KEY") or ""
    if bool(arn) is bool(key):
        raise SettingsError(
            "GATEWAY=stripe needs STRIPE_SECRET, the ARN of a secret, or for a local run STRIPE_API_KEY, and not both"
        )
    if arn and not arn.startswith("arn:"):
        raise SettingsError("STRIPE_SECRET must be the ARN of a secret")
    base = environment.get("STRIPE_API_BASE") or API
    if not re.fullmatch(r"(https://[\w.-]+(:\d+)?|http://(127\.0\.0\.1|localhost):\d+)(/\S*)?", base):
        raise SettingsError("STRIPE_API_BASE must begin with https://, because the API key is sent there, or be on this machine")
    is_live = live == "On"
    given = [text for text in (environment.get("STRIPE_WEBHOOK_SECRETS") or "").split(",") if text]
    webhook_secrets = webhook_secrets_in(given, "STRIPE_WEBHOOK_SECRETS must be secrets with commas between them")
    return StripeSettings(
        is_live=is_live,
        secret=arn,
        api_key=key and stripe_key(key, is_live=is_live),
        webhook_secrets=webhook_secrets,
        base=base,
    )


class KeptSecret(Generic[Secret]):
    """The API key, or the webhook secrets: a call reads it at first use and keeps it, because a read takes longer than all our
    own work.

    After a refusal it is read again, because it may have been rotated. Several threads use it. `clock` has to go on while the
    function is frozen.
    """

    def __init__(self, read: Callable[[], Secret], clock: Callable[[], float] = time.time) -> None:
        self._read, self._clock, self._lock = read, clock, threading.Lock()
        self._value: Secret | None = None
        self._read_at = 0.0

    def __call__(self) -> Secret:
        """Raises what `read` raises."""
        with self._lock:
            if self._value is None:
                self._value, self._read_at = self._read(), self._clock()
            return self._value

    def refused(self) -> None:
        """Read it again, once in REREAD_S at most. It stays as it is if that fails, so that threads do not wait for one
        failing read after the other."""
        with self._lock:
            if not 0 <= self._clock() - self._read_at < REREAD_S:
                self._read_at = self._clock()
                try:
                    self._value = self._read()
                except Exception:  # Its text quotes no secret.
                    logger.exception("the secret could not be read again")
