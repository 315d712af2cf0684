"""From a command's name to its request, its scope and its use case: the one list that HTTP and direct invocation share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from payments.api.callers import Scope
from payments.commands.capture import capture
from payments.commands.process import process
from payments.commands.refund import refund
from payments.commands.requests import CaptureRequest, ProcessRequest, RefundRequest, VoidRequest
from payments.commands.service import Call, Result, Service
from payments.commands.void import void
from payments.domain.operation import Kind


@dataclass(frozen=True, slots=True)
class Command:
    kind: Kind
    request: type[Any]
    scope: Scope
    carry_out: Callable[[Any, Call, Service], Result]


COMMANDS = {
    command.kind: command
    for command in (
        Command(Kind.PROCESS, ProcessRequest, Scope.WRITE, process),
        Command(Kind.CAPTURE, CaptureRequest, Scope.WRITE, capture),
        Command(Kind.VOID, VoidRequest, Scope.WRITE, void),
        Command(Kind.REFUND, RefundRequest, Scope.REFUND, refund),
    )
}
