"""The page as one HTML file, which needs no TensorBoard and no network."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_hessian.tab.entries import as_json

STATIC = Path(__file__).parent / "static"
DATA_ID = "hessian-data"
"""Where the page looks for its data."""
MARK = '<meta name="generator" content="lightning_hessian">'
HEAD = 512
"""Bytes of a file in which the mark stands, if it is such a page."""
POLICY = (
    "default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data: blob:; "
    "base-uri 'none'; form-action 'none'"
)
"""Nothing is fetched from anywhere, and no script runs but the page's own, told by their hashes."""
DOCUMENT = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
{mark}
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
</head>
<body>
<noscript>This page draws its numbers by JavaScript, which is switched off here.</noscript>
<script type="application/json" id="{data_id}">{data}</script>
{scripts}
<script type="text/plain" id="licences">{licences}</script>
</body>
</html>
"""


def page_html(runs: Sequence[Mapping[str, Any]], *, title: str) -> str:
    """Write the page with its data and its scripts.

    Args:
        runs: Each with ``name``, ``entries``, ``problems`` and ``losses``, as :func:`read_entries`
            and :func:`read_losses` give them; whatever they hold, they are text in the document.
        title: Of the document.

    Returns:
        A whole document. What draws surfaces, five times as large as the rest, is in it only where
        an entry has one.
    """
    has_surface = any("surface" in entry for run in runs for entry in run["entries"])
    names = ("surface", "index") if has_surface else ("index",)
    scripts = [(STATIC / f"{name}.js").read_text(encoding="utf8") for name in names]
    licences = [(STATIC / f"{name}.licences.md").read_text(encoding="utf8") for name in names]
    return DOCUMENT.format(
        mark=MARK,
        policy=POLICY.format(scripts=" ".join(_hash_of(script) for script in scripts)),
        title=html.escape(title),
        data_id=DATA_ID,
        # no text in it can end the script, or begin a comment
        data=as_json(runs).replace("<", "\\u003c"),
        scripts="\n".join(f'<script type="module">{script}</script>' for script in scripts),
        licences="\n".join(licences).replace("</", "<\\/"),
    )


def is_page(path: Path) -> bool:
    """Whether a file is such a page, of whichever version.

    Args:
        path: Of a file.

    Returns:
        Whether it says so.
    """
    with path.open("rb") as file:
        return MARK.encode() in file.read(HEAD)


def _hash_of(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
