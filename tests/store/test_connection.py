"""The connection to PostgreSQL: one flush a phase, and the fate of a phase when the connection fails."""

from __future__ import annotations

import contextlib
import ssl
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from local.servers import EmbeddedPostgres, connect
from payments.domain.changes import ProcessingStarted
from payments.domain.errors import InternalError, ServiceUnavailable
from payments.domain.ids import uuid7
from payments.domain.operation import Draft
from payments.domain.payment import PaymentStatus, apply
from payments.settings_error import SettingsError
from payments.store.address import SESSION, connection_options, logged_in
from payments.store.claims import NotClaimed, claim_process
from payments.store.connection import (
    IDLE_LIMIT_S,
    READ_TIMEOUT_S,
    SQLSTATE_ERRORS,
    Bound,
    Connection,
    ConnectionLost,
    Database,
    Statement,
    UniqueViolation,
)
from tests import servers
from tests.domain.examples import NOON, payment, row_values
from tests.faults import FaultProxy
from tests.store.any_payment import INSERT_PAYMENT

ProxyBefore = Callable[..., FaultProxy]

PID = Statement("SELECT pg_backend_pid()")
NOTE = Statement("INSERT INTO notes (number) VALUES (:number)")


@pytest.fixture(scope="module")
def scratch(postgres: servers.Postgres) -> servers.Database:
    """A database where the service's role writes to `notes` and counts with `tries`; a rollback does not undo the count."""
    database = postgres.new_database()
    with contextlib.closing(connect(database.owner_url)) as owner:
        owner.run("CREATE TABLE notes (number int CONSTRAINT notes_number_key UNIQUE DEFERRABLE INITIALLY IMMEDIATE)")
        owner.run("CREATE SEQUENCE tries")
        owner.run("GRANT ALL ON notes, tries TO payments_service")
    return database


@pytest.fixture
def notes(scratch: servers.Database) -> servers.Database:
    """The same database, with `notes` empty and with the settings that the migrations made."""
    with contextlib.closing(connect(scratch.owner_url)) as owner:
        [[name]] = owner.run("SELECT current_database()")
        owner.run("DELETE FROM notes")
        owner.run(f"ALTER ROLE payments_service IN DATABASE {name} RESET ALL")
        owner.run(f"ALTER DATABASE {name} RESET ALL")
    return scratch


@pytest.fixture
def proxied(notes: servers.Database, fault_proxy: ProxyBefore) -> Iterator[tuple[Database, FaultProxy]]:
    """The database through a proxy, already connected."""
    proxy = fault_proxy(notes.service_url)
    db = Database.at(servers.with_address(notes.service_url, "127.0.0.1", proxy.port))
    db.run(PID())
    yield db, proxy
    db.close()


class Failures(list[BaseException]):
    """Collects the errors in whose handlers it is called."""

    def __call__(self) -> None:
        error = sys.exc_info()[1]
        assert error is not None
        self.append(error)


@pytest.fixture
def failed() -> Failures:
    return Failures()


def pid(db: Database) -> int:
    return int(db.run(PID())[0][0][0])


def noted(notes: servers.Database) -> list[int]:
    with contextlib.closing(connect(notes.owner_url)) as owner:
        return [number for (number,) in owner.run("SELECT number FROM notes ORDER BY number")]


def test_any_number_of_statements_is_one_write_one_round_trip_and_one_commit(proxied: tuple[Database, FaultProxy]) -> None:
    db, proxy = proxied
    for number in (1, 2, 7):
        before = (proxy.writes.count, proxy.postgres.round_trips, proxy.postgres.commits)
        db.run(*(NOTE(number=number * 10 + place) for place in range(number)))
        after = (proxy.writes.count, proxy.postgres.round_trips, proxy.postgres.commits)
        assert [b - a for a, b in zip(before, after, strict=True)] == [1, 1, 1]


def test_each_statement_has_its_own_rows(db: Database) -> None:
    rows = db.run(
        Statement("SELECT :a::int, :b::text")(a=1, b="x"),
        Statement("SELECT n FROM generate_series(1, 3) n")(),
        Statement("SELECT 1 WHERE false")(),
        Statement("CREATE TEMP TABLE IF NOT EXISTS t (a int)")(),
        Statement("INSERT INTO t SELECT generate_series(1, 2)")(),
        Statement("UPDATE t SET a = a + 1 RETURNING a")(),
        Statement("DROP TABLE t")(),
        Statement("SELECT NULL::text")(),
    )
    assert rows == [[[1, "x"]], [[1], [2], [3]], [], [], [], [[2], [3]], [], [[None]]]


