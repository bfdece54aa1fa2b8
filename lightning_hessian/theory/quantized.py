"""A law with a density as a measure of many points, to be compared with what was measured."""

from __future__ import annotations

import math

import numpy as np

from lightning_hessian.theory.free_convolution import DiscreteMeasure
from lightning_hessian.theory.pennington_bahri_2017 import RefinedRelu, WishartPlusWigner

WITHIN = 1e-3
"""By how much the masses of the cells may miss 1."""
FINEST = 64


def quantized(law: WishartPlusWigner | RefinedRelu, num_cells: int = 1000) -> DiscreteMeasure:
    """Put the mass of each of many cells at its middle.

    The cells are equal in the angle ``acos`` of the place between both edges, so that they are fine
    where the density has its square roots. Where narrow peaks lose mass between them they are made
    finer.

    Args:
        law: With edges and a density.
        num_cells: At the least.

    Returns:
        The measure.

    Raises:
        ValueError: If there is no cell.
        ArithmeticError: If the masses do not add up to 1 within a thousandth.

    Example:
        >>> law = WishartPlusWigner(energy=0.1, ratio=0.25)
        >>> measure = quantized(law)
        >>> f"{measure.mean:.4f}", f"{measure.variance:.4f}"  # 1 and phi + 2 epsilon
        ('1.0000', '0.4500')
    """
    if num_cells < 1:
        raise ValueError(f"`num_cells` must be at least 1, got {num_cells}. Give some 1000.")
    low, high = law.edges
    middle, half = (low + high) / 2, (high - low) / 2
    for count in (num_cells, 8 * num_cells, FINEST * num_cells):
        angles = (np.arange(count) + 0.5) * math.pi / count
        places = middle - half * np.cos(angles)
        masses = law.density(places) * half * np.sin(angles) * math.pi / count
        if abs(masses.sum() - 1) <= WITHIN:
            return DiscreteMeasure.of(places, masses)
    raise ArithmeticError(
        f"the masses of {count} cells of {law} must add up to 1, got {masses.sum():.6f}: its peaks "
        "are too narrow. Is the residual part nearly zero?"
    )
