"""The import budgets of the handlers: what a cold start may import at init. A failure names the module and who imported it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

pytestmark = pytest.mark.server  # each handler is imported by a process of its own

ROOT = Path(__file__).resolve().parent.parent

DATABASE = {"pg8000", "scramp", "asn1crypto", "dateutil", "six"}
POWERTOOLS = {"aws_lambda_powertools", "jmespath", "typing_extensions"}
PYDANTIC = {"pydantic", "pydantic_core", "annotated_types", "typing_inspection"}
KAFKA = {"kafka", "crc32c"}
FASTAPI = {"fastapi", "starlette", "anyio", "opentelemetry", "annotated_doc", "mangum"}

PACKAGES = {
    "process": DATABASE | POWERTOOLS | PYDANTIC | KAFKA,
    "refund": DATABASE | POWERTOOLS | PYDANTIC | KAFKA,
    "lookups": DATABASE | POWERTOOLS | PYDANTIC | FASTAPI,
    "relay": DATABASE | POWERTOOLS,
    "reconcile": DATABASE | POWERTOOLS | PYDANTIC,
    "webhooks": DATABASE | POWERTOOLS | PYDANTIC | FASTAPI,
    "courier": DATABASE | POWERTOOLS,
    "gateway_events": DATABASE | POWERTOOLS | PYDANTIC,
}
"""The packages that a handler may import at init, besides ours and the standard library."""

SLOW_MODULES = {
    "asyncio",
    "http.client",
    "unittest",
    "multiprocessing",
    "xml",
    "sqlite3",
    "urllib.request",
    "concurrent.futures.process",
}
"""Modules of the standard library that are slow to import. Only the libraries that a handler has to import may bring them."""

OVER_HTTP = {"asyncio", "http.client"}
ALLOWED_SLOW = {"lookups": OVER_HTTP, "webhooks": OVER_HTTP, "courier": {"http.client"}}
"""FastAPI imports asyncio, and through its routing the client. The courier is a client."""

WHERE_INSTALLED = {"botocore"}
"""Lambda has it. Powertools imports its first module alone, to name itself to AWS."""

MODULES_OVER_LIBRARIES = 97
"""So many modules a handler may import that its libraries have not: our own, and those of the standard library."""

TIME_OVER_LIBRARIES = 2.0
"""A handler's import may take so many times the processor's time of its libraries alone. It takes 1.3 to 1.8 times as much."""

PROBE = """
import json, sys, time

importers = {}

class Spy:
    def find_spec(self, name, path=None, target=None):
        frame = sys._getframe(1)
        while frame and frame.f_globals.get("__name__", "").split(".")[0] in ("importlib", "_frozen_importlib"):
            frame = frame.f_back
        importers.setdefault(name, frame.f_globals["__name__"] if frame else None)

if sys.argv[3:]:
    sys.meta_path.insert(0, Spy())
before, begun_s = set(sys.modules), time.process_time()
for name in sys.argv[1].split():
    __import__(name)
