"""Random matrices laid over a measured spectrum: parameters, distances, and whether they fit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from lightning_hessian.records.estimate import Estimate
from lightning_hessian.records.note import Note
from lightning_hessian.records.spectrum_parts import NegativeMass, SpectralDensity

BULK = 0.05
"""Wasserstein distance in standard deviations up to which a bulk agrees: some .005 to .04 where it
does, over networks of a hundred to some thousand parameters."""
EDGE = 0.01
"""By how much a share of negative eigenvalues may miss its bracket."""
ALIGNED, STRANGE = 0.1, 3.0
"""By how much ``q`` may differ from 1, and by how many deviations it must to count."""

Law = Literal["Wishart + Wigner", "refined ReLU"]
Choice = Literal["nominal", "effective"]
Verdict = Literal[
    "fits",
    "fits, though the parts are aligned",
    "fits in the bulk, not below zero",
    "does not fit",
]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MatrixModel:
    """A random-matrix law laid over a measured spectrum.

    Attributes:
        law: Which one.
        choice: ``nominal``: energy and ratio as the paper counts them, and only the mean eigenvalue
            is that measured. ``effective``: all three are from the parts' measured moments.
        energy: ``epsilon``, in units of ``scale^2``.
        ratio: ``phi``.
        scale: ``sigma``, mean eigenvalue of the Gauss-Newton part.
        edges: Of the law.
        index: The law's share of negative eigenvalues, in closed form.
        critical_energy: ``epsilon_c`` in units of ``scale^2``; ``nan`` for a ratio above 1.
        share: The law's share of eigenvalues below the measured spectrum's threshold.
        measured: That of the measured spectrum, with its bracket.
        kolmogorov: Distance of the shares below any place, at its largest.
        wasserstein: Distance of the spectra over the measured one's standard deviation.
        density: The law in cells, with the kernel of the measured density.
    """

    law: Law
    choice: Choice
    energy: float
    ratio: float
    scale: float
    edges: tuple[float, float]
    index: float
    critical_energy: float
    share: float
    measured: NegativeMass
    kolmogorov: float
    wasserstein: float
    density: SpectralDensity

    @property
    def verdict(self) -> Verdict:
        """Whether it fits, by the distance of the bulk and the share of negative eigenvalues."""
        return verdict(self.wasserstein, self.share, self.measured)

    def __str__(self) -> str:
        """One line, as a legend has it."""
        return (
            f"{self.law}, {self.choice}: epsilon {self.energy:.3g}, phi {self.ratio:.3g}, sigma "
            f"{self.scale:.3g}; below zero {self.share:.3f}; KS {self.kolmogorov:.2f}, W1/sd "
            f"{self.wasserstein:.3f}: {self.verdict}"
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FreeSumModel:
    """The spectrum that the sum of both parts would have, were they in free position.

    Attributes:
        share: Its share of eigenvalues below the measured spectrum's threshold, with its error over
            the probes.
        measured: That of the measured spectrum, with its bracket.
        kolmogorov: Distance of the shares below any place, at its largest.
        wasserstein: Distance of the spectra over the measured one's standard deviation.
        alignment: ``q``, 1 where the parts are free; ``nan`` where it was not measured.
        deviations: How many standard deviations that is from 1; ``nan`` likewise.
        density: In cells, with the kernel of the measured density.
    """

    share: Estimate
    measured: NegativeMass
    kolmogorov: float
    wasserstein: float
    alignment: float
    deviations: float
    density: SpectralDensity

    @property
    def is_aligned(self) -> bool:
        """Whether the Gauss-Newton part prefers the residual's negative directions, or shuns them.

        It must be material and beyond what random rotations do.
        """
        return abs(self.alignment - 1) > ALIGNED and abs(self.deviations) > STRANGE

    @property
    def verdict(self) -> Verdict:
        """Whether the parts are free, by the bulk, the share of negative eigenvalues and ``q``.

        Moments and the bulk alone are blind to the lower edge: there ``q`` decides.
        """
        error = self.share.standard_error
        slack = EDGE + 2 * (error if math.isfinite(error) else 0.0)
        by_spectrum = verdict(self.wasserstein, self.share.value, self.measured, slack)
        if by_spectrum == "fits" and self.is_aligned:
            return "fits, though the parts are aligned"
        return by_spectrum

    def __str__(self) -> str:
        """One line, as a legend has it."""
        return (
            f"free sum of the parts: q {self.alignment:.2f}; below zero {self.share.value:.3f}; KS "
            f"{self.kolmogorov:.2f}, W1/sd {self.wasserstein:.3f}: {self.verdict}"
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RandomMatrixComparison:
    """What random matrices say of a measured spectrum.

    Attributes:
        models: Laws by their parameters; the nominal ones only of a loss of mean squares.
        free: The sum of the measured parts in free position.
        resolution: Half the largest weight of the measured density: a Kolmogorov distance to a law
            with a density is not below it.
        residual_mean: ``tau(H1)`` over the standard deviation of ``H1``, which the models have as
            zero.
        notes: What could not be compared, and why.
    """

    models: tuple[MatrixModel, ...]
    free: FreeSumModel
    resolution: float
    residual_mean: float
    notes: tuple[Note, ...]


def verdict(
    wasserstein: float, share: float, measured: NegativeMass, slack: float = EDGE
) -> Verdict:
    """Whether a spectrum fits a measured one.

    Args:
        wasserstein: Their distance over the measured one's standard deviation.
        share: Of its negative eigenvalues.
        measured: That of the measured one.
        slack: By how much the share may miss the bracket.

    Returns:
        In words.
    """
    if not wasserstein <= BULK:
        return "does not fit"
    low, high = measured.bracket
    fits = low - slack <= share <= high + slack
    return "fits" if fits else "fits in the bulk, not below zero"
