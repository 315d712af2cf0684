"""Invoked by hand after a deployment: applies what is new in migrations/, which is shipped with this function."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from payments.migrate import migrate
from payments.telemetry import instrumented

MIGRATIONS = Path(__file__).with_name("migrations")


@instrumented
def lambda_handler(event: Any, context: Any) -> dict[str, Any]:
    return {"applied": migrate(os.environ["DATABASE_OWNER_URL"], MIGRATIONS)}
