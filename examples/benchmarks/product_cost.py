"""What one Hessian-vector product costs, in every way that we and the peers make it.

Run it from the repository: ``python -m examples.benchmarks.product_cost --threads 2``. Costs are
per vector, in gradients: one forward and backward pass of plain float32 torch over the same
samples. Each is the median of ratios to the gradient timed just before it, all ways in turn, so
that a machine that slows down slows all; the ratios are what carries over to other machines.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from examples.benchmarks import settings, with_curvlinops, with_eigenthings, with_pyhessian
from examples.benchmarks.contenders import load, missing
from examples.benchmarks.lanczos import rademacher
from examples.benchmarks.ours import training_loss
from examples.benchmarks.plain import PlainLoss
from examples.benchmarks.timing import seconds
from examples.benchmarks.workloads import BUILDERS, Workload, build

Multiply = Callable[[Tensor], object]
Way = tuple[str, int, Multiply]
"""Name, number of vectors in a block, and the product with ``(n, b)``."""


@contextmanager
def our_ways(workload: Workload, block: int) -> Iterator[list[Way]]:
    """Each of ``settings.PRODUCTS``, with one vector and with blocks."""
    ways: list[Way] = []
    with ExitStack() as stack:
        for name, how in settings.PRODUCTS.items():
            for width in (1, 2, block):

                def multiply(vectors: Tensor, name: str = name) -> Tensor:
                    # a sandbox of its own: precisions do not mix
                    with training_loss(workload, settings.PRODUCTS[name]) as loss:
                        return loss.hessian_products(vectors)

                del how
                ways.append((f"ours, {name}, block of {width}", width, multiply))
        yield ways
