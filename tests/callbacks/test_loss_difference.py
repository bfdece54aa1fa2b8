"""The callback of loss differences in a fit: its numbers against the module's own losses."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_hessian import (
    HessianSpectrum,
    Krylov,
    Loss,
    LossDifferenceReport,
    Perturbations,
    Surface,
)
from lightning_hessian.show import read_sidecar
from tests.helpers.difference import LossesAlone, difference, losses_alone
from tests.helpers.events import Events
from tests.helpers.fitting import Classifier, classification_data, loader, trainer
from tests.helpers.hard_modules import seeded


def test_reports_are_of_the_losses_of_single_samples_at_start_and_end() -> None:
    wanted, callback = LossesAlone(), difference(num_samples="all", keep_losses=True)
    trainer(wanted, callback, max_epochs=2).fit(Classifier(), loader())
    assert [report.global_step for report in callback.reports] == [0, 4, 8]
    for losses, report in zip(
        wanted.found, (callback.reports[0], callback.reports[-1]), strict=True
    ):
        assert report.num_samples == 26
        # in the order drawn; float32 of losses near one
        torch.testing.assert_close(
            report.sample_losses.sort().values, losses.sort().values, rtol=1e-6, atol=1e-7
        )
        assert report.loss == pytest.approx(float(losses.mean()), rel=1e-6)
        assert report.spread.variance.value == pytest.approx(float(losses.var()), rel=1e-5)
        k = report.differences.sample_sizes
        torch.testing.assert_close(
            report.differences.rms, (losses.var() / (k * (k + 1))).sqrt(), rtol=1e-5, atol=0
        )
        assert (report.separability, report.sample_method) == ("mean", "batched")
        assert report.loss_standard_error == pytest.approx(float(losses.std()) / 26**0.5, rel=1e-5)


def test_a_subset_is_drawn_and_the_order_is_its_own() -> None:
    callback = difference(num_samples=10, keep_losses=True)
    module = Classifier()
    trainer(callback, max_epochs=1).fit(module, loader())
    everything = losses_alone(module).tolist()
    kept = callback.reports[-1].sample_losses.tolist()
    assert len(kept) == 10
    for value in kept:
        assert min(abs(value - other) for other in everything) < 1e-6
    assert callback.reports[-1].data.startswith("10 of 26 samples of the training set")


def test_beside_the_spectrum_both_measure_the_same_weights() -> None:
    ours, theirs = (
        difference(),
        HessianSpectrum(max_overhead=None, on_error="raise", solver=Krylov(max_hvps=8)),
    )
    trainer(theirs, ours, max_epochs=1).fit(Classifier(), loader())
    for mine, other in zip(ours.reports, theirs.reports, strict=True):
        assert mine.global_step == other.global_step
        assert mine.loss == pytest.approx(other.loss, rel=1e-6)


def test_spread_of_gradients_and_hessians_is_that_of_single_samples() -> None:
    # in batches of one every batch is a sample: then the spread of gradients is exact
    module = seeded(lambda: nn.Sequential(nn.Linear(4, 3)))
    callback = difference(
        num_samples="all", derivatives=True, num_probes=32, loss=Loss(batch_size=1)
    )
    trainer(callback, max_steps=1).fit(module, loader())
    report = callback.reports[0]
    inputs, targets = classification_data().tensors
    extended = torch.cat([inputs, torch.ones(26, 1)], dim=1).double()
    logits = module_at_start(inputs).double()
    p = logits.softmax(-1)
    gradients = torch.einsum("nk,nd->nkd", p - F.one_hot(targets, 3), extended).flatten(1)
    curvature = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    hessians = torch.einsum("nkl,nd,ne->nkdle", curvature, extended, extended).reshape(26, 15, 15)
    spread = (gradients - gradients.mean(0)).square().sum() / 25
    assert report.gradient.variance.value == pytest.approx(float(spread), rel=1e-5)
    spread = (hessians - hessians.mean(0)).square().sum() / 25
    error = report.hessian.variance.standard_error
    assert 0 < error < 0.5 * spread
    assert abs(report.hessian.variance.value - spread) < 4 * error
    assert report.gradient.norm == pytest.approx(float(gradients.mean(0).norm()), rel=1e-5)


def module_at_start(inputs: Tensor) -> Tensor:
    module = seeded(lambda: nn.Sequential(nn.Linear(4, 3)))
    with torch.no_grad():
        output: Tensor = module.network(inputs)
    return output


def test_without_second_derivatives_the_losses_are_measured_all_the_same() -> None:
    class OnceDifferentiable(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            return x.sigmoid()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            (x,) = ctx.saved_tensors
            return gradient * x.sigmoid() * (1 - x.sigmoid())

    class Once(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return OnceDifferentiable.apply(x)

    callback = difference(derivatives=True)
    network = nn.Sequential(nn.Linear(4, 6), Once(), nn.Linear(6, 3))
    trainer(callback, max_steps=1).fit(Classifier(network), loader())
    for report in callback.reports:
        assert report.spread.variance.value > 0
        assert report.gradient.variance.value > 0
        assert report.hessian is None
        assert any("Hessian" in note for note in report.notes)


class Contrastive(Classifier):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        features = F.normalize(self.network(batch[0]), dim=-1)
        return F.cross_entropy(features @ features.T, torch.arange(len(features)))


def test_a_contrastive_loss_is_refused_and_training_goes_on() -> None:
    callback = difference(on_error="warn")
    run = trainer(callback, max_epochs=1)
    with pytest.warns(UserWarning, match="LossDifference has no numbers at step 0"):
        run.fit(Contrastive(), loader())
    assert run.global_step == 4
    # tried once more when training has begun: the same reason, numbers aside, is not told again
    (report,) = callback.reports
    assert report.global_step == 0
    assert report.failure is not None
    assert "mean" in report.failure
    assert "hessian_loss" in report.failure


class Validated(Classifier):
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        return None


def test_held_out_samples_are_those_of_the_validation_set() -> None:
    other = classification_data(30)
    generator = torch.Generator().manual_seed(3)
    other.tensors = (torch.randn(30, 4, generator=generator), other.tensors[1])
    wanted = LossesAlone(other)
    by_option = difference(num_samples="all", held_out=loader(other), name="given")
    by_fit = difference(num_samples="all", held_out=True)
    run = trainer(wanted, by_option, by_fit, max_epochs=1, num_sanity_val_steps=0)
    run.fit(Validated(), loader(), loader(other))
    for callback in (by_option, by_fit):
        for losses, report in zip(wanted.found, callback.reports, strict=True):
            held_out = report.held_out
            assert held_out is not None
            assert held_out.num_samples == 30
            assert held_out.loss == pytest.approx(float(losses.mean()), rel=1e-6)
            assert held_out.spread.variance.value == pytest.approx(float(losses.var()), rel=1e-5)
            assert held_out.gap.value == pytest.approx(held_out.loss - report.loss, rel=1e-6)
            distances = (losses - report.loss).abs()
            assert held_out.mean_distance.value == pytest.approx(float(distances.mean()), rel=1e-5)
            assert report.sentences[0].startswith(
                f"with 26 samples one more sample moves the loss by {distances.mean() / 27:.1e}"[
                    :-4
                ]
            )
            error = math.sqrt(
                report.spread.variance.value / 26 + held_out.spread.variance.value / 30
            )
            assert held_out.gap.standard_error == pytest.approx(error, rel=1e-6)
    assert "the validation set" in by_fit.reports[0].held_out.data


def test_held_out_samples_that_there_are_not_are_refused() -> None:
    callback = difference(held_out=True)
    with pytest.raises(RuntimeError, match="`held_out=True` needs a validation set, but this fit"):
        trainer(callback).fit(Classifier(), loader())


def test_reports_travel_in_checkpoints_and_beside_them(tmp_path: Path) -> None:
    callback = difference(
        at_checkpoints=True,
        every_n_epochs=None,
        thresholds=(0.1,),
        keep_losses=True,
        held_out=loader(),
        perturbations=Perturbations(sigmas=(0.1,)),
        surface=Surface(directions="random", points=3),
    )
    saver = ModelCheckpoint(dirpath=tmp_path, every_n_train_steps=3, save_top_k=-1)
    trainer(callback, saver, enable_checkpointing=True, max_epochs=1).fit(Classifier(), loader())
    (path,) = tmp_path.glob("*.ckpt")
    (measured,) = (r for r in callback.reports if r.ckpt_path == str(path))
    beside = LossDifferenceReport.from_dict(read_sidecar(f"{path}.loss_difference.json"))
    state = torch.load(path, weights_only=True)["callbacks"][callback.state_key]
    inside = LossDifferenceReport.from_dict(state["reports"][-1])
    wanted = {
        k: repr(v)
        for k, v in measured.to_dict().items()
        if k not in ("seconds", "overhead", "ckpt_path")
    }
    for copy in (beside, inside):
        assert {k: repr(v) for k, v in copy.to_dict().items() if k in wanted} == wanted
    assert beside.surface is not None
    assert beside.surface.loss.shape == (3, 3)
    assert beside.neighbourhood[0].sigma == 0.1


@pytest.mark.slow
def test_everything_asked_for_is_logged(tmp_path: Path) -> None:
    callback = difference(
        num_samples="all",
        derivatives=True,
        thresholds=(0.01,),
        hessian_differences=2,
        num_orders=5,
        held_out=loader(),
        samples_per_step=2,
        loss=Loss(batch_size=4),
        solver=Krylov(max_hvps=40),
        perturbations=Perturbations(sigmas=(0.05,), subspace=2),
        surface=Surface(directions="eigenvectors", points=3),
    )
    logger = pl.loggers.TensorBoardLogger(tmp_path)
    trainer(callback, logger=logger, log_every_n_steps=1, max_steps=1).fit(Classifier(), loader())
    report = callback.reports[-1]
    assert report.failure is None
    assert [part.dimensions for part in report.neighbourhood] == [None, 2]
    assert len(report.hessian_differences.norms) == 2
    assert report.surface is not None
    assert report.surface.loss[1, 1] == pytest.approx(report.loss, rel=1e-6)
    assert report.num_hvps > 4
    events = Events(logger.log_dir)
    scalars = events.scalars()
    assert scalars["loss_difference/deviation"][-1][1] == pytest.approx(
        report.spread.variance.value**0.5
    )
    furthest = float(report.hessian_differences.norms.max())
    logged = scalars["loss_difference/hessian_difference_norm"][-1][1]
    assert logged == pytest.approx(furthest, rel=1e-6)
    for tag in ("required_samples_0.01", "held_out_loss", "gap", "hessian_deviation"):
        assert f"loss_difference/{tag}" in scalars
    for image in ("difference", "history", "surface"):
        assert [step for step, _ in events.images(f"loss_difference/{image}")]
