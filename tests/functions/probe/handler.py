"""Calls a function's handler, and returns which modules the process has imported by then."""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import Any

_spec = importlib.util.spec_from_file_location("probed", os.environ["PROBED_HANDLER"])
assert _spec and _spec.loader
_probed = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_probed)


def lambda_handler(event: Any, context: Any) -> dict[str, Any]:
    answer = _probed.lambda_handler(event, context)
    return {"answer": answer, "modules": sorted(sys.modules)}
