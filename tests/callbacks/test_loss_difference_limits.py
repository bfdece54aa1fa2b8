"""What the callback of loss differences cannot measure, and says so; options it does not take."""

from __future__ import annotations

import math
import re
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_hessian import Krylov, Loss, LossDifference, Perturbations, PyHessian, Surface
from tests.helpers.difference import LossesAlone, difference
from tests.helpers.fitting import Classifier, loader, trainer


class Proud(Classifier):
    """Fails where somebody follows what it computes."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if torch.overrides._get_current_function_mode_stack():
            raise TypeError("modes are not for this step")
        return super().training_step(batch, batch_idx)


def test_a_step_that_cannot_be_followed_is_called_for_each_sample() -> None:
    wanted, callback = LossesAlone(), difference(num_samples="all")
    trainer(wanted, callback, max_steps=1).fit(Proud(), loader())
    assert callback.reports[0].sample_method == "one by one"
    assert callback.reports[0].loss == pytest.approx(float(wanted.found[0].mean()), rel=1e-6)


class Changing(Classifier):
    """Writes the same mean in another manner in its second batch."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        each = F.cross_entropy(self.network(batch[0]), batch[1], reduction="none")
        return each.sum() * (1 / len(each)) if batch_idx == 1 else each.mean()


def test_what_is_read_off_a_batch_must_make_up_its_loss() -> None:
    wanted, callback = LossesAlone(), difference(num_samples="all")
    trainer(wanted, callback, max_steps=1).fit(Changing(), loader())
    assert callback.reports[0].sample_method == "one by one"
    assert callback.reports[0].loss == pytest.approx(float(wanted.found[0].mean()), rel=1e-6)


@pytest.mark.parametrize(
    ("held_out", "reason"),
    [
        ([torch.randn(4, 9)], r"the losses of .* `held_out` .* could not be computed \(Untaken"),
        ([[torch.randn(1, 4), torch.zeros(1).long()]], "needs at least 2 samples, got 1"),
    ],
)
def test_held_out_samples_that_cannot_be_measured_cost_nothing_else(
    held_out: Any, reason: str
) -> None:
    callback = difference(held_out=held_out)
    trainer(callback, max_steps=1).fit(Classifier(), loader())
    for report in callback.reports:
        assert report.held_out is None
        assert report.spread.variance.value > 0
        assert any(re.search(f"Held-out samples were not .*{reason}", n) for n in report.notes)


class OneWeight(Classifier):
    def __init__(self) -> None:
        super().__init__(nn.Linear(1, 1, bias=False))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.mse_loss(self.network(batch[0][:, :1])[:, 0], batch[1].to(batch[0].dtype))


@pytest.mark.parametrize("surface", ["random", "eigenvectors"])
def test_a_plane_that_there_is_not_costs_nothing_else(surface: Any) -> None:
    callback = difference(surface=Surface(directions=surface, points=3))
    trainer(callback, max_steps=1).fit(OneWeight(), loader())
    assert callback.reports[0].surface is None
    assert callback.reports[0].spread.variance.value > 0
    assert any("`surface` was left out: a plane" in note for note in callback.reports[0].notes)


class Scaled(Classifier):
    def __init__(self, scale: float, shift: float) -> None:
        super().__init__()
        self.scale, self.shift = scale, shift

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.scale * super().training_step(batch, batch_idx) + self.shift


@pytest.mark.parametrize(
    ("scale", "shift", "note"),
    [(1e-7, 0.0, "so near to zero"), (1.0, 1e6, "little more than their rounding"), (1.0, 0.0, "")],
)
def test_losses_that_rounding_rules_are_noted(scale: float, shift: float, note: str) -> None:
    callback = difference()
    trainer(callback, max_steps=1).fit(Scaled(scale, shift), loader())
    (found,) = callback.reports[0].notes if note else ("",)
    assert note in found
    precise = difference(loss=Loss(precision=64))
    trainer(precise, max_steps=1).fit(Scaled(scale, shift), loader())
    assert precise.reports[0].notes == ()


