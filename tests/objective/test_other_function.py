"""Modules whose loss in eval mode is another function are told from those with noise alone."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from lightning_hessian import HessianSpectrum, LossDifference
from lightning_hessian.fit import FitLoss
from tests.helpers import hard_modules as hard
from tests.helpers.fitting import Classifier, loader, trainer


class Modes(hard.DenseHessian):
    """Only looks at the loss in both modes."""

    def take(self, fit_loss: FitLoss) -> None:
        fit_loss.prepare()
        self.notes, self.cost = fit_loss.notes, fit_loss.setup_cost


def codes(module: Classifier, **options: Any) -> list[str]:
    """Of the notes on how the loss in eval mode compares with training's."""
    probe = Modes(derivatives="none", **options)
    trainer(probe, max_steps=1).fit(module, loader())
    return [note.code for note in probe.notes]


class Layer(nn.Module):
    """Any function of the input and of whether it trains."""

    def __init__(self, function: Callable[[Tensor, bool], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.training)


class OwnBatchNorm(nn.Module):
    """Not of torch's types: found by the statistics that it gathers."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x - self.mean
        self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
        return x - x.mean(0)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.LSTM(4, 6, num_layers=2, dropout=0.5, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x[:, None])[0][:, 0]


class Encoder(nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.body = nn.TransformerEncoderLayer(4, 2, 8, dropout=dropout, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x[:, None])[:, 0]


class DropPath(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        keep = torch.rand(len(x), 1) > 0.3 if self.training else torch.ones(len(x), 1)
        return x + keep * x.tanh()


class NoisyGates(nn.Module):
    """A mixture of two experts whose gates are drawn in training."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.gate = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        scores = self.gate(x)
        scores = scores + torch.randn_like(scores) * self.training
        shares = scores.softmax(-1)
        return sum(shares[:, k, None] * each(x) for k, each in enumerate(self.experts))


class OldSpectralNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.body = nn.utils.spectral_norm(nn.Linear(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


HONEST: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(4, 4),
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "softplus": nn.Softplus,
    "layer norm": lambda: nn.LayerNorm(4),
    "group norm": lambda: nn.GroupNorm(2, 4),
    "batch norm": lambda: nn.BatchNorm1d(4),
    "batch norm without statistics": lambda: nn.BatchNorm1d(4, track_running_stats=False),
    "batch norm of one's own": lambda: OwnBatchNorm(4),
    "two of one's own": lambda: nn.Sequential(OwnBatchNorm(4), nn.Linear(4, 4), OwnBatchNorm(4)),
    "instance norm": lambda: nn.Sequential(
        nn.Unflatten(1, (2, 2)), nn.InstanceNorm1d(2, track_running_stats=True), nn.Flatten()
    ),
    "dropout": lambda: nn.Dropout(0.5),
    "alpha dropout": lambda: nn.AlphaDropout(0.5),
    "dropout by function": lambda: Layer(lambda x, is_training: F.dropout(x, 0.5, is_training)),
    "rrelu": nn.RReLU,
    "rrelu by function": lambda: Layer(lambda x, t: F.rrelu(x, training=t)),
    "drop path": DropPath,
    "noise on the input": lambda: Layer(lambda x, t: x + 0.1 * torch.randn_like(x) * t),
    "noisy gates": NoisyGates,
    "lstm with dropout": Recurrent,
    "transformer": lambda: Encoder(0.0),
    "transformer with dropout": lambda: Encoder(0.5),
    "spectral norm": lambda: parametrizations.spectral_norm(nn.Linear(4, 4)),
    "spectral norm by hooks": OldSpectralNorm,
    "weight norm": lambda: parametrizations.weight_norm(nn.Linear(4, 4)),
    "frozen in eval mode": lambda: Layer(lambda x, t: 2 * x if t else x).eval(),
    "batch norm and dropout": lambda: nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.5)),
}


def network(layer: nn.Module) -> nn.Module:
    """The layer between others; its output may be of another width."""
    return nn.Sequential(nn.Linear(4, 4), layer, nn.LazyLinear(3))


@pytest.mark.parametrize("name", HONEST)
@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
@pytest.mark.filterwarnings("ignore:Found 1 module.s. in eval mode")
def test_noise_and_statistics_are_no_other_function(name: str) -> None:
    torch.manual_seed(0)
    body = network(HONEST[name]())
    body(torch.zeros(2, 4))
    module = Classifier(body)
    assert codes(module) == []


class Branching(Classifier):
    """Penalises itself in training only, as by the balance of its experts."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        return loss + 0.1 * self.network[0].weight.square().sum() if self.training else loss


OTHERS: dict[str, Callable[[], Classifier]] = {
    "a penalty": Branching,
    "a penalty beside dropout": lambda: Branching(hard.mlp(nn.Dropout(0.5))),
    "a penalty beside statistics": lambda: Branching(
        nn.Sequential(nn.Linear(4, 3), OwnBatchNorm(3))
    ),
    "another output": lambda: Classifier(
        nn.Sequential(nn.Linear(4, 3), Layer(lambda x, t: x if t else x.detach().sin() + x))
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_branch_of_the_modules_own_is_another_function(name: str) -> None:
    torch.manual_seed(0)
    with pytest.warns(UserWarning, match='Give `mode="train"` for the loss that training'):
        assert codes(OTHERS[name]()) == ["other-function-in-eval"]
    assert codes(OTHERS[name](), mode="train") == []


@pytest.mark.parametrize("callback", [HessianSpectrum, LossDifference])
def test_it_is_told_once_and_in_every_report(callback: Any) -> None:
    torch.manual_seed(0)
    module = Branching()
    own = callback(max_overhead=None, on_error="raise")
    with pytest.warns(UserWarning, match="another function than in training") as told:
        trainer(own, max_epochs=2).fit(module, loader())
    assert sum("another function than in training" in str(each.message) for each in told) == 1
    assert [[note.code for note in report.notes][:1] for report in own.reports] == (
        [["other-function-in-eval"]] * 3
    )


def test_both_losses_are_those_of_the_step() -> None:
    torch.manual_seed(0)
    module = Branching()
    penalty = 0.1 * float(module.network[0].weight.detach().square().sum())
    probe = Modes(derivatives="none", num_samples="all", batch_size=26)
    inputs, targets = loader().dataset.tensors
    plain = float(F.cross_entropy(module.network(inputs), targets).detach())
    with pytest.warns(UserWarning, match="another function"):
        trainer(probe, max_steps=1).fit(module, loader())
    numbers = re.findall(r"batch it is ([\d.]+), and ([\d.]+) ", probe.notes[0])
    # of six digits
    assert [float(n) for n in numbers[0]] == pytest.approx([plain, plain + penalty], rel=1e-5)
    # a pass in either mode, and two that tell the difference from noise
    assert probe.cost == pytest.approx(26 * 4 / 3)


class FailsInTraining(Classifier):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if self.training and self.global_step == 0:
            raise LookupError("no queue yet")
        return super().training_step(batch, batch_idx)


def test_a_step_that_cannot_be_called_in_train_mode_is_a_note() -> None:
    probe = Modes(derivatives="none")
    with pytest.raises(LookupError):
        trainer(probe, max_steps=1).fit(FailsInTraining(), loader())
    (note,) = probe.notes
    assert "fails in train mode inside a measurement (LookupError: no queue yet)" in note
