"""The gateway's API key: where it is read, how long it is kept, and that a wrong one ends the start and is not told."""

from __future__ import annotations

import inspect
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from payments import wiring
from payments.gateway.simulated import SimulatedGateway
from payments.settings import Settings, settings_from
from payments.settings_error import SettingsError
from payments.stripe_settings import REREAD_S, KeptSecret

REQUIRED = {"DATABASE_URL": "postgresql://u@h/d", "KAFKA_BOOTSTRAP_SERVERS": "h:1"}


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_a_key_is_read_at_first_use_and_kept() -> None:
    keys = ["sk_test_2", "sk_test_1"]
    key = KeptSecret(keys.pop)
    assert len(keys) == 2
    assert (key(), key(), keys) == ("sk_test_1", "sk_test_1", ["sk_test_2"])


def test_a_refused_key_is_read_again_once_a_minute_at_most() -> None:
    keys, clock = ["sk_test_1", "sk_test_2", "sk_test_3"], Clock()
    key = KeptSecret(lambda: keys.pop(0), clock)
    assert key() == "sk_test_1"
    clock.now_s += REREAD_S - 1
    key.refused()
    assert key() == "sk_test_1", "read a moment ago"
    clock.now_s += 1
    key.refused()
    key.refused()
    assert key() == "sk_test_2"
    clock.now_s += REREAD_S - 1
    key.refused()
    assert (key(), keys) == ("sk_test_2", ["sk_test_3"])


def test_a_refused_key_is_read_again_by_a_clock_that_goes_on_while_the_function_is_frozen() -> None:
    """By a monotonic clock a key that was read yesterday may have been read a moment ago."""
    assert inspect.signature(KeptSecret).parameters["clock"].default is time.time
    keys, clock = ["sk_test_1", "sk_test_2"], Clock()
    key = KeptSecret(lambda: keys.pop(0), clock)
    assert key() == "sk_test_1"
    clock.now_s -= 3600
    key.refused()
    assert key() == "sk_test_2", "a clock that was set back does not say when the key was read"


def test_a_key_that_cannot_be_read_is_tried_again_at_the_next_use() -> None:
    answers: list[str | OSError] = [ConnectionError("Secrets Manager did not hand over the secret"), "sk_test_1"]

    def read() -> str:
        if isinstance(answer := answers.pop(0), OSError):
            raise answer
        return answer

    key = KeptSecret(read)
    with pytest.raises(ConnectionError):
        key()
    assert key() == "sk_test_1"


def test_a_key_that_cannot_be_read_again_stays_and_is_tried_again_after_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """Else 64 threads of reconcile would wait for one failing read after the other, for longer than its run."""
    answers: list[str | OSError] = ["sk_test_1", ConnectionError("Secrets Manager did not hand over the secret"), "sk_test_2"]
    clock = Clock()

    def read() -> str:
        if isinstance(answer := answers.pop(0), OSError):
            raise answer
        return answer

    key = KeptSecret(read, clock)
    assert key() == "sk_test_1"
    clock.now_s += REREAD_S
    for _ in range(64):
        key.refused()
        assert key() == "sk_test_1"
    assert answers == ["sk_test_2"]
    assert caplog.text.count("the secret could not be read again") == 1, "a person must learn why the key stays refused"
    clock.now_s += REREAD_S
    key.refused()
    assert key() == "sk_test_2"


def test_threads_that_need_the_key_at_once_read_it_once() -> None:
    """Reconcile calls from many threads, and a first read imports boto3."""
    first, reads = threading.Barrier(8), []

    def read() -> str:
        reads.append("read")
        return "sk_test_1"

    key = KeptSecret(read)

    def use(_: int) -> str:
        first.wait()
        return key()

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(use, range(8))) == {"sk_test_1"}
    assert reads == ["read"]


def with_secret(client: Any, text: str, live: str) -> Settings:
    arn = client.create_secret(Name="payments/stripe", SecretString=text)["ARN"]
    return settings_from(REQUIRED | {"GATEWAY": "stripe", "GATEWAY_LIVE": live, "STRIPE_SECRET": arn})


