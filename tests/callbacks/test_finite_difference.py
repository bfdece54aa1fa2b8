"""Reports by differences of gradients: calibrated, complete, and open about it."""

from __future__ import annotations

import json
import logging
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from lightning_hessian import Krylov, Loss, SpectrumReport
from tests.helpers import hard_modules as hard
from tests.helpers.fitting import Classifier, loader, trainer
from tests.helpers.networks import Supervised, dense_hessian, measured, mlp
from tests.helpers.seeds import part_of
from tests.helpers.spectrum import spectrum


def trained(activation: type[nn.Module], seed: int) -> tuple[Supervised, TensorDataset]:
    """A classifier of noisy linear classes, after forty steps of descent."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(192, 8, generator=generator)
    noise = 0.5 * torch.randn(192, 3, generator=generator)
    targets = (inputs @ torch.randn(8, 3, generator=generator) + noise).argmax(1)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = Supervised(mlp(8, 16, 12, 3, activation=activation))
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    for _ in range(40):
        optimizer.zero_grad()
        F.cross_entropy(module.network(inputs), targets).backward()
        optimizer.step()
    return module, TensorDataset(inputs, targets)


SEEDS = range(part_of(20))


@pytest.mark.sampled
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("precision", [None, 32])
@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU])
def test_the_true_eigenvalues_lie_within_the_stated_bounds(
    activation: type[nn.Module], precision: int | None, seed: int
) -> None:
    module, data = trained(activation, seed)
    true = torch.linalg.eigvalsh(dense_hessian(module, data)).flip(0)
    report = measured(
        module,
        data,
        batch_size=100,
        every_n_epochs=None,
        loss=Loss(products="finite_difference", precision=precision),
        num_eigenvalues=2,
        trace=False,
        density=False,
        solver=Krylov(max_hvps=48),
    )
    assert bool(((report.largest.values - true[:2]).abs() <= report.largest.residual_bounds).all())
    error = report.products.error / float(true[0])
    assert bool((report.largest.residual_bounds >= report.products.error).all())
    if precision is None:
        assert error < 1e-5
        assert bool(report.largest.converged.all())
    elif activation is nn.Tanh:
        assert error < 0.01  # the largest third derivatives, over a step of 3e-4
    elif error > 0.01:
        assert not bool(report.largest.converged[0])


def reentrant() -> Classifier:
    return hard.seeded(lambda: hard.Checkpointed(use_reentrant=True))


def test_a_report_says_how_its_products_were_made_and_keeps_it_in_primitives() -> None:
    callback = spectrum(trace=True, solver=Krylov(max_hvps=24))
    trainer(callback, max_steps=1).fit(reentrant(), loader())
    first, last = callback.reports
    for report in (first, last):
        assert report.products.method == "finite_difference"
        assert 0 < report.products.error < 1e-4
        assert sum("central differences of gradients" in note for note in report.notes) == 1
        assert any("Reason: the loss uses reentrant" in note for note in report.notes)
        again = SpectrumReport.from_dict(json.loads(json.dumps(report.to_dict())))
        assert (again.products.method, again.products.error) == (
            report.products.method,
            report.products.error,
        )
    assert first.num_hvps == 24  # not counting what the error was found by


@pytest.mark.slow
def test_the_traces_interval_holds_the_trace_of_the_products_error() -> None:
    """In float32 on ReLUs that error outweighs the trace itself."""
    module, data = trained(nn.ReLU, 0)
    trace = float(dense_hessian(module, data).diagonal().sum())
    reports = [
        measured(
            module,
            data,
            batch_size=192,
            every_n_epochs=None,
            density=False,
            solver=Krylov(max_hvps=48),
            loss=Loss(products=products, precision=precision),
        )
        for products, precision in (
            ("exact", 64),
            ("finite_difference", None),
            ("finite_difference", 32),
        )
    ]
    exact, fine, rough = reports
    assert math.isclose(fine.trace.value, exact.trace.value, rel_tol=1e-5)
    assert math.isclose(fine.trace.standard_error, exact.trace.standard_error, rel_tol=1e-2)
    assert rough.trace.standard_error > 3 * exact.trace.standard_error
    lower, upper = rough.trace.interval
    assert lower <= trace <= upper


def test_differences_in_float32_are_held_against_float64_in_every_report() -> None:
    """Or their error would be a lower bound only, as kinks are not seen from within float32."""
    module, data = trained(nn.ReLU, 0)
    callback = spectrum(loss=Loss(products="finite_difference", precision=32))
    trainer(callback).fit(module, loader(data, batch_size=192))
    for report in callback.reports:
        assert any("(roundings of float32), off by about" in note for note in report.notes)
        assert not any("lower bound" in note for note in report.notes)


def test_exact_products_have_no_error() -> None:
    callback = spectrum()
    trainer(callback).fit(Classifier(), loader())
    assert [(r.products.method, r.products.error) for r in callback.reports] == [("exact", 0.0)] * 2


def test_the_announced_cost_is_that_of_differences(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="lightning.pytorch"):
        trainer(spectrum(loss=Loss(products="finite_difference"))).fit(Classifier(), loader())
    (line,) = [r.getMessage() for r in caplog.records if "A gradient over them" in r.getMessage()]
    words = line.split()
    seconds = float(words[words.index("takes") + 1])
    low, high = float(words[words.index("about") + 1]), float(words[words.index("to") + 1])
    # two gradients a product, at most 8 of them; printed to two digits
    assert math.isclose(low / seconds, 16, rel_tol=0.1)
    assert math.isclose(high / seconds, 24, rel_tol=0.1)
