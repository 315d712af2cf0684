"""Generate a client in each language, compile it strictly, and let its shop use a fresh `make run`. See docs/integration.md.

It prints a line for each client, and ends with 1 if one of them failed.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from kafka import KafkaConsumer, TopicPartition

from contract.clients.service import ROOT, front, running

SOURCES, BUILD = ROOT / "contract" / "clients", ROOT / "build" / "clients"

GENERATOR = "7.25.0"
GENERATOR_SHA256 = "41ce4f6b07f196676439d710759fa1ced7a08066d06ff1bf314681470289efae"
MAVEN = ("mvn", "-B", "-q", "--strict-checksums")
DEPENDENCIES = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1"

TOOLS = {"java": "default-jdk-headless", "javac": "default-jdk-headless", "mvn": "maven", "go": "golang", "node": "nodejs", "npm": "npm"}
"""The programs that must be there, and Debian's packages that have them."""

STEPS = (
    *("pays", "replays", "reads back", "is declined", "refunds", "lists"),
    *("meets 401", "meets 429", "meets unknown values"),
)
"""What each shop prints, a step a line, when the answers were right."""

PAID = {
    "big": ("PARTIALLY_REFUNDED", 5_000_000_000, 2_000_000_000),
    "declined": ("FAILED", 1999, 0),
    **{f"small-{n}": ("CAPTURED", 100, 0) for n in range(1, 6)},
}
"""What the service must hold of each shop in the end: status, amount and what was given back, by order."""

BIN = BUILD / "tools" / "node_modules" / ".bin"
MYPY = (sys.executable, "-m", "mypy", "--config-file=", "--strict", "--no-error-summary")
JAVAC = "mkdir -p classes; javac -d classes -cp 'classes:lib/*' -Werror -Xlint:all"

# What compiles a client, in its folder, and what runs its shop. The shop gets two arguments: an address and a token.
BUILDS: dict[str, tuple[Sequence[Sequence[str | Path]], Sequence[str | Path]]] = {
    "typescript": ([(BIN / "tsc",)], ("node", "js/shop.js")),
    "java": (
        [
            (*MAVEN, f"{DEPENDENCIES}:copy-dependencies", "-DoutputDirectory=lib"),
            # What the two generators write has needless casts, serializers without a version, and a call that Jackson would rather not have.
            ("sh", "-c", f"{JAVAC},-cast,-serial,-deprecation $(find client/src/main events -name '*.java')"),
            ("sh", "-c", f"{JAVAC} Shop.java Events.java"),
        ],
        ("java", "-cp", "classes:lib/*", "Shop"),
    ),
    "go": ([("go", "vet", "./..."), ("go", "build", "-o", "shop", ".")], ("./shop",)),
    # The generated code of the first has no types of its own everywhere; that of the second is strict.
    "python": ([(*MYPY, "--follow-imports=silent", "shop.py")], (sys.executable, "shop.py")),
    "python_client": ([(*MYPY, "shop.py", "payments_client")], (sys.executable, "shop.py")),
}

# What reads the events with the models. It gets the name of a file with an event on each line.
READERS: dict[str, Sequence[str]] = {
    "typescript": ("node", "js/events.js"),
    "java": ("java", "-cp", "classes:lib/*", "Events"),
}


class Failed(Exception):
    """A step failed. The message is what its program said."""


def main() -> int:
    parser = argparse.ArgumentParser("python -m contract.clients", description=__doc__)
    parser.add_argument("clients", nargs="*", metavar="CLIENT", help=f"one of {', '.join(BUILDS)}; default: all, and the linters")
    chosen = parser.parse_args().clients
    if unknown := set(chosen) - BUILDS.keys():
        parser.error(f"there is no client {', '.join(sorted(unknown))}")
    if packages := {package for program, package in TOOLS.items() if not shutil.which(program)}:
        print(f"make clients needs programs that are not here: apt-get install {' '.join(sorted(packages))}", file=sys.stderr)
        return 1
    try:
        prepare()
        generate()
    except Failed as error:
        print(f"The generators failed: {error}", file=sys.stderr)
        return 1
    names = chosen or list(BUILDS)
    with running() as facts, front(facts["url"]) as address, ThreadPoolExecutor(os.cpu_count()) as pool:
        failures = report(pool, {name: partial(use, name, address, facts["url"]) for name in names})
        readers = {f"events, {name}": partial(read_events, name, events_in(facts)) for name in names if name in READERS}
        failures += report(pool, readers | ({} if chosen else dict(linters())))
    return 1 if failures else 0


def report(pool: ThreadPoolExecutor, checks: dict[str, Callable[[], str]]) -> int:
    """Run the checks beside each other, print a line for each as it ends, and return how many failed."""
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
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        raise Failed(f"{' '.join(map(str, command))}\n{(done.stdout + done.stderr)[-4000:]}")
    return done.stdout


