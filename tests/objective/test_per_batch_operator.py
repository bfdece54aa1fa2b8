"""Products with the scatter of single batches, against softmax regression in closed form."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_hessian.data import shuffled
from lightning_hessian.errors import RefusedError
from lightning_hessian.hvp import PerBatchOperator, per_batch_products
from lightning_hessian.loss import TrainingLoss
from tests.helpers.fitting import classification_data
from tests.helpers.sample_losses import at_start
from tests.objective.test_per_batch import (
    SIZE,
    VECTORS,
    assert_close,
    cross_entropy,
    in_closed_form,
    linear,
)


@pytest.mark.parametrize("batch_size", [8, 1, 26])
def test_each_batch_and_the_mean_of_all_are_seen_in_one_pass(batch_size: int) -> None:
    hessians = in_closed_form()[2]
    products, table = at_start(
        linear(),
        lambda loss: per_batch_products(loss, VECTORS),
        batch_size=batch_size,
        precision=64,
    )
    own = torch.stack([part.mean(0) for part in hessians.split(batch_size)])
    along = table.along
    assert along.sizes.tolist() == [len(part) for part in hessians.split(batch_size)]
    assert_close(products, hessians.mean(0) @ VECTORS)
    assert_close(table.forms, VECTORS.T @ own @ VECTORS)
    assert_close(along.forms, (VECTORS.T @ own @ VECTORS).diagonal(dim1=1, dim2=2))
    squares = (own @ VECTORS).square().sum(1)
    assert_close(along.distances, squares - products.square().sum(0))
    off = ((own - hessians.mean(0)) @ VECTORS).square().sum(1)
    assert_close(along.deviations.sum(0), along.sizes @ off)


@pytest.mark.parametrize("precision", [32, 64])
def test_the_operator_gives_the_bits_of_the_plain_one_and_remembers(precision: Any) -> None:
    def both(loss: TrainingLoss) -> list[Any]:
        blocks = [VECTORS.to(loss.dtype), VECTORS[:, :1].to(loss.dtype)]
        operator, plain = PerBatchOperator(loss), loss.products
        assert operator.take() is None
        same = [operator.matmat(b).equal(plain.matmat(b)) for b in blocks]
        kept = operator.take()
        assert operator.take() is None
        return [same, kept, per_batch_products(loss, blocks[0])[1].along]

    same, kept, first = at_start(linear(), both, precision=precision)
    assert same == [True, True]
    assert kept.num_vectors == 4
    assert_close(kept.forms, first.forms[:, [0, 1, 2, 0]])
    assert_close(kept.distances, first.distances[:, [0, 1, 2, 0]])


def test_a_block_of_a_wrong_shape_is_refused() -> None:
    def ask(loss: TrainingLoss) -> None:
        PerBatchOperator(loss).matmat(VECTORS[:3])

    with pytest.raises(ValueError, match=rf"`vectors` must have shape \({SIZE}, b\), got \(3, 3\)"):
        at_start(linear(), ask, precision=64)


def test_batches_that_training_skips_do_not_count_and_flat_ones_do() -> None:
    def step(m: Any, batch: Any) -> Tensor | None:
        if len(batch[0]) == 2:
            return None
        is_first = float(batch[0][0, 0]) == first
        return m.network.weight.sum() if is_first else cross_entropy(m, batch)

    first = float(classification_data().tensors[0][shuffled(range(26), 0)[0], 0].double())
    products, table = at_start(
        linear(step), lambda loss: per_batch_products(loss, VECTORS), precision=64
    )
    own = torch.stack([part.mean(0) for part in in_closed_form()[2][:24].split(8)])
    own[0] = 0
    assert table.along.sizes.tolist() == [8, 8, 8]
    assert_close(table.forms, VECTORS.T @ own @ VECTORS)
    assert_close(products, own.mean(0) @ VECTORS)


def test_weights_of_the_user_are_shares_of_the_samples() -> None:
    def weigh(batch: Any) -> float:
        return 3.0 if len(batch[0]) == 2 else 1.0

    products, table = at_start(
        linear(), lambda loss: per_batch_products(loss, VECTORS), precision=64, weight_fn=weigh
    )
    sizes = table.along.sizes
    assert_close(sizes / sizes.sum(), torch.tensor([1, 1, 1, 3]).double() / 6)
    assert_close(torch.tensordot(sizes / sizes.sum(), table.forms, 1), VECTORS.T @ products)


def test_differences_of_gradients_are_refused() -> None:
    with pytest.raises(RefusedError, match="needs exact products"):
        at_start(
            linear(),
            lambda loss: per_batch_products(loss, VECTORS),
            products="finite_difference",
            derivatives="required",
        )
