"""Derivatives of single batches and samples against those of softmax regression in closed form."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_hessian.data import shuffled
from lightning_hessian.errors import NonFiniteError, RefusedError
from lightning_hessian.hvp import PerBatch, per_batch_around, sample_products
from lightning_hessian.loss import TrainingLoss
from lightning_hessian.sample_losses import sample_losses_at
from tests.helpers.fitting import classification_data
from tests.helpers.hard_modules import seeded
from tests.helpers.sample_losses import ByHand, at_start, by_hand, loop

SIZE = 15
VECTORS = torch.randn(SIZE, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def cross_entropy(m: Any, batch: Any) -> Tensor:
    return F.cross_entropy(m.network(batch[0]), batch[1])


def linear(step: Any = cross_entropy) -> ByHand:
    return by_hand(step, seeded(lambda: nn.Linear(4, 3)).network)


def in_closed_form() -> tuple[Tensor, Tensor, Tensor]:
    """Losses ``(N,)``, gradients ``(N, n)`` and Hessians ``(N, n, n)`` in the frozen order."""
    network = linear().network.double()
    inputs, targets = (t[shuffled(range(26), 0)] for t in classification_data().tensors)
    with torch.no_grad():
        logs = network(inputs.double()).log_softmax(-1)
    p = logs.exp()
    eye = torch.eye(3, dtype=torch.float64)
    # of logits by weights and biases
    slopes = torch.einsum("kl,nd->nkld", eye, inputs.double()).reshape(26, 3, 12)
    slopes = torch.cat([slopes, eye.expand(26, 3, 3)], dim=2)
    gradients = torch.einsum("nkp,nk->np", slopes, p - F.one_hot(targets, 3))
    curvature = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    losses = -logs.gather(1, targets[:, None])[:, 0]
    return losses, gradients, slopes.mT @ curvature @ slopes


def assert_close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("batch_size", [8, 1, 26])
def test_each_batch_is_set_beside_all(batch_size: int) -> None:
    losses, gradients, hessians = in_closed_form()
    gradient, products = gradients.mean(0), hessians.mean(0) @ VECTORS

    def table(loss: TrainingLoss) -> PerBatch:
        return per_batch_around(loss, gradient, VECTORS, products)

    found: PerBatch = at_start(linear(), table, batch_size=batch_size, precision=64)
    sizes = [len(part) for part in losses.split(batch_size)]
    assert found.num_samples.tolist() == sizes
    assert found.gradients is not None
    assert_close(
        found.gradients.losses, torch.stack([part.mean() for part in losses.split(batch_size)])
    )
    own = torch.stack([part.mean(0) for part in gradients.split(batch_size)])
    moved = torch.stack([part.mean(0) for part in hessians.split(batch_size)]) @ VECTORS
    assert_close(found.gradients.distances, (own - gradient).square().sum(1))
    assert_close(found.gradients.projections, own @ VECTORS)
    assert_close(found.along.distances, (moved - products).square().sum(1))
    assert_close(found.forms, VECTORS.T @ moved)


def test_without_vectors_only_gradients_are_taken() -> None:
    _, gradients, _ = in_closed_form()
    none = VECTORS[:, :0]

    def table(loss: TrainingLoss) -> PerBatch:
        return per_batch_around(loss, gradients.mean(0), none, none)

    # differences of gradients are no hindrance then
    for hvp in ("exact", "finite_difference"):
        found = at_start(linear(), table, precision=64, products=hvp, derivatives="required")
        own = torch.stack([part.mean(0) for part in gradients.split(8)])
        assert_close(found.gradients.distances, (own - gradients.mean(0)).square().sum(1))
        assert found.forms.shape == (4, 0, 0)
        assert found.gradients.projections.shape == (4, 0)


@pytest.mark.parametrize("batch_size", [8, 1])
def test_products_of_one_sample_are_those_of_its_hessian(batch_size: int) -> None:
    _, _, hessians = in_closed_form()

    def products(loss: TrainingLoss) -> list[Tensor]:
        return [sample_products(loss, sample, VECTORS) for sample in range(26)]

    found = torch.stack(at_start(linear(), products, batch_size=batch_size, precision=64))
    assert_close(found, hessians @ VECTORS)
    assert found.dtype == torch.float64
    single = at_start(linear(), lambda loss: sample_products(loss, 3, VECTORS.float()))
    assert single.dtype == torch.float32
    assert single.T.is_contiguous()


def test_batches_that_training_skips_have_no_row() -> None:
    def step(m: Any, batch: Any) -> Tensor | None:
        return None if len(batch[0]) == 2 else cross_entropy(m, batch)

    losses, gradients, _ = in_closed_form()
    none = VECTORS[:, :0]
    found = at_start(
        linear(step),
        lambda loss: per_batch_around(loss, gradients.mean(0), none, none),
        precision=64,
    )
    assert found.num_samples.tolist() == [8, 8, 8]
    assert_close(found.gradients.losses, losses[:24].view(3, 8).mean(1))


@pytest.mark.parametrize(
    "compute",
    [
        lambda loss: per_batch_around(loss, VECTORS[:, 0], VECTORS, VECTORS),
        lambda loss: sample_products(loss, 0, VECTORS),
    ],
)
def test_differences_of_gradients_are_refused(compute: Any) -> None:
    text = "how Hessians differ between samples needs exact products, but those of this loss are"
    with pytest.raises(RefusedError, match=text):
        at_start(linear(), compute, products="finite_difference", derivatives="required")


@pytest.mark.parametrize("method", ["batched", "one by one"])
@pytest.mark.parametrize(("precision", "allowed"), [(32, 1e-6), (64, 1e-12)])
def test_losses_at_a_displacement_are_those_there(
    method: Any, precision: Any, allowed: float
) -> None:
    displacement = VECTORS[:, 0]

    def losses(loss: TrainingLoss) -> Tensor:
        before = [t.detach().clone() for t in loss.parameters.tensors]
        found = sample_losses_at(loss, displacement.to(loss.dtype), method=method)
        for now, then in zip(loss.parameters.tensors, before, strict=True):
            assert now.detach().equal(then)
        return found

    found = at_start(linear(), losses, precision=precision)
    moved = linear().double()
    with torch.no_grad():
        flat = nn.utils.parameters_to_vector(moved.parameters())
        nn.utils.vector_to_parameters(flat + displacement, moved.parameters())
    wanted = loop(moved)[shuffled(range(26), 0)]
    torch.testing.assert_close(found, wanted, rtol=0, atol=allowed * float(wanted.mean()))


def at(displacement: Tensor, step: Any) -> Tensor:
    found: Tensor = at_start(
        linear(step), lambda loss: sample_losses_at(loss, displacement, method="batched")
    )
    return found


def test_losses_that_end_at_a_displacement_are_an_error() -> None:
    def step(m: Any, batch: Any) -> Tensor:
        return cross_entropy(m, batch) + (m.network.weight[0, 0] < 50) * 0.0 / (
            (m.network.weight[0, 0] < 50) * 1.0
        )

    far = torch.zeros(SIZE)
    far[0] = 100
    with pytest.raises(NonFiniteError, match="must be finite"):
        at(far, step)


def test_a_step_that_goes_another_way_at_a_displacement_is_refused() -> None:
    def step(m: Any, batch: Any) -> Tensor:
        losses = F.cross_entropy(m.network(batch[0]), batch[1], reduction="none")
        is_far = float(m.network.weight.detach()[0, 0]) > 50
        return losses @ torch.ones_like(losses) / len(losses) if is_far else losses.mean()

    far = torch.zeros(SIZE)
    far[0] = 100
    text = "another way at perturbed parameters, .* Give `batch_size=1`"
    with pytest.raises(RefusedError, match=text):
        at(far, step)
