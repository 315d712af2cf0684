"""What Stripe costs a cold start: nothing where the gateway is simulated, and little where it is not."""

from __future__ import annotations

import sys

import pytest

from tests.test_imports import Imports

pytestmark = pytest.mark.server  # each handler is imported by a process of its own

MODULES = 12
"""So many modules the adapter may bring, ours and those of the standard library. It brings 7."""


@pytest.mark.parametrize("function", ["process", "refund", "reconcile", "lookups", "relay"])
def test_a_handler_imports_nothing_of_stripe_unless_it_is_asked(function: str) -> None:
    before = set(Imports("handler", function, spy=False).modules)
    brought = set(Imports("handler", function, spy=False, after="import payments.gateway.stripe").modules) - before
    assert [module for module in before if "stripe" in module] == []
    assert "payments.gateway.stripe" in brought
    assert {module.partition(".")[0] for module in brought} <= sys.stdlib_module_names | {"payments"}
    assert len(brought) <= MODULES, brought
