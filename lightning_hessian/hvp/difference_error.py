"""What differences of gradients are off by, seen on a random and on the dominant direction."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations

from torch import Tensor

from lightning_hessian.errors import RefusedError

NUM_POWERS = 3
ASYMMETRY_LIMIT = 1e-3

# operations whose gradient jumps somewhere, as autograd names their nodes
_KINKED = re.compile(
    r"((Leaky|P|R|Rr)?[Rr]elu|Elu|Threshold|Hard(tanh|swish|sigmoid|shrink)|Softshrink|Abs|L1Loss"
    r"|(Mkldnn|Adaptive|Fractional)?MaxPool\dD\w*|Clamp(Min|Max)?|(Max|Min)(imum)?|A(max|min)|F(max|min)"
    r"|Topk|Sort|Median|Cum(max|min)|MultiMarginLoss|MultilabelMarginLoss)"
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Quotient:
    """A difference quotient along a unit vector.

    Attributes:
        product: ``(n,)`` float64, what stands for ``H u``.
        error: ``(n,)`` float64, of about the length that ``product`` is off by, or longer.
        rounding: What rounding of the gradients adds even where ``error`` vanishes by chance.
        lost_share: Bound on the part of the step that rounding of ``w + h u`` took away.
    """

    product: Tensor
    error: Tensor
    rounding: float = 0.0
    lost_share: float = 0.0

    @property
    def is_off_by(self) -> float:
        """Length of the error."""
        lost = self.lost_share * float(self.product.norm())
        return float(self.error.norm()) + self.rounding + lost


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Probes:
    """Quotients along a few unit vectors: a random one first, then ever nearer to the dominant one.

    The relative error differs between the two: along a random direction the curvature is that of
    the bulk, and a step moves the function far less than along the dominant one.

    Attributes:
        directions: Unit vectors.
        quotients: Along each.
    """

    directions: tuple[Tensor, ...]
    quotients: tuple[Quotient, ...]

    @classmethod
    def along_powers(cls, quotient: Callable[[Tensor], Quotient], start: Tensor) -> Probes:
        """Follow the power method: up to three quotients, fewer where a product vanishes."""
        directions: list[Tensor] = []
        quotients: list[Quotient] = []
        vector = start
        while len(quotients) < NUM_POWERS and float(vector.norm()) > 0:
            directions.append(vector / vector.norm())
            quotients.append(quotient(directions[-1]))
            vector = quotients[-1].product
        return cls(directions=tuple(directions), quotients=tuple(quotients))

    def compared_with(self, quotients: tuple[Quotient, ...]) -> Probes:
        """Quotients along the same directions, their differences from these as errors."""
        return Probes(
            directions=self.directions,
            quotients=tuple(
                replace(quotient, error=quotient.product - known.product)
                for quotient, known in zip(quotients, self.quotients, strict=True)
            ),
        )

    @property
    def scale(self) -> float:
        """Longest product, nearly the Hessian's norm."""
        return max(float(quotient.product.norm()) for quotient in self.quotients)

    @property
    def error(self) -> float:
        """Longest error, or the asymmetry where that is larger."""
        longest = max(quotient.is_off_by for quotient in self.quotients)
        return max(longest, self.asymmetry[0])

    def trace_error(self, error: float) -> float:
        """What the trace of the quotients is off by, where a unit vector's product is by ``error``.

        A Hutchinson estimate of the error's trace: one probe's value plus about two of its own
        standard errors, ``sqrt(2 n) error``.
        """
        size = len(self.directions[0])
        form = float(self.directions[0] @ self.quotients[0].error)
        return size * abs(form) + 3 * math.sqrt(size) * error

    @property
    def asymmetry(self) -> tuple[float, float]:
        """Largest ``|u . D v - v . D u|``, and how much of it the errors explain.

        Along the directions of the power method an asymmetry shows at its full size, while along
        independent random ones it is hidden by a factor ``sqrt(n)``.
        """
        pairs = combinations(zip(self.directions, self.quotients, strict=True), 2)
        found = [
            (abs(float(u @ second.product - v @ first.product)), first.is_off_by + second.is_off_by)
            for (u, first), (v, second) in pairs
        ]
        return max(found, key=lambda pair: pair[0] - pair[1], default=(0.0, 0.0))

    def refuse_asymmetry(self) -> None:
        """Refuse gradients that are not the gradient of anything.

        A slight asymmetry, as of a spectral norm whose vectors have not converged, is let pass: it
        is part of the error, and the sweep's noise shows it.
        """
        found, explained = self.asymmetry
        allowed = max(2 * explained, ASYMMETRY_LIMIT * self.scale)
        if found > allowed:
            raise RefusedError(
                "differences of gradients of this loss are not symmetric: |u.Dv - v.Du| is "
                f"{found / self.scale:.1e} of |D|, of which {allowed / self.scale:.0e} would pass. "
                "What `backward()` gives is then not the gradient of the loss: it stops gradients "
                "(detach, straight-through, a target network), or a custom function's backward is "
                "wrong. Where every operation has a second derivative, `products='exact'` measures "
                "the Hessian with the stopped parts held constant."
            )


def kinked_operations(names: set[str]) -> tuple[str, ...]:
    """Which operations of a graph have gradients that jump, such as ``Relu``; sorted."""
    bare = {name.partition("Backward")[0] for name in names}
    return tuple(sorted(name for name in bare if _KINKED.fullmatch(name)))