def test_statements_of_one_run_are_one_transaction(notes: servers.Database) -> None:
    db = Database.at(notes.service_url)
    ids = db.run(*(Statement("SELECT pg_current_xact_id()::text")() for _ in range(3)))
    assert ids[0] == ids[1] == ids[2]
    for failing in (NOTE(number=1), Statement("SELECT 1 / :zero::int")(zero=0)):
        with pytest.raises((UniqueViolation, InternalError)):
            db.run(NOTE(number=1), failing, NOTE(number=3))
    assert noted(notes) == []
    db.close()


def test_an_error_at_the_commit_itself_rolls_back_and_is_raised(notes: servers.Database) -> None:
    db = Database.at(notes.service_url)
    later = Statement("SET CONSTRAINTS ALL DEFERRED")
    with pytest.raises(UniqueViolation, match="notes_number_key"):
        db.run(later(), NOTE(number=1), NOTE(number=1), NOTE(number=2))
    assert noted(notes) == []
    assert db.run(NOTE(number=1)) == [[]]
    db.close()


@pytest.mark.parametrize("place", [0, 1, 2])
def test_after_a_servers_error_the_same_connection_goes_on(db: Database, place: int) -> None:
    before = pid(db)
    statements = [PID(), PID(), PID()]
    statements[place] = Statement("SELECT 1 / :zero::int")(zero=0)
    for _ in range(3):
        with pytest.raises(InternalError, match="SQLSTATE 22012"):
            db.run(*statements)
        assert db.run(Statement("SELECT :a::text")(a="fine")) == [[["fine"]]]
    assert pid(db) == before


VALUES: list[tuple[str, object, object]] = [
    ("text", None, None),
    ("text", "", ""),
    ("text", "注文 7 😀 o'; DROP TABLE payments -- \\ \" {}", "注文 7 😀 o'; DROP TABLE payments -- \\ \" {}"),
    ("text", "x" * 100_000, "x" * 100_000),
    ("bigint", 999_999_999_999, 999_999_999_999),
    ("int", -1, -1),
    ("boolean", True, True),
    ("float8", 2.5, 2.5),
    ("uuid", UUID(int=5), UUID(int=5)),
    ("uuid[]", [UUID(int=5), UUID(int=6)], [UUID(int=5), UUID(int=6)]),
    ("jsonb", '{"a": ["b", null, "ü"]}', {"a": ["b", None, "ü"]}),
    ("timestamptz", NOON, NOON),
    ("timestamptz", NOON + timedelta(microseconds=1), NOON + timedelta(microseconds=1)),
]


@pytest.mark.parametrize(("kind", "sent", "read"), VALUES, ids=lambda value: repr(value)[:60])
def test_a_value_comes_back_as_it_was_sent(db: Database, kind: str, sent: object, read: object) -> None:
    assert db.run(Bound(f"SELECT $1::{kind}", (sent,))) == [[[read]]]


def test_times_are_utc_whatever_zone_the_server_shows(notes: servers.Database) -> None:
    moments = [
        datetime(2026, 7, 1, 12, tzinfo=UTC),
        datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=UTC),
        datetime(1890, 1, 1, tzinfo=UTC),
    ]
    for zone in ("UTC", "Asia/Kolkata", "America/St_Johns", "Europe/Amsterdam"):  # +5:30, -2:30, and +0:19:32 in 1890
        options = connection_options(notes.service_url) | {"startup_params": {"TimeZone": zone}}
        db = Database(partial(Connection, **options))
        assert db.run(Statement("SHOW timezone")()) == [[[zone]]]
        rows = db.run(*(Bound("SELECT $1::timestamptz", (moment,)) for moment in moments))
        assert [row[0][0] for row in rows] == moments
        assert all(row[0][0].tzinfo is UTC for row in rows)
        db.close()


def test_nothing_connects_before_the_first_use() -> None:
    db = Database.at("postgresql://nobody@127.0.0.1:1/nowhere")
    db.close()


# A statement that is told


def test_a_statement_that_is_told_is_carried_out_and_nobody_waits_for_it(notes: servers.Database, failed: Failures) -> None:
    db = Database.at(notes.service_url)
    before = pid(db)
    with contextlib.closing(connect(notes.owner_url)) as owner:
        owner.run("BEGIN")
        owner.run("LOCK TABLE notes")
        db.send_without_waiting(NOTE(number=1), failed)
        owner.run("COMMIT")
    assert pid(db) == before, "an answer that nobody has read does not cost the connection"
    assert noted(notes) == [1], "and the next statement waits for it"
    assert not failed
    db.close()


