"""One connection to PostgreSQL, one flush a phase.

pg8000 sends three Syncs for one statement with parameters. A transaction pooler (PgBouncer, RDS Proxy) may switch servers at
each Sync, and we would silently read the rows of another client's statement. Our subclass therefore sends Parse, Bind, Describe
and Execute of all statements of a phase before one Sync. PostgreSQL runs all of them in one implicit transaction,
so a phase takes one round trip and commits as a whole or not at all. Statements stay unnamed, because RDS Proxy multiplexes those
without pinning.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import re
import select
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self, cast

from pg8000 import core
from pg8000.converters import make_params
from pg8000.exceptions import DatabaseError, InterfaceError

from payments.aws_auth import Password
from payments.domain.errors import Fault, InternalError, ServiceUnavailable
from payments.store.address import connection_options, logged_in

logger = logging.getLogger(__name__)

READ_TIMEOUT_S = 6.0
"""Longer than the role's statement_timeout (5 s), so the server reports a slow statement before we give the connection up."""

IDLE_LIMIT_S = 60.0
"""We do not use a connection that was idle for longer. NAT gateways and load balancers forget an idle connection without a word
(after 350 s in AWS), and a frozen function sends no keep-alive. What we send on such a connection is lost, which would cost the
caller READ_TIMEOUT_S and a 503."""

FALLBACK_S = 45.0
"""If the role cannot log in, or the database lacks a function, we use what works for 45 s, and then try again. That is less than
the minute between two runs, so each run finds out whether the role can log in now."""

RETRY_AFTER_S = 2
"""A fail-over of RDS Proxy takes about as long. Where no connection is free, we do not try again before that."""

Row = list[Any]


class UniqueViolation(Exception):
    """A unique constraint refused the phase, and PostgreSQL rolled the whole phase back.

    `resent` says that the phase was sent twice: a server or a pooler that hung may still carry out the first sending.
    """

    resent = False


class NoConnectionFree(TimeoutError):
    """The server, or the pooler or proxy in front of it, has no connection for us. It has run nothing."""


class ConnectionLost(Exception):
    """The connection broke before the answer was complete, so we do not know whether the server committed the phase."""


class Statement:
    """SQL with `:name` parameters, which become `$1` once, at import.

    PostgreSQL plans a statement each time that it is sent, which takes as long as to carry ours out. It keeps the plans of a
    function. So one that begins with a comment is sent as the call of a function that holds its SQL and is named after the
    comment (migrations/always/plans.sql).

    What stands in [[…]] needs the migrations of this release. A database that lacks them lacks the function too, and gets the
    statement without it. The next release takes the brackets away: its functions will be missing where these columns are not.
    """

    def __init__(self, sql: str) -> None:
        self.sql, self._names = _numbered(re.sub(r"\[\[|\]\]", "", sql))
        self._older_sql, self._older_names = _numbered(re.sub(r"\[\[.*?\]\]", "", sql, flags=re.DOTALL))
        name = re.match("-- ([a-z_]+)", sql)
        self.function = f"{name[1]}_{hashlib.sha256(self.sql.encode()).hexdigest()[:12]}" if name else ""
        places = ", ".join(f"${place + 1}" for place in range(len(self._names)))
        self._call = f"SELECT * FROM {self.function}({places})" if name else ""

    def __call__(self, *records: Any, **values: object) -> Bound:
        """Bind each parameter to the value of its name, or else to the field of that name of the first dataclass that has it.

        Raises TypeError for a value without a parameter and for a parameter without a value.
        """
        for record in records:
            for name in record.__dataclass_fields__.keys() & self._names.keys() - values.keys():
                values[name] = getattr(record, name)
        if values.keys() != self._names.keys():
            raise TypeError(f"parameters differ: {sorted(values.keys() ^ self._names.keys())}")
        called = tuple([values[name] for name in self._names])
        older = tuple([values[name] for name in self._older_names]) if self._call else called
        return Bound(self._older_sql, older, self._call, called)


