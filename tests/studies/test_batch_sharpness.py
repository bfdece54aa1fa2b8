"""Batch sharpness against gradients and Hessians by hand, and the lines beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torch.optim import SGD, Adam, RMSprop

from lightning_hessian.data import StepBatches
from lightning_hessian.errors import RefusedError
from lightning_hessian.hvp import DifferenceProducts, along_gradients, open_loss
from lightning_hessian.loss import Trained
from lightning_hessian.records import BatchSharpness, Estimate, MinibatchLines
from lightning_hessian.statistics import mean_of_ratios, ratio_of_means
from lightning_hessian.studies import batch_sharpness, minibatch_lines
from tests.helpers.least_squares import LeastSquares

PROBLEM = LeastSquares.drawn(23, (2.0, 1.0, 0.3), seed=0, noise=0.5)
WEIGHTS = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)
UNEQUAL = [range(8), range(8, 15), range(15, 23), range(3)]


def test_both_means_are_those_of_linear_regression_each_batch_alike() -> None:
    forms, squares = PROBLEM.along_gradients(UNEQUAL, WEIGHTS)
    with PROBLEM.opened(UNEQUAL, WEIGHTS) as loss:
        found, notes = batch_sharpness(loss)
    assert found is not None
    ratios = forms / squares
    # 1e-12 are thousands of roundings of float64
    assert found.mean_of_ratios.value == pytest.approx(float(ratios.mean()), rel=1e-12)
    assert found.mean_of_ratios.standard_error == pytest.approx(float(ratios.std() / 2), rel=1e-12)
    assert found.ratio_of_means.value == pytest.approx(
        float(forms.sum() / squares.sum()), rel=1e-12
    )
    assert (found.num_steps, found.step_size, found.lines) == (4, 8, None)
    # a gradient, and a product whose graph is at hand, of all that the batches hold
    assert found.cost == 3 * (4 * 8)
    assert [note.code for note in notes] == ["batch-sharpness-lines-not-known"]
    assert "there is no optimiser outside of a fit" in notes[0]


def test_of_one_batch_both_means_are_the_curvature_along_the_gradient() -> None:
    forms, squares = PROBLEM.along_gradients([range(23)], WEIGHTS)
    with PROBLEM.opened([range(23)], WEIGHTS) as loss:
        loss.step_batches = StepBatches(
            frozen=loss.sample, per_process=1, per_step=1, step_size=23, share=1.0
        )
        found, _ = batch_sharpness(loss)
    assert found is not None
    exact = Estimate(value=pytest.approx(float(forms / squares), rel=1e-12), standard_error=0.0)
    assert (found.mean_of_ratios, found.ratio_of_means) == (exact, exact)


@pytest.mark.parametrize("per_process", [2, 4])
def test_a_step_of_several_batches_is_their_mean_as_it_stands(per_process: int) -> None:
    # by the mean of batch means, and not of samples: so gradients are accumulated
    with PROBLEM.opened(UNEQUAL, WEIGHTS) as loss:
        loss.step_batches = StepBatches(
            frozen=loss.sample, per_process=per_process, per_step=per_process, step_size=16
        )
        table = along_gradients(loss)
        found, _ = batch_sharpness(loss)
    parts = [PROBLEM.derivatives(rows, WEIGHTS) for rows in UNEQUAL]
    for step in range(4 // per_process):
        own = parts[per_process * step :][:per_process]
        gradient, hessian = (sum(each) / per_process for each in zip(*own, strict=True))
        assert isinstance(gradient, Tensor)
        assert isinstance(hessian, Tensor)
        assert float(table.squares[step]) == pytest.approx(float(gradient @ gradient), rel=1e-12)
        form = gradient @ hessian @ gradient
        assert float(table.forms[step]) == pytest.approx(float(form), rel=1e-12)
    assert found is not None
    # the gradient first, and then each graph anew
    assert found.cost == 4 * 16 * (4 // per_process)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_networks_have_their_dense_curvature_along_the_gradient(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(2)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    batches = [torch.randn(5, 3, dtype=torch.float64, generator=generator) for _ in range(3)]

    def loss_of(inputs: Tensor, _: int) -> Tensor:
        return network(inputs.to(network[0].weight.dtype)).square().mean()  # type: ignore[union-attr]

    exact = []
    for inputs in batches:
        first = torch.autograd.grad(
            loss_of(inputs, 0), tuple(network.parameters()), create_graph=True
        )
        flat = torch.cat([each.reshape(-1) for each in first])
        rows = [
            torch.cat(
                [
                    g.reshape(-1)
                    for g in torch.autograd.grad(
                        entry,
                        tuple(network.parameters()),
                        retain_graph=True,
                        materialize_grads=True,
                        allow_unused=True,
                    )
                ]
            )
            for entry in flat
        ]
        gradient = flat.detach()
        exact.append((gradient @ torch.stack(rows) @ gradient, gradient @ gradient))
    with open_loss(network, loss_of, batches, dtype=dtype) as loss:
        table = along_gradients(loss)
    # 34 parameters: a hundred roundings
    rtol = 100 * torch.finfo(dtype).eps
    for step, (form, square) in enumerate(exact):
        assert float(table.forms[step]) == pytest.approx(float(form), rel=rtol)
        assert float(table.squares[step]) == pytest.approx(float(square), rel=rtol)


def skipping(line: nn.Linear, x: Tensor) -> Tensor | None:
    """No loss of what is negative, and no slope at zero."""
    return None if float(x.sum()) < 0 else line(x).square().mean() / 2


def measured(*inputs: float) -> tuple[BatchSharpness | None, list[str]]:
    """Of batches of one sample each, of a line through the origin at slope 1: ratios ``x^2``."""
    line = nn.Linear(1, 1, bias=False)
    line.weight.data.fill_(1.0)
    batches = [torch.tensor([[x]]) for x in inputs]
    with open_loss(line, lambda x, _: skipping(line, x), batches) as loss:
        found, notes = batch_sharpness(loss)
    return found, [str(note) for note in notes]


def test_batches_that_training_would_skip_are_left_out() -> None:
    found, _ = measured(1.0, -3.0, 2.0)
    assert found is not None
    assert (found.num_steps, found.mean_of_ratios.value) == (2, 2.5)


def test_a_batch_without_gradient_has_no_direction_and_counts_in_the_ratio_of_means_alone() -> None:
    found, notes = measured(1.0, 0.0, 2.0)
    assert found is not None
    assert found.num_steps == 3
    assert found.mean_of_ratios.value == 2.5
    # of x^6 over x^4
    assert found.ratio_of_means.value == pytest.approx(65 / 17)
    assert any("1 of 3 steps have no gradient" in note for note in notes)


def test_what_cannot_be_measured_is_a_note() -> None:
    assert measured(0.0, 0.0) == (
        None,
        ["Batch sharpness was not measured: no step has a gradient to look along."],
    )
    found, (note,) = measured(1e14, 1.0)
    assert found is None
    assert "the curvature of a step along its gradient is not finite" in note


def test_differences_of_gradients_are_refused() -> None:
    line = nn.Linear(1, 1)
    inputs = [torch.ones(2, 1)]
    with open_loss(
        line, lambda x, _: line(x).square().mean(), inputs, products=DifferenceProducts
    ) as loss:
        assert isinstance(loss.products, DifferenceProducts)
        loss.products.calibrate(generator=torch.Generator().manual_seed(0), reason="a test.")
        with pytest.raises(
            RefusedError, match="needs exact products, but those of this loss are d"
        ):
            along_gradients(loss)
        found, (note,) = batch_sharpness(loss)
    assert found is None
    assert note.code == "batch-sharpness-not-measured"


REPETITIONS = 400


def test_errors_over_an_epoch_hold_where_those_of_a_census_would_not() -> None:
    # all samples in one partition of many: other partitions have other means
    problem = LeastSquares.drawn(60, (2.0, 1.0, 0.5, 0.3), seed=4, noise=1.0)
    weights, generator = torch.zeros(4, dtype=torch.float64), torch.Generator().manual_seed(0)
    drawn = [_partition(problem, weights, 60, 5, generator) for _ in range(REPETITIONS)]
    within = 4 * math.sqrt(0.95 * 0.05 / REPETITIONS)
    for mean in (mean_of_ratios, ratio_of_means):
        found = [mean(*each) for each in drawn]
        truth = sum(value for value, _ in found) / REPETITIONS
        spread = math.sqrt(sum((value - truth) ** 2 for value, _ in found) / REPETITIONS)
        assert spread > 0.1 * sum(error for _, error in found) / REPETITIONS
        limit = stats.t.ppf(0.975, 11)
        covered = sum(abs(value - truth) <= limit * error for value, error in found) / REPETITIONS
        assert covered > 0.95 - within


def _partition(
    problem: LeastSquares, weights: Tensor, count: int, size: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    order = torch.randperm(count, generator=generator).tolist()
    batches: Sequence[Sequence[int]] = [order[i : i + size] for i in range(0, count, size)]
    return problem.along_gradients(batches, weights)


@pytest.mark.parametrize(
    ("options", "small", "large"),
    [
        ({}, 20.0, 20.0),
        ({"momentum": 0.9}, 2.0, 38.0),
        # dampening is a lower rate, and has no meaning without momentum
        ({"momentum": 0.5, "dampening": 0.6}, 25.0, 75.0),
        ({"dampening": 0.6}, 20.0, 20.0),
        ({"momentum": 0.9, "weight_decay": 0.5}, 1.5, 37.5),
    ],
)
def test_the_lines_are_those_of_momentum(
    options: dict[str, float], small: float, large: float
) -> None:
    weight = nn.Parameter(torch.ones(3))
    lines = minibatch_lines(SGD([weight], lr=0.1, **options), [weight])  # type: ignore[arg-type]
    assert (lines.small, lines.large) == pytest.approx((small, large))


def test_at_a_rate_of_zero_the_lines_are_infinite() -> None:
    weight = nn.Parameter(torch.ones(3))
    lines = minibatch_lines(SGD([weight], lr=0.0, momentum=0.5), [weight])
    assert (lines.small, lines.large) == (math.inf, math.inf)


WEIGHT, OTHER = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2))


@pytest.mark.parametrize(
    ("optimizer", "words"),
    [
        (Adam([WEIGHT]), "they are known for SGD, got Adam"),
        (RMSprop([WEIGHT]), "they are known for SGD, got RMSprop"),
        (SGD([WEIGHT], lr=0.1, momentum=0.9, nesterov=True), "not known for Nesterov's momentum"),
        (SGD([WEIGHT, OTHER], lr=0.1), "steps 1 tensors that are not measured. Leave `parameters`"),
        (SGD([WEIGHT], lr=0.1, maximize=True), "of one learning rate, momentum and weight decay"),
    ],
)
def test_optimisers_without_known_lines_are_refused(optimizer: Any, words: str) -> None:
    with pytest.raises(RefusedError, match=words):
        minibatch_lines(optimizer, [WEIGHT])


def test_groups_of_two_rates_have_no_lines() -> None:
    groups = [{"params": [WEIGHT], "lr": 0.1}, {"params": [OTHER], "lr": 0.2}]
    with pytest.raises(RefusedError, match="they are of one learning rate, momentum and weight"):
        minibatch_lines(SGD(groups, lr=0.1), [WEIGHT, OTHER])
    # a frozen one is stepped by none
    OTHER.requires_grad_(False)
    try:
        assert minibatch_lines(SGD(groups, lr=0.1), [WEIGHT]).small == 20
    finally:
        OTHER.requires_grad_(True)


def test_the_verdict_says_both_means_and_lines_and_that_they_are_a_heuristic() -> None:
    found = BatchSharpness(
        mean_of_ratios=Estimate(value=1.5, standard_error=0.25),
        ratio_of_means=Estimate(value=2.0),
        num_steps=12,
        step_size=8,
    )
    means = (
        "Batch sharpness over 12 steps of 8 samples: 1.5 +- 0.25 as the mean of ratios, "
        "2 as the ratio of means"
    )
    assert found.verdict == f"{means}."
    plain = MinibatchLines(small=20.0, large=20.0, optimizer="SGD, learning rate 0.1")
    assert plain.words == "2 / lr = 20 (SGD, learning rate 0.1)"
    heavy = MinibatchLines(small=2.0, large=38.0, optimizer="SGD")
    with_lines = BatchSharpness(
        mean_of_ratios=found.mean_of_ratios,
        ratio_of_means=found.ratio_of_means,
        lines=heavy,
        num_steps=1,
        step_size=8,
    )
    assert with_lines.verdict.startswith("Batch sharpness over 1 step of 8 samples")
    assert "beside 2 (1 - b) / lr = 2 and 2 (1 + b) / lr = 38 (SGD). A heuristic:" in (
        with_lines.verdict
    )
    assert "neither mean has a threshold of stability" in with_lines.verdict


def test_lines_are_read_off_the_fits_optimiser() -> None:
    with PROBLEM.opened(UNEQUAL, WEIGHTS) as loss:
        (weight,) = loss.parameters.tensors
        loss.trained = Trained([SGD([weight], lr=0.5)], {"weight": weight})
        found, notes = batch_sharpness(loss)
    assert found is not None
    assert found.lines == MinibatchLines(small=4.0, large=4.0, optimizer="SGD, learning rate 0.5")
    assert notes == ()
