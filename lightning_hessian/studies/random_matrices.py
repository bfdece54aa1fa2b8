"""Random matrices over the measured spectrum of a Hessian and of its parts."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch

from lightning_hessian.linalg import kolmogorov_distance, wasserstein_distance
from lightning_hessian.records import (
    Choice,
    Estimate,
    FreeSumModel,
    GaussNewtonSplit,
    MatrixModel,
    Note,
    RandomMatrixComparison,
    SpectralDensity,
)
from lightning_hessian.theory import (
    DiscreteMeasure,
    FreeSum,
    RefinedRelu,
    WishartPlusWigner,
    quantized,
)

Law = WishartPlusWigner | RefinedRelu
NUM_CELLS = 60
"""Of equal width, and as many of equal mass, in which a free sum is compared."""
NUM_NEGATIVE = 16
NUM_LAW_CELLS = 400
"""Of a law."""
LARGE_MEAN = 0.5
"""Of the residual part, in its standard deviations, that the models' zero does not stand for."""
NO_RESIDUAL = 1e-10
"""Variance of a residual part, relative, that is rounding."""


def compare_random_matrices(
    split: GaussNewtonSplit, *, refined: bool = False
) -> RandomMatrixComparison:
    """Lay random matrices over a measured spectrum, with distances and words whether they fit.

    Pennington and Bahri model ``H0`` by a Wishart matrix of mean ``sigma`` and ratio ``phi``, and
    ``H1``, free of it, by a Wigner matrix of variance ``2 epsilon sigma^2``. Two choices are laid
    over, as they differ by factors:

    - *nominal*: ``epsilon = MSELoss / 2`` and ``phi = n / (outputs samples)`` as the paper counts
      them, where the loss is one of mean squares; the paper's unit ``sigma = 1`` is the measured
      mean eigenvalue of ``H0``;
    - *effective*: ``sigma = tau(H0)``, ``phi = tau(H0^2) / sigma^2 - 1`` and ``epsilon =
      (tau(H1^2) - tau(H1)^2) / (2 sigma^2)``, which match the first two moments of both parts.

    Without parameters is the free convolution of the measured spectra of ``H0`` and ``H1``: what
    the parts would make were they turned against each other at random. At critical points its bulk
    and its moments agree with the measured ones, and its lower edge does not: ``H0`` lies on the
    negative directions of ``H1``, which ``q`` tells.

    Costs no product; some seconds for a few hundred nodes of each spectrum.

    Args:
        split: Measured spectra.
        refined: Whether to lay over the paper's refined form of networks with one hidden layer of
            rectifiers, too.

    Returns:
        Parameters, laws, distances, verdicts.

    Raises:
        ArithmeticError: If the free convolution is not found.

    References:
        J. Pennington, Y. Bahri (2017), "Geometry of neural network loss surfaces via random matrix
        theory", PMLR 70.

    Example:
        >>> from lightning_hessian.hvp import open_loss
        >>> from lightning_hessian.studies import gauss_newton_split
        >>> generator = torch.Generator().manual_seed(0)
        >>> layers = (torch.nn.Linear(4, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
        >>> network, inputs = torch.nn.Sequential(*layers), torch.randn(9, 4, generator=generator)
        >>> def step(batch, _):
        ...     return torch.nn.functional.cross_entropy(network(batch), torch.arange(9) % 2)
        >>> with open_loss(network, step, [inputs]) as loss:
        ...     split = gauss_newton_split(loss, generator=generator)
        >>> comparison = compare_random_matrices(split)
        >>> [model.choice for model in comparison.models]
        ['effective']
        >>> print(comparison.notes[0])
        The energy of the models is that of mean squares, got cross_entropy: ...
    """
    moments = _Moments(split)
    laws = _laws(split, moments)
    models = [_model(law, choice, split) for choice, law in _with_refined(laws, moments, refined)]
    return RandomMatrixComparison(
        models=tuple(models),
        free=_free(split),
        resolution=float(split.hessian.density.weights.max()) / 2,
        residual_mean=moments.residual_mean,
        notes=_notes(split, moments, laws),
    )


