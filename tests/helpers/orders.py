"""Losses of known populations, and the law of their differences by visiting every order."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor


def differences_over_all_orders(losses: Tensor) -> Tensor:
    """``(N!, N - 1)`` of ``L_{k+1} - L_k``, the means computed as such and subtracted."""
    count = len(losses)
    orders = torch.tensor(list(itertools.permutations(range(count))))
    means = losses.double()[orders].cumsum(dim=1) / torch.arange(1, count + 1)
    return means[:, 1:] - means[:, :-1]


@dataclass(frozen=True)
class Population:
    """A distribution of losses.

    ``mean_distance(k)`` is ``E |X - L_k|``, ``L_k`` being the mean of ``k`` others.
    """

    name: str
    mean: float
    variance: float
    mean_absolute_deviation: float

    def draw(self, *shape: int, generator: torch.Generator) -> Tensor:
        if self.name == "uniform":
            return torch.rand(shape, generator=generator, dtype=torch.float64)
        if self.name == "exponential":
            return torch.empty(shape, dtype=torch.float64).exponential_(generator=generator)
        normal = torch.randn(shape, generator=generator, dtype=torch.float64)
        return normal.square() / 2 if self.name == "gamma" else normal.exp()


POPULATIONS = {
    p.name: p
    for p in (
        Population("uniform", 0.5, 1 / 12, 1 / 4),
        Population("exponential", 1.0, 1.0, 2 / math.e),
        # of shape 1/2: MAD = 2 a^a e^-a / Gamma(a)
        Population("gamma", 0.5, 0.5, 2 * 0.5**0.5 * math.exp(-0.5) / math.gamma(0.5)),
        # exp of a standard normal: MAD = 2 mu erf(1 / sqrt 8)
        Population(
            "lognormal",
            math.exp(0.5),
            math.e * (math.e - 1),
            2 * math.exp(0.5) * math.erf(1 / math.sqrt(8)),
        ),
    )
}


def exponential_mean_distance(k: int) -> float:
    """``E |X - L_k|`` of exponential losses: ``P(X > y) = e^-y``, ``E e^{-L_k} = (1 + 1/k)^-k``."""
    return 2 * (1 + 1 / k) ** -k
