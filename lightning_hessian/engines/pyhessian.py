"""The spectrum of the training loss's Hessian as PyHessian computes it."""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib.metadata import version

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from lightning_hessian.engines.adapter import AdaptedHessian
from lightning_hessian.engines.known_differences import KNOWN_DIFFERENCES
from lightning_hessian.errors import RefusedError
from lightning_hessian.loss import Conductor, TrainingLoss
from lightning_hessian.options import PyHessian
from lightning_hessian.records import Eigenvalues, Note, SpectralDensity, Spectrum, TraceEstimate
from lightning_hessian.sandbox import global_generator_state, seed_global_generators

OVERHEAD = 0.01
"""What PyHessian's ``density_plot.py`` adds to the spectrum on both sides before it is drawn."""


def pyhessian_spectrum(
    loss: TrainingLoss | Conductor,
    *,
    num_eigenvalues: int,
    trace: bool,
    density: bool,
    solver: PyHessian,
    seed: int,
    on_products: Callable[[int], None] | None = None,
) -> Spectrum:
    """Measure by PyHessian: power iteration with deflation, Hutchinson, stochastic Lanczos.

    PyHessian's own code makes the products and runs the methods, over the frozen batches with their
    weights; first derivatives are handed to it. It draws from torch's global generator, seeded
    once, first for the eigenvalues, then for the trace, then for the density: after
    ``torch.manual_seed(seed)`` the same calls in this order on a model, criterion and data loader
    of the same loss, in evaluation mode, give the same numbers up to rounding.

    What is known to be different from a report of this package's own is in the notes. A product
    costs a forward and two backwards over all batches, also where PyHessian would keep the graph
    of a single one.

    Args:
        loss: Inside its sandbox.
        num_eigenvalues: Largest by magnitude, PyHessian's ``top_n``; at most ``n`` are given. The
            positive ones are returned as largest, the negative ones as smallest.
        trace: Whether to estimate the trace, as the mean over the probes.
        density: Whether to make the density; more than ``n`` Lanczos steps are not made.
        solver: PyHessian's other parameters.
        seed: Of all probes.
        on_products: Told the number of products after each.

    Returns:
        What was found and what it cost. Eigenvalues have no bounds (``nan``); nothing has
        converged in the sense of a tolerance that is met; there is no negative mass.

    Raises:
        ValueError: If nothing is asked for.
        RefusedError: If several processes share the loss, its products are differences of
            gradients, its parameters are on several devices, or there is no loss.
        NonFiniteError: If the loss or a product is not finite.

    References:
        Z. Yao, A. Gholami, K. Keutzer, M. W. Mahoney (2020), "PyHessian: neural networks through
        the lens of the Hessian", algorithms 1 to 3.
    """
    if not (num_eigenvalues or trace or density):
        raise ValueError(
            "nothing to measure by PyHessian: `num_eigenvalues` is 0, `trace` and `density` are "
            "False. Ask for at least one; smallest eigenvalues alone it does not give."
        )
    engine = AdaptedHessian(_refuse(loss), on_products)
    text = f"Measured by PyHessian {version('pyhessian')}, with its own stopping rules."
    notes = [Note("measured-by-pyhessian", text)]
    found = torch.empty(0, dtype=torch.float64)
    estimate, distribution = None, None
    put_back = global_generator_state()
    try:
        seed_global_generators(seed % 2**32)
        if num_eigenvalues:
            found = _eigenvalues(engine, min(num_eigenvalues, loss.size), solver)
            notes += KNOWN_DIFFERENCES["eigenvalues"]
        if trace:
            values = engine.trace(maxIter=solver.trace_maxIter, tol=solver.trace_tol)
            estimate = _trace_estimate(torch.tensor(values, dtype=torch.float64))
            notes += KNOWN_DIFFERENCES["trace"]
        if density:
            steps = min(solver.density_iter, loss.size)
            lists = engine.density(iter=steps, n_v=solver.density_n_v)
            distribution = _density(*lists, sigma_squared=solver.density_sigma_squared)
            notes += KNOWN_DIFFERENCES["density"]
    finally:
        put_back()
    return Spectrum(
        largest=_without_bounds(found[found >= 0].sort(descending=True).values),
        smallest=_without_bounds(found[found < 0].sort().values),
        trace=estimate,
        density=distribution,
        negative_mass=None,
        num_hvps=engine.num_hvps,
        notes=tuple(notes),
    )


def _refuse(loss: TrainingLoss | Conductor) -> TrainingLoss:
    if isinstance(loss, Conductor) or loss.processes.size > 1:
        raise RefusedError(
            "PyHessian knows one process only, but several share this loss. Train on one device, "
            "analyse the checkpoint in one process, or measure with `solver=Krylov()`."
        )
    if loss.products.quality.method != "exact":
        raise RefusedError(
            "PyHessian differentiates the loss twice, but this loss has no exact second "
            "derivative: its products are differences of gradients. Measure with "
            "`solver=Krylov()`."
        )
    if loss.parameters.num_complex:
        raise RefusedError(
            "PyHessian multiplies real vectors only, but some of the selected parameters are "
            "complex. Leave these out by `parameters=`, or measure with `solver=Krylov()`."
        )
    devices = sorted({str(p.device) for p in loss.parameters.tensors})
    if len(devices) > 1:
        raise RefusedError(
            "PyHessian keeps its vectors on one device, but the selected parameters are on "
            f"{', '.join(devices)}. Select those of one device by `parameters=`, or measure with "
            "`solver=Krylov()`."
        )
    return loss


def _eigenvalues(engine: AdaptedHessian, count: int, solver: PyHessian) -> Tensor:
    values, _ = engine.eigenvalues(
        maxIter=solver.eigenvalues_maxIter, tol=solver.eigenvalues_tol, top_n=count
    )
    return torch.tensor(values, dtype=torch.float64)


def _without_bounds(values: Tensor) -> Eigenvalues:
    return Eigenvalues(
        values=values,
        residual_bounds=torch.full_like(values, math.nan),
        converged=torch.zeros(len(values), dtype=torch.bool),
    )


def _trace_estimate(values: Tensor) -> TraceEstimate:
    """The mean over the probes; its error as if their number had been settled beforehand."""
    count, mean = len(values), float(values.mean())
    error, interval = math.nan, (-math.inf, math.inf)
    if count > 1:
        error = float(values.std()) / math.sqrt(count)
        margin = float(stats.t.ppf(0.975, count - 1)) * error
        interval = (mean - margin, mean + margin)
    return TraceEstimate(
        value=mean, standard_error=error, interval=interval, num_probes=count, converged=False
    )


def _density(
    nodes: list[list[float]], weights: list[list[float]], *, sigma_squared: float
) -> SpectralDensity:
    """The mean over the runs, drawn with the kernel of PyHessian's ``density_plot.py``."""
    runs = torch.from_numpy(np.array(nodes, dtype=np.float64))
    shares = torch.from_numpy(np.array(weights, dtype=np.float64))
    order = runs.flatten().argsort()
    probe_weights = torch.block_diag(*shares).T[order]
    extent = float(runs.max(dim=1).values.mean() - runs.min(dim=1).values.mean()) + 2 * OVERHEAD
    return SpectralDensity(
        nodes=runs.flatten()[order],
        weights=probe_weights.mean(dim=1),
        probe_weights=probe_weights,
        bandwidth=math.sqrt(sigma_squared * max(1.0, extent)),
    )
