"""The loss on a plane through the weights, and how much one sample moves it there."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_hessian.errors import NonFiniteError
from lightning_hessian.loss import Conductor, TrainingLoss
from lightning_hessian.records import LossSurface, SampleMethod
from lightning_hessian.sample_losses import AS_IT_IS, Filling, sample_losses_at
from lightning_hessian.studies.directions import check_orthonormal
from lightning_hessian.studies.neighbourhood import check_losses


def loss_surface(
    loss: TrainingLoss | Conductor,
    losses: Tensor,
    u: Tensor,
    v: Tensor,
    *,
    span: float,
    num_points: int = 21,
    method: SampleMethod,
    directions: str,
    filling: Filling = AS_IT_IS,
) -> LossSurface:
    """Compute the losses of all samples on the grid ``w + x u + y v``, ``|x|, |y| <= span``.

    Of the losses at each point it keeps their mean ``L_N``; the difference that the last sample in
    the given order makes, ``L_N - L_{N-1} = (l_N - L_{N-1}) / N``; and the root mean square of this
    over all orders, ``S / sqrt((N - 1) N)``. Where a loss is not finite, all three are ``nan``.

    Costs ``num_points^2 - 1`` passes over the samples, without derivatives: at the centre the
    losses given are taken.

    Args:
        loss: At the present parameters ``w``.
        losses: ``(N,)`` of the samples at ``w``, in the order given.
        u: ``(n,)`` unit vector.
        v: ``(n,)`` unit vector, orthogonal to ``u``.
        span: Largest distance along each direction, in parameter units.
        num_points: Along each direction; odd, so that the weights themselves are a point.
        method: How the losses of single samples are computed.
        directions: What ``u`` and ``v`` are, in words.
        filling: How one sample becomes a batch of a size that the step takes.

    Returns:
        The surfaces.

    Raises:
        ValueError: If an argument is out of its range.
        NonFiniteError: If a loss is not finite at ``w`` itself.

    Example:
        >>> from lightning_hessian.hvp import open_loss
        >>> from lightning_hessian.sample_losses import sample_losses
        >>> generator = torch.Generator().manual_seed(0)
        >>> samples = list(torch.randn(60, 1, 2, generator=generator) * torch.tensor([3.0, 1.0]))
        >>> network = torch.nn.Linear(2, 1, bias=False)
        >>> _ = torch.nn.init.zeros_(network.weight)
        >>> with open_loss(network, lambda x, _: network(x).square().mean(), samples) as loss:
        ...     losses = sample_losses(loss)
        ...     surface = loss_surface(
        ...         loss,
        ...         losses.values,
        ...         torch.tensor([1.0, 0.0]),
        ...         torch.tensor([0.0, 1.0]),
        ...         span=1.0,
        ...         num_points=3,
        ...         method=losses.method,
        ...         directions="the two weights",
        ...     )
        >>> bool(surface.loss[1, 1] == surface.loss.min())
        True
    """
    check_losses(losses)
    if not 0 < span < math.inf:
        raise ValueError(
            f"`span` must be positive and finite, got {span:g}. The norm of the parameters is a "
            "length to compare with."
        )
    if num_points < 3 or num_points % 2 == 0:
        raise ValueError(
            f"`num_points` must be odd and at least 3, got {num_points}: the point in the middle "
            "is the weights themselves."
        )
    plane = torch.stack([u, v], dim=1)
    check_orthonormal(plane, loss.size, "the plane's `u` and `v`")
    plane = plane.to(loss.device, loss.dtype)
    steps = torch.arange(-(num_points // 2), num_points // 2 + 1, dtype=torch.float64)
    positions = span * steps / (num_points // 2)
    heights = torch.empty(3, num_points, num_points, dtype=torch.float64)
    for row, y in enumerate(positions):
        for column, x in enumerate(positions):
            is_centre = not x and not y
            displacement = plane @ torch.stack([x, y]).to(plane)
            there = losses if is_centre else _losses_at(loss, displacement, method, filling)
            heights[:, row, column] = _heights(there.double().cpu())
    return LossSurface(
        x=positions,
        y=positions.clone(),
        loss=heights[0],
        difference=heights[1],
        rms_difference=heights[2],
        sample_size=len(losses) - 1,
        directions=directions,
    )


def parameter_norm(loss: TrainingLoss | Conductor) -> float:
    """Euclidean norm of the selected parameters: a length to compare a span with.

    Args:
        loss: At the present parameters.

    Returns:
        It, in parameter units.
    """
    return loss.parameters.norm()


def _losses_at(
    loss: TrainingLoss | Conductor, displacement: Tensor, method: SampleMethod, filling: Filling
) -> Tensor:
    """Of the samples; ``nan`` where there are none, which leaves a hole in the surface."""
    try:
        return sample_losses_at(loss, displacement, method=method, filling=filling)
    except NonFiniteError:
        return torch.full((2,), torch.nan)


def _heights(losses: Tensor) -> Tensor:
    """Mean loss, difference made by the last sample, and its root mean square over orders."""
    count = len(losses)
    if not bool(losses.isfinite().all()):
        return torch.full((3,), torch.nan, dtype=torch.float64)
    difference = (losses[-1] - losses[:-1].mean()) / count
    rms = losses.std() / math.sqrt(count * (count - 1))
    return torch.stack([losses.mean(), difference, rms])