def test_a_statement_that_is_told_is_one_write_and_the_answer_of_the_one_before_is_read_first(
    proxied: tuple[Database, FaultProxy], notes: servers.Database, failed: Failures
) -> None:
    db, proxy = proxied
    before = (proxy.writes.count, proxy.postgres.commits)
    for number in range(3):
        db.send_without_waiting(NOTE(number=number), failed)
    assert db.run(Statement("SELECT count(*) FROM notes")()) == [[[3]]]
    assert (proxy.writes.count, proxy.postgres.commits) == (before[0] + 4, before[1] + 4)
    assert not failed


def test_the_error_of_a_statement_that_is_told_reaches_its_teller_and_nobody_else(
    notes: servers.Database, failed: Failures
) -> None:
    db = Database.at(notes.service_url)
    before = pid(db)
    db.send_without_waiting(Statement("SELECT 1 / :zero::int")(zero=0), failed)
    assert not failed, "nobody has read it"
    db.run(NOTE(number=1))
    assert [str(error) for error in failed] == ["The database refused the statement."]
    assert (pid(db), noted(notes)) == (before, [1])
    assert len(failed) == 1
    db.close()


def test_a_connection_that_breaks_after_it_was_told_something_costs_the_next_statement_nothing(
    proxied: tuple[Database, FaultProxy], notes: servers.Database, failed: Failures
) -> None:
    db, proxy = proxied
    db.send_without_waiting(Statement("SELECT pg_sleep(:seconds::float8)")(seconds=0.2), failed)
    proxy.cut()
    rows, resent = db.send(NOTE(number=2))
    assert (rows, resent) == ([[]], False)
    assert [type(error) for error in failed] == [ConnectionLost]
    assert noted(notes) == [2]


def test_a_server_that_is_away_is_no_matter_for_who_tells(notes: servers.Database, failed: Failures) -> None:
    db = Database.at(servers.with_address(notes.service_url, "127.0.0.1", servers.free_port()))
    db.send_without_waiting(NOTE(number=1), failed)
    assert len(failed) == 1
    with pytest.raises(ServiceUnavailable):
        db.run(PID())
    assert len(failed) == 1


def test_a_function_that_froze_after_it_was_told_something_begins_with_a_new_connection(
    notes: servers.Database, failed: Failures
) -> None:
    now_s = 1_800_000_000.0
    db = Database(lambda: Connection(**connection_options(notes.service_url)), clock=lambda: now_s)
    before = pid(db)
    db.send_without_waiting(NOTE(number=1), failed)
    now_s += IDLE_LIMIT_S + 1
    assert pid(db) != before
    while noted(notes) != [1]:  # the server may still be at it
        pass
    assert not failed
    db.close()


def test_a_statement_that_is_told_runs_as_it_is_where_its_function_is_missing(notes: servers.Database, failed: Failures) -> None:
    db = Database.at(notes.service_url)
    db.send_without_waiting(Statement("-- a_function_that_nobody_made\n INSERT INTO notes VALUES (:number)")(number=1), failed)
    db.run(PID())
    assert noted(notes) == [1]
    assert not failed
    db.close()


# Lost connections and replies, and when we send a phase again


def test_a_connection_that_died_while_idle_is_made_anew(notes: servers.Database) -> None:
    db = Database.at(notes.service_url)
    before = pid(db)
    with contextlib.closing(connect(notes.owner_url)) as owner:
        owner.run("SELECT pg_terminate_backend(:pid, 5000)", pid=before)
    db.run(NOTE(number=1))
    assert pid(db) != before
    assert noted(notes) == [1]
    db.close()


def test_nothing_is_sent_on_a_connection_that_is_known_to_be_dead(notes: servers.Database) -> None:
    flushed: list[Connection] = []

    class Recorded(Connection):
        def flush(self, statements: Sequence[Bound]) -> list[list[list[Any]]]:
            flushed.append(self)
            return super().flush(statements)

    db = Database(lambda: Recorded(**connection_options(notes.service_url)))
    first = pid(db)
    assert not flushed[0].is_stale()
    with contextlib.closing(connect(notes.owner_url)) as owner:
        owner.run("SELECT pg_terminate_backend(:pid, 5000)", pid=first)
    while not flushed[0].is_stale():
        pass
    db.run(NOTE(number=1))
    assert len(flushed) == 2
    assert flushed[0] is not flushed[1]
    db.close()


