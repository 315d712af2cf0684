"""Generate a client in each language, compile it strictly, and let its shop use a fresh `make run`. See docs/integration.md.

It prints a line for each client, for the models of the events and for each linter, and ends with 1 if one of them failed.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from kafka import KafkaConsumer, TopicPartition

from contract.clients.service import ROOT, front, newer, running

SOURCES, BUILD = ROOT / "contract" / "clients", ROOT / "build" / "clients"
NPM = BUILD / "tools" / "node_modules" / ".bin"

GENERATOR = "7.25.0"
GENERATOR_SHA256 = "41ce4f6b07f196676439d710759fa1ced7a08066d06ff1bf314681470289efae"
MAVEN = ("mvn", "-B", "-q", "--strict-checksums")
DEPENDENCIES = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1"

PROGRAMS = {"javac": "default-jdk-headless", "mvn": "maven", "go": "golang", "node": "nodejs", "npm": "npm"}
"""The programs that must be there, and Debian's packages that have them."""

STEPS = (
    *("pays", "replays", "reads back", "is declined", "refunds", "lists"),
    *("meets 401", "meets 429", "meets unknown values"),
)
"""What each shop prints, a step a line, when the answers were right."""

LARGE = 5_000_000_000
PAID = {
    "big": ("PARTIALLY_REFUNDED", LARGE, 2_000_000_000),
    "declined": ("FAILED", 1999, 0),
    **{f"small-{n}": ("CAPTURED", 100, 0) for n in range(1, 6)},
}
"""What the service must hold of each shop in the end: status, amount and what was given back, by order."""


@dataclass(frozen=True)
class Client:
    """The commands that compile a client and run what uses it, each in the client's folder."""

    compile: Sequence[Sequence[str | Path]]
    shop: Sequence[str | Path]
    """It gets two arguments: an address and a token."""
    reader: Sequence[str | Path] = ()
    """It reads events with the models of the events, from a file with an event on each line."""


MYPY = (sys.executable, "-m", "mypy", "--config-file=", "--strict", "--no-error-summary")
JAVAC = "mkdir -p classes; javac -d classes -cp 'classes:lib/*' -Werror -Xlint:all"
JAVA = ("java", "-cp", "classes:lib/*")

CLIENTS: Mapping[str, Client] = {
    "typescript": Client([(NPM / "tsc",)], ("node", "js/shop.js"), ("node", "js/events.js")),
    "java": Client(
        [
            (*MAVEN, f"{DEPENDENCIES}:copy-dependencies", "-DoutputDirectory=lib"),
            # What the generators write has needless casts, serializers without a version and a call that Jackson deprecates.
            ("sh", "-c", f"{JAVAC},-cast,-serial,-deprecation $(find client/src/main events -name '*.java')"),
            ("sh", "-c", f"{JAVAC} Shop.java Events.java"),
        ],
        (*JAVA, "Shop"),
        (*JAVA, "Events"),
    ),
    "go": Client([("go", "vet", "./..."), ("go", "build", "-o", "shop", ".")], ("./shop",)),
    # Some functions in the code of openapi-generator have no types, so mypy is strict with the shop alone.
    "python": Client([(*MYPY, "--follow-imports=silent", "shop.py")], (sys.executable, "shop.py")),
    "openapi_python_client": Client([(*MYPY, "shop.py", "payments_client")], (sys.executable, "shop.py")),
}


class Failed(Exception):
    """A check failed. The message is the reason."""


def main() -> int:
    parser = argparse.ArgumentParser("python -m contract.clients", description=__doc__)
    parser.add_argument(
        "clients", nargs="*", metavar="CLIENT", help=f"{', '.join(CLIENTS)}; default: all of them, and the linters"
    )
    chosen = parser.parse_args().clients
    if unknown := set(chosen) - CLIENTS.keys():
        parser.error(f"there is no client {', '.join(sorted(unknown))}")
    if packages := missing():
        print(f"make clients needs programs that are not here: apt-get install {' '.join(packages)}", file=sys.stderr)
        return 1
    try:
        prepare()
        generate()
    except Failed as error:
        print(f"There are no clients. {error}", file=sys.stderr)
        return 1
    clients = {name: client for name, client in CLIENTS.items() if not chosen or name in chosen}
    with running() as facts, front(facts["url"]) as address, ThreadPoolExecutor(os.cpu_count()) as pool:
        failures = report(pool, {name: partial(use, name, client, address, facts["url"]) for name, client in clients.items()})
        told = [*events_in(facts), *examples()]
        readers = {f"{name}, events": partial(read, name, client, told) for name, client in clients.items() if client.reader}
        failures += report(pool, {**readers, **({} if chosen else LINTERS)})
    return 1 if failures else 0


def missing(which: Callable[[str], str | None] = shutil.which) -> list[str]:
    """Return the packages of the programs that are not on the PATH."""
    return sorted(package for program, package in PROGRAMS.items() if not which(program))


def report(pool: ThreadPoolExecutor, checks: Mapping[str, Callable[[], str]]) -> int:
    """Make the checks side by side, print a line for each as it ends, and return how many failed."""
    futures = {pool.submit(check): name for name, check in checks.items()}
    failures = 0
    for future in as_completed(futures):
        try:
            print(f"{futures[future]}: {future.result()}", flush=True)
        except Failed as error:
            failures += 1
            print(f"{futures[future]}: FAILED. {error}", flush=True)
    return failures


def run(command: Sequence[str | Path], folder: Path = ROOT) -> str:
    """Run a program, and return what it printed. Raises Failed with its last words."""
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=600)
    except subprocess.TimeoutExpired as error:
        raise Failed(str(error)) from None
    if done.returncode:
        raise Failed(f"{' '.join(map(str, command))}\n{(done.stdout + done.stderr)[-4000:]}")
    return done.stdout