@pytest.mark.parametrize(("key", "live"), [("rk_live_canary", "On"), ("sk_test_canary", "Off")])
def test_the_gateway_of_the_settings_has_the_key_of_the_secret(secrets_manager: Any, key: str, live: str) -> None:
    gateway = wiring.gateway(with_secret(secrets_manager, json.dumps({"api_key": key, "webhook_secrets": []}), live))
    assert gateway.name == "stripe"
    assert "canary" not in repr(gateway)


@pytest.mark.parametrize(
    ("secret", "live", "said"),
    [
        ('{"api_key": "sk_live_canary"}', "Off", "GATEWAY_LIVE is Off, and Stripe's API key is a live one"),
        ('{"api_key": "sk_test_canary"}', "On", "GATEWAY_LIVE is On, and Stripe's API key is a test one"),
        ('{"api_key": "sk_test_canary\\n"}', "Off", "must begin with"),
        ('{"apiKey": "sk_test_canary"}', "Off", "must begin with"),
    ],
)
def test_a_secret_that_does_not_fit_ends_the_start_and_is_not_told(
    secrets_manager: Any, secret: str, live: str, said: str
) -> None:
    """So no command begins, and no payment waits for a person."""
    settings = with_secret(secrets_manager, secret, live)
    with pytest.raises(SettingsError, match=said) as error:
        wiring.gateway(settings)
    assert "canary" not in "".join(map(repr, (error.value, error.value.__cause__, error.value.__context__)))


@pytest.mark.parametrize("text", ["sk_test_canary", '"sk_test_canary"', '["sk_test_canary"]'])
def test_a_secret_of_another_shape_is_an_error_like_a_server_that_is_away(secrets_manager: Any, text: str) -> None:
    settings = with_secret(secrets_manager, text, "Off")
    with pytest.raises(ConnectionError) as error:
        wiring.gateway(settings)
    assert "canary" not in str(error.value)
    assert error.value.__suppress_context__


@pytest.mark.parametrize(
    ("kept", "read"),
    [
        ({"webhook_secrets": ["whsec_canary_new", "whsec_canary_old"]}, ("whsec_canary_new", "whsec_canary_old")),
        ({"webhook_secrets": []}, ()),
        ({}, ()),
    ],
)
def test_the_webhook_secrets_stand_beside_the_key(secrets_manager: Any, kept: dict[str, Any], read: tuple[str, ...]) -> None:
    settings = with_secret(secrets_manager, json.dumps({"api_key": "sk_test_1"} | kept), "Off")
    assert wiring.webhook_secrets_of(settings)() == read


@pytest.mark.parametrize("wrong", ["whsec_canary_12", [""], ["whsec_"], [1], {"whsec_canary_12": 1}, ["whsec_canary 12"]])
def test_webhook_secrets_that_are_none_are_refused_and_not_told(secrets_manager: Any, wrong: object) -> None:
    """With an empty one anybody could sign."""
    settings = with_secret(secrets_manager, json.dumps({"api_key": "sk_test_1", "webhook_secrets": wrong}), "Off")
    with pytest.raises(
        SettingsError, match="webhook_secrets in the secret must be a JSON list of texts, each of them whsec_ and eight"
    ) as error:
        wiring.webhook_secrets_of(settings)()
    assert "canary" not in str(error.value)


def test_without_a_secret_to_keep_the_read_is_not_repeated() -> None:
    """A flood of requests to an endpoint that is not set up makes no flood of reads."""
    reads = []

    def read() -> tuple[str, ...]:
        reads.append("read")
        return ()

    kept = KeptSecret(read)
    assert [kept(), kept()] == [(), ()]
    kept.refused()
    assert reads == ["read"]


def test_without_a_word_about_it_the_gateway_is_simulated() -> None:
    assert isinstance(wiring.gateway(settings_from(REQUIRED)), SimulatedGateway)
