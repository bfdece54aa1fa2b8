"""hessian-eigenthings 1.0.0a5 on a workload.

Its own operator computes the gradient's graph anew for each product; its ``LambdaOperator`` takes a
product that keeps it. It averages batches without weights: those of the workloads are equal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from torch import Tensor, nn

from examples.benchmarks.answers import Answer
from examples.benchmarks.plain import PlainLoss
from examples.benchmarks.workloads import Workload

TraceMethod = Literal["hutchinson", "hutch++"]


def product_of(workload: Workload, *, kept: bool) -> Callable[[Tensor], Tensor]:
    """One product by its own operator, or by plain torch with the graph kept."""
    if kept:
        return PlainLoss(workload).product
    from hessian_eigenthings import HessianOperator

    def loss(network: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        value: Tensor = workload.criterion(network(batch[0]), batch[1])
        return value

    product: Callable[[Tensor], Tensor] = HessianOperator(
        workload.network, workload.batches, loss
    ).matvec
    return product


def run(
    workload: Workload,
    seed: int,
    *,
    kept: bool,
    steps: int | None,
    density: dict[str, Any],
    trace: dict[str, Any],
    both_ends: bool = True,
) -> Answer:
    """Eigenvalues, trace, density.

    Args:
        workload: What is measured.
        seed: Of its generators.
        kept: Keep the gradient's graph, by a product of our own.
        steps: Of one Lanczos run for both ends; None takes the density's Ritz values for them.
        density: Arguments of ``spectral_density``.
        trace: Arguments of ``trace``.
        both_ends: False asks for the five largest by magnitude as by default, with ``steps`` None
            for its own number of steps, and once more for the smallest.
    """
    import hessian_eigenthings as theirs

    count = [0]
    product = product_of(workload, kept=kept)

    def counted(vector: Tensor) -> Tensor:
        count[0] += 1
        return product(vector)

    operator = theirs.LambdaOperator(counted, workload.num_parameters)
    sweep = theirs.spectral_density(operator, seed=seed, **density)
    if not both_ends:
        found = theirs.lanczos(operator, k=5, max_iter=steps, seed=seed)
        lowest = theirs.lanczos(operator, k=1, max_iter=steps or 10, which="SA", seed=seed)
        largest, smallest = found.eigenvalues, float(lowest.eigenvalues[0])
    else:
        values = sweep.raw_eigenvalues[0]
        if steps is not None:
            # as many pairs as steps: both ends from one run
            values = theirs.lanczos(
                operator, k=steps, max_iter=steps, which="LA", seed=seed, reorthogonalize=True
            ).eigenvalues
        ordered = values.sort().values
        largest, smallest = ordered[-5:], float(ordered[0])
    estimate = theirs.trace(operator, seed=seed, **trace)
    return Answer(
        largest=largest.tolist(),
        smallest=smallest,
        trace=float(estimate.estimate),
        nodes=sweep.raw_eigenvalues.flatten().tolist(),
        weights=(sweep.raw_weights.flatten() / len(sweep.raw_weights)).tolist(),
        num_products=count[0],
    )
