"""The database's address and login: DATABASE_URL as the options of a connection."""

import ssl
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from payments.aws_auth import Password
from payments.settings_error import SettingsError

CONNECT_TIMEOUT_S = 3.0
"""A healthy server in the same VPC answers a connect in milliseconds; 3 s lets one lost SYN be sent again (at 1 s)."""

SESSION = {"client_encoding": "UTF8", "DateStyle": "ISO, MDY", "TimeZone": "UTC", "standard_conforming_strings": "on"}
"""What our code and our SQL rely on. It goes into the start-up message, which overrides the settings of a role, of a database
and of postgresql.conf. A SET would pin RDS Proxy, and PgBouncer would leave it to the next client. The conditions that pin RDS
Proxy, as its documentation lists them, name SET and set_config and no parameter at start-up; it only refuses `options`.
PgBouncer follows these four and gives each client its own. It refuses others, so there are no others here. The values are
spelled as the server reports them, because PgBouncer compares the two."""


def connection_options(url: str, *, needs_tls: bool = False) -> dict[str, Any]:
    """Return pg8000's arguments for `postgresql://user:password@host:port/database?sslmode=…&sslrootcert=…`.

    `sslmode` is `disable` or `verify-full`. The default is `verify-full`, but for this machine's loopback; the modes between
    the two encrypt without checking the server's name. Raises SettingsError for any other URL, and for one without TLS when
    `needs_tls` says that a token or a secret will travel; OSError for a file of authorities that cannot be read.
    """
    try:
        parts = urlsplit(url)
        query = {name: values[-1] for name, values in parse_qs(parts.query, strict_parsing=bool(parts.query)).items()}
        port = parts.port or 5432
        ends = "@" in parts.path + parts.query or parts.fragment  # of a password, whose beginning then looks like a host
        if ends or parts.scheme not in ("postgresql", "postgres") or not parts.hostname or not parts.username:
            raise ValueError
    except ValueError:  # Its text quotes the URL: of a password with a slash, what stands before the slash.
        raise SettingsError("DATABASE_URL must read postgresql://user[:password]@host[:port]/database, percent-encoded") from None
    sslmode = query.get("sslmode", "disable" if parts.hostname in ("127.0.0.1", "localhost", "::1") else "verify-full")
    if query.keys() - {"sslmode", "sslrootcert"} or sslmode not in ("disable", "verify-full"):
        raise SettingsError("DATABASE_URL takes sslmode, which is disable or verify-full, and sslrootcert, and no other settings")
    if needs_tls and sslmode == "disable":
        raise SettingsError("DATABASE_URL must say sslmode=verify-full: tokens and secrets do not travel in plain text")
    return {
        "user": unquote(parts.username),
        "password": unquote(parts.password) if parts.password is not None else None,
        "host": parts.hostname,
        "port": port,
        "database": unquote(parts.path.lstrip("/")) or unquote(parts.username),
        "timeout": CONNECT_TIMEOUT_S,
        "startup_params": SESSION,
        "ssl_context": ssl.create_default_context(cafile=query.get("sslrootcert")) if sslmode == "verify-full" else False,
    }


def logged_in(options: dict[str, Any], password: Password | None) -> dict[str, Any]:
    """Return the options with a password made for this one connection, or unchanged when there is no password to make."""
    return options | {"password": password(options["host"], options["port"], options["user"])} if password else options
