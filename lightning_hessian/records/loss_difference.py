"""The record of one measurement of the loss's change when samples are added."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from lightning_hessian.records.loss_statistics import (
    HeldOutLosses,
    LossSurface,
    NeighbourhoodVariance,
    OrderStatistics,
)
from lightning_hessian.records.report import Report, no_numbers
from lightning_hessian.records.required_sample_size import (
    FurtherLosses,
    RequiredSampleSize,
    SampleSizeRule,
    Spread,
    difference_clause,
    required_sample_size,
    sentence,
)

Separability = Literal["mean", "sum", "weighted mean"]
"""How the losses of a batch's samples, each computed alone, make up the loss of the batch."""

SampleMethod = Literal["batched", "one by one"]
"""``batched``: read off the step on a whole batch. ``one by one``: the step on each sample."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LossDifferenceReport(OrderStatistics, Report):
    """How much the training loss moves when one more sample is added, and what follows.

    A quantity that was not asked for, or of which ``failure`` tells why it is missing, is ``nan``,
    empty or None. Further attributes are those of :class:`OrderStatistics` and :class:`Report`;
    ``loss`` is the mean over samples of the loss of each alone.

    Attributes:
        loss_standard_error: Of ``loss``, as an estimate of the population's, ``S / sqrt(N)``.
        separability: How the losses of single samples make up the loss of a batch.
        sample_method: How the losses of single samples were computed.
        sample_losses: ``(N,)`` in the order of the frozen samples, if they are to be kept.
        held_out: The same of samples not trained on, or None.
        gradient_norm: Euclidean norm of the mean gradient.
        gradient_variance: ``S_g^2 = sum_i |g_i - g|^2 / (N - 1)``. The gradient moves by
            ``S_g / sqrt(k (k + 1))`` (root mean square) when a sample is added.
        gradient_variance_standard_error: Over the mini-batches that it is estimated from.
        hessian_norm: Frobenius norm of the mean Hessian.
        hessian_variance: ``S_H^2 = sum_i ||H_i - H||_F^2 / (N - 1)``, likewise. The Hessian of
            ``k`` of ``N`` samples is ``S_H sqrt(1/k - 1/N)`` away from that of all.
        hessian_variance_standard_error: Over mini-batches and probes.
        neighbourhood: ``V(sigma)`` for each ``sigma`` asked for.
        hessian_difference_norms: ``(m,)`` spectral norm of ``H_i - H`` for ``m`` random samples,
            ``H`` being the mean Hessian of the others.
        hessian_difference_bounds: ``(m,)`` residual bounds of these norms.
        surface: The loss around the weights, or None.
        thresholds: For which the sample size needed is to be told.
    """

    loss_standard_error: float = math.nan
    separability: Separability = "mean"
    sample_method: SampleMethod = "batched"
    sample_losses: Tensor = field(default_factory=no_numbers)
    held_out: HeldOutLosses | None = None
    gradient_norm: float = math.nan
    gradient_variance: float = math.nan
    gradient_variance_standard_error: float = math.nan
    hessian_norm: float = math.nan
    hessian_variance: float = math.nan
    hessian_variance_standard_error: float = math.nan
    neighbourhood: tuple[NeighbourhoodVariance, ...] = ()
    hessian_difference_norms: Tensor = field(default_factory=no_numbers)
    hessian_difference_bounds: Tensor = field(default_factory=no_numbers)
    surface: LossSurface | None = None
    thresholds: tuple[float, ...] = ()

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
        if not math.isfinite(self.mean_absolute_deviation):
            raise ValueError(
                f"the report holds no loss statistics to tell a sample size from: "
                f"{self.failure or 'none were computed'}."
            )
        ends = self.sample_sizes.new_tensor([[1], [self.num_samples - 1]])
        # A_k = (k + 1) E |d_k| is known at both: GMD, and N / (N - 1) MAD
        last = self.num_samples / (self.num_samples - 1) * self.mean_absolute_deviation
        heights = ends.new_tensor([[self.gini_mean_difference], [last]])
        between = self.mean_abs * (self.sample_sizes + 1)
        return required_sample_size(
            threshold,
            rule,
            confidence,
            num_samples=self.num_samples,
            measured=self,
            sample_sizes=torch.cat([ends[0], self.sample_sizes, ends[1]]),
            mean_distances=torch.cat([heights[0], between, heights[1]]),
            further=self.further,
            num_held_out=self.held_out.num_samples if self.held_out else None,
        )

    @property
    def further(self) -> Spread:
        """How samples beyond these ``N`` lie around their mean, as far as is known."""
        held_out = self.held_out
        if held_out is None or math.isnan(held_out.mean_distance):
            return held_out or self
        return FurtherLosses(
            variance=held_out.variance + held_out.gap**2,
            variance_standard_error=math.hypot(
                held_out.variance_standard_error, 2 * held_out.gap * held_out.gap_standard_error
            ),
            mean_absolute_deviation=held_out.mean_distance,
            mean_absolute_deviation_standard_error=held_out.mean_distance_standard_error,
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

    @property
    def sentences(self) -> tuple[str, ...]:
        """What a person can act on: :meth:`sentence` of each threshold, or the difference alone."""
        if not self.thresholds:
            return (difference_clause(self.num_samples, self.further),)
        return tuple(self.sentence(threshold) for threshold in self.thresholds)