def test_a_connection_that_was_cut_while_idle_is_made_anew(proxied: tuple[Database, FaultProxy], notes: servers.Database) -> None:
    db, proxy = proxied
    before = pid(db)
    proxy.cut()
    with contextlib.closing(connect(notes.owner_url)) as owner:
        while owner.run("SELECT 1 FROM pg_stat_activity WHERE pid = :pid", pid=before):  # until then it may pass a request on
            pass
    db.run(NOTE(number=1))
    assert noted(notes) == [1]


def test_a_connection_that_was_idle_for_a_minute_is_not_used_again(notes: servers.Database, fault_proxy: ProxyBefore) -> None:
    """A gateway in between may have forgotten it. A statement on it would wait for the time-out and be a 503."""
    now_s = 1_800_000_000.0
    proxy = fault_proxy(notes.service_url)
    options = connection_options(servers.with_address(notes.service_url, "127.0.0.1", proxy.port))
    db = Database(lambda: Connection(**options), clock=lambda: now_s)
    first = pid(db)
    now_s += IDLE_LIMIT_S
    assert pid(db) == first, "it was idle for a minute and no longer"
    now_s += IDLE_LIMIT_S
    assert pid(db) == first, "each use counts"
    proxy.forget()
    now_s += IDLE_LIMIT_S + 1
    db.run(NOTE(number=1))
    assert noted(notes) == [1]
    second = pid(db)
    now_s -= 1
    assert pid(db) != second, "a clock that was set back does not say how long the connection was idle"
    db.close()


def test_a_phase_whose_server_process_ends_in_the_middle_is_sent_once_more(notes: servers.Database) -> None:
    db = Database.at(notes.service_url)
    first = pid(db)
    sleeping = Statement("INSERT INTO notes SELECT :number::int FROM pg_sleep(0.5) RETURNING pg_backend_pid()")

    def end_it() -> None:
        with contextlib.closing(connect(notes.owner_url)) as owner:
            while owner.run("SELECT state FROM pg_stat_activity WHERE pid = :pid AND wait_event = 'PgSleep'", pid=first) == []:
                pass
            owner.run("SELECT pg_terminate_backend(:pid)", pid=first)

    ending = threading.Thread(target=end_it)
    ending.start()
    second = db.run(sleeping(number=1))[0][0][0]
    ending.join()
    assert second != first
    assert noted(notes) == [1]
    db.close()


@pytest.mark.parametrize("answered", [False, True], ids=["before the server got it", "after the server had carried it out"])
def test_a_phase_that_was_cut_off_is_sent_once_more(
    proxied: tuple[Database, FaultProxy], notes: servers.Database, answered: bool
) -> None:
    db, proxy = proxied
    proxy.writes.fail(1, answered=answered)
    if answered:
        # The rows of the first sending refuse the second. The flow then looks which rows are there.
        with pytest.raises(UniqueViolation, match="notes_number_key"):
            db.run(NOTE(number=1), NOTE(number=2))
    else:
        db.run(NOTE(number=1), NOTE(number=2))
    assert proxy.writes.failed
    assert noted(notes) == [1, 2]


def test_the_answer_and_the_violation_say_whether_a_phase_was_sent_twice(proxied: tuple[Database, FaultProxy]) -> None:
    db, proxy = proxied
    assert db.send(PID())[1] is False
    proxy.writes.fail(1, answered=True)
    with pytest.raises(UniqueViolation) as sent_twice:
        db.run(NOTE(number=1))
    with pytest.raises(UniqueViolation) as sent_once:
        db.run(NOTE(number=1))
    assert (sent_twice.value.resent, sent_once.value.resent) == (True, False)
    proxy.writes.fail(1, answered=True)
    assert db.send(PID())[1] is True
    assert db.send(PID())[1] is False


@pytest.mark.parametrize("after_bytes", [0, 1, 5, 20, 40])
def test_a_reply_that_breaks_off_anywhere_is_a_lost_one(
    proxied: tuple[Database, FaultProxy], notes: servers.Database, after_bytes: int
) -> None:
    db, proxy = proxied
    proxy.lose_reply(after_bytes)
    with pytest.raises(UniqueViolation):
        db.run(NOTE(number=1), NOTE(number=2))
    assert noted(notes) == [1, 2]
    assert db.run(Statement("SELECT :a::text")(a="in step")) == [[["in step"]]]


