"""Makes the topic of a deployment, as durable as its brokers allow."""

from __future__ import annotations

from collections.abc import Sequence

from payments.broker.login import Security

REPLICAS = 3
"""At most three replicas, and no more than brokers. Two of them acknowledge an event, so one broker may be away."""

DURABLE = {"min.insync.replicas": "2", "unclean.leader.election.enable": "false"}
"""By default `acks=all` needs one in-sync replica only, and an event could be lost with this one."""


def create_topic(bootstrap_servers: Sequence[str], topic: str, partitions: int, security: Security) -> bool:
    """Make the topic. Returns False when it exists already. Raises KafkaError."""
    from kafka import errors
    from kafka.admin import KafkaAdminClient, NewTopic

    admin = KafkaAdminClient(bootstrap_servers=list(bootstrap_servers), **security())
    try:
        replicas = min(len(admin.describe_cluster()["brokers"]), REPLICAS)
        try:
            admin.create_topics([NewTopic(topic, partitions, replicas, topic_configs=DURABLE if replicas > 1 else {})])
        except (
            errors.InvalidConfigurationError,
            errors.InvalidReplicationFactorError,
            errors.InvalidRequestError,
            errors.PolicyViolationError,
        ):
            # MSK Serverless decides on replicas and settings itself.
            admin.create_topics([NewTopic(topic, partitions, -1)])
    except errors.TopicAlreadyExistsError:
        return False
    finally:
        admin.close()
    return True
