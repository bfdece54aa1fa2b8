"""How far the running optimiser is from its edge of stability, at a report's weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lightning_hessian.errors import RefusedError
from lightning_hessian.linalg import (
    CountingOperator,
    SymmetricOperator,
    leading_eigenvectors,
    tracked_space,
)
from lightning_hessian.loss import Clipping, Conductor, Trained, TrainingLoss
from lightning_hessian.records import Eigenvalues, Note, StabilityMargin
from lightning_hessian.studies.stability_edge import StabilityEdge, stability_edge

FEW_PRODUCTS = 6
"""That follow the vector of the report before; a fresh start finds the largest with as many."""


class PreconditionedHessian:
    """``V -> s D^(1/2) (H + W) D^(1/2) V``: the Hessian as an optimiser's steps see it.

    Args:
        hessian: ``H``.
        edge: The steps ``D``, the decay ``W`` and the sign ``s``.
    """

    def __init__(self, hessian: SymmetricOperator, edge: StabilityEdge) -> None:
        self._hessian, self._sign = hessian, edge.sign
        self.size, self.device, self.dtype = hessian.size, hessian.device, hessian.dtype
        self._scales = edge.steps.sqrt().to(self.device, self.dtype)[:, None]
        # decay shrinks the weights whichever way the loss is followed
        self._shift = (edge.steps * edge.decay).to(self.device, self.dtype)[:, None]

    def matmat(self, vectors: Tensor) -> Tensor:
        """Multiply a block ``(n, b)``, for as many products of ``H``."""
        images = self._hessian.matmat(self._scales * vectors)
        return self._sign * self._scales * images + self._shift * vectors


@dataclass(frozen=True, slots=True, eq=False)
class EdgeOfLoss:
    """The edge of the optimiser that steps a loss's parameters, or why there is none.

    Attributes:
        edge: None where it is not known.
        notes: Why it is not, or what to beware of.
    """

    edge: StabilityEdge | None
    notes: tuple[Note, ...] = ()

    @classmethod
    def of(cls, loss: TrainingLoss | Conductor) -> EdgeOfLoss:
        """Read off the fit's optimiser, for its next step; costs nothing."""
        try:
            if loss.trained is None:
                raise RefusedError("there is no optimiser outside of a fit.")
            refuse_clipping_by_value(loss.trained.clipping)
            found = stability_edge(*loss.trained.of(loss.parameters))
        except RefusedError as error:
            return cls(None, (Note("edge-not-known", f"The edge of stability is absent: {error}"),))
        notes = (*as_configured(loss.trained), *of_no_step(bool(found.steps.any())))
        notes = (*notes, *_of_clipping(loss.trained.clipping))
        return cls(found, notes)

    @classmethod
    def asked(
        cls, loss: TrainingLoss | Conductor, option: bool | Literal["auto"]
    ) -> EdgeOfLoss | None:
        """What an option asks for: "auto" for what is free and certain, and is no absence else."""
        if option is False or (option == "auto" and cls._is_uncertain(loss)):
            return None
        found = cls.of(loss)
        return found if option is True or found._is_free else None

    @property
    def _is_free(self) -> bool:
        """Whether there is one, finite, without a product."""
        return self.edge is not None and self.is_scaled and float(self.edge.steps[0]) > 0

    @staticmethod
    def _is_uncertain(loss: TrainingLoss | Conductor) -> bool:
        """Whether the optimiser's settings may be others than those behind the weights."""
        return loss.trained is None or loss.trained.is_as_configured

    @property
    def num_products(self) -> int:
        """That few products take; none where the Hessian's own largest eigenvalue tells."""
        return FEW_PRODUCTS if self.edge is not None and not self.is_scaled else 0

    @property
    def is_scaled(self) -> bool:
        """Whether it is the Hessian's own largest eigenvalue, but for a factor and a shift."""
        return self.edge is not None and self.edge.is_uniform and self.edge.sign == 1

    def from_largest(
        self, largest: Eigenvalues, interval: tuple[float, float] | None
    ) -> StabilityMargin | None:
        """Without a product, from the Hessian's own largest eigenvalue and its interval."""
        if self.edge is None or not self.is_scaled or not len(largest.values):
            return None
        step, decay = float(self.edge.steps[0]), float(self.edge.decay[0])
        ends = None
        if interval is not None:
            ends = step * (interval[0] + decay), step * (interval[1] + decay)
        return StabilityMargin(
            sharpness=step * (float(largest.values[0]) + decay),
            bound=step * float(largest.residual_bounds[0]),
            threshold=self.edge.threshold,
            largest_eigenvalue=self.edge.threshold / step - decay if step else torch.inf,
            interval=ends,
            optimizer=self.edge.optimizer,
        )

    def measured(
        self,
        loss: TrainingLoss | Conductor,
        *,
        rtol: float,
        max_hvps: int | None,
        recycled: Tensor | None,
        generator: torch.Generator,
        on_products: Callable[[int], None],
    ) -> tuple[StabilityMargin, Tensor]:
        """Measure it by a short sweep.

        Args:
            loss: At the present parameters.
            rtol: Of the sharpness, where products are not few.
            max_hvps: Bound on the products; None for few.
            recycled: Vector of the report before.
            generator: Source of the probe.
            on_products: Told the number of products after each block.

        Returns:
            The margin, and the leading vector ``(n, 1)``, to be recycled.
        """
        assert self.edge is not None
        operator = CountingOperator(PreconditionedHessian(loss.products, self.edge), on_products)
        error = loss.products.quality.error * float(self.edge.steps.max())
        if max_hvps is None:
            space = tracked_space(
                operator,
                num_products=min(FEW_PRODUCTS, loss.size),
                recycled=recycled,
                generator=generator,
            )
            values, coordinates, residuals = space.ritz()
            value, bound, spent = float(values[0]), float(residuals[0]) + error, space.dimension
            vector = space.followed(coordinates[:, :1])
        else:
            pairs = leading_eigenvectors(
                operator,
                count=1,
                rtol=rtol,
                max_hvps=max_hvps,
                probes_per_block=1,
                generator=generator,
                product_error=lambda: error,
            )
            value = float(pairs.eigenvalues.values[0])
            bound = float(pairs.eigenvalues.residual_bounds[0])
            vector, spent = pairs.vectors, pairs.num_hvps
        margin = StabilityMargin(
            sharpness=value,
            bound=bound,
            threshold=self.edge.threshold,
            optimizer=self.edge.optimizer,
            num_hvps=spent,
        )
        return margin, vector


