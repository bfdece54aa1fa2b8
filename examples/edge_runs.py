"""Trainings at the edge of stability, and what becomes of gradient descent at a learning rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from examples.networks import TanhRegressor
from lightning_hessian.hvp import open_loss
from lightning_hessian.linalg import leading_eigenvectors
from lightning_hessian.records.stability import BEYOND, STABLE

Kind = Literal["stable", "at the edge", "beyond", "diverged"]
THRESHOLD = 2.0
"""Of gradient descent, for the learning rate times the largest eigenvalue."""


@dataclass(frozen=True, kw_only=True)
class Course:
    """One training.

    Attributes:
        optimizer: Its class.
        rate: Its learning rate.
        steps: At which was measured.
        losses: There.
        sharpness: The largest eigenvalue there, as the optimiser's steps see it.
        threshold: That it can stand.
        verdict: At the end, in words.
    """

    optimizer: str
    rate: float
    steps: list[int]
    losses: list[float]
    sharpness: list[float]
    threshold: float
    verdict: str

    @property
    def second_half(self) -> tuple[float, float]:
        """Least and largest sharpness over the threshold."""
        half = [value / self.threshold for value in self.sharpness[len(self.sharpness) // 2 :]]
        return min(half), max(half)


@dataclass(frozen=True, kw_only=True)
class Ending:
    """What gradient descent ended at.

    Attributes:
        rate: The learning rate.
        seed: Of the first weights.
        first_loss: Before the first step.
        loss: After the last.
        sharpness: The learning rate times the largest eigenvalue there; ``nan`` where it diverged.
    """

    rate: float
    seed: int
    first_loss: float
    loss: float
    sharpness: float

    @property
    def kind(self) -> Kind:
        """Diverged where the loss is not below the first one."""
        if not self.loss < self.first_loss:
            return "diverged"
        margin = THRESHOLD / self.sharpness if self.sharpness > 0 else math.inf
        if margin > STABLE:
            return "stable"
        return "at the edge" if margin >= BEYOND else "beyond"


def ending(rate: float, batch: Sequence[Tensor], *, seed: int, steps: int) -> Ending:
    """Descend from the weights of a seed, until the end or until the loss is no number."""
    module = _drawn(rate, seed)
    optimizer = module.configure_optimizers()
    first = loss = _loss(module, batch)
    for _ in range(steps):
        if not math.isfinite(float(loss.detach())):
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss = _loss(module, batch)
    final = Ending(
        rate=rate,
        seed=seed,
        first_loss=float(first.detach()),
        loss=float(loss.detach()),
        sharpness=math.nan,
    )
    if final.kind == "diverged":
        return final
    return Ending(**{**final.__dict__, "sharpness": rate * largest_eigenvalue(module, batch)})


def first_margin(batch: Sequence[Tensor], *, seed: int) -> float:
    """The learning rate that is at the threshold at the weights of a seed."""
    return THRESHOLD / largest_eigenvalue(_drawn(1.0, seed), batch)


def largest_eigenvalue(module: TanhRegressor, batch: Sequence[Tensor]) -> float:
    """Of the Hessian, to a thousandth of the spectrum's range."""
    with open_loss(module, lambda b, _: _loss(module, b), [tuple(batch)]) as loss:
        pairs = leading_eigenvectors(
            loss.products,
            count=1,
            rtol=1e-3,
            max_hvps=100,
            probes_per_block=1,
            generator=torch.Generator().manual_seed(0),
        )
    return float(pairs.eigenvalues.values[0])


def _drawn(rate: float, seed: int) -> TanhRegressor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return TanhRegressor("SGD", rate)


def _loss(module: TanhRegressor, batch: Sequence[Tensor]) -> Tensor:
    return module.squared_error(batch[0], batch[1])
