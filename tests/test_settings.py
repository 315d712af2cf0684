from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta

import pytest

from payments.settings import settings_from
from payments.settings_error import SettingsError
from payments.stripe_settings import stripe_key

REQUIRED = {"DATABASE_URL": "postgresql://payments_service@db/payments", "KAFKA_BOOTSTRAP_SERVERS": "b-1:9092"}


def test_all_but_the_two_servers_has_a_default() -> None:
    assert asdict(settings_from(REQUIRED)) == {
        "database_url": REQUIRED["DATABASE_URL"],
        "database_auth": "url",
        "database_role": "",
        "kafka_bootstrap_servers": ("b-1:9092",),
        "kafka_auth": "none",
        "kafka_topic": "payments",
        "stripe": None,
        "gateway_success_rate": 0.95,
        "gateway_delay_ms": (50, 200),
        "gateway_seed": "payments",
        "gateway_lost_reply_rate": 0,
        "direct_owner": "order-service",
        "retry_schedule_s": (30, 120, 600, 3600, 21600, 72000, *range(172800, 2592001, 86400)),
        "capture_window": timedelta(days=7),
        "action_window": timedelta(hours=1),
        "simulated_gateway_url": "",
        "webhooks_local": False,
    }


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("KAFKA_BOOTSTRAP_SERVERS", "a:1,b:2", "kafka_bootstrap_servers", ("a:1", "b:2")),
        ("KAFKA_TOPIC", "money", "kafka_topic", "money"),
        ("GATEWAY", "", "stripe", None),
        ("GATEWAY_LIVE", "On", "stripe", None),
        ("STRIPE_API_KEY", "of another program", "stripe", None),  # nobody reads it with the simulated gateway
        ("GATEWAY_SUCCESS_RATE", "0", "gateway_success_rate", 0.0),
        ("GATEWAY_SUCCESS_RATE", "1", "gateway_success_rate", 1.0),
        ("GATEWAY_SUCCESS_RATE", "", "gateway_success_rate", 0.95),
        ("GATEWAY_LOST_REPLY_RATE", ".5", "gateway_lost_reply_rate", 0.5),
        ("GATEWAY_DELAY_MS", "7", "gateway_delay_ms", (7, 7)),
        ("GATEWAY_DELAY_MS", "0-0", "gateway_delay_ms", (0, 0)),
        ("GATEWAY_SEED", "s", "gateway_seed", "s"),
        ("RETRY_SCHEDULE_S", "1,2,4.5", "retry_schedule_s", (1.0, 2.0, 4.5)),
        ("RETRY_SCHEDULE_S", "30,86400,3d", "retry_schedule_s", (30.0, 86400.0, 172800, 259200)),
        ("CAPTURE_WINDOW_S", "60", "capture_window", timedelta(minutes=1)),
        ("ACTION_WINDOW_S", "60", "action_window", timedelta(minutes=1)),
        ("SIMULATED_GATEWAY_URL", "http://127.0.0.1:8001/pages", "simulated_gateway_url", "http://127.0.0.1:8001/pages"),
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
        ("GATEWAY", "Stripe"),
        ("GATEWAY", "paypal"),
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
        ("RETRY_SCHEDULE_S", "30d"),
        ("RETRY_SCHEDULE_S", "30,2d,3d"),
        ("RETRY_SCHEDULE_S", "30,d"),
        ("RETRY_SCHEDULE_S", "172800,3d"),
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


SECRET = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:stripe-AbCdEf"
STRIPE = REQUIRED | {"GATEWAY": "stripe"}


