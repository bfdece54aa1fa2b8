"""The page as one HTML file, taken apart; event files with entries made by hand."""

from __future__ import annotations

import json
from collections.abc import Iterable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from lightning_hessian.records import Report
from lightning_hessian.show.tab_entry import entry_bytes, tab_entry
from lightning_hessian.show.tensorboard import write_entry


class Page(HTMLParser):
    """What a browser finds in a document: scripts end where it would end them."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.comments: list[str] = []
        self.title = ""
        self.feed(document)
        self.close()

    @property
    def data(self) -> Any:
        """What the page's script gets."""
        (text,) = (text for attrs, text in self.scripts if attrs.get("id") == "hessian-data")
        return json.loads(text, parse_constant=lambda name: f"no JSON: {name}")

    @property
    def run(self) -> list[str]:
        """The scripts that are run."""
        return [text for attrs, text in self.scripts if attrs.get("type") == "module"]

    @property
    def policy(self) -> str:
        """The Content-Security-Policy."""
        (tag,) = (a for name, a in self.tags if name == "meta" and "http-equiv" in a)
        return str(tag["content"])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_data(self, data: str) -> None:
        if self.lasttag == "script" and self.cdata_elem == "script":
            attrs, text = self.scripts[-1]
            self.scripts[-1] = (attrs, text + data)
        elif self.lasttag == "title":
            self.title += data.strip("\n")

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)


def page_in(path: str | Path) -> Page:
    """The page in a file."""
    return Page(Path(path).read_text(encoding="utf8"))


def write_events(
    folder: Path,
    reports: Iterable[Report] = (),
    *,
    name: str = "hessian",
    losses: Iterable[float] = (),
    contents: Iterable[bytes] = (),
) -> Path:
    """An event file with a loss of the user's, entries of reports, and contents as they are."""
    before = set(folder.glob("*.tfevents.*"))
    with SummaryWriter(str(folder)) as writer:
        for step, value in enumerate(losses):
            writer.add_scalar("train_loss", value, step)
        for report in reports:
            content = entry_bytes(tab_entry(report, name=name))
            write_entry(writer, content, tag=f"{name}/report", step=report.step)
        for step, content in enumerate(contents):
            write_entry(writer, content, tag=f"{name}/report", step=step)
    (path,) = set(folder.glob("*.tfevents.*")) - before
    return path
