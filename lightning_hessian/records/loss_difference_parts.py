"""What is measured of the loss's change when samples are added: values with their errors."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from torch import Tensor

from lightning_hessian.records.estimate import BoundedEstimate, Estimate, EstimateWithBand
from lightning_hessian.records.no_numbers import no_flags, no_numbers
from lightning_hessian.records.output import Band, Lines, derived, shown

UNKNOWN = Estimate(value=math.nan)
LOSSES = Lines("loss of training and held-out samples")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DifferenceCurves:
    """The difference ``d_k = L_{k+1} - L_k`` over random orders of ``N`` losses, against ``k``.

    ``L_k`` is the mean of the first ``k`` losses. Standard errors say how far the same quantity may
    lie for the population that the ``N`` samples were drawn from; over the ``N`` samples themselves
    the root mean square is exact. Empty where there are no losses.

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
        samples_per_step: Samples ``b`` added at once in ``step_rms``.
        step_rms: ``(g,)`` root mean square of ``L_{k+b} - L_k``; ``nan`` where ``k + b > N``.
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
    samples_per_step: int = 1
    step_rms: Tensor = field(default_factory=no_numbers)

    @derived(
        shown(
            "mean_abs_difference",
            doc="what one more sample does at `difference_sample_size`, in the mean over orders",
            unit="loss",
            chart=Band("mean absolute difference, the last sample's"),
        )
    )
    def last_mean_abs(self) -> EstimateWithBand | None:
        """At the largest ``k``: what the last sample changes."""
        if not len(self.sample_sizes):
            return None
        return _last(self.mean_abs, self.mean_abs_standard_error).with_band

    @derived(
        shown("rms_difference", doc="the same, root mean square over orders (exact)", unit="loss")
    )
    def last_rms(self) -> Estimate | None:
        """At the largest ``k``."""
        if not len(self.sample_sizes):
            return None
        return _last(self.rms, self.rms_standard_error)

    @derived(
        shown("difference_sample_size", doc="the largest `k`", unit="samples", group="details")
    )
    def last_sample_size(self) -> float | None:
        """The largest ``k``."""
        return float(self.sample_sizes[-1]) if len(self.sample_sizes) else None


def _last(values: Tensor, errors: Tensor) -> Estimate:
    return Estimate(value=float(values[-1]), standard_error=float(errors[-1]))


@dataclass(frozen=True, slots=True, kw_only=True)
class LossSpread:
    """How far the losses of single samples lie apart.

    Attributes:
        variance: ``S^2`` of the losses, divisor ``N - 1``.
        mean_absolute_deviation: ``MAD``, mean distance of a loss to the mean.
        gini_mean_difference: ``GMD``, mean distance of two different losses.
        range: Largest minus smallest loss, ``M_l`` of the worst-case bound ``M_l / (k + 1)``.
    """

    variance: Estimate = UNKNOWN
    mean_absolute_deviation: Estimate = field(
        default=UNKNOWN,
        metadata=shown(
            "mean_absolute_deviation",
            doc="`MAD`, mean distance of a sample's loss to the mean",
            unit="loss",
        ),
    )
    gini_mean_difference: float = math.nan
    range: float = math.nan

    @derived(
        shown("deviation", doc="`S`, standard deviation of the losses over samples", unit="loss")
    )
    def deviation(self) -> Estimate:
        """``S``."""
        return self.variance.root


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutLosses:
    """The losses of samples that were not trained on.

    Attributes:
        loss: Their mean.
        spread: Of them around it.
        gap: Held-out minus training mean. A new sample, unseen in training, moves the mean of ``k``
            trained-on losses by ``gap / (k + 1)`` on average.
        mean_distance: Mean distance of them to the training mean ``L_N``, ``gap`` included: one of
            them, added to the ``N``, moves the loss by ``mean_distance / (N + 1)``. ``nan`` where
            it is unknown.
        num_samples: How many.
        data: Where they come from, in words.
    """

    loss: float = field(
        metadata=shown(
            "held_out_loss",
            doc="mean loss of samples not trained on",
            unit="loss",
            chart=LOSSES,
        )
    )
    spread: LossSpread = field(
        metadata=shown("held_out_", doc="of samples not trained on", group="details")
    )
    gap: Estimate = field(
        metadata=shown("gap", doc="held-out minus training mean of the losses", unit="loss")
    )
    num_samples: int
    data: str
    mean_distance: Estimate = UNKNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class DerivativeSpread:
    """How gradients, or Hessians, differ over samples.

    Attributes:
        norm: Of the mean: Euclidean, or Frobenius.
        variance: Mean squared distance to the mean, divisor ``N - 1``: ``S_g^2`` or ``S_H^2``,
            estimated from mini-batches.
    """

    norm: float = field(metadata=shown("norm", doc="norm of the mean"))
    variance: Estimate

    @derived(shown("deviation", doc="root mean square distance to the mean, over samples"))
    def deviation(self) -> Estimate:
        """``S_g`` or ``S_H``."""
        return self.variance.root


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HessianDifferences:
    """Spectral norms of ``H_i - H_others`` for some samples, ``H_others`` the mean of the others.

    Attributes:
        samples: ``(m,)`` positions among the frozen samples, in random order.
        norms: ``(m,)`` float64, approximated from below.
        residual_bounds: ``(m,)`` within which of each lies the magnitude of an eigenvalue.
        converged: ``(m,)`` bool, whether the bound meets the tolerance asked for.
        num_hvps: Products spent over all samples; as many were spent over a single one.
    """

    samples: Tensor
    norms: Tensor
    residual_bounds: Tensor
    converged: Tensor = field(default_factory=no_flags)
    num_hvps: int = 0

    @derived(
        shown(
            "hessian_difference_norm",
            doc="the largest spectral norm of `H_i - H`, `H` the mean Hessian of the other samples",
            unit="loss per squared parameter unit",
        )
    )
    def furthest(self) -> BoundedEstimate:
        """Of the sample whose Hessian is furthest from that of the others."""
        index = int(self.norms.argmax())
        return BoundedEstimate(
            value=float(self.norms[index]), bound=float(self.residual_bounds[index])
        )


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
    variance: float = field(
        metadata=shown(
            "",
            doc=(
                "`V(sigma)`, the variance over samples at randomly perturbed weights; `<key>` is "
                "sigma, and `_in_<d>` in a subspace of d dimensions"
            ),
        )
    )
    standard_error: float = field(
        metadata=shown("_standard_error", error_of="variance", doc="standard error")
    )
    num_perturbations: int
    value_part: float = field(
        metadata=shown(
            "_value_part", doc="part of the prediction: without perturbation", group="details"
        )
    )
    linear_part: float = field(
        default=math.nan,
        metadata=shown(
            "_linear_part", doc="part of the prediction: with `sigma^2`", group="details"
        ),
    )
    quadratic_part: float = field(
        default=math.nan,
        metadata=shown(
            "_quadratic_part", doc="part of the prediction: with `sigma^4`", group="details"
        ),
    )
    prediction_standard_error: float = field(
        default=math.nan,
        metadata=shown("_prediction_standard_error", error_of="prediction", doc="standard error"),
    )

    @property
    def key(self) -> str:
        """What tells it apart from others of a report, in tags."""
        within = "" if self.dimensions is None else f"_in_{self.dimensions}"
        return f"{self.sigma:g}{within}"

    @derived(shown("_prediction", doc="second-order prediction of `V(sigma)`"))
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
