"""What is measured of the loss's change when samples are added: values with their errors."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from torch import Tensor

from lightning_hessian.records.report import no_numbers


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

    sample_sizes: Tensor = field(default_factory=no_numbers)
    rms: Tensor = field(default_factory=no_numbers)
    rms_standard_error: Tensor = field(default_factory=no_numbers)
    mean_abs: Tensor = field(default_factory=no_numbers)
    mean_abs_standard_error: Tensor = field(default_factory=no_numbers)
    mean_abs_estimate_error: Tensor = field(default_factory=no_numbers)
    mean_abs_lower: Tensor = field(default_factory=no_numbers)
    mean_abs_upper: Tensor = field(default_factory=no_numbers)
    path: Tensor = field(default_factory=no_numbers)
    orders_mean_abs: Tensor = field(default_factory=no_numbers)
    orders_standard_error: Tensor = field(default_factory=no_numbers)
    num_orders: int = 0
    block_size: int = 1
    block_rms: Tensor = field(default_factory=no_numbers)
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
        mean_distance: Mean distance of them to the training mean ``L_N``, ``gap`` included: one of
            them, added to the ``N``, moves the loss by ``mean_distance / (N + 1)``. ``nan`` where
            it is unknown.
        mean_distance_standard_error: Of ``mean_distance``.
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
    mean_distance: float = math.nan
    mean_distance_standard_error: float = math.nan


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
