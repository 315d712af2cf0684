"""Refund: over HTTP, and by direct invocation from the order service."""

from payments import wiring
from payments.api.entry import command_handler

lambda_handler = wiring.after_answer.extended(command_handler("refund", wiring.service, lambda: wiring.settings().direct_owner))
