"""Run the command line: the standard streams, Ctrl-C, the environment, and the one place that ends the process.

It comes before anything that can fail. So this module, errors and streams import only the standard library at once, and the rest
in the place that has an answer to its failure.
"""

import contextlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

from payments_cli.errors import Exit, course, verdict
from payments_cli.streams import plain, say, take_streams

NARROWEST, WIDEST = 20, 1000  # columns that we lay out for; a wrong COLUMNS must neither hide the output nor take all memory


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
    take_streams()
    _correct_environment()
    is_ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # not if the parent lets its children ignore Ctrl-C
    ended: BaseException | None = None
    try:
        try:
            if is_ours:
                signal.signal(signal.SIGINT, ctrl_c)
            from payments_cli.commands import app

            app(prog_name="payments")
        except BaseException as error:  # Python would end with 1, which means that the service refused
            ended = error
        ctrl_c.has_ended = True
    except KeyboardInterrupt as error:  # it came right after the end; only the first Ctrl-C raises this, so no other one follows
        ended = ended or error
    ctrl_c.has_ended = True
    exit_code, problem = verdict(ended)
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


def _tell(problem: Mapping[str, Any]) -> None:
    if "--json" in sys.argv:
        say(json.dumps(problem))
        return
    try:
        from payments_cli import output

        output.err.print(output.problem_text(plain(problem)))
    except Exception:  # a problem of an unknown form, or a library is missing
        say(json.dumps(problem))
