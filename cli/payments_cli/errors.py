"""How a command ends: its exit code, and what it says of a failure.

Once the service has answered a command that moves money, its answer alone decides. Nothing that happens to the output changes it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from traceback import extract_tb
from typing import Any


class Exit(IntEnum):
    DONE = 0
    REFUSED = 1
    USAGE = 2
    DECLINED = 3
    UNKNOWN = 4
    UNAVAILABLE = 5
    UNFORESEEN = 6
    OUTPUT = 7
    INTERRUPTED = 130
    NO_READER = 141  # as of a program that SIGPIPE ends


class Failed(Exception):
    """A command failed. `problem` is a problem document (RFC 9457): the service's own, or, if no service answered, ours with
    `title`, `detail` and `code`.
    """

    def __init__(self, problem: Mapping[str, Any], exit_code: Exit) -> None:
        super().__init__(problem.get("title"))
        self.problem = dict(problem)
        self.exit_code = exit_code


class OutputFailed(Exception):
    """Standard output cannot be written. It is no OSError, because Typer and other libraries handle those."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"Standard output cannot be written: {error.strerror}")
        self.error = error


@dataclass
class Course:
    """How far a command that moves money has come.

    `again` says how to find out what became of it; it is empty until the request may have been sent. `answered` is the exit code
    that the service's answer means, and `told` is the answer for a person to whom we can show no more. `failed` is the failure if
    there is no such answer.
    """

    again: str = ""
    answered: Exit | None = None
    told: Mapping[str, Any] = field(default_factory=dict)
    failed: Failed | None = None


course = Course()


def verdict(error: BaseException | None) -> tuple[int, dict[str, Any] | None]:
    """Return the exit code of a command that ended with this exception, and the problem to tell if nobody has told it yet."""
    error = course.failed or error  # Ctrl-C may have come on its way to us
    if isinstance(error, SystemExit) and isinstance(error.__context__, OSError):
        error = error.__context__  # Typer ends with 1 when any pipe is broken
    exit_code, problem = _without_answer(error)
    if course.answered is None or exit_code == course.answered:
        return exit_code, problem
    why = (
        "You interrupted it."
        if exit_code == Exit.INTERRUPTED
        else f"{error if isinstance(error, OutputFailed) else _name(error)}."
    )
    done = "The command was carried out" if course.answered == Exit.DONE else "The service has the command; its outcome is open"
    look = f"Look it up with: payments show {course.told.get('payment_id') or 'PAYMENT'}"
    ids = {name: value for name, value in course.told.items() if name.endswith("_id") and value}
    return course.answered, _problem(f"{done}, but its answer was not shown", f"{why} {look}", "output_failed") | ids


def _without_answer(error: BaseException | None) -> tuple[int, dict[str, Any] | None]:
    """Return what the exception means as long as the service has not answered."""
    if isinstance(error, SystemExit | None) and isinstance(code := getattr(error, "code", None), int | None):
        return code or 0, None
    if isinstance(error, Failed):
        return error.exit_code, error.problem
    if isinstance(error, KeyboardInterrupt):
        return Exit.INTERRUPTED, None
    if isinstance(error, OutputFailed):
        if isinstance(error.error, ConnectionError):
            return Exit.NO_READER, None
        return Exit.OUTPUT, _problem("The output is incomplete", f"{error}.", "output_failed")
    doubt = course.again or "The command was not sent. No money was moved."
    # We show where it came from and not its text, because a token may be in that.
    return Exit.UNFORESEEN, _problem(f"Unforeseen error: {_name(error)}", f"At {_place(error)}. {doubt}", "unforeseen_error")


def _problem(title: str, detail: str, code: str) -> dict[str, Any]:
    return {"title": title, "detail": detail, "code": code}


def _name(error: BaseException | None) -> str:
    return type(error).__name__


def _place(error: BaseException | None) -> str:
    frames = extract_tb(error.__traceback__) if error else []
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "an unknown place"
