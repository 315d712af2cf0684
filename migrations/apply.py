"""Apply migrations: each file once, in the order of their names, each in its own transaction (or in none), one runner at a time.

`DATABASE_OWNER_URL=postgresql://… python -m migrations.apply migrations/` is the command.
"""

from __future__ import annotations

import base64
import hashlib
import os
import sys
import time
from pathlib import Path

from pg8000.core import CoreConnection
from pg8000.exceptions import DatabaseError, InterfaceError
from scramp import ScramMechanism

from payments.aws_auth import Password
from payments.store.address import connection_options, logged_in

# Every runner takes this lock; the number itself means nothing. A session's lock would pin a connection of RDS Proxy, so
# migrations connect to the database itself, as its owner.
LOCK_ID = 7_215_031_994

STATEMENT_TIMEOUT = "14min"
"""A migration may build an index on a large table, and the owner does not have the time-outs of the service's role. PostgreSQL
must end the statement, with an error that says so, before Lambda ends the function after 15 minutes."""

OUTSIDE = "-- outside a transaction\n"
"""The first line of a file with one statement that PostgreSQL refuses in a transaction, such as CREATE INDEX CONCURRENTLY."""

TURN_S = 840.0
"""A runner waits this long for its turn: as long as one statement of another runner may take."""

TURN_POLL_S = 0.2
"""The pause between two tries to take the lock. A statement that waited for the lock would hold a snapshot, and the lock's
holder may run CREATE INDEX CONCURRENTLY, which waits for the end of every snapshot."""


class MigrationError(Exception):
    """A migration failed, or somebody has edited one that was applied already. The message names it."""


def migrate(owner_url: str, folder: Path, password: Password | None = None, *, service_password: str | None = None) -> list[str]:
    """Apply the files `*.sql` of `folder` that `schema_migrations` does not list yet, and return their names.

    `service_password` (ASCII) becomes the password of payments_service. Without it the password stays as it is.

    Raises MigrationError. PostgreSQL rolls a failed migration back, and the ones before it stay applied. A migration outside a
    transaction may leave an invalid index, which has to be dropped before the next try.
    """
    applied = []
    paths = sorted(folder.glob("*.sql"))
    if not paths:
        raise MigrationError(f"{folder} holds no migrations")
    options = connection_options(owner_url, needs_tls=password is not None)
    with CoreConnection(**logged_in(options, password)) as connection:
        connection._usock.settimeout(None)
        run = connection.execute_simple
        run(f"SET statement_timeout = '{STATEMENT_TIMEOUT}'")
        if (encoding := run("SHOW server_encoding").rows[0][0]) != "UTF8":
            raise MigrationError(f"the database must be encoded as UTF8, not {encoding}")
        end_s = time.monotonic() + TURN_S
        while not run(f"SELECT pg_try_advisory_lock({LOCK_ID})").rows[0][0]:
            if time.monotonic() > end_s:
                raise MigrationError("another run of the migrations still holds the lock; wait for it, or end it")
            time.sleep(TURN_POLL_S)
        run(
            "CREATE TABLE IF NOT EXISTS schema_migrations"
            " (name text PRIMARY KEY, sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        known = dict(run("SELECT name, sha256 FROM schema_migrations").rows)
        for path in paths:
            sql = path.read_text(encoding="utf-8")
            digest = hashlib.sha256(sql.encode()).hexdigest()
            if path.name in known:
                if known[path.name] != digest:
                    raise MigrationError(f"{path.name} was edited after it had been applied; write a new migration instead")
                continue
            try:
                if sql.startswith(OUTSIDE):
                    run(sql)
                    if invalid := run("SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid").rows:
                        raise MigrationError(f"drop the invalid index {invalid[0][0]} first")
                    run("BEGIN")
                else:
                    run("BEGIN")
                    run(sql)
                run(f"INSERT INTO schema_migrations (name, sha256) VALUES ('{path.name}', '{digest}')")
                run("COMMIT")
            except Exception as error:
                raise MigrationError(f"{path.name}: {error}") from error
            applied.append(path.name)
        if service_password is not None:
            run(f"ALTER ROLE payments_service PASSWORD '{_scram_verifier(service_password)}'")
    return applied


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
