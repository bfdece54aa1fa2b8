"""The callback of critical points in fits: what it finds, writes, and leaves alone."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging

from lightning_hessian import CriticalPoint, HessianSpectrum, Krylov, Loss, analyze
from lightning_hessian.options import SpectrumOptions
from lightning_hessian.studies import SpectrumStudy
from tests.helpers.checkpoints import ByEpochAndStep, fitted, numbers
from tests.helpers.fitting import Classifier, loader, trainer
from tests.helpers.hostile import HostileData, HostileModule
from tests.helpers.recording import differences, run
from tests.helpers.saddles import Problem, TanhNet

QUIET = {"module": partial(HostileModule, noise=0.0), "data": partial(HostileData, noise=0.0)}


def point(**options: Any) -> CriticalPoint:
    """All that is due, with few products, and errors raised."""
    cheap: dict[str, Any] = {
        "solver": Krylov(max_hvps=12),
        "max_overhead": None,
        "on_error": "raise",
    }
    return CriticalPoint(**(cheap | options))


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("setting", "ours"),
    [
        pytest.param({}, {"mode": "train", "weight_decay": 0.1}, id="everything-measured"),
        pytest.param({"precision": "bf16-mixed"}, {}, id="bf16-mixed"),
        pytest.param({}, {"max_overhead": 0.9, "loss": Loss(precision=64)}, id="planned"),
    ],
)
def test_run_with_callback_is_bit_identical(
    setting: dict[str, Any], ours: dict[str, Any], tmp_path: Path
) -> None:
    setting = QUIET | setting
    without = run(tmp_path / "without", **setting)
    callback = point(**({"every_n_train_steps": 2} | ours))
    with_ours = run(tmp_path / "with", callback, **setting)
    assert differences(without, with_ours) == []
    assert callback.reports
    assert all(report.failure is None for report in callback.reports)


@pytest.mark.slow
def test_a_run_that_measures_its_edge_is_bit_identical(tmp_path: Path) -> None:
    without = run(tmp_path / "without", **QUIET)
    callback = HessianSpectrum(
        edge=True, max_overhead=None, every_n_train_steps=2, solver=Krylov(max_hvps=12)
    )
    assert differences(without, run(tmp_path / "with", callback, **QUIET)) == []
    assert callback.reports[-1].failure is None


def test_an_exact_saddle_is_found_in_a_module_with_its_optimisers_decay() -> None:
    problem = Problem.of(0, size=4, samples=12, decay=0.01)
    narrow = problem.minimum(1)
    module = TanhNet(problem, problem.widened(narrow, 1, 4), 4)
    callback = point(weight_decay="optimizer", solver=Krylov(max_hvps=32), loss=Loss(precision=64))
    trainer(callback, max_steps=1).fit(module)
    first = callback.reports[0]
    dead = problem.dead_unit_spectrum(narrow, 1)
    assert first.kind == "saddle"
    assert first.indices[0].fraction == 3 * int((dead < -first.indices[0].threshold).sum()) / 32
    assert float(first.smallest.values[0]) == pytest.approx(float(dead.min()), abs=1e-10)
    assert first.weight_decay == "0.01 of SGD"
    assert first.num_samples == 12
    assert [layer.name for layer in first.layers] == ["into", "out"]
    assert sum(layer.norm**2 for layer in first.layers) == pytest.approx(first.parameter_norm**2)


@pytest.mark.slow
def test_a_fit_at_the_defaults_has_a_course_and_stays_within_its_price() -> None:
    callback = CriticalPoint(on_error="raise")
    trainer(callback, max_epochs=400).fit(Classifier(), loader())
    reports = callback.reports
    assert len(reports) >= 5
    assert reports[-1].overhead <= 0.5
    assert all(report.verdict for report in reports)


@pytest.mark.slow
def test_checkpoints_say_the_same_in_the_fit_and_in_the_analysis(tmp_path: Path) -> None:
    during = point(at_checkpoints=True, every_n_epochs=None, num_samples=20)
    fitted(tmp_path, ByEpochAndStep(), during)
    wanted = {r.ckpt_path: numbers(r) for r in during.reports if r.ckpt_path}
    after = analyze(
        ByEpochAndStep(),
        tmp_path,
        callback=point(num_samples=20),
        dataloaders=loader(),
        trainer=trainer(),
        verbose=False,
    )
    assert wanted
    assert {report.ckpt_path: numbers(report) for report in after} == wanted


def test_a_resumed_fit_goes_on_with_its_history(tmp_path: Path) -> None:
    path = tmp_path / "half.ckpt"
    first = point(every_n_epochs=1)
    half = trainer(first, max_epochs=1)
    half.fit(Classifier(), loader())
    half.save_checkpoint(path)
    second = point(every_n_epochs=1)
    trainer(second, max_epochs=2).fit(Classifier(), loader(), ckpt_path=path, weights_only=True)
    kept = second.reports[: len(first.reports)]
    assert list(map(numbers, kept)) == list(map(numbers, first.reports))
    assert len(second.reports) > len(first.reports)


def test_auto_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="`num_samples` of `CriticalPoint` must be a whole number"):
        CriticalPoint(num_samples="auto")  # type: ignore[arg-type]


class Stepped(Classifier):
    """By the optimiser that a test wants."""

    def __init__(self, optimizer: Any) -> None:
        torch.manual_seed(4)
        super().__init__()
        self.optimizer = optimizer

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.optimizer(self.parameters())  # type: ignore[no-any-return]


def edges(optimizer: Any, **options: Any) -> HessianSpectrum:
    trainer_options = {key: options.pop(key) for key in list(options) if "clip" in key}
    callback = HessianSpectrum(
        **{"edge": True, "max_overhead": None, "on_error": "raise", "loss": Loss(precision=64)}
        | options
    )
    trainer(callback, max_epochs=2, **trainer_options).fit(Stepped(optimizer), loader())
    return callback


def test_the_edge_of_plain_sgd_is_its_largest_eigenvalue_and_costs_nothing() -> None:
    sgd = partial(torch.optim.SGD, lr=0.5, weight_decay=0.1)
    with_edge, without = edges(sgd), edges(sgd, edge=False)
    report = with_edge.reports[-1]
    assert report.edge is not None
    largest = float(report.largest.values[0])
    assert report.edge.sharpness == pytest.approx(0.5 * (largest + 0.1), rel=1e-12)
    assert (report.edge.threshold, report.edge.num_hvps) == (2.0, 0)
    assert report.largest_interval is not None
    ends = [0.5 * (end + 0.1) for end in report.largest_interval]
    assert report.edge.interval == pytest.approx(ends, rel=1e-12)
    assert report.edge.largest_eigenvalue == pytest.approx(2 / 0.5 - 0.1)
    assert report.num_hvps == without.reports[-1].num_hvps


@pytest.mark.parametrize("max_overhead", [None, 0.9])
def test_at_the_defaults_the_edge_is_there_where_it_takes_no_product(
    max_overhead: float | None,
) -> None:
    options: dict[str, Any] = {"edge": "auto", "max_overhead": max_overhead}
    sgd, adam = partial(torch.optim.SGD, lr=0.5), partial(torch.optim.Adam, lr=0.01)
    asked = edges(sgd, edge=True, max_overhead=max_overhead).reports[-1].edge
    found = edges(sgd, **options).reports[-1].edge
    assert asked is not None
    assert found is not None
    if max_overhead is None:  # else the six products that others would take are planned for
        assert found.sharpness == asked.sharpness
    with_adam, without = edges(adam, **options), edges(adam, **options | {"edge": False})
    assert [r.edge for r in with_adam.reports] == [None] * len(with_adam.reports)
    assert [r.num_hvps for r in with_adam.reports] == [r.num_hvps for r in without.reports]
    assert [r.notes for r in with_adam.reports] == [r.notes for r in without.reports]


@pytest.mark.parametrize("max_overhead", [None, 0.9])
def test_the_edge_of_adam_is_the_eigenvalue_of_its_preconditioned_hessian(
    max_overhead: float | None,
) -> None:
    callback = edges(
        partial(torch.optim.Adam, lr=0.01),
        max_overhead=max_overhead,
        every_n_train_steps=1,
        solver=Krylov(rtol=1e-6, max_hvps=60),
    )
    first, last = callback.reports[0], callback.reports[-1]
    if first.step == 0:
        assert first.edge is None
        assert "edge-not-known" in [note.code for note in first.notes]
    assert last.edge is not None
    assert last.edge.threshold == pytest.approx(3.8)
    assert last.edge.optimizer == "Adam, learning rate 0.01, momentum 0.9"
    assert last.num_hvps >= last.edge.num_hvps > 0
    assert last.edge.sharpness == pytest.approx(
        callback_truth(callback), rel=1e-5 if max_overhead is None else 0.2
    )


def callback_truth(callback: HessianSpectrum) -> float:
    """Of the same fit at its end, from a dense Hessian."""
    module = Stepped(partial(torch.optim.Adam, lr=0.01))
    fit = trainer(max_epochs=2)
    fit.fit(module, loader())
    (optimizer,) = fit.optimizers
    module = module.double()
    parameters = list(module.parameters())
    inputs, targets = loader().dataset.tensors
    chosen = slice(0, callback.reports[-1].num_samples)
    assert chosen.stop == len(inputs)
    loss = torch.nn.functional.cross_entropy(module.network(inputs.double()), targets)
    slopes = torch.autograd.grad(loss, parameters, create_graph=True)
    flat = torch.cat([slope.reshape(-1) for slope in slopes])
    rows = [torch.autograd.grad(each, parameters, retain_graph=True) for each in flat]
    hessian = torch.stack([torch.cat([part.reshape(-1) for part in row]) for row in rows])
    states = [optimizer.state[p] for p in optimizer.param_groups[0]["params"]]
    count = float(states[0]["step"])
    moments = torch.cat([state["exp_avg_sq"].reshape(-1) for state in states]).double()
    lengths = (moments / (1 - 0.999**count)).sqrt() + 1e-8
    scales = (0.01 * 0.1 / (1 - 0.9 ** (count + 1)) / lengths).sqrt()
    return float(torch.linalg.eigvalsh(scales[:, None] * hessian * scales)[-1])


@pytest.mark.parametrize(
    ("optimizer", "clipping", "words"),
    [
        (torch.optim.Adagrad, {}, "the edge of stability is known for SGD"),
        (
            partial(torch.optim.SGD, lr=0.1),
            {"gradient_clip_val": 1.0, "gradient_clip_algorithm": "value"},
            "gradients are clipped by value, which is no scaling of a step",
        ),
        (
            partial(torch.optim.SGD, lr=0.1),
            {"gradient_clip_val": 1.0},
            "is that of steps without clipping. Gradients longer than 1 are",
        ),
    ],
)
def test_what_the_edge_cannot_say_is_a_note(
    optimizer: Any, clipping: dict[str, Any], words: str
) -> None:
    report = edges(optimizer, solver=Krylov(max_hvps=8), **clipping).reports[-1]
    assert report.failure is None
    assert any(words in note for note in report.notes)
    assert (report.edge is None) == ("without clipping" not in words)


def test_averaged_weights_have_no_edge() -> None:
    callback = HessianSpectrum(
        edge=True,
        max_overhead=None,
        on_error="raise",
        loss=Loss(weights="averaged"),
        solver=Krylov(max_hvps=8),
    )
    average = EMAWeightAveraging(decay=0.5)
    trainer(average, callback).fit(Stepped(partial(torch.optim.SGD, lr=0.1)), loader())
    report = callback.reports[-1]
    assert report.weights == "averaged"
    assert report.edge is None
    assert any("averaged weights are stepped by no optimiser" in note for note in report.notes)


def test_the_vector_of_the_edge_is_in_a_checkpoint_and_refused_where_it_is_no_vector() -> None:
    callback = edges(partial(torch.optim.Adam, lr=0.01), max_overhead=0.9, every_n_train_steps=1)
    state = callback.state_dict()["study"]
    assert state["edge"].shape == (callback.reports[-1].num_parameters, 1)
    kept = SpectrumStudy(SpectrumOptions(edge=True), seed=0)
    kept.load_state(state)
    assert kept.state()["edge"].equal(state["edge"])
    with pytest.raises(ValueError, match="it remembers no vector of the edge of stability"):
        kept.load_state({**state, "edge": state["edge"][1:]})


class CountsSamples(Classifier):
    """Knows how many samples each call of its step had."""

    def __init__(self, counts: list[int]) -> None:
        super().__init__()
        self.count = counts.append

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.count(len(batch[0]))
        return super().training_step(batch, batch_idx)


def test_a_part_of_the_training_set_is_measured_in_batches_as_training_has_them() -> None:
    # no error is read off their scatter, for which there would be a dozen
    callback = point(num_samples=24, every_n_epochs=None, escape=False)
    counts: list[int] = []
    trainer(callback, max_steps=1).fit(CountsSamples(counts), loader())
    assert callback.reports[0].num_samples == 24
    # halves, in which it is looked for what depends on who shares a batch
    assert min(counts) == 4
    assert counts.count(8) > 3
