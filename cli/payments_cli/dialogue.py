"""How a command and the person who gives it speak: questions, times, wrong usage, and answers."""

import json
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from payments_cli.errors import Exit, Failed, OutputFailed
from payments_cli.streams import plain, say

if TYPE_CHECKING:  # a command imports it when it prints, so that help and completions are fast
    from rich.console import RenderableType


def confirm(question: str) -> None:
    """Ask at the terminal. Only a person who could read the question and says yes lets the command go on."""
    if not say(question + " [y/N]"):
        raise unsaid("The question", "Use --yes to go without it.")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise typer.Abort


def unsaid(what: str, instead: str) -> Failed:
    detail = f"Standard error cannot be written, so nothing was sent. {instead}"
    return Failed({"title": f"{what} cannot be shown", "detail": detail, "code": "output_failed"}, Exit.OUTPUT)


def moment(text: str | None, *, utc: bool) -> str | None:
    """Return a person's TIME as RFC 3339 in UTC."""
    if text is None:
        return None
    try:
        if age := re.fullmatch(r"([0-9]{1,6})([mhd])", text):
            unit = {"m": "minutes", "h": "hours", "d": "days"}[age[2]]
            return (datetime.now(UTC) - timedelta(**{unit: int(age[1])})).isoformat()
        at = datetime.fromisoformat(text)
        if at.tzinfo is None and utc:
            at = at.replace(tzinfo=UTC)
        return at.astimezone(UTC).isoformat()  # astimezone takes a time without a zone for local time
    except (ValueError, OverflowError):
        usage(f"{text!r} is not a time. Write a date, a date and time, or an age: 2026-01-31, '2026-01-31 14:30' or 2h")


def usage(message: str) -> NoReturn:
    raise typer.BadParameter(plain(message))


def present(answer: Any, form: Callable[[Any], "RenderableType"], as_json: bool, *, soft_wrap: bool = False) -> None:
    """Print the answer as JSON, or in its form for people. A newer service's answer that does not fit it is JSON."""
    if not as_json:
        from payments_cli import output

        try:
            output.out.print(form(plain(answer)), soft_wrap=soft_wrap)
            return
        except OutputFailed:
            raise
        except Exception:  # noqa: S110 - any member may be missing or of another type
            pass
    for each in answer if isinstance(answer, list) else [answer]:
        typer.echo(json.dumps(each))