class _Moments:
    """Moments of both parts, per eigenvalue."""

    def __init__(self, split: GaussNewtonSplit) -> None:
        count, first, second = split.num_parameters, split.gauss_newton, split.residual
        assert first.trace.squares is not None
        assert second.trace.squares is not None
        self.scale = first.trace.value / count
        self.square = first.trace.squares.value / count
        mean = second.trace.value / count
        self.variance = second.trace.squares.value / count - mean**2
        self.residual_mean = mean / math.sqrt(self.variance) if self.variance > 0 else math.nan
        whole = split.hessian.density.second_moment
        self.has_residual = self.scale > 0 and self.variance > NO_RESIDUAL * whole

    @property
    def ratio(self) -> float:
        return self.square / self.scale**2 - 1

    @property
    def law(self) -> WishartPlusWigner:
        energy = self.variance / (2 * self.scale**2)
        return WishartPlusWigner(energy=energy, ratio=self.ratio, scale=self.scale)

    @property
    def refined(self) -> RefinedRelu | None:
        """``tau(H1^2) = epsilon phi sigma^2 / 2`` there."""
        if self.ratio > 1:
            return None
        energy = 2 * self.variance / (self.ratio * self.scale**2)
        return RefinedRelu(energy=energy, ratio=self.ratio, scale=self.scale)


def _laws(split: GaussNewtonSplit, moments: _Moments) -> list[tuple[Choice, WishartPlusWigner]]:
    if not moments.has_residual:
        return []
    laws: list[tuple[Choice, WishartPlusWigner]] = []
    if split.mean_square:
        ratio, energy = split.num_parameters / split.num_outputs, split.mean_square / 2
        nominal = WishartPlusWigner(energy=energy, ratio=ratio, scale=moments.scale)
        laws.append(("nominal", nominal))
    laws.append(("effective", moments.law))
    return laws


def _with_refined(
    laws: list[tuple[Choice, WishartPlusWigner]], moments: _Moments, refined: bool
) -> list[tuple[Choice, Law]]:
    found: list[tuple[Choice, Law]] = list(laws)
    for choice, law in laws if refined else ():
        if choice == "effective" and moments.refined is not None:
            found.append((choice, moments.refined))
        elif choice == "nominal" and law.ratio <= 1:
            own = RefinedRelu(energy=law.energy, ratio=law.ratio, scale=law.scale)
            found.append((choice, own))
    return found


def _notes(
    split: GaussNewtonSplit, moments: _Moments, laws: list[tuple[Choice, WishartPlusWigner]]
) -> tuple[Note, ...]:
    """What could not be laid over, and what of the measured parts the models do not stand for."""
    notes = []
    if not laws:
        text = (
            "The Gauss-Newton or the residual part is zero up to rounding: no law is laid over, as "
            "the models are of two parts."
        )
        return (Note("no-two-parts", text),)
    if split.mean_square is None:
        text = (
            f"The energy of the models is that of mean squares, got {', '.join(split.outputs)}: "
            "there are no nominal parameters, only those from measured moments."
        )
        notes.append(Note("no-nominal-energy", text))
    above = [f"{choice} {law.ratio:.3g}" for choice, law in laws if law.ratio > 1]
    if above:
        text = (
            f"The ratio phi is above 1 ({', '.join(above)}), outside of the paper's formulas: the "
            "Wishart matrix has eigenvalues of zero, there is no critical energy, and the refined "
            "form is not laid over."
        )
        notes.append(Note("ratio-above-one", text))
    if abs(moments.residual_mean) > LARGE_MEAN:
        text = (
            f"The residual part's mean eigenvalue is {moments.residual_mean:.2g} of its standard "
            "deviations; the models have it as zero."
        )
        notes.append(Note("residual-has-mean", text))
    return tuple(notes)


