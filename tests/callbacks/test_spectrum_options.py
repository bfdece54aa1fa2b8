"""The callback's options, what it tells, and the bookkeeping of its reports."""

from __future__ import annotations

import io
import json
import logging
import math
from typing import Any

import pytest
import torch
from torch import nn

from lightning_hessian import HessianSpectrum, Krylov, Loss, PyHessian
from tests.helpers import hard_modules as hard
from tests.helpers.fitting import Classifier, loader, trainer
from tests.helpers.spectrum import spectrum


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"num_eigenvalues": -1}, "`num_eigenvalues` must be a whole .* at least 0, got -1"),
        ({"num_smallest": -2}, "`num_smallest` must be a whole number of at least 0, got -2"),
        (
            {"num_eigenvalues": 1.5},
            "`num_eigenvalues` must be a whole .*, got 1.5",
        ),
        ({"trace": "yes"}, "`trace` must be True or False, got 'yes'"),
        ({"density": 1}, "`density` must be True or False, got 1"),
        (
            {"num_samples": 0},
            "`num_samples` must be None, a whole number of at least 1, 'all' .* got 0",
        ),
        ({"num_samples": "some"}, "`num_samples` must be None, a whole .* or 'auto', got 'some'"),
        ({"seed": None}, "`seed` must be a whole number from 0 to 4,294,967,295, got None"),
        ({"seed": 2**32}, "`seed` must be a whole number from 0 to .*, got 4294967296"),
        ({"mode": "test"}, "`mode` must be 'eval' or 'train', got 'test'"),
        ({"every_n_epochs": 0}, "`every_n_epochs` must be .* at least 1, or None for never, got 0"),
        ({"on_error": "ignore"}, "`on_error` must be 'warn' or 'raise', got 'ignore'"),
        (
            {"name": "a/"},
            "`name` must be a text that does not begin or end with a slash.* got 'a/'",
        ),
        (
            {"num_eigenvalues": 0, "num_smallest": 0, "trace": False, "density": False},
            "has nothing to measure: .*Ask for at least one",
        ),
        (
            {"solver": Krylov(precision="bfloat16", max_hvps=19)},
            "`max_hvps` must be at least 20 to refine 6 eigenvalues of a bfloat16 sweep, got 19",
        ),
        (
            {"parameter_blocks": "head.*"},
            r"`parameter_blocks` must be a list .* Write `parameter_blocks=\['head.\*'\]`",
        ),
        (
            {"eigenvalues_per_block": 2},
            "`eigenvalues_per_block` needs `parameter_blocks`, got 2 and none",
        ),
        (
            {"parameter_blocks": "modules", "eigenvalues_per_block": -1},
            "`eigenvalues_per_block` must be a whole number of at least 0, got -1",
        ),
        (
            {"parameter_blocks": "modules", "eigenvalues_per_block": 1.0},
            "`eigenvalues_per_block` must be a whole number of at least 0, got 1.0",
        ),
        ({"overlaps": True, "num_eigenvalues": 0}, "`overlaps` compares .* Ask for at least one"),
        ({"loss": 1}, r"`loss` must be a `Loss`, got 1. Write `loss=Loss\(which=1\)`"),
        ({"loss": "first"}, r"`loss` must be a `Loss`, .* `loss=Loss\(which='first'\)`"),
        ({"solver": "scipy"}, "`solver` must be a `Krylov` or a `PyHessian`, got 'scipy'"),
        (
            {"solver": PyHessian(), "num_eigenvalues": 0, "trace": False, "density": False},
            r"`solver=PyHessian\(\)` gives no smallest eigenvalues, .* or take `solver=Krylov\(\)`",
        ),
        (
            {"solver": PyHessian(), "parameter_blocks": ["a"]},
            r"`solver=PyHessian\(\)` .* knows no blocks",
        ),
        (
            {"solver": PyHessian(), "overlaps": True},
            r"`solver=PyHessian\(\)` gives no eigenvectors",
        ),
    ],
)
def test_options_out_of_range_are_refused_at_once(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        HessianSpectrum(**options)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"batch_size": 0}, "`batch_size` must be a whole number of at least 1.*got 0"),
        ({"batch_size": 2.5}, "`batch_size` must be a whole number.*got 2.5"),
        ({"parameters": []}, "`parameters` must hold at least one name pattern, got"),
        ({"precision": 16}, "`precision` must be 32, 64 or None, got 16"),
        (
            {"parameters": "net.*"},
            r"must be a list .* Write `parameters=\['net.\*'\]`",
        ),
        ({"products": "both"}, "`products` must be 'auto', 'exact' or 'finite_di.*, got 'both'"),
        ({"which": -1}, "`which` must be the name of a method of the module, .* got -1"),
        ({"which": True}, "`which` must be the name of a method of the module, .* got True"),
        ({"weight_fn": 2.0}, "`weight_fn` must be a function from a batch .* got 2.0"),
        ({"weight_fn": divmod}, "`weight_fn` must be a function from a batch .* got <built-in"),
    ],
)
def test_a_loss_out_of_range_is_refused_at_once(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Loss(**options)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"rtol": 0.0}, "`rtol` must lie between 0 and 1, got 0.0"),
        ({"rtol": math.nan}, "`rtol` must lie between 0 and 1, got nan"),
        ({"trace_rtol": 1.0}, "`trace_rtol` must lie between 0 and 1, got 1.0"),
        (
            {"max_hvps": 7},
            "`max_hvps` must be .* at least 8, two blocks of four, got 7",
        ),
        ({"max_hvps": 1e2}, "`max_hvps` must be a whole number of at least 8.* got 100.0"),
        ({"density_rtol": 0.0}, "`density_rtol` must lie between 0 and 1, got 0.0"),
        ({"density_rtol": math.nan}, "`density_rtol` must lie between 0 and 1, got nan"),
        ({"sampling_rtol": 1.0}, "`sampling_rtol` must lie between 0 and 1, got 1.0"),
        ({"probes_per_block": 0}, "`probes_per_block` must be .* from 1 to half .* got 0"),
        ({"probes_per_block": 101}, "`probes_per_block` must be .* from 1 to half .* got 101"),
        ({"probes_per_block": 2.0}, "`probes_per_block` must be a whole number .* got 2.0"),
        ({"precision": "half"}, "`precision` must be 'full', 'fast_float32' or .* got 'half'"),
        ({"basis": "disk"}, "`basis` must be 'auto', 'full', 'bfloat16' or 'cpu', got 'disk'"),
        ({"memory_limit": 0}, "`memory_limit` must be a positive number of GiB, or None .* got 0"),
        ({"memory_limit": -1.5}, "`memory_limit` must be a positive number .* got -1.5"),
        ({"memory_limit": True}, "`memory_limit` must be a positive number .* got True"),
        ({"memory_limit": "4GB"}, "`memory_limit` must be a positive number .* got '4GB'"),
        ({"memory_limit": math.nan}, "`memory_limit` must be a positive number .* got nan"),
    ],
)
def test_a_solver_out_of_range_is_refused_at_once(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Krylov(**options)


def test_the_cost_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    logger.addHandler(caplog.handler)
    try:
        with caplog.at_level(logging.INFO):
            trainer(spectrum(solver=Krylov(max_hvps=12)), max_epochs=2).fit(Classifier(), loader())
    finally:
        logger.removeHandler(caplog.handler)
    lines = {r.getMessage() for r in caplog.records if r.getMessage().startswith("HessianSp")}
    (line,) = (line for line in lines if "A gradient over them" in line)
    assert "51 parameters, all 26 samples of the training set (TensorDataset), eval mode" in line
    assert "at most 12 Hessian-vector products" in line


def full_reports(epochs: int = 2, **options: Any) -> list[Any]:
    callback = spectrum(
        **{
            "trace": True,
            "density": True,
            "solver": Krylov(max_hvps=60),
            "num_samples": 20,
            "mode": "train",
        }
        | options
    )
    module = hard.seeded(lambda: hard.mlp(nn.Dropout(0.1)))
    trainer(callback, max_epochs=epochs).fit(module, loader())
    return callback.reports


def test_reports_say_when_where_and_at_what_cost() -> None:
    reports = full_reports()
    assert [(r.epoch, r.global_step) for r in reports] == [(0, 0), (0, 4), (1, 8)]
    for report in reports:
        assert report.mode == "train"
        assert report.data == "20 of 26 samples of the training set (TensorDataset)"
        assert (report.num_samples, report.num_parameters) == (20, 43)
        assert 0 < report.num_hvps <= 60
        assert 0 < report.gradient_seconds < report.seconds < 60
        assert report.failure is None
        assert report.ckpt_path is None
        assert report.unused_parameters == ()
        assert report.gradient_norm > 0
        assert report.largest.values.dtype == torch.float64


def test_unused_parameters_are_named_in_the_report() -> None:
    callback = spectrum()
    trainer(callback, max_steps=1).fit(hard.seeded(hard.WithUnused), loader())
    assert callback.reports[0].unused_parameters == ("network.never.weight", "network.never.bias")


def only_primitives(value: Any) -> bool:
    if isinstance(value, dict):
        return all(type(key) is str and only_primitives(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(only_primitives, value))
    return value is None or type(value) in (str, int, float, bool)


def test_a_report_as_a_dictionary_survives_json_and_a_safe_load() -> None:
    for report in full_reports(1):
        plain = report.to_dict()
        assert only_primitives(plain)
        # before the first batch there is no share of the training's time
        assert math.isnan(plain.pop("overhead")) == (report.global_step == 0)
        # without `overlaps=True` there are none
        assert plain["overlap"] is None
        assert json.loads(json.dumps(plain)) == plain
        buffer = io.BytesIO()
        torch.save(plain, buffer)
        buffer.seek(0)
        assert torch.load(buffer, weights_only=True) == plain
        assert plain["largest"]["values"] == report.largest.values.tolist()
        assert plain["density"]["weights"] == report.density.weights.tolist()


def test_a_failed_report_as_a_dictionary_has_no_numbers() -> None:
    callback = spectrum(on_error="warn", loss=Loss(parameters=["nothing"]))
    with pytest.warns(UserWarning, match="matches none"):
        trainer(callback, max_steps=1).fit(Classifier(), loader())
    plain = callback.reports[0].to_dict()
    assert only_primitives(plain)
    assert plain["largest"]["values"] == []
    assert plain["density"] is None
    assert plain["trace"] is None
    assert plain["failure"].startswith("RefusedError: `parameters` must match")


def test_the_same_seed_gives_the_same_report_and_another_one_other_probes() -> None:
    first, again, other = (full_reports(1, seed=seed)[0] for seed in (0, 0, 1))
    assert first.density.nodes.equal(again.density.nodes)
    assert first.largest.values.equal(again.largest.values)
    assert not first.density.nodes.equal(other.density.nodes)


def test_a_bfloat16_default_type_reaches_no_figure_and_no_number() -> None:
    module, data = Classifier(), loader()
    wanted, callback = (
        spectrum(trace=True, density=True, solver=Krylov(max_hvps=51)) for _ in range(2)
    )
    trainer(wanted, max_steps=1).fit(module, data)
    torch.set_default_dtype(torch.bfloat16)
    try:
        trainer(callback, max_steps=1).fit(module, data)
    finally:
        torch.set_default_dtype(torch.float32)
    assert callback.reports[0].largest.values.equal(wanted.reports[1].largest.values)
    assert callback.reports[0].failure is None


def test_one_parameter_is_measured_exactly() -> None:
    class Parabola(Classifier):
        def __init__(self) -> None:
            super().__init__()
            self.network = nn.Linear(1, 1, bias=False)

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return 1.5 * self.network.weight.square().sum()

    callback = spectrum(num_eigenvalues=5, trace=True, density=True)
    trainer(callback, max_steps=1).fit(Parabola(), loader())
    report = callback.reports[0]
    assert report.largest.values.tolist() == report.smallest.values.tolist() == [3.0]
    assert report.trace.value == 3.0
    assert report.trace.standard_error < 3e-5  # 64 roundings of float32
    assert report.density.nodes.tolist() == [3.0]
    assert report.num_hvps == 1
