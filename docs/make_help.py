"""Writes what the tab says of its charts from ``docs/tab.md``: ``python -m docs.make_help``.

The page that is built must be built anew afterwards.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = Path(__file__).parent / "tab.md"
MODULE = ROOT / "lightning_hessian" / "tab" / "frontend" / "src" / "help.ts"
HEAD = "// Longer explanations, as they stand in docs/tab.md: `python -m docs.make_help`.\n"


def sections(page: str) -> dict[str, list[str]]:
    """Chart to its paragraphs, of those sections that have a chart's name as their target."""
    parts = re.split(r"^\((.+)\)=\n## .+\n", page, flags=re.MULTILINE)[1:]
    return {
        chart: [plain(each) for each in paragraphs(text)]
        for chart, text in zip(parts[::2], parts[1::2], strict=True)
    }


def paragraphs(text: str) -> list[str]:
    """Up to the next heading, and without pictures."""
    own = re.split(r"^## ", text, flags=re.MULTILINE)[0]
    return [each for each in re.split(r"\n\s*\n", own.strip()) if not each.startswith("![")]


def plain(paragraph: str) -> str:
    """What a reader without links, emphasis and lines sees."""
    words = " ".join(paragraph.split())
    words = re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", words)
    return re.sub(r"\*+([^*]+)\*+", r"\1", words)


def module() -> str:
    """The module as it should stand on the disk."""
    text = json.dumps(sections(PAGE.read_text(encoding="utf8")), indent=2, ensure_ascii=False)
    return f"{HEAD}\nexport const HELP: Record<string, string[]> = {text};\n"


if __name__ == "__main__":
    MODULE.write_text(module(), encoding="utf8")
