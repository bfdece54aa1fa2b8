"""What a report of a spectrum costs, and how a sum is best spent on samples and products."""

from __future__ import annotations

import math
from dataclasses import dataclass

PRODUCT = 2.0
"""Gradients that a Hessian-vector product comes to, its graph being kept: of a matrix product's
forward and backward pass (three products) each is passed once more, twice (six)."""
RECOMPUTED = 3.0
"""The same where the graph is made anew for each."""
FORWARD = 1 / 3
"""Gradients that a forward pass comes to: the backward pass has twice its matrix products."""
ALONG_GRADIENT, ALONG_GRADIENT_OF_SEVERAL = 1 + PRODUCT, 1 + RECOMPUTED
"""What a step's curvature along its gradient comes to: of one batch, whose graph serves both, and
of several batches or processes, whose gradient must be known before the product."""
CHECKS = 3.7
"""Gradients over the samples that go once into looking whether the loss can be measured."""
USUAL_PRODUCTS = 6
"""With fewer the largest eigenvalue is missed too often."""
FIRST_PRODUCTS = 6
"""Without a vector of the report before to start from: with fewer the interval has no upper end."""
FAIR_PRODUCTS = 4
"""From here on a larger eigenvalue seldom hides from one that follows it."""
LEAST_PRODUCTS = 2
"""The vector of the report before, and one that may find another."""
SWEEP_PRODUCTS = 14
"""From here on a density comes to rest, and the ends of the spectrum beside the largest."""
LEAST_SAMPLES = 48
"""Four to a group; for trainings so short that 128 would leave fewer than eight points."""
FEWEST_SAMPLES, ENOUGH_SAMPLES, MOST_SAMPLES = 128, 512, 2048
"""Below the second, samples are the better buy; above, products are bought too."""


def price(num_samples: int, num_products: float, product: float = PRODUCT) -> float:
    """Sample gradients of a report: one pass with the graph, then the products."""
    return num_samples * (1 + product * num_products)


def sample_size(allowance: float) -> int:
    """Samples of a report of this price.

    Four products follow the largest eigenvalue, and its sampling error falls as the root of the
    samples: up to 512 of them all goes into samples. Beyond, the number of products grows as the
    root of the price, for the density and the smallest eigenvalue.

    Args:
        allowance: The price, in sample gradients.

    Returns:
        From 128 to 2,048.
    """
    enough = price(ENOUGH_SAMPLES, FAIR_PRODUCTS)
    products = FAIR_PRODUCTS * max(1.0, math.sqrt(allowance / enough))
    count = int(allowance / price(1, products))
    return min(max(count, FEWEST_SAMPLES), MOST_SAMPLES)


@dataclass(frozen=True, slots=True)
class Purchase:
    """What one report is made with.

    Attributes:
        num_products: Hessian-vector products; at least one.
        is_sweep: Whether that is enough for the whole spectrum.
    """

    num_products: int
    is_sweep: bool

    @classmethod
    def of(cls, allowance: float, num_samples: int, most: int) -> Purchase:
        """As many products as the allowance pays, at most ``most``."""
        count = int((allowance / num_samples - 1) / PRODUCT + 1e-9)
        count = min(max(count, 1), most)
        return cls(count, count >= SWEEP_PRODUCTS)
