"""How much one more sample can move the Hessian, in norm: measured, not bounded."""

from __future__ import annotations

from collections.abc import Callable

import torch

from lightning_hessian.hvp import SampleDifferenceOperator
from lightning_hessian.linalg import SpectralNorm, spectral_norm
from lightning_hessian.loss import Conductor, TrainingLoss
from lightning_hessian.records import HessianDifferences
from lightning_hessian.sample_losses import AS_IT_IS, Filling


def hessian_differences(
    loss: TrainingLoss | Conductor,
    *,
    num_samples: int,
    rtol: float = 1e-2,
    max_hvps: int = 60,
    probes_per_block: int = 2,
    generator: torch.Generator,
    filling: Filling = AS_IT_IS,
    product_error: Callable[[], float] = lambda: 0.0,
) -> HessianDifferences:
    """Measure how far the Hessians of random samples are from the mean one of all other samples.

    ``||H_(k+1) - H_(k)|| = ||H_i - H_(k)|| / (k + 1)`` where sample ``i`` comes after ``k`` others,
    here all ``N - 1``. The norm is the larger of both ends of the spectrum of the difference, found
    by a Krylov sweep for each sample.

    Costs at most ``max_hvps`` HVPs over all samples for each of the ``num_samples``.

    Args:
        loss: Over the frozen samples.
        num_samples: How many to draw without replacement; all, where there are not so many.
        rtol: Tolerance of the residual bound, relative to the norm.
        max_hvps: Bound on the products for each sample.
        probes_per_block: Probes in a block.
        generator: Source of the draw and of the probes, on the CPU.
        filling: How one sample becomes a batch of a size that the step takes.
        product_error: Norm of what the products are off by; part of every bound.

    Returns:
        The norms.

    Raises:
        ValueError: If no sample is asked for, or ``max_hvps`` leaves no room for a block.

    Example:
        >>> from lightning_hessian.hvp import open_loss
        >>> generator = torch.Generator().manual_seed(0)
        >>> samples = list(torch.randn(60, 1, 2, generator=generator) * torch.tensor([3.0, 1.0]))
        >>> network = torch.nn.Linear(2, 1, bias=False)
        >>> with open_loss(network, lambda x, _: network(x).square().mean(), samples) as loss:
        ...     found = hessian_differences(loss, num_samples=3, generator=generator)
        >>> found.norms.shape, bool(found.converged.all())
        (torch.Size([3]), True)
    """
    if num_samples < 1:
        raise ValueError(
            f"`num_samples` must be at least 1, got {num_samples}. Some 8 show how samples differ."
        )
    order = torch.randperm(loss.sample.num_samples, generator=generator)
    samples = order[:num_samples]
    found: list[SpectralNorm] = [
        spectral_norm(
            SampleDifferenceOperator(loss, sample, filling),
            rtol=rtol,
            max_hvps=max_hvps,
            probes_per_block=probes_per_block,
            generator=generator,
            product_error=product_error,
        )
        for sample in samples.tolist()
    ]
    return HessianDifferences(
        samples=samples,
        norms=torch.tensor([norm.value for norm in found], dtype=torch.float64),
        residual_bounds=torch.tensor([norm.residual_bound for norm in found], dtype=torch.float64),
        converged=torch.tensor([norm.converged for norm in found]),
        num_hvps=sum(norm.num_hvps for norm in found),
    )
