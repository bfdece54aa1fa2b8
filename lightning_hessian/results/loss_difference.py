"""What is known of the loss's change when samples are added: values with their errors."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from lightning_hessian.results.report import Report
from lightning_hessian.results.required_sample_size import (
    RequiredSampleSize,
    SampleSizeRule,
    difference_clause,
    required_sample_size,
    sentence,
)

Separability = Literal["mean", "sum", "weighted mean"]
"""How the losses of a batch's samples, each computed alone, make up the loss of the batch."""

SampleMethod = Literal["batched", "one by one"]
"""``batched``: read off the step on a whole batch. ``one by one``: the step on each sample."""


def _no_numbers() -> Tensor:
    return torch.empty(0, dtype=torch.float64)


# without slots: a report has two bases, and only one of them may have slots
@dataclass(frozen=True, kw_only=True, eq=False)
class OrderStatistics:
    """The difference ``d_k = L_{k+1} - L_k`` over random orders of ``N`` losses.

    ``L_k`` is the mean of the first ``k`` losses. Standard errors say how far the same quantity may
    lie for the population that the ``N`` samples were drawn from; over the ``N`` samples themselves
    the root mean square is exact.

    Attributes:
        sample_sizes: ``(g,)`` whole numbers ``k`` from 1 to ``N - 1``, as float64, ascending.
        rms: ``(g,)`` root mean square of ``d_k``, ``S / sqrt(k (k + 1))``.
        rms_standard_error: ``(g,)``.
        mean_abs: ``(g,)`` mean absolute ``d_k``.
        mean_abs_standard_error: ``(g,)``, that of the estimate at these ``N`` losses included.
        mean_abs_estimate_error: ``(g,)`` error of the estimate at these ``N`` losses.
        mean_abs_lower: ``(g,)`` closed-form lower bound over the ``N`` losses.
        mean_abs_upper: ``(g,)`` closed-form upper bound.
        path: ``(g,)`` absolute ``d_k`` along one order, the one in which the losses are given.
        orders_mean_abs: ``(g,)`` mean absolute ``d_k`` over ``num_orders`` random orders; empty
            without such orders.
        orders_standard_error: ``(g,)`` of that mean.
        num_orders: Random orders simulated.
        block_size: Samples ``b`` added at once in ``block_rms``.
        block_rms: ``(g,)`` root mean square of ``L_{k+b} - L_k``; ``nan`` where ``k + b > N``.
        variance: ``S^2`` of the losses, divisor ``N - 1``.
        variance_standard_error: Of ``S^2``.
        mean_absolute_deviation: ``MAD``, mean distance of a loss to the mean.
        mean_absolute_deviation_standard_error: Of ``MAD``.
        gini_mean_difference: ``GMD``, mean distance of two different losses.
        range: Largest minus smallest loss, ``M_l`` of the worst-case bound ``M_l / (k + 1)``.
    """

    sample_sizes: Tensor = field(default_factory=_no_numbers)
    rms: Tensor = field(default_factory=_no_numbers)
    rms_standard_error: Tensor = field(default_factory=_no_numbers)
    mean_abs: Tensor = field(default_factory=_no_numbers)
    mean_abs_standard_error: Tensor = field(default_factory=_no_numbers)
    mean_abs_estimate_error: Tensor = field(default_factory=_no_numbers)
    mean_abs_lower: Tensor = field(default_factory=_no_numbers)
    mean_abs_upper: Tensor = field(default_factory=_no_numbers)
    path: Tensor = field(default_factory=_no_numbers)
    orders_mean_abs: Tensor = field(default_factory=_no_numbers)
    orders_standard_error: Tensor = field(default_factory=_no_numbers)
    num_orders: int = 0
    block_size: int = 1
    block_rms: Tensor = field(default_factory=_no_numbers)
    variance: float = math.nan
    variance_standard_error: float = math.nan
    mean_absolute_deviation: float = math.nan
    mean_absolute_deviation_standard_error: float = math.nan
    gini_mean_difference: float = math.nan
    range: float = math.nan


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HeldOutLosses:
    """The losses of samples that were not trained on.

    Attributes:
        loss: Their mean.
        variance: ``S^2`` of them.
        variance_standard_error: Of ``S^2``.
        mean_absolute_deviation: ``MAD`` of them.
        mean_absolute_deviation_standard_error: Of ``MAD``.
        gap: Held-out minus training mean. A new sample, unseen in training, moves the mean of ``k``
            trained-on losses by ``gap / (k + 1)`` on average.
        gap_standard_error: Of ``gap``.
        num_samples: How many.
        data: Where they come from, in words.
    """

    loss: float
    variance: float
    variance_standard_error: float
    mean_absolute_deviation: float
    mean_absolute_deviation_standard_error: float
    gap: float
    gap_standard_error: float
    num_samples: int
    data: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NeighbourhoodVariance:
    """``V(sigma)``, the variance over samples of the loss at randomly perturbed parameters.

    Over random orders ``E |L_{k+1} - L_k|^2 = V(sigma) / (k (k + 1))`` for every ``k``, the mean
    being over perturbations too. The parts are the second-order prediction's.

    Attributes:
        sigma: Standard deviation of the perturbation of each coordinate.
        dimensions: Of the subspace perturbed in; None for all parameters.
        variance: ``V(sigma)`` as measured.
        standard_error: Of it, over the perturbations.
        num_perturbations: How many.
        value_part: ``S^2``, the part without perturbation.
        linear_part: ``sigma^2 (S_g^2 + Cov_i(l_i, tr H_i))``; ``nan`` without derivatives.
        quadratic_part: ``(sigma^4 / 4) (Var_i tr H_i + 2 S_H^2)``; ``nan`` without derivatives.
        prediction_standard_error: Of the sum of the three parts.
    """

    sigma: float
    dimensions: int | None
    variance: float
    standard_error: float
    num_perturbations: int
    value_part: float
    linear_part: float = math.nan
    quadratic_part: float = math.nan
    prediction_standard_error: float = math.nan

    @property
    def prediction(self) -> float:
        """The second-order prediction of ``V(sigma)``."""
        return self.value_part + self.linear_part + self.quadratic_part


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LossSurface:
    """The loss on a plane through the weights, ``w + x u + y v``.

    Attributes:
        x: ``(a,)`` positions along the unit vector ``u``, Euclidean distances from the weights.
        y: ``(b,)`` positions along ``v``, likewise.
        loss: ``(b, a)`` mean loss of all ``N`` samples.
        difference: ``(b, a)`` ``L_{k+1} - L_k`` along the order in which the samples are given.
            All surfaces are ``nan`` at a point where a sample's loss is not finite.
        rms_difference: ``(b, a)`` its root mean square over random orders.
        sample_size: ``k`` of the two.
        directions: What ``u`` and ``v`` are, in words.
    """

    x: Tensor
    y: Tensor
    loss: Tensor
    difference: Tensor
    rms_difference: Tensor
    sample_size: int
    directions: str


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
    sample_losses: Tensor = field(default_factory=_no_numbers)
    held_out: HeldOutLosses | None = None
    gradient_norm: float = math.nan
    gradient_variance: float = math.nan
    gradient_variance_standard_error: float = math.nan
    hessian_norm: float = math.nan
    hessian_variance: float = math.nan
    hessian_variance_standard_error: float = math.nan
    neighbourhood: tuple[NeighbourhoodVariance, ...] = ()
    hessian_difference_norms: Tensor = field(default_factory=_no_numbers)
    hessian_difference_bounds: Tensor = field(default_factory=_no_numbers)
    surface: LossSurface | None = None
    thresholds: tuple[float, ...] = ()

    def required_sample_size(
        self, threshold: float, rule: SampleSizeRule = "mean_abs", confidence: float = 0.95
    ) -> RequiredSampleSize:
        """From how many samples on, at these weights, the loss moves by less than a threshold.

        By root mean square ``S / sqrt(k (k + 1))``, by the mean absolute difference (the measured
        curve, past ``N`` ``MAD / (k + 1)``), or uniformly: with probability ``confidence`` all
        ``L_j`` from ``k`` on are closer than the threshold to ``L_N``, past ``N`` to the
        population's mean. Past ``N`` held-out losses are asked where there are such, since samples
        that the weights were trained on have other losses: the answer is then of a mean over
        samples all like the held-out ones, whatever the gap.

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
            further=self.held_out or self,
            num_held_out=self.held_out.num_samples if self.held_out else None,
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
        return sentence(needed, self.num_samples, self.held_out or self)

    @property
    def sentences(self) -> tuple[str, ...]:
        """What a person can act on: :meth:`sentence` of each threshold, or the difference alone."""
        if not self.thresholds:
            return (difference_clause(self.num_samples, self.held_out or self),)
        return tuple(self.sentence(threshold) for threshold in self.thresholds)
