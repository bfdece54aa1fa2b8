"""What a ``training_step`` may take and return, and what is made of it."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_hessian.errors import RefusedError
from tests.helpers import hard_modules as hard
from tests.helpers.fitting import Classifier, classification_data, loader, trainer

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*`dataloader_iter` step flavor.*"),
    pytest.mark.filterwarnings("ignore:Found `dataloader_iter` argument"),
]


def cross_entropy(module: Classifier, batch: Any) -> Tensor:
    inputs, targets = batch
    return F.cross_entropy(module.network(inputs), targets)


class ReturnsDict(Classifier):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return {"loss": cross_entropy(self, batch), "inputs": batch[0]}


class ReturnsOneElement(Classifier):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return cross_entropy(self, batch).reshape(1)


class TakesNoIndex(Classifier):
    def training_step(self, batch: Any) -> Any:  # type: ignore[override]
        return cross_entropy(self, batch)


class AsksWhereItIs(Classifier):
    """Takes another loss where it is not in its training step, or not in training."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        return (
            loss if self._current_fx_name == "training_step" and self.trainer.training else 2 * loss
        )


class LogsEverywhere(Classifier):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = cross_entropy(self, batch)
        self.log_dict({"a": loss, "b": loss}, on_step=True, on_epoch=True, prog_bar=True)
        self.print("not a word")
        return loss


class EditsItsBatch(Classifier):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        inputs, targets = batch
        loss = F.cross_entropy(self.network(inputs.clone()), targets)
        inputs.add_(100.0)
        batch.clear()
        return loss


