"""Puts the parts together, once a process. Nothing here connects: database and broker are reached at first use. Only `service`
reads Stripe's key, and only with GATEWAY=stripe."""

from functools import cache
from typing import TYPE_CHECKING, Any

from payments.after_answer import AfterAnswer
from payments.aws_auth import password_by, secret
from payments.broker.kafka import KafkaPublisher
from payments.broker.login import security_by
from payments.commands.service import Service
from payments.gateway.port import Gateway
from payments.gateway.simulated import SimulatedGateway
from payments.settings import Settings, settings_from
from payments.store.connection import Database

if TYPE_CHECKING:
    from payments.stripe_settings import KeptSecret, StripeSettings

settings = cache(settings_from)
after_answer = AfterAnswer()


@cache
def publisher(**options: Any) -> KafkaPublisher:
    configured = settings()
    security = security_by(configured.kafka_auth)
    return KafkaPublisher(configured.kafka_bootstrap_servers, configured.kafka_topic, security, **options)


def gateway(configured: Settings) -> Gateway:
    if configured.stripe:
        return _stripe(configured.stripe)
    simulated = SimulatedGateway(
        success_rate=configured.gateway_success_rate,
        delay_ms=configured.gateway_delay_ms,
        seed=configured.gateway_seed,
        lost_reply_rate=configured.gateway_lost_reply_rate,
    )
    if not configured.simulated_gateway_url:
        return simulated
    from payments.gateway.simulated_bank import SimulatedBank  # which only a local run pays

    return SimulatedBank(simulated, configured.simulated_gateway_url)


def _stripe(configured: "StripeSettings") -> Gateway:
    from payments.gateway.stripe import StripeGateway  # which only a deployment with Stripe pays
    from payments.stripe_settings import KeptSecret, stripe_key

    def read() -> str:
        text = configured.api_key or secret(configured.secret).get("api_key") or ""
        return stripe_key(text, is_live=configured.is_live)

    api_key = KeptSecret(read)
    api_key()  # a wrong key shows before a command begins
    return StripeGateway(api_key, is_live=configured.is_live, refused=api_key.refused, base=configured.base)


@cache
def webhook_secrets() -> "KeptSecret[tuple[str, ...]]":
    return webhook_secrets_of(settings())


def webhook_secrets_of(given: Settings) -> "KeptSecret[tuple[str, ...]]":
    """Return what Stripe signs its events with: one secret, and two while they are changed."""
    from payments.stripe_settings import KeptSecret, webhook_secrets_in

    def read() -> tuple[str, ...]:
        configured = given.stripe
        assert configured, "nobody asks with another gateway"
        given_here, arn = configured.webhook_secrets, configured.secret
        return webhook_secrets_in(secret(arn).get("webhook_secrets")) if arn else given_here

    return KeptSecret(read)


@cache
def service() -> Service:
    configured = settings()
    return Service(
        db=Database.at(configured.database_url, password_by(configured.database_auth), configured.database_role),
        gateway=gateway(configured),
        publisher=publisher(),
        later=after_answer,
        retry_schedule_s=configured.retry_schedule_s,
        capture_window=configured.capture_window,
        action_window=configured.action_window,
    )
