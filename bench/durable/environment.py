"""One Lambda environment: a process that handles one event, and may die of it."""

from __future__ import annotations

import logging
import os
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import boto3
from aws_durable_execution_sdk_python import durable_execution

from bench.durable.payment import pay

CLIENT = boto3.client("lambda")  # connects at its first call, so the processes that are forked from this one share nothing


def handle(event: dict[str, Any], answer: Connection) -> None:
    """Run the durable function and send what it returns. Note each call that checkpoints."""
    logging.disable()  # tracebacks of the failures that we cause

    def note(**_: Any) -> None:
        with Path(os.environ["CHECKPOINTS"]).open("a") as calls:
            calls.write(event["DurableExecutionArn"] + "\n")

    CLIENT.meta.events.register("before-call.lambda.CheckpointDurableExecution", note)
    answer.send(durable_execution(pay, boto3_client=CLIENT)(event, None))
