from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers import Database, Postgres
from tests.shop import Books, Shop


@pytest.fixture
def shop(database: Database) -> Iterator[Shop]:
    """A shop in the shared database, with an owner of its own."""
    opened = Shop.on(database)
    yield opened
    opened.close()


@pytest.fixture
def books(database: Database) -> Books:
    return Books(database.owner_url)


@pytest.fixture(scope="session")
def _emptied_database(postgres: Postgres) -> Database:
    return postgres.new_database()


@pytest.fixture
def lone_books(_emptied_database: Database) -> Books:
    """An empty database, for reconcile and relay, which work on all rows. Deleting rows is quicker than making a new database."""
    books = Books(_emptied_database.owner_url)
    for table in (
        *("outbox", "operations", "refunds", "payment_status_history", "payments"),
        "webhooks",
        "webhook_deliveries",
        "disputes",
        "gateway_events",
        "gateway_pulls",
    ):
        books.query(f"DELETE FROM {table}")
    return books


@pytest.fixture
def lone_database(_emptied_database: Database, lone_books: Books) -> Database:
    return _emptied_database


@pytest.fixture
def lone_shop(lone_database: Database) -> Iterator[Shop]:
    """The only shop in the emptied database."""
    opened = Shop.on(lone_database)
    yield opened
    opened.close()