class Headless:
    """A connection's file that loses the beginning of the first answer, as a confused pooler might."""

    def __init__(self, file: Any) -> None:
        self._file, self._lost = file, False

    def read(self, size: int) -> bytes:
        if not self._lost:
            self._lost = True
            while self._file.read(1) != b"Z":
                self._file.read(int.from_bytes(self._file.read(4), "big") - 4)
            rest: bytes = self._file.read(size - 1)
            return b"Z" + rest
        data: bytes = self._file.read(size)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def test_an_answer_that_says_ready_and_not_done_is_a_lost_one(notes: servers.Database) -> None:
    def connection() -> Connection:
        made = Connection(**connection_options(notes.service_url))
        if not connections:
            made._sock = Headless(made._sock)
        connections.append(made)
        return made

    connections: list[Connection] = []
    db = Database(connection)
    with pytest.raises(UniqueViolation):  # the rows of the first sending refuse the second
        db.run(NOTE(number=1))
    assert len(connections) == 2
    db.close()


def _fails(error: type[Exception]) -> Callable[[str], object]:
    def adapter(text: str) -> object:
        raise error("a defect")

    return adapter


@pytest.mark.parametrize("error", [ValueError, AttributeError, KeyError, TypeError])
def test_a_defect_while_reading_an_answer_is_no_lost_connection(notes: servers.Database, error: type[Exception]) -> None:
    def connection() -> Connection:
        made = Connection(**connection_options(notes.service_url))
        made.register_in_adapter(20, _fails(error) if not connections else int)  # bigint
        connections.append(made)
        return made

    connections: list[Connection] = []
    db = Database(connection)
    with pytest.raises(error, match="a defect"):
        db.run(NOTE(number=7), Statement("SELECT 1::bigint")())
    assert len(connections) == 1, "the phase was sent once"
    assert noted(notes) == [7]
    assert db.run(Statement("SELECT 2::bigint")()) == [[[2]]], "a connection out of step is not used again"
    assert len(connections) == 2
    db.close()


class Unreadable:
    """A value whose text cannot be made. pg8000 makes the text before it sends anything."""

    def __init__(self, error: type[Exception]) -> None:
        self._error = error

    def __str__(self) -> str:
        raise self._error("a defect")


@pytest.mark.parametrize(
    "value", ["\ud800", Unreadable(ValueError), Unreadable(AttributeError)], ids=["surrogate", "ValueError", "AttributeError"]
)
def test_a_value_that_cannot_be_sent_is_a_defect_and_nothing_leaves(notes: servers.Database, value: object) -> None:
    db = Database.at(notes.service_url)
    with pytest.raises((ValueError, AttributeError)) as raised:
        db.run(NOTE(number=8), Statement("SELECT :a::text")(a=value))
    assert "surrogates not allowed" in str(raised.value) or "a defect" in str(raised.value)
    assert noted(notes) == []
    db.close()


def test_a_failed_check_is_a_fault_that_trying_again_does_not_cure(db: Database) -> None:
    row = payment(payment_id=uuid7(), order_id=str(uuid7()), amount_minor=0)
    with pytest.raises(InternalError) as refused:
        db.run(INSERT_PAYMENT(row))
    assert not refused.value.retryable
    assert refused.value.detail == "The database refused the statement."
    assert refused.value.__notes__ == ["SQLSTATE 23514 payments_amount_in_range"], "our log names the constraint"


def test_a_claim_whose_reply_was_lost_is_there_once(database: servers.Database, fault_proxy: ProxyBefore) -> None:
    proxy = fault_proxy(database.service_url)
    db = Database.at(servers.with_address(database.service_url, "127.0.0.1", proxy.port))
    db.run(PID())
    payment_id = uuid7()
    pending = payment(payment_id=payment_id, order_id=str(payment_id))
    operation = Draft(
        operation_id=uuid7(),
        owner="shop",
        kind="process",
        request_hash="h",
        gateway_key=f"pay-{payment_id}",
        created_at=NOON,
        lease_s=60,
        gateway="simulated",
        key_lifetime_s=82800,
    )
    proxy.lose_reply()
    assert claim_process(db, operation, pending, apply(pending, ProcessingStarted(), NOON)) == NotClaimed(resent=True)
    read = Statement("SELECT status, version FROM payments WHERE payment_id = :id")
    assert db.run(read(id=payment_id)) == [[[PaymentStatus.PROCESSING, 2]]]
    read = Statement("SELECT operation_id, attempt FROM operations WHERE payment_id = :id")
    assert db.run(read(id=payment_id)) == [[[operation.operation_id, 1]]]
    db.close()


