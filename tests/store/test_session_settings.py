"""We ask for the settings that the code relies on, so that no role, database or encoding changes what we read and write."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace

import pytest

from local.servers import connect
from migrations.apply import MigrationError, migrate
from payments.domain.errors import InternalError
from payments.domain.ids import uuid7
from payments.store import connection
from payments.store.address import connection_options
from payments.store.connection import Statement
from payments.store.lookups import find_payment
from tests import servers
from tests.cases import case
from tests.domain.examples import payment
from tests.servers import MIGRATIONS, PgBouncer, with_database
from tests.store.any_payment import INSERT_PAYMENT

TEXT = "Zoë 注文 😀 \\ '"

SETTINGS = [
    ("datestyle", "'German'"),
    ("datestyle", "'SQL, DMY'"),
    ("datestyle", "'Postgres, MDY'"),
    ("client_encoding", "'LATIN1'"),
    ("client_encoding", "'SJIS'"),
    ("client_encoding", "'SQL_ASCII'"),
    ("timezone", "'Asia/Kolkata'"),
    ("timezone", "'<+167>-167'"),
    ("standard_conforming_strings", "off"),
    ("intervalstyle", "'iso_8601'"),
    ("bytea_output", "'escape'"),
    ("extra_float_digits", "-15"),
    ("default_transaction_isolation", "'serializable'"),
]
"""The first nine would change what we read or write. We rely on none of the others, and no pooler follows them."""

Through = Callable[[str], str]


@pytest.fixture(params=["directly", "through a pooler"])
def through(request: pytest.FixtureRequest) -> Through:
    """Return the URL by which the test reaches the database of an URL."""
    if request.param == "directly":
        return lambda url: url
    pgbouncer: PgBouncer = request.getfixturevalue("pgbouncer")
    return pgbouncer.url


def comes_back(url: str, text: str) -> bool:
    """Return whether a payment with this text is read as it was written."""
    written = replace(payment(), payment_id=uuid7(), order_id=str(uuid7()), description=text, metadata={text: text}, owner="o")
    db = connection.Database.at(url)
    try:
        db.run(INSERT_PAYMENT(written))
        return find_payment(db, "o", "payment_id", written.payment_id) == written
    finally:
        db.close()


@pytest.mark.parametrize("target", ["ROLE payments_service IN DATABASE", "DATABASE"])
def test_settings_of_a_role_or_a_database_change_nothing(postgres: servers.Postgres, through: Through, target: str) -> None:
    database = postgres.new_database()
    name = database.owner_url.rpartition("/")[2]
    with contextlib.closing(connect(database.owner_url)) as owner:
        for setting, value in SETTINGS:
            with case((setting, value)):
                owner.run(f"ALTER {target} {name} SET {setting} = {value}")
                assert comes_back(through(database.service_url), TEXT)
                owner.run(f"ALTER {target} {name} RESET {setting}")


def test_another_client_of_the_same_pool_keeps_its_own_settings(pgbouncer: PgBouncer, own_database: servers.Database) -> None:
    url = pgbouncer.url(own_database.service_url)
    settings = {"client_encoding": "LATIN1", "DateStyle": "SQL, DMY"}
    theirs = connection.Connection(**connection_options(url) | {"startup_params": settings})
    ours = connection.Database.at(url)
    show = [Statement("SHOW client_encoding")(), Statement("SHOW DateStyle")()]
    for _ in range(4):
        assert theirs.flush(show) == [[["LATIN1"]], [["SQL, DMY"]]]
        assert ours.run(*show) == [[["UTF8"]], [["ISO, MDY"]]]
    ours.close()
    theirs.close()


def test_migrations_apply_whatever_the_database_sets(postgres: servers.Postgres) -> None:
    name = f"odd_{uuid7().hex}"
    with contextlib.closing(connect(postgres.owner_url)) as owner:
        owner.run(f"CREATE DATABASE {name} TEMPLATE template0")
        for setting, value in SETTINGS:
            owner.run(f"ALTER DATABASE {name} SET {setting} = {value}")
        assert migrate(with_database(postgres.owner_url, name), MIGRATIONS)
        assert comes_back(with_database(postgres.service_url, name), TEXT)
        owner.run(f"DROP DATABASE {name} WITH (FORCE)")


HELD = {
    "LATIN1": {"Zoë": True, "€": False, "注文": False, "😀": False},
    "WIN1252": {"Zoë": True, "€": True, "注文": False, "😀": False},
    "EUC_JP": {"Zoë": True, "€": False, "注文": True, "😀": False},
    "SQL_ASCII": {"Zoë": True, "€": True, "注文": True, "😀": True},
}
"""Which texts each encoding can hold. SQL_ASCII converts nothing and holds the bytes of UTF-8."""


@pytest.mark.parametrize("encoding", HELD)
def test_a_database_of_another_encoding_holds_what_it_can_and_says_what_it_cannot(
    postgres: servers.Postgres, through: Through, encoding: str
) -> None:
    """`migrate` refuses such a database. Its tables may have been made with psql."""
    name = f"encoded_{uuid7().hex}"
    with contextlib.closing(connect(postgres.owner_url)) as owner:
        owner.run(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'")
    url = with_database(postgres.owner_url, name)
    with pytest.raises(MigrationError, match=f"must be encoded as UTF8, not {encoding}"):
        migrate(url, MIGRATIONS)
    with contextlib.closing(connect(url)) as owner:
        for file in sorted(MIGRATIONS.glob("*.sql")):
            owner.run(file.read_text())
    for text, held in HELD[encoding].items():
        with case(text):
            if held:
                assert comes_back(through(with_database(postgres.service_url, name)), text)
                continue
            with pytest.raises(InternalError, match="not encoded as UTF8") as refused:
                comes_back(through(with_database(postgres.service_url, name)), text)
            assert not refused.value.retryable
    with contextlib.closing(connect(postgres.owner_url)) as owner:
        owner.run(f"DROP DATABASE {name} WITH (FORCE)")
