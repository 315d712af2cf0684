"""One connection to PostgreSQL, one flush a phase.

pg8000 sends three Syncs for one statement with parameters, and a transaction pooler (PgBouncer, RDS Proxy) may switch servers at
each of them: the rows of somebody else's statement, silently. So a subclass puts Parse, Bind, Describe and Execute of all the
statements of a phase before one Sync. PostgreSQL runs what stands before a Sync as one implicit transaction: all of it commits or
none, in one round trip. Statements stay unnamed, which RDS Proxy multiplexes without pinning.
"""

from __future__ import annotations

import re
import select
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

from pg8000.converters import make_params
from pg8000.core import (
    BIND,
    COMMAND_COMPLETE,
    DESCRIBE,
    EXECUTE_MSG,
    NULL_BYTE,
    PARSE,
    PORTAL,
    READY_FOR_QUERY,
    SYNC_MSG,
    Context,
    CoreConnection,
    H_pack,
    _read,
    ci_unpack,
)
from pg8000.exceptions import DatabaseError, InterfaceError

from payments.aws_auth import Password
from payments.domain.errors import InternalError, ServiceUnavailable

CONNECT_TIMEOUT_S = 3.0
"""A healthy server in the same VPC answers a connect in milliseconds; 3 s lets one lost SYN be sent again (at 1 s)."""

READ_TIMEOUT_S = 6.0
"""Longer than the role's statement_timeout (5 s), so that a slow statement ends as the server's error, not as a torn stream."""

RETRY_AFTER_S = 2
"""What a caller is told to wait when the database is away: about as long as a fail-over of RDS Proxy takes."""

Row = list[Any]


class UniqueViolation(Exception):
    """A unique constraint refused the phase, and the whole of it was rolled back; `constraint` is its name."""

    def __init__(self, constraint: str) -> None:
        super().__init__(constraint)
        self.constraint = constraint


class ConnectionLost(Exception):
    """The connection broke. Whether the phase was committed is not known, so it is sent once more; see Database.run."""


class Statement:
    """SQL with `:name` parameters, turned into `$1` once, at import."""

    def __init__(self, sql: str) -> None:
        self._names: list[str] = []
        self.sql = re.sub(r"(?<!:):([a-z_]+)", self._number, sql)

    def _number(self, match: re.Match[str]) -> str:
        name = match[1]
        if name not in self._names:
            self._names.append(name)
        return f"${self._names.index(name) + 1}"

    def __call__(self, **values: object) -> Bound:
        if values.keys() != set(self._names):
            raise TypeError(f"parameters differ: {sorted(values.keys() ^ set(self._names))}")
        return Bound(self.sql, tuple(values[name] for name in self._names))


@dataclass(frozen=True, slots=True)
class Bound:
    sql: str
    values: tuple[object, ...]


