"""How a quantity is shown: declared once, beside the field that holds it.

A record's fields say under which tags their numbers are logged, in which chart they are drawn, in
which column of the table they stand, and what they are in a sentence. Whatever shows a report
(``lightning_hessian.show``) reads it from here and names no kind of report.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar, overload

from typing_extensions import Self

Value = TypeVar("Value")

Kind = Literal["scalars", "text"]
"""``scalars`` go to every logger, ``text`` to TensorBoard."""

Group = Literal["", "layers", "details", "errors", "cost"]
"""Of tags: what one looks at, under the callback's name alone; by parts of the network; further
numbers; errors and whatever else says how far a number can be trusted; what the measurement came
to. The latter four stand under ``<name>_<group>/``."""

LAST = 90
"""Place of columns that stand behind a report's own."""


@dataclass(frozen=True, slots=True)
class Lines:
    """A chart of curves: of all tags that name its title.

    Attributes:
        title: Of the chart.
    """

    title: str


@dataclass(frozen=True, slots=True)
class Band:
    """A chart of one curve of the first group, between its ``<tag>_lower`` and ``<tag>_upper``.

    Attributes:
        title: Of the chart; with attributes of the record in braces.
    """

    title: str


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the terminal's table.

    Attributes:
        heading: Above it.
        width: In letters.
        cell: Format of the value, such as ``{:.4f}``; when empty the value with its error, to the
            digits that the error leaves.
        of: Which part of the record that the field holds; all of it when empty.
        detail: Ends the heading, with attributes of the first value there is in braces.
        place: Columns stand in the order of these numbers, then of the fields.
    """

    heading: str
    width: int
    cell: str = ""
    of: str = ""
    detail: str = ""
    place: int = LAST // 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """The declaration of one field, see :func:`shown`."""

    tags: tuple[str, ...]
    doc: str = ""
    unit: str = ""
    error_of: str = ""
    chart: Lines | Band | None = None
    columns: tuple[Column, ...] = ()
    kind: Kind = "scalars"
    when: Callable[[Any], bool] | None = None
    in_failure: bool = False
    group: Group | None = None
    few: bool = False


KEY = "shown"


def shown(
    *tags: str,
    doc: str = "",
    unit: str = "",
    error_of: str = "",
    chart: Lines | Band | None = None,
    columns: tuple[Column, ...] = (),
    kind: Kind = "scalars",
    when: Callable[[Any], bool] | None = None,
    in_failure: bool = False,
    group: Group | None = None,
    few: bool = False,
) -> dict[str, Shown]:
    """Declare how a field is shown: its ``metadata``.

    A field holds a number, a tensor of numbers, several numbers (a tag each), a record whose fields
    declare tags in turn, or a tuple of such records. The tag of a record's field continues the tag
    of the field that holds the record: there, at ``{}``, or at the end. In braces may stand ``i``,
    the place (from 1) in a tensor, and attributes of the record held, or else of the holder.

    Args:
        tags: Without the prefix; none for what has a column only.
        doc: What it is, in a sentence.
        unit: Of the numbers.
        error_of: The field of the same record that this is an error of.
        chart: On the Custom Scalars page, for this and for all below it but errors, details and
            costs.
        columns: In the table of the terminal; of a report's own fields alone.
        kind: Where it goes.
        when: Of the value, whether it is shown.
        in_failure: Whether it is shown of a report without numbers too.
        group: Of its tags, and of all below it that has none of its own; what has an ``error_of``
            is in ``errors`` anyway.
        few: Whether it is logged with ``scalars="few"`` too, though its group, or want of a chart,
            would leave it out.

    Returns:
        To be given to ``dataclasses.field``.

    Example:
        >>> from dataclasses import dataclass, field
        >>> from lightning_hessian.show import scalars
        >>> @dataclass(frozen=True)
        ... class Sizes:
        ...     norm: float = field(metadata=shown("norm", doc="Frobenius norm"))
        ...     ends: tuple[float, float] = field(
        ...         metadata=shown("norm_lower", "norm_upper", error_of="norm", doc="95 % interval")
        ...     )
        >>> scalars(Sizes(norm=2.0, ends=(1.5, 2.5)))
        {'norm': 2.0, 'norm_lower': 1.5, 'norm_upper': 2.5}
    """
    declaration = Shown(
        tags=tags,
        doc=doc,
        unit=unit,
        error_of=error_of,
        chart=chart,
        columns=columns,
        kind=kind,
        when=when,
        in_failure=in_failure,
        group=group,
        few=few,
    )
    return {KEY: declaration}


class Derived(Generic[Value]):
    """A property of a record that is shown like a field: computed from its fields."""

    def __init__(self, compute: Callable[[Any], Value], declaration: Shown) -> None:
        self.compute = compute
        self.declaration = declaration
        self.__doc__ = compute.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...

    @overload
    def __get__(self, instance: object, owner: type) -> Value: ...

    def __get__(self, instance: object | None, owner: type) -> Self | Value:
        """The value, or of the class the declaration."""
        return self if instance is None else self.compute(instance)


def derived(
    declaration: dict[str, Shown],
) -> Callable[[Callable[[Any], Value]], Derived[Value]]:
    """Make a method a property that is shown as ``declaration``, made by :func:`shown`, says."""
    return lambda compute: Derived(compute, declaration[KEY])