@pytest.mark.parametrize(
    ("given", "live"),
    [
        ({"STRIPE_SECRET": SECRET}, False),
        ({"STRIPE_SECRET": SECRET, "GATEWAY_LIVE": "On"}, True),
        ({"STRIPE_API_KEY": "sk_test_canary"}, False),
        ({"STRIPE_API_KEY": "rk_test_canary"}, False),
        ({"STRIPE_API_KEY": "sk_live_canary", "GATEWAY_LIVE": "On"}, True),
    ],
)
def test_stripe_is_chosen_with_a_key_or_the_place_of_one(given: dict[str, str], live: bool) -> None:
    stripe = settings_from(STRIPE | given).stripe
    assert stripe
    assert (stripe.is_live, stripe.base) == (live, "https://api.stripe.com")
    assert (stripe.secret, stripe.api_key) == (given.get("STRIPE_SECRET", ""), given.get("STRIPE_API_KEY", ""))
    assert "canary" not in repr(stripe)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "GATEWAY=stripe needs STRIPE_SECRET"),
        ({"STRIPE_SECRET": SECRET, "STRIPE_API_KEY": "sk_test_canary"}, "not both"),
        ({"STRIPE_SECRET": "sk_test_canary"}, "STRIPE_SECRET must be the ARN"),
        ({"STRIPE_API_KEY": "sk_live_canary"}, "GATEWAY_LIVE is Off, and Stripe's API key is a live one"),
        ({"STRIPE_API_KEY": "rk_live_canary"}, "GATEWAY_LIVE is Off, and Stripe's API key is a live one"),
        ({"STRIPE_API_KEY": "sk_test_canary", "GATEWAY_LIVE": "On"}, "GATEWAY_LIVE is On, and Stripe's API key is a test one"),
        ({"STRIPE_API_KEY": "rk_test_canary", "GATEWAY_LIVE": "On"}, "GATEWAY_LIVE is On, and Stripe's API key is a test one"),
        ({"STRIPE_API_KEY": "sk_test_canary", "GATEWAY_LIVE": "true"}, "GATEWAY_LIVE must be Off or On"),
        ({"STRIPE_API_KEY": "sk_test_canary", "GATEWAY_LIVE": "on"}, "GATEWAY_LIVE must be Off or On"),
        (
            {"STRIPE_API_KEY": "sk_test_canary", "STRIPE_API_BASE": "http://api.stripe.com"},
            "STRIPE_API_BASE must begin with https",
        ),
        ({"STRIPE_API_KEY": "sk_test_canary", "STRIPE_API_BASE": "api.stripe.com"}, "STRIPE_API_BASE must begin with https"),
        (
            {"STRIPE_API_KEY": "sk_test_1", "STRIPE_API_BASE": "https://me:_canary/x@proxy"},
            "STRIPE_API_BASE must begin with https",
        ),
        ({"STRIPE_API_KEY": "sk_test_1", "STRIPE_API_BASE": "https://me:_canary@proxy"}, "STRIPE_API_BASE must begin with https"),
        ({"STRIPE_API_KEY": "pk_test_canary"}, "must begin with"),
        ({"STRIPE_API_KEY": "sk_test_canary\n"}, "must begin with"),
        ({"STRIPE_API_KEY": "sk_test_canäry"}, "must begin with"),
        ({"STRIPE_API_KEY": "sk_test_"}, "must begin with"),
        ({"STRIPE_SECRET": SECRET, "STRIPE_WEBHOOK_SECRETS": "sk_test_canary"}, "each of them whsec_"),
        ({"STRIPE_SECRET": SECRET, "STRIPE_WEBHOOK_SECRETS": "whsec_12345678, whsec_can"}, "without blanks"),
        ({"STRIPE_SECRET": SECRET, "STRIPE_WEBHOOK_SECRETS": "whsec_"}, "STRIPE_WEBHOOK_SECRETS must be"),
    ],
)
def test_a_choice_of_stripe_that_cannot_work_is_told_without_the_key(given: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError) as error:
        settings_from(STRIPE | given)
    assert said in str(error.value)
    assert "_can" not in str(error.value), "a part of the key"


def test_settings_that_are_shown_hide_the_databases_password() -> None:
    assert "canary" not in repr(
        settings_from(STRIPE | {"STRIPE_API_KEY": "sk_test_1", "DATABASE_URL": "postgresql://me:canary@h/d"})
    )


def test_webhook_secrets_are_read_and_not_told() -> None:
    given = {"STRIPE_API_KEY": "sk_test_1", "STRIPE_WEBHOOK_SECRETS": "whsec_canary_new,whsec_canary_old"}
    stripe = settings_from(STRIPE | given).stripe
    assert stripe
    assert stripe.webhook_secrets == ("whsec_canary_new", "whsec_canary_old")
    assert "canary" not in repr(stripe)
    without = settings_from(STRIPE | {"STRIPE_API_KEY": "sk_test_1"}).stripe
    assert without and without.webhook_secrets == ()


def test_tests_may_name_another_place() -> None:
    stripe = settings_from(STRIPE | {"STRIPE_API_KEY": "sk_test_canary", "STRIPE_API_BASE": "http://127.0.0.1:4010"}).stripe
    assert stripe
    assert stripe.base == "http://127.0.0.1:4010"


def test_a_key_that_comes_later_is_held_against_the_mode_too() -> None:
    assert stripe_key("sk_live_canary", is_live=True) == "sk_live_canary"
    with pytest.raises(SettingsError, match="is a test one"):
        stripe_key("sk_test_canary", is_live=True)


@pytest.mark.parametrize("wrong", ["whsec_canary", "whsec_", "canary_of_eight", "whsec_canary 12", "whsec_canary12,canary"])
def test_webhook_secrets_that_are_none_are_refused_with_the_whole_rule_and_are_not_told(wrong: str) -> None:
    """An unsaid rule keeps somebody guessing at a secret."""
    environment = REQUIRED | {"GATEWAY": "stripe", "STRIPE_API_KEY": "sk_test_1", "STRIPE_WEBHOOK_SECRETS": wrong}
    with pytest.raises(SettingsError) as error:
        settings_from(environment)
    rule = "secrets with commas between them, each of them whsec_ and eight or more characters, without blanks"
    assert str(error.value) == f"STRIPE_WEBHOOK_SECRETS must be {rule}"
