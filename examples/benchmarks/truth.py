"""What the answers are compared with: dense on W1, float64 Lanczos and many probes elsewhere.

Nothing here comes from the package under test, or from a peer: products are plain double backward.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor

from examples.benchmarks.lanczos import Tridiagonal, lanczos, rademacher
from examples.benchmarks.plain import PlainLoss
from examples.benchmarks.workloads import Workload

NUM_LARGEST = 5
RESIDUAL = 1e-8
MAX_STEPS = 250
DENSITY_RUNS, DENSITY_STEPS = 6, 80
TRACE_ERROR, MAX_TRACE_PROBES = 0.01, 192


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """Of one workload.

    Attributes:
        largest: Five largest eigenvalues, by algebraic value.
        smallest: The smallest.
        largest_are_dominant: Whether the same five are largest by magnitude.
        residual: Largest residual norm of the above, relative to each.
        arpack: Largest relative difference of ARPACK's values of the same; None where dense.
        trace: Sum of all eigenvalues.
        trace_error: Standard error of it; zero where dense.
        nodes: Of the spectral density.
        weights: Sum to one.
        fingerprint: Of the loss it belongs to.
    """

    largest: list[float]
    smallest: float
    largest_are_dominant: bool
    residual: float
    arpack: float | None
    trace: float
    trace_error: float
    nodes: list[float]
    weights: list[float]
    fingerprint: str


def truth_of(workload: Workload, folder: Path | None = None) -> Truth:
    """Compute the truth, or read it where it was kept for the same loss.

    Args:
        workload: What is measured.
        folder: Where truths are kept; None to keep none.
    """
    exact = PlainLoss(workload, dtype=torch.float64)
    fingerprint = f"{workload.num_parameters} {exact.loss():.12e}"
    path = folder / f"{workload.name}.json" if folder is not None else None
    if path is not None and path.exists():
        kept = Truth(**json.loads(path.read_text()))
        if kept.fingerprint == fingerprint:
            return kept
    dense = exact.size < 5000
    truth = _dense(exact, fingerprint) if dense else _iterative(workload, exact, fingerprint)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(truth)))
    return truth


def _dense(exact: PlainLoss, fingerprint: str) -> Truth:
    matrix = exact.dense()
    values = torch.linalg.eigvalsh((matrix + matrix.T) / 2)
    return Truth(
        largest=values.flip(0)[:NUM_LARGEST].tolist(),
        smallest=float(values[0]),
        largest_are_dominant=_are_dominant(values),
        residual=0.0,
        arpack=None,
        trace=float(values.sum()),
        trace_error=0.0,
        nodes=values.tolist(),
        weights=[1 / len(values)] * len(values),
        fingerprint=fingerprint,
    )


def _iterative(workload: Workload, exact: PlainLoss, fingerprint: str) -> Truth:
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(exact.size, dtype=torch.float64, generator=generator)
    sweep = lanczos(exact.product, start, min(MAX_STEPS, exact.size), is_enough=_ends_are_exact)
    values, vectors, residuals = sweep.ritz()
    ends = [0, *range(len(values) - NUM_LARGEST, len(values))]
    # what is known to a thousandth counts as an eigenvector to be taken out
    known = (residuals < 1e-3 * values.abs()).nonzero().flatten()
    locked = torch.linalg.qr(sweep.basis.T @ vectors[:, known])[0].T.float().contiguous()
    exact_part = values[known]
    del sweep
    trace, trace_error, nodes, weights = _rest(PlainLoss(workload), locked, generator)
    size = exact.size
    return Truth(
        largest=values.flip(0)[:NUM_LARGEST].tolist(),
        smallest=float(values[0]),
        largest_are_dominant=_are_dominant(values),
        residual=float((residuals[ends] / values[ends].abs()).max()),
        arpack=_difference_of_arpack(exact, values),
        trace=float(exact_part.sum()) + trace,
        trace_error=trace_error,
        nodes=[*exact_part.tolist(), *nodes.tolist()],
        weights=[1 / size] * len(known) + (weights * (1 - len(known) / size)).tolist(),
        fingerprint=fingerprint,
    )


def _rest(
    loss: PlainLoss, locked: Tensor, generator: torch.Generator
) -> tuple[float, float, Tensor, Tensor]:
    """Trace, its standard error, and density of the complement of known eigenvectors."""

    def probe() -> Tensor:
        vector = rademacher(loss.size, generator, loss.dtype)
        return vector - (locked @ vector) @ locked

    traces, nodes, weights = [], [], []
    for _ in range(DENSITY_RUNS):
        vector = probe()
        run = lanczos(loss.product, vector, DENSITY_STEPS, against=locked)
        values, vectors, _ = run.ritz()
        traces.append(float(run.diagonal[0]) * float(vector.double().square().sum()))
        nodes.append(values)
        weights.append(vectors[0].square() / DENSITY_RUNS)
    while len(traces) < MAX_TRACE_PROBES:
        vector = probe()
        traces.append(float(vector.double() @ loss.product(vector).double()))
        mean, error = np.mean(traces), np.std(traces, ddof=1) / math.sqrt(len(traces))
        if len(traces) >= 32 and error < TRACE_ERROR * abs(mean):
            break
    return float(np.mean(traces)), float(error), torch.cat(nodes), torch.cat(weights)


def _ends_are_exact(sweep: Tridiagonal) -> bool:
    values, _, residuals = sweep.ritz()
    if len(values) <= NUM_LARGEST:
        return False
    ends = [0, *range(len(values) - NUM_LARGEST, len(values))]
    return bool((residuals[ends] < RESIDUAL * values[ends].abs()).all())


def _are_dominant(values: Tensor) -> bool:
    return bool(-values[0] < values.flip(0)[NUM_LARGEST - 1])


def _difference_of_arpack(exact: PlainLoss, values: Tensor) -> float:
    """The same eigenvalues by another algorithm over the same products."""

    def product(vector: np.ndarray) -> np.ndarray:
        return exact.product(torch.from_numpy(vector.ravel().copy())).numpy()

    operator = LinearOperator((exact.size, exact.size), matvec=product, dtype=np.float64)
    start = np.random.default_rng(2).standard_normal(exact.size)
    found = eigsh(
        operator, k=NUM_LARGEST, which="LA", tol=1e-5, v0=start, return_eigenvectors=False
    )
    lowest = eigsh(operator, k=1, which="SA", tol=1e-4, v0=start, ncv=30, return_eigenvectors=False)
    ours = np.array([*values[-NUM_LARGEST:].tolist(), float(values[0])])
    theirs = np.array([*np.sort(found), *lowest])
    return float(np.max(np.abs(theirs - ours) / np.abs(ours)))
