"""Imports a function's handler at the first event, when Lambda takes no extension any more."""

from __future__ import annotations

import importlib.util
import os
from functools import cache
from types import ModuleType
from typing import Any


@cache
def _handler() -> ModuleType:
    spec = importlib.util.spec_from_file_location("late", os.environ["PROBED_HANDLER"])
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def lambda_handler(event: Any, context: Any) -> Any:
    return _handler().lambda_handler(event, context)
