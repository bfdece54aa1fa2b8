"""Two processes measure what one measures: the same bits, from half the work each."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from lightning_hessian import HessianSpectrum, Krylov, Loss, SpectrumReport
from tests.helpers.fitting import Classifier, loader, trainer
from tests.helpers.hard_modules import Attention, Checkpointed, seeded
from tests.helpers.processes import ddp_trainer, in_processes

OWN = (
    "graph_bytes",
    "seconds",
    "overhead",
    "gradient_seconds",
    "epoch",
    "global_step",
    "logged_step",
    "subspace_overlap",  # not a number
)


def batch_norm() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3))


def dropout() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Dropout(0.4), nn.Linear(6, 3))


def plain() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))


def spectrum(**options: Any) -> HessianSpectrum:
    """Everything that a report can hold, from few products, and errors raised."""
    cheap = {
        "num_eigenvalues": 2,
        "every_n_epochs": None,
        "solver": Krylov(max_hvps=24),
        "max_overhead": None,
        "on_error": "raise",
    }
    return HessianSpectrum(**(cheap | options))


def numbers(report: SpectrumReport) -> dict[str, Any]:
    """All of a report but its times and its place in the run."""
    return {name: value for name, value in report.to_dict().items() if name not in OWN}


def main_numbers(report: dict[str, Any]) -> list[torch.Tensor]:
    """Of a report in primitives, what differs by the order of sums at most."""
    ends = [report[end]["values"] for end in ("largest", "smallest")]
    values = (*ends, report["loss"], report["gradient_norm"])
    return [torch.tensor(value, dtype=torch.float64) for value in values]


def measured_by_two(
    module: Classifier, *, batch_size: int = 8, fit: dict[str, Any] | None = None, **options: Any
) -> list[tuple[list[dict[str, Any]], dict[str, Any]]]:
    """Each process's reports of a fit of two steps, and its weights and buffers at the end."""

    def part(rank: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        callback, network = spectrum(**options), copy.deepcopy(module)
        data = loader(batch_size=batch_size)
        ddp_trainer(callback, max_epochs=2, max_steps=2, **(fit or {})).fit(network, data)
        reports = [report.to_dict() for report in callback.reports]
        return reports, {name: t.tolist() for name, t in network.state_dict().items()}

    return in_processes(part)


def measured_by_one(
    module: Classifier, weights: dict[str, Any] | None, batch_size: int = 8, **options: Any
) -> dict[str, Any]:
    """The report of one process at some weights."""
    network = copy.deepcopy(module)
    if weights is not None:
        kinds = network.state_dict()
        state = {n: torch.tensor(w, dtype=kinds[n].dtype) for n, w in weights.items()}
        network.load_state_dict(state)
    callback = spectrum(**options)
    trainer(callback, max_steps=1).fit(network, loader(batch_size=batch_size))
    return numbers(callback.reports[0])


def course(callback: HessianSpectrum) -> list[tuple[int, float, float]]:
    """Where a plan had it measured, for how much, and what it found."""
    assert not [report for report in callback.reports if report.failure]
    return [
        (report.global_step, report.cost, float(report.largest.values[:1].sum()))
        for report in callback.reports
    ]


@pytest.mark.slow
def test_one_plan_holds_for_two_processes() -> None:
    def part(rank: int) -> Any:
        callback = HessianSpectrum(on_error="raise")
        ddp_trainer(callback, max_epochs=120).fit(seeded(plain), loader(batch_size=8))
        return course(callback)

    first, second = in_processes(part, seconds=60)
    assert first == second
    alone = HessianSpectrum(on_error="raise")
    trainer(alone, max_epochs=120).fit(seeded(plain), loader(batch_size=16))
    places = [(step, cost) for step, cost, _ in course(alone)]
    assert [(step, cost) for step, cost, _ in first] == places
    assert len(places) >= 6


CASES: dict[str, tuple[Callable[[], nn.Module], dict[str, Any]]] = {
    "plain, last batch of two": (plain, {}),
    "plain, three batches of twenty samples": (plain, {"num_samples": 20}),
    "plain, train": (plain, {"mode": "train"}),
    "attention": (Attention, {}),
    "batch norm": (batch_norm, {}),
    "batch norm, train": (batch_norm, {"mode": "train"}),
    "dropout, train": (dropout, {"mode": "train"}),
    "one batch for two processes": (batch_norm, {"batch_size": 26}),
}


@pytest.mark.sampled
@pytest.mark.parametrize("name", CASES)
def test_two_processes_measure_the_same_bits_as_one(name: str) -> None:
    # float32 derivatives times whole numbers, summed in float64: no order of them rounds otherwise
    make, options = CASES[name]
    module = seeded(make)
    (first, weights), (second, others) = measured_by_two(module, **options)
    assert repr(first) == repr(second)  # also a `nan` where no share is known yet
    assert [report["global_step"] for report in first] == [0, 2]
    if make is batch_norm:
        assert weights["network.1.running_mean"] != others["network.1.running_mean"]
    for report, state in zip(first, (None, weights), strict=True):
        measured = {key: value for key, value in report.items() if key not in OWN}
        assert measured == measured_by_one(module, state, **options)


class Counts(Classifier):
    calls = 0  # of the class: what the module holds itself is put back

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        Counts.calls += "log" in vars(self)  # shadowed inside measurements
        return super().training_step(batch, batch_idx)


def test_each_of_two_processes_does_half_of_the_work() -> None:
    def calls(fit: Any) -> int:
        Counts.calls = 0
        fit.fit(Counts(seeded(plain).network), loader(batch_size=2))  # 13 batches
        return Counts.calls

    shared = in_processes(lambda rank: calls(ddp_trainer(spectrum(), max_steps=1)))
    alone = calls(trainer(spectrum(), max_steps=1))
    # seven batches each; looking for noise, and two self-checks, take one of each
    assert shared[0] == shared[1]
    assert shared[0] == pytest.approx(alone * 7 / 13, abs=10)


def test_sums_of_float64_differ_by_their_order_only() -> None:
    module = seeded(plain)
    options = {
        "loss": Loss(precision=64),
        "solver": Krylov(max_hvps=51),
        "trace": False,
        "density": False,
    }
    (reports, _), _ = measured_by_two(module, **options)
    alone = measured_by_one(module, None, **options)
    for found, wanted in zip(main_numbers(reports[0]), main_numbers(alone), strict=True):
        # some hundred roundings of float64
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-14)


