"""A report, or a kind of report, taken apart into what it declares to be shown."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lightning_hessian.records import Band, Declared, Group, Lines, Shown, declared

NUMBER = "\0"
"""In a tag: where the place of a tensor's element stands."""


@dataclass(frozen=True, slots=True, eq=False)
class Leaf:
    """What a record declares of one field, under the tags it has in the whole report.

    Attributes:
        tags: Without the prefix; one for each number, with :data:`NUMBER` for all of a tensor's.
        value: None if it was not measured, or there is no report.
        shown: The declaration.
        outer: Declarations of the fields that hold the record, from the report's on.
        name: Of the field.
        stem: What the tags of this record's fields have in common: equal for a value and its error.
        holder: The record, or None.
    """

    tags: tuple[str, ...]
    value: Any
    shown: Shown
    outer: tuple[Shown, ...]
    name: str
    stem: tuple[str, str]
    holder: Any

    @property
    def chart(self) -> Lines | Band | None:
        """The chart that it is drawn in: its own, or one for all of a record that is looked at."""
        if self.shown.error_of or self.group in ("details", "cost"):
            return None
        charts = [each.chart for each in self._chain if each.chart]
        return charts[0] if charts else None

    @property
    def group(self) -> Group:
        """The group of its tags: its own, or the nearest of what holds it."""
        if self.shown.error_of:
            return "errors"
        return next((each.group for each in self._chain if each.group is not None), "")

    @property
    def _chain(self) -> tuple[Shown, ...]:
        """Declarations from its own outwards."""
        return (self.shown, *reversed(self.outer))


def grouped(prefix: str, group: Group, tag: str) -> str:
    """A tag as it is logged."""
    return f"{prefix}_{group}/{tag}" if group else f"{prefix}/{tag}"


def numbers(leaf: Leaf) -> Iterator[tuple[str, float]]:
    """The tags of a leaf, each with its number; none of what was not measured."""
    if leaf.value is None:
        return
    if isinstance(leaf.value, Tensor):
        for place, number in enumerate(leaf.value.tolist(), start=1):
            yield leaf.tags[0].replace(NUMBER, str(place)), float(number)
    else:
        values = leaf.value if isinstance(leaf.value, tuple) else (leaf.value,)
        for tag, number in zip(leaf.tags, values, strict=True):
            yield tag, float(number)


def leaves_of(report: Any) -> Iterator[Leaf]:
    """What a report has to show; without numbers only what is shown of a failure too.

    What was not measured is there without a value, as far as its tags are known.
    """
    failed = getattr(report, "failure", None) is not None
    for each in declared(type(report)):
        if each.shown.in_failure or not failed:
            yield from _walk(each, report, ("", ""), (), is_kind=False)


def leaves_of_kind(kind: type) -> Iterator[Leaf]:
    """What a kind of report may show; what a tag depends on stands in it as ``<name>``."""
    for each in declared(kind):
        yield from _walk(each, None, ("", ""), (), is_kind=True)


def _walk(
    each: Declared, holder: Any, stem: tuple[str, str], outer: tuple[Shown, ...], *, is_kind: bool
) -> Iterator[Leaf]:
    value = None if holder is None else getattr(holder, each.name)
    if value is not None and each.shown.when and not each.shown.when(value):
        value = None
    if not each.shown.tags:
        return
    if each.record is None or each.shown.kind != "scalars":
        tags = tuple("".join(_continued(stem, tag, value, holder)) for tag in each.shown.tags)
        yield Leaf(tags, value, each.shown, outer, each.name, stem, holder)
        return
    if not each.is_several:
        items = [value]
    elif value is None:
        items = [None] if is_kind else []
    else:
        items = list(value)
    for item in items:
        inner = _continued(stem, each.shown.tags[0], item, holder)
        for part in declared(each.record):
            yield from _walk(part, item, inner, (*outer, each.shown), is_kind=is_kind)


def _continued(stem: tuple[str, str], tag: str, held: Any, holder: Any) -> tuple[str, str]:
    """A stem, and a tag's part in it: what goes before and behind the parts to come."""
    names = Names(held, holder)
    before, _, behind = tag.partition("{}")
    return stem[0] + before.format_map(names), behind.format_map(names) + stem[1]


class Names(dict[str, Any]):
    """What may stand in braces: attributes of the record held, or else of the holder."""

    def __init__(self, held: Any, holder: Any) -> None:
        super().__init__(i=NUMBER)
        self._records = [each for each in (held, holder) if dataclasses.is_dataclass(each)]

    def __missing__(self, name: str) -> Any:
        """The attribute; ``<name>`` where there is no record."""
        for record in self._records:
            if hasattr(record, name):
                return getattr(record, name)
        return _Unknown(name)


class _Unknown:
    def __init__(self, name: str) -> None:
        self._name = name

    def __format__(self, spec: str) -> str:
        return f"<{self._name}>"
