"""A day, and times as callers and consumers read them."""

from datetime import UTC, datetime

DAY_S = 86400


def rfc3339(at: datetime | None) -> str | None:
    """Return UTC with microseconds, such as 2026-01-31T12:00:00.000000Z. The width is fixed, so text sorts as time does."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z") if at else None
