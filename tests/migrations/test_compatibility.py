"""A deployment and a step back: for minutes or days, code and schema are of two releases.

The code of the last release is taken from the repository's history, because a copy of it would be 60 files, and could drift. It
runs with the dependencies of today. Where the history is not there (a shallow clone, an archive of the sources), conftest.py
leaves this file out, and the run says so at its end.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from migrations.apply import migrate
from tests.contract import documents
from tests.migrations.last_release import COMMIT, ROOT
from tests.servers import MIGRATIONS, Broker, Database, Postgres, with_database
from tests.shop import Books
from tests.topic import messages

STORY = Path(__file__).with_name("story.py")
Run = Callable[..., dict[str, Any]]


def git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    # A clone that another user made, as in a container, is read all the same: nothing of it is carried out by git.
    return subprocess.run(["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT), *arguments], capture_output=True, check=False)


@pytest.fixture(scope="module")
def last_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The last release's checkout."""
    archive = git("archive", "--format=tar", COMMIT, "functions", "layers", "migrations")
    assert not archive.returncode, archive.stderr.decode()
    folder = tmp_path_factory.mktemp("last_release")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")
    return folder


@pytest.fixture
def run(broker: Broker) -> Run:
    """`run(folder, database, topic, "begin")` runs the story with the code in the folder."""

    def story(folder: Path, database: Database, topic: str, part: str, state: Any = None) -> dict[str, Any]:
        environment = {
            "PATH": os.environ["PATH"],
            "DATABASE_URL": database.service_url,
            "DATABASE_ROLE": "payments_scheduled",  # of relay and reconcile; here every function shows that it has the rights
            "KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
            "KAFKA_TOPIC": topic,
            "GATEWAY_DELAY_MS": "0-0",
            "RETRY_SCHEDULE_S": "1,2,4,8",
            "POWERTOOLS_SERVICE_NAME": "payments",
            "POWERTOOLS_METRICS_NAMESPACE": "Payments",
            "POWERTOOLS_TRACE_DISABLED": "true",
        }
        command = [sys.executable, "-P", str(STORY), str(folder), part]
        done = subprocess.run(
            command, env=environment, input=json.dumps(state), capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr[-4000:]
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    return story


@pytest.fixture
def old_schema(postgres: Postgres, last_release: Path) -> Database:
    """A database as the last release's migrations leave it."""
    name = postgres._create("template1")
    database = Database(with_database(postgres.owner_url, name), with_database(postgres.service_url, name))
    migrate(database.owner_url, last_release / "migrations")
    return database


BEGUN = {
    "pay": [201, "CAPTURED"],
    "pay, the same key again": [201, "CAPTURED"],
    "pay the order twice": [409, "order_already_paid"],
    "pay, declined": [402, "payment_declined"],
    "pay the declined order": [201, "CAPTURED"],
    "authorize": [201, "AUTHORIZED"],
    "capture a part": [200, "CAPTURED"],
    "capture, declined": [402, "capture_declined"],
    "history of a declined capture": ["PENDING", "PROCESSING", "AUTHORIZED"],
    "void": [200, "VOIDED"],
    "refund a part": [201, "SUCCEEDED"],
    "refund, declined": [402, "refund_declined"],
    "history of a declined refund": ["PENDING", "PROCESSING", "CAPTURED"],
    "pay, the reply is lost": [202, "PROCESSING"],
    "reconcile": {"settled": 1, "expired": 0},
    "the lost payment": [200, "CAPTURED"],
    "pay directly": "succeeded",
    "refund directly what is not there": "refused",
    "look up": [200, "PARTIALLY_REFUNDED"],
    "list": 10,
    "relay": 0,
}
"""The story with the last release's code on its own schema."""

GONE_ON = {
    "relay sends what the topic has lost": 2,
    "list": 10,
    "look up": [200, "PARTIALLY_REFUNDED"],
    "its refunds": ["SUCCEEDED"],
    "pay, the same key": [201, "PARTIALLY_REFUNDED"],
    "refund the rest": [201, "SUCCEEDED"],
    "capture what is held": [200, "CAPTURED"],
    "reconcile": {"settled": 1, "expired": 1},
    "the unknown payment": [200, "CAPTURED"],
    "the expired authorization": [200, "VOIDED"],
    "relay": 0,
}
"""Either release goes on with what the other has begun, on either schema."""

FULLY_TOLD = {
    "history of a declined capture": ["PENDING", "PROCESSING", "AUTHORIZED", "AUTHORIZED"],
    "history of a declined refund": ["PENDING", "PROCESSING", "CAPTURED", "CAPTURED"],
}
"""What the present code adds on its own schema. The refused refund is also an event, which the topic shows."""

OLD_SCHEMA_LACKS = {"refund directly what is not there": "raised InvocationFailed"}
"""What degrades with the present code before migration 006. The refusal cannot be told (outbox_payment_id_fkey), so it raises,
and Lambda tries again. Declined captures and refunds have no entry in the history: there BEGUN holds. Before migration 007 the
expiry reads all payments, which is slow and not wrong."""

EVENTS = {
    "payment.authorized": 4,
    "payment.failed": 1,
    "payment.refunded": 2,
    "payment.successful": 8,
    "payment.voided": 2,
}
"""What consumers have heard at the end of the story, whoever told it."""

NEW_EVENTS = {"payment.capture_failed": 1, "payment.refund_failed": 1}
"""What the present code tells besides, on either schema."""

REFUSAL = {"payment.refused": 1}
"""What it tells on its own schema alone."""


def told_on(broker: Broker, topic: str) -> dict[str, int]:
    """Count the types of the events on the topic, the same event once. Their data matches its schema, whoever wrote it."""
    events = dict[str, str]()
    for message in messages(broker.bootstrap_servers, topic):
        events[message.headers["ce_id"]] = message.headers["ce_type"]
        documents.published(f"urn:payments:schema:{message.headers['ce_type']}:1").validate(message.value)
    return {type_: list(events.values()).count(type_) for type_ in sorted(set(events.values()))}


def overnight(database: Database, state: dict[str, list[str]]) -> None:
    """The authorization runs out, the broker has lost the payment's events, and on the new schema a week has ended."""
    books = Books(database.owner_url)
    if books.query("SELECT FROM pg_proc WHERE proname = 'turn_outbox_after'"):
        assert books.query("SELECT turn_outbox_after(7, 0)") == [[1]]
    books.query("UPDATE payments SET capture_before = now() WHERE payment_id = :id", id=state["expiring"][0])
    books.query("UPDATE outbox SET published_at = NULL, lease_until = now() WHERE payment_id = :id", id=state["paid"][0])


def test_the_last_release_works_on_the_new_schema_and_the_present_code_goes_on(
    run: Run, last_release: Path, own_database: Database, broker: Broker, own_topic: str
) -> None:
    """`migrate` was invoked before the deployment. Nothing degrades."""
    begun = run(last_release, own_database, own_topic, "begin")
    assert begun["steps"] == BEGUN
    overnight(own_database, begun["state"])
    assert run(ROOT, own_database, own_topic, "go_on", begun["state"])["steps"] == GONE_ON
    assert told_on(broker, own_topic) == EVENTS


def test_the_last_release_goes_on_with_what_the_present_code_has_begun(
    run: Run, last_release: Path, own_database: Database, broker: Broker, own_topic: str
) -> None:
    """The deployment is taken back, and the new schema stays. Nothing degrades but what the last release cannot tell."""
    begun = run(ROOT, own_database, own_topic, "begin")
    assert begun["steps"] == BEGUN | FULLY_TOLD
    overnight(own_database, begun["state"])
    assert run(last_release, own_database, own_topic, "go_on", begun["state"])["steps"] == GONE_ON
    assert told_on(broker, own_topic) == EVENTS | NEW_EVENTS | REFUSAL


@pytest.mark.parametrize("next_code", ["the present code", "the last release"])
def test_the_present_code_works_on_the_last_releases_schema_with_two_gaps(
    run: Run, last_release: Path, old_schema: Database, broker: Broker, own_topic: str, next_code: str
) -> None:
    """The deployment is done, and `migrate` is not invoked yet. The next day it still is not, or the deployment is taken back."""
    begun = run(ROOT, old_schema, own_topic, "begin")
    assert begun["steps"] == BEGUN | OLD_SCHEMA_LACKS
    overnight(old_schema, begun["state"])
    folder = ROOT if next_code == "the present code" else last_release
    assert run(folder, old_schema, own_topic, "go_on", begun["state"])["steps"] == GONE_ON
    assert told_on(broker, own_topic) == EVENTS | NEW_EVENTS


def test_the_migrations_finish_a_schema_that_the_present_code_has_used(
    run: Run, last_release: Path, old_schema: Database, broker: Broker, own_topic: str
) -> None:
    """What the present code wrote on the old schema is in no later migration's way, and from then on nothing lacks."""
    begun = run(ROOT, old_schema, own_topic, "begin")
    overnight(old_schema, begun["state"])
    assert migrate(old_schema.owner_url, MIGRATIONS)
    assert run(ROOT, old_schema, own_topic, "go_on", begun["state"])["steps"] == GONE_ON
    assert told_on(broker, own_topic) == EVENTS | NEW_EVENTS
