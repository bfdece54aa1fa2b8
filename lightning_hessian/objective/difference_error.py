"""What differences of gradients are off by, seen on a random and on the dominant direction."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

from torch import Tensor

from lightning_hessian.errors import RefusedError

NUM_POWERS = 3

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
    """

    product: Tensor
    error: Tensor

    @property
    def is_off_by(self) -> float:
        """Length of the error."""
        return float(self.error.norm())


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
        """Follow the power method: each direction is the product along the one before.

        Args:
            quotient: Measures along a unit vector.
            start: A random vector.

        Returns:
            Up to three quotients, fewer where a product vanishes.
        """
        directions: list[Tensor] = []
        quotients: list[Quotient] = []
        vector = start
        while len(quotients) < NUM_POWERS and float(vector.norm()) > 0:
            directions.append(vector / vector.norm())
            quotients.append(quotient(directions[-1]))
            vector = quotients[-1].product
        return cls(directions=tuple(directions), quotients=tuple(quotients))

    def compared_with(self, products: tuple[Tensor, ...]) -> Probes:
        """Hold other products along the same directions against these.

        Args:
            products: One for each direction.

        Returns:
            Them, with their differences from these as their errors.
        """
        return Probes(
            directions=self.directions,
            quotients=tuple(
                Quotient(product=product, error=product - known.product)
                for product, known in zip(products, self.quotients, strict=True)
            ),
        )

    @property
    def scale(self) -> float:
        """Longest product, nearly the Hessian's norm."""
        return max(float(quotient.product.norm()) for quotient in self.quotients)

    @property
    def error(self) -> float:
        """Longest error."""
        return max(quotient.is_off_by for quotient in self.quotients)

    def trace_error(self, error: float) -> float:
        """What the trace of the quotients is off by: a Hutchinson estimate of the error's trace.

        Args:
            error: Of a product along a random unit vector.

        Returns:
            One probe's value plus about two of its own standard errors, ``sqrt(2 n) error``.
        """
        size = len(self.directions[0])
        form = float(self.directions[0] @ self.quotients[0].error)
        return size * abs(form) + 3 * math.sqrt(size) * error

    def refuse_asymmetry(self) -> None:
        """Refuse gradients that are not the gradient of anything.

        Along the directions of the power method an asymmetry shows at its full size, while along
        independent random ones it is hidden by a factor ``sqrt(n)``.

        Raises:
            RefusedError: If ``u . D v`` and ``v . D u`` differ by more than the errors explain.
        """
        pairs = combinations(zip(self.directions, self.quotients, strict=True), 2)
        for (u, first), (v, second) in pairs:
            found = abs(float(u @ second.product - v @ first.product))
            allowed = 2 * (first.is_off_by + second.is_off_by)
            if found > allowed and found > 1e-6 * self.scale:
                raise RefusedError(
                    "differences of gradients of this loss are not symmetric: |u.Dv - v.Du| is "
                    f"{found / self.scale:.1e} of |D|, where their error allows "
                    f"{allowed / self.scale:.0e}. What `backward()` gives is then not the gradient "
                    "of the loss: it stops gradients (detach, straight-through), or a custom "
                    "function's backward is wrong. Where every operation has a second derivative, "
                    "`hvp='exact'` measures the Hessian with the stopped parts held constant."
                )


def kinked_operations(names: set[str]) -> tuple[str, ...]:
    """Which operations of a graph have gradients that jump, such as ``Relu``.

    Args:
        names: Of the graph's nodes.

    Returns:
        Their names without autograd's ending, sorted.
    """
    bare = {name.partition("Backward")[0] for name in names}
    return tuple(sorted(name for name in bare if _KINKED.fullmatch(name)))
