"""What the pages for integrators hold that runs: programs, by the name in their first line, and commands for a shell."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "docs/integration.md", *sorted((ROOT / "docs/integration").glob("*.md"))]


def program(name: str) -> str:
    """Return the one program that begins with its name."""
    (found,) = (text for page in PAGES for text in blocks(page, "python") if text.startswith(f"# {name}\n"))
    return found


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
