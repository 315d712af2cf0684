"""From a command's name to its request, its scope and its use case: the one list that HTTP and direct invocation share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from payments.caller import Scope
from payments.capture import capture
from payments.domain.operation import Kind
from payments.process import process
from payments.refund import refund
from payments.requests import CaptureRequest, ProcessRequest, RefundRequest, VoidRequest
from payments.service import Call, Result, Service
from payments.void import void


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
