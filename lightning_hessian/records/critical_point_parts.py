"""What is measured of a point: how near a critical one is, its index, and the way down."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lightning_hessian.records.no_numbers import no_numbers
from lightning_hessian.records.output import Band, shown

INDEX = Band("share of negative eigenvalues by {name}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearness:
    """How far the gradient and the loss can fall within a ball around the weights.

    Both are those of the loss to second order, the best step being looked for in a Krylov space.

    Attributes:
        share: Of the weights' length, that the ball's radius is.
        radius: Itself, ``rho``.
        gradient_left: ``r(rho) = min_{|s| <= rho} |g + H s| / |g|``, from above. Near 0 where a
            critical point is so near, near 1 where none is, whatever the gradient's norm.
        decrease: ``D(rho) = max_{|s| <= rho} -(g.s + s.H s / 2)``, from below.
    """

    share: float
    radius: float
    gradient_left: float = field(
        metadata=shown(
            "gradient_left_{key}",
            doc=(
                "least share of the gradient's norm that is left, to first order, within this "
                "share of the weights' norm: 0 near a critical point, 1 far from any"
            ),
        )
    )
    decrease: float = field(
        metadata=shown(
            "possible_decrease_{key}",
            doc="largest fall of the loss, to second order, within this share of the weights' norm",
            unit="loss",
            group="details",
        )
    )

    @property
    def key(self) -> str:
        """The share, as part of a tag."""
        return f"{self.share:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexCount:
    """The share of negative eigenvalues, and of those around zero, by one threshold.

    Attributes:
        name: Of the threshold: ``relative_1e-3`` and ``relative_1e-6`` of the largest magnitude,
            ``absolute_1e-3``.
        threshold: ``tau``, in eigenvalue units; what rounding leaves where that is larger.
        fraction: Share of eigenvalues below ``-tau``: the index over the number of parameters.
        bracket: Lower and upper bound of it.
        null: Share of eigenvalues between ``-tau`` and ``tau``.
        null_bracket: Lower and upper bound of it.
    """

    name: str
    threshold: float
    fraction: float = field(
        metadata=shown(
            "index_{name}",
            chart=INDEX,
            doc="share of eigenvalues below minus the threshold, relative or absolute",
        )
    )
    bracket: tuple[float, float] = field(
        metadata=shown(
            "index_{name}_lower", "index_{name}_upper", error_of="fraction", doc="bracket"
        )
    )
    null: float = field(
        metadata=shown(
            "null_{name}",
            doc="share of eigenvalues within the threshold of zero",
            group="details",
        )
    )
    null_bracket: tuple[float, float] = field(
        metadata=shown("null_{name}_lower", "null_{name}_upper", error_of="null", doc="bracket")
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerNorm:
    """The length of a part of the weights.

    Attributes:
        name: Of the module that they are of.
        norm: Euclidean.
    """

    name: str
    norm: float = field(
        metadata=shown("", doc="norm of the weights of one module", unit="parameter unit")
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Escape:
    """The way down the most negative direction ``v``, as foreseen and as it is.

    To fourth order ``L(w + t v) - L(w) = m(t) = slope t + curvature t^2 / 2 + third t^3 / 6 +
    fourth t^4 / 24``, with ``slope = g.v <= 0``; the last two are differences of ``v.H v`` at a
    hundredth of the weights' length to both sides.

    Attributes:
        curvature: ``v.H v``.
        slope: Of the loss along ``v``.
        third: Third derivative along ``v``.
        fourth: Fourth derivative along ``v``.
        predicted_distance: Where ``m`` is least, ``nan`` where it falls for ever.
        predicted_decrease: How far it falls there.
        distances: ``(k,)`` ascending, to both sides, at which the loss was computed.
        losses: ``(k,)`` of the frozen samples there.
        distance: Where the loss was least.
        decrease: How far it was below that of the weights.
    """

    curvature: float
    slope: float
    third: float
    fourth: float
    predicted_distance: float = field(
        metadata=shown(
            "predicted_distance",
            doc="along the most negative direction, to where the loss to fourth order is least",
            unit="parameter unit",
            group="details",
        )
    )
    predicted_decrease: float = field(
        metadata=shown(
            "predicted_decrease",
            doc="how far it falls until there",
            unit="loss",
            group="details",
        )
    )
    distances: Tensor = field(default_factory=no_numbers)
    losses: Tensor = field(default_factory=no_numbers)
    distance: float = field(
        default=math.nan,
        metadata=shown(
            "distance",
            doc="along it, to the least loss that was found on the way",
            unit="parameter unit",
            group="details",
        ),
    )
    decrease: float = field(
        default=math.nan,
        metadata=shown("decrease", doc="how far the loss itself falls until there", unit="loss"),
    )

    def predicted(self, distances: Tensor) -> Tensor:
        """``m(t)``, the change of the loss to fourth order.

        Args:
            distances: ``t``, any shape.

        Returns:
            Same shape, float64.
        """
        t = distances.double()
        terms = (self.slope, self.curvature / 2, self.third / 6, self.fourth / 24)
        return torch.stack([c * t**k for k, c in enumerate(terms, 1)]).sum(dim=0)
