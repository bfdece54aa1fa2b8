"""Which loss is measured, by which parameters, on which batches, in which arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch.utils.data import DataLoader

from lightning_hessian.options.checks import check_choice, is_whole, takes_one
from lightning_hessian.records import Weights

ProductMethod = Literal["auto", "exact", "finite_difference"]
"""``auto`` takes exact products, and differences of gradients where there are none."""

Noise = Literal["expected", "fixed"]
"""What is meant by the loss of a step that draws random numbers: its mean, or one draw of it."""

Sampling = Literal["uniform", "as_drawn"]
"""How often a sample counts: each alike, or as often as the training's sampler draws it."""


@dataclass(frozen=True, kw_only=True)
class Loss:
    """Which loss, by which parameters, on which batches, in which arithmetic.

    The defaults are the loss that ``training_step`` returns, over all trainable parameters, in
    batches of the training's size.

    Args:
        which: None for the module's hessian_loss(batch, batch_idx) if it has one, else the loss of
            training_step; the name of another method; or the number (from 0) of a manual_backward
            call in the step, over the parameters of the optimisers that step on it.
        parameters: Patterns of parameter names such as "encoder.*"; all trainable ones when None.
        precision: Bits of the arithmetic; when None 32, or 64 where the module is in 64 and for
            differences of gradients.
        products: "auto" takes exact Hessian-vector products, and differences of gradients where
            there are none; "exact" and "finite_difference" insist on one of the two.
        weights: "current" for those that the optimiser moves; "averaged" for the average of the
            Trainer's EMA or SWA callback (a WeightAveraging, StochasticWeightAveraging), with the
            buffers that belong to it, from when it has begun. List that callback before this one,
            else the average is that of the step before.
        noise: Of a step that draws random numbers: "expected" for the mean of the loss over draws,
            with their scatter in the errors; "fixed" for the loss under one draw, always the same.
        sampling: How often a sample counts where the training's sampler does not take each alike:
            "uniform" for each alike all the same; "as_drawn" as often as it is drawn, by the
            weights of a WeightedRandomSampler, or as in an epoch of another sampler.
        batch_size: Samples per forward pass; as in training when None.
        dataloader: Batches to measure on instead of samples of the training set: as they come, in
            their order, or, of a loader that shuffles, any samples of its data set. The training's
            own loader likewise; one with another sampler is not touched: any of its samples.
        weight_fn: Weight of a batch in the mean, such as its number of tokens; its number of
            samples when None.

    Raises:
        ValueError: If an option is out of its range.

    Example:
        >>> from lightning_hessian import HessianSpectrum, Loss
        >>> callback = HessianSpectrum(loss=Loss(parameters=["head.*"], precision=64))
    """

    # numbers first, as the command line gives texts
    which: int | str | None = None
    parameters: Sequence[str] | None = None
    precision: Literal[32, 64] | None = None
    products: ProductMethod = "auto"
    weights: Weights = "current"
    noise: Noise = "expected"
    sampling: Sampling = "uniform"
    batch_size: int | None = None
    # bare, as jsonargparse makes no objects of an `Iterable` or of a type with a parameter
    dataloader: DataLoader | Iterable[Any] | None = None  # type: ignore[type-arg]
    weight_fn: Callable[[Any], float] | None = None

    def __post_init__(self) -> None:
        if self.batch_size is not None and not is_whole(self.batch_size, 1):
            raise ValueError(
                "`batch_size` must be a whole number of at least 1, or None for the training "
                f"loader's, got {self.batch_size!r}."
            )
        check_choice("precision", self.precision, (32, 64, None))
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
        check_choice("products", self.products, ("auto", "exact", "finite_difference"))
        check_choice("weights", self.weights, ("current", "averaged"))
        check_choice("noise", self.noise, ("expected", "fixed"))
        check_choice("sampling", self.sampling, ("uniform", "as_drawn"))
        if not (self.which is None or isinstance(self.which, str) or is_whole(self.which, 0)):
            raise ValueError(
                "`which` must be the name of a method of the module, the number of a "
                f"`manual_backward` call (from 0), or None, got {self.which!r}."
            )
        if not (self.weight_fn is None or takes_one(self.weight_fn)):
            raise ValueError(
                "`weight_fn` must be a function from a batch to its weight, or None, got "
                f"{self.weight_fn!r}."
            )
