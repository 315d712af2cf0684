"""Connections for looking into the books from outside, and for breaking them as a test needs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pg8000.native
import pytest

from local.servers import connect
from payments.store import connection
from tests.servers import Database


@pytest.fixture
def owner(database: Database) -> Iterator[pg8000.native.Connection]:
    """The owner, in a transaction that is rolled back at the end: whatever the test does, the next one does not see it."""
    with contextlib.closing(connect(database.owner_url)) as opened:
        opened.run("BEGIN")
        yield opened
        opened.run("ROLLBACK")


@pytest.fixture
def service(database: Database) -> Iterator[pg8000.native.Connection]:
    """The service's role, each statement a transaction of its own."""
    with contextlib.closing(connect(database.service_url)) as opened:
        yield opened


@pytest.fixture
def db(database: Database) -> Iterator[connection.Database]:
    """The books as the service sees them."""
    opened = connection.Database.at(database.service_url)
    yield opened
    opened.close()
