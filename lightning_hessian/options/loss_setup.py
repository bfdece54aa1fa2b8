"""All that the loss of a fit is set up by: the user's choice, and what a study needs of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from lightning_hessian.options.checks import check_choice, check_seed, is_whole
from lightning_hessian.options.loss import Loss
from lightning_hessian.options.solver import SweepPrecision
from lightning_hessian.records import Mode


@dataclass(frozen=True, slots=True, kw_only=True)
class LossSetup:
    """What a session opens.

    Attributes:
        loss: Which one, as the user chose it.
        num_samples: Frozen training samples, ``"all"``, ``"auto"`` for as many as the numbers call
            for, or None for as many as the plan of a fit can pay, 2,048 where there is none.
        mode: ``eval`` or ``train``.
        seed: Of the choice of samples, the probes and the random numbers inside the step.
        derivatives: Whether Hessian-vector products are ``required``, ``optional``, or not asked
            for (``none``).
        held_out: Samples that training does not see: a loader, True for the validation set, or
            False for none.
        graph_memory: Bytes that kept gradient graphs may hold; None for a quarter of what is free.
        reads_scatter: Whether errors are read off the scatter over batches, of which there must
            then be a dozen.
        step_batches: Whether the samples are wanted in the batches of the optimiser's steps too.
        sweep_precision: How products are made: ``full``, ``fast_float32`` by faster kernels where
            these lose nothing, or ``bfloat16`` beside exact ones.
    """

    loss: Loss = field(default_factory=Loss)
    num_samples: int | Literal["all", "auto"] | None = None
    mode: Mode = "eval"
    seed: int = 0
    derivatives: Literal["required", "optional", "none"] = "required"
    held_out: bool | Iterable[Any] = False
    graph_memory: int | None = None
    reads_scatter: bool = True
    step_batches: bool = False
    sweep_precision: SweepPrecision = "full"

    def planned_samples(self, affordable: int, population: int | None) -> int:
        """The user's own number of samples, or where it is left to a plan what this can pay."""
        if self.num_samples == "all" and population is not None:
            return population
        count = self.num_samples if isinstance(self.num_samples, int) else affordable
        return count if population is None else min(count, population)

    def __post_init__(self) -> None:
        if not isinstance(self.loss, Loss):
            raise ValueError(
                f"`loss` must be a `Loss`, got {self.loss!r}. Write `loss=Loss(which="
                f"{self.loss!r})`."
            )
        if self.num_samples not in ("all", "auto", None) and not is_whole(self.num_samples, 1):
            raise ValueError(
                "`num_samples` must be None, a whole number of at least 1, 'all' or 'auto', got "
                f"{self.num_samples!r}."
            )
        check_choice("mode", self.mode, ("eval", "train"))
        check_seed(self.seed)
        if not (isinstance(self.held_out, bool) or hasattr(self.held_out, "__iter__")):
            raise ValueError(
                f"`held_out` must be True, False or a loader of batches, got {self.held_out!r}."
            )
