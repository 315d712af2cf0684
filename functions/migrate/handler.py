"""Invoked by hand after a deployment: apply new migrations, set up the functions' roles, make a missing topic.

The folder migrations/ ships with this function.
"""

import os
from pathlib import Path
from typing import Any

from migrations.apply import migrate
from migrations.topic import create_topic
from payments import wiring
from payments.aws_auth import password_by, secret
from payments.broker.login import security_by
from payments.telemetry import instrumented

MIGRATIONS = Path(__file__).with_name("migrations")


@instrumented
def lambda_handler(event: Any, context: Any) -> dict[str, Any]:
    settings = wiring.settings()
    service, scheduled = os.environ.get("DATABASE_SERVICE_SECRET"), os.environ.get("DATABASE_SCHEDULED_SECRET")
    secrets = {"payments_service": service, "payments_scheduled": scheduled}
    passwords = {role: secret(arn)["password"] for role, arn in secrets.items() if arn}
    owner_password = password_by(os.environ.get("DATABASE_OWNER_AUTH") or "url")
    applied = migrate(os.environ["DATABASE_OWNER_URL"], MIGRATIONS, owner_password, passwords=passwords)
    partitions = int(os.environ.get("KAFKA_TOPIC_PARTITIONS") or 12)
    made = create_topic(settings.kafka_bootstrap_servers, settings.kafka_topic, partitions, security_by(settings.kafka_auth))
    return {"applied": applied, "topic_made": made}