class Manual(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        self.manual_backward(cross_entropy(self, batch))
        self.optimizers().step()

    def hessian_loss(self, batch: Any, batch_idx: int) -> Tensor:
        return cross_entropy(self, batch)


class TakesIterator(Classifier):
    def training_step(self, dataloader_iter: Any) -> Any:  # type: ignore[override]
        batch, batch_idx, dataloader_idx = next(dataloader_iter)
        assert type(batch_idx) is int
        assert dataloader_idx == 0
        return cross_entropy(self, batch)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        raise AssertionError("whoever takes the iterator moves the batches, too")


class OwnLossWithoutIndex(Classifier):
    def training_step(self, dataloader_iter: Any) -> Any:  # type: ignore[override]
        batch, _, _ = next(dataloader_iter)
        return cross_entropy(self, batch)

    def hessian_loss(self, batch: Any) -> dict[str, Tensor]:
        return {"loss": cross_entropy(self, batch)}


@pytest.mark.sampled
@pytest.mark.parametrize(
    "kind",
    [
        ReturnsDict,
        ReturnsOneElement,
        AsksWhereItIs,
        TakesNoIndex,
        LogsEverywhere,
        EditsItsBatch,
        Manual,
        TakesIterator,
        OwnLossWithoutIndex,
    ],
)
def test_the_same_loss_said_in_another_way_has_the_same_hessian(kind: type[Classifier]) -> None:
    torch.manual_seed(3)
    plain = Classifier()
    torch.manual_seed(3)
    module = kind()
    wanted = hard.measure(plain)
    measured = hard.measure(module)
    assert measured.matrix[:, :4].equal(measured.again)
    if kind is Manual:  # in the training's batches: the sums are of other parts
        torch.testing.assert_close(measured.matrix, wanted.matrix, rtol=1e-4, atol=1e-6)
        assert measured.loss == pytest.approx(wanted.loss, rel=1e-6)
    else:
        assert measured.matrix.equal(wanted.matrix)
        assert measured.loss == wanted.loss


class SkipsSmallBatches(Classifier):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return cross_entropy(self, batch) if len(batch[0]) == 8 else None


def test_batches_that_training_skips_have_no_weight() -> None:
    data = classification_data(19)
    module = hard.seeded(lambda: hard.mlp())
    skipping = SkipsSmallBatches(hard.seeded(lambda: hard.mlp()).network)
    measured = hard.measure(skipping, data, batch_size=8, precision=64)
    full = [batch for batch in measured.batches if batch.weight == 8]
    assert len(full) == 2
    assert len(measured.batches) == 3
    wanted = hard.hessian_by_differences(module, [batch.data for batch in full])
    assert hard.off_by(measured.matrix, wanted) < 1e-8


class IgnoresTheNetworkAtTimes(Classifier):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = cross_entropy(self, batch)
        return loss if batch_idx == 0 else torch.tensor(1.0)


def test_a_batch_whose_loss_is_constant_counts_with_curvature_zero() -> None:
    class Training(IgnoresTheNetworkAtTimes):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = super().training_step(batch, batch_idx)
            return loss if loss.requires_grad else loss + 0 * self.network[0].bias.sum()

    halves = hard.measure(Training(hard.seeded(lambda: hard.mlp()).network), batch_size=13)
    wanted = hard.hessian_by_differences(hard.seeded(lambda: hard.mlp()), [halves.batches[0].data])
    assert hard.off_by(2 * halves.matrix, wanted) < 3e-5
    first, second = halves.batches
    assert first.weight == second.weight == 13
    bare = hard.DenseHessian()
    module = IgnoresTheNetworkAtTimes(hard.seeded(lambda: hard.mlp()).network)
    fit = trainer(bare, max_steps=2)
    with pytest.raises(RuntimeError, match="does not require grad"):  # of Lightning's own step
        fit.fit(module, loader(batch_size=13))
    assert bare.matrix.equal(halves.matrix)


class LinearLoss(Classifier):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return sum((p.sum() for p in self.parameters()), torch.zeros(()))


class PartlyLinearLoss(Classifier):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.network[0].weight.sum() + 0.5 * self.network[2].bias.square().sum()


def test_a_linear_loss_has_hessian_zero_and_a_gradient() -> None:
    measured = hard.measure(LinearLoss())
    assert measured.matrix.eq(0).all()
    assert measured.gradient.eq(1).all()
    assert measured.unused == ()


def test_a_loss_linear_in_some_and_independent_of_other_parameters() -> None:
    measured = hard.measure(PartlyLinearLoss())
    wanted = torch.zeros(51, 51)
    wanted[48:, 48:] = torch.eye(3)
    assert measured.matrix.equal(wanted)
    assert measured.unused == ("network.0.bias", "network.2.weight")
    assert measured.notes == ()


def test_transfer_hooks_are_part_of_the_loss() -> None:
    class Hooked(Classifier):
        def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            return [batch[0] * 2, batch[1]]

        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            return [batch[0] + 1, batch[1]]

    inputs, targets = classification_data().tensors
    module = hard.seeded(lambda: hard.mlp())
    wanted = hard.hessian_by_differences(module, [(inputs * 2 + 1, targets)])
    measured = hard.measure(Hooked(hard.seeded(lambda: hard.mlp()).network))
    assert hard.off_by(measured.matrix, wanted) < 3e-5


def test_transfer_hooks_of_a_data_module_are_part_of_the_loss() -> None:
    class Doubles(pl.LightningDataModule):
        def train_dataloader(self) -> Any:
            return loader()

        def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            return [batch[0] * 2, batch[1]]

    probe = hard.DenseHessian()
    trainer(probe, max_steps=1).fit(hard.seeded(lambda: hard.mlp()), Doubles())
    inputs, targets = classification_data().tensors
    module = hard.seeded(lambda: hard.mlp())
    wanted = hard.hessian_by_differences(module, [(inputs * 2, targets)])
    assert hard.off_by(probe.matrix, wanted) < 3e-5


class Returns(Classifier):
    """Gives back what it is told, which Lightning itself would not always take."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.output(cross_entropy(self, batch))


class TakesTwoBatches(Classifier):
    def training_step(self, dataloader_iter: Any) -> Any:  # type: ignore[override]
        losses = [cross_entropy(self, next(dataloader_iter)[0]) for _ in range(2)]
        return sum(losses)


class MovesItsOwnOptimizer(Classifier):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        torch.optim.SGD(self.network.parameters(), lr=0.1).step()
        return cross_entropy(self, batch)


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (Returns(lambda loss: {"objective": loss}), r"must hold 'loss', got the keys .'objective'"),
        (Returns(lambda loss: loss.item()), r"must return a tensor, .* got float"),
        (Returns(lambda loss: {"loss": [loss]}), r"must return a tensor, .* got list"),
        (Returns(lambda loss: loss.expand(2)), r"single number, got shape \(2,\). Reduce it"),
        (Returns(lambda loss: loss.detach()), r"does not depend on any selected .*detached"),
        (Returns(lambda loss: None), r"returned None for each of the 2 frozen batches"),
        (TakesTwoBatches(), r"draws more than one batch from its `dataloader_iter`.*hessian_loss"),
        (MovesItsOwnOptimizer(), r"moves an optimiser of its own \(SGD\).*Define `hessian_loss"),
    ],
)
def test_a_step_without_a_single_loss_is_refused(module: Classifier, reason: str) -> None:
    with pytest.raises(RefusedError, match=reason):
        hard.measure(module)
