"""PostgreSQL keeps the plans of our hottest statements in functions, and a database without the functions serves us too."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from contract import plans
from local.servers import connect
from migrations.apply import migrate
from payments.domain.changes import ProcessingStarted
from payments.domain.ids import uuid7
from payments.domain.operation import Draft
from payments.domain.payment import apply
from payments.store import claims, connection
from payments.store.claims import Claimed
from payments.store.connection import Statement
from tests import servers
from tests.domain.examples import NOON, payment
from tests.shop import Shop

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
        gateway="simulated",
        key_lifetime_s=82800,
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


def test_an_owner_who_gives_away_no_functions_gives_ours_to_the_service(postgres: servers.Postgres) -> None:
    url = servers.with_database(postgres.owner_url, postgres._create("template1"))
    with contextlib.closing(connect(url)) as owner:
        owner.run("ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC")
        migrate(url, servers.MIGRATIONS)
        for name in plans.named():
            assert owner.run(
                "SELECT has_function_privilege('payments_service', to_regproc(:name)::oid, 'EXECUTE')", name=name
            ) == [[True]]


def test_a_function_that_differs_is_made_anew(own: servers.Database, db: connection.Database) -> None:
    """Its name tells the SQL, and not the types of the columns, which a migration may change."""
    with contextlib.closing(connect(own.owner_url)) as owner:
        name = claims.CLAIM_PROCESS.function
        owner.run(f"COMMENT ON FUNCTION {name} IS 'of another time'")
        owner.run(f"ALTER FUNCTION {name} RESET ALL")
        owner.run(plans.FILE.read_text(encoding="utf-8"))
        [[settings]] = owner.run("SELECT proconfig FROM pg_proc WHERE proname = :name", name=name)
    assert settings == ["enable_seqscan=off"]
    assert claimed(own, db) == HISTORY


def test_a_plan_that_was_kept_when_a_week_began_does_not_read_the_whole_week(own: servers.Database) -> None:
    """The new outbox is empty then, and the plans stay until the next ANALYZE."""
    shop = Shop.on(own)
    read = "SELECT COALESCE(sum(seq_tup_read), 0)::bigint FROM pg_stat_user_tables WHERE relname = 'outbox'"
    with contextlib.closing(connect(own.owner_url)) as owner:
        shop.captured()
        assert owner.run("SELECT turn_outbox_after(10000, 0)") == [[1]]
        owner.run("ALTER TABLE outbox SET (autovacuum_enabled = off)")
        for _ in range(12):
            shop.captured()  # PostgreSQL decides after five executions to keep a plan.
        owner.run(
            "INSERT INTO outbox (event_id, payment_id, sequence, type, data, created_at, lease_until, published_at)"
            " SELECT gen_random_uuid(), gen_random_uuid(), 1, 'x', 'x', now(), now(), now() FROM generate_series(1, 20000)"
        )
        [[before]] = owner.run(read)
        shop.captured()
        shop.close()  # A session tells its numbers at its end.
        owner.run("SELECT pg_stat_clear_snapshot()")
        assert owner.run(read)[0][0] - before < 1000


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
