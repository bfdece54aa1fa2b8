"""The edge of each optimiser, against real steps of it on quadratics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, NAdam, Optimizer, RMSprop

from lightning_hessian.errors import RefusedError
from lightning_hessian.linalg import DenseOperator
from lightning_hessian.loss import Trained, TrainingLoss
from lightning_hessian.options import SpectrumOptions
from lightning_hessian.studies import SpectrumStudy, StabilityEdge, stability_edge
from lightning_hessian.studies.stability_margin import PreconditionedHessian
from tests.helpers.least_squares import LeastSquares

STILL = 1 - 1e-15
"""Of a second moment, which stands still by it."""
SETTINGS: list[tuple[type[Optimizer], dict[str, Any]]] = [
    (SGD, {}),
    (SGD, {"weight_decay": 0.5}),
    (SGD, {"dampening": 0.5}),
    (SGD, {"momentum": 0.9}),
    (SGD, {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.2}),
    (SGD, {"momentum": 0.5, "nesterov": True}),
    (SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.7}),
    (SGD, {"momentum": 0.9, "maximize": True}),
    (RMSprop, {"alpha": STILL}),
    (RMSprop, {"alpha": STILL, "momentum": 0.9, "weight_decay": 0.3, "eps": 1e-2}),
    (RMSprop, {"alpha": STILL, "centered": True, "momentum": 0.5}),
    (Adam, {"betas": (0.9, STILL)}),
    (Adam, {"betas": (0.5, STILL), "weight_decay": 0.4, "eps": 0.1}),
    (Adam, {"betas": (0.9, STILL), "amsgrad": True}),
    (Adam, {"betas": (0.9, STILL), "maximize": True}),
    (AdamW, {"betas": (0.9, STILL), "weight_decay": 2.0}),
    (AdamW, {"betas": (0.0, STILL), "weight_decay": 0.0, "amsgrad": True}),
    (NAdam, {"betas": (0.9, STILL)}),
    (NAdam, {"betas": (0.9, STILL), "weight_decay": 0.3}),
    (NAdam, {"betas": (0.5, STILL), "weight_decay": 1.0, "decoupled_weight_decay": True}),
]


def made(
    kind: type[Optimizer], options: dict[str, Any], step: float, *, lasts: float = 0
) -> tuple[Optimizer, nn.Parameter]:
    """An optimiser in the middle of a training, with second moments of many sizes.

    Corrected for the bias of their means they are these after so many steps more, as they are if
    later gradients are as large as earlier ones.
    """
    weight = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    optimizer = kind([weight], lr=0.1, **options)  # type: ignore[call-arg]
    moments = torch.tensor([0.3, 1.0, 7.0], dtype=torch.float64)
    state: dict[str, Any] = {"step": torch.tensor(step)}
    zeros = torch.zeros_like(moments)
    if kind is RMSprop:
        state |= {"square_avg": moments.clone(), "grad_avg": 0.2 * moments.sqrt()}
        state |= {"momentum_buffer": zeros.clone()} if options.get("momentum") else {}
    elif kind is SGD:
        state = {"momentum_buffer": zeros.clone()} if options.get("momentum") else {}
    else:
        correction = 1 - options["betas"][1] ** (step + lasts)
        state |= {"exp_avg": zeros.clone(), "exp_avg_sq": moments * correction}
        if kind is NAdam:
            state["mu_product"] = torch.tensor(0.01, dtype=torch.float64)
        if options.get("amsgrad"):
            state["max_exp_avg_sq"] = 2 * moments * correction
    optimizer.state[weight] = state
    return optimizer, weight


MEMORY = {SGD: "momentum_buffer", RMSprop: "momentum_buffer"}


def spectral_radius(
    kind: type[Optimizer], options: dict[str, Any], hessian: Tensor, step: float
) -> float:
    """Of one real step as a map of weights and momenta, which is linear."""
    columns = []
    for column in range(6):
        optimizer, weight = made(kind, options, step, lasts=1)
        state, name = optimizer.state[weight], MEMORY.get(kind, "exp_avg")
        has_memory = name in state
        tiny = 1e-6
        start = torch.zeros(6, dtype=torch.float64)
        start[column] = tiny
        weight.data = start[:3].clone()
        if has_memory:
            state[name] = start[3:].clone()
        weight.grad = hessian @ weight.data
        optimizer.step()
        memory = state[name] if has_memory else torch.zeros_like(weight)
        after = torch.cat([weight.data, memory.data])
        columns.append(after / tiny)
    return float(np.abs(np.linalg.eigvals(torch.stack(columns, 1).numpy())).max())


def largest(edge: StabilityEdge, hessian: Tensor) -> float:
    root = edge.steps.sqrt()
    whole = edge.sign * hessian + edge.decay.diag()
    return float(torch.linalg.eigvalsh(root[:, None] * whole * root).max())


def quadratic(sign: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    return sign * (root @ root.T)


@pytest.mark.parametrize(
    ("kind", "options"), SETTINGS, ids=[f"{k.__name__}-{i}" for i, (k, _) in enumerate(SETTINGS)]
)
@pytest.mark.parametrize("step", [7.0, 40_000.0])
def test_steps_diverge_where_the_formula_says(
    kind: type[Optimizer], options: dict[str, Any], step: float
) -> None:
    hessian = quadratic(-1 if options.get("maximize") else 1)
    optimizer, weight = made(kind, options, step)
    edge = stability_edge(optimizer, [weight])
    low, high = 0.0, 1.0
    while largest(edge, high * hessian) < edge.threshold:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        is_below = largest(edge, middle * hessian) < edge.threshold
        low, high = (middle, high) if is_below else (low, middle)
    assert spectral_radius(kind, options, low * (1 - 1e-6) * hessian, step) < 1
    assert spectral_radius(kind, options, low * (1 + 1e-6) * hessian, step) > 1


def test_groups_with_rates_of_their_own_have_one_edge() -> None:
    """Not the largest rate times the largest eigenvalue."""
    hessian = quadratic()
    weights = [nn.Parameter(torch.zeros(n, dtype=torch.float64)) for n in (1, 2)]

    def stepped(scale: float, column: int) -> Tensor:
        groups = [{"params": [w], "lr": lr} for w, lr in zip(weights, (0.01, 0.3), strict=True)]
        optimizer = SGD(groups)
        start = torch.eye(3, dtype=torch.float64)[column]
        gradient = scale * hessian @ start
        for weight, part in zip(weights, (slice(0, 1), slice(1, 3)), strict=True):
            weight.data, weight.grad = start[part].clone(), gradient[part]
        optimizer.step()
        return torch.cat([weight.data for weight in weights])

    def radius(scale: float) -> float:
        step = torch.stack([stepped(scale, column) for column in range(3)], 1)
        return float(np.abs(np.linalg.eigvals(step.numpy())).max())

    groups = [{"params": [w], "lr": lr} for w, lr in zip(weights, (0.01, 0.3), strict=True)]
    edge = stability_edge(SGD(groups), weights)
    assert not edge.is_uniform
    critical = edge.threshold / largest(edge, hessian)
    assert radius(critical) == pytest.approx(1, abs=1e-12)
    assert radius(1.001 * critical) > 1
    naive = 2 / 0.3 / float(torch.linalg.eigvalsh(hessian).max())
    assert abs(naive / critical - 1) > 0.02


def test_a_single_rate_scales_the_eigenvalues_of_the_hessian() -> None:
    weight = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    edge = stability_edge(SGD([weight], lr=0.2, weight_decay=0.1), [weight])
    assert edge.is_uniform
    hessian = quadratic()
    wanted = 0.2 * (float(torch.linalg.eigvalsh(hessian).max()) + 0.1)
    assert largest(edge, hessian) == pytest.approx(wanted, rel=1e-12)
    assert edge.optimizer == "SGD, learning rate 0.2"


def test_one_step_size_takes_no_memory_of_the_parameters() -> None:
    weights = [torch.nn.Parameter(torch.ones(1000)), torch.nn.Parameter(torch.ones(2, 3))]
    edge = stability_edge(torch.optim.SGD(weights, lr=0.1, weight_decay=0.01), weights)
    assert edge.steps.shape == edge.decay.shape == (1006,)
    assert edge.steps.untyped_storage().nbytes() <= 16
    assert edge.is_uniform
    groups = [{"params": weights[:1], "lr": 0.1}, {"params": weights[1:], "lr": 0.2}]
    assert not stability_edge(torch.optim.SGD(groups), weights).is_uniform


def test_the_option_is_a_flag_or_auto() -> None:
    with pytest.raises(ValueError, match="`edge` must be True, False or 'auto', got 'free'"):
        SpectrumOptions(edge="free")  # type: ignore[arg-type]


def test_what_is_not_stepped_has_no_step() -> None:
    trained, frozen, foreign = (nn.Parameter(torch.ones(2)) for _ in range(3))
    optimizer = Adam([trained, frozen], lr=0.1)
    frozen.requires_grad_(False)
    trained.sum().backward()
    optimizer.step()
    edge = stability_edge(optimizer, [frozen, trained, foreign])
    assert edge.steps.count_nonzero() == 2
    assert (edge.steps[2:4] > 0).all()
    assert edge.optimizer == "Adam, learning rate 0.1, momentum 0.9"


def test_complex_parameters_are_pairs() -> None:
    weight = nn.Parameter(torch.ones(2, dtype=torch.complex64))
    optimizer = Adam([weight], lr=0.1)
    (weight * torch.tensor([1.0, 2.0j])).abs().square().sum().backward()
    optimizer.step()
    second = optimizer.state[weight]["exp_avg_sq"]
    moments = torch.view_as_real(second).flatten().double() / 1e-3
    wanted = 0.1 * 0.1 / (1 - 0.9**2) / (moments.sqrt() + 1e-8)
    edge = stability_edge(optimizer, [weight])
    torch.testing.assert_close(edge.steps, wanted, rtol=1e-5, atol=0)


def test_what_has_no_edge_is_refused() -> None:
    one, two = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    with pytest.raises(RefusedError, match=r"known for SGD, .*, NAdam, got Adagrad"):
        stability_edge(torch.optim.Adagrad([one]), [one])
    with pytest.raises(RefusedError, match="Adam are not defined before its first step"):
        stability_edge(Adam([one]), [one])
    with pytest.raises(RefusedError, match="none of the measured parameters is stepped by the SGD"):
        stability_edge(SGD([one]), [two])
    groups = [{"params": [one], "momentum": 0.9}, {"params": [two], "momentum": 0.5}]
    with pytest.raises(RefusedError, match=r"no common edge of stability: .* are 3 to 3\.8"):
        stability_edge(SGD(groups, lr=0.1), [one, two])
    groups = [{"params": [one], "maximize": True}, {"params": [two]}]
    with pytest.raises(RefusedError, match="groups that ascend and groups that descend"):
        stability_edge(SGD(groups, lr=0.1), [one, two])


@contextmanager
def stepped_by_adam() -> Iterator[TrainingLoss]:
    """Thirty directions of nearly one curvature, each of which Adam has given a step of its own."""
    problem = LeastSquares.drawn(60, [1.0] * 30, seed=0, noise=0.0)
    weights = torch.zeros(30, dtype=torch.float64)
    with problem.opened([range(60)], weights) as loss:
        (weight,) = (nn.Parameter(p.detach().clone()) for p in loss.parameters.tensors)
        optimizer = Adam([weight], lr=0.1)
        moments = torch.linspace(0.5, 2, 30, dtype=torch.float64)[None]
        optimizer.state[weight] = {
            "step": torch.tensor(1e4),
            "exp_avg": torch.zeros_like(moments),
            "exp_avg_sq": moments,
        }
        loss.trained = Trained((optimizer,), dict.fromkeys(loss.parameters.names, weight))
        yield loss


@pytest.mark.parametrize("products", [2, 4, 8])
def test_a_report_costs_its_allowance_with_the_edge_in_it(products: int) -> None:
    # of a pass with its graph, of so many products, and of six of the edge
    allowance = 60 * (1 + 2 * (products + 6))
    study = SpectrumStudy(SpectrumOptions(edge=True), seed=0)
    with stepped_by_adam() as loss:
        report = study.measure(loss, allowance=allowance)
    assert report.edge is not None
    assert (report.edge.num_hvps, report.num_hvps) == (6, products + 6)
    assert report.cost == allowance


def test_the_vector_of_the_report_before_is_followed() -> None:
    errors = []
    with stepped_by_adam() as loss:
        hessian = loss.products.matmat(torch.eye(30, dtype=torch.float64))
        edge = stability_edge(*loss.trained.of(loss.parameters)) if loss.trained else None
        assert edge is not None
        roots = edge.steps.sqrt()
        truth = float(torch.linalg.eigvalsh(roots[:, None] * hessian * roots)[-1])
        study = SpectrumStudy(SpectrumOptions(edge=True), seed=0)
        for _ in range(3):
            report = study.measure(loss, allowance=60 * (1 + 2 * 10))
            study.settle()
            assert report.edge is not None
            errors.append(truth - report.edge.sharpness)
    # six fresh products leave the largest of thirty alike to a tenth or so; three times as many
    # in a row come close
    assert errors[0] > 1e-3 * truth
    assert 0 <= errors[2] < errors[1] / 2 < errors[0] / 4


@pytest.mark.parametrize("sign", [1, -1])
def test_the_preconditioned_hessian_is_that_of_the_steps(sign: int) -> None:
    generator = torch.Generator().manual_seed(0)
    hessian = torch.randn(5, 5, generator=generator, dtype=torch.float64)
    hessian = hessian + hessian.T
    steps = torch.tensor([0.1, 2.0, 0.0, 0.5, 1.0], dtype=torch.float64)
    decay = torch.tensor([0.0, 0.3, 0.7, 0.0, 1.0], dtype=torch.float64)
    edge = StabilityEdge(steps=steps, decay=decay, threshold=2.0, sign=sign, optimizer="one")
    roots = steps.sqrt()
    expected = roots[:, None] * (sign * hessian + torch.diag(decay)) * roots
    found = PreconditionedHessian(DenseOperator(hessian), edge).matmat(
        torch.eye(5, dtype=torch.float64)
    )
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
