"""The service stays small enough to read in an evening. CONTRIBUTING.md says what to do when a bound is reached."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE_ROOT = ROOT / "layers/shared/python"
SHIPPED = [*(PACKAGE_ROOT / "payments").rglob("*.py"), *ROOT.glob("functions/*/*.py")]

SHIPPED_LINES = 3000
LINES_OF_ONE_PAYMENT = 2000

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


def imported(path: Path) -> set[Path]:
    """Return the shipped files that a file imports, at its top or inside a function."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    found = (PACKAGE_ROOT / f"{name.replace('.', '/')}.py" for name in names if name.startswith("payments"))
    return {file for file in found if file.exists()}


def passed_by(handler: Path, not_passed: Iterable[str]) -> set[Path]:
    """Return the files that an invocation of the handler can pass: all that it imports, directly or not."""
    skipped = {PACKAGE_ROOT / "payments" / name for name in not_passed}
    files, new = set[Path](), {handler}
    while new:
        files |= new
        new = {found for file in new for found in imported(file)} - files - skipped
    return files


def lines_of(files: Iterable[Path]) -> int:
    return sum(code_lines(file.read_text(encoding="utf-8")) for file in files)


def test_layer_and_functions_stay_within_their_bound() -> None:
    assert lines_of(SHIPPED) <= SHIPPED_LINES


def test_the_files_that_one_payment_over_http_passes_stay_within_their_bound() -> None:
    other_commands = ("commands/capture.py", "commands/void.py", "commands/refund.py")
    look_ups = ("api/lookups.py", "api/health.py")
    files = passed_by(ROOT / "functions/process/handler.py", (*other_commands, *look_ups))
    assert PACKAGE_ROOT / "payments/api/routes.py" in files
    assert PACKAGE_ROOT / "payments/broker/kafka.py" in files
    assert lines_of(files) <= LINES_OF_ONE_PAYMENT


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