def test_a_server_that_cannot_be_reached_is_an_outage_with_a_time_to_wait(
    proxied: tuple[Database, FaultProxy], notes: servers.Database
) -> None:
    db, proxy = proxied
    with proxy.refusing(), pytest.raises(ServiceUnavailable, match="unavailable") as error:
        db.run(PID())
    assert error.value.retry_after_s == 2
    db.run(NOTE(number=1))
    assert noted(notes) == [1]


@pytest.mark.parametrize(
    ("wrong", "shown"),
    [
        ({"password": "pw-canary"}, "28P01"),
        ({"password": None}, "unavailable"),
        ({"user": "canary"}, "28P01"),
        ({"database": "canary"}, "3D000"),
        ({"port": 1}, "unavailable"),
        ({"host": "canary.invalid"}, "unavailable"),
        ({"ssl_context": ssl.create_default_context()}, "unavailable"),  # we do not fall back to plain text
    ],
)
def test_a_login_that_fails_is_an_outage_and_quotes_nothing(notes: servers.Database, wrong: dict[str, Any], shown: str) -> None:
    db = Database(lambda: Connection(**connection_options(notes.service_url) | wrong))
    with pytest.raises(ServiceUnavailable, match=shown) as error:
        db.run(PID())
    assert "canary" not in "".join(traceback.format_exception(error.value))


def test_a_server_is_used_again_after_a_restart_and_after_a_crash(
    outage_postgres: EmbeddedPostgres, outage_database: servers.Database
) -> None:
    db = Database.at(outage_database.service_url)
    db.run(PID())
    outage_postgres.stop()
    with pytest.raises(ServiceUnavailable):
        db.run(PID())
    outage_postgres.start()
    before = pid(db)
    servers.kill(outage_postgres)
    while True:  # its supervisor restarts it; until then every error is ServiceUnavailable
        with contextlib.suppress(ServiceUnavailable):
            assert pid(db) != before
            break
    db.close()


def test_a_time_out_is_not_sent_again_and_the_connection_is_not_used_again(notes: servers.Database) -> None:
    def impatient() -> Connection:
        connection = Connection(**connection_options(notes.service_url))
        connection._usock.settimeout(0.2)
        return connection

    db = Database(impatient)
    before = pid(db)
    slow = "INSERT INTO notes SELECT $1::int FROM pg_sleep(1)"
    with pytest.raises(ServiceUnavailable, match="TimeoutError") as error:
        db.run(Bound(slow, (1,)))
    assert error.value.retry_after_s == 2
    with contextlib.closing(connect(notes.owner_url)) as owner:
        running = "SELECT pid FROM pg_stat_activity WHERE query = :query AND state = 'active'"
        assert owner.run(running, query=slow) == [[before]], "the statement was sent once"
        assert pid(db) != before
        while owner.run(running, query=slow):
            pass
    assert noted(notes) == [1], "the server has carried it out, so we must not send it again"
    db.close()


def test_a_connection_is_waited_for_longer_than_the_server_works_on_a_statement(db: Database) -> None:
    """A slow statement then ends with the server's error, and not with a torn stream."""
    db.run(PID())
    assert db._connection is not None
    [[[timeout_s]]] = db.run(Statement("SELECT EXTRACT(EPOCH FROM current_setting('statement_timeout')::interval)::float8")())
    assert timeout_s < db._connection._usock.gettimeout() == READ_TIMEOUT_S < 2 * timeout_s


def test_a_statement_that_waits_too_long_for_a_lock_is_given_up(notes: servers.Database) -> None:
    with contextlib.closing(connect(notes.owner_url)) as owner:
        [[name]] = owner.run("SELECT current_database()")
        owner.run(f"ALTER ROLE payments_service IN DATABASE {name} SET lock_timeout = '50ms'")
        owner.run("BEGIN")
        owner.run("LOCK TABLE notes")
        db = Database.at(notes.service_url)
        with pytest.raises(ServiceUnavailable, match="55P03") as error:
            db.run(NOTE(number=1))
        assert error.value.retry_after_s == 2
        owner.run("ROLLBACK")
    db.run(NOTE(number=1))
    db.close()


