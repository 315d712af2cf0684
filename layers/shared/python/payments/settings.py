"""The function's configuration: environment variables that template.yaml declares, read and checked once."""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from payments.direct_owner import direct_owner_in
from payments.domain.times import DAY_S
from payments.settings_error import SettingsError

if TYPE_CHECKING:
    from payments.stripe_settings import StripeSettings

STACK = os.environ.get("POWERTOOLS_SERVICE_NAME") or "payments"
"""The dimension `service` of every metric: the stack's name, so that the alarms of two stacks watch their own."""

PUBLISHES_AFTER_ANSWER = os.environ.get("PUBLISH_AFTER_ANSWER") == "On"
"""Whether events follow the answer. It has to be known when the function is imported."""

TEN_YEARS_S = 315_360_000
"""No wait and no window here is as long. A larger number is a mistake of the unit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    database_url: str = field(repr=False)
    database_auth: str
    database_role: str
    kafka_bootstrap_servers: tuple[str, ...]
    kafka_auth: str
    kafka_topic: str
    stripe: "StripeSettings | None"
    """None stands for the simulated gateway."""
    gateway_success_rate: float
    gateway_delay_ms: tuple[int, int]
    gateway_seed: str
    gateway_lost_reply_rate: float
    direct_owner: str
    retry_schedule_s: tuple[float, ...]
    capture_window: timedelta
    action_window: timedelta
    simulated_gateway_url: str
    """Where a local run has the simulated gateway's pages. template.yaml never sets it."""
    webhooks_local: bool
    """Whether a webhook may go to this machine, as in a local run. template.yaml never sets it."""


def _number(name: str, text: str, most: int) -> float:
    with suppress(ValueError):
        if 0 <= (value := float(text)) <= most:  # NaN is in no range.
            return value
    raise SettingsError(f"{name} must hold numbers from 0 to {most}, and {text!r} is none")


def _schedule_s(text: str) -> tuple[float, ...]:
    """Return rising moments in seconds. A last part such as 30d goes on from the second day with each day up to that one."""
    moments, _, last = text.rpartition(",")
    days = int(last[:-1]) if last[:-1].isdecimal() and last.endswith("d") else 0
    schedule_s = [_number("RETRY_SCHEDULE_S", part, TEN_YEARS_S) for part in (moments if days else text).split(",")]
    schedule_s += [day * DAY_S for day in range(2, min(days, 3650) + 1)]
    if schedule_s != sorted(set(schedule_s)):
        raise SettingsError("RETRY_SCHEDULE_S must be rising moments in seconds, and perhaps a last part such as 30d")
    return tuple(schedule_s)


def settings_from(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the environment. Raises SettingsError."""

    def required(name: str) -> str:
        if value := environment.get(name):
            return value
        raise SettingsError(f"{name} is not set")

    def auth(name: str, default: str) -> str:
        value = environment.get(name) or default
        if value not in ("iam", default) and not value.startswith("arn:"):
            raise SettingsError(f"{name} must be iam, {default} or the ARN of a secret")
        return value

    def number(name: str, default: str, most: int) -> float:
        return _number(name, environment.get(name) or default, most)

    def numbers(name: str, default: str, separator: str) -> list[float]:
        return [_number(name, part, TEN_YEARS_S) for part in (environment.get(name) or default).split(separator)]

    delay_ms = [int(number) for number in numbers("GATEWAY_DELAY_MS", "50-200", "-")]
    schedule_s = _schedule_s(environment.get("RETRY_SCHEDULE_S") or "30,120,600,3600,21600,72000,30d")
    brokers = tuple(server.strip() for server in required("KAFKA_BOOTSTRAP_SERVERS").split(","))
    if not all(brokers):
        raise SettingsError("KAFKA_BOOTSTRAP_SERVERS must be host:port, divided by commas")
    if not 1 <= len(delay_ms) <= 2 or delay_ms[0] > delay_ms[-1]:
        raise SettingsError("GATEWAY_DELAY_MS must be a range of milliseconds such as 50-200")
    stripe = None
    if (gateway := environment.get("GATEWAY") or "simulated") == "stripe":
        from payments.stripe_settings import stripe_settings_from

        stripe = stripe_settings_from(environment)
    elif gateway != "simulated":
        raise SettingsError("GATEWAY must be simulated or stripe")
    return Settings(
        database_url=required("DATABASE_URL"),
        database_auth=auth("DATABASE_AUTH", "url"),
        database_role=environment.get("DATABASE_ROLE") or "",
        kafka_bootstrap_servers=brokers,
        kafka_auth=auth("KAFKA_AUTH", "none"),
        kafka_topic=environment.get("KAFKA_TOPIC") or "payments",
        stripe=stripe,
        gateway_success_rate=number("GATEWAY_SUCCESS_RATE", "0.95", 1),
        gateway_delay_ms=(delay_ms[0], delay_ms[-1]),
        gateway_seed=environment.get("GATEWAY_SEED") or "payments",
        gateway_lost_reply_rate=number("GATEWAY_LOST_REPLY_RATE", "0", 1),
        direct_owner=direct_owner_in(environment)[0],
        retry_schedule_s=schedule_s,
        capture_window=timedelta(seconds=number("CAPTURE_WINDOW_S", "604800", TEN_YEARS_S)),
        action_window=timedelta(seconds=number("ACTION_WINDOW_S", "3600", TEN_YEARS_S)),
        simulated_gateway_url=environment.get("SIMULATED_GATEWAY_URL") or "",
        webhooks_local=environment.get("WEBHOOKS_LOCAL") == "On",
    )