exec(sys.argv[2])
taken_s = time.process_time() - begun_s
print(json.dumps({"modules": sorted(set(sys.modules) - before), "importers": importers, "taken_s": taken_s}))
"""


class Imports:
    """What the import of some modules brings into a new process, and then the statement `after`."""

    def __init__(self, names: str, function: str, *, spy: bool = True, after: str = "", given: Mapping[str, str] = {}) -> None:
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "PYTHONPATH": f"{ROOT / 'functions' / function}:{ROOT / 'layers/shared/python'}",
            "DATABASE_URL": "postgresql://payments_service:p@127.0.0.1/payments",
            "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9092",
            "POWERTOOLS_SERVICE_NAME": "payments",
        }
        environment |= given
        command = [sys.executable, "-c", PROBE, names, after, *(["spy"] if spy else [])]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout.splitlines()[-1])
        self.modules: list[str] = found["modules"]
        self.taken_s: float = found["taken_s"]
        self._importers: dict[str, str | None] = found["importers"]

    def chain(self, module: str) -> str:
        """Return the module and who imported it, and who imported that, up to the handler."""
        names = [module]
        while (importer := self._importers.get(names[-1])) and importer != "__main__" and importer not in names:
            names.append(importer)
        return " <- ".join(names)


@pytest.fixture(scope="module")
def at_init() -> dict[str, Imports]:
    return {name: Imports("handler", name) for name in PACKAGES}


@pytest.mark.parametrize("name", PACKAGES)
def test_a_handler_imports_the_packages_of_its_budget_alone(name: str, at_init: dict[str, Imports]) -> None:
    imports = at_init[name]
    allowed = PACKAGES[name] | WHERE_INSTALLED | sys.stdlib_module_names | {"payments", "handler"}
    foreign = [module for module in imports.modules if module.partition(".")[0] not in allowed and "_sysconfigdata" not in module]
    culprits = {module.partition(".")[0]: imports.chain(module) for module in reversed(foreign)}
    assert not culprits, f"{name} imports what is not in its budget: {'; '.join(culprits.values())}"
    unused = PACKAGES[name] - {module.partition(".")[0] for module in imports.modules}
    assert not unused, f"the budget of {name} allows what it does not import: {sorted(unused)}"


@pytest.mark.parametrize("name", PACKAGES)
def test_a_handler_imports_no_slow_module_that_its_libraries_do_not_need(name: str, at_init: dict[str, Imports]) -> None:
    imports = at_init[name]
    slow = set(imports.modules) & SLOW_MODULES - ALLOWED_SLOW.get(name, set())
    assert not slow, f"{name} imports {'; '.join(imports.chain(module) for module in sorted(slow))}"


def _libraries(name: str) -> str:
    """Return the modules of its libraries that a handler names, directly or through our code."""
    named = "aws_lambda_powertools pg8000.core pydantic.main pydantic.fields fastapi fastapi.responses mangum kafka"
    return " ".join(module for module in named.split() if module.partition(".")[0] in PACKAGES[name])


@pytest.mark.parametrize("name", PACKAGES)
def test_a_handler_imports_few_modules_more_than_its_libraries(name: str, at_init: dict[str, Imports]) -> None:
    imports = at_init[name]
    more = set(imports.modules) - set(Imports(_libraries(name), name).modules)
    culprits = "\n".join(imports.chain(module) for module in sorted(more))
    assert len(more) <= MODULES_OVER_LIBRARIES, f"{name} imports {len(more)} modules more than its libraries:\n{culprits}"


@pytest.mark.parametrize("name", ["process", "lookups", "relay"])
def test_a_handler_computes_little_more_at_init_than_its_libraries(name: str) -> None:
    pairs = [(Imports("handler", name, spy=False), Imports(_libraries(name), name, spy=False)) for _ in range(3)]
    ours_s, libraries_s = (min(imports.taken_s for imports in side) for side in zip(*pairs, strict=True))
    assert ours_s <= TIME_OVER_LIBRARIES * libraries_s, f"{name}: {ours_s:.3f} s, its libraries alone {libraries_s:.3f} s"


def test_a_culprit_is_named_with_the_one_that_imported_it() -> None:
    assert Imports("html.parser", "process").chain("_markupbase") == "_markupbase <- html.parser"


@pytest.mark.parametrize("name", ["process", "refund", "reconcile"])
def test_nothing_of_stripe_is_imported_until_the_service_is_made_with_it(name: str) -> None:
    def of_stripe(after: str, given: Mapping[str, str] = {}) -> set[str]:
        modules = Imports("handler", name, after=after, given=given).modules
        return {module for module in modules if module.startswith(("payments.gateway.stripe", "payments.stripe_settings"))}

    made, stripe = "import payments.wiring; payments.wiring.service()", {"GATEWAY": "stripe", "STRIPE_API_KEY": "sk_test_1"}
    assert of_stripe(made) == of_stripe(made, {"GATEWAY": "simulated"}) == of_stripe("", stripe) == set()
    assert of_stripe(made, stripe) >= {"payments.gateway.stripe", "payments.stripe_settings"}
