"""Puts the parts together, once a process. Nothing here connects: database and broker are reached at first use."""

from functools import cache
from typing import Any

from payments.after_answer import AfterAnswer
from payments.aws_auth import password_by
from payments.broker.kafka import KafkaPublisher
from payments.broker.login import security_by
from payments.commands.service import Service
from payments.gateway.simulated import SimulatedGateway
from payments.settings import settings_from
from payments.store.connection import Database

settings = cache(settings_from)
after_answer = AfterAnswer()


@cache
def publisher(**options: Any) -> KafkaPublisher:
    configured = settings()
    security = security_by(configured.kafka_auth)
    return KafkaPublisher(configured.kafka_bootstrap_servers, configured.kafka_topic, security, **options)


@cache
def service() -> Service:
    configured = settings()
    return Service(
        db=Database.at(configured.database_url, password_by(configured.database_auth), configured.database_role),
        gateway=SimulatedGateway(
            success_rate=configured.gateway_success_rate,
            delay_ms=configured.gateway_delay_ms,
            seed=configured.gateway_seed,
            lost_reply_rate=configured.gateway_lost_reply_rate,
        ),
        publisher=publisher(),
        later=after_answer,
        retry_schedule_s=configured.retry_schedule_s,
        capture_window=configured.capture_window,
    )
