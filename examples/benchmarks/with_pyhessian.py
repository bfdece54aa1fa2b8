"""PyHessian 0.1 on a workload.

It keeps the gradient's graph where all data come as one batch, and computes it anew for each
product where they come from a loader.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from examples.benchmarks.answers import Answer
from examples.benchmarks.workloads import Workload


def run(
    workload: Workload,
    seed: int,
    *,
    kept: bool,
    tol: float | None,
    probes: int | None,
    steps: int,
    runs: int = 1,
    max_iter: int = 100,
) -> Answer:
    """Eigenvalues, trace, density; the smallest eigenvalue is the density's lowest Ritz value.

    Args:
        workload: What is measured.
        seed: Of torch's global generator, which it draws from.
        kept: All data as one batch, whose gradient's graph it keeps.
        tol: Of its power iteration; None takes the density's Ritz values for the largest too.
        probes: Of its trace; None leaves it to its own stopping rule.
        steps: Of the density's Lanczos runs.
        runs: Of the density.
        max_iter: Bound on the power iterations for one eigenvalue.
    """
    from pyhessian import hessian

    torch.manual_seed(seed)
    data = {"data": workload.joined} if kept else {"dataloader": workload.batches}
    with counted_products() as count, _eig_of_former_torch():
        theirs = hessian(workload.network, workload.criterion, cuda=False, **data)
        largest = None
        if tol is not None:
            largest, _ = theirs.eigenvalues(maxIter=max_iter, tol=tol, top_n=5)
        # a rule that nothing meets: two means that agree by chance would end it
        rule = {} if probes is None else {"maxIter": probes, "tol": -math.inf}
        samples = theirs.trace(**rule)
        nodes, weights = theirs.density(iter=steps, n_v=runs)
    workload.network.zero_grad()
    values = np.sort(np.ravel(nodes))
    return Answer(
        largest=(np.sort(nodes[0])[-5:] if largest is None else largest),
        smallest=float(values[0]),
        trace=float(np.mean(samples)),
        nodes=np.ravel(nodes),
        weights=np.ravel(weights) / runs,
        num_products=count[0],
    )


def product_of(workload: Workload, *, kept: bool) -> Callable[[Tensor], object]:
    """Its product with one column ``(n, 1)``, for timing."""
    from pyhessian import hessian
    from pyhessian.utils import hessian_vector_product

    data = {"data": workload.joined} if kept else {"dataloader": workload.batches}
    theirs = hessian(workload.network, workload.criterion, cuda=False, **data)

    def product(column: Tensor) -> object:
        pieces = column[:, 0].split([p.numel() for p in theirs.params])
        shaped = [v.view_as(p) for v, p in zip(pieces, theirs.params, strict=True)]
        if kept:
            return hessian_vector_product(theirs.gradsH, theirs.params, shaped)
        return theirs.dataloader_hv_product(shaped)

    return product


@contextmanager
def counted_products() -> Iterator[list[int]]:
    """Products made inside the block, in a list of one number."""
    # the package's name `hessian` hides its module
    module = sys.modules["pyhessian.hessian"]
    count = [0]

    def product(*arguments: object) -> object:
        count[0] += 1
        return original(*arguments)

    def over_batches(self: object, vector: object) -> object:
        count[0] += 1
        return of_loader(self, vector)

    original, of_loader = module.hessian_vector_product, module.hessian.dataloader_hv_product
    with (
        patch.object(module, "hessian_vector_product", product),
        patch.object(module.hessian, "dataloader_hv_product", over_batches),
    ):
        yield count


@contextmanager
def _eig_of_former_torch() -> Iterator[None]:
    """``torch.eig`` is gone; the matrix it is asked for is symmetric."""

    def eig(matrix: Tensor, eigenvectors: bool) -> tuple[Tensor, Tensor]:
        values, vectors = torch.linalg.eigh(matrix)
        return torch.stack([values, torch.zeros_like(values)], dim=1), vectors

    with patch.object(torch, "eig", eig, create=True):
        yield
