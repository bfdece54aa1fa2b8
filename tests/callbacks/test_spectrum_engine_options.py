"""Blocks, overlaps, precision and memory of the sweep, and PyHessian, in real fits."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor, nn

from lightning_hessian import HessianSpectrum, SpectrumReport
from lightning_hessian.callbacks import spectrum_measurement
from lightning_hessian.writers.scalars import spectrum_scalars
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


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"density_rtol": 0.0}, "`density_rtol` must lie between 0 and 1, got 0.0"),
        ({"density_rtol": math.nan}, "`density_rtol` must lie between 0 and 1, got nan"),
        ({"sampling_rtol": 1.0}, "`sampling_rtol` must lie between 0 and 1, got 1.0"),
        ({"block_size": 0}, "`block_size` must be a whole number from 1 to half .* got 0"),
        ({"block_size": 101}, "`block_size` must be a whole number from 1 to half .* got 101"),
        ({"block_size": 2.0}, "`block_size` must be a whole number .* got 2.0"),
        ({"sweep_precision": "half"}, "`sweep_precision` must be 'full', 'fast_f.* got 'half'"),
        (
            {"sweep_precision": "bfloat16", "max_hvps": 19},
            "`max_hvps` must be at least 20 to refine 6 eigenvalues of a bfloat16 sweep, got 19",
        ),
        ({"memory_limit": 0}, "`memory_limit` must be a positive number of GiB, or None .* got 0"),
        ({"memory_limit": -1.5}, "`memory_limit` must be a positive number .* got -1.5"),
        ({"memory_limit": True}, "`memory_limit` must be a positive number .* got True"),
        ({"memory_limit": "4GB"}, "`memory_limit` must be a positive number .* got '4GB'"),
        ({"memory_limit": math.nan}, "`memory_limit` must be a positive number .* got nan"),
        ({"blocks": "head.*"}, r"`blocks` must be a list .* Write `blocks=\['head.\*'\]`"),
        ({"block_eigenvalues": 2}, "`block_eigenvalues` needs `blocks`, got 2 and none"),
        (
            {"blocks": "modules", "block_eigenvalues": -1},
            "`block_eigenvalues` must be a whole number of at least 0, got -1",
        ),
        (
            {"blocks": "modules", "block_eigenvalues": 1.0},
            "`block_eigenvalues` must be a whole number of at least 0, got 1.0",
        ),
        ({"overlaps": True, "num_eigenvalues": 0}, "`overlaps` compares .* Ask for at least one"),
        ({"engine": "scipy"}, "`engine` must be 'krylov' or 'pyhessian', got 'scipy'"),
        (
            {"engine": "pyhessian", "num_eigenvalues": 0, "trace": False, "density": False},
            "`engine='pyhessian'` gives no smallest eigenvalues, .* or take `engine='krylov'`",
        ),
        ({"engine": "pyhessian", "blocks": ["a"]}, "`engine='pyhessian'` .* knows no blocks"),
        ({"engine": "pyhessian", "overlaps": True}, "`engine='pyhessian'` gives no eigenvectors"),
        ({"pyhessian": {"top_n": 3}}, "`pyhessian` must hold options out of .*, got 'top_n'"),
        ({"pyhessian": {"trace_maxIter": 0}}, "`trace_maxIter` must be a whole number"),
    ],
)
def test_options_out_of_range_are_refused_at_once(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        HessianSpectrum(**options)


@pytest.mark.parametrize("max_hvps", [200, 24])
def test_blocks_of_modules_have_the_dense_traces_and_eigenvalues(
    module: Supervised, hessian: Tensor, max_hvps: int
) -> None:
    options: dict[str, Any] = {"precision": 64, "rtol": 1e-8, "max_hvps": max_hvps}
    plain = measured(module, DATA, **options)
    report = measured(module, DATA, blocks="modules", block_eigenvalues=3, **options)
    assert report.blocks == tuple(MODULES)
    assert report.trace == plain.trace
    assert report.num_hvps > plain.num_hvps
    for row, part in enumerate(MODULES.values()):
        block = hessian[part, part]
        error = float(report.block_trace_standard_errors[row])
        away = float(report.block_traces[row] - block.trace())
        exact = torch.linalg.eigvalsh(block).flip(0)[:3]
        bounds = report.block_residual_bounds[row]
        distance = (report.block_eigenvalues[row][:, None] - torch.linalg.eigvalsh(block)).abs()
        assert bool((distance.min(dim=1).values <= bounds + 1e-12).all())
        if max_hvps == 200:
            assert abs(away) < 1e-10
            torch.testing.assert_close(report.block_eigenvalues[row], exact, rtol=1e-7, atol=1e-9)
        else:
            assert abs(away) < 4 * error
            assert error > 0


def test_blocks_of_patterns_overlap_and_small_ones_have_fewer_eigenvalues(
    module: Supervised, hessian: Tensor
) -> None:
    patterns = ["*.bias", "network.2.*", "network.2.bias"]
    report = measured(module, DATA, precision=64, blocks=patterns, block_eigenvalues=4, rtol=1e-8)
    places = [
        torch.tensor([*range(20, 25), *range(40, 43)]),
        torch.arange(25, 43),
        torch.arange(40, 43),
    ]
    assert report.blocks == tuple(patterns)
    for row, positions in enumerate(places):
        block = hessian[positions][:, positions]
        assert float(report.block_traces[row]) == pytest.approx(float(block.trace()), abs=1e-10)
        exact = torch.linalg.eigvalsh(block).flip(0)[:4]
        found = report.block_eigenvalues[row]
        torch.testing.assert_close(found[: len(exact)], exact, rtol=1e-7, atol=1e-9)
        assert bool(found[len(exact) :].isnan().all())
    scalars = spectrum_scalars(report, prefix="h")
    assert scalars["h/trace/*.bias"] == float(report.block_traces[0])
    assert "h/trace/network.2.*_standard_error" in scalars
    assert scalars["h/eig_3/network.2.bias"] == float(report.block_eigenvalues[2, 2])
    assert "h/eig_4/network.2.bias" not in scalars


def test_a_block_that_matches_nothing_is_a_failure_with_its_reason(module: Supervised) -> None:
    callback = HessianSpectrum(blocks=["head.*"], max_overhead=None)
    with pytest.warns(UserWarning, match="`blocks` must match selected parameters"):
        trainer(callback, max_steps=1).fit(copy.deepcopy(module), loader(DATA))
    assert "'head.*' matches none. Names look like network.0.weight" in callback.reports[0].failure


class Hessians(pl.Callback):
    """Dense ones at the start and after each epoch."""

    def __init__(self) -> None:
        self.found: list[Tensor] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.found.append(dense_hessian(pl_module, DATA))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.found.append(dense_hessian(pl_module, DATA))


def leading(hessian: Tensor, count: int) -> Tensor:
    return torch.linalg.eigh(hessian)[1].flip(1)[:, :count]


@pytest.mark.parametrize("sweep_precision", ["full", "bfloat16"])
def test_overlaps_are_those_of_the_dense_eigenvectors(
    module: Supervised, sweep_precision: str
) -> None:
    dense = Hessians()
    callback = HessianSpectrum(
        num_eigenvalues=3,
        overlaps=True,
        precision=64,
        rtol=1e-6 if sweep_precision == "full" else 1e-2,
        max_overhead=None,
        num_samples="all",
        sweep_precision=sweep_precision,  # type: ignore[arg-type]
        on_error="raise",
    )
    trainer(callback, dense, max_epochs=3).fit(copy.deepcopy(module), loader(DATA))
    first, *later = callback.reports
    assert len(first.eigenvector_overlaps) == 0
    assert math.isnan(first.subspace_overlap)
    assert len(later) == 3
    # vectors of refined eigenvalues are off by the rounding of 8 bits over the gaps
    limit = 1e-4 if sweep_precision == "full" else 0.05
    for index, report in enumerate(later):
        before, now = (leading(dense.found[index + k], 3) for k in (0, 1))
        cosines = (before.T @ now).abs()
        partners = report.eigenvector_partners.long()
        assert sorted(partners.tolist()) == [0, 1, 2]
        wanted = cosines[partners, torch.arange(3)]
        torch.testing.assert_close(report.eigenvector_overlaps, wanted, rtol=0, atol=limit)
        share = float(cosines.square().sum()) / 3
        assert report.subspace_overlap == pytest.approx(share, abs=limit)
        scalars = spectrum_scalars(report, prefix="h")
        assert scalars["h/overlap_1"] == float(report.eigenvector_overlaps[0])
        assert scalars["h/subspace_overlap"] == report.subspace_overlap


@pytest.mark.parametrize("sweep_precision", ["full", "fast_float32", "bfloat16"])
@pytest.mark.parametrize("block_size", [None, 1, 3])
def test_eigenvalues_and_trace_are_right_for_every_sweep(
    module: Supervised, hessian: Tensor, sweep_precision: str, block_size: int | None
) -> None:
    report = measured(
        module, DATA, sweep_precision=sweep_precision, block_size=block_size, max_hvps=40
    )
    exact = torch.linalg.eigvalsh(hessian)
    for values, bounds in (
        (report.eigenvalues, report.residual_bounds),
        (report.smallest_eigenvalues, report.smallest_residual_bounds),
    ):
        assert bool(((values[:, None] - exact).abs().min(dim=1).values <= bounds + 1e-6).all())
    # errors of the refined ones are of second order in 8 bits
    limit = 1e-3 * float(exact[-1])
    assert abs(float(report.eigenvalues[0] - exact[-1])) < limit
    assert report.trace_interval[0] <= float(exact.sum()) <= report.trace_interval[1]
    assert report.num_hvps <= 40
    is_rough = any("products are of fewer digits" in note for note in report.notes)
    assert is_rough == (sweep_precision == "bfloat16")


@pytest.mark.parametrize("vectors", [64, 24])
def test_a_sweep_within_a_memory_limit_has_the_dense_numbers(
    module: Supervised, hessian: Tensor, vectors: int
) -> None:
    # half of it is the sweep's: 43 doubles a vector, and 16 of them beside the basis
    limit = 2 * (vectors + 16) * 8 * 43 / GIBIBYTE
    options: dict[str, Any] = {"precision": 64, "rtol": 1e-6, "num_eigenvalues": 2}
    report = measured(module, DATA, memory_limit=limit, blocks="modules", **options)
    exact = torch.linalg.eigvalsh(hessian).flip(0)
    torch.testing.assert_close(report.eigenvalues, exact[:2], rtol=0, atol=1e-6)
    assert report.trace_interval[0] <= float(exact.sum()) <= report.trace_interval[1]
    for row, part in enumerate(MODULES.values()):
        away = abs(float(report.block_traces[row] - hessian[part, part].trace()))
        assert away <= max(4 * float(report.block_trace_standard_errors[row]), 1e-9)
    is_restarted = any("no room for the basis of a full sweep" in note for note in report.notes)
    assert is_restarted == (vectors == 24)
    assert report.graph_bytes <= limit * GIBIBYTE / 2


def test_pyhessian_measures_the_same_loss(module: Supervised, hessian: Tensor) -> None:
    report = measured(
        module,
        DATA,
        engine="pyhessian",
        num_eigenvalues=1,
        precision=64,
        pyhessian={"eigenvalues_maxIter": 300, "eigenvalues_tol": 1e-8, "trace_tol": 0},
    )
    exact = torch.linalg.eigvalsh(hessian)
    # its own stopping rule: a relative change of 1e-8 in a quotient that converges by 0.9 a step
    assert float(report.eigenvalues[0]) == pytest.approx(float(exact[-1]), rel=1e-5)
    assert abs(report.trace - float(exact.sum())) < 4 * report.trace_standard_error
    assert report.engine == "pyhessian"
    assert len(report.smallest_eigenvalues) == 0
    assert report.density is not None


@pytest.mark.parametrize(
    "options",
    [
        {"block_size": 10},
        {"sweep_precision": "bfloat16"},
        {"blocks": "modules", "block_eigenvalues": 2},
        {"overlaps": True},
        {"engine": "pyhessian"},
        {"sweep_precision": "bfloat16", "block_size": 20, "blocks": "modules", "overlaps": True},
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
        assert float(report.eigenvalues[0]) > 0
        # 8, and what refinement, blocks and sampling take
        assert report.num_hvps <= 8 + 2 * 6 + 2 * 8 + 6


def test_few_parameters_on_a_part_of_the_samples_have_all_numbers() -> None:
    # both ends of the spectrum meet: each eigenvector counts once
    tiny = Supervised(nn.Linear(4, 3, bias=False))
    options: dict[str, Any] = {"num_eigenvalues": 8, "num_smallest": 6, "overlaps": True}
    callback = HessianSpectrum(
        num_samples=16, batch_size=4, max_overhead=None, on_error="raise", **options
    )
    trainer(callback, max_epochs=1).fit(tiny, loader(DATA))
    report = callback.reports[-1]
    assert (len(report.eigenvalues), len(report.smallest_eigenvalues)) == (8, 6)
    assert report.sampling is not None
    assert len(report.sampling.eigenvalue_errors) == 8
    assert len(report.sampling.smallest_errors) == 4
    assert len(report.eigenvector_overlaps) == 8


def test_all_products_are_counted(module: Supervised, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []
    for name in ("HessianOperator", "ScatterOperator"):
        kind = getattr(spectrum_measurement, name)

        def matmat(self: Any, vectors: Tensor, base: Any = kind.matmat) -> Tensor:
            counted.append(vectors.shape[1])
            return base(self, vectors)

        monkeypatch.setattr(spectrum_measurement, name, type(name, (kind,), {"matmat": matmat}))
    callback = HessianSpectrum(
        num_samples=16,
        batch_size=4,
        blocks="modules",
        block_eigenvalues=2,
        max_overhead=None,
        on_error="raise",
        max_hvps=30,
        every_n_epochs=None,
    )
    trainer(callback, max_steps=1).fit(copy.deepcopy(module), loader(DATA))
    sampling = sum(r.sampling.num_hvps for r in callback.reports)
    # those of the sampling error are made beside the operator
    assert sampling > 0
    assert sum(r.num_hvps for r in callback.reports) == sum(counted) + sampling


def test_a_report_with_everything_comes_back_from_its_primitives_and_from_json(
    module: Supervised,
) -> None:
    callback = HessianSpectrum(
        num_samples=16,
        batch_size=4,
        num_smallest=0,
        blocks=["*.bias", "network.2.bias"],
        block_eigenvalues=4,
        overlaps=True,
        max_overhead=None,
        on_error="raise",
    )
    trainer(callback, max_epochs=2).fit(copy.deepcopy(module), loader(DATA))
    for report in callback.reports:
        for plain in (report.to_dict(), json.loads(json.dumps(report.to_dict()))):
            again = SpectrumReport.from_dict(plain)
            # nan is unlike itself
            assert json.dumps(again.to_dict()) == json.dumps(report.to_dict())
            assert again.sampling is not None
            assert len(again.sampling.smallest_errors) == 0
            assert again.block_eigenvalues.shape == (2, 4)
            assert bool(again.block_eigenvalues[1, 3].isnan())
            assert again.blocks == report.blocks
            assert again.sampling.population == 26


def test_overlaps_without_a_partner_come_back() -> None:
    report = SpectrumReport(
        eigenvector_overlaps=torch.tensor([0.5, math.nan]).double(),
        eigenvector_partners=torch.tensor([1.0, -1.0]).double(),
        subspace_overlap=0.25,
    )
    again = SpectrumReport.from_dict(json.loads(json.dumps(report.to_dict())))
    assert again.eigenvector_partners.tolist() == [1, -1]
    assert again.eigenvector_overlaps[0] == 0.5
    assert bool(again.eigenvector_overlaps[1].isnan())
    assert again.sampling is None
    # and the one without is no scalar
    scalars = spectrum_scalars(again, prefix="h")
    assert {tag for tag in scalars if "overlap" in tag} == {"h/overlap_1", "h/subspace_overlap"}
