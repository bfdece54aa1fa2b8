"""A Hessian's parts: those of a network without a Trainer, and of matrices as if measured."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_hessian.hvp import open_loss
from lightning_hessian.records import (
    Alignment,
    Eigenvalues,
    Estimate,
    GaussNewtonSplit,
    NegativeMass,
    PartSpectrum,
    SpectralDensity,
    TraceEstimate,
)
from lightning_hessian.statistics import deviation_over_subspaces
from lightning_hessian.studies import gauss_newton_split
from tests.helpers.tanh_network import TanhNetwork

Array = np.ndarray


def split_of(network: TanhNetwork, targets: Tensor, **options: Any) -> GaussNewtonSplit:
    own = network.module(F.mse_loss).network
    penalty = options.pop("penalty", 0.0)

    def step(batch: Any, _: int) -> Tensor:
        loss = F.mse_loss(own(batch[0]), batch[1])
        return loss + penalty * sum(p.square().sum() for p in own.parameters()) if penalty else loss

    products = {"products": options.pop("products")} if "products" in options else {}
    batch = (network.inputs, targets)
    with open_loss(own, step, [batch], dtype=torch.float64, **products) as loss:
        return gauss_newton_split(loss, generator=torch.Generator().manual_seed(0), **options)


def part_of(matrix: Array, threshold: float) -> PartSpectrum:
    values = torch.from_numpy(np.linalg.eigvalsh(matrix))
    exact = torch.zeros(1, dtype=torch.float64)
    flags = torch.ones(1, dtype=torch.bool)
    weights = torch.full_like(values, 1 / len(values))
    below = float((values < -threshold).double().mean())
    return PartSpectrum(
        largest=Eigenvalues(values=values[-1:], residual_bounds=exact, converged=flags),
        smallest=Eigenvalues(values=values[:1], residual_bounds=exact, converged=flags),
        trace=TraceEstimate(
            value=float(values.sum()),
            standard_error=0.0,
            interval=(float(values.sum()),) * 2,
            squares=Estimate(value=float(values.square().sum()), standard_error=0.0),
        ),
        density=SpectralDensity(
            nodes=values, weights=weights, probe_weights=weights[:, None], bandwidth=0.01
        ),
        negative_mass=NegativeMass(fraction=below, bracket=(below, below), threshold=threshold),
    )


def split_of_matrices(
    first: Array, second: Array, *, energy: float | None = None, ratio: float = 1.0
) -> GaussNewtonSplit:
    """As if measured, of matrices whose nominal parameters are given."""
    size = len(first)
    values, vectors = np.linalg.eigh(second)
    limit = -0.3 * np.abs(values).max()
    down = vectors[:, values < limit]
    tau = np.trace(first) / size
    spread = (first**2).sum() / size / tau**2 - 1
    parts = [part_of(each, 1e-9) for each in (first + second, first, second)]
    alignment = None
    if down.shape[1]:
        alignment = Alignment(
            value=float(np.trace(down.T @ first @ down) / down.shape[1] / tau),
            standard_error=0.0,
            free_deviation=deviation_over_subspaces(spread, size, down.shape[1]),
            num_directions=down.shape[1],
            limit=limit,
        )
    return GaussNewtonSplit(
        hessian=parts[0],
        gauss_newton=parts[1],
        residual=parts[2],
        alignment=alignment,
        loss=math.nan,
        outputs=("cross_entropy" if energy is None else "mse_loss",),
        num_outputs=round(size / ratio),
        mean_square=None if energy is None else 2 * energy,
        num_parameters=size,
        num_samples=1,
        num_probes=1,
        num_steps=size,
        num_hvps=0,
        num_gauss_newton_products=0,
    )


def drawn(
    size: int, ratio: float, energy: float, scale: float, seed: int = 0
) -> tuple[Array, Array]:
    """Wishart of mean ``scale``, and Wigner of variance ``2 energy scale^2``."""
    generator = np.random.default_rng(seed)
    tall = generator.standard_normal((size, round(size / ratio)))
    wigner = generator.standard_normal((size, size))
    wigner = (wigner + wigner.T) * math.sqrt(energy / size) * scale
    return scale * tall @ tall.T / tall.shape[1], wigner
