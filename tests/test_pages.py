"""The pages lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

from tests.cases import case
from tests.pages import PAGES, ROOT

TEXTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("events/*.md"), *ROOT.glob("bench/*.md")]


def anchors(page: Path) -> set[str]:
    """Return the names that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_each_link_to_another_file_or_heading_leads_there() -> None:
    assert len(TEXTS) > 30
    for page in TEXTS:
        text = re.sub(r"^```.*?^```$|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            path, _, anchor = target.partition("#")
            if "://" in target or path.startswith("mailto:"):
                continue
            with case(f"{page.relative_to(ROOT)}: {target}"):
                file = page.parent / path if path else page
                assert file.exists()
                assert not anchor or anchor in anchors(file)


def test_the_contents_name_each_page_for_integrators() -> None:
    contents = PAGES[0].read_text(encoding="utf-8")
    assert {page.name for page in PAGES[1:]} == set(re.findall(r"\| \[[\w.-]+\]\(integration/([\w.-]+)\)", contents))
