"""The arithmetic and the mode: what is computed in, with which masks and which statistics."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.helpers import hard_modules as hard
from tests.helpers.fitting import Classifier, classification_data, loader, trainer

IN_DOUBLE = {"precision": "64-true"}


def make() -> Classifier:
    return hard.seeded(lambda: hard.mlp())


def test_mixed_precision_is_switched_off_inside() -> None:
    plain = hard.measure(make())
    mixed = hard.measure(make(), fit={"precision": "bf16-mixed"})
    assert mixed.matrix.equal(plain.matrix)


def test_a_bfloat16_module_is_measured_in_float32_at_its_own_weights() -> None:
    measured = hard.measure(make(), fit={"precision": "bf16-true"})
    # rounded as Lightning rounds parameters and inputs
    inputs, targets = classification_data().tensors
    wanted = hard.hessian_by_differences(make().bfloat16(), [(inputs.bfloat16(), targets)])
    assert measured.matrix.dtype == torch.float32
    assert hard.off_by(measured.matrix, wanted) < 3e-5


def test_a_float64_module_is_measured_in_float64() -> None:
    measured = hard.measure(make(), fit={"precision": "64-true"})
    assert measured.matrix.dtype == torch.float64
    assert hard.off_by(measured.matrix, hard.hessian_by_differences(make())) < 1e-8


def test_a_float64_module_is_measured_in_float32_on_request() -> None:
    measured = hard.measure(make(), precision=32, fit={"precision": "64-true"})
    assert measured.matrix.dtype == torch.float32
    assert hard.off_by(measured.matrix, hard.hessian_by_differences(make())) < 3e-5


class MakesItsOwnTensors(Classifier):
    """Works in any precision because it creates tensors in the default one."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        inputs, targets = batch
        scale = torch.tensor([1.0, 2.0, 0.5])
        assert scale.dtype == torch.get_default_dtype() == self.network[0].weight.dtype
        return nn.functional.nll_loss((self.network(inputs) @ scale.diag()).log_softmax(1), targets)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_default_type_of_the_user_changes_nothing(dtype: torch.dtype) -> None:
    wanted = hard.measure(make())
    module, data = make(), classification_data()
    torch.set_default_dtype(dtype)
    try:
        measured = hard.measure(module, data)
        assert torch.get_default_dtype() == dtype
    finally:
        torch.set_default_dtype(torch.float32)
    assert measured.matrix.equal(wanted.matrix)
    assert measured.notes == ()


def test_tensors_made_inside_the_step_have_the_type_of_the_measurement() -> None:
    measured = hard.measure(MakesItsOwnTensors(make().network))
    double = hard.measure(MakesItsOwnTensors(make().network), precision=64, fit=IN_DOUBLE)
    assert measured.notes == double.notes == ()
    assert hard.off_by(measured.matrix, double.matrix) < 3e-5


class HasConstantsInFloat32(Classifier):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        inputs, targets = batch
        mixing = torch.eye(3, dtype=torch.float32)
        return nn.functional.cross_entropy(self.network(inputs) @ mixing, targets)


def test_a_module_that_cannot_compute_in_float64_is_measured_with_a_note() -> None:
    measured = hard.measure(HasConstantsInFloat32(make().network))
    assert hard.off_by(measured.matrix, hard.hessian_by_differences(make())) < 3e-5
    assert len(measured.notes) == 1
    assert "float64" in measured.notes[0]


def test_train_mode_keeps_its_dropout_masks() -> None:
    def dropping() -> Classifier:
        return hard.seeded(lambda: hard.mlp(nn.Dropout(0.5)))

    masked = hard.measure(dropping(), mode="train")
    plain = hard.measure(dropping(), mode="eval")
    other = hard.measure(dropping(), mode="train", seed=1)
    assert masked.matrix[:, :4].equal(masked.again)
    assert hard.off_by(masked.matrix, plain.matrix) > 0.1
    assert hard.off_by(masked.matrix, other.matrix) > 0.1
    assert hard.off_by(plain.matrix, hard.hessian_by_differences(dropping())) < 3e-5
    assert [note.code for note in masked.notes] == ["noisy-step"]
    assert plain.notes == ()


def test_train_mode_uses_the_statistics_of_each_batch() -> None:
    def normed() -> Classifier:
        return hard.seeded(lambda: hard.mlp(nn.BatchNorm1d(5)))

    measured = hard.measure(normed(), mode="train", batch_size=13, precision=64)
    batches = [batch.data for batch in measured.batches]
    wanted = hard.hessian_by_differences(normed(), batches, train=True)
    assert hard.off_by(measured.matrix, wanted) < 1e-8
    running = hard.hessian_by_differences(normed(), batches)
    assert hard.off_by(running, wanted) > 0.1


def test_train_mode_leaves_frozen_parts_frozen() -> None:
    class FrozenNorm(Classifier):
        def on_train_epoch_start(self) -> None:
            self.network[1].eval()

    def normed() -> nn.Module:
        return hard.seeded(lambda: hard.mlp(nn.BatchNorm1d(5))).network

    class AtTheEnd(hard.DenseHessian):
        start = hard.DenseHessian.on_train_start

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            """Epoch hooks have not run yet."""

        def on_train_batch_start(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            self.start(trainer, pl_module)

    probe = AtTheEnd(mode="train", precision=64)
    trainer(probe, max_steps=1).fit(FrozenNorm(normed()), loader(batch_size=13))
    wanted = hard.hessian_by_differences(Classifier(normed()))
    assert hard.off_by(probe.matrix, wanted) < 1e-8
