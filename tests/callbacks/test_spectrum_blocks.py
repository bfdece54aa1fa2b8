"""Traces and eigenvalues of blocks, and overlaps of eigenvectors, in real fits."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import BaseFinetuning
from torch import Tensor, nn

from lightning_hessian import HessianSpectrum, Krylov, Loss, SpectrumReport
from lightning_hessian.records import EigenvectorOverlap
from lightning_hessian.show import scalars
from tests.helpers.fitting import classification_data, loader, trainer
from tests.helpers.networks import Supervised, dense_hessian, measured, mlp

DATA = classification_data()
MODULES = {"network.0": slice(0, 25), "network.2": slice(25, 43)}


@pytest.fixture(scope="module")
def module() -> Supervised:
    torch.manual_seed(0)
    return Supervised(mlp(4, 5, 3, activation=nn.Tanh), lr=0.5)


@pytest.fixture(scope="module")
def hessian(module: Supervised) -> Tensor:
    """43 parameters, 26 samples."""
    return dense_hessian(module, DATA)


@pytest.mark.sampled
@pytest.mark.parametrize("max_hvps", [200, 24])
def test_blocks_of_modules_have_the_dense_traces_and_eigenvalues(
    module: Supervised, hessian: Tensor, max_hvps: int
) -> None:
    options: dict[str, Any] = {
        "loss": Loss(precision=64),
        "solver": Krylov(rtol=1e-8, max_hvps=max_hvps),
    }
    plain = measured(module, DATA, **options)
    report = measured(module, DATA, parameter_blocks="modules", eigenvalues_per_block=3, **options)
    assert [block.name for block in report.blocks] == list(MODULES)
    for trace in (report.trace, plain.trace):
        low, high = trace.interval
        assert low - 1e-10 <= float(hessian.trace()) <= high + 1e-10
    assert report.num_hvps > plain.num_hvps
    for row, part in enumerate(MODULES.values()):
        block = hessian[part, part]
        error = float(report.blocks[row].trace.standard_error)
        away = float(report.blocks[row].trace.value - block.trace())
        exact = torch.linalg.eigvalsh(block).flip(0)[:3]
        bounds = report.blocks[row].largest.residual_bounds
        distance = (report.blocks[row].largest.values[:, None] - torch.linalg.eigvalsh(block)).abs()
        assert bool((distance.min(dim=1).values <= bounds + 1e-12).all())
        if max_hvps == 200:
            assert abs(away) < 1e-10
            torch.testing.assert_close(
                report.blocks[row].largest.values, exact, rtol=1e-7, atol=1e-9
            )
        else:
            assert abs(away) < 4 * error
            assert error > 0


def test_blocks_of_patterns_overlap_and_small_ones_have_fewer_eigenvalues(
    module: Supervised, hessian: Tensor
) -> None:
    patterns = ["*.bias", "network.2.*", "network.2.bias"]
    report = measured(
        module,
        DATA,
        parameter_blocks=patterns,
        eigenvalues_per_block=4,
        loss=Loss(precision=64),
        solver=Krylov(rtol=1e-8),
    )
    places = [
        torch.tensor([*range(20, 25), *range(40, 43)]),
        torch.arange(25, 43),
        torch.arange(40, 43),
    ]
    assert [block.name for block in report.blocks] == patterns
    for row, positions in enumerate(places):
        block = hessian[positions][:, positions]
        assert float(report.blocks[row].trace.value) == pytest.approx(
            float(block.trace()), abs=1e-10
        )
        exact = torch.linalg.eigvalsh(block).flip(0)[:4]
        found = report.blocks[row].largest.values
        torch.testing.assert_close(found, exact, rtol=1e-7, atol=1e-9)
    found = scalars(report)
    assert found["trace/*.bias"] == float(report.blocks[0].trace.value)
    assert "trace/network.2.*_standard_error" in found
    assert found["eig_3/network.2.bias"] == float(report.blocks[2].largest.values[2])
    assert "eig_4/network.2.bias" not in found


def test_a_block_that_matches_nothing_is_a_failure_with_its_reason(module: Supervised) -> None:
    callback = HessianSpectrum(parameter_blocks=["head.*"], max_overhead=None)
    with pytest.warns(UserWarning, match="`parameter_blocks` must match selected parameters"):
        trainer(callback, max_steps=1).fit(copy.deepcopy(module), loader(DATA))
    assert "'head.*' matches none. Names look like network.0.weight" in callback.reports[0].failure


class OfWhatIsTrained(Supervised):
    """Its optimiser has only the parameters that are trained."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=0.05)


class Unfreezes(BaseFinetuning):
    """The first layer is trained from the second epoch on, as finetuning callbacks do it."""

    def freeze_before_training(self, pl_module: Any) -> None:
        self.freeze(pl_module.network[0])

    def finetune_function(self, pl_module: Any, epoch: int, optimizer: Any) -> None:
        if epoch == 1:
            self.unfreeze_and_add_param_group(pl_module.network[0], optimizer)


