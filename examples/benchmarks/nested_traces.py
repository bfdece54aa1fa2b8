"""Hutch++ and XTrace for every budget at the price of the largest.

The first ``k`` columns of a sketch's QR factor span the first ``k`` columns of the sketch, so that
products with all columns serve every smaller sketch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from examples.benchmarks.lanczos import rademacher
from examples.benchmarks.plain import PlainLoss


def hutch_plus_plus(loss: PlainLoss, widest: int, generator: torch.Generator) -> list[float]:
    """Estimates with sketches of 1 to ``widest`` columns and as many probes; three products each.

    References:
        Meyer, Musco, Musco, Woodruff (2021), algorithm 1.
    """
    columns = torch.linalg.qr(_times(loss, _signs(loss, widest, generator)))[0]
    images = _times(loss, columns)
    probes = _signs(loss, widest, generator)
    inside, along, images_of_probes = columns.T @ images, columns.T @ probes, _times(loss, probes)
    estimates = []
    for k in range(1, widest + 1):
        kept = along[:k, :k]
        projected = probes[:, :k] - columns[:, :k] @ kept
        image = images_of_probes[:, :k] - images[:, :k] @ kept
        rest = (projected.double() * image.double()).sum() / k
        estimates.append(float(inside.diagonal()[:k].double().sum() + rest))
    return estimates


def xtrace(loss: PlainLoss, widest: int, generator: torch.Generator) -> list[float]:
    """Estimates with 2 to ``widest`` test vectors, two products each.

    References:
        Epperly, Tropp, Webber (2024), section 2.1.
    """
    tests = _signs(loss, widest, generator)
    sketch = _times(loss, tests)
    columns, triangle = torch.linalg.qr(sketch)
    images = _times(loss, columns)
    # all in the coordinates of the columns, in float64
    tests_in = (columns.T @ tests).double()
    sketch_in = (columns.T @ sketch).double()
    inside = (columns.T @ images).double()
    tests_on_images = (tests.T @ images).double()
    tests_on_sketch = (tests.T @ sketch).double()
    estimates = []
    for k in range(2, widest + 1):
        left_out = torch.linalg.inv(triangle[:k, :k].double().T)
        left_out = left_out / left_out.norm(dim=0)
        h, total = inside[:k, :k], 0.0
        for i in range(k):
            s, w = left_out[:, i], tests_in[:k, i]
            w = w - (s @ w) * s
            low = float(h.diagonal().sum() - s @ h @ s)
            # w^T (I - Q_i Q_i^T) A (I - Q_i Q_i^T) w, from products with A that are known
            rest = tests_on_sketch[i, i] - tests_on_images[i, :k] @ w
            rest = rest - w @ (sketch_in[:k, i] - h @ w)
            total += low + float(rest)
        estimates.append(total / k)
    return estimates


def _signs(loss: PlainLoss, count: int, generator: torch.Generator) -> Tensor:
    return torch.stack([rademacher(loss.size, generator, loss.dtype) for _ in range(count)], dim=1)


def _times(loss: PlainLoss, block: Tensor) -> Tensor:
    return torch.stack([loss.product(column.contiguous()) for column in block.T], dim=1)
