"""The service stays small enough to read in an evening. tests/api/test_one_payment.py bounds the way of one payment."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ADAPTERS = {f"stripe{part}.py" for part in ("", "_amounts", "_events", "_http", "_seen", "_settings", "_signature")}
"""What talks to one real gateway. Whoever reads the service need not read it."""

SHIPPED = [
    *(file for file in (ROOT / "layers/shared/python/payments").rglob("*.py") if file.name not in ADAPTERS),
    *ROOT.glob("functions/*/*.py"),
]

SHIPPED_LINES = 5800
"""3,000 until plans were kept (ADR 28), the relay claimed while it sends (ADR 15) and events could follow the answer (ADR 27).
3,140 until there were webhooks (540 lines, ADR 31) and more filters of lists (ADR 30). 3,840 until slow webhooks had
places of their own and a claim read little of what waits behind others (ADR 31). 3,925 until the port to a gateway grew up
(ADR 32): what it refuses, has not finished, or no longer says under a key. 4,180 until a payment could wait for its
customer (ADR 34), the gateway's events came in (ADR 35), what it did by itself was entered (ADR 36), disputes were recorded
(ADR 37), and the simulated gateway showed all of it in a local run. 5,740 until a pull went on where it stopped, what does
not fit was told once a day, and nobody got the action of a payment that is being voided. 5,780 until a command that somebody
had overtaken was told so, and its payment looked at (ADR 36)."""

NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def code_lines(text: str) -> int:
    """Count the lines of code: no blank lines, no comments, no docstrings (nor strings that document a constant)."""
    documented = {
        line
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    lines = {line for token in tokens if token.type not in NO_CODE for line in range(token.start[0], token.end[0] + 1)}
    return len(lines - documented)


def lines_of(files: Iterable[Path]) -> int:
    return sum(code_lines(file.read_text(encoding="utf-8")) for file in files)


def test_layer_and_functions_stay_within_their_bound() -> None:
    assert lines_of(SHIPPED) <= SHIPPED_LINES


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("x = 1\n", 1),
        ("# why\n\nx = 1  # and how\n", 1),
        ('"""What."""\n\nX = 1\n"""Why\nit is so."""\n', 1),
        ('def f():\n    """What."""\n    return """\n    SQL\n    """\n', 4),
        ("f(\n    1,\n)\n", 3),
    ],
)
def test_a_line_of_code_is_counted_and_a_line_of_prose_is_not(text: str, lines: int) -> None:
    assert code_lines(text) == lines
