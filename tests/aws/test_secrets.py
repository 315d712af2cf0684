"""Passwords from Secrets Manager, where there are no IAM tokens."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from payments import telemetry
from payments.aws_auth import password_by, rds_token, secret
from payments.broker.login import security_by
from payments.settings import settings_from
from payments.settings_error import SettingsError

ENVIRONMENT = {"DATABASE_URL": "postgresql://u@h/d", "KAFKA_BOOTSTRAP_SERVERS": "h:1"}


def stored(client: Any, **members: str) -> str:
    return str(client.create_secret(Name="database", SecretString=json.dumps(members))["ARN"])


def test_a_password_is_read_anew_for_each_connection(secrets_manager: Any) -> None:
    arn = stored(secrets_manager, username="payments_service", password="old")
    password = password_by(arn)
    assert password and password("host", 5432, "payments_service") == "old"
    secrets_manager.put_secret_value(SecretId=arn, SecretString=json.dumps({"password": "new"}))
    assert password("host", 5432, "payments_service") == "new"


def test_no_level_of_logging_shows_a_password(secrets_manager: Any, caplog: pytest.LogCaptureFixture) -> None:
    """At DEBUG botocore would log the answer."""
    arn = stored(secrets_manager, password="canary-in-the-log")
    with caplog.at_level(logging.DEBUG):
        assert secret(arn) == {"password": "canary-in-the-log"}
    assert telemetry.logger.name == "payments", "telemetry is imported, as in every function"
    assert "canary-in-the-log" not in caplog.text


def test_brokers_get_user_name_and_password_over_tls(secrets_manager: Any) -> None:
    arn = stored(secrets_manager, username="payments", password="secret")
    assert security_by(arn)() == {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "payments",
        "sasl_plain_password": "secret",
    }


def test_a_secret_that_is_missing_is_an_error_like_a_server_that_is_away(secrets_manager: Any) -> None:
    with pytest.raises(ConnectionError, match="ResourceNotFoundException"):
        secret("arn:aws:secretsmanager:eu-central-1:123456789012:secret:missing-AbCdEf")


def test_the_environment_says_how_to_log_in() -> None:
    assert password_by("url") is None
    assert password_by("iam") is rds_token
    assert security_by("none")() == {}
    by_default = settings_from(ENVIRONMENT)
    assert (by_default.database_auth, by_default.kafka_auth) == ("url", "none")
    arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:x-AbCdEf"
    asked = settings_from(ENVIRONMENT | {"DATABASE_AUTH": "iam", "KAFKA_AUTH": arn})
    assert (asked.database_auth, asked.kafka_auth) == ("iam", arn)


@pytest.mark.parametrize("wrong", [{"DATABASE_AUTH": "none"}, {"KAFKA_AUTH": "url"}, {"DATABASE_AUTH": "IAM"}], ids=str)
def test_another_way_to_log_in_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match=f"{next(iter(wrong))} must be iam"):
        settings_from(ENVIRONMENT | wrong)
