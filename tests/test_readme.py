"""The README says what the code does."""

import re
from pathlib import Path

from payments.domain.payment import TRANSITIONS
from payments.gateway.simulated_scenarios import SCENARIO_TOKENS

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def test_the_diagram_is_the_transition_table() -> None:
    block = re.search(r"stateDiagram-v2\n(.*?)```", README, re.DOTALL)
    assert block is not None
    drawn = {tuple(line.strip().split(" --> ")) for line in block[1].strip().splitlines()}
    assert drawn == {("[*]", "PENDING")} | {(a.value, b.value) for a, after in TRANSITIONS.items() for b in after}


def test_every_scenario_token_is_explained() -> None:
    assert set(re.findall(r"`(tok_\w+)`", README)) >= SCENARIO_TOKENS
