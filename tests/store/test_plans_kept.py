"""PostgreSQL keeps the plans of our hottest statements in functions, and a database without the functions serves us too."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from contract import plans
from local.servers import connect
from payments.domain.ids import uuid7
from payments.domain.operation import Draft
from payments.domain.payment import ProcessingStarted, apply
from payments.store import claims, connection
from payments.store.claims import Claimed
from payments.store.connection import Statement
from tests import servers
from tests.domain.examples import NOON, payment

CALLS = "SELECT sum(calls)::bigint FROM pg_stat_user_functions WHERE funcname = :name"


@pytest.fixture
def own(postgres: servers.Postgres) -> servers.Database:
    """A database whose functions may be dropped, and which counts their calls."""
    own = postgres.new_database()
    with contextlib.closing(connect(own.owner_url)) as owner:
        name = owner.run("SELECT current_database()")[0][0]
        owner.run(f"ALTER DATABASE \"{name}\" SET track_functions = 'pl'")
    return own


@pytest.fixture
def db(own: servers.Database) -> Iterator[connection.Database]:
    opened = connection.Database.at(own.service_url)
    yield opened
    opened.close()


def claimed(database: servers.Database, db: connection.Database) -> list[list[object]]:
    """Claim a payment, and return the history that it has then."""
    pending = payment(payment_id=uuid7(), order_id=str(uuid7()), status_reason="payment requested")
    draft = Draft(
        operation_id=uuid7(),
        owner="shop",
        kind="process",
        request_hash="h",
        gateway_key=f"pay-{pending.payment_id}",
        created_at=NOON,
        lease_s=30.0,
    )
    claim = claims.claim_process(db, draft, pending, apply(pending, ProcessingStarted(), NOON))
    assert isinstance(claim, Claimed)
    assert claims.state_of(db, draft.operation_id) == claim
    with contextlib.closing(connect(database.owner_url)) as owner:
        return list(
            owner.run(
                "SELECT version, from_status, to_status, reason FROM payment_status_history WHERE payment_id = :id ORDER BY 1",
                id=pending.payment_id,
            )
        )


HISTORY = [[1, None, "PENDING", "payment requested"], [2, "PENDING", "PROCESSING", "processing started"]]


def calls(database: servers.Database, statement: Statement) -> int:
    with contextlib.closing(connect(database.owner_url)) as owner:
        return int(owner.run(CALLS, name=statement.function)[0][0] or 0)


def drop_functions(database: servers.Database) -> None:
    with contextlib.closing(connect(database.owner_url)) as owner:
        for name in plans.named():
            owner.run(f"DROP FUNCTION {name}")


def test_the_functions_are_those_of_the_present_statements(own: servers.Database) -> None:
    """`make plans` writes the file anew."""
    with contextlib.closing(connect(own.owner_url)) as owner:
        assert plans.FILE.read_text(encoding="utf-8") == plans.text(owner)


def test_a_claim_calls_its_function(own: servers.Database, db: connection.Database) -> None:
    assert claimed(own, db) == HISTORY
    db.close()  # A session counts its calls at its end.
    assert calls(own, claims.CLAIM_PROCESS) == 1


def test_a_database_without_the_functions_keeps_the_same_books(own: servers.Database, db: connection.Database) -> None:
    """The deployment is done, and `migrate` is not invoked yet. The next connection after it uses the functions."""
    drop_functions(own)
    assert claimed(own, db) == HISTORY
    with contextlib.closing(connect(own.owner_url)) as owner:
        owner.run(plans.FILE.read_text(encoding="utf-8"))
    assert claimed(own, db) == HISTORY
    db.close()
    assert calls(own, claims.CLAIM_PROCESS) == 0
    assert claimed(own, db) == HISTORY
    db.close()
    assert calls(own, claims.CLAIM_PROCESS) == 1
