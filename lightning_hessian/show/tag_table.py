"""The table of the tags that a kind of report is logged under, for the documentation."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lightning_hessian.records import Kind
from lightning_hessian.show.leaves import NUMBER, Leaf, leaves_of_kind


@dataclass(frozen=True, slots=True, kw_only=True)
class TagRow:
    """One quantity of a report.

    Attributes:
        tags: Without the prefix; ``<name>`` stands for what differs.
        errors: Tags of its error, and what kind of error they are, in words.
        doc: What it is.
        unit: Of its numbers; empty where there is none.
        kind: Scalars, histogram or text.
    """

    tags: tuple[str, ...]
    errors: tuple[tuple[tuple[str, ...], str], ...]
    doc: str
    unit: str
    kind: Kind

    def names(self, tag: str) -> bool:
        """Whether a logged tag, without the prefix, is one of this row's, errors included."""
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
        rows.append(
            TagRow(
                tags=_tags(leaf),
                errors=errors,
                doc="; ".join(each.doc for each in chain if each.doc),
                unit=next((each.unit for each in chain if each.unit), ""),
                kind=leaf.shown.kind,
            )
        )
    return rows


def tag_table(kind: type, *, prefix: str) -> str:
    """The rows as a Markdown table.

    Args:
        kind: A class of reports.
        prefix: First part of each tag: the callback's name.

    Returns:
        Lines joined by line ends.
    """
    lines = ["| tag | what it is | its error | unit |", "|---|---|---|---|"]
    for row in tag_rows(kind):
        tags = ", ".join(f"`{prefix}/{tag}`" for tag in row.tags)
        what = row.doc if row.kind == "scalars" else f"{row.kind}: {row.doc}"
        errors = "; ".join(
            f"{', '.join(f'`{tag}`' for tag in tags)}: {doc}" for tags, doc in row.errors
        )
        lines.append(f"| {tags} | {what} | {errors} | {row.unit} |")
    return "\n".join(lines)


def _pattern(tag: str) -> str:
    return re.sub(r"<\w+>", ".+", re.escape(tag).replace("<i>", r"\d+"))


def _tags(leaf: Leaf) -> tuple[str, ...]:
    return tuple(tag.replace(NUMBER, "<i>") for tag in leaf.tags)
