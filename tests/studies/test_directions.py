"""Random directions: orthonormal, uniform, the same for the same seed."""

from __future__ import annotations

import math

import pytest
import torch

from lightning_hessian.studies import random_directions
from lightning_hessian.studies.directions import check_orthonormal


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_directions_are_orthonormal_and_repeatable(dtype: torch.dtype) -> None:
    first, second = (
        random_directions(50, 3, generator=torch.Generator().manual_seed(1), dtype=dtype)
        for _ in range(2)
    )
    assert torch.equal(first, second)
    assert first.dtype == dtype
    departure = (first.T.double() @ first.double() - torch.eye(3)).abs().max()
    assert float(departure) < 10 * torch.finfo(dtype).eps


def test_directions_are_uniform() -> None:
    generator = torch.Generator().manual_seed(0)
    draws = torch.stack([random_directions(4, 2, generator=generator) for _ in range(1000)])
    # of a uniform unit vector in R^4, E u_i = 0, Var u_i = 1/4, Var u_i^2 = 3/24 - 1/16
    assert float(draws.mean(dim=0).abs().max()) < 4 * 0.5 / math.sqrt(1000)
    spread = draws.square().mean(dim=0) - 0.25
    assert float(spread.abs().max()) < 4 * math.sqrt(1 / 16 / 1000)


@pytest.mark.parametrize("count", [0, 5])
def test_refuses_more_directions_than_dimensions(count: int) -> None:
    with pytest.raises(ValueError, match=rf"`count` must be between 1 and the 4 .*, got {count}"):
        random_directions(4, count, generator=torch.Generator())


@pytest.mark.parametrize("shape", [(4,), (3, 2), (4, 5), (4, 0)])
def test_refuses_directions_of_another_space(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"`u` must have shape \(4, d\), d from 1 to 4, got \("):
        check_orthonormal(torch.zeros(shape), 4, "`u`")


def test_refuses_directions_that_are_not_a_number() -> None:
    with pytest.raises(ValueError, match=r"must be orthonormal, got .* up to nan"):
        check_orthonormal(torch.full((4, 1), torch.nan), 4, "`u`")
