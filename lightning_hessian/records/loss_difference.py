"""The record of one measurement of the loss's change when samples are added."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from lightning_hessian.records.estimate import Estimate
from lightning_hessian.records.loss_difference_parts import (
    LOSSES,
    DerivativeSpread,
    DifferenceCurves,
    HeldOutLosses,
    HessianDifferences,
    LossSpread,
    LossSurface,
    NeighbourhoodVariance,
)
from lightning_hessian.records.no_numbers import no_numbers
from lightning_hessian.records.output import LAST, Band, Column, derived, shown
from lightning_hessian.records.report import LOSS_COLUMN, Report
from lightning_hessian.records.required_sample_size import (
    FurtherLosses,
    RequiredSampleSize,
    SampleSizeRule,
    Spread,
    difference_clause,
    required_sample_size,
    sentence,
)
from lightning_hessian.records.spectrum_parts import PER_SQUARED_PARAMETER

Separability = Literal["mean", "sum", "weighted mean"]
"""How the losses of a batch's samples, each computed alone, make up the loss of the batch."""

SampleMethod = Literal["batched", "one by one"]
"""``batched``: read off the step on a whole batch. ``one by one``: the step on each sample."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LossDifferenceReport(Report):
    """How much the training loss moves when one more sample is added, and what follows.

    A quantity that was not asked for, or of which ``failure`` tells why it is missing, is ``nan``,
    empty or None. Further attributes are those of :class:`Report`.

    Attributes:
        loss: Mean over samples of the loss of each alone.
        loss_standard_error: Of ``loss``, as an estimate of the population's, ``S / sqrt(N)``.
        differences: ``L_{k+1} - L_k`` against the number ``k`` of samples.
        spread: How far the losses of single samples lie apart.
        separability: How the losses of single samples make up the loss of a batch.
        sample_method: How the losses of single samples were computed.
        sample_losses: ``(N,)`` in the order of the frozen samples, if they are to be kept.
        held_out: The same of samples not trained on, or None.
        gradient: How gradients differ over samples: the gradient moves by ``S_g / sqrt(k (k + 1))``
            (root mean square) when a sample is added.
        hessian: How Hessians differ: that of ``k`` of ``N`` samples is ``S_H sqrt(1/k - 1/N)`` away
            from that of all.
        neighbourhood: ``V(sigma)`` for each ``sigma`` asked for.
        hessian_differences: How far the Hessians of some samples are from that of the others.
        surface: The loss around the weights, or None.
        thresholds: For which the sample size needed is to be told.
    """

    title: ClassVar[str] = "loss difference"
    bulky: ClassVar[tuple[str, ...]] = ("sample_losses", "surface")

    loss: float = field(
        default=math.nan,
        metadata=shown(
            "loss",
            doc="mean over the frozen samples of the loss of each alone",
            unit="loss",
            chart=LOSSES,
            columns=(LOSS_COLUMN,),
        ),
    )
    loss_standard_error: float = field(
        default=math.nan,
        metadata=shown("loss_standard_error", error_of="loss", doc="standard error"),
    )
    differences: DifferenceCurves = field(
        default_factory=DifferenceCurves,
        metadata=shown("", columns=(Column("difference", 21, of="last_mean_abs"),)),
    )
    spread: LossSpread = field(
        default_factory=LossSpread,
        metadata=shown(
            "",
            columns=(
                Column("S", 19, of="deviation"),
                Column("MAD", 19, of="mean_absolute_deviation"),
            ),
        ),
    )
    separability: Separability = "mean"
    sample_method: SampleMethod = "batched"
    sample_losses: Tensor = field(default_factory=no_numbers)
    held_out: HeldOutLosses | None = field(
        default=None, metadata=shown("", columns=(Column("gap", 19, of="gap", place=LAST - 1),))
    )
    gradient: DerivativeSpread | None = field(
        default=None,
        metadata=shown("gradient_", doc="of the loss's gradient", unit="loss per parameter unit"),
    )
    hessian: DerivativeSpread | None = field(
        default=None,
        metadata=shown(
            "hessian_", doc="of the loss's Hessian (Frobenius)", unit=PER_SQUARED_PARAMETER
        ),
    )
    neighbourhood: tuple[NeighbourhoodVariance, ...] = field(
        default=(), metadata=shown("neighbourhood_variance_{key}", unit="squared loss")
    )
    hessian_differences: HessianDifferences | None = field(default=None, metadata=shown(""))
    surface: LossSurface | None = None
    thresholds: tuple[float, ...] = ()

    @derived(
        shown(
            "required_samples_{threshold:g}",
            doc="samples that keep the mean absolute difference below the threshold",
            unit="samples",
            chart=Band("samples needed for a difference below {threshold:g}"),
            columns=(
                Column(
                    "k*", 29, "{0.size:,} ({0.lower:,} to {0.upper:,})", detail=" at {threshold:g}"
                ),
            ),
        )
    )
    def required_sample_sizes(self) -> tuple[RequiredSampleSize, ...]:
        """From how many samples on the difference stays below each of the thresholds."""
        return tuple(self.required_sample_size(threshold) for threshold in self.thresholds)

    def required_sample_size(
        self, threshold: float, rule: SampleSizeRule = "mean_abs", confidence: float = 0.95
    ) -> RequiredSampleSize:
        """From how many samples on, at these weights, the loss moves by less than a threshold.

        By root mean square ``S / sqrt(k (k + 1))``, by the mean absolute difference (the measured
        curve, past ``N`` ``MAD / (k + 1)``), or uniformly: with probability ``confidence`` all
        ``L_j`` from ``k`` on are closer than the threshold to ``L_N``, past ``N`` to the
        population's mean. Past ``N`` held-out losses are asked where there are such, by their
        distances to ``L_N``: samples that the weights were trained on have other losses.

        Args:
            threshold: Positive, in units of the loss.
            rule: Which difference is to stay below it.
            confidence: Of the uniform rule alone; the interval of the size is one of 95 %.

        Returns:
            The size with its interval and what it assumes.

        Raises:
            ValueError: If the report holds no statistics, or an argument is out of its range.
        """
        deviation = self.spread.mean_absolute_deviation.value
        if not math.isfinite(deviation):
            raise ValueError(
                f"the report holds no loss statistics to tell a sample size from: "
                f"{self.failure or 'none were computed'}."
            )
        curves = self.differences
        ends = curves.sample_sizes.new_tensor([[1], [self.num_samples - 1]])
        # A_k = (k + 1) E |d_k| is known at both: GMD, and N / (N - 1) MAD
        last = self.num_samples / (self.num_samples - 1) * deviation
        heights = ends.new_tensor([[self.spread.gini_mean_difference], [last]])
        between = curves.mean_abs * (curves.sample_sizes + 1)
        return required_sample_size(
            threshold,
            rule,
            confidence,
            num_samples=self.num_samples,
            measured=self.spread,
            sample_sizes=torch.cat([ends[0], curves.sample_sizes, ends[1]]),
            mean_distances=torch.cat([heights[0], between, heights[1]]),
            further=self.further,
            num_held_out=self.held_out.num_samples if self.held_out else None,
        )

    @property
    def further(self) -> Spread:
        """How samples beyond these ``N`` lie around their mean, as far as is known."""
        held_out = self.held_out
        if held_out is None:
            return self.spread
        if math.isnan(held_out.mean_distance.value):
            return held_out.spread
        variance, gap = held_out.spread.variance, held_out.gap
        return FurtherLosses(
            variance=Estimate(
                value=variance.value + gap.value**2,
                standard_error=math.hypot(
                    variance.standard_error, 2 * gap.value * gap.standard_error
                ),
            ),
            mean_absolute_deviation=held_out.mean_distance,
        )

    def sentence(self, threshold: float) -> str:
        """Tell how much one more sample moves the loss, and from when on less than a threshold.

        Args:
            threshold: Positive, in units of the loss.

        Returns:
            Like "with 10,000 samples one more sample moves the loss by 3.1e-05 +- 0.2e-05; below
            1e-05 from about 31,000 on (between 29,000 and 33,000), if further samples are like
            these". The value's error is a standard error, the size's interval one of 95 %.

        Raises:
            ValueError: If the report holds no statistics, or the threshold is not positive.
        """
        needed = self.required_sample_size(threshold)
        return sentence(needed, self.num_samples, self.further)

    @derived(shown("summary", doc="what a person can act on, in sentences", kind="text"))
    def sentences(self) -> tuple[str, ...]:
        """What a person can act on: :meth:`sentence` of each threshold, or the difference alone."""
        if not self.thresholds:
            return (difference_clause(self.num_samples, self.further),)
        return tuple(self.sentence(threshold) for threshold in self.thresholds)