def test_a_statement_that_takes_too_long_is_given_up(notes: servers.Database) -> None:
    with contextlib.closing(connect(notes.owner_url)) as owner:
        [[name]] = owner.run("SELECT current_database()")
        owner.run(f"ALTER ROLE payments_service IN DATABASE {name} SET statement_timeout = '50ms'")
    db = Database.at(notes.service_url)
    with pytest.raises(ServiceUnavailable, match="57014"):
        db.run(NOTE(number=1), Statement("SELECT pg_sleep(60)")())
    assert noted(notes) == []
    db.close()


# The meaning of a server's error

MEANING: dict[str, tuple[type[Exception], int]] = {
    # SQLSTATE: the error that the flow gets, and how often we sent the statement
    "57P01": (ServiceUnavailable, 2),
    "57P02": (ServiceUnavailable, 2),
    "57P03": (ServiceUnavailable, 1),
    "57014": (ServiceUnavailable, 1),
    "55P03": (ServiceUnavailable, 1),
    "40001": (ServiceUnavailable, 2),
    "40P01": (ServiceUnavailable, 2),
    "25P03": (ServiceUnavailable, 2),
    "25006": (ServiceUnavailable, 2),
    "08006": (ServiceUnavailable, 2),
    "08P01": (ServiceUnavailable, 2),
    "53100": (ServiceUnavailable, 1),
    "28000": (ServiceUnavailable, 1),
    "28P01": (ServiceUnavailable, 1),
    "3D000": (ServiceUnavailable, 1),
    "23505": (UniqueViolation, 1),
    "23514": (InternalError, 1),
    "22001": (InternalError, 1),
    "42501": (InternalError, 1),
    "42P01": (InternalError, 1),
    "XX000": (InternalError, 1),
    "P0001": (InternalError, 1),
}


def test_every_sqlstate_that_means_something_is_in_the_table() -> None:
    assert all(any(state.startswith(known) for state in MEANING) for known in SQLSTATE_ERRORS)


@pytest.mark.parametrize("state", MEANING)
def test_a_servers_error_becomes_ours_as_the_table_says(notes: servers.Database, state: str) -> None:
    kind, times = MEANING[state]
    with contextlib.closing(connect(notes.owner_url)) as owner:
        owner.run("SELECT setval('tries', 1, false)")
        db = Database.at(notes.service_url)
        before = pid(db)
        failing = f"DO $$ BEGIN PERFORM nextval('tries'); RAISE EXCEPTION 'row-canary' USING ERRCODE = '{state}'; END $$"
        with pytest.raises(kind) as error:
            db.run(Bound(failing, ()))
        assert "row-canary" not in "".join(traceback.format_exception(error.value))
        assert owner.run("SELECT last_value FROM tries") == [[times]]
        # If the server leaves, or is in a state that we did not cause, we do not use the connection again.
        assert (pid(db) != before) == (state[:2] in ("57", "08", "25"))
    if isinstance(error.value, ServiceUnavailable):
        assert error.value.retry_after_s == 2
        assert ConnectionLost.__name__ not in error.value.detail
    assert db.run(Statement("SELECT :a::text")(a="in step")) == [[["in step"]]]
    db.close()


def test_no_error_quotes_the_row_that_caused_it(db: Database) -> None:
    names, marks = [*row_values(payment())], [f"${place + 1}" for place in range(len(row_values(payment())))]
    insert = f"INSERT INTO payments ({', '.join(names)}) VALUES ({', '.join(marks)})"
    row: dict[str, Any] = {
        "payment_id": uuid7(),
        "order_id": "order-canary",
        "payment_token": "tok_canary",
        "customer_id": "customer-canary",
    }

    def write(**changes: Any) -> None:
        db.run(Bound(insert, tuple(row_values(payment(**row | changes)).values())))

    write()
    wrongs: list[dict[str, Any]] = [
        {"payment_id": uuid7()},  # the order is taken: DETAIL quotes the key
        {"payment_id": uuid7(), "order_id": "canary-2", "amount_minor": 0},  # a CHECK: DETAIL quotes the row
        {"payment_id": uuid7(), "order_id": None, "description": "canary"},  # NOT NULL: DETAIL quotes the row
        {"payment_id": "canary"},  # not a UUID: the message quotes the value
        {"payment_id": uuid7(), "order_id": "canary-3\0"},  # cannot be stored
    ]
    for wrong in wrongs:
        with pytest.raises((UniqueViolation, InternalError)) as error:
            write(**wrong)
        assert "canary" not in "".join(traceback.format_exception(error.value)), wrong
        assert error.value.__suppress_context__


