"""The restored database: through RDS's Data API, or PostgreSQL itself. Each imports its library, which is an extra."""

from __future__ import annotations

import ssl
from typing import Any
from urllib.parse import unquote, urlsplit

from payments_cli.compare import Taken
from payments_cli.errors import Exit, Failed

UNIQUE_VIOLATION = "23505"


class DataApi:
    """The cluster that the stack made: it takes no connection from outside."""

    def __init__(self, cluster_arn: str, secret_arn: str, client: Any = None) -> None:
        import boto3

        self._client = client or boto3.client("rds-data", region_name=cluster_arn.split(":")[3])
        self._where = {"resourceArn": cluster_arn, "secretArn": secret_arn, "database": "payments"}

    def value(self, sql: str, **parameters: object) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer = self._client.execute_statement(
                **self._where, sql=sql, parameters=[{"name": name, "value": _typed(value)} for name, value in parameters.items()]
            )
        except ClientError as error:
            text = str(error)
            if UNIQUE_VIOLATION in text or "duplicate key value" in text:
                raise Taken from None
            problem = {"title": "The Data API refused a statement", "detail": text, "code": error.response["Error"]["Code"]}
            raise Failed(problem, Exit.REFUSED) from None
        except BotoCoreError as error:
            problem = {"title": "AWS cannot be called", "detail": str(error), "code": type(error).__name__}
            raise Failed(problem, Exit.UNAVAILABLE) from None
        [[value]] = answer["records"]
        return next(iter(value.values()))


class Postgres:
    """A PostgreSQL of your own."""

    def __init__(self, url: str) -> None:
        import pg8000.native

        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port or 5432
            if "@" in parts.path + parts.query or parts.fragment:
                raise ValueError  # Of a password that is not encoded, the beginning looks like a host.
        except ValueError:  # Its text quotes the URL, perhaps the password.
            form = "postgresql://user:password@host/database, with other characters in percent encoding"
            problem = {"title": "The database's URL is wrong", "detail": f"It must read {form}.", "code": "database_url"}
            raise Failed(problem, Exit.USAGE) from None
        is_local = host in ("127.0.0.1", "::1", "localhost")
        try:
            self._connection = pg8000.native.Connection(
                unquote(parts.username or ""),
                host,
                parts.path.lstrip("/"),
                port,
                None if parts.password is None else unquote(parts.password),
                ssl_context=None if is_local else ssl.create_default_context(),
            )
        except (pg8000.native.InterfaceError, pg8000.native.DatabaseError, OSError) as error:
            raise _unavailable(error) from None

    def value(self, sql: str, **parameters: object) -> Any:
        import pg8000.native

        try:
            [[value]] = self._connection.run(sql, **parameters)
        except pg8000.native.DatabaseError as error:
            code = error.args[0].get("C") if error.args and isinstance(error.args[0], dict) else ""
            if code == UNIQUE_VIOLATION:
                raise Taken from None
            detail = error.args[0].get("M") if code else str(error)
            raise Failed({"title": "The database refused a statement", "detail": detail, "code": code}, Exit.REFUSED) from None
        except (pg8000.native.InterfaceError, OSError) as error:
            raise _unavailable(error) from None
        return value


def _unavailable(error: Exception) -> Failed:
    problem = {"title": "The database cannot be reached", "detail": str(error) or type(error).__name__, "code": "unreachable"}
    return Failed(problem, Exit.UNAVAILABLE)


def _typed(value: object) -> dict[str, object]:
    return {"longValue": value} if isinstance(value, int) else {"stringValue": str(value)}
