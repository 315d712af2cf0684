from __future__ import annotations

from pathlib import Path

import pytest

from tests.servers import PgBouncer


@pytest.fixture(scope="module")
def _pgbouncer(servers_folder: Path) -> None:
    """Skip the test without PgBouncer. The mark `server` comes from `servers_folder`: the harness starts servers of its own."""
    if not PgBouncer.program():
        pytest.skip("PgBouncer is not installed (apt-get install pgbouncer, brew install pgbouncer)")
