"""Points along descents, and what searches from there come to."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import torch
from torch import Tensor

from examples.index_points import IndexPoint, point
from examples.index_problem import Task
from lightning_hessian.studies import find_critical_point

RATE = 0.1
LONGEST = 3
"""Power of ten of the steps of the longest descent; the logarithm of their number is uniform."""
EASE, HARDEN = 1 / 3, 4.0
"""What a damping is multiplied by after a step that was taken, and one that was not."""


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """Where a search begins.

    Attributes:
        weights: ``(p,)``.
        target: The index that is asked for, from 0 to a third of the parameters.
    """

    weights: Tensor
    target: int


@dataclass(slots=True)
class Searches:
    """What some searches came to.

    Attributes:
        starts: One for each, on the way down.
        ends: Those that converged.
        outcomes: How many ended how.
    """

    starts: list[IndexPoint] = field(default_factory=list)
    ends: list[IndexPoint] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)


def start(task: Task, seed: int, decay: float) -> Start:
    """After 1 to 1,000 steps of gradient descent on ``2 epsilon``, with weight decay."""
    generator = torch.Generator().manual_seed(seed)
    count = task.num_parameters
    drawn = torch.randn(count, generator=generator, dtype=torch.float64) / 2
    target = int(torch.randint(0, count // 3 + 1, (1,), generator=generator))
    steps = int(10 ** (LONGEST * torch.rand(1, generator=generator)))
    weights = drawn.to(task.inputs).requires_grad_()
    optimizer = torch.optim.SGD([weights], lr=RATE, weight_decay=decay)
    for _ in range(steps):
        optimizer.zero_grad()
        (2 * task.energy(weights)).backward()
        optimizer.step()
    return Start(weights.detach(), target)


def search(task: Task, *, decay: float, seeds: int, max_hvps: int) -> Searches:
    """Look for a saddle of the wanted index from each start, along eigenvectors alone."""
    found = Searches()
    for seed in range(seeds):
        begun = start(task, seed, decay)
        found.starts.append(point(task, begun.weights, decay=decay, source="descent"))
        with task.opened(begun.weights) as loss:
            # a trajectory may lead to several points, of which the one asked for is no random one
            end = find_critical_point(
                loss,
                target=begun.target,
                weight_decay=decay,
                max_hvps=max_hvps,
                trajectories=False,
            )
        found.outcomes[end.report.outcome] += 1
        if end.report.outcome == "converged":
            found.ends.append(point(task, end.weights, decay=decay, source="searched"))
    return found


def small_gradients(task: Task, *, decay: float, seeds: int, steps: int) -> list[IndexPoint]:
    """Where descents of the gradient's norm come to, from the same starts."""
    return [
        point(
            task,
            descended(task, start(task, seed, decay).weights, decay=decay, steps=steps),
            decay=decay,
            source="small gradient",
        )
        for seed in range(seeds)
    ]


def descended(task: Task, weights: Tensor, *, decay: float, steps: int) -> Tensor:
    """After Levenberg and Marquardt's steps down ``|g|^2``, ``-(H^2 + damping)^(-1) H g``."""
    gradient, hessian = task.derivatives(weights, decay)
    damping, one = 1.0, torch.eye(len(weights), dtype=weights.dtype, device=weights.device)
    for _ in range(steps):
        step = torch.linalg.solve(hessian @ hessian + damping * one, hessian @ gradient)
        shorter, there = task.derivatives(weights - step, decay)
        if shorter.norm() < gradient.norm():
            weights, gradient, hessian = weights - step, shorter, there
            damping *= EASE
        else:
            damping *= HARDEN
    return weights
