"""How a process of the command line ends: the one place that decides the exit code.

Once the service has answered a command that moves money, its answer alone decides. Nothing that happens to the output changes it.
This module imports only the standard library, so that it stands before anything can fail.
"""

import contextlib
import io
import json
import os
import select
import shutil
import signal
import sys
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from traceback import extract_tb
from typing import Any, NoReturn

NARROWEST, WIDEST = 20, 1000  # columns that we lay out for; a wrong COLUMNS must neither hide the output nor take all memory
# Control characters, directions of reading, half characters and line separators can make a terminal show another text.
UNSAFE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
JOINERS = "\u200c\u200d"  # Persian words and some emoji need them


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


class CtrlC:
    """What Ctrl-C does: the first one interrupts the command, unless that has ended. It must not end Python, whose own exit code
    would hide the service's answer.

    A wrapper may pass the same Ctrl-C on a second time, so only the third one ends the process at once.
    """

    def __init__(self) -> None:
        self._times = 0
        self.has_ended = False
        self.exit_code: int | None = None

    def __call__(self, *_: object) -> None:
        self._times += 1
        if self._times > 2:
            answered = course.failed.exit_code if course.failed else course.answered
            os._exit(next(code for code in (self.exit_code, answered, Exit.INTERRUPTED) if code is not None))
        if self._times == 1 and not self.has_ended:
            raise KeyboardInterrupt


ctrl_c = CtrlC()


def main() -> NoReturn:
    """Run the command line."""
    _take_streams()
    _correct_environment()
    is_ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # not if the parent lets its children ignore Ctrl-C
    ended: BaseException | None = None
    try:
        try:
            if is_ours:
                signal.signal(signal.SIGINT, ctrl_c)
            from payments_cli.main import app

            app(prog_name="payments")
        except BaseException as error:  # Python would end with 1, which means that the service refused
            ended = error
        ctrl_c.has_ended = True
    except KeyboardInterrupt as error:  # it came right after the end; only the first Ctrl-C raises this, so no other one follows
        ended = ended or error
    ctrl_c.has_ended = True
    exit_code, problem = _verdict(ended)
    ctrl_c.exit_code = exit_code
    with contextlib.suppress(Exception):  # what cannot be told changes nothing
        is_open = course.again and course.answered is None and (problem or {}).get("code") != "unreachable"
        if is_open and exit_code in (Exit.UNKNOWN, Exit.UNAVAILABLE, Exit.INTERRUPTED):
            say(course.again)
        if problem:
            _tell(problem)
    if is_ours:
        # While Python ends, it gives back to Ctrl-C its effect of killing the process, but leaves it ignored if it is.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(exit_code)


def plain(value: Any) -> Any:
    """Return the text, or all texts in the value, with escapes in the place of what could make a terminal show something else."""
    if isinstance(value, str):
        if value.isprintable():
            return value
        return "".join(
            character.encode("unicode_escape").decode()
            if unicodedata.category(character) in UNSAFE and character not in JOINERS
            else character
            for character in value
        )
    if isinstance(value, dict):
        return {plain(name): plain(each) for name, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list) else value


def say(line: str) -> bool:
    """Show a line to the person who waits. Return whether standard error takes it; this never raises an error."""
    sys.stderr.write(plain(line) + "\n")
    sys.stderr.flush()
    return not (isinstance(sys.stderr, _Text) and sys.stderr.channel.failed)


class _Channel(io.RawIOBase):
    """A standard stream that fails at most once. It drops what is written later, so that Python's flush at the end succeeds."""

    def __init__(self, raw: io.RawIOBase | io.FileIO, *, raises: bool) -> None:
        self._raw = raw
        self._raises = raises
        self.failed = False

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self._raw.isatty()

    def fileno(self) -> int:
        return self._raw.fileno()

    def write(self, data: Any) -> int:
        if self.failed:
            return len(data)
        try:
            while (written := self._raw.write(data)) is None:  # it belongs to a program that does not wait; we do
                select.select([], [self._raw], [])
            return written
        except OSError as error:
            self.failed = True
            if self._raises:
                raise OutputFailed(error) from None
            return len(data)
        except BaseException:  # Ctrl-C while nobody reads: at the end, the rest would wait for the reader again
            self.failed = True
            raise


class _Text(io.TextIOWrapper):
    def __init__(self, given: Any, *, raises: bool) -> None:
        """`given` is Python's own stream, or None if its descriptor was closed."""
        # Writing to this descriptor fails as it does with a closed one, and no connection gets the number of a standard stream.
        raw = getattr(given.buffer, "raw", given.buffer) if given else io.FileIO(os.open(os.devnull, os.O_RDONLY), "w")
        self.channel = _Channel(raw, raises=raises)
        encoding = given.encoding if given else "utf-8"
        super().__init__(io.BufferedWriter(self.channel), encoding, "backslashreplace", line_buffering=True)


def _take_streams() -> None:
    """Put streams in the place of Python's that can show every character and whose failures we know."""
    if sys.__stdin__ is None:
        sys.stdin = Path(os.devnull).open()  # noqa: SIM115 - it stays open
    sys.stdout = _Text(sys.__stdout__, raises=True)
    sys.stderr = _Text(sys.__stderr__, raises=False)


def _correct_environment() -> None:
    """Take away what rich and Typer cannot use, and say in their words what NO_COLOR means: no bold letters either."""
    for name in ("COLUMNS", "LINES", "TERMINAL_WIDTH"):
        value = os.environ.get(name, "")
        if not (value.isascii() and value.isdigit() and NARROWEST <= int(value[:9]) <= WIDEST):
            os.environ.pop(name, None)
    if shutil.get_terminal_size().columns < NARROWEST:
        os.environ["COLUMNS"] = str(NARROWEST)
    if os.environ.get("NO_COLOR"):
        os.environ["_TYPER_FORCE_DISABLE_TERMINAL"] = "1"


def _verdict(error: BaseException | None) -> tuple[int, dict[str, Any] | None]:
    """Return the exit code, and the problem to tell if nobody has told it yet."""
    error = course.failed or error  # Ctrl-C may have come on its way to us
    if isinstance(error, SystemExit) and isinstance(error.__context__, OSError):
        error = error.__context__  # Typer ends with 1 when any pipe is broken
    exit_code, problem = _first_verdict(error)
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


def _first_verdict(error: BaseException | None) -> tuple[int, dict[str, Any] | None]:
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


def _tell(problem: Mapping[str, Any]) -> None:
    if "--json" in sys.argv:
        say(json.dumps(problem))
        return
    try:
        from payments_cli import output

        output.err.print(output.problem_text(plain(problem)))
    except Exception:  # a problem of an unknown form, or a library is missing
        say(json.dumps(problem))
