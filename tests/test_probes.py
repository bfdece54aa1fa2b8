"""Rademacher probes: signs, independent, reproducible, from the given generator alone."""

from __future__ import annotations

import pytest
import torch

from lightning_hessian.linalg import rademacher


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_probes_are_signs_of_norm_square_root_of_the_size(dtype: torch.dtype) -> None:
    probes = rademacher(1000, 3, generator=torch.Generator().manual_seed(0), dtype=dtype)
    assert probes.shape == (1000, 3)
    assert probes.dtype == dtype
    assert bool((probes.abs() == 1).all())
    assert torch.equal(probes.square().sum(dim=0), torch.full((3,), 1000, dtype=dtype))


def test_signs_are_fair_and_uncorrelated() -> None:
    probes = rademacher(100_000, 4, generator=torch.Generator().manual_seed(1)).double()
    # means and correlations of n fair signs have the deviation 1 / sqrt(n)
    assert float(probes.mean(dim=0).abs().max()) < 4 / 100_000**0.5
    correlations = probes.T @ probes / 100_000 - torch.eye(4)
    assert float(correlations.abs().max()) < 4.5 / 100_000**0.5
    neighbours = (probes[1:] * probes[:-1]).mean(dim=0)
    assert float(neighbours.abs().max()) < 4 / 100_000**0.5


def test_seed_gives_the_same_probes_in_every_type() -> None:
    first, second = (
        rademacher(50, 2, generator=torch.Generator().manual_seed(2), dtype=dtype)
        for dtype in (torch.float32, torch.float64)
    )
    assert torch.equal(first.double(), second)


def test_generator_moves_on_and_the_global_one_does_not() -> None:
    generator = torch.Generator().manual_seed(3)
    before = torch.get_rng_state()
    first, second = (rademacher(50, 2, generator=generator) for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)


def test_columns_are_contiguous() -> None:
    probes = rademacher(50, 2, generator=torch.Generator().manual_seed(4))
    assert probes[:, 1].is_contiguous()
