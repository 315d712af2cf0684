"""`payments webhooks`: where the events of the caller's payments are sent."""

import functools
import sys
from collections.abc import Callable
from typing import Any

import typer

from payments_cli import options as o
from payments_cli.dialogue import confirm, moment, present, usage
from payments_cli.errors import Exit, Failed, OutputFailed, course
from payments_cli.session import Session, command_of, examples
from payments_cli.streams import say

ON_FILE, CARE = "Register", "Look after"  # panels of the help text
SHOP = "https://shop.example.com/events"

app = typer.Typer(
    no_args_is_help=True,
    help="""
Have the events of your payments sent to addresses of yours.

A WEBHOOK is a webhook id, or the address that events are sent to. A secret
signs what is sent. It is printed once, when it is made, and never again.
""",
    epilog=examples(
        f"payments webhooks add {SHOP}",
        "payments webhooks list",
        f"payments webhooks redeliver {SHOP} --from 2h",
    ),
)
command = functools.partial(command_of, app)


@command("list", ON_FILE, "payments webhooks list", "payments webhooks list --json | jq -r .url")
def list_(this: Session) -> None:
    """List your webhooks, oldest first, and how many events wait for each."""
    from payments_cli import output

    found = this.api.webhooks()
    if found:
        present(found, output.webhook_rows, this.as_json)
    elif not this.as_json:
        say("No webhooks.")


@command(
    "add",
    ON_FILE,
    f"payments webhooks add {SHOP}",
    f"payments webhooks add {SHOP} --type successful --type refunded",
    f"payments webhooks add {SHOP} --json | jq -r .secret > webhook.secret",
)
def add(this: Session, address: o.WebhookUrl, description: o.About = None, types: o.SentTypes = None) -> None:
    """Register an address, and print its secret, this once."""
    given = {
        "url": address,
        "description": description,
        "event_types": [f"payment.{each}" for each in types or ()] or None,
    }
    body = {name: value for name, value in given.items() if value is not None}
    course.again = f"It may be registered. Look with: payments webhooks list. If it is: payments webhooks rotate {address}"
    _with_secret(this, lambda: this.api.add_webhook(body))


@command("show", ON_FILE, f"payments webhooks show {SHOP}")
def show(this: Session, webhook: o.Webhook, utc: o.Utc = False) -> None:
    """Show a webhook: how many events wait for it, and why it fails."""
    _show(_find(this, webhook), this, utc=utc)


@command("remove", ON_FILE, f"payments webhooks remove {SHOP} --yes")
def remove(this: Session, webhook: o.Webhook, yes: o.Yes = False) -> None:
    """Remove a webhook. Events that wait for it are dropped."""
    found = _find(this, webhook)
    if not yes and sys.stdin.isatty():
        confirm(f"Remove {found['url']}, and drop what waits for it ({found['waiting']})?")
    course.again = "It may be removed. Look with: payments webhooks list"
    this.api.remove_webhook(found["webhook_id"])
    course.again = ""
    gone = {"webhook_id": found["webhook_id"], "removed": True}
    present(gone, lambda _: f"{found['url']} is removed.", this.as_json)


@command("rotate", CARE, f"payments webhooks rotate {SHOP}")
def rotate(this: Session, webhook: o.Webhook) -> None:
    """Give a webhook a new secret, and print it, this once.

    For 24 hours, the service signs with the earlier secret too. A secret that is even older ends at once.
    """
    webhook_id = _id(this, webhook)
    course.again = f"It may have a new secret that nobody saw. Look with: payments webhooks show {webhook_id}. Then rotate again."
    _with_secret(this, lambda: this.api.rotate_webhook(webhook_id))


