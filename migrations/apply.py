"""Apply migrations: each file once, in the order of their names, each in its own transaction (or in none), one runner at a time.

`DATABASE_OWNER_URL=postgresql://… python -m migrations.apply migrations/` is the command.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pg8000.core import CoreConnection
from pg8000.exceptions import DatabaseError, InterfaceError
from scramp import ScramMechanism

from migrations.roles import FEWEST, repeated, share_connections, sqlstate
from payments.aws_auth import Password
from payments.store.address import connection_options, logged_in

# Every runner takes this lock; the number itself means nothing. A session's lock would pin a connection of RDS Proxy, so
# migrations connect to the database itself, as its owner.
LOCK_ID = 7_215_031_994

STATEMENT_TIMEOUT = "14min"
"""A migration may build an index on a large table, and the owner does not have the time-outs of the service's role. PostgreSQL
must end the statement, with an error that says so, before Lambda ends the function after 15 minutes."""

LOCK_TIMEOUT = "1500ms"
"""A migration in a transaction waits so long for a lock. Whatever comes after it queues behind it, so this must be shorter than
the 2 s that payments_service waits (001): a payment that meets a waiting migration is late and not refused. It must be longer
than PostgreSQL's deadlock_timeout (1 s): only a wait of that length makes PostgreSQL cancel an autovacuum that is in the way,
which on a large table may need hours."""

TRIES = 10
"""With the pauses 1.5 minutes: a report or a dump of minutes is waited for, one that takes hours is named. Several files
that have to wait, and a statement behind them, still fit into Lambda's 15 minutes."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 2.0, 10.0
"""The pause after a try doubles from the first to the longest. The first is longer than LOCK_TIMEOUT, so that the payments that
have queued are done before the next ones queue. With longer ones the migration would miss moments without a reader."""

LOCK_TIMEOUT_CONCURRENTLY = "5min"
"""A statement with CONCURRENTLY waits for the end of every older transaction. Payments pass it meanwhile, so it may wait long,
and to interrupt it costs a build and leaves an invalid index. But a function must have the time to say who blocks."""

IDLE_TIMEOUT = "10s"
"""A runner that is frozen between two statements of its transaction holds locks that payments wait for. It never idles there."""

LOOK_S = 0.4
"""The pause between two looks at who blocks. LOCK_TIMEOUT has room for three, and most migrations are done before the first."""

LOCK_NOT_AVAILABLE, DEADLOCK_DETECTED, QUERY_CANCELED = "55P03", "40P01", "57014"
"""SQLSTATEs. A deadlock, too, is a matter of who was there at the moment: the same file passes at another one."""

OWN_LOCK_TIMEOUT = re.compile(r"^SET LOCAL lock_timeout = .*;$", re.MULTILINE)
"""A file may bound its waiting for `psql -f`, which tries once. Here LOCK_TIMEOUT holds, whose bounds a file does not know."""

OUTSIDE = "-- outside a transaction\n"
"""The first line of a file with one statement that PostgreSQL refuses in a transaction, such as CREATE INDEX CONCURRENTLY."""

ALWAYS = "always"
"""The folder in a folder of migrations whose files run each time, after the migrations. A restored dump needs them anew."""

TURN_S = 840.0
"""A runner waits this long for its turn: as long as one statement of another runner may take."""

TURN_POLL_S = 0.2
"""The pause between two tries to take the lock. A statement that waited for the lock would hold a snapshot, and the lock's
holder may run CREATE INDEX CONCURRENTLY, which waits for the end of every snapshot."""


class MigrationError(Exception):
    """A migration failed, or somebody has edited one that was applied already. The message names it."""


