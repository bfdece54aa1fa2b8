"""What a training loss is measured on, as the user asked for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lightning_hessian.records import Mode

SweepPrecision = Literal["full", "fast_float32", "bfloat16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LossOptions:
    """What the loss is measured on.

    Attributes:
        num_samples: Frozen training samples, ``"all"``, or ``"auto"`` for as many as the numbers
            call for.
        batch_size: Samples per frozen batch; the training loader's when None.
        mode: ``eval`` or ``train``.
        precision: Bits of the arithmetic; None for 32, or 64 where the module is in 64 and for
            differences of gradients.
        parameters: Name patterns; None for all trainable ones.
        seed: Of the choice of samples, the probes and the random numbers inside the step.
        hvp: ``auto`` takes exact products, and differences of gradients where there are none.
        loss: Which loss of the module: None for that of ``training_step``, the name of a method
            ``(batch, batch_idx)``, or the number of a ``manual_backward`` call in the step.
        dataloader: Where the frozen batches come from; the Trainer's training set when None.
        weight_fn: Weight of a batch in the mean; its number of samples if None.
        products: Whether Hessian-vector products are ``needed``, ``wanted`` where they exist, or
            not asked for (``none``).
        held_out: Samples that training does not see: a loader, True for the validation set, or
            False for none.
        graph_memory: Bytes that kept gradient graphs may hold; None for a quarter of what is free.
        sweep_precision: How products are made: ``full``, ``fast_float32`` by faster kernels where
            these lose nothing, or ``bfloat16`` beside exact ones.

    Raises:
        ValueError: If an option is out of its range.
    """

    num_samples: int | Literal["all", "auto"]
    batch_size: int | None
    mode: Mode
    precision: Literal[32, 64] | None
    parameters: Sequence[str] | None
    seed: int
    hvp: Literal["auto", "exact", "finite_difference"] = "auto"
    loss: str | int | None = None
    dataloader: Iterable[Any] | None = None
    weight_fn: Callable[[Any], float] | None = None
    products: Literal["needed", "wanted", "none"] = "needed"
    held_out: bool | Iterable[Any] = False
    graph_memory: int | None = None
    sweep_precision: SweepPrecision = "full"

    def __post_init__(self) -> None:
        if self.num_samples not in ("all", "auto") and not _is_whole(self.num_samples, 1):
            raise ValueError(
                "`num_samples` must be a whole number of at least 1, 'all' or 'auto', got "
                f"{self.num_samples!r}."
            )
        if self.batch_size is not None and not _is_whole(self.batch_size, 1):
            raise ValueError(
                "`batch_size` must be a whole number of at least 1, or None for the training "
                f"loader's, got {self.batch_size!r}."
            )
        if self.mode not in ("eval", "train"):
            raise ValueError(f"`mode` must be 'eval' or 'train', got {self.mode!r}.")
        if self.precision not in (32, 64, None):
            raise ValueError(f"`precision` must be 32, 64 or None, got {self.precision!r}.")
        if not _is_whole(self.seed, 0):
            raise ValueError(f"`seed` must be a whole number of at least 0, got {self.seed!r}.")
        if isinstance(self.parameters, str):
            raise ValueError(
                f"`parameters` must be a list of name patterns, got the string "
                f"{self.parameters!r}. Write `parameters=[{self.parameters!r}]`."
            )
        if self.parameters is not None and not self.parameters:
            raise ValueError(
                f"`parameters` must hold at least one name pattern, got {self.parameters!r}. Give "
                "None for all trainable parameters."
            )
        if self.hvp not in ("auto", "exact", "finite_difference"):
            raise ValueError(
                f"`hvp` must be 'auto', 'exact' or 'finite_difference', got {self.hvp!r}."
            )
        if not (self.loss is None or isinstance(self.loss, str) or _is_whole(self.loss, 0)):
            raise ValueError(
                "`loss` must be the name of a method of the module, the number of a "
                f"`manual_backward` call (from 0), or None, got {self.loss!r}."
            )
        if not (isinstance(self.held_out, bool) or hasattr(self.held_out, "__iter__")):
            raise ValueError(
                f"`held_out` must be True, False or a loader of batches, got {self.held_out!r}."
            )
        if not (self.weight_fn is None or callable(self.weight_fn)):
            raise ValueError(
                "`weight_fn` must be a function from a batch to its weight, or None, got "
                f"{self.weight_fn!r}."
            )


def _is_whole(value: object, least: int) -> bool:
    return type(value) is int and value >= least