def finetuned(module: Supervised, **options: Any) -> list[SpectrumReport]:
    """Reports at the start and after each of two epochs, the first layer frozen in the first."""
    callback = HessianSpectrum(
        max_overhead=None,
        num_samples="all",
        solver=Krylov(rtol=1e-8),
        **{"loss": Loss(precision=64)} | options,
    )
    own = OfWhatIsTrained(copy.deepcopy(module.network))
    trainer(Unfreezes(), callback, max_epochs=2).fit(own, loader(DATA))
    return callback.reports


def test_a_block_that_is_frozen_at_first_costs_no_other_number(
    module: Supervised, hessian: Tensor
) -> None:
    reports = finetuned(
        module, parameter_blocks=["network.0.*", "network.2.*"], eigenvalues_per_block=1
    )
    assert [report.failure for report in reports] == [None] * len(reports)
    first, last = reports[0], reports[-1]
    # of the second layer alone, as long as it is the only one that is trained
    head = hessian[25:, 25:]
    exact = torch.linalg.eigvalsh(head).flip(0)
    torch.testing.assert_close(first.largest.values, exact[:5], rtol=1e-7, atol=1e-9)
    assert [block.name for block in first.blocks] == ["network.2.*"]
    assert first.blocks[0].trace.value == pytest.approx(float(head.trace()), abs=1e-10)
    assert first.num_parameters == 18
    (note,) = [note for note in first.notes if note.code == "block-not-trained"]
    assert "'network.0.*' has no numbers, as none of its parameters is trained at present" in note
    assert [block.name for block in last.blocks] == ["network.0.*", "network.2.*"]
    assert last.num_parameters == 43
    assert all(note.code != "block-not-trained" for note in last.notes)


def test_parameters_that_are_all_frozen_at_first_are_measured_once_they_are_not(
    module: Supervised,
) -> None:
    with pytest.warns(UserWarning, match="'network.0.*' matches none"):
        reports = finetuned(module, loss=Loss(precision=64, parameters=["network.0.*"]))
    assert [report.failure is None for report in reports] == [False, True]
    assert reports[1].num_parameters == 25


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


@pytest.mark.sampled
@pytest.mark.parametrize("sweep_precision", ["full", "bfloat16"])
def test_overlaps_are_those_of_the_dense_eigenvectors(
    module: Supervised, sweep_precision: str
) -> None:
    dense = Hessians()
    callback = HessianSpectrum(
        num_eigenvalues=3,
        overlaps=True,
        max_overhead=None,
        num_samples="all",
        on_error="raise",
        loss=Loss(precision=64),
        solver=Krylov(rtol=1e-6 if sweep_precision == "full" else 1e-2, precision=sweep_precision),
    )
    trainer(callback, dense, max_epochs=3).fit(copy.deepcopy(module), loader(DATA))
    first, *later = callback.reports
    assert first.overlap is None
    assert len(later) == 3
    # vectors of refined eigenvalues are off by the rounding of 8 bits over the gaps
    limit = 1e-4 if sweep_precision == "full" else 0.05
    for index, report in enumerate(later):
        before, now = (leading(dense.found[index + k], 3) for k in (0, 1))
        cosines = (before.T @ now).abs()
        partners = report.overlap.partners.long()
        assert sorted(partners.tolist()) == [0, 1, 2]
        wanted = cosines[partners, torch.arange(3)]
        torch.testing.assert_close(report.overlap.cosines, wanted, rtol=0, atol=limit)
        share = float(cosines.square().sum()) / 3
        assert report.overlap.subspace == pytest.approx(share, abs=limit)
        found = scalars(report)
        assert found["overlap_1"] == float(report.overlap.cosines[0])
        assert found["subspace_overlap"] == report.overlap.subspace


def test_overlaps_without_a_partner_come_back() -> None:
    overlap = EigenvectorOverlap(
        cosines=torch.tensor([0.5, math.nan]).double(),
        partners=torch.tensor([1, -1]),
        subspace=0.25,
    )
    report = SpectrumReport(overlap=overlap)
    again = SpectrumReport.from_dict(json.loads(json.dumps(report.to_dict())))
    assert again.overlap.partners.tolist() == [1, -1]
    assert again.overlap.cosines[0] == 0.5
    assert bool(again.overlap.cosines[1].isnan())
    assert again.sampling is None
    # and the one without is no scalar
    found = scalars(again)
    assert {tag for tag in found if "overlap" in tag} == {"overlap_1", "subspace_overlap"}


def test_reports_of_too_few_products_say_that_blocks_are_missing(module: Supervised) -> None:
    callback = HessianSpectrum(parameter_blocks="modules", on_error="raise")
    trainer(callback, max_epochs=2).fit(copy.deepcopy(module), loader())
    report = callback.reports[-1]
    assert report.density is None
    assert report.blocks == ()
    (note,) = (note for note in report.notes if note.code == "blocks-not-measured")
    assert "give max_overhead=None, or train longer" in note
    assert not note.qualifies