def prepare() -> None:
    """Lay out build/clients/: what was written by hand, the generator and the tools of npm, which stay for the next time."""
    tools = BUILD / "tools"
    tools.mkdir(parents=True, exist_ok=True)
    for name in BUILDS:
        shutil.rmtree(BUILD / name, ignore_errors=True)
        shutil.copytree(SOURCES / name, BUILD / name)
    for file in (SOURCES / "tools").iterdir():
        shutil.copy(file, tools)
    if not _generator().exists():
        artifact = f"org.openapitools:openapi-generator-cli:{GENERATOR}"
        run((*MAVEN, f"{DEPENDENCIES}:copy", f"-Dartifact={artifact}", f"-DoutputDirectory={tools}"))
    if hashlib.sha256(_generator().read_bytes()).hexdigest() != GENERATOR_SHA256:
        raise Failed(f"{_generator().name} is not the file that we know; its checksum differs")
    installed, lock = tools / "installed.json", (SOURCES / "tools" / "package-lock.json").read_text()
    if not installed.exists() or installed.read_text() != lock:
        run(("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"), tools)
        installed.write_text(lock)


def _generator() -> Path:
    return BUILD / "tools" / f"openapi-generator-cli-{GENERATOR}.jar"


def generate() -> None:
    configurations = sorted(SOURCES.glob("*/generator.yaml"))
    run(("java", "-jar", _generator(), "batch", "--fail-fast", *configurations))
    run(("node", "models.mjs", ROOT / "docs" / "asyncapi.yaml", BUILD), BUILD / "tools")
    package, config = BUILD / "python_client" / "payments_client", SOURCES / "python_client" / "config.yaml"
    options = ("--path", "docs/openapi.json", "--meta", "none", "--output-path", package, "--config", config)
    program = Path(sys.executable).with_name("openapi-python-client")
    run((program, "generate", *options, "--overwrite", "--fail-on-warning"))


def use(name: str, address: str, service_url: str) -> str:
    """Compile a client and let its shop use the service. Then look the shop's payments up ourselves."""
    commands, shop = BUILDS[name]
    for command in commands:
        run(command, BUILD / name)
    owner = f"shop-{name}"
    steps = tuple(run((*shop, address, owner), BUILD / name).splitlines())
    if steps != STEPS:
        raise Failed(f"its shop did {', '.join(steps) or 'nothing'} instead of {', '.join(STEPS)}")
    request = urllib.request.Request(f"{service_url}/api/v1/payments?limit=100", headers={"X-Local-Owner": owner})  # noqa: S310
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - on this machine
        payments = json.load(answer)["data"]
    held = {payment["order_id"]: (payment["status"], payment["amount"], payment["amount_refunded"]) for payment in payments}
    if len(payments) != len(PAID) or held != PAID:
        raise Failed(f"the service holds {held} instead of {PAID}")
    return ", ".join(steps)


def events_in(facts: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the events that the shops caused, from the broker, and the examples of the document, which has all types."""
    consumer = KafkaConsumer(bootstrap_servers=facts["kafka_bootstrap_servers"])
    partitions = [TopicPartition(facts["topic"], number) for number in consumer.partitions_for_topic(facts["topic"]) or ()]
    consumer.assign(partitions)
    consumer.seek_to_beginning(*partitions)
    ends = consumer.end_offsets(partitions)
    found = []
    while any(consumer.position(partition) < end for partition, end in ends.items()):
        for records in consumer.poll(1000).values():
            found += [{"type": dict(record.headers)["ce_type"].decode(), "value": json.loads(record.value)} for record in records]
    consumer.close()
    document = yaml.safe_load((ROOT / "docs" / "asyncapi.yaml").read_text(encoding="utf-8"))
    examples = [
        {"type": message["name"], "value": example["payload"]}
        for message in document["components"]["messages"].values()
        for example in message["examples"]
    ]
    return found + examples


def read_events(name: str, told: list[dict[str, Any]]) -> str:
    """Let a program read the events with the generated models, and write each again: both must say the same."""
    large = max(amount for _, amount, _ in PAID.values())
    if not any(event["value"].get("amount_captured") == large for event in told):
        raise Failed("the broker has no event of the large payment")
    file = BUILD / name / "events.jsonl"
    file.write_text("".join(json.dumps(event) + "\n" for event in told))
    read = run((*READERS[name], file), BUILD / name).split()
    if read != [event["type"] for event in told]:
        raise Failed(f"it read {len(read)} of {len(told)} events: {read}")
    return f"read {len(told)} events of {len(set(read))} types"


def linters() -> Iterable[tuple[str, Callable[[], str]]]:
    return ()


if __name__ == "__main__":
    sys.exit(main())
