"""The self-check's verdict on many modules: no false alarm on honest ones, no wrong one missed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.autograd.function import Function
from torch.nn import functional as F

from lightning_hessian.errors import NoExactProductsError
from lightning_hessian.fit import FitLoss
from lightning_hessian.hvp import choice
from tests.helpers import hard_modules as hard
from tests.helpers.fitting import Classifier, loader, trainer
from tests.objective.test_self_check import (
    Applied,
    OwnPast,
    Rounded,
    SquareDetached,
    SquareOff,
    SquareWrong,
    StopsGradient,
    StraightThrough,
)


class Images(nn.Module):
    """Four features as an image."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.view(-1, 1, 2, 2)).flatten(1)


class Last(nn.Module):
    """Of a sequence of four."""

    def __init__(self, cell: nn.Module, act: nn.Module) -> None:
        super().__init__()
        self.cell, self.act, self.out = cell, act, nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.act(self.cell(x[..., None])[0][:, -1]))


class Attends(nn.Module):
    """Scaled dot products between four tokens."""

    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.inside, self.act, self.out = nn.Linear(1, 12), act, nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.inside(x[..., None]).chunk(3, dim=-1)
        return self.out(self.act(F.scaled_dot_product_attention(q, k, v)).mean(1))


ACTIVATIONS = (nn.ReLU, nn.Tanh, nn.GELU, nn.SiLU, nn.ELU, nn.LeakyReLU, nn.Softplus, nn.Hardtanh)
NETWORKS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "perceptron": lambda act: nn.Sequential(nn.Linear(4, 8), act, nn.Linear(8, 3)),
    "convolution": lambda act: Images(
        nn.Conv2d(1, 4, 2, padding=1), act, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4, 3)
    ),
    "batch norm": lambda act: Images(
        nn.Conv2d(1, 4, 2), nn.BatchNorm2d(4), act, nn.Flatten(), nn.Linear(4, 3)
    ),
    "layer norm": lambda act: nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), act, nn.Linear(8, 3)),
    "LSTM": lambda act: Last(nn.LSTM(1, 5, batch_first=True), act),
    "GRU": lambda act: Last(nn.GRU(1, 5, batch_first=True), act),
    "attention": lambda act: Attends(act),
}


@pytest.fixture
def verdict(monkeypatch: pytest.MonkeyPatch) -> Callable[[LightningModule], str]:
    """What the check makes of a module."""
    found: list[str] = []
    original = choice.compare_products

    def compared(*args: Any, **options: Any) -> Any:
        check = original(*args, **options)
        found.append(check.verdict)
        return check

    class Asks(hard.DenseHessian):
        def take(self, fit_loss: FitLoss) -> None:
            fit_loss.prepare()

    def ask(module: LightningModule) -> str:
        found.clear()
        run: Trainer = trainer(Asks(), max_steps=1)
        try:
            run.fit(module, loader())
        except NoExactProductsError as error:
            return "wrong" if "wrong" in str(error) else "undecided"
        return found[0]

    monkeypatch.setattr(choice, "compare_products", compared)
    return ask


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
def test_no_honest_network_is_doubted(network: str, verdict: Callable[[Any], str]) -> None:
    verdicts = {
        act.__name__: verdict(hard.seeded(lambda act=act: NETWORKS[network](act())))
        for act in ACTIVATIONS
    }
    assert set(verdicts.values()) == {"exact"}, verdicts


@pytest.mark.slow
@pytest.mark.parametrize("share", [1e-3, 1e-2, 1.0])
@pytest.mark.parametrize("depth", [1, 4, 8])
@pytest.mark.parametrize("act", [nn.Tanh, nn.ReLU])
def test_no_wrong_layer_is_missed(
    share: float,
    depth: int,
    act: type[nn.Module],
    verdict: Callable[[Any], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(SquareOff, "share", share)

    def network(function: type[Function]) -> nn.Module:
        deep = [layer for _ in range(depth) for layer in (nn.Linear(5, 5), act())]
        return hard.mlp(*deep, Applied(function))

    for function in (SquareOff, SquareDetached, SquareWrong):
        module = hard.seeded(lambda function=function: network(function))
        found = verdict(module)
        # an asymmetry says that "second derivative is wrong" too
        assert found == "wrong", function


@pytest.mark.slow
def test_stopped_gradients_are_called_so(verdict: Callable[[Any], str]) -> None:
    made: list[Classifier] = [
        *(
            hard.seeded(lambda layer=layer: hard.mlp(layer()))
            for layer in (StraightThrough, StopsGradient)
        ),
        hard.seeded(lambda: hard.mlp(wrap=Rounded)),
        OwnPast(hard.seeded(hard.mlp).network),
    ]
    assert [verdict(module) for module in made] == ["surrogate"] * len(made)
