"""Who gets how many of the server's connections: relay and reconcile log in as a role of their own, and callers have a limit.

Roles belong to the server and not to the database, so each run looks after the limit: a dump does not hold it, and the server may
have got more connections since.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from pg8000.exceptions import DatabaseError

logger = logging.getLogger(__name__)

SCHEDULED = 8
"""Relay runs once at a time and reconcile up to five times (template.yaml), and each may be invoked by hand as well."""

MIGRATE = 2
"""The migrations themselves, and the look at who blocks them."""

FEWEST = 20
"""An operator gives this service no fewer connections. With fewer, callers would get less than what relay and reconcile keep."""

# RDS Proxy opens 90 % of max_connections (template.yaml). Without a proxy the other tenth is for people. A small server may keep
# more than a tenth for superusers. `always/payments_service.sql` has made the roles, or noted why it could not.
SHARE = f"""
DO $$
DECLARE
    most integer := current_setting('max_connections');
    kept integer := current_setting('superuser_reserved_connections')::integer
                    + coalesce(current_setting('reserved_connections', true), '0')::integer; -- PostgreSQL 15 has none
    ours integer := least(coalesce(nullif({{connections}}, 0), most * 9 / 10), most - kept);
    callers integer := greatest(ours - {SCHEDULED + MIGRATE}, 1);
BEGIN
    IF to_regrole('payments_service') IS NULL THEN
        RETURN; -- The folder holds other migrations than ours.
    END IF;
    IF current_setting('payments.refused', true) <> '' THEN
        RAISE insufficient_privilege USING MESSAGE = current_setting('payments.refused');
    END IF;
    IF callers <> (SELECT rolconnlimit FROM pg_roles WHERE rolname = 'payments_service') THEN
        EXECUTE format('ALTER ROLE payments_service CONNECTION LIMIT %s', callers);
    END IF;
END
$$
"""

TRIES, PAUSE_S = 5, 0.2
"""Two databases of one server may be migrated at once. The second one tries again, and then finds nothing to do."""

AT_ONCE = ("23505", "42710", "XX000")
"""SQLSTATEs of two that make or change a role at once: unique_violation, duplicate_object, and "tuple concurrently updated"."""


def repeated(change: Callable[..., object], *arguments: object) -> None:
    """Make a change of the server's roles, and make it again where another database's migrations met it there.

    The error comes when the other one has committed. Raises DatabaseError when it is the same after TRIES tries.
    """
    for tries in range(1, TRIES + 1):
        try:
            change(*arguments)
            return
        except DatabaseError as error:
            if sqlstate(error) not in AT_ONCE or tries == TRIES:
                raise
        time.sleep(PAUSE_S)


def sqlstate(error: DatabaseError) -> str:
    details = error.args[0] if error.args else None
    return str(details.get("C", "")) if isinstance(details, dict) else ""


def share_connections(connection: Any, connections: int = 0) -> None:
    """Limit payments_service to what relay, reconcile and migrate leave of the connections.

    `connections` are those of the server that this service may have; 0 stands for 90 % of max_connections. A warning says
    that a small server leaves few to callers. Another one says that the owner has not the right to change the roles, which an
    administrator may have kept: relay and reconcile then work as payments_service.
    """
    try:
        repeated(connection.execute_simple, SHARE.format(connections=connections))
    except DatabaseError as error:
        if sqlstate(error) != "42501":
            raise
        logger.warning(
            "the owner may not change the roles (%s), so relay and reconcile have no connections of their own: see"
            " docs/operations.md",
            error.args[0].get("M"),
        )
        return
    rows = connection.execute_simple("SELECT rolconnlimit FROM pg_roles WHERE rolname = 'payments_service'").rows
    if rows and rows[0][0] < FEWEST - SCHEDULED - MIGRATE:
        logger.warning("the server's max_connections leaves callers a CONNECTION LIMIT of %d: see docs/operations.md", rows[0][0])
