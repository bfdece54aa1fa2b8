"""Searches from checkpoints: least squares whose minimum is known, files, and what is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from lightning_hessian import CriticalPoint, Loss, analyze, search
from lightning_hessian.analysis.found_file import SEARCH
from lightning_hessian.analysis.summary import search_summary
from lightning_hessian.errors import RefusedError, UnreadableCheckpointError
from lightning_hessian.records import ModuleMove, SearchReport, SearchStep
from lightning_hessian.studies import FoundPoint
from tests.helpers.fitting import Classifier, loader, trainer

DECAY = 0.1


class LeastSquares(pl.LightningModule):
    """With a minimum in closed form, with weight decay and without."""

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.line = nn.Linear(width, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        inputs, targets = batch
        return (self.line(inputs) - targets).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1, weight_decay=DECAY)


def pairs() -> TensorDataset:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(22, 3, generator=generator)
    noise = torch.randn(22, 1, generator=generator) / 4
    return TensorDataset(inputs, inputs.sum(1, keepdim=True) + noise)


def closed_form(decay: float) -> Tensor:
    """Weights and bias that solve ``(2 X'X / N + decay) w = 2 X'y / N``."""
    inputs, targets = (tensor.double() for tensor in pairs().tensors)
    inputs = torch.cat([inputs, torch.ones(22, 1, dtype=torch.float64)], dim=1)
    normal = 2 * inputs.T @ inputs / 22 + decay * torch.eye(4, dtype=torch.float64)
    return torch.linalg.solve(normal, 2 * inputs.T @ targets / 22)[:, 0]


def saved(folder: Path, module: pl.LightningModule, data: Any) -> Path:
    run = trainer()
    run.fit(module, data)
    path = folder / "last.ckpt"
    run.save_checkpoint(path)
    return path


@pytest.fixture
def ckpt(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    return saved(tmp_path, LeastSquares(), loader(pairs()))


def searched(ckpt: Path, module: pl.LightningModule | None = None, **options: Any) -> FoundPoint:
    defaults: dict[str, Any] = {
        "target": "minimum",
        "dataloaders": loader(pairs()),
        "trainer": trainer(),
        "verbose": False,
    }
    return search(module or LeastSquares(), ckpt, **(defaults | options))


@pytest.mark.parametrize(
    ("weight_decay", "decay", "words"),
    [("none", 0.0, "none"), ("optimizer", DECAY, "0.1 of SGD"), (0.3, 0.3, "0.3")],
)
def test_the_minimum_of_least_squares_is_that_of_the_normal_equations(
    ckpt: Path, weight_decay: Any, decay: float, words: str
) -> None:
    found = searched(ckpt, weight_decay=weight_decay)
    assert found.report.is_target
    assert found.report.weight_decay == words
    # |g| < 1e-8, over curvatures of a tenth at least
    torch.testing.assert_close(found.weights, closed_form(decay), rtol=0, atol=1e-7)


def test_the_file_is_a_checkpoint_of_the_point_and_the_training_s_own_stays(ckpt: Path) -> None:
    before = ckpt.read_bytes()
    found = searched(ckpt)
    path = ckpt.with_name("minimum-of-last.ckpt")
    assert sorted(each.name for each in ckpt.parent.iterdir()) == sorted(
        ["last.ckpt", "minimum-of-last.ckpt", "minimum-of-last.json"]
    )
    assert ckpt.read_bytes() == before
    content = torch.load(path, weights_only=True)
    assert {"optimizer_states", "callbacks"}.isdisjoint(content)
    own = torch.load(ckpt, weights_only=True)
    assert (content["global_step"], content["hyper_parameters"]) == (
        own["global_step"],
        own["hyper_parameters"],
    )
    assert content["state_dict"]["line.weight"].dtype == torch.float64
    module = LeastSquares.load_from_checkpoint(path)
    torch.testing.assert_close(
        torch.cat([module.line.weight[0], module.line.bias]).detach(), found.weights.float()
    )
    report = json.loads(path.with_suffix(".json").read_text())
    assert (report["outcome"], report["target"]) == ("converged", "minimum")
    (point,) = analyze(
        LeastSquares(),
        path,
        dataloaders=loader(pairs()),
        callback=CriticalPoint(loss=Loss(precision=64)),
        trainer=trainer(),
        verbose=False,
        sidecar=False,
    )
    # loaded into 32 bits, whose rounding is within a thousandth of the weights
    assert point.kind == "minimum"


def test_where_there_is_no_saddle_the_file_holds_the_minimum_and_not_where_the_search_stands(
    ckpt: Path,
) -> None:
    found = searched(ckpt, target=1, weight_decay=0.3)
    assert found.report.outcome == "converged"
    assert not found.report.is_target
    assert found.report.index == (0, 0)
    # curvatures are above 0.3 and the gradient is below 1e-8
    torch.testing.assert_close(found.weights, closed_form(0.3), rtol=0, atol=1e-7)
    assert float((found.state.weights - found.weights).norm()) > 1
    kept = torch.load(ckpt.with_name("index-1-of-last.ckpt"), weights_only=True)
    for name, tensor in found.parameters.items():
        assert torch.equal(kept["state_dict"][name], tensor)
    again = searched(ckpt.with_name("index-1-of-last.ckpt"), target=1, weight_decay=0.3)
    assert again.report.index == (0, 0)
    assert again.report.start_norm == found.report.start_norm


def test_the_given_module_is_left_as_it_was(ckpt: Path) -> None:
    module = LeastSquares()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    given = trainer()
    searched(ckpt, module, trainer=given)
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    assert given.global_step == 0


class Interrupted(Classifier):
    """Of 51 parameters; at a step of a number something happens.

    Steps are counted by the class, as what the module holds is put back.
    """

    calls = 0

    def __init__(self, at: int = 0, happens: Callable[[pl.Trainer], None] | None = None) -> None:
        super().__init__()
        self.at, self.happens = at, happens
        Interrupted.calls = 0

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        Interrupted.calls += 1
        if self.happens is not None and Interrupted.calls == self.at:
            self.happens(self.trainer)
        return super().training_step(batch, batch_idx)


def press_ctrl_c(_trainer: pl.Trainer) -> None:
    raise KeyboardInterrupt


def tell_to_end(trainer: pl.Trainer) -> None:
    trainer._signal_connector.received_sigterm = True


CURVED: dict[str, Any] = {"dataloaders": loader(batch_size=26), "weight_decay": 0.03}


@pytest.fixture
def curved(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    return saved(tmp_path, Classifier(), loader())


def test_a_search_goes_on_from_its_file_with_what_it_knew(curved: Path) -> None:
    whole = searched(curved, Classifier(), save=False, **CURVED)
    assert whole.report.is_target
    half = searched(curved, Classifier(), max_hvps=200, **CURVED)
    assert half.report.outcome == "budget spent"
    assert len(half.report.course) > 2
    rest = searched(curved.with_name("minimum-of-last.ckpt"), Classifier(), **CURVED)
    assert rest.report.is_target
    # the same start, a course that goes on, and no second file
    assert rest.report.start_norm == half.report.start_norm == whole.report.start_norm
    assert rest.report.course[: len(half.report.course) - 1] == half.report.course[:-1]
    assert rest.report.num_hvps > half.report.num_hvps
    assert not curved.with_name("minimum-of-minimum-of-last.ckpt").exists()
    # the smallest curvature is a hundredth, the gradient below 1e-8
    torch.testing.assert_close(rest.weights, whole.weights, rtol=0, atol=2e-6)


@pytest.mark.parametrize("happens", [press_ctrl_c, tell_to_end])
def test_ctrl_c_and_a_signal_end_a_search_with_what_it_has(
    curved: Path, happens: Callable[[pl.Trainer], None]
) -> None:
    whole = searched(curved, Interrupted(), save=False, **CURVED)
    found = searched(curved, Interrupted(Interrupted.calls // 2, happens), **CURVED)
    assert found.report.outcome == "interrupted"
    assert 1 < len(found.report.course) < len(whole.report.course)
    again = searched(curved.with_name("minimum-of-last.ckpt"), Classifier(), **CURVED)
    assert again.report.is_target
    assert len(again.report.course) >= len(found.report.course)


def test_a_disk_that_is_full_costs_the_file_and_not_the_search(
    ckpt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_path: str, _content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lightning_hessian.analysis.found_file.write_anywhere", full)
    with pytest.warns(UserWarning, match=r"could not write .*minimum-of-last\.ckpt: .* It goes on"):
        found = searched(ckpt)
    assert found.report.is_target


class Tied(pl.LightningModule):
    """Two names of one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
        self.layers[2].weight = self.layers[0].weight

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self.layers(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_tied_weights_have_the_point_by_each_of_their_names(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = saved(tmp_path, Tied(), loader())
    found = searched(path, Tied(), **CURVED)
    assert found.report.is_target
    module = Tied.load_from_checkpoint(path.with_name("minimum-of-last.ckpt"))
    module = module.double()
    tensors = loader().dataset.tensors
    total = module.training_step((tensors[0].double(), tensors[1]), 0)
    (slope,) = torch.autograd.grad(total, [module.layers[0].weight])
    # loaded into float32, whose rounding is that of the gradient
    decayed = slope + CURVED["weight_decay"] * module.layers[0].weight.detach()
    assert float(decayed.norm()) < 1e-5


def test_the_point_is_kept_where_it_is_said_or_nowhere(ckpt: Path) -> None:
    searched(ckpt, save=False)
    assert [each.name for each in ckpt.parent.iterdir()] == ["last.ckpt"]
    searched(ckpt, save=ckpt.parent / "here.ckpt")
    assert (ckpt.parent / "here.ckpt").exists()
    assert (ckpt.parent / "here.json").exists()


def test_what_is_found_is_told(ckpt: Path, capsys: pytest.CaptureFixture[str]) -> None:
    searched(ckpt, verbose=True)
    told = capsys.readouterr().out
    assert told.startswith("Converged: |g| is ")
    assert "\nline " in told
    assert f"The point is kept in {ckpt.with_name('minimum-of-last.ckpt')}" in told


def test_of_many_modules_those_are_listed_that_moved_most() -> None:
    moves = tuple(
        ModuleMove(name=f"part.{n}", distance=float(n), norm=1.0, norm_found=2.0) for n in range(23)
    )
    report = SearchReport(
        target="minimum",
        outcome="interrupted",
        tolerance=1e-8,
        weight_decay="none",
        point=None,
        course=(SearchStep(loss=1.0, gradient_norm=0.5, num_hvps=0, num_gradients=1, method="x"),),
        method="x",
        shares=(),
        passed=(),
        start_norm=1.0,
        norm=1.0,
        distance=1.0,
        moves=moves,
        num_hvps=0,
        num_gradients=1,
        num_passes=0,
        seconds=0.0,
    )
    lines = search_summary(report, None).splitlines()
    assert lines[3].split() == ["part.22", "22", "1", "2"]
    # those that moved by 0, 1 and 2
    assert lines[-1] == f"and 3 more, which moved by {math.sqrt(5):.4g} together"


class Numbers(IterableDataset[Any]):
    def __iter__(self) -> Any:
        yield from pairs()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_samples": "auto"}, r"`num_samples` of `search` must be a whole number .* 'auto'"),
        ({"loss": Loss(precision=32)}, r"`loss` of a search must have a precision of 64, got 32"),
        ({"loss": Loss(weights="averaged")}, r"must leave to `search` which weights of a file"),
        ({"datamodule": pl.LightningDataModule()}, r"`datamodule` and `dataloaders` exclude"),
        ({"target": None}, r"`target` must be .* got None"),
        ({"target": 1.0}, r"`target` must be .* got 1.0"),
        ({"target": "saddle"}, r"`target` must be 'minimum', 'nearest' or an index from 0 to 4"),
        ({"trainer": trainer(max_epochs=0)}, r"`trainer` ended its fit before it began"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*max_epochs=0")
def test_wrong_arguments_are_refused(ckpt: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        searched(ckpt, **options)


def test_a_file_that_is_there_is_not_written_over(ckpt: Path) -> None:
    searched(ckpt, max_hvps=8)
    before = ckpt.read_bytes()
    there = r"`save` must not name a file that is there already, got"
    with pytest.raises(ValueError, match=there):
        searched(ckpt)
    # nor is another when a search goes on, the training's own least of all
    own = ckpt.with_name("minimum-of-last.ckpt")
    with pytest.raises(ValueError, match=there):
        searched(own, save=ckpt)
    assert ckpt.read_bytes() == before
    ckpt.with_name("metrics.json").write_text("{}")
    with pytest.raises(ValueError, match=rf"{there} .*metrics\.json"):
        searched(ckpt, save=ckpt.with_name("metrics.ckpt"))
    assert searched(own, save=own).report.is_target


@pytest.mark.parametrize(
    ("save", "message"),
    [
        ("found.json", r"`save` must be a path that ends in .ckpt, got 'found.json'"),
        ("absent/found.ckpt", r"`save` must be in a folder that exists, got 'absent/found.ckpt'"),
        (5, r"`save` must be True, False or a path, got 5"),
    ],
)
def test_a_place_that_is_none_is_refused_before_the_search(
    ckpt: Path, save: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        searched(ckpt, save=save)


def test_of_several_checkpoints_none_is_chosen(ckpt: Path) -> None:
    assert searched(ckpt.parent, save=False).report.is_target
    searched(ckpt, max_hvps=8)
    with pytest.raises(ValueError, match=r"`checkpoint` must name one file, got .*, which has 2: "):
        searched(ckpt.parent)


def test_a_search_from_an_average_goes_on_with_the_same_options(tmp_path: Path) -> None:
    torch.manual_seed(0)
    run = trainer(EMAWeightAveraging(decay=0.5), max_epochs=2)
    run.fit(Classifier(), loader())
    path = tmp_path / "last.ckpt"
    run.save_checkpoint(path)
    half = searched(path, Classifier(), weights="averaged", max_hvps=200, **CURVED)
    own = path.with_name("minimum-of-last.ckpt")
    rest = searched(own, Classifier(), weights="averaged", **CURVED)
    assert rest.report.is_target
    assert rest.report.start_norm == half.report.start_norm
    with pytest.raises(ValueError, match=r"of another loss: `weights` was 'averaged'"):
        searched(own, Classifier(), **CURVED)


def test_a_search_of_another_loss_is_not_gone_on_with(ckpt: Path) -> None:
    searched(ckpt, max_hvps=8)
    path = ckpt.with_name("minimum-of-last.ckpt")
    with pytest.raises(
        ValueError, match=r"of another loss: `weight_decay` was 'none'; `mode` was 'eval'"
    ):
        searched(path, weight_decay=0.1, mode="train")


@pytest.mark.parametrize("entry", [{}, {"settings": {"target": "minimum"}}, 3])
def test_a_damaged_entry_is_told(ckpt: Path, entry: Any) -> None:
    searched(ckpt, max_hvps=8)
    path = ckpt.with_name("minimum-of-last.ckpt")
    content = torch.load(path, weights_only=True)
    if isinstance(entry, dict) and entry:
        entry = {"settings": content[SEARCH]["settings"]}
    torch.save({**content, SEARCH: entry}, path)
    with pytest.raises(UnreadableCheckpointError, match="is not of this version"):
        searched(path)


def test_streams_and_foreign_checkpoints_are_refused(ckpt: Path) -> None:
    with pytest.raises(RefusedError, match="samples must be such that can be fetched"):
        searched(ckpt, dataloaders=DataLoader(Numbers(), batch_size=8))
    with pytest.raises(
        UnreadableCheckpointError, match=r"none of its weights is one of Classifier"
    ):
        searched(ckpt, Classifier(), dataloaders=loader())
    with pytest.raises(UnreadableCheckpointError, match=r"got .*absent\.ckpt: there is no"):
        searched(ckpt.with_name("absent.ckpt"))


def test_several_processes_are_refused(ckpt: Path) -> None:
    many = trainer()
    many.strategy._world_size = 2  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(many), "world_size", property(lambda _: 2))
        with pytest.raises(RefusedError, match="`trainer` must have one process here, got 2"):
            searched(ckpt, trainer=many)