def _numbered(sql: str) -> tuple[str, dict[str, None]]:
    """Return the SQL with `$1` and so on in the place of its parameters, and their names in this order."""
    parameter = re.compile(r"(?<!:):([a-z_]+)")
    names = dict.fromkeys(parameter.findall(sql))
    return parameter.sub(lambda match: f"${[*names].index(match[1]) + 1}", sql), names


@dataclass(frozen=True, slots=True)
class Bound:
    """A statement with its values. `call` is the SQL that calls its function with the values `called`, if it has one. A database
    without the function gets `sql`, or else what `instead` returns."""

    sql: str
    values: tuple[object, ...]
    call: str = ""
    called: tuple[object, ...] = ()
    instead: Callable[[], Sequence[Bound]] | None = None


PING = Statement("SELECT 1")

UNDEFINED_FUNCTION = "42883"
"""The SQLSTATE. PostgreSQL has run nothing of the phase then."""


class Connection(core.CoreConnection):  # type: ignore[misc]  # pg8000 has no type information
    """pg8000's connection with `flush`, which sends any number of statements before one Sync. None is used after `ends_at_s`, a
    moment of the wall clock."""

    ends_at_s = math.inf
    has_functions = True
    """Whether the database has our statements' functions, until it says that it lacks one: `migrate` was not invoked yet."""
    _sent: Sequence[Bound] = ()

    def __init__(self, **options: Any) -> None:
        try:
            with _socket_errors():
                super().__init__(**options)
        except DatabaseError as error:
            if _no_connection_free(error):
                raise NoConnectionFree(*error.args) from None
            raise
        self._usock.settimeout(READ_TIMEOUT_S)
        # An escape of a CJK character has twice its bytes. A statement stays near the size of the request, see MAX_BODY_BYTES.
        self.register_out_adapter(dict, json.JSONEncoder(ensure_ascii=False).encode)
        # pg8000 parses a timestamptz with strptime, 10 times slower, and gives up on offsets that are not whole hours.
        self.register_in_adapter(1184, lambda text: datetime.fromisoformat(text).astimezone(UTC))

    def flush(self, statements: Sequence[Bound]) -> list[list[Row]]:
        """Run the statements in one transaction and return the rows of each. Raises DatabaseError, InterfaceError or OSError."""
        self.send(statements)
        return self.receive()

    def send(self, statements: Sequence[Bound]) -> None:
        """Send the statements, as one transaction. `receive` has to be called before the next ones."""
        if not (calls := self.has_functions):
            statements = [one for statement in statements for one in (statement.instead() if statement.instead else [statement])]
        # All values are encoded before the first byte leaves, so that a defect of ours shows before anything is written.
        sent = [(one.call, one.called) if calls and one.call else (one.sql, one.values) for one in statements]
        messages = [_extended_query(sql, make_params(self.py_types, values)) for sql, values in sent]
        with _socket_errors():
            self._sock.write(b"".join(messages) + core.SYNC_MSG)
            self._sock.flush()
        self._sent = statements

    def receive(self) -> list[list[Row]]:
        """Return the rows of each statement that was sent last."""
        statements, self._sent = self._sent, ()
        try:
            return self._rows([core.Context(statement.sql) for statement in statements])
        except DatabaseError as error:
            if not self.has_functions or _fields(error).get("C") != UNDEFINED_FUNCTION:
                raise
            self.has_functions, self.ends_at_s = False, min(self.ends_at_s, time.time() + FALLBACK_S)
        return self.flush(statements)

    def _rows(self, contexts: Sequence[core.Context]) -> list[list[Row]]:
        position = completed = 0
        for code, message in self._messages():
            self.message_types[code](message, contexts[position])
            if code == core.ERROR_RESPONSE and _no_connection_free(contexts[position].error):
                raise NoConnectionFree(*contexts[position].error.args)  # PgBouncer hangs up, and no ReadyForQuery follows.
            completed += code == core.COMMAND_COMPLETE
            position = min(completed, len(contexts) - 1)
        # After an error the server skips everything up to the Sync, so `position` is at the statement that failed.
        if contexts[position].error is not None:
            raise contexts[position].error
        if completed != len(contexts):
            # We take a phase for committed only when the server has confirmed every statement of it.
            raise InterfaceError(f"{completed} of {len(contexts)} statements were answered")
        return [context.rows or [] for context in contexts]

    def _messages(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield the code and the body of each message of the server, up to its ReadyForQuery."""
        code = None
        with _socket_errors():
            while code != core.READY_FOR_QUERY:
                code, length = core.ci_unpack(core._read(self._sock, 5))
                yield code, core._read(self._sock, length - 4)

    def is_stale(self) -> bool:
        """Return whether the server has sent something or hung up since our last statement; an idle server does neither."""
        with _socket_errors():
            return bool(select.select([self._usock], [], [], 0)[0])


@contextmanager
def _socket_errors() -> Iterator[None]:
    """A closed socket makes pg8000 raise ValueError or AttributeError. Anywhere else they are defects of ours."""
    try:
        yield
    except OSError:
        raise  # A certificate that cannot be verified is a ValueError too.
    except (ValueError, AttributeError) as error:
        raise InterfaceError("the connection is closed") from error


def _extended_query(sql: str, params: Sequence[str | None]) -> bytes:
    """Return Parse, Bind, Describe and Execute of an unnamed statement."""
    parse = core._create_message(core.PARSE, b"\0" + sql.encode() + b"\0\0\0")
    values = [core.i_pack(-1) if value is None else core.i_pack(len(text := value.encode())) + text for value in params]
    bind = core._create_message(core.BIND, b"\0\0\0\0" + core.H_pack(len(params)) + b"".join(values) + b"\0\0")
    return bytes(parse + bind + core._create_message(core.DESCRIBE, core.PORTAL + b"\0") + core.EXECUTE_MSG)


class Database:
    """The one connection of this process. It is opened at first use, and again after an error that left it out of step.

    `clock` has to go on while the function is frozen, as the wall clock does and a monotonic clock does not.
    """

    def __init__(self, connect: Callable[[], Connection], clock: Callable[[], float] = time.time) -> None:
        self._connect, self._clock = connect, clock
        self._connection: Connection | None = None
        self._when_unread_fails: Callable[[], None] | None = None
        self._used_at_s = self._full_until_s = 0.0

    @classmethod
    def at(cls, url: str, password: Password | None = None, role: str = "") -> Self:
        """Return the database at the URL. We log in as `role`, if there is one, and else as the URL's user."""
        options = connection_options(url, needs_tls=password is not None)
        return cls(lambda: _connection(options, password, role))

    def run(self, *statements: Bound) -> list[list[Row]]:
        """Do as `send`, and return the rows alone."""
        return self.send(*statements)[0]

    def send(self, *statements: Bound) -> tuple[list[list[Row]], bool]:
        """Run the statements in one transaction and one round trip. Returns the rows of each, and whether it was sent twice.

        When the connection breaks, a new one sends the phase once more. That is safe because every phase of the store guards
        itself: inserts carry ids that the caller made, and updates name the version or the attempt that they start from. If the
        first sending was committed, its rows refuse the second one, and the flow reads them because it was sent twice. A phase
        that timed out is not sent again, because the server may still be working on it.

        Raises UniqueViolation, ServiceUnavailable or InternalError.
        """
        with suppress(ConnectionLost), _errors_as_ours():
            return self._flush(statements), False
        try:
            with _errors_as_ours():
                return self._flush(statements), True
        except UniqueViolation as violation:
            violation.resent = True
            raise
        except ConnectionLost as error:
            raise _unavailable(str(error)) from None

    def send_without_waiting(self, statement: Bound, failed: Callable[[], None]) -> None:
        """Send a statement and leave its answer to whatever is run next. Does not raise: `failed` is called in the handler of an
        error, now or then."""
        with _heard_by(failed):
            self._make_ready()
            self._use(lambda connection: connection.send([statement]))
            self._when_unread_fails = failed

    def _flush(self, statements: Sequence[Bound]) -> list[list[Row]]:
        self._make_ready()
        return cast("list[list[Row]]", self._use(lambda connection: connection.flush(statements)))

    def _make_ready(self) -> None:
        """Read what was left unread, and drop a connection that should not be used again."""
        now_s = self._clock()
        if 0 < self._full_until_s - now_s <= RETRY_AFTER_S:
            # A caller has waited in the pool's queue in vain. He and those after him hear at once when to come again, so one
            # caller in a while waits, and the queue of a database that is stuck does not grow by our tries.
            raise NoConnectionFree
        idle_s, self._used_at_s = now_s - self._used_at_s, now_s
        failed, self._when_unread_fails = self._when_unread_fails, None
        # A clock that was set back does not say how long the connection was idle.
        if self._connection is not None and (not 0 <= idle_s <= IDLE_LIMIT_S or now_s > self._connection.ends_at_s):
            self.close()
        if self._connection is not None and failed is not None:
            with _heard_by(failed):
                self._use(Connection.receive)
        if self._connection is not None and self._connection.is_stale():
            self.close()

    def _use(self, use: Callable[[Connection], Any]) -> Any:
        """Use the connection, a new one if there is none, and keep it unless an exception leaves it out of step."""
        connection = self._connection
        self._connection = None  # until the answer is complete: an exception would leave it out of step
        try:
            connection = connection or self._connect()
            used = use(connection)
        except BaseException as error:
            if isinstance(error, NoConnectionFree):
                self._full_until_s = self._clock() + RETRY_AFTER_S
            # A complete error answer ends with ReadyForQuery, so the connection is in step, unless the server is leaving.
            if isinstance(error, DatabaseError) and _fields(error).get("C", "")[:2] not in ("57", "08", "25"):
                self._connection = connection
            elif connection is not None:
                _close_quietly(connection)
            raise
        # The pause may come from the old answer to what was sent without waiting. Whoever has a connection goes on: a settle
        # follows a charge.
        self._connection, self._full_until_s = connection, 0.0
        return used

    def close(self) -> None:
        if self._connection is not None:
            _close_quietly(self._connection)
            self._connection = None


def _connection(options: dict[str, Any], password: Password | None, role: str) -> Connection:
    """Log in as `role`. If that fails, log in as the options' user: a role that is not there yet, or has no login, costs the
    function the connections that are kept for it, and not its work."""
    if role:
        probe = Database(lambda: Connection(**logged_in(options | {"user": role}, password)))
        try:
            # A pooler may let a client in that the server refuses, and keep it waiting, or hang up, at its first statement.
            probe._flush([PING()])
            return cast(Connection, probe._connection)
        except (DatabaseError, InterfaceError, OSError) as error:
            logger.warning("%s cannot log in (%s); going on as %s", role, _fields(error).get("C", "no answer"), options["user"])
    connection = Connection(**logged_in(options, password))
    if role:
        connection.ends_at_s = time.time() + FALLBACK_S
    return connection


def _close_quietly(connection: Connection) -> None:
    # The connection is broken already, so its errors do not matter. The file over the socket may hold bytes that were never sent,
    # and would try to send them when the collector closes it.
    file = connection._sock
    for part in (connection, file):
        with suppress(InterfaceError, OSError, ValueError, AttributeError):
            part.close()


def _fields(error: Exception | None) -> Mapping[str, str]:
    """The fields of an ErrorResponse by their one-letter codes: C the SQLSTATE, M the message, n the constraint."""
    return error.args[0] if error and error.args and isinstance(error.args[0], dict) else {}


def _no_connection_free(error: Exception | None) -> bool:
    return bool(NO_CONNECTION_FREE.search(" ".join(_fields(error).get(code, "") for code in "CM")))


SQLSTATE_ERRORS: Mapping[str, type[ConnectionLost | ServiceUnavailable]] = {
    "57": ConnectionLost,  # operator intervention, among them shutdowns: rolled back, the next server may be up already
    "57P03": ServiceUnavailable,  # cannot_connect_now: starting up
    "57014": ServiceUnavailable,  # query_canceled: statement_timeout
    "55P03": ServiceUnavailable,  # lock_not_available: lock_timeout
    "40": ConnectionLost,  # rolled back, such as serialization_failure and deadlock_detected: worth one more try
    "25": ConnectionLost,  # invalid transaction state, among them idle_in_transaction_session_timeout
    "08": ConnectionLost,  # connection exceptions, among them a pooler's "server closed the connection"
    "53": ServiceUnavailable,  # insufficient resources, such as a full disk
    "28": ServiceUnavailable,  # the login was refused: an expired token, a password being rotated
    "3D": ServiceUnavailable,  # the database is not there (yet)
}
"""Our error for each SQLSTATE, or for its class (the first two characters). All others are InternalError."""

_PGBOUNCER = "max_[a-z_]*conn|query_(wait_)?timeout|client_login_timeout|server login has been failing"
NO_CONNECTION_FREE = re.compile(f"^53300|{_PGBOUNCER}|too many c|slots are reserved|Timed-out waiting|proxy exceeded")
"""PostgreSQL's SQLSTATE at the role's limit or at the server's, and what PgBouncer and RDS Proxy say when they have no connection
for us, under the SQLSTATE of a broken one (PgBouncer: 08P01). An old PgBouncer repeats PostgreSQL's words under it. The statement
reached no server, and a second try would only wait once more. ADR 18 has the messages."""


@contextmanager
def _heard_by(failed: Callable[[], None]) -> Iterator[None]:
    try:
        with _errors_as_ours():
            yield
    except Exception:  # Nobody waits for this statement, so nobody else hears of its failure.
        failed()


@contextmanager
def _errors_as_ours() -> Iterator[None]:
    """Turn foreign errors into ours, without their text: the server's DETAIL quotes whole rows with their payment tokens."""
    try:
        yield
    except DatabaseError as error:
        fields = _fields(error)
        sqlstate, constraint = fields.get("C", ""), fields.get("n", "")
        note = f"SQLSTATE {sqlstate} {constraint}".strip()
        if sqlstate == "23505":
            raise UniqueViolation(constraint) from None
        kind = SQLSTATE_ERRORS.get(sqlstate) or SQLSTATE_ERRORS.get(sqlstate[:2])
        if kind is not None:
            raise (ConnectionLost(note) if kind is ConnectionLost else _unavailable(note)) from None
        detail = "refused the statement" if sqlstate != "22P05" else "is not encoded as UTF8 and cannot hold this text"
        # A repeated request would cause these classes again: a value that the server cannot take, a constraint.
        raise _noted(InternalError(f"The database {detail}.", retryable=sqlstate[:2] not in ("22", "23")), note) from None
    except (InterfaceError, OSError) as error:
        # pg8000 wraps most socket errors in InterfaceError and lets the others through.
        note = type(error.__cause__ or error).__name__
        timed_out = isinstance(error, TimeoutError) or isinstance(error.__cause__, TimeoutError)
        raise (_unavailable(note) if timed_out else ConnectionLost(note)) from None


def _unavailable(note: str) -> Fault:
    return _noted(ServiceUnavailable("The database is unavailable; try again.", retry_after_s=RETRY_AFTER_S), note)


def _noted(error: Fault, note: str) -> Fault:
    """Return the error with a note for our log; no caller reads it."""
    error.add_note(note)
    return error
