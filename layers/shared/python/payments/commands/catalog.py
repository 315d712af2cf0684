"""All commands. Their HTTP routes, direct invocations, reconcile and the contract's documents read this list and no other. A sync
is no command (commands/sync.py), and what is peculiar to a payment that waits for its customer is in customer.py."""

from typing import Any

from payments.commands.capture import Capture
from payments.commands.command import Command
from payments.commands.process import Process
from payments.commands.refund import Refund
from payments.commands.void import Void

COMMANDS: dict[str, Command[Any]] = {command.kind: command for command in (Process(), Capture(), Void(), Refund())}


def served_by(function: str) -> dict[str, Command[Any]]:
    """Return the commands of one Lambda function by their kind."""
    return {kind: command for kind, command in COMMANDS.items() if command.function == function}
