"""curvlinops 3.0.1 with SciPy's ``eigsh`` on a workload.

Its own operator is functional and keeps no graph; an operator of our own that does is tried with
its estimators too. Its trace estimators multiply whole blocks, by ``vmap``.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from scipy.sparse.linalg import eigsh
from torch import Tensor

from examples.benchmarks.answers import Answer
from examples.benchmarks.plain import PlainLoss
from examples.benchmarks.workloads import Workload

Ends = tuple[tuple[Literal["LA", "SA", "LM", "BE"], int], ...]


def operator_of(workload: Workload, *, kept: bool) -> Any:
    """Its Hessian, or one of its interface with the graph kept; ``count`` holds the products."""
    from curvlinops import HessianLinearOperator
    from curvlinops._torch_base import PyTorchLinearOperator

    class Counted(HessianLinearOperator):
        count = 0

        def _matmat(self, columns: list[Tensor]) -> list[Tensor]:
            self.count += columns[0].shape[-1]
            products: list[Tensor] = super()._matmat(columns)
            return products

    class Kept(PyTorchLinearOperator):
        SELF_ADJOINT = True
        device, dtype, count = torch.device("cpu"), torch.float32, 0

        def __init__(self, loss: PlainLoss) -> None:
            super().__init__([(loss.size,)], [(loss.size,)])
            self.loss = loss

        def _matmat(self, columns: list[Tensor]) -> list[Tensor]:
            self.count += columns[0].shape[-1]
            return [torch.stack([self.loss.product(v) for v in columns[0].T], dim=1)]

    if kept:
        return Kept(PlainLoss(workload))
    return Counted(
        workload.network,
        workload.criterion,
        workload.parameters,
        workload.batches,
        num_data=workload.num_samples,
        check_deterministic=False,
    )


def run(
    workload: Workload,
    seed: int,
    *,
    kept: bool,
    ends: Ends,
    eigsh_options: dict[str, Any],
    trace: tuple[Literal["hutchinson", "hutchpp", "xtrace"], int],
    steps: int,
    runs: int = 1,
    boundaries: bool = True,
) -> Answer:
    """Eigenvalues by ``eigsh``, trace, density.

    Args:
        workload: What is measured.
        seed: Of torch's global generator, and of the start of ``eigsh``.
        kept: Keep the gradient's graph, by an operator of our own.
        ends: Which eigenvalues, and how many, in each call of ``eigsh``.
        eigsh_options: Further arguments of it.
        trace: Which estimator, and its products.
        steps: Of the density's Lanczos runs.
        runs: Of the density.
        boundaries: Give the density the ends found; otherwise it looks for them itself.
    """
    import curvlinops
    from curvlinops.papyan2020traces.spectrum import approximate_boundaries, fast_lanczos

    torch.manual_seed(seed)
    operator = operator_of(workload, kept=kept)
    start = np.random.default_rng(seed).standard_normal(workload.num_parameters)
    scipy_operator = operator.to_scipy(dtype=np.float32)
    found = [
        eigsh(
            scipy_operator,
            k=count,
            which=which,
            v0=start.astype(np.float32),
            return_eigenvectors=False,
            **eigsh_options,
        )
        for which, count in ends
    ]
    values = np.sort(np.concatenate(found))
    if not boundaries:
        approximate_boundaries(operator)
    estimator = {
        "hutchinson": curvlinops.hutchinson_trace,
        "hutchpp": curvlinops.hutchpp_trace,
        "xtrace": curvlinops.xtrace,
    }[trace[0]]
    estimate = float(estimator(operator, trace[1]))
    # `lanczos_approximate_spectrum` draws these on a grid
    sweeps = [fast_lanczos(operator, steps) for _ in range(runs)]
    return Answer(
        largest=values[-5:],
        smallest=float(values[0]) if len(values) > 5 else None,
        trace=estimate,
        nodes=np.concatenate([nodes.numpy() for nodes, _ in sweeps]),
        weights=np.concatenate([vectors[0].square().numpy() / runs for _, vectors in sweeps]),
        num_products=operator.count,
    )
