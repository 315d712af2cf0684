from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta

import pytest

from payments.settings import SettingsError, settings_from

REQUIRED = {"DATABASE_URL": "postgresql://payments_service@db/payments", "KAFKA_BOOTSTRAP_SERVERS": "b-1:9092"}


def test_all_but_the_two_servers_has_a_default() -> None:
    assert asdict(settings_from(REQUIRED)) == {
        "database_url": REQUIRED["DATABASE_URL"],
        "database_auth": "url",
        "database_role": "",
        "kafka_bootstrap_servers": ("b-1:9092",),
        "kafka_auth": "none",
        "kafka_topic": "payments",
        "gateway_success_rate": 0.95,
        "gateway_delay_ms": (50, 200),
        "gateway_seed": "payments",
        "gateway_lost_reply_rate": 0,
        "direct_owner": "order-service",
        "retry_schedule_s": (30, 120, 600, 3600, 21600, 72000),
        "capture_window": timedelta(days=7),
        "webhooks_local": False,
    }


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("KAFKA_BOOTSTRAP_SERVERS", "a:1,b:2", "kafka_bootstrap_servers", ("a:1", "b:2")),
        ("KAFKA_TOPIC", "money", "kafka_topic", "money"),
        ("GATEWAY_SUCCESS_RATE", "0", "gateway_success_rate", 0.0),
        ("GATEWAY_SUCCESS_RATE", "1", "gateway_success_rate", 1.0),
        ("GATEWAY_SUCCESS_RATE", "", "gateway_success_rate", 0.95),
        ("GATEWAY_LOST_REPLY_RATE", ".5", "gateway_lost_reply_rate", 0.5),
        ("GATEWAY_DELAY_MS", "7", "gateway_delay_ms", (7, 7)),
        ("GATEWAY_DELAY_MS", "0-0", "gateway_delay_ms", (0, 0)),
        ("GATEWAY_SEED", "s", "gateway_seed", "s"),
        ("RETRY_SCHEDULE_S", "1,2,4.5", "retry_schedule_s", (1.0, 2.0, 4.5)),
        ("CAPTURE_WINDOW_S", "60", "capture_window", timedelta(minutes=1)),
        ("DIRECT_OWNER", "orders", "direct_owner", "orders"),
        ("WEBHOOKS_LOCAL", "On", "webhooks_local", True),
        ("WEBHOOKS_LOCAL", "true", "webhooks_local", False),
    ],
)
def test_a_variable_is_read_as_what_it_means(name: str, text: str, field: str, value: object) -> None:
    assert getattr(settings_from(REQUIRED | {name: text}), field) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("DATABASE_URL", ""),
        ("KAFKA_BOOTSTRAP_SERVERS", ""),
        ("KAFKA_BOOTSTRAP_SERVERS", "a:1,,b:2"),
        ("GATEWAY_SUCCESS_RATE", "95 %"),
        ("GATEWAY_SUCCESS_RATE", "1.01"),
        ("GATEWAY_SUCCESS_RATE", "-0.1"),
        ("GATEWAY_SUCCESS_RATE", "nan"),
        ("GATEWAY_LOST_REPLY_RATE", "often"),
        ("GATEWAY_DELAY_MS", "200-50"),
        ("GATEWAY_DELAY_MS", "1-2-3"),
        ("GATEWAY_DELAY_MS", "fast"),
        ("GATEWAY_DELAY_MS", "-5"),
        ("GATEWAY_DELAY_MS", "nan-5"),
        ("GATEWAY_DELAY_MS", "inf"),
        ("RETRY_SCHEDULE_S", "30;120"),
        ("RETRY_SCHEDULE_S", "nan"),
        ("RETRY_SCHEDULE_S", "30,-1"),
        ("RETRY_SCHEDULE_S", "30,30,30"),
        ("RETRY_SCHEDULE_S", "120,30"),
        ("RETRY_SCHEDULE_S", "30,86400"),
        ("CAPTURE_WINDOW_S", "a week"),
        ("CAPTURE_WINDOW_S", "nan"),
        ("CAPTURE_WINDOW_S", "1e300"),
        ("CAPTURE_WINDOW_S", "-5"),
        ("CAPTURE_WINDOW_S", "60,120"),
    ],
)
def test_a_wrong_variable_is_named(name: str, text: str) -> None:
    with pytest.raises(SettingsError, match=name):
        settings_from(REQUIRED | {name: text})
