"""A measurement that fails is recorded with its reason, and training goes on as if it were not."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_hessian import Krylov, Loss
from lightning_hessian.errors import NonFiniteError, RefusedError
from tests.helpers import hard_modules as hard
from tests.helpers.events import Events
from tests.helpers.fitting import Classifier, loader, trainer
from tests.helpers.spectrum import spectrum, steps


class Manual(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizer = self.optimizers()
        optimizer.zero_grad()
        loss = F.cross_entropy(self.network(batch[0]), batch[1])
        self.manual_backward(loss, retain_graph=True)
        self.manual_backward(loss.square())
        optimizer.step()


REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "manual": (Manual, {}, "makes 2 `manual_backward` calls"),
    "pattern": (Classifier, {"loss": Loss(parameters=["head.*"])}, "'head.*' matches none"),
    "memory limit": (
        Classifier,
        {"solver": Krylov(max_hvps=8, memory_limit=4e-6)},
        # 13 vectors of 51 parameters in float32, twice, and a hundredth
        "`memory_limit` must be at least 4.99e-06 GiB for 51 parameters, .* got 4e-06",
    ),
    "reentrant": (
        lambda: hard.seeded(lambda: hard.Checkpointed(use_reentrant=True)),
        {"loss": Loss(products="exact")},
        "reentrant activation checkpointing",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_is_recorded_once_and_training_goes_on(name: str) -> None:
    make, options, reason = REFUSED[name]
    callback = spectrum(on_error="warn", **options)
    module = make()
    before = [p.detach().clone() for p in module.parameters()]
    with pytest.warns(UserWarning, match="HessianSpectrum has no numbers at step 0") as warned:
        trainer(callback, max_epochs=2).fit(module, loader())
    ours = [str(w.message) for w in warned if "HessianSpectrum" in str(w.message)]
    assert len(ours) == 1
    assert re.search(reason, ours[0])
    assert ours[0].endswith(
        "Training goes on unchanged. It will not be tried again while the module stays as it is."
    )
    (report,) = callback.reports
    assert report.failure is not None
    assert report.failure.startswith(("RefusedError: ", "NoExactProductsError: "))
    assert re.search(reason, report.failure)
    assert (report.global_step, report.num_hvps, len(report.largest.values)) == (0, 0, 0)
    moved = [not p.equal(b) for p, b in zip(module.parameters(), before, strict=True)]
    assert any(moved)


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_ends_the_fit_where_asked(name: str) -> None:
    make, options, reason = REFUSED[name]
    with pytest.raises(RefusedError, match=reason):
        trainer(spectrum(**options)).fit(make(), loader())


def test_a_refused_fit_says_nothing_about_the_next_one() -> None:
    callback = spectrum(on_error="warn", loss=Loss(parameters=["second.*"]))
    with pytest.warns(UserWarning, match="matches none"):
        trainer(callback).fit(Classifier(), loader())

    class UsesSecond(Classifier):
        def __init__(self) -> None:
            super().__init__()
            self.second = nn.Linear(4, 3)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return F.cross_entropy(self.second(batch[0]), batch[1])

    trainer(callback).fit(UsesSecond(), loader())
    assert [report.failure is None for report in callback.reports] == [False, True, True]


class BadInTheFirstEpoch(Classifier):
    """Its loss becomes a number only later."""

    bad: float = math.nan

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = F.cross_entropy(self.network(batch[0]), batch[1])
        return loss + self.bad if self.current_epoch == 0 else loss


class InfiniteGradient(Classifier):
    """A square root at zero: the loss is finite, its gradient is not, and is mended by hand."""

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        for parameter in self.parameters():
            assert parameter.grad is not None
            parameter.grad.nan_to_num_(0.0)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = F.cross_entropy(self.network(batch[0]), batch[1])
        if self.current_epoch > 0:
            return loss
        return loss + (self.network[0].weight * 0).sum().abs().sqrt()


class InfiniteCurvature(Classifier):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = F.cross_entropy(self.network(batch[0]), batch[1])
        if self.current_epoch > 0:
            return loss
        return (
            loss + (self.network[0].weight - self.network[0].weight.detach()).abs().pow(1.5).sum()
        )


class Infinite(BadInTheFirstEpoch):
    bad = math.inf


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (BadInTheFirstEpoch, "the training loss must be finite, got nan on frozen batch 0"),
        (Infinite, "the training loss must be finite, got inf on frozen batch 0"),
        (InfiniteGradient, "the gradient of the training loss must be finite"),
        (InfiniteCurvature, "a Hessian-vector product holds NaN or infinity"),
    ],
)
def test_what_is_not_finite_is_recorded_and_tried_again(
    kind: type[Classifier], reason: str
) -> None:
    callback = spectrum(on_error="warn", every_n_epochs=None, every_n_train_steps=6)
    with pytest.warns(UserWarning, match=f"{reason}.*tried again when next due"):
        trainer(callback, max_epochs=2).fit(kind(lr=0.0), loader())
    first, *others = callback.reports
    assert first.failure is not None
    assert first.failure.startswith(f"NonFiniteError: {reason}")
    assert [report.failure for report in others] == [None, None]
    assert steps(callback) == [0, 6, 8]
    assert all(report.notes == () or "max_hvps" in report.notes[0] for report in others)
    with pytest.raises(NonFiniteError, match=reason):
        trainer(spectrum()).fit(kind(lr=0.0), loader())


class Fails(Classifier):
    """Runs out of something until its training has begun."""

    has_begun = False

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self.has_begun = True

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if not self.has_begun:
            raise MemoryError("no memory left")
        return F.cross_entropy(self.network(batch[0]), batch[1])


def test_any_other_error_is_recorded_and_tried_again() -> None:
    callback = spectrum(on_error="warn")
    with pytest.warns(UserWarning, match="MemoryError: no memory left"):
        trainer(callback).fit(Fails(), loader())
    assert [report.failure for report in callback.reports] == ["MemoryError: no memory left", None]


def test_a_failure_reaches_the_event_file_and_later_numbers_too(tmp_path: Path) -> None:
    callback = spectrum(on_error="warn", custom_scalars=False)
    logger = TensorBoardLogger(tmp_path, name=None, version="run")
    with pytest.warns(UserWarning, match="got nan"):
        trainer(callback, max_epochs=2, logger=logger).fit(BadInTheFirstEpoch(lr=0.0), loader())
    events = Events(tmp_path / "run")
    points = events.scalars("hessian")
    assert points["hessian_errors/failed"] == [(0, 1.0), (4, 1.0), (8, 0.0)]
    assert [step for step, _ in points["hessian/eig_1"]] == [8]
    assert [step for step, _ in events.texts("hessian/failure")] == [0, 4]
    assert events.texts("hessian/failure")[0][1] == callback.reports[0].failure


@pytest.mark.parametrize(
    "name", ["FSDPStrategy", "DeepSpeedStrategy", "XLAStrategy", "XLAFSDPStrategy"]
)
def test_a_strategy_that_keeps_parts_of_parameters_is_refused_with_the_way_out(name: str) -> None:
    """By the name of its class, or of one that it extends, as the packages are not at hand."""
    named = type(name, (SingleDeviceStrategy,), {})
    derived = type("OfTheUser", (named,), {})
    for kind in (named, derived):
        callback, module = spectrum(on_error="warn"), Classifier()
        fit = trainer(callback, strategy=kind(torch.device("cpu")))
        reason = f"got a {name}. Train under one of these or DDP, or analyse the consolidated check"
        with pytest.warns(UserWarning, match=reason):
            fit.fit(module, loader())
        assert reason in str(callback.reports[0].failure)
        assert fit.global_step == 4


def test_what_fails_in_looking_for_the_data_is_reported_and_training_goes_on() -> None:
    class Picky(Classifier):
        def __getattr__(self, name: str) -> Any:
            if name == "hessian_dataloader":
                raise KeyError(name)
            return super().__getattr__(name)

    callback = spectrum(on_error="warn")
    with pytest.warns(UserWarning, match="no numbers at step [04]. KeyError: 'hessian_dataloader'"):
        trainer(callback).fit(Picky(), loader())
    assert steps(callback) == [0, 4]
    with pytest.raises(KeyError, match="hessian_dataloader"):
        trainer(spectrum()).fit(Picky(), loader())
