"""A connection is used only when the certificate proves the server's name.

The server is a real PostgreSQL behind PgBouncer, which has a private authority's certificate as RDS Proxy has Amazon's.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from pg8000.exceptions import InterfaceError

from payments.domain.errors import ServiceUnavailable
from payments.store.address import connection_options
from payments.store.connection import Connection, Database, Statement
from tests import servers
from tests.certificates import Authority
from tests.servers import PgBouncer

ANSWER = Statement("SELECT 42")

Proxy = Callable[..., str]


@pytest.fixture(scope="module")
def authority(servers_folder: Path) -> Authority:
    folder = servers_folder / "authority"
    folder.mkdir()
    return Authority(folder)


@pytest.fixture
def proxy(database: servers.Database, authority: Authority, servers_folder: Path) -> Iterator[Proxy]:
    """`proxy(files)` starts a proxy with this certificate and key, or without TLS. It returns the URL of the database."""
    if not PgBouncer.program():
        pytest.skip("PgBouncer is not installed (apt-get install pgbouncer, brew install pgbouncer)")
    with contextlib.ExitStack() as stack:

        def started(files: tuple[Path, Path] | None = None, **more: str) -> str:
            if files:
                for file in files:
                    file.chmod(0o644)  # as root we start PgBouncer as another user
                certificate, key = map(str, files)
                more |= {"client_tls_sslmode": "require", "client_tls_cert_file": certificate, "client_tls_key_file": key}
            running = PgBouncer(database.service_url, pool_size=2, **more)
            stack.callback(running.stop)
            return f"{running.url(database.service_url)}?sslmode=verify-full&sslrootcert={authority.file}"

        yield started


@pytest.fixture
def stem(servers_folder: Path, tmp_path: Path) -> Path:
    """A path that PgBouncer can read."""
    return servers_folder / tmp_path.name


def test_the_right_certificate_is_believed(proxy: Proxy, authority: Authority, stem: Path) -> None:
    url = proxy(authority.issue(stem, "127.0.0.1"))
    connection = Connection(**connection_options(url))
    assert isinstance(connection._usock, ssl.SSLSocket)
    assert connection._usock.version() == "TLSv1.3"
    assert connection.flush([ANSWER()]) == [[[42]]]
    connection.close()


REFUSED: dict[str, tuple[str, timedelta, str]] = {
    "another host": ("db.example.com", timedelta(days=1), "IP address mismatch"),
    "run out": ("127.0.0.1", -timedelta(minutes=1), "certificate has expired"),
}


@pytest.mark.parametrize("wrong", REFUSED)
def test_a_wrong_certificate_is_refused(proxy: Proxy, authority: Authority, stem: Path, wrong: str) -> None:
    host, valid_for, reason = REFUSED[wrong]
    url = proxy(authority.issue(stem, host, valid_for=valid_for))
    with pytest.raises(ssl.SSLCertVerificationError, match=reason):
        Connection(**connection_options(url))
    with pytest.raises(ServiceUnavailable):
        Database.at(url).run(ANSWER())


def test_a_stranger_s_certificate_is_refused(proxy: Proxy, stem: Path, tmp_path: Path) -> None:
    url = proxy(Authority(tmp_path).issue(stem, "127.0.0.1"))
    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer certificate"):
        Connection(**connection_options(url))


def test_a_server_without_tls_is_refused(proxy: Proxy) -> None:
    with pytest.raises(InterfaceError, match="refuses SSL"):
        Connection(**connection_options(proxy()))


def test_a_host_that_is_not_this_machine_is_verified_by_default() -> None:
    context = connection_options("postgresql://u@db.example.com/d")["ssl_context"]
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


def test_a_token_or_secret_does_not_travel_in_plain_text() -> None:
    with pytest.raises(ValueError, match="plain text"):
        Database.at("postgresql://u@127.0.0.1/d", lambda host, port, user: "token")


def test_each_connection_logs_in_with_a_password_of_its_own(proxy: Proxy, authority: Authority, stem: Path) -> None:
    # A server that takes IAM tokens requests the password in plain text, and so does PgBouncer with `plain`.
    url = proxy(authority.issue(stem, "127.0.0.1"), auth_type="plain")
    parts = urlsplit(url)
    asked: list[tuple[str, int, str]] = []
    passwords = iter(["an expired token", unquote(parts.password or ""), unquote(parts.password or "")])

    def password(host: str, port: int, user: str) -> str:
        asked.append((host, port, user))
        return next(passwords)

    db = Database.at(parts._replace(netloc=f"{parts.username}@127.0.0.1:{parts.port}").geturl(), password)
    for _ in range(2):  # the first time the server refuses an expired password, and the client tries again with a new one
        assert [db.run(ANSWER()), db.run(ANSWER())] == [[[[42]]]] * 2
        db.close()
    assert asked == [("127.0.0.1", parts.port, "payments_service")] * 3
