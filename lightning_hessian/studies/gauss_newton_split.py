"""The Hessian beside its Gauss-Newton and residual parts, each by its spectrum."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from lightning_hessian.errors import RefusedError
from lightning_hessian.hvp import (
    GaussNewtonOperator,
    LossOutputs,
    ResidualOperator,
    find_outputs,
)
from lightning_hessian.linalg import (
    CountingOperator,
    KrylovSpace,
    RitzPairs,
    SymmetricOperator,
    block_lanczos,
    estimate_trace,
    largest_eigenvalues,
    negative_mass,
    rademacher,
    smallest_eigenvalues,
    spectral_density,
)
from lightning_hessian.loss import Conductor, TrainingLoss
from lightning_hessian.records import Alignment, GaussNewtonSplit, Note, PartSpectrum
from lightning_hessian.statistics import deviation_over_subspaces

RTOL, TRACE_RTOL = 1e-2, 0.05
TRACE_PROBES = 8
"""On what a sweep has left."""
DOWN = 0.3
"""Of the residual part's norm, below which its negative eigenvalues are the directions of ``q``."""
FEW = 20
"""Directions at most."""
SIGN = 1e-3
"""Of the residual part's norm, above which a sign counts: only it makes eigenvalues negative."""


def gauss_newton_split(
    loss: TrainingLoss | Conductor,
    *,
    num_probes: int = 4,
    num_steps: int = 60,
    num_eigenvalues: int = 5,
    generator: torch.Generator,
) -> GaussNewtonSplit:
    """Measure the spectra of a Hessian and of its parts, ``H = H0 + H1``.

    Each by one block Lanczos sweep of as many steps from the same probes, so that their errors are
    alike; for up to ``num_probes * num_steps`` parameters all is exact. The outputs are found where
    the step calls a known loss of ``torch.nn.functional``, or marks them by :func:`as_outputs`.

    Where a loss has more beside its outputs, as a penalty on weights, ``H1`` holds that curvature
    too, as a note says.

    Costs ``2 (num_probes num_steps + 8)`` products with ``H`` and as many, and up to 20 more, with
    ``H0``, of some 2 and 3 gradients each; and the memory of a basis of ``num_probes num_steps``
    vectors.

    Args:
        loss: At the present parameters, with exact products; float64 keeps the small eigenvalues.
        num_probes: Of each sweep; 2 at least, where the errors over probes are wanted.
        num_steps: Of each sweep.
        num_eigenvalues: At both ends.
        generator: Source of the probes, on the CPU.

    Returns:
        The spectra, and how the parts lie to each other.

    Raises:
        ValueError: If a number is not positive.
        RefusedError: If the outputs are not found, or products are not exact.

    Example:
        Of a linear model under mean squares there is no residual part.

        >>> from lightning_hessian.hvp import open_loss
        >>> network, inputs = torch.nn.Linear(3, 2, bias=False), torch.eye(3)
        >>> def step(batch, _):
        ...     return torch.nn.functional.mse_loss(network(batch), torch.zeros(3, 2))
        >>> with open_loss(network, step, [inputs]) as loss:
        ...     split = gauss_newton_split(loss, generator=torch.Generator().manual_seed(0))
        >>> f"{split.gauss_newton.trace.value:.4f}", split.residual_share.value < 1e-6
        ('2.0000', True)
    """
    for name, number in (("num_probes", num_probes), ("num_steps", num_steps)):
        if number < 1:
            raise ValueError(
                f"`{name}` must be at least 1, got {number}. Four probes of 60 steps are a start."
            )
    if loss.products.quality.method != "exact":
        raise RefusedError(
            "the parts of a Hessian need exact products, got differences of gradients: the error "
            "of those would all be in the residual part. Where the self-check of the products "
            "fails, its reason says what to change."
        )
    outputs = find_outputs(loss)
    width = min(num_probes, loss.size)
    sweeps = _Sweeps(loss, outputs, width, width * num_steps, generator)
    operators = (sweeps.hessian, sweeps.gauss_newton, sweeps.residual)
    spaces = [sweeps.of(operator) for operator in operators]
    space = spaces[2]
    threshold = SIGN * RitzPairs.of(space).scale
    hessian, first, residual = (
        sweeps.part(each, operator, num_eigenvalues, max(threshold, spaces[0].noise))
        for each, operator in zip(spaces, operators, strict=True)
    )
    # the residual part's products were made of one of each
    both = sweeps.residual.num_products
    alignment = _alignment(sweeps.gauss_newton, first, space)
    return GaussNewtonSplit(
        hessian=hessian,
        gauss_newton=first,
        residual=residual,
        alignment=alignment,
        loss=loss.gradient().loss,
        outputs=outputs.names,
        num_outputs=outputs.num_outputs,
        mean_square=outputs.mean_square,
        num_parameters=loss.size,
        num_samples=loss.sample.num_samples,
        num_probes=width,
        num_steps=-(-space.dimension // width),
        num_hvps=sweeps.hessian.num_products + both,
        num_gauss_newton_products=sweeps.gauss_newton.num_products + both,
        notes=_notes(outputs, alignment),
    )


@dataclass
class _Sweeps:
    """Sweeps of three operators, from the same probes."""

    loss: TrainingLoss | Conductor
    outputs: LossOutputs
    width: int
    most: int
    generator: torch.Generator

    def __post_init__(self) -> None:
        loss = self.loss
        self.hessian = CountingOperator(loss.products)
        self.gauss_newton = CountingOperator(GaussNewtonOperator(loss, self.outputs))
        self.residual = CountingOperator(ResidualOperator(loss, self.outputs))
        self.probes = rademacher(
            loss.size, self.width, generator=self.generator, device=loss.device, dtype=loss.dtype
        )

    def of(self, operator: SymmetricOperator) -> KrylovSpace:
        return block_lanczos(
            operator, self.probes, max_dimension=self.most, generator=self.generator
        )

    def part(
        self, space: KrylovSpace, operator: SymmetricOperator, count: int, threshold: float
    ) -> PartSpectrum:
        ritz = RitzPairs.of(space)
        density = spectral_density(space, ritz)
        trace = estimate_trace(
            operator,
            rtol=TRACE_RTOL,
            max_num_probes=TRACE_PROBES,
            generator=self.generator,
            space=space,
        )
        return PartSpectrum(
            largest=largest_eigenvalues(ritz, min(count, space.dimension), rtol=RTOL),
            smallest=smallest_eigenvalues(ritz, min(count, space.dimension), rtol=RTOL),
            trace=trace,
            density=density,
            negative_mass=negative_mass(space, ritz, density, threshold=threshold),
        )


def _alignment(
    gauss_newton: SymmetricOperator, first: PartSpectrum, space: KrylovSpace
) -> Alignment | None:
    """``q`` over the residual part's most negative directions that have converged."""
    ritz, size, mean = RitzPairs.of(space), space.size, first.trace.value / space.size
    limit = -DOWN * ritz.scale
    is_down = (ritz.values < limit) & (ritz.bounds <= RTOL * ritz.extent)
    # products of roundings are not symmetric, which is in the bounds: none of their pairs converges
    count = min(int(is_down.sum()), FEW)
    if count == 0 or mean <= 0:
        return None
    coordinates = ritz.vectors[:, is_down][:, :count]
    vectors = space.combine(coordinates).to(gauss_newton.device, gauss_newton.dtype)
    forms = (vectors * gauss_newton.matmat(vectors)).double().sum(dim=0)
    value = float(forms.sum() / vectors.double().square().sum()) / mean
    spread = first.density.second_moment / first.density.mean**2 - 1
    return Alignment(
        value=value,
        standard_error=abs(value) * first.trace.standard_error / first.trace.value,
        free_deviation=deviation_over_subspaces(spread, size, count),
        num_directions=count,
        limit=limit,
    )


def _notes(outputs: LossOutputs, alignment: Alignment | None) -> tuple[Note, ...]:
    notes = []
    if outputs.has_more:
        text = (
            "The loss depends on the parameters also past the outputs that were found "
            f"({', '.join(outputs.names)}), as by a penalty on weights: that curvature is in the "
            "residual part."
        )
        notes.append(Note("residual-holds-more", text))
    if alignment is None:
        text = (
            "The residual part has no converged direction of strong negative curvature, so that "
            "nothing is said of how the Gauss-Newton part lies to it."
        )
        notes.append(Note("alignment-not-measured", text))
    return tuple(notes)
