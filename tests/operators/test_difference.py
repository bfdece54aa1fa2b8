"""One sample's Hessian less the others', against dense matrices."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lightning_hessian.hvp import SampleDifferenceOperator
from lightning_hessian.loss import TrainingLoss
from tests.helpers.networks import ask
from tests.helpers.quadratics import Quadratics

SIZE, COUNT = 5, 11
SAMPLES = Quadratics.random(COUNT, SIZE)
WEIGHTS = torch.linspace(-1, 1, SIZE).double()


def test_products_are_those_with_one_hessian_less_the_mean_of_all_others() -> None:
    module, data = SAMPLES.module_and_data(WEIGHTS)

    def question(loss: TrainingLoss) -> list[tuple[Tensor, Tensor]]:
        hessians = torch.cat([batch.data[2] for batch in loss.sample.batches])
        answers = []
        for sample in range(COUNT):
            operator = SampleDifferenceOperator(loss, sample)
            assert (operator.size, operator.dtype) == (SIZE, torch.float64)
            others = torch.cat([hessians[:sample], hessians[sample + 1 :]])
            dense = hessians[sample] - others.mean(dim=0)
            answers.append((operator.matmat(torch.eye(SIZE, dtype=torch.float64)), dense))
        return answers

    # 11 samples by 4: batches of unequal size
    for found, dense in ask(module, data, question, batch_size=4):
        assert torch.allclose(found, dense, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("sample", [-1, COUNT])
def test_refuses_a_sample_that_is_not_there(sample: int) -> None:
    module, data = SAMPLES.module_and_data(WEIGHTS)
    with pytest.raises(ValueError, match=f"`sample` must be .* from 0 to 10 .*, got {sample}"):
        ask(module, data, lambda loss: SampleDifferenceOperator(loss, sample))


def test_refuses_a_sample_without_others() -> None:
    module, data = Quadratics.random(1, SIZE).module_and_data(WEIGHTS)
    with pytest.raises(ValueError, match=r"at least 2 samples, got 1\. Raise `num_samples`"):
        ask(module, data, lambda loss: SampleDifferenceOperator(loss, 0))


def test_refuses_a_vector_that_is_no_block() -> None:
    module, data = SAMPLES.module_and_data(WEIGHTS)
    with pytest.raises(ValueError, match=r"`vectors` must have shape \(5, b\), got \(5,\)"):
        ask(module, data, lambda loss: SampleDifferenceOperator(loss, 0).matmat(torch.ones(SIZE)))
