"""What the commands share: their connection, how they are registered, and what they ask and print."""

import functools
import inspect
import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from payments_cli import options as o
from payments_cli.deployment import WrongDeployment, deployment
from payments_cli.errors import Exit, Failed, OutputFailed
from payments_cli.streams import plain, say

if TYPE_CHECKING:  # a command imports them when it runs, so that help and completions are fast
    from rich.console import RenderableType

    from payments_cli.api import Api


@dataclass(frozen=True)
class Session:
    """A command's connection to the service, and whether the command prints JSON."""

    api: "Api"
    as_json: bool


def session(
    url: o.Url = None,
    bearer_token: o.BearerToken = None,
    token: o.Token = None,  # noqa: ARG001 - its callback refuses it
    client_certificate: o.ClientCertificate = None,
    client_key: o.ClientKey = None,
    owner: o.Owner = None,
    scopes: o.Scopes = None,
    retry: o.Retry = True,
    as_json: o.Json = False,
) -> Session:
    from payments_cli.api import Api

    try:
        where = deployment(url, bearer_token, owner, scopes, client_certificate, client_key)
    except WrongDeployment as error:
        usage(str(error))
    try:
        return Session(Api(where, retry=retry, say=say), as_json)
    except Exception as error:  # each wrong setting has its own; its text may hold a proxy's password
        why = f"Check --url, the client's certificate, and the environment's proxies and certificates: {type(error).__name__}"
        usage(f"No connection can be set up. {why}")


def examples(*lines: str) -> str:
    return "\n".join(("[bold]Examples[/bold]", *(f"  {line}" for line in lines)))


def command(
    app: typer.Typer, name: str, panel: str, *lines: str, shares: tuple[Callable[..., Any], ...] = (session,)
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function as a command. It first takes what `shares` make of their options, which follow its own options."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        groups = [(share, inspect.signature(share).parameters) for share in shares]

        @functools.wraps(function)
        def run(**given: Any) -> None:
            function(*[share(**{name: given.pop(name) for name in group}) for share, group in groups], **given)

        own = [*inspect.signature(function).parameters.values()][len(shares) :]
        shared = [parameter for _, group in groups for parameter in group.values()]
        run.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
        app.command(name, rich_help_panel=panel, epilog=examples(*lines))(run)
        return run

    return register


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