class Unused(nn.Module):
    """A layer that no loss depends on, which data-parallel training must be told."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.never = nn.Linear(4, 3), nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.used(x)


def test_parameters_that_are_not_used_are_named() -> None:
    module = seeded(Unused)
    fit = {"ddp": {"find_unused_parameters": True}}
    (first, weights), (second, _) = measured_by_two(module, fit=fit)
    assert repr(first) == repr(second)  # also a `nan` where no share is known yet
    assert first[-1]["unused_parameters"] == ["network.never.weight", "network.never.bias"]
    assert numbers(SpectrumReport.from_dict(first[-1])) == measured_by_one(module, weights)


@pytest.mark.slow
@pytest.mark.sampled
@pytest.mark.parametrize("precision", [None, 32])
def test_differences_of_gradients_are_those_of_one_process_to_their_own_error(
    precision: Any,
) -> None:
    """Another order of a float64 sum is one more rounding of it, over the step."""
    module = seeded(lambda: Checkpointed(use_reentrant=True))
    options = {"loss": Loss(precision=precision)}
    (reports, _), (others, _) = measured_by_two(module, **options)
    assert repr(reports) == repr(others)
    alone = measured_by_one(module, None, **options)
    assert reports[0]["products"]["method"] == alone["products"]["method"] == "finite_difference"
    found, wanted = (torch.tensor(r["largest"]["values"]).double() for r in (reports[0], alone))
    error = alone["products"]["error"] + reports[0]["products"]["error"]
    assert bool(((found - wanted).abs() <= error).all())
    assert error < 1e-3 * float(wanted[0])
