"""Precision, width and memory of the sweep, products counted, and PyHessian, in real fits."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_hessian import HessianSpectrum, Krylov, Loss, PyHessian, SpectrumReport
from lightning_hessian.hvp import ExactProducts
from tests.helpers.fitting import classification_data, loader, trainer
from tests.helpers.networks import Supervised, dense_hessian, measured, mlp

DATA = classification_data()
MODULES = {
    "network.0": slice(0, 25),
    "network.2": slice(25, 43),
}
GIBIBYTE = 2**30


@pytest.fixture(scope="module")
def module() -> Supervised:
    torch.manual_seed(0)
    return Supervised(mlp(4, 5, 3, activation=nn.Tanh), lr=0.5)


@pytest.fixture(scope="module")
def hessian(module: Supervised) -> Tensor:
    """43 parameters, 26 samples."""
    return dense_hessian(module, DATA)


@pytest.mark.sampled
@pytest.mark.parametrize("precision", ["full", "fast_float32", "bfloat16"])
@pytest.mark.parametrize("probes_per_block", [None, 1, 3])
def test_eigenvalues_and_trace_are_right_for_every_sweep(
    module: Supervised, hessian: Tensor, precision: Any, probes_per_block: int | None
) -> None:
    solver = Krylov(precision=precision, probes_per_block=probes_per_block, max_hvps=40)
    report = measured(module, DATA, solver=solver)
    exact = torch.linalg.eigvalsh(hessian)
    for values, bounds in (
        (report.largest.values, report.largest.residual_bounds),
        (report.smallest.values, report.smallest.residual_bounds),
    ):
        assert bool(((values[:, None] - exact).abs().min(dim=1).values <= bounds + 1e-6).all())
    # errors of the refined ones are of second order in 8 bits
    limit = 1e-3 * float(exact[-1])
    assert abs(float(report.largest.values[0] - exact[-1])) < limit
    assert report.trace.interval[0] <= float(exact.sum()) <= report.trace.interval[1]
    assert report.num_hvps <= 40
    is_low_precision = any("products are of fewer digits" in note for note in report.notes)
    assert is_low_precision == (precision == "bfloat16")


@pytest.mark.sampled
@pytest.mark.parametrize("vectors", [64, 24, 0])
def test_a_sweep_within_a_memory_limit_has_the_dense_numbers(
    module: Supervised, hessian: Tensor, vectors: int
) -> None:
    # half of it is the sweep's: 43 doubles a vector, and 16 of them beside the basis
    limit = 2 * (vectors + 16) * 8 * 43 / GIBIBYTE
    report = measured(
        module,
        DATA,
        num_eigenvalues=2,
        parameter_blocks="modules",
        loss=Loss(precision=64),
        solver=Krylov(rtol=1e-6, memory_limit=limit),
    )
    exact = torch.linalg.eigvalsh(hessian).flip(0)
    torch.testing.assert_close(report.largest.values, exact[:2], rtol=0, atol=1e-6)
    assert report.trace.interval[0] <= float(exact.sum()) <= report.trace.interval[1]
    for row, part in enumerate(MODULES.values()):
        away = abs(float(report.blocks[row].trace.value - hessian[part, part].trace()))
        assert away <= max(4 * float(report.blocks[row].trace.standard_error), 1e-9)
    is_restarted = any("no room for the basis of a full sweep" in note for note in report.notes)
    assert is_restarted == (vectors < 64)
    assert report.graph_bytes <= limit * GIBIBYTE / 2


@pytest.mark.slow
def test_pyhessian_measures_the_same_loss(module: Supervised, hessian: Tensor) -> None:
    report = measured(
        module,
        DATA,
        num_eigenvalues=1,
        loss=Loss(precision=64),
        solver=PyHessian(eigenvalues_maxIter=300, eigenvalues_tol=1e-8, trace_tol=0),
    )
    exact = torch.linalg.eigvalsh(hessian)
    # its own stopping rule: a relative change of 1e-8 in a quotient that converges by 0.9 a step
    assert float(report.largest.values[0]) == pytest.approx(float(exact[-1]), rel=1e-5)
    assert abs(report.trace.value - float(exact.sum())) < 4 * report.trace.standard_error
    assert report.engine == "pyhessian"
    assert len(report.smallest.values) == 0
    assert report.density is not None


@pytest.mark.parametrize(
    "options",
    [
        {"solver": Krylov(probes_per_block=10)},
        {"solver": Krylov(precision="bfloat16")},
        {"parameter_blocks": "modules", "eigenvalues_per_block": 2},
        {"overlaps": True},
        {"solver": PyHessian()},
        {
            "solver": Krylov(precision="bfloat16", probes_per_block=20),
            "parameter_blocks": "modules",
            "overlaps": True,
        },
        {"num_samples": "auto"},
    ],
    ids=str,
)
def test_a_trial_run_measures_a_little_with_every_option(
    module: Supervised, options: dict[str, Any]
) -> None:
    callback = HessianSpectrum(on_error="raise", max_overhead=None, **options)
    trainer(callback, fast_dev_run=True).fit(copy.deepcopy(module), loader(DATA))
    for report in callback.reports:
        assert report.failure is None
        assert report.num_samples == 8
        assert float(report.largest.values[0]) > 0
        # 8, and what refinement, blocks and sampling take
        assert report.num_hvps <= 8 + 2 * 6 + 2 * 8 + 6


def test_few_parameters_on_a_part_of_the_samples_have_all_numbers() -> None:
    # both ends of the spectrum meet: each eigenvector counts once
    tiny = Supervised(nn.Linear(4, 3, bias=False))
    options: dict[str, Any] = {"num_eigenvalues": 8, "num_smallest": 6, "overlaps": True}
    callback = HessianSpectrum(
        num_samples=16, max_overhead=None, on_error="raise", **options, loss=Loss(batch_size=4)
    )
    trainer(callback, max_epochs=1).fit(tiny, loader(DATA))
    report = callback.reports[-1]
    assert (len(report.largest.values), len(report.smallest.values)) == (8, 6)
    assert report.sampling is not None
    assert len(report.sampling.eigenvalue_errors) == 8
    assert len(report.sampling.smallest_errors) == 4
    assert len(report.overlap.cosines) == 8


def test_all_products_are_counted(module: Supervised, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []
    original = ExactProducts.matmat

    def matmat(self: ExactProducts, vectors: Tensor) -> Tensor:
        counted.append(vectors.shape[1])
        return original(self, vectors)

    monkeypatch.setattr(ExactProducts, "matmat", matmat)
    callback = HessianSpectrum(
        num_samples=16,
        parameter_blocks="modules",
        eigenvalues_per_block=2,
        max_overhead=None,
        on_error="raise",
        every_n_epochs=None,
        loss=Loss(batch_size=4),
        solver=Krylov(max_hvps=30),
    )
    trainer(callback, max_steps=1).fit(copy.deepcopy(module), loader(DATA))
    sampling = sum(r.sampling.num_hvps for r in callback.reports)
    # those of the sampling error are made beside the operator; two self-checks take two each
    assert sampling > 0
    assert sum(r.num_hvps for r in callback.reports) == sum(counted) - 2 * 2 + sampling


def test_a_report_with_everything_comes_back_from_its_primitives_and_from_json(
    module: Supervised,
) -> None:
    callback = HessianSpectrum(
        num_samples=16,
        num_smallest=0,
        parameter_blocks=["*.bias", "network.2.bias"],
        eigenvalues_per_block=4,
        overlaps=True,
        max_overhead=None,
        on_error="raise",
        loss=Loss(batch_size=4),
    )
    trainer(callback, max_epochs=2).fit(copy.deepcopy(module), loader(DATA))
    for report in callback.reports:
        for plain in (report.to_dict(), json.loads(json.dumps(report.to_dict()))):
            again = SpectrumReport.from_dict(plain)
            # nan is unlike itself
            assert json.dumps(again.to_dict()) == json.dumps(report.to_dict())
            assert again.sampling is not None
            assert len(again.sampling.smallest_errors) == 0
            assert [len(block.largest.values) for block in again.blocks] == [4, 3]
            assert [block.name for block in again.blocks] == ["*.bias", "network.2.bias"]
            assert again.sampling.population == 26
