"""Puts the parts together, once a process. Nothing here connects: the books and the broker are reached at first use."""

from __future__ import annotations

from functools import cache

from payments.gateway.simulated import SimulatedGateway
from payments.kafka import KafkaPublisher
from payments.service import Service
from payments.settings import Settings, settings_from
from payments.store.connection import Database


@cache
def settings() -> Settings:
    return settings_from()


@cache
def publisher() -> KafkaPublisher:
    return KafkaPublisher(settings().kafka_bootstrap_servers, settings().kafka_topic)


@cache
def service() -> Service:
    configured = settings()
    return Service(
        db=Database.at(configured.database_url),
        gateway=SimulatedGateway(
            success_rate=configured.gateway_success_rate,
            delay_ms=configured.gateway_delay_ms,
            seed=configured.gateway_seed,
            lost_reply_rate=configured.gateway_lost_reply_rate,
        ),
        publisher=publisher(),
        retry_schedule_s=configured.retry_schedule_s,
        capture_window=configured.capture_window,
    )
