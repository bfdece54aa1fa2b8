"""Hutch++ and XTrace for every budget at the price of the largest.

The first ``k`` columns of a sketch's QR factor span the first ``k`` columns of the sketch, so that
products with all columns serve every smaller sketch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from examples.benchmarks.lanczos import rademacher
from examples.benchmarks.plain import PlainLoss


@dataclass(frozen=True, slots=True, eq=False)
class Sketch:
    """``A S`` of signs ``S``, its QR factors, and ``A Q``; two products for each column.

    Attributes:
        tests: ``S``.
        sketch: ``A S``.
        columns: ``Q``.
        triangle: ``R``.
        images: ``A Q``.
    """

    tests: Tensor
    sketch: Tensor
    columns: Tensor
    triangle: Tensor
    images: Tensor

    @classmethod
    def of(cls, loss: PlainLoss, widest: int, generator: torch.Generator) -> Sketch:
        """Both estimators can share it: each is judged by itself."""
        tests = _signs(loss, widest, generator)
        sketch = _times(loss, tests)
        columns, triangle = torch.linalg.qr(sketch)
        return cls(tests, sketch, columns, triangle, _times(loss, columns))


def hutch_plus_plus(loss: PlainLoss, sketch: Sketch, generator: torch.Generator) -> list[float]:
    """Estimates with sketches of one column up to all and as many probes; three products each.

    References:
        Meyer, Musco, Musco, Woodruff (2021), algorithm 1.
    """
    columns, images = sketch.columns, sketch.images
    widest = columns.shape[1]
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


def xtrace(whole: Sketch) -> list[float]:
    """Estimates with two test vectors up to all, two products each.

    References:
        Epperly, Tropp, Webber (2024), section 2.1.
    """
    tests, sketch, columns, images = whole.tests, whole.sketch, whole.columns, whole.images
    # all in the coordinates of the columns, in float64
    tests_in = (columns.T @ tests).double()
    sketch_in = (columns.T @ sketch).double()
    inside = (columns.T @ images).double()
    tests_on_images = (tests.T @ images).double()
    tests_on_sketch = (tests.T @ sketch).double()
    estimates = []
    for k in range(2, tests.shape[1] + 1):
        left_out = torch.linalg.inv(whole.triangle[:k, :k].double().T)
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