def test_notes_on_the_samples_are_in_the_report() -> None:
    class Summed(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return F.cross_entropy(self.network(batch[0]), batch[1], reduction="sum")

    callback = difference()
    trainer(callback, max_steps=1).fit(Summed(), loader())
    assert callback.reports[0].separability == "sum"
    assert "sum of its samples' losses" in callback.reports[0].notes[0]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"sample_sizes": 0}, "`sample_sizes` must be a whole number of at least 1, or a list"),
        ({"sample_sizes": [5, 0]}, "`sample_sizes` must be a whole number of at least 1, got 0"),
        ({"num_orders": 1}, "`num_orders` must be 0 or at least 2, got 1"),
        ({"samples_per_step": 0}, "`samples_per_step` must be a whole number of at least 1, got 0"),
        ({"num_probes": 1}, "`num_probes` must be a whole number of at least 3, got 1"),
        ({"thresholds": [1e-3, 0.0]}, "`thresholds` must be positive and finite, got 0.0"),
        ({"thresholds": 1e-3}, "`thresholds` must be a list of numbers, got 0.001"),
        (
            {"perturbations": [0.1]},
            r"`perturbations` must be a `Perturbations` or None, got .0\.1.",
        ),
        ({"surface": "random"}, "`surface` must be a `Surface` or None, got 'random'"),
        ({"solver": PyHessian()}, "`solver` of `LossDifference` must be a `Krylov`, .* got PyHess"),
        ({"solver": Krylov(max_hvps=15)}, "`max_hvps` must be a whole .* at least 16, got 15"),
        ({"loss": Loss(weight_fn=len)}, "`loss` of `LossDifference` must have no `weight_fn`"),
        (
            {"num_samples": 0},
            "`num_samples` must be None, a whole .* at least 1, 'all' .* got 0",
        ),
        (
            {"every_n_epochs": 0},
            "`every_n_epochs` must be 'auto', .* at least 1, or None for never, got 0",
        ),
        ({"held_out": 3}, "`held_out` must be True, False or a loader of batches, got 3"),
    ],
)
def test_options_out_of_range_are_refused_at_once(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        LossDifference(**options)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"sigmas": [math.inf]}, "`sigmas` must be positive and finite, got inf"),
        ({"sigmas": 0.1}, "`sigmas` must be a list of numbers, got 0.1"),
        ({"sigmas": []}, "`sigmas` must hold at least one standard deviation, got none"),
        ({"sigmas": [0.1], "count": 5}, "`count` must be even, .* got 5"),
        ({"sigmas": [0.1], "count": 2}, "`count` must be a whole number of at least 4, got 2"),
        ({"sigmas": [0.1], "subspace": -1}, "`subspace` must be a whole .* at least 0, got -1"),
    ],
)
def test_perturbations_out_of_range_are_refused_at_once(
    options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        Perturbations(**options)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"directions": "pca"}, "`directions` must be 'eigenvectors' or 'random', got 'pca'"),
        ({"points": 4}, "`points` must be odd, .*, got 4"),
        ({"points": 1}, "`points` must be a whole number of at least 3, got 1"),
        ({"span": -1.0}, "`span` must be positive and finite, got -1.0"),
    ],
)
def test_a_surface_out_of_range_is_refused_at_once(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Surface(**options)


class Observed(pl.LightningModule):
    """A mean over what is observed, of windows of which some are padded."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 4)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        inputs, mask = batch
        off = (self.layer(inputs) - inputs.flip(1)).square() * mask
        return off.sum() / mask.sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05)


@pytest.mark.sampled
@pytest.mark.parametrize("every", [30, 10, 3, 2])
def test_samples_of_less_weight_are_a_weighted_mean_however_few_they_are(every: int) -> None:
    inputs = torch.randn(120, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(120, 4)
    mask[::every, :2] = 0
    callback = LossDifference(on_error="raise", max_overhead=None, every_n_epochs=None)
    data = TensorDataset(inputs, mask)
    trainer(callback, max_steps=1).fit(Observed(), DataLoader(data, batch_size=20))
    assert callback.reports[0].separability == "weighted mean"
