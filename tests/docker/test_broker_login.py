"""Logging in to a real Kafka with a token, over TLS, with the same client code that logs in to MSK.

MSK checks a signature. This broker checks that the token is a JSON Web Signature that has not expired, so these tokens are JSON
Web Signatures. tests/aws/test_tokens.py checks the tokens for MSK.
"""

from __future__ import annotations

import base64
import json
import secrets
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from kafka import KafkaConsumer
from kafka.errors import KafkaError

from migrations.topic import create_topic
from payments.broker.kafka import KafkaPublisher
from payments.broker.login import Security, token_over_tls
from payments.domain.events import Event
from tests.certificates import Authority
from tests.docker.test_containers import missing
from tests.servers import free_port

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

IMAGE = "apache/kafka:4.3.1"
START_TIMEOUT_S = 120.0
"""A JVM starts in 5 s on an idle machine, and slower on a busy one."""

SESSION_S = 3
"""How long a token is valid. The broker closes a connection that has not shown a new one by then."""


def part(members: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(members).encode()).decode().rstrip("=")


@dataclass
class Tokens:
    """Gives tokens instead of msk_token, and counts them."""

    lifetime_s: float = SESSION_S
    given: list[float] = field(default_factory=list)

    def __call__(self) -> str:
        now = time.time()
        self.given.append(now)
        return f"{part({'alg': 'none'})}.{part({'sub': 'payments', 'iat': now, 'exp': now + self.lifetime_s})}."


@dataclass(frozen=True)
class Broker:
    bootstrap_servers: list[str]
    authority: Path

    def security(self, tokens: Tokens) -> Security:
        return lambda: token_over_tls(tokens) | {"ssl_cafile": str(self.authority)}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A Kafka that accepts only tokens, over TLS."""
    if reason := missing():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("broker")
    folder.chmod(0o755)
    authority = Authority(folder)
    certificate, key = authority.issue(folder / "broker", "127.0.0.1")
    (folder / "keystore.pem").write_bytes(key.read_bytes() + certificate.read_bytes())
    (folder / "keystore.pem").chmod(0o644)
    port, name = free_port(), f"payments-test-{secrets.token_hex(4)}"
    settings = {
        "HEAP_OPTS": "-Xmx256M -Xms128M",
        "NODE_ID": "1",
        "PROCESS_ROLES": "broker,controller",
        "CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "LISTENERS": "CLIENTS://:9092,INSIDE://localhost:9094,CONTROLLER://localhost:9093",
        "ADVERTISED_LISTENERS": f"CLIENTS://127.0.0.1:{port},INSIDE://localhost:9094",
        "LISTENER_SECURITY_PROTOCOL_MAP": "CLIENTS:SASL_SSL,INSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "INTER_BROKER_LISTENER_NAME": "INSIDE",
        "OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "SASL_ENABLED_MECHANISMS": "OAUTHBEARER",
        "LISTENER_NAME_CLIENTS_OAUTHBEARER_SASL_JAAS_CONFIG": (
            "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;"
        ),
        "CONNECTIONS_MAX_REAUTH_MS": str(SESSION_S * 1000),
        "SSL_KEYSTORE_TYPE": "PEM",
        "SSL_KEYSTORE_LOCATION": "/keys/keystore.pem",
    }
    options = [option for setting, value in settings.items() for option in ("--env", f"KAFKA_{setting}={value}")]
    # Without --rm, because the log of a broker that ended must be there for the failure's message.
    command = ["docker", "run", "--restart", "on-failure:2", "--detach", "--name", name, "--publish", f"127.0.0.1:{port}:9092"]
    started = subprocess.run(
        [*command, "--volume", f"{folder}:/keys:ro", *options, IMAGE], capture_output=True, text=True, check=False
    )
    assert started.returncode == 0, started.stderr
    try:
        running = Broker([f"127.0.0.1:{port}"], authority.file)
        wait_until_it_answers(running, name)
        yield running
    finally:
        subprocess.run(["docker", "rm", "--force", "--volumes", name], capture_output=True, check=False)


def wait_until_it_answers(broker: Broker, name: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    problem = ""
    while time.monotonic() < deadline:
        try:
            create_topic(broker.bootstrap_servers, "payments", 1, broker.security(Tokens()))
            return
        except (KafkaError, OSError) as error:
            problem = repr(error)
            time.sleep(1)
    log = subprocess.run(["docker", "logs", "--tail", "20", name], capture_output=True, text=True, check=False)
    raise AssertionError(f"{problem}\n{log.stdout}{log.stderr}")


def event(number: int) -> Event:
    now = datetime.now(UTC)
    return Event(
        event_id=UUID(int=number), payment_id=UUID(int=7), sequence=number, type="payment.successful",
        data=json.dumps({"number": number}), created_at=now, traceparent=None,
    )  # fmt: skip


def test_events_reach_the_broker_and_go_on_after_a_token_has_run_out(broker: Broker) -> None:
    tokens = Tokens()
    publisher = KafkaPublisher(broker.bootstrap_servers, "payments", broker.security(tokens))
    acknowledged = set()
    began = time.monotonic()
    number = 0
    while time.monotonic() - began < 2.5 * SESSION_S:
        number += 1
        acknowledged |= publisher.publish([event(number)], timeout_s=5)
        time.sleep(0.1)
    publisher.close()
    assert acknowledged == {UUID(int=each) for each in range(1, number + 1)}
    assert len(tokens.given) >= 3, "a new one before each had run out"
    consumer = KafkaConsumer(
        "payments", bootstrap_servers=broker.bootstrap_servers, auto_offset_reset="earliest", consumer_timeout_ms=3000,
        **broker.security(Tokens())(),
    )  # fmt: skip
    seen = [json.loads(message.value)["number"] for message in consumer]
    consumer.close()
    assert seen == list(range(1, number + 1))


def test_a_token_that_has_run_out_is_refused(broker: Broker) -> None:
    publisher = KafkaPublisher(broker.bootstrap_servers, "payments", broker.security(Tokens(lifetime_s=-60)))
    assert publisher.publish([event(1)], timeout_s=3) == set()
    publisher.close()


def test_a_broker_with_a_stranger_s_certificate_is_refused(broker: Broker, tmp_path: Path) -> None:
    tokens = Tokens()
    stranger = Broker(broker.bootstrap_servers, Authority(tmp_path).file)
    publisher = KafkaPublisher(stranger.bootstrap_servers, "payments", stranger.security(tokens))
    assert publisher.publish([event(1)], timeout_s=3) == set()
    publisher.close()
    assert tokens.given == [], "nothing was told to it"


def test_a_topic_that_is_there_is_left_as_it_is(broker: Broker) -> None:
    assert not create_topic(broker.bootstrap_servers, "payments", 5, broker.security(Tokens()))
    assert create_topic(broker.bootstrap_servers, "others", 2, broker.security(Tokens()))
