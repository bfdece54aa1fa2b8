"""Modules whose loss depends on the run, or that hold things a copy could not."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_hessian.sandbox import Sandbox
from tests.helpers import hard_modules as hard
from tests.helpers.fitting import Classifier, loader, trainer
from tests.helpers.recording import spectrum


class Anneals(Classifier):
    """Its loss grows with the run, and its weights stay."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        factor = 1 + 10 * self.current_epoch + self.global_step
        return super().training_step(batch, batch_idx) * factor

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.0)


def test_a_loss_that_depends_on_epoch_and_step_is_that_of_the_moment() -> None:
    callback = spectrum(every_n_train_steps=1, every_n_epochs=None, num_samples="all")
    trainer(callback, max_epochs=2).fit(Anneals(hard.seeded(hard.mlp).network), loader())
    plain = hard.measure(hard.seeded(hard.mlp))
    largest = float(torch.linalg.eigvalsh(plain.matrix.double())[-1])
    assert [report.global_step for report in callback.reports] == list(range(9))
    for report in callback.reports:
        factor = 1 + 10 * report.epoch + report.global_step
        assert report.loss == pytest.approx(factor * plain.loss, rel=1e-6)
        error = abs(float(report.largest.values[0]) - factor * largest)
        # float32 beside the bound of the estimate
        assert error <= float(report.largest.residual_bounds[0]) + 1e-5 * factor * largest


class HoldsWhatCannotBeCopied(Classifier):
    """A graph of an earlier step, a lock and an open file: a deep copy of it fails."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        self.lock, self.file = threading.Lock(), open(__file__)  # noqa: SIM115
        self.last = self.network[0].weight.square().sum()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        with self.lock:
            loss = super().training_step(batch, batch_idx)
            self.last = loss + 0 * self.last.detach()
        return loss

    def on_fit_end(self) -> None:
        self.file.close()


def test_a_module_that_cannot_be_copied_is_measured_in_place() -> None:
    module = HoldsWhatCannotBeCopied(hard.seeded(hard.mlp).network)
    plain = hard.measure(hard.seeded(hard.mlp), precision=64)
    measured = hard.measure(module, precision=64)
    assert measured.matrix.equal(plain.matrix)
    assert measured.notes == ()


class Watched(Classifier):
    """Its gradients are watched and clipped by hooks, and all of its calls by further ones."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        self.seen: list[float] = []
        for p in self.network.parameters():
            p.register_hook(lambda g: self.seen.append(float(g.norm())))
            p.register_hook(lambda g: g.clamp(-1e-3, 1e-3))
            p.register_post_accumulate_grad_hook(lambda p: self.seen.append(float(p.grad.norm())))
        self.network.register_forward_hook(lambda *_: self.seen.append(0.0))


def test_hooks_that_watch_and_clip_gradients_have_no_part_in_the_hessian() -> None:
    module = Watched(hard.seeded(hard.mlp).network)
    measured = hard.measure(module, precision=64)
    assert measured.matrix.equal(hard.measure(hard.seeded(hard.mlp), precision=64).matrix)
    # of the one step that trained: a forward, and two for each of the four parameters
    assert len(module.seen) == 9


@pytest.mark.filterwarnings("ignore:.*AMP with fp16 is not supported on CPU.*")
def test_half_precision_on_the_cpu_is_what_lightning_makes_of_it() -> None:
    """Lightning exchanges `16-mixed` for `bf16-mixed` there; both are off inside."""
    mixed = hard.measure(hard.seeded(hard.mlp), fit={"precision": "16-mixed"})
    assert mixed.matrix.equal(hard.measure(hard.seeded(hard.mlp)).matrix)


def test_a_half_precision_module_is_measured_in_float32_at_its_own_weights() -> None:
    measured = hard.measure(hard.seeded(hard.mlp), fit={"precision": "16-true"})
    rounded = hard.seeded(hard.mlp).half().float()
    # Lightning rounds the inputs, too: by 5e-4 of each
    wanted = hard.hessian_by_differences(rounded)
    assert measured.matrix.dtype == torch.float32
    assert hard.off_by(measured.matrix, wanted) < 2e-3


class UnfreezesLater(Classifier):
    """Fine-tunes: first the head, from the second epoch on everything."""

    def on_train_epoch_start(self) -> None:
        self.network[0].requires_grad_(self.current_epoch > 0)


def test_a_partly_frozen_module_is_measured_over_what_trains_at_the_moment() -> None:
    callback = spectrum(every_n_train_steps=None, every_n_epochs=1)
    module = UnfreezesLater(hard.seeded(hard.mlp).network)
    trainer(callback, max_epochs=2).fit(module, loader())
    assert [report.num_parameters for report in callback.reports] == [43, 18, 43]


class Decays(Classifier):
    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=0.0, weight_decay=0.5)


def test_accumulation_and_weight_decay_belong_to_the_optimiser_not_to_the_loss() -> None:
    plain = hard.measure(hard.seeded(hard.mlp))
    module = Decays(hard.seeded(hard.mlp).network)
    measured = hard.measure(module, fit={"accumulate_grad_batches": 3})
    assert measured.matrix.equal(plain.matrix)
    assert measured.loss == plain.loss


def test_a_module_without_a_trainer_logs_into_the_void() -> None:
    """Lightning warns at `self.log` without a Trainer, and a warning is an error here."""
    module = hard.seeded(hard.mlp)
    batch = [torch.zeros(2, 4), torch.zeros(2, dtype=torch.long)]
    with Sandbox(module, mode="eval", seed=0, dtype=torch.float32):
        module.training_step(batch, 0)
    with pytest.warns(UserWarning, match="log"):
        module.training_step(batch, 0)