def migrate(
    owner_url: str, folder: Path, password: Password | None = None, *, passwords: Mapping[str, str] | None = None
) -> list[str]:
    """Apply the files `*.sql` of `folder` that `schema_migrations` does not list yet, and return their names.

    Then run the files in its folder `always`, and share the server's connections out (roles.py). `passwords` (ASCII) are those
    that roles get; other roles keep theirs.

    Raises MigrationError, which names who blocks if a lock was the reason. PostgreSQL rolls a failed migration back, and the
    ones before it stay applied. A migration outside a transaction may leave an invalid index, which has to be dropped before the
    next run.
    """
    applied = []
    paths = sorted(folder.glob("*.sql"))
    if not paths:
        raise MigrationError(f"{folder} holds no migrations")
    given = os.environ.get("DATABASE_CONNECTIONS") or "0"
    if not (given.isascii() and given.isdigit() and (int(given) == 0 or int(given) >= FEWEST)):
        raise MigrationError(f"DATABASE_CONNECTIONS must be 0 (90 % of max_connections) or at least {FEWEST}, not {given}")
    options = connection_options(owner_url, needs_tls=password is not None)
    with CoreConnection(**logged_in(options, password)) as connection:
        connection._usock.settimeout(None)
        run = connection.execute_simple
        run(f"SET statement_timeout = '{STATEMENT_TIMEOUT}'")
        run(f"SET idle_in_transaction_session_timeout = '{IDLE_TIMEOUT}'")
        [[own_pid]] = run("SELECT pg_backend_pid()").rows
        if (encoding := run("SHOW server_encoding").rows[0][0]) != "UTF8":
            raise MigrationError(f"the database must be encoded as UTF8, not {encoding}")
        end_s = time.monotonic() + TURN_S
        while not run(f"SELECT pg_try_advisory_lock({LOCK_ID})").rows[0][0]:
            if time.monotonic() > end_s:
                holders = [_described(*row) for row in run(SESSIONS.format(pids=TURN_HOLDERS)).rows]
                raise MigrationError(
                    f"another run of the migrations still holds the lock: {'; '.join(holders)}. Wait for it, or end it"
                )
            time.sleep(TURN_POLL_S)
        run(
            "CREATE TABLE IF NOT EXISTS schema_migrations"
            " (name text PRIMARY KEY, sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        lookout = _Lookout(own_pid, options, password)
        known = dict(run("SELECT name, sha256 FROM schema_migrations").rows)
        for path in paths:
            sql = path.read_text(encoding="utf-8")
            digest = hashlib.sha256(sql.encode()).hexdigest()
            if path.name in known:
                if known[path.name] != digest:
                    raise MigrationError(f"{path.name} was edited after it had been applied; write a new migration instead")
                continue
            note = f"INSERT INTO schema_migrations (name, sha256) VALUES ('{path.name}', '{digest}')"
            try:
                if sql.startswith(OUTSIDE):
                    _apply_outside(connection, sql, note, lookout)
                else:
                    repeated(_apply_within, connection, sql, note, lookout)
            except Exception as error:
                raise MigrationError(f"{path.name}: {error}") from error
            applied.append(path.name)
        for path in sorted((folder / ALWAYS).glob("*.sql")):
            try:
                repeated(_apply_within, connection, path.read_text(encoding="utf-8"), None, lookout)
            except Exception as error:
                raise MigrationError(f"{ALWAYS}/{path.name}: {error}") from error
        share_connections(connection, int(given))
        for role, role_password in (passwords or {}).items():
            repeated(run, f"ALTER ROLE {role} PASSWORD '{_scram_verifier(role_password)}'")
    return applied


def _apply_within(connection: CoreConnection, sql: str, note: str | None, lookout: _Lookout) -> None:
    """Run the file and its note, if any, in one transaction. Whoever holds a lock delays the file, not the payments behind it."""
    run = connection.execute_simple
    run(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
    statements = OWN_LOCK_TIMEOUT.sub("", sql)
    pause_s = FIRST_PAUSE_S
    for tries in range(1, TRIES + 1):
        try:
            with lookout:
                run("BEGIN")
                run(statements)
                if note:
                    run(note)
                run("COMMIT")
            return
        except DatabaseError as error:
            with suppress(InterfaceError, OSError):  # of a connection that is gone the first error tells more
                run("ROLLBACK")
            if sqlstate(error) not in (LOCK_NOT_AVAILABLE, DEADLOCK_DETECTED):
                raise
            if tries == TRIES:
                raise MigrationError(
                    f"{tries} tries met a lock of {lookout.seen()}. Nothing of this file is applied. Wait for that session or end"
                    " it (SELECT pg_terminate_backend(pid)), then run the migrations again"
                ) from error
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def _apply_outside(connection: CoreConnection, sql: str, note: str, lookout: _Lookout) -> None:
    """Run the file once: what an interrupted CREATE INDEX CONCURRENTLY leaves would be in the way of a second try."""
    run = connection.execute_simple
    run(f"SET lock_timeout = '{LOCK_TIMEOUT_CONCURRENTLY if 'CONCURRENTLY' in sql else LOCK_TIMEOUT}'")
    try:
        with lookout:
            run(sql)
    except DatabaseError as error:
        if sqlstate(error) not in (LOCK_NOT_AVAILABLE, DEADLOCK_DETECTED, QUERY_CANCELED) or not lookout.blockers:
            raise
        left = "".join(f". Drop the invalid index {name} before the next run" for name in _invalid_indexes(connection))
        raise MigrationError(f"it waited too long for {lookout.seen()}{left}") from error
    if invalid := _invalid_indexes(connection):
        raise MigrationError(f"drop the invalid index {invalid[0]} first")
    run(note)


def _invalid_indexes(connection: CoreConnection) -> list[str]:
    rows = connection.execute_simple("SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid").rows
    return [name for (name,) in rows]


class _Lookout:
    """Within its block, look from a second connection who blocks the first. When a wait has failed it is too late to ask."""

    def __init__(self, pid: int, options: dict[str, Any], password: Password | None) -> None:
        self.blockers: list[str] = []
        self._pid, self._options, self._password = pid, options, password

    def __enter__(self) -> Self:
        self.blockers = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end.set()
        self._thread.join()

    def seen(self) -> str:
        return "; ".join(self.blockers) or "a session that could not be found out"

    def _look(self) -> None:
        if self._end.wait(LOOK_S):
            return
        blockers = SESSIONS.format(pids=f"SELECT unnest(pg_blocking_pids({self._pid}))")
        # A server without a free connection costs the message the names, and the migration nothing.
        with (
            suppress(InterfaceError, DatabaseError, OSError),
            CoreConnection(**logged_in(self._options, self._password)) as connection,
        ):
            free = False
            while True:
                found = [_described(*row) for row in connection.execute_simple(blockers).rows]
                # One look without a blocker may have come just after the wait had failed. Two tell that the statement goes on.
                if found or free:
                    self.blockers = found
                free = not found
                if self._end.wait(LOOK_S):
                    return


# Not the text of its query, which may hold customers' data. A role without pg_read_all_stats does not see the state and the time
# of others. Process 0 stands for a prepared transaction, which has none.
SESSIONS = (
    "SELECT found, application_name, usename, coalesce(state, backend_type),"
    " extract(epoch FROM clock_timestamp() - xact_start)::integer"
    " FROM ({pids}) sessions(found) LEFT JOIN pg_stat_activity ON pid = found"
    " GROUP BY 1, 2, 3, 4, 5 ORDER BY 5 DESC NULLS LAST LIMIT 5"
)
TURN_HOLDERS = (
    "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1"
    f" AND (classid::bigint << 32) | objid::bigint = {LOCK_ID}"
)


def _described(pid: int, application: str | None, role: str | None, state: str | None, for_s: int | None) -> str:
    if pid == 0:
        return "a prepared transaction (see pg_prepared_xacts)"
    lasts = "in no transaction" if for_s is None else f"in a transaction for {for_s} s"
    does = f"{state}, {lasts}" if state else "what it does is hidden from a role without pg_read_all_stats"
    return f"pid {pid} (application_name '{application or ''}', role {role or 'unknown'}, {does})"


def _scram_verifier(password: str) -> str:
    """Return what PostgreSQL stores of a password (RFC 5803). A server that logs DDL would log the password itself."""
    salt, stored_key, server_key, iterations = ScramMechanism("SCRAM-SHA-256").make_auth_info(password)
    salt_text, stored_text, server_text = (base64.b64encode(part).decode() for part in (salt, stored_key, server_key))
    return f"SCRAM-SHA-256${iterations}:{salt_text}${stored_text}:{server_text}"


def main() -> int:
    if len(sys.argv) != 2 or "DATABASE_OWNER_URL" not in os.environ:
        print("usage: DATABASE_OWNER_URL=postgresql://… python -m migrations.apply FOLDER", file=sys.stderr)
        return 2
    try:
        applied = migrate(os.environ["DATABASE_OWNER_URL"], Path(sys.argv[1]))
    except (MigrationError, InterfaceError, DatabaseError, OSError, ValueError) as error:
        print(f"migrate: {error}", file=sys.stderr)
        return 1
    print("\n".join(f"applied {name}" for name in applied) or "nothing to apply")
    return 0


if __name__ == "__main__":
    sys.exit(main())