# The database's address

BASE = {
    "user": "me",
    "password": None,
    "host": "db",
    "port": 5432,
    "database": "payments",
    "timeout": 3.0,
    "startup_params": SESSION,
}


@pytest.mark.parametrize(
    ("url", "changes"),
    [
        ("postgresql://me@db/payments", {}),
        ("postgres://me@db/payments", {}),
        ("postgresql://me:pw@db:6543/payments", {"password": "pw", "port": 6543}),
        ("postgresql://m%40e:p%2Fw%25@db/pay%20ments", {"user": "m@e", "password": "p/w%", "database": "pay ments"}),
        ("postgresql://me:@db/payments", {"password": ""}),
        ("postgresql://me@db", {"database": "me"}),
        ("postgresql://me@[::1]:5432/payments?sslmode=verify-full", {"host": "::1"}),
    ],
)
def test_a_url_becomes_arguments(url: str, changes: dict[str, Any]) -> None:
    options = connection_options(url)
    assert isinstance(options.pop("ssl_context"), ssl.SSLContext), "TLS is the default"
    assert options == BASE | changes


@pytest.mark.parametrize(
    ("url", "encrypted"),
    [
        ("postgresql://me@db/payments", True),
        ("postgresql://me@db/payments?sslmode=verify-full", True),
        ("postgresql://me@db/payments?sslmode=disable", False),
        ("postgresql://me@127.0.0.1/payments", False),
        ("postgresql://me@localhost/payments", False),
        ("postgresql://me@[::1]/payments", False),
        ("postgresql://me@127.0.0.1/payments?sslmode=verify-full", True),
        ("postgresql://me@127.0.0.1.example.com/payments", True),
    ],
)
def test_tls_checks_the_servers_name_or_is_off(url: str, encrypted: bool) -> None:
    context = connection_options(url)["ssl_context"]
    if encrypted:
        assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    else:
        assert context is False, "with None pg8000 would fall back to plain text where the server has no TLS"


def test_a_token_or_a_secret_does_not_travel_in_plain_text() -> None:
    for url in ("postgresql://me@127.0.0.1/payments", "postgresql://me@db/payments?sslmode=disable"):
        with pytest.raises(ValueError, match="plain text"):
            connection_options(url, needs_tls=True)
        with pytest.raises(ValueError, match="plain text"):
            Database.at(url, lambda host, port, user: "secret")
    assert connection_options("postgresql://me@db/payments", needs_tls=True)["ssl_context"]


def test_a_password_is_made_anew_for_each_connection() -> None:
    made: list[tuple[str, int, str]] = []

    def token(host: str, port: int, user: str) -> str:
        made.append((host, port, user))
        return f"token-{len(made)}"

    options = connection_options("postgresql://me@db:6543/payments")
    assert [logged_in(options, token)["password"] for _ in range(2)] == ["token-1", "token-2"]
    assert made == [("db", 6543, "me")] * 2
    assert logged_in(options, None) == options


def test_the_servers_authority_can_be_named(tmp_path: Path) -> None:
    url = f"postgresql://me@db/payments?sslmode=verify-full&sslrootcert={tmp_path}/missing.pem"
    with pytest.raises(OSError, match="No such file"):
        connection_options(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "payments",
        "mysql://me@db/payments",
        "postgresql://db/payments",
        "postgresql://me@/payments",
        "postgresql://me@db:port/payments",
        "postgresql://me@db:99999/payments",
        "postgresql://me@db/payments?sslmode=require",
        "postgresql://me@db/payments?sslmode=prefer",
        "postgresql://me@db/payments?application_name=x",
        "postgresql://me@db/payments?sslmode",
    ],
)
def test_a_url_that_says_anything_else_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match=r".") as error:
        connection_options(url.replace("me@", "me:pw-canary@"))
    assert "canary" not in str(error.value)


@pytest.mark.parametrize(
    "password",
    [
        *("canary/x", "x/canary", "canary?x", "x?canary", "canary#x", "[canary", "1/canary", "1?canary=1"),
        *("x@canary/y", "x@canary#y", "x@canary?y", "x@y?canary=1"),
    ],
)
def test_a_password_that_is_not_encoded_is_not_quoted(password: str) -> None:
    with pytest.raises(SettingsError, match="percent-encoded") as error:
        connection_options(f"postgresql://me:{password}@db/payments")
    assert "canary" not in "".join(traceback.format_exception(error.value))