class Connection(CoreConnection):  # type: ignore[misc]  # pg8000 has no type information
    """pg8000's connection with `flush`, which sends any number of statements before one Sync."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._usock.settimeout(READ_TIMEOUT_S)
        # pg8000 parses a timestamptz with strptime, 10 times slower, and gives up on offsets that are not whole hours.
        self.register_in_adapter(1184, lambda text: datetime.fromisoformat(text).astimezone(UTC))

    def flush(self, statements: Sequence[Bound]) -> list[list[Row]]:
        """Run the statements in one transaction; the rows of each. Raises DatabaseError, InterfaceError or OSError."""
        for statement in statements:
            params = make_params(self.py_types, statement.values)
            self._send_message(PARSE, NULL_BYTE + statement.sql.encode() + NULL_BYTE + H_pack(0))
            self._send_message(BIND, _bind(params))
            self._send_message(DESCRIBE, PORTAL + NULL_BYTE)
            self._sock.write(EXECUTE_MSG)
        self._sock.write(SYNC_MSG)
        self._sock.flush()
        contexts = [Context(statement.sql) for statement in statements]
        position, completed, code = 0, 0, None
        while code != READY_FOR_QUERY:
            code, length = ci_unpack(_read(self._sock, 5))
            self.message_types[code](_read(self._sock, length - 4), contexts[position])
            if code == COMMAND_COMPLETE:
                completed += 1
                position = min(completed, len(contexts) - 1)
        # After an error the server skips everything up to the Sync, so the statement that failed is the one we stand at.
        if contexts[position].error is not None:
            raise contexts[position].error
        if completed != len(contexts):
            # Money hangs on what is taken for written, so an answer that lacks a part is none.
            raise InterfaceError(f"{completed} of {len(contexts)} statements were answered")
        return [context.rows or [] for context in contexts]

    def is_stale(self) -> bool:
        """Whether the server has spoken or hung up while nobody asked: an idle connection has nothing to say otherwise."""
        readable, _, _ = select.select([self._usock], [], [], 0)
        return bool(readable)


def _bind(params: Sequence[str | None]) -> bytes:
    message = bytearray(NULL_BYTE + NULL_BYTE + H_pack(0) + H_pack(len(params)))
    for value in params:
        if value is None:
            message += b"\xff\xff\xff\xff"
        else:
            encoded = value.encode()
            message += len(encoded).to_bytes(4, "big") + encoded
    return bytes(message + H_pack(0))


def connection_options(url: str, *, needs_tls: bool = False) -> dict[str, Any]:
    """pg8000's arguments from `postgresql://user:password@host:port/database?sslmode=…&sslrootcert=…`.

    `sslmode` is `disable` or `verify-full` (the default, unless the host is this machine's loopback): what lies between would
    encrypt without knowing for whom. Raises ValueError for a URL that says anything else, and for one without TLS that
    `needs_tls` because a token or a secret will travel.
    """
    parts = urlsplit(url)
    query = {name: values[-1] for name, values in parse_qs(parts.query, strict_parsing=bool(parts.query)).items()}
    if parts.scheme not in ("postgresql", "postgres") or not parts.hostname or not parts.username:
        raise ValueError("DATABASE_URL must read postgresql://user[:password]@host[:port]/database")
    if unknown := query.keys() - {"sslmode", "sslrootcert"}:
        raise ValueError(f"DATABASE_URL has unknown settings: {', '.join(sorted(unknown))}")
    sslmode = query.get("sslmode", "disable" if parts.hostname in ("127.0.0.1", "localhost", "::1") else "verify-full")
    if sslmode not in ("disable", "verify-full"):
        raise ValueError("sslmode in DATABASE_URL must be disable or verify-full")
    if needs_tls and sslmode == "disable":
        raise ValueError("DATABASE_URL must say sslmode=verify-full: tokens and secrets do not travel in plain text")
    return {
        "user": unquote(parts.username),
        "password": unquote(parts.password) if parts.password is not None else None,
        "host": parts.hostname,
        "port": parts.port or 5432,
        "database": unquote(parts.path.lstrip("/")) or unquote(parts.username),
        "timeout": CONNECT_TIMEOUT_S,
        "ssl_context": ssl.create_default_context(cafile=query.get("sslrootcert")) if sslmode == "verify-full" else False,
    }


def logged_in(options: dict[str, Any], password: Password | None) -> dict[str, Any]:
    """The options with a password made for this one connection; as they are when there is none to make."""
    return options | {"password": password(options["host"], options["port"], options["user"])} if password else options


class Database:
    """The one connection of this process, made at first use and made anew after anything that left it out of step."""

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        self._connection: Connection | None = None
        self.resent = False
        """Whether the last run was sent twice. The first sending may still lie with a server or a pooler that hangs, and be
        carried out after the second one was refused."""

    @classmethod
    def at(cls, url: str, password: Password | None = None) -> Self:
        options = connection_options(url, needs_tls=password is not None)
        return cls(lambda: Connection(**logged_in(options, password)))

    def run(self, *statements: Bound) -> list[list[Row]]:
        """Run statements in one transaction and one round trip; the rows of each statement.

        A broken connection is made anew and the phase sent once more. That is safe because every phase of the store is guarded:
        inserts carry ids that the caller made, updates name the version or the attempt they start from, so a phase that was
        committed although its answer got lost is refused by its own traces, and the flow then reads what is there; `resent` tells
        that it has to. A time-out is not sent again: the server may still be at it.

        Raises UniqueViolation, ServiceUnavailable or InternalError.
        """
        self.resent = False
        try:
            with _errors_as_ours():
                return self._flush(statements)
        except ConnectionLost:
            self.resent = True
            try:
                with _errors_as_ours():
                    return self._flush(statements)
            except ConnectionLost as error:
                raise ServiceUnavailable(f"The books cannot be reached: {error}.", retry_after_s=RETRY_AFTER_S) from None

    def _flush(self, statements: Sequence[Bound]) -> list[list[Row]]:
        if self._connection is not None and self._connection.is_stale():
            self.close()
        connection = self._connection or self._connect()
        self._connection = None  # until the answer is complete it belongs to nobody: an exception leaves it out of step
        try:
            rows = connection.flush(statements)
        except DatabaseError as error:
            # A complete error answer ends with ReadyForQuery, so the connection is in step, unless the server is leaving.
            if _fields(error).get("C", "")[:2] in ("57", "08", "25"):
                _close_quietly(connection)
            else:
                self._connection = connection
            raise
        except BaseException:
            _close_quietly(connection)
            raise
        self._connection = connection
        return rows

    def close(self) -> None:
        if self._connection is not None:
            _close_quietly(self._connection)
            self._connection = None


def _close_quietly(connection: Connection) -> None:
    # What it raises does not matter: it is broken already, which is why it goes. The file over the socket may hold bytes that
    # were never sent, and would try them once more when it is collected.
    file = connection._sock
    for part in (connection, file):
        with suppress(InterfaceError, OSError, ValueError, AttributeError):
            part.close()


def _fields(error: DatabaseError) -> Mapping[str, str]:
    """The fields of an ErrorResponse by their one-letter codes: C the SQLSTATE, n the constraint."""
    return error.args[0] if error.args and isinstance(error.args[0], dict) else {}


SQLSTATE_ERRORS: Mapping[str, type[ConnectionLost | ServiceUnavailable]] = {
    "57P01": ConnectionLost,  # admin_shutdown: the transaction was rolled back, the next server may be up already
    "57P02": ConnectionLost,  # crash_shutdown
    "57P03": ServiceUnavailable,  # cannot_connect_now: starting up
    "57014": ServiceUnavailable,  # query_canceled: statement_timeout
    "55P03": ServiceUnavailable,  # lock_not_available: lock_timeout
    "40001": ConnectionLost,  # serialization_failure: rolled back, worth one more try
    "40P01": ConnectionLost,  # deadlock_detected: rolled back, worth one more try
    "25": ConnectionLost,  # invalid transaction state, among them idle_in_transaction_session_timeout
    "08": ConnectionLost,  # connection exceptions, among them a pooler's "server closed the connection"
    "53": ServiceUnavailable,  # insufficient resources: too many connections, disk full
    "28": ServiceUnavailable,  # the login was refused: an expired token, a password being rotated
    "3D": ServiceUnavailable,  # the database is not there (yet)
}
"""What a server's error means to a flow, by SQLSTATE or its class (the first two characters). The rest is InternalError."""


@contextmanager
def _errors_as_ours() -> Iterator[None]:
    """Foreign errors as ours, without their text: a server's DETAIL quotes whole rows, the payment token among them."""
    try:
        yield
    except DatabaseError as error:
        fields = _fields(error)
        sqlstate, constraint = fields.get("C", ""), fields.get("n", "")
        if sqlstate == "23505":
            raise UniqueViolation(constraint) from None
        kind = SQLSTATE_ERRORS.get(sqlstate) or SQLSTATE_ERRORS.get(sqlstate[:2])
        if kind is ConnectionLost:
            raise ConnectionLost(f"SQLSTATE {sqlstate}") from None
        if kind is ServiceUnavailable:
            raise ServiceUnavailable(f"The books cannot answer now: SQLSTATE {sqlstate}.", retry_after_s=RETRY_AFTER_S) from None
        raise InternalError(f"SQLSTATE {sqlstate} {constraint}".strip()) from None
    except (InterfaceError, OSError, ValueError, AttributeError) as error:
        # pg8000 wraps most socket errors in InterfaceError and lets others through; a ValueError or AttributeError is a write
        # to a socket that it has closed.
        if isinstance(error, TimeoutError) or isinstance(error.__cause__, TimeoutError):
            raise ServiceUnavailable("The books did not answer in time.", retry_after_s=RETRY_AFTER_S) from None
        raise ConnectionLost(type(error.__cause__ or error).__name__) from None
