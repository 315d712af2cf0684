"""Connections to the shared database: the owner's, the service role's, and one through the service's own class."""

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
    """A connection of the owner in a transaction that is rolled back at the end, so that no other test sees its changes."""
    with contextlib.closing(connect(database.owner_url)) as opened:
        opened.run("BEGIN")
        yield opened
        opened.run("ROLLBACK")


@pytest.fixture
def service(database: Database) -> Iterator[pg8000.native.Connection]:
    """A connection of the service's role. Each statement is a transaction of its own."""
    with contextlib.closing(connect(database.service_url)) as opened:
        yield opened


@pytest.fixture
def db(database: Database) -> Iterator[connection.Database]:
    """The database through the service's own connection class."""
    opened = connection.Database.at(database.service_url)
    yield opened
    opened.close()
