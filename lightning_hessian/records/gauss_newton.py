"""The Hessian's two parts, by their spectra: values with their errors."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lightning_hessian.records.estimate import BoundedEstimate, Estimate
from lightning_hessian.records.note import Note
from lightning_hessian.records.spectrum_parts import (
    Eigenvalues,
    NegativeMass,
    SpectralDensity,
    TraceEstimate,
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PartSpectrum:
    """The spectrum of the Hessian, or of a part of it.

    Attributes:
        largest: The largest eigenvalues, descending.
        smallest: The smallest, ascending.
        trace: Known in the space of the sweep, and estimated by probes on what is left.
        density: The distribution of the eigenvalues.
        negative_mass: The share of negative ones. A Gauss-Newton part has none, so that those of
            the Hessian are within the residual part's norm: a thousandth of that is the threshold.
    """

    largest: Eigenvalues
    smallest: Eigenvalues
    trace: TraceEstimate
    density: SpectralDensity
    negative_mass: NegativeMass

    @property
    def norm(self) -> BoundedEstimate:
        """The larger magnitude of both ends."""
        low, high = float(self.smallest.values[0]), float(self.largest.values[0])
        end = self.smallest if -low > high else self.largest
        return BoundedEstimate(value=max(-low, high), bound=float(end.residual_bounds[0]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """How much of the Gauss-Newton part's curvature lies where the residual part bends down.

    ``q = tau(H0 P) / (tau(H0) tau(P))``, ``P`` the projector on eigenvectors of ``H1`` of its most
    negative eigenvalues and ``tau`` the mean eigenvalue. Matrices in free position have ``q = 1``
    in the mean over rotations. At minima it is above: ``H0`` holds up what ``H1`` pulls down.

    Attributes:
        value: ``q``.
        standard_error: By the error of ``tau(H0)``.
        free_deviation: Standard deviation of ``q`` where ``H1`` is rotated at random.
        num_directions: Rank of ``P``.
        limit: Eigenvalues of ``H1`` below it are meant.
    """

    value: float
    standard_error: float
    free_deviation: float
    num_directions: int
    limit: float

    @property
    def deviations(self) -> float:
        """How many standard deviations ``q`` is from 1, those of the rotations and its own."""
        spread = math.hypot(self.standard_error, self.free_deviation)
        return (self.value - 1) / spread if spread > 0 else math.nan


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GaussNewtonSplit:
    """The Hessian ``H`` of a training loss and its parts, ``H = H0 + H1``.

    Attributes:
        hessian: ``H``.
        gauss_newton: ``H0 = (1/N) sum J^T (d^2 l / dz^2) J``, ``J`` of the outputs ``z``.
        residual: ``H1``, the outputs' own curvature, and what the loss has past them.
        alignment: None where ``H1`` has no direction that counts.
        loss: Mean training loss.
        outputs: Losses of ``torch.nn.functional`` that take the outputs, or ``as_outputs``.
        num_outputs: Numbers that the network puts out over all samples.
        mean_square: Mean squared distance of outputs to targets, where the loss is a multiple of
            it; else None.
        num_parameters: ``n``.
        num_samples: Over which the loss is a mean.
        num_probes: Of each sweep.
        num_steps: Of each sweep, for each probe.
        num_hvps: Products with ``H`` spent.
        num_gauss_newton_products: Products with ``H0`` spent.
        notes: What to beware of.
    """

    hessian: PartSpectrum
    gauss_newton: PartSpectrum
    residual: PartSpectrum
    alignment: Alignment | None
    loss: float
    outputs: tuple[str, ...]
    num_outputs: int
    mean_square: float | None
    num_parameters: int
    num_samples: int
    num_probes: int
    num_steps: int
    num_hvps: int
    num_gauss_newton_products: int
    notes: tuple[Note, ...] = ()

    def mean_eigenvalue(self, part: PartSpectrum) -> Estimate:
        """``tau = tr / n`` of one of the parts, with its error over the probes."""
        count = self.num_parameters
        return Estimate(
            value=part.trace.value / count, standard_error=part.trace.standard_error / count
        )

    @property
    def residual_share(self) -> BoundedEstimate:
        """``||H1|| / ||H||``."""
        own, whole = self.residual.norm, self.hessian.norm
        ratio = own.value / whole.value if whole.value > 0 else math.nan
        bound = (own.bound + ratio * whole.bound) / whole.value if whole.value > 0 else math.nan
        return BoundedEstimate(value=ratio, bound=bound)
