"""A command's connection to the service, and how a command that has one is registered."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from payments_cli import options as o
from payments_cli.deployment import WrongDeployment, deployment
from payments_cli.dialogue import usage
from payments_cli.streams import say

if TYPE_CHECKING:  # a command imports it when it runs, so that help and completions are fast
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


def command_of(
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
