"""Complex parameters are pairs of reals: their Hessian is that of the same real module."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from lightning_hessian import HessianSpectrum, Krylov, Loss, Perturbations, PyHessian, Surface
from lightning_hessian.errors import RefusedError
from lightning_hessian.loss import TrainingLoss
from tests.helpers.checkpoints import analyzed, numbers
from tests.helpers.difference import difference, losses_alone
from tests.helpers.fitting import loader, trainer
from tests.helpers.networks import Supervised, ask, measured
from tests.helpers.recording import differences, run, spectrum
from tests.helpers.spectral import (
    FourierOperator,
    RealSpectralConvolution,
    SpectralConvolution,
    in_reals,
    signals,
)

DATA = signals()
EXACT = {"loss": Loss(precision=64), "solver": Krylov(rtol=1e-6, max_hvps=200)}


def operator(dropout: float = 0.0) -> Supervised:
    torch.manual_seed(0)
    return Supervised(FourierOperator(dropout), F.mse_loss)


def linear() -> Supervised:
    torch.manual_seed(1)
    return Supervised(SpectralConvolution(1, 1), F.mse_loss)


def twin_hessian(module: Supervised) -> Tensor:
    """``(n, n)`` of the module of real numbers, in float64, all data in one batch."""
    twin = in_reals(module.network)
    inputs, targets = (tensor.double() for tensor in DATA.tensors)
    named = dict(twin.named_parameters())

    def loss(vector: Tensor) -> Tensor:
        parts = vector.split([p.numel() for p in named.values()])
        moved = {n: x.view_as(p) for (n, p), x in zip(named.items(), parts, strict=True)}
        return F.mse_loss(functional_call(twin, moved, (inputs,)), targets)

    flat = torch.cat([p.detach().reshape(-1) for p in named.values()])
    dense: Tensor = torch.autograd.functional.hessian(loss, flat)
    return dense


def all_products(loss: TrainingLoss) -> tuple[Tensor, Tensor]:
    gradient = loss.gradient().vector
    return gradient, loss.products.matmat(torch.eye(loss.size, dtype=torch.float64))


@pytest.mark.parametrize(
    "products", ["exact", pytest.param("finite_difference", marks=pytest.mark.slow)]
)
def test_gradient_and_hessian_are_those_of_the_same_real_module(products: Any) -> None:
    module = operator()
    gradient, hessian = ask(module, DATA, all_products, products=products)
    twin = in_reals(module.network)
    inputs, targets = (tensor.double() for tensor in DATA.tensors)
    first = torch.autograd.grad(F.mse_loss(twin(inputs), targets), tuple(twin.parameters()))
    torch.testing.assert_close(gradient, torch.cat([g.reshape(-1) for g in first]))
    expected = twin_hessian(module)
    # a step of 1e-10 of the weights leaves some 1e-6 of a gradient's digits
    limit = 1e-12 if products == "exact" else 1e-5
    assert float((hessian - expected).norm()) < limit * float(expected.norm())


def test_a_spectral_layer_alone_has_the_gram_matrix_of_cosines_and_sines() -> None:
    module = linear()
    report = measured(module, DATA, **EXACT)
    twin = RealSpectralConvolution(module.network.weight)
    columns = twin.design(DATA.tensors[0].double())[:, 0, :, 0].flatten(0, 1).flatten(1)
    exact = torch.linalg.eigvalsh(2 / len(columns) * columns.T @ columns)
    assert report.num_parameters == 8
    torch.testing.assert_close(report.largest.values, exact.flip(0)[:5])
    assert float(report.trace.value) == pytest.approx(float(exact.sum()))
    assert "complex-parameters" in [note.code for note in report.notes]


@pytest.mark.parametrize(
    "solver",
    [
        Krylov(rtol=1e-6),
        pytest.param(Krylov(precision="bfloat16"), marks=pytest.mark.slow),
    ],
)
def test_spectrum_blocks_and_overlaps_are_the_dense_ones(solver: Krylov) -> None:
    module = operator()
    report = measured(
        module,
        DATA,
        density=False,
        loss=Loss(precision=64),
        solver=solver,
        parameter_blocks=["network.spectral.*"],
        eigenvalues_per_block=1,
    )
    exact = twin_hessian(module)
    values = torch.linalg.eigvalsh(exact).flip(0)
    assert report.num_parameters == len(exact) == 3 + 48 + 8 + 3
    away = (report.largest.values - values[:5]).abs()
    assert bool((away <= report.largest.residual_bounds + 1e-6).all())
    assert report.trace.interval[0] - 1e-9 <= float(values.sum()) <= report.trace.interval[1] + 1e-9
    part = exact[3:51, 3:51]
    top = float(torch.linalg.eigvalsh(part)[-1])
    assert float(report.blocks[0].largest.values[0]) == pytest.approx(top, rel=1e-2)
    (note,) = (note for note in report.notes if note.code == "complex-parameters")
    assert "24 of the parameters' numbers are complex" in note


@pytest.mark.slow
def test_in_float32_it_is_the_same_to_its_digits() -> None:
    module = operator()
    report = measured(module, DATA, solver=Krylov(rtol=1e-6), trace=False, density=False)
    top = float(torch.linalg.eigvalsh(twin_hessian(module))[-1])
    assert float(report.largest.values[0]) == pytest.approx(top, rel=1e-5)


@pytest.mark.parametrize(
    ("mode", "loss", "derivatives"),
    [
        ("eval", Loss(precision=64), False),
        pytest.param("train", Loss(), True, marks=pytest.mark.slow),
    ],
)
def test_a_run_with_both_callbacks_is_bit_identical(
    mode: Any, loss: Loss, derivatives: bool, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {
        "module": partial(operator, 0.3),
        "data": lambda: loader(DATA),
        "max_epochs": 1,
        "limit_train_batches": 2,
        "limit_val_batches": 0,
        "logger": False,
    }
    without = run(tmp_path / "without", **settings)
    spectra = spectrum(
        mode=mode,
        trace=True,
        overlaps=True,
        loss=loss,
        solver=Krylov(max_hvps=12),
        custom_scalars=False,
    )
    losses = difference(derivatives=derivatives, loss=loss, custom_scalars=False)
    with_ours = run(tmp_path / "with", spectra, callbacks=lambda: [losses], **settings)
    assert differences(without, with_ours) == []
    for reports in (spectra.reports, losses.reports):
        assert len(reports) >= 2
        for report in reports:
            assert report.failure is None
            assert report.num_parameters == 62
            assert "complex-parameters" in [note.code for note in report.notes]


@pytest.mark.slow
def test_noise_surface_and_perturbations_take_complex_parameters() -> None:
    losses = difference(
        derivatives=True,
        surface=Surface(points=3),
        perturbations=Perturbations(sigmas=(0.1,), count=4, subspace=2),
        hessian_differences=1,
        solver=Krylov(max_hvps=16),
    )
    spectra = spectrum(mode="train", trace=True, density=True, solver=Krylov(max_hvps=30))
    trainer(losses, spectra, max_steps=1).fit(operator(0.3), loader(DATA))
    assert losses.reports[0].surface is not None
    assert all(report.failure is None for report in (*losses.reports, *spectra.reports))


def test_losses_of_samples_are_those_of_each_alone() -> None:
    module = operator()
    expected = losses_alone(Supervised(in_reals(module.network), F.mse_loss), DATA)
    callback = difference(loss=Loss(precision=64), num_samples="all")
    trainer(callback, max_steps=1).fit(module, loader(DATA))
    first = callback.reports[0]
    assert first.loss == pytest.approx(float(expected.mean()), rel=1e-9)
    assert first.num_samples == len(DATA)


@pytest.mark.slow
def test_checkpoints_of_it_are_analysed_to_the_same_numbers(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "num_samples": 12,
        "trace": False,
        "density": False,
        "edge": False,  # of a running optimiser alone
        "solver": Krylov(max_hvps=8),
        "on_error": "raise",
    }
    during = HessianSpectrum(at_checkpoints=True, every_n_epochs=None, max_overhead=None, **options)
    saver = pl.callbacks.ModelCheckpoint(dirpath=tmp_path, save_top_k=-1)
    trainer(during, saver, max_epochs=1, enable_checkpointing=True).fit(operator(), loader(DATA))
    after = analyzed(
        operator(), tmp_path, callback=HessianSpectrum(**options), dataloaders=loader(DATA)
    )
    wanted = [numbers(report) for report in during.reports if report.ckpt_path]
    assert [numbers(report) for report in after] == wanted
    assert len(wanted) == 1


def test_pyhessian_is_refused_with_the_way_out() -> None:
    with pytest.raises(RefusedError, match=r"multiplies real vectors only.*`solver=Krylov\(\)`"):
        measured(operator(), DATA, solver=PyHessian(eigenvalues_maxIter=2, trace_maxIter=2))