def as_configured(trained: Trained) -> tuple[Note, ...]:
    """What to say of an optimiser that has taken none of the steps behind the weights."""
    if not trained.is_as_configured:
        return ()
    text = (
        "The optimiser is as `configure_optimizers` makes it: of the checkpoint's own, whose "
        "learning rate and momentum a schedule may have changed, nothing is read."
    )
    return (Note("optimiser-as-configured", text),)


def of_no_step(moves: bool) -> tuple[Note, ...]:
    """What to say where the next step is none."""
    if moves:
        return ()
    text = (
        "The learning rate is 0 for the next step, as where a warm-up begins: no curvature is too "
        "large for it, and a threshold of 2 over it is infinite."
    )
    return (Note("learning-rate-of-zero", text),)


def refuse_clipping_by_value(clipping: Clipping | None) -> None:
    """Of such steps nothing is known."""
    if clipping is not None and clipping.algorithm == "value":
        raise RefusedError(
            "gradients are clipped by value, which is no scaling of a step. Clip by norm."
        )


def _of_clipping(clipping: Clipping | None) -> tuple[Note, ...]:
    if clipping is None:
        return ()
    text = (
        f"The edge of stability is that of steps without clipping. Gradients longer than "
        f"{clipping.value:g} are shortened, and with them the steps: beyond the edge these stay "
        "bounded."
    )
    return (Note("edge-without-clipping", text),)
