"""What every report of a measurement says: of what it is, when it was made, and at which price."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from typing_extensions import Self

from lightning_hessian.records.json_values import JsonValue, to_primitives
from lightning_hessian.records.note import Note
from lightning_hessian.records.output import LAST, Column, derived, shown
from lightning_hessian.records.schema import read_record

Mode = Literal["eval", "train"]
"""``eval``: dropout off, running statistics. ``train``: fixed dropout masks, batch statistics."""

Weights = Literal["current", "averaged"]
"""``current``: those that the optimiser moves. ``averaged``: of a weight-averaging callback."""

LOSS_COLUMN = Column("loss", 8, "{:.4f}", place=1)
NUM_HVPS = "Hessian-vector products that the measurement cost"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Report:
    """The circumstances of a measurement of the training loss.

    Attributes:
        loss: Mean training loss on the frozen samples.
        num_parameters: Number of selected parameters, ``n``; complex ones count twice.
        num_samples: Frozen training samples that the loss averages.
        data: Where the samples come from, in words.
        mode: ``eval`` or ``train``.
        loss_name: Which loss, where the module was told to have several; None for the step's own.
        weights: ``current``, those that training moves, or ``averaged``, of a weight averaging.
        num_hvps: Hessian-vector products spent.
        seconds: Wall time of the whole measurement.
        cost: Sample gradients that the measurement came to: a forward and a backward pass of one
            sample is one, a Hessian-vector product two of each sample.
        overhead: Sample gradients of all measurements in this fit, this one included, over those of
            the training so far; ``nan`` before its first batch.
        num_skipped: Steps since the report before at which a measurement was due and was left out
            for ``max_overhead``.
        epoch: ``trainer.current_epoch``.
        global_step: ``trainer.global_step``, the number of optimiser steps behind the weights, as
            checkpoints name it.
        logged_step: Where the report stands on the axis of the loggers: the number of batches
            behind the weights that ended in a step, as Lightning counts for ``self.log``. None for
            ``global_step``, from which it differs in manual optimisation alone.
        ckpt_path: The checkpoint that holds these weights, if one is known.
        notes: What was not reached and what to beware of, in sentences.
        failure: None, or why there are no numbers.
    """

    title: ClassVar[str]
    """Of the Custom Scalars page."""
    bulky: ClassVar[tuple[str, ...]] = ()
    """Fields with a default that only the last reports of a history keep in a checkpoint."""

    loss: float = field(
        default=math.nan,
        metadata=shown(
            "loss",
            doc="training loss on the frozen samples",
            unit="loss",
            columns=(LOSS_COLUMN,),
        ),
    )
    num_parameters: int = field(
        default=0,
        metadata=shown(
            "num_parameters",
            doc="selected parameters; complex ones count twice",
            when=bool,
            group="cost",
        ),
    )
    num_samples: int = field(
        default=0,
        metadata=shown(
            "num_samples", doc="samples that the loss averages", when=bool, group="cost"
        ),
    )
    data: str = ""
    mode: Mode = "eval"
    loss_name: str | None = None
    weights: Weights = "current"
    num_hvps: int = field(
        default=0, metadata=shown("num_hvps", doc=NUM_HVPS, unit="products", group="cost")
    )
    seconds: float = field(
        default=math.nan,
        metadata=shown(
            "seconds",
            doc="what the measurement took",
            unit="s",
            columns=(Column("seconds", 8, "{:.2f}", place=LAST + 1),),
            in_failure=True,
            group="cost",
            few=True,
        ),
    )
    cost: float = field(
        default=0.0,
        metadata=shown(
            "cost",
            doc="what the measurement cost; training spends one for each sample that it takes",
            unit="sample gradients",
            when=lambda cost: cost > 0,
            group="cost",
        ),
    )
    overhead: float = field(
        default=math.nan,
        metadata=shown(
            "overhead",
            doc="what all measurements cost so far, over what the training did",
            in_failure=True,
            group="cost",
            few=True,
        ),
    )
    num_skipped: int = field(
        default=0,
        metadata=shown(
            "num_skipped",
            doc="due moments left out since the last report",
            in_failure=True,
            group="cost",
        ),
    )
    epoch: int = 0
    global_step: int = 0
    logged_step: int | None = None
    ckpt_path: str | None = None
    notes: tuple[Note, ...] = field(
        default=(),
        metadata=shown("notes", doc="what to beware of", kind="text", when=bool),
    )
    failure: str | None = field(
        default=None,
        metadata=shown("failure", doc="why there are no numbers", kind="text", in_failure=True),
    )

    @derived(shown(columns=(Column("step", 6, "{}", place=0),)))
    def step(self) -> int:
        """Where it stands on the axis of the loggers."""
        return self.global_step if self.logged_step is None else self.logged_step

    @derived(
        shown(
            "failed",
            doc="1 where there are no numbers",
            in_failure=True,
            group="errors",
            few=True,
        )
    )
    def failed(self) -> bool:
        """Whether there are no numbers."""
        return self.failure is not None

    @property
    def qualifications(self) -> tuple[Note, ...]:
        """The notes without which a number would mislead."""
        return tuple(note for note in self.notes if note.qualifies)

    @derived(
        shown(
            "qualified",
            doc="1 where a note qualifies numbers: see the text `notes`",
            group="errors",
            few=True,
        )
    )
    def qualified(self) -> bool:
        """Whether some number is not to be read without a note."""
        return bool(self.qualifications)

    def to_dict(self) -> dict[str, JsonValue]:
        """The report in primitives, fit for JSON and for a checkpoint's callback state.

        Returns:
            Only ``str``, ``int``, ``float``, ``bool``, ``None``, ``list`` and ``dict``.
        """
        return to_primitives(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, is_whole: bool = False) -> Self:
        """The report that :meth:`to_dict` described, or a JSON file beside a checkpoint.

        Args:
            values: By field name; None stands for ``nan`` where the field holds a number.
            is_whole: Refuse values that lack a field or have others. Without it the former keep
                their defaults and the latter are left out, so that reports of other versions can be
                read.

        Returns:
            A report of equal numbers, its tensors of float64 or bool.

        Raises:
            ValueError: If a value is not what its field is for; the text names the field.
        """
        return read_record(cls, values, is_whole=is_whole)