def _model(law: Law, choice: Choice, split: GaussNewtonSplit) -> MatrixModel:
    measure, whole = quantized(law, NUM_LAW_CELLS), split.hessian
    kolmogorov, wasserstein = _distances(measure, whole.density)
    below = measure.values < -whole.negative_mass.threshold
    return MatrixModel(
        law="refined ReLU" if isinstance(law, RefinedRelu) else "Wishart + Wigner",
        choice=choice,
        energy=law.energy,
        ratio=law.ratio,
        scale=law.scale,
        edges=(float(law.edges[0]), float(law.edges[1])),
        index=law.index,
        critical_energy=law.critical_energy if law.ratio <= 1 else math.nan,
        share=float(measure.weights[below].sum()),
        measured=whole.negative_mass,
        kolmogorov=kolmogorov,
        wasserstein=wasserstein,
        density=_density(measure, whole.density.bandwidth),
    )


def _free(split: GaussNewtonSplit) -> FreeSumModel:
    whole, parts = split.hessian, (split.gauss_newton.density, split.residual.density)
    both = FreeSum(*(_measure(part, part.weights) for part in parts))
    measure = both.quantized(_cuts(whole.density, parts[1], both))
    kolmogorov, wasserstein = _distances(measure, whole.density)
    place = -whole.negative_mass.threshold
    by_probe = [
        FreeSum(*(_measure(part, part.probe_weights[:, j]) for part in parts)).share_below(place)
        for j in range(split.num_probes)
    ]
    count = len(by_probe)
    error = float(np.std(by_probe, ddof=1)) / math.sqrt(count) if count > 1 else math.nan
    alignment = split.alignment
    return FreeSumModel(
        share=Estimate(value=both.share_below(place), standard_error=error),
        measured=whole.negative_mass,
        kolmogorov=kolmogorov,
        wasserstein=wasserstein,
        alignment=math.nan if alignment is None else alignment.value,
        deviations=math.nan if alignment is None else alignment.deviations,
        density=_density(measure, whole.density.bandwidth),
    )


def _measure(density: SpectralDensity, weights: torch.Tensor) -> DiscreteMeasure:
    kept = weights > 0
    return DiscreteMeasure.of(density.nodes[kept].numpy(), weights[kept].numpy())


def _cuts(
    density: SpectralDensity, residual: SpectralDensity, both: FreeSum
) -> npt.NDArray[np.float64]:
    """Between cells: of equal width, of equal measured mass, and some where negative ones are."""
    spread = 4 * math.sqrt(both.variance)
    nodes = density.nodes.numpy()
    low = min(nodes[0], both.mean - spread)
    even = np.linspace(low, max(nodes[-1], both.mean + spread), NUM_CELLS + 1)
    shares = density.weights.numpy().cumsum()
    at = np.searchsorted(shares, np.linspace(0, 1, NUM_CELLS + 1)[1:-1])
    # in the middle between two nodes, so that none is on a cut
    middles = (
        nodes[np.minimum(at, len(nodes) - 1)] + nodes[np.minimum(at + 1, len(nodes) - 1)]
    ) / 2
    negative = np.linspace(float(residual.nodes[0]), 0, NUM_NEGATIVE)
    return np.unique(np.concatenate([even, middles, negative]))


def _distances(measure: DiscreteMeasure, density: SpectralDensity) -> tuple[float, float]:
    """Of Kolmogorov, and of Wasserstein over the measured standard deviation."""
    own = (torch.from_numpy(measure.values), torch.from_numpy(measure.weights))
    variance = density.second_moment - density.mean**2
    # of a single eigenvalue there is none but rounding
    deviation = math.sqrt(variance) if variance > NO_RESIDUAL * density.second_moment else math.nan
    distance = wasserstein_distance(*own, density.nodes, density.weights)
    return kolmogorov_distance(*own, density.nodes, density.weights), distance / deviation


def _density(measure: DiscreteMeasure, bandwidth: float) -> SpectralDensity:
    weights = torch.from_numpy(measure.weights)
    return SpectralDensity(
        nodes=torch.from_numpy(measure.values),
        weights=weights,
        probe_weights=weights[:, None],
        bandwidth=bandwidth,
    )