@command("enable", CARE, f"payments webhooks enable {SHOP}")
def enable(this: Session, webhook: o.Webhook) -> None:
    """Send to a webhook again, at once: one that is disabled, or one that pauses after a failure.

    Events that happened while it was disabled were not kept for it. The command says how to get them.
    """
    found = _find(this, webhook)
    webhook_id, since = found["webhook_id"], found.get("disabled_at")
    course.again = f"It may be enabled. Look with: payments webhooks show {webhook_id}"
    enabled = this.api.enable_webhook(webhook_id)
    if since:  # the service forgets this moment now
        say(f"Nothing was kept for it since then. Get it with: payments webhooks redeliver {webhook_id} --from {since}")
    _show(enabled, this)


@command(
    "redeliver",
    CARE,
    f"payments webhooks redeliver {SHOP} --event 019c139e-4c00-7d10-8a21-3f5b7c9d1e02",
    f"payments webhooks redeliver {SHOP} --from 2026-01-31 --to 2026-02-01",
)
def redeliver(
    this: Session,
    webhook: o.Webhook,
    event: o.EventId = None,
    from_: o.Since = None,
    to: o.Until = None,
    utc: o.Utc = False,
) -> None:
    """Send events again: a single one, or all between two times.

    A TIME is a date (2026-01-31), a date and time ('2026-01-31 14:30') or an age (90m, 2h, 7d).
    It is local time, unless it ends with Z or an offset such as +01:00.
    Events are kept for 7 days at least. An event that is sent again keeps its id.
    """
    if (event is None) == (from_ is None) or (event is not None and to is not None):
        usage("Use either --event, or --from and perhaps --to.")
    webhook_id = _id(this, webhook)
    if event is not None:
        done = this.api.redeliver(webhook_id, {"event_id": event})
    else:
        done = _range_again(this, webhook_id, moment(from_, utc=utc), moment(to or "0m", utc=utc))
    present(done, lambda it: f"{it['events']} {'event is' if it['events'] == 1 else 'events are'} sent again.", this.as_json)


def _range_again(this: Session, webhook_id: str, start: str | None, end: str | None) -> dict[str, Any]:
    """Ask until the end of the range, because the service looks at a bounded number of events at a time."""
    count = 0
    while True:
        done = this.api.redeliver(webhook_id, {"from": start, "to": end})
        count += done["events"]
        if done["resume_at"] is None:
            return done | {"events": count}
        if done["resume_at"] == start:
            detail = f"{count} events are sent again, and the service does not get beyond {start}."
            raise Failed({"title": "The range has no end", "detail": detail, "code": "unexpected_answer"}, Exit.UNAVAILABLE)
        start = done["resume_at"]
        course.again = f"{count} events are sent again so far. Go on with --from {start} --to {end}"


def _find(this: Session, webhook: str) -> dict[str, Any]:
    """Return the webhook that has this id or address. Raises Failed."""
    if "://" not in webhook:
        return this.api.webhook(webhook)
    for each in this.api.webhooks():
        if each["url"] == webhook:
            return each
    problem = {"title": "Webhook not found", "detail": "You have no webhook at this address.", "code": "webhook_not_found"}
    raise Failed(problem, Exit.REFUSED)


def _id(this: Session, webhook: str) -> str:
    return str(_find(this, webhook)["webhook_id"]) if "://" in webhook else webhook


def _show(found: dict[str, Any], this: Session, *, utc: bool = False) -> None:
    from payments_cli import output

    present(found, lambda it: output.webhook_panel(it, output.Clock(utc=utc)), this.as_json)


def _with_secret(this: Session, make: Callable[[], dict[str, Any]]) -> None:
    """Make a secret, and show it: the last time that anybody can."""
    made = make()
    course.again = f"The secret was not shown, and never will be. Make another: payments webhooks rotate {made['webhook_id']}"
    try:
        _show({name: value for name, value in made.items() if name != "secret" or this.as_json}, this)
        if not this.as_json:
            typer.echo(made["secret"])  # on a line of its own, because a frame or a fold would get into a copy of it
    except OutputFailed:
        say(course.again)
        raise
    course.again = ""
    say("Keep the secret now: it is shown this once.")
