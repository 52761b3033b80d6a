"""The pages of docs/serving/, and what stands in their blocks and tables."""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "docs" / "serving"
PAGES = {path.name: path.read_text() for path in sorted(FOLDER.glob("*.md"))}


def blocks(page: str, language: str) -> list[str]:
    pattern = rf"^```{language}\n(.*?)^```$"
    return re.findall(pattern, PAGES[page], flags=re.MULTILINE | re.DOTALL)


def table(page: str, header: str) -> list[list[str]]:
    """Cells of the one table whose first line begins so, without its header."""
    lines = PAGES[page].splitlines()
    (start,) = [index for index, line in enumerate(lines) if line.startswith(f"| {header} |")]
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)
