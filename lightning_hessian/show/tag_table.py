"""The table of the tags that a kind of report is logged under, for the documentation."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from lightning_hessian.records import Group, Kind
from lightning_hessian.show.leaves import NUMBER, Leaf, grouped, leaves_of_kind
from lightning_hessian.show.scalars import few


@dataclass(frozen=True, slots=True, kw_only=True)
class TagRow:
    """One quantity of a report.

    Attributes:
        tags: Without prefix and group; ``<name>`` stands for what differs.
        errors: Tags of its error, and what kind of error they are, in words.
        doc: What it is.
        unit: Of its numbers; empty where there is none.
        kind: Scalars or text.
        group: Of the tags; that of errors is their own.
        few: Those of the tags, errors included, that are logged with ``scalars="few"`` too.
    """

    tags: tuple[str, ...]
    errors: tuple[tuple[tuple[str, ...], str], ...]
    doc: str
    unit: str
    kind: Kind
    group: Group
    few: frozenset[str]

    def names(self, tag: str) -> bool:
        """Whether a logged tag, without prefix and group, is one of this row's, errors included."""
        known = [*self.tags, *(each for tags, _ in self.errors for each in tags)]
        return any(re.fullmatch(_pattern(each), tag) for each in known)


def tag_rows(kind: type) -> list[TagRow]:
    """What a kind of report is logged under, as its fields declare.

    Args:
        kind: A class of reports.

    Returns:
        A row for each quantity: its own first, then what all reports have.
    """
    leaves = list(leaves_of_kind(kind))
    fewer = {(leaf.group, tag) for leaf in few(leaves) for tag in _tags(leaf)}
    rows = []
    for leaf in leaves:
        if leaf.shown.error_of:
            continue
        errors = tuple(
            (_tags(other), other.shown.doc)
            for other in leaves
            if other.shown.error_of == leaf.name
            and (other.stem, other.outer) == (leaf.stem, leaf.outer)
        )
        chain = (leaf.shown, *reversed(leaf.outer))
        grouped_tags = [(leaf.group, tag) for tag in _tags(leaf)]
        grouped_tags += [("errors", tag) for tags, _ in errors for tag in tags]
        rows.append(
            TagRow(
                tags=_tags(leaf),
                errors=errors,
                doc="; ".join(each.doc for each in chain if each.doc),
                unit=next((each.unit for each in chain if each.unit), ""),
                kind=leaf.shown.kind,
                group=leaf.group,
                few=frozenset(tag for group, tag in grouped_tags if (group, tag) in fewer),
            )
        )
    return rows


def tag_table(kind: type, *, prefix: str) -> str:
    """The rows as a Markdown table.

    Args:
        kind: A class of reports.
        prefix: First part of each tag: the callback's name.

    Returns:
        Lines joined by line ends; in bold what is logged with ``scalars="few"`` too.
    """
    lines = ["| tag | what it is | its error | unit |", "|---|---|---|---|"]
    for row in tag_rows(kind):
        tags = _cell(row, row.tags, row.group, prefix)
        what = row.doc if row.kind == "scalars" else f"{row.kind}: {row.doc}"
        errors = "; ".join(f"{_cell(row, t, 'errors', prefix)}: {doc}" for t, doc in row.errors)
        lines.append(f"| {tags} | {what} | {errors} | {row.unit} |")
    return "\n".join(lines)


def _cell(row: TagRow, tags: Iterable[str], group: Group, prefix: str) -> str:
    named = ((tag, f"`{grouped(prefix, group, tag)}`") for tag in tags)
    return ", ".join(f"**{name}**" if tag in row.few else name for tag, name in named)


def _pattern(tag: str) -> str:
    return re.sub(r"<\w+>", ".+", re.escape(tag).replace("<i>", r"\d+"))


def _tags(leaf: Leaf) -> tuple[str, ...]:
    return tuple(tag.replace(NUMBER, "<i>") for tag in leaf.tags)
