"""Studies at the weights of a checkpoint are those of the module with these weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_hessian import HessianSpectrum, Loss, at_checkpoint
from lightning_hessian.errors import InterruptedMeasurementError
from lightning_hessian.hvp import open_loss
from lightning_hessian.loss import TrainingLoss
from lightning_hessian.studies import batch_sharpness, gauss_newton_split
from tests.helpers.checkpoints import analyzed
from tests.helpers.fitting import Classifier, classification_data, loader, trainer


@pytest.fixture
def ckpt(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    run = trainer(max_epochs=3)
    run.fit(Classifier(), loader())
    path = tmp_path / "last.ckpt"
    run.save_checkpoint(path)
    return path


def at(ckpt: Path, study: Any, module: Any = None, **options: Any) -> Any:
    defaults: dict[str, Any] = {"dataloaders": loader(), "trainer": trainer()}
    return at_checkpoint(study, module or Classifier(), ckpt, **(defaults | options))


def split(loss: TrainingLoss) -> Any:
    return gauss_newton_split(loss, generator=torch.Generator().manual_seed(0))


def test_the_parts_of_a_hessian_are_those_of_the_weights_in_the_file(ckpt: Path) -> None:
    found = at(ckpt, split, loss=Loss(precision=64))
    module = Classifier.load_from_checkpoint(ckpt).double()
    data = classification_data()
    batch = (data.tensors[0].double(), data.tensors[1])
    module.log = lambda *_: None  # type: ignore[method-assign, assignment]
    with open_loss(module, module.training_step, [batch], dtype=torch.float64) as loss:
        expected = split(loss)
    assert found.outputs == ("cross_entropy",)
    # 51 parameters: both are exact
    for part in ("hessian", "gauss_newton", "residual"):
        torch.testing.assert_close(
            getattr(found, part).largest.values, getattr(expected, part).largest.values
        )
    assert found.residual_share.value == pytest.approx(expected.residual_share.value, rel=1e-9)


def test_a_function_of_one_s_own_sees_the_chosen_parameters_and_leaves_the_module(
    ckpt: Path,
) -> None:
    module = Classifier()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}

    def norm(loss: TrainingLoss) -> tuple[int, float]:
        return loss.size, float(loss.gradient().vector.norm())

    size, length = at(ckpt, norm, module, loss=Loss(parameters=["network.2.*"]))
    trained = Classifier.load_from_checkpoint(ckpt)
    trained.log = lambda *_: None  # type: ignore[method-assign, assignment]
    total = trained.training_step(classification_data().tensors, 0)
    slopes = torch.autograd.grad(total, [*trained.network[2].parameters()])
    assert size == 6 * 3 + 3
    # float32
    assert length == pytest.approx(float(torch.cat([s.flatten() for s in slopes]).norm()), rel=1e-5)
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())


def test_what_a_study_raises_is_passed_on(ckpt: Path) -> None:
    def fails(_loss: TrainingLoss) -> None:
        raise ZeroDivisionError("as it likes")

    with pytest.raises(ZeroDivisionError, match="as it likes"):
        at(ckpt, fails)


def test_batch_sharpness_there_is_of_training_s_own_batches(ckpt: Path) -> None:
    options: dict[str, Any] = {"num_samples": "all", "loss": Loss(precision=64)}
    found, _ = at(ckpt, batch_sharpness, dataloaders=loader(shuffle=True), **options)
    callback = HessianSpectrum(batch_sharpness=True, **options)
    (report,) = analyzed(Classifier(), ckpt, dataloaders=loader(shuffle=True), callback=callback)
    assert found.step_size == 8
    assert found.mean_of_ratios == report.batch_sharpness.mean_of_ratios


class ToldToEnd(Classifier):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.trainer._signal_connector.received_sigterm = True
        return super().training_step(batch, batch_idx)


def test_a_signal_to_end_ends_a_study(ckpt: Path) -> None:
    with pytest.raises(InterruptedMeasurementError, match="SIGTERM arrived during the measurement"):
        at(ckpt, split, ToldToEnd())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_samples": "auto"}, r"`num_samples` of `at_checkpoint` must be a whole number"),
        ({"num_samples": 0}, r"`num_samples` must be None, a whole number of at least 1"),
        ({"loss": Loss(weights="averaged")}, r"must leave to `at_checkpoint` which weights"),
        ({"mode": "test"}, r"`mode` must be"),
        ({"weights": "foo"}, r"`weights` must be .current. or .averaged., got .foo."),
    ],
)
def test_wrong_arguments_are_refused(ckpt: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        at(ckpt, split, **options)
