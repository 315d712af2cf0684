"""The last release, whose code runs beside the present one while a stack is updated."""

from __future__ import annotations

from tests.servers import MIGRATIONS

ROOT = MIGRATIONS.parent

COMMIT = "fae17885a5da8d9dfa55c82bcda0882d12b7274c"
"""The commit of 0.1.0. After a release: the new one's, and the expectations in test_compatibility.py become those of one code on
two schemas."""
