"""Norms of the differences that single samples make, against dense eigenvalues."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lightning_hessian.loss import TrainingLoss
from lightning_hessian.records import HessianDifferences
from lightning_hessian.studies import hessian_differences
from tests.helpers.networks import ask
from tests.helpers.quadratics import Quadratics

SIZE, COUNT = 30, 20
SAMPLES = Quadratics.random(COUNT, SIZE)
WEIGHTS = torch.linspace(-1, 1, SIZE).double()


def _measured(num_samples: int, **options: float) -> tuple[HessianDifferences, Tensor]:
    """The study, and the dense norm of every sample's difference."""
    module, data = SAMPLES.module_and_data(WEIGHTS)

    def question(loss: TrainingLoss) -> tuple[HessianDifferences, Tensor]:
        hessians = torch.cat([batch.data[2] for batch in loss.sample.batches])
        differences = (hessians - hessians.mean(dim=0)) * COUNT / (COUNT - 1)
        found = hessian_differences(
            loss, num_samples=num_samples, generator=torch.Generator().manual_seed(0), **options
        )
        return found, torch.linalg.matrix_norm(differences, 2)

    return ask(module, data, question, batch_size=7)


def test_norms_are_those_of_the_dense_differences() -> None:
    found, norms = _measured(6, rtol=1e-3)
    assert len(set(found.samples.tolist())) == 6
    assert bool(found.converged.all())
    # below it, by less than the bound squared over the gap: far less than the bound
    short = norms[found.samples] - found.norms
    assert bool((short >= -1e-12 * norms.max()).all())
    assert bool((short <= found.residual_bounds).all())
    assert bool((found.residual_bounds <= 1e-3 * found.norms).all())
    assert found.num_hvps < 6 * SIZE


def test_all_samples_are_taken_where_there_are_no_more() -> None:
    found, norms = _measured(100, max_hvps=SIZE)
    assert sorted(found.samples.tolist()) == list(range(COUNT))
    assert found.norms.tolist() == pytest.approx(norms[found.samples].tolist(), rel=1e-2)


def test_budget_holds_for_each_sample_and_what_it_misses_is_marked() -> None:
    found, norms = _measured(3, max_hvps=4, rtol=1e-9)
    assert found.num_hvps == 12
    assert not bool(found.converged.any())
    assert bool((found.norms <= norms[found.samples]).all())


def test_refuses_no_sample() -> None:
    with pytest.raises(ValueError, match="`num_samples` must be at least 1, got 0"):
        _measured(0)