def prepare() -> None:
    """Lay out build/clients/: what was written by hand, and the generators, which stay for the next time."""
    tools = BUILD / "tools"
    tools.mkdir(parents=True, exist_ok=True)
    for name in CLIENTS:
        shutil.rmtree(BUILD / name, ignore_errors=True)
        shutil.copytree(SOURCES / name, BUILD / name)
    for file in (SOURCES / "tools").iterdir():
        shutil.copy(file, tools)
    if not _generator().exists():
        artifact = f"org.openapitools:openapi-generator-cli:{GENERATOR}"
        run((*MAVEN, f"{DEPENDENCIES}:copy", f"-Dartifact={artifact}", f"-DoutputDirectory={tools}"))
    if hashlib.sha256(_generator().read_bytes()).hexdigest() != GENERATOR_SHA256:
        raise Failed(f"The checksum of {_generator().name} is not the one that we know. Delete {tools} and try again.")
    installed, lock = tools / "installed.json", (tools / "package-lock.json").read_text()
    if not installed.exists() or installed.read_text() != lock:
        run(("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"), tools)
        installed.write_text(lock)


def _generator() -> Path:
    return BUILD / "tools" / f"openapi-generator-cli-{GENERATOR}.jar"


def generate() -> None:
    run(("java", "-jar", _generator(), "batch", "--fail-fast", *sorted(SOURCES.glob("*/generator.yaml"))))
    run(("node", "models.mjs", ROOT / "docs" / "asyncapi.yaml", BUILD), BUILD / "tools")
    name, program = "openapi_python_client", Path(sys.executable).with_name("openapi-python-client")
    options = ("--config", SOURCES / name / "config.yaml", "--meta", "none", "--output-path", BUILD / name / "payments_client")
    run((program, "generate", "--path", "docs/openapi.json", *options, "--fail-on-warning"))


def use(name: str, client: Client, address: str, service_url: str) -> str:
    """Compile a client and let its shop use the service. Then look at the shop's payments ourselves."""
    folder, owner = BUILD / name, f"shop-{name}"
    for command in client.compile:
        run(command, folder)
    steps = run((*client.shop, address, owner), folder).splitlines()
    request = urllib.request.Request(f"{service_url}/api/v1/payments?limit=100", headers={"X-Local-Owner": owner})  # noqa: S310
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - our own process
        return verdict(steps, json.load(answer)["data"])


def verdict(steps: Iterable[str], payments: Sequence[Mapping[str, Any]]) -> str:
    """Return the shop's steps. Raises Failed if it left one out, or if the service does not hold what it should."""
    if (done := tuple(steps)) != STEPS:
        raise Failed(f"The shop did {', '.join(done) or 'nothing'}, and not {', '.join(STEPS)}.")
    held = {payment["order_id"]: (payment["status"], payment["amount"], payment["amount_refunded"]) for payment in payments}
    if len(payments) != len(PAID) or held != PAID:
        raise Failed(f"The service holds {len(payments)} payments, {held}, and not {PAID}.")
    return ", ".join(done)


def events_in(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return all events of the topic, as type and value."""
    consumer = KafkaConsumer(bootstrap_servers=facts["kafka_bootstrap_servers"])
    partitions = [TopicPartition(facts["topic"], number) for number in consumer.partitions_for_topic(facts["topic"]) or ()]
    consumer.assign(partitions)
    consumer.seek_to_beginning(*partitions)
    found, ends = [], consumer.end_offsets(partitions)
    while any(consumer.position(partition) < end for partition, end in ends.items()):
        for records in consumer.poll(1000).values():
            found += [{"type": dict(record.headers)["ce_type"].decode(), "value": json.loads(record.value)} for record in records]
    consumer.close()
    return found


def examples() -> list[dict[str, Any]]:
    """Return the examples of docs/asyncapi.yaml. They have all types, and the topic only those of what the shops did."""
    document = yaml.safe_load((ROOT / "docs" / "asyncapi.yaml").read_text(encoding="utf-8"))
    messages = document["components"]["messages"].values()
    return [{"type": message["name"], "value": example["payload"]} for message in messages for example in message["examples"]]


def read(name: str, client: Client, told: Sequence[Mapping[str, Any]]) -> str:
    """Let a program read the events with the generated models and write each again: both must say the same.

    Each comes a second time as a later version may send it, with values and a member that the document does not have.
    """
    if not any(event["value"].get("amount_captured") == LARGE for event in told):
        raise Failed(f"The topic has no event of the payment of {LARGE}.")
    file = BUILD / name / "events.jsonl"
    events = [*told, *({**event, "value": newer(event["value"])} for event in told)]
    file.write_text("".join(json.dumps(event) + "\n" for event in events))
    types = run((*client.reader, file), BUILD / name).split()
    if types != [event["type"] for event in events]:
        raise Failed(f"It read {len(types)} of {len(events)} events.")
    return f"reads {len(told)} events of {len(set(types))} types, and each of them as a later version may send it"


def lint(program: str, *arguments: str) -> str:
    run(("env", "REDOCLY_TELEMETRY=off", "REDOCLY_SUPPRESS_UPDATE_NOTICE=true", NPM / program, *arguments))
    return "docs/openapi.json is clean"


SPECTRAL = ("spectral", "lint", "--fail-severity=hint", "--ruleset", "contract/lint/spectral.yaml", "docs/openapi.json")
REDOCLY = ("redocly", "lint", "--config", "contract/lint/redocly.yaml", "--format", "stylish")
LINTERS: Mapping[str, Callable[[], str]] = {"spectral": partial(lint, *SPECTRAL), "redocly": partial(lint, *REDOCLY)}


if __name__ == "__main__":
    sys.exit(main())
