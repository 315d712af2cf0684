"""`make run`: the whole service on this machine, from template.yaml, without AWS and without Docker.

Environment:
  PORT                     the port of the API and of Lambda's Invoke API; default 8001
  DATA_DIR                 the folder for the database, passwords and logs; default .local/
  DATABASE_URL             an existing PostgreSQL to use instead of ours, with the owner's login: we apply the migrations
  DATABASE_SERVICE_URL     the same PostgreSQL with the functions' login. Without it, we try the role payments_service with
                           the owner's password; this works where PostgreSQL trusts local connections. If it fails, the
                           functions connect as the owner
  KAFKA_BOOTSTRAP_SERVERS  an existing Kafka to use instead of ours; it must have the topic
  KAFKA_TOPIC              the topic's name; default payments
  STRIPE_API_KEY           a test key of Stripe, sk_test_… or rk_test_…: its test mode takes the place of the simulated gateway. A
                           local run takes no live key
  STRIPE_WEBHOOK_SECRETS   what Stripe signs its events with, whsec_…, separated by commas; `stripe listen` prints one
  CORS_ALLOW_ORIGINS       the origins whose pages may call the API, separated by commas, beside those of this machine; default:
                           as in template.yaml
Set any other variable that template.yaml gives a function, such as GATEWAY_SUCCESS_RATE, to replace the template's value.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import errno
import itertools
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import uvicorn
from starlette.types import ASGIApp

from local import events
from local.folder import FolderError, data_folder, fresh_log, write_private
from local.front import DEFAULT_OWNER, Front
from local.pool import Pool
from local.schedules import tick
from local.servers import SERVICE_ROLE, EmbeddedBroker, EmbeddedPostgres, ServerError, connect
from local.sites import GATEWAY_PAGES, allowed_origins
from local.template import Function, Template, TemplateError, load_template
from migrations.apply import migrate
from payments.settings import settings_from
from payments.settings_error import SettingsError
from payments.stripe_settings import stripe_key

REPOSITORY = Path(__file__).resolve().parent.parent
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
OWN_VARIABLES = {"DATABASE_URL", "KAFKA_BOOTSTRAP_SERVERS"}  # these configure the runner; the functions get other values
OF_THE_GATEWAY = {"GATEWAY", "GATEWAY_LIVE", "STRIPE_SECRET"}  # STRIPE_API_KEY alone decides, so that no real money moves
OF_STRIPE = ("STRIPE_API_KEY", "STRIPE_API_BASE", "STRIPE_WEBHOOK_SECRETS")
RETRY_SCHEDULE_S = "1,2,4,8,15,30"  # a developer sees unknown outcomes settle within seconds instead of a day
DRAIN_TIMEOUT_S = 3  # requests in flight may finish after Ctrl-C; the slowest scenario (tok_slow) takes 3 s


class StartError(Exception):
    """The run cannot start. The message says why and what to do."""


def main() -> int:
    os.umask(0o077)  # what we and the functions write is for this user alone
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m local", description=__doc__, formatter_class=formatter)
    parser.add_argument("--template", type=Path, default=REPOSITORY / "template.yaml")
    runner = Runner(parser.parse_args().template)
    for number in SIGNALS:
        signal.signal(number, runner.interrupt)
    try:
        with contextlib.ExitStack() as stack:
            runner.run(stack)
    except KeyboardInterrupt:
        pass
    except (StartError, FolderError, ServerError, TemplateError) as error:
        print(f"Cannot start: {error}", file=sys.stderr)
        return 1
    except PermissionError as error:
        print(f"Cannot start: {error.filename} belongs to another user. Remove it, or choose another DATA_DIR.", file=sys.stderr)
        return 1
    say("Stopped.")
    return 0


class Runner:
    def __init__(self, template: Path) -> None:
        self._template = template
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped = asyncio.Event()

    def interrupt(self, *_: object) -> None:
        """End the run. A second Ctrl-C does not interrupt the shutdown."""
        for number in SIGNALS:
            signal.signal(number, lambda *_: None)
        if self._loop is None:
            raise KeyboardInterrupt
        self._loop.call_soon_threadsafe(self._stopped.set)

    def run(self, stack: contextlib.ExitStack) -> None:
        """Start everything and serve until a signal comes. The stack stops the servers, the last one first."""
        began = time.monotonic()
        data_dir = stack.enter_context(data_folder(Path(os.environ.get("DATA_DIR") or REPOSITORY / ".local")))
        listener = stack.enter_context(listen(os.environ.get("PORT") or "8001"))
        topic = os.environ.get("KAFKA_TOPIC") or "payments"
        postgres = None if os.environ.get("DATABASE_URL") else EmbeddedPostgres(data_dir, say)
        broker = None if os.environ.get("KAFKA_BOOTSTRAP_SERVERS") else EmbeddedBroker(data_dir, say, topic)
        owner_url = postgres.url if postgres else os.environ["DATABASE_URL"]
        service_url = postgres.service_url if postgres else os.environ.get("DATABASE_SERVICE_URL") or owner_url
        bootstrap_servers = broker.bootstrap_servers if broker else os.environ["KAFKA_BOOTSTRAP_SERVERS"]
        own = {"CorsAllowOrigins": origins} if (origins := admitted_origins()) else {}
        own |= {"Gateway": "stripe"} if has_stripe_key() else {}
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"

        def declared() -> Template:
            parameters = {
                "DatabaseUrl": service_url,
                "DatabaseOwnerUrl": owner_url,
                "KafkaBootstrapServers": bootstrap_servers,
                "KafkaTopic": topic,
                "RetryScheduleSeconds": RETRY_SCHEDULE_S,
                "Webhooks": "On",
                "DirectOwner": f"jwt/{DEFAULT_OWNER}",  # HTTP shows what direct invocations do, without a header
                **own,
            }
            template = load_template(self._template, parameters)
            return dataclasses.replace(template, functions={name: configured(f, url) for name, f in template.functions.items()})

        template = declared()  # read it before we start a server, so that a mistake in it or in a variable shows at once
        say("Starting the payment service from template.yaml")
        for server in filter(None, (postgres, broker)):
            stack.callback(server.stop)
            server.start()
        applied = apply_migrations(owner_url)
        if not (broker or events.has_topic(bootstrap_servers, topic)):
            raise StartError(f"the Kafka at {bootstrap_servers} does not answer or has no topic {topic}. Create the topic first")
        say(f"  PostgreSQL  {_place(owner_url)}" + (f", data in {_short(data_dir / 'postgres')}" if postgres else ""))
        say(f"  Kafka       {bootstrap_servers}, topic {topic}" + (", in memory only" if broker else ""))
        say(f"  Gateway     {'Stripe, in test mode' if 'Gateway' in own else f'simulated, with pages at {url}{GATEWAY_PAGES}'}")
        say(f"  Migrations  {', '.join(applied) + ' applied' if applied else 'none to apply'}")
        if postgres:
            postgres.allow_service()
        elif service_url == owner_url:
            service_url = usable_service_url(owner_url)
            template = declared()
        facts: dict[str, str | int] = {
            "url": url,
            "database_url": service_url,
            "database_owner_url": owner_url,
            "kafka_bootstrap_servers": bootstrap_servers,
            "topic": topic,
            "pid": os.getpid(),
        }
        tail = threading.Event()
        stack.callback(tail.set)
        threading.Thread(target=_show_events, args=(bootstrap_servers, topic, tail, broker), daemon=True).start()
        asyncio.run(self._serve(template, listener, data_dir, facts, began))

    async def _serve(
        self, template: Template, listener: socket.socket, data_dir: Path, facts: dict[str, str | int], began: float
    ) -> None:
        self._loop = asyncio.get_running_loop()
        pools: dict[str, Pool] = {}
        for name, function in template.functions.items():
            log = data_dir / "logs" / f"{function.short_name}.log"
            fresh_log(log)
            pools[name] = Pool(function, log, say)
        for name in {route.function for route in template.routes}:
            pools[name].add_worker()  # the first request finds a warm worker
        app = Front(template, pools, REPOSITORY / "docs" / "openapi.json").app
        server = HttpServer(app)
        listener.listen()  # from here on a request waits for the server instead of being refused
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        ticking = [asyncio.create_task(tick(schedule, pools[schedule.function])) for schedule in template.schedules]
        stopped = asyncio.create_task(self._stopped.wait())
        run_file = data_dir / "run.json"
        write_private(run_file, json.dumps(facts, indent=2))
        _say_ready(str(facts["url"]), data_dir, template, time.monotonic() - began)
        try:
            await asyncio.wait([stopped, serving, *ticking], return_when=asyncio.FIRST_COMPLETED)
            for task in (serving, *ticking):
                if task.done():  # a task ends only with an error, and result() raises it
                    task.result()
            say("Stopping ...")
        finally:
            run_file.unlink(missing_ok=True)
            server.should_exit = True
            for task in ticking:
                task.cancel()
            await asyncio.gather(serving, *ticking, return_exceptions=True)
            await asyncio.gather(*(pool.close() for pool in pools.values()))


class HttpServer(uvicorn.Server):
    def __init__(self, app: ASGIApp) -> None:
        config = uvicorn.Config(
            app,
            http="httptools",  # it parses in C; a parser in Python took a third of the front's processor time
            ws="none",
            lifespan="off",
            log_level="warning",
            access_log=False,
            proxy_headers=False,  # as with API Gateway, no header changes the source IP
            server_header=False,
            timeout_graceful_shutdown=DRAIN_TIMEOUT_S,
        )
        super().__init__(config)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # the runner handles the signals


def listen(port: str) -> socket.socket:
    """Bind the API's port, and return the socket."""
    if not (port.isascii() and port.isdigit() and 0 <= int(port) <= 65535):
        raise StartError(f"PORT must be a number from 0 (any free port) to 65535, not {port!r}. Example: PORT=8002 make run")
    # asyncio turns Nagle's algorithm off only for a socket whose protocol is named. With Nagle's algorithm, each answer on a kept
    # connection waits 40 ms for the client's acknowledgement.
    listener = socket.socket(proto=socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", int(port)))
    except OSError as error:
        listener.close()
        reason = f"is taken by {_holder(int(port))}" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
        raise StartError(f"port {port} {reason}. Choose another: PORT={(int(port) + 1) % 65536} make run") from error
    return listener


def _holder(port: int) -> str:
    """Return the name of the program that listens on the port, if this user may see it."""
    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            if connection.laddr and connection.laddr.port == port and connection.status == psutil.CONN_LISTEN and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    return "another program"


def admitted_origins() -> str | None:
    """Return what CORS_ALLOW_ORIGINS says in the template's place. Raises StartError for a wrong value."""
    try:
        return allowed_origins(text) if (text := os.environ.get("CORS_ALLOW_ORIGINS")) else None
    except ValueError as error:
        raise StartError(f"CORS_ALLOW_ORIGINS {error}. Example: CORS_ALLOW_ORIGINS=https://shop.test make run") from None


def has_stripe_key() -> bool:
    """Say whether STRIPE_API_KEY asks for Stripe. Raises StartError for a key that could move real money, or is none."""
    try:
        return bool((text := os.environ.get("STRIPE_API_KEY")) and stripe_key(text, is_live=False))
    except SettingsError as error:
        example = "STRIPE_API_KEY=sk_test_... make run"
        raise StartError(f"{error}. A local run takes a key of Stripe's test mode alone: {example}") from None


def configured(function: Function, url: str) -> Function:
    """Return the function with the shell's variables instead of the template's. `url` is where we serve. Raises StartError for a
    wrong value."""
    given = {key: os.environ[key] for key in function.environment.keys() - OWN_VARIABLES - OF_THE_GATEWAY if key in os.environ}
    if function.environment.get("GATEWAY") == "stripe":  # a template says neither, and nobody else needs them
        given |= {key: os.environ[key] for key in OF_STRIPE if key in os.environ}
    # A developer's receiver is on this machine, and so are the simulated gateway's pages. On AWS nobody may have us ask our own
    # network, so no template says this.
    environment = function.environment | given | {"WEBHOOKS_LOCAL": "On", "SIMULATED_GATEWAY_URL": url + GATEWAY_PAGES}
    try:
        if environment.keys() >= OWN_VARIABLES:  # a function of another template may need no settings
            settings_from(environment)
    except SettingsError as error:
        raise StartError(f"{error}.") from None
    return dataclasses.replace(function, environment=environment)


def apply_migrations(owner_url: str) -> list[str]:
    try:
        return migrate(owner_url, REPOSITORY / "migrations")
    except Exception as error:  # of the server, of the network or of a file: none lets the run start
        raise StartError(f"the migrations could not be applied: {error}") from error


def usable_service_url(owner_url: str) -> str:
    """Return the service role's URL on an existing server, or the owner's URL if that role cannot log in."""
    parts = urlsplit(owner_url)
    owner, _, place = parts.netloc.rpartition("@")
    service_url = parts._replace(netloc=f"{SERVICE_ROLE}{owner[len(owner.partition(':')[0]) :]}@{place}").geturl()
    try:
        connect(service_url).close()
    except Exception:  # the owner's URL works: the migrations used it
        say(f"  Role        {SERVICE_ROLE} cannot log in, so the functions connect as the owner (see DATABASE_SERVICE_URL)")
        return owner_url
    return service_url


def _show_events(bootstrap_servers: str, topic: str, stop: threading.Event, broker: EmbeddedBroker | None) -> None:
    restarts = (lambda: broker.restarts) if broker else (lambda: 0)
    skipped = itertools.count(1)

    def on_skip() -> None:
        say(f"(skipped a record that is no payment event, {next(skipped)} so far)")

    for event in events.read(
        bootstrap_servers, topic, stop, from_beginning=broker is not None, restarts=restarts, on_skip=on_skip
    ):
        say(event.line())


def _say_ready(url: str, data_dir: Path, template: Template, seconds: float) -> None:
    names = ", ".join(function.short_name for function in template.functions.values())
    token = ', "payment_token": "pm_card_visa"' if os.environ.get("STRIPE_API_KEY") else ""  # one of Stripe's own for tests
    body = f"""{{"order_id": "order-'$(date +%s)'", "amount": 1999, "currency": "USD", "payment_method": "credit_card"{token}}}"""
    say(f"  Functions   {names}")
    say(f"  Logs        {_short(data_dir / 'logs')}")
    say(f"Ready in {seconds:.1f} s: {url}   API documents: {url}/docs")
    say(f"Try it:\n  curl -s {url}/api/v1/payments/process -H 'Content-Type: application/json' -w '\\n' -d '{body}'")
    say("Press Ctrl-C to stop. Events on the topic:")


def _place(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or 5432}{parts.path}"


def _short(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def say(line: str = "") -> None:
    """Print a line at once. If the terminal was closed, drop the output, so that the run still ends in order."""
    try:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


if __name__ == "__main__":
    sys.exit(main())
