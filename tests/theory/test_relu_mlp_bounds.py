"""Bounds of ReLU networks' Hessians, against dense Hessians by nested differentiation."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn
from torch.func import jacrev, vmap

from lightning_hessian.theory import (
    ReluMlpBounds,
    corrected_theorem_bound,
    layers_of,
    printed_theorem_bound,
    relu_mlp_bounds,
)

Shapes = list[tuple[int, ...]]
ROUNDING = 1 + 1e-10


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _logits(theta: Tensor, shapes: Shapes, x: Tensor) -> Tensor:
    """Of the network whose weights and biases are laid out in ``theta``, layer by layer."""
    parts = theta.split([math.prod(shape) for shape in shapes])
    first = True
    for part, shape in zip(parts, shapes, strict=True):
        if len(shape) == 2:
            x = part.view(shape) @ (x if first else x.relu())
            first = False
        else:
            x = x + part
    return x


def _norms(theta: Tensor, shapes: Shapes, x: Tensor, label: Tensor) -> tuple[Tensor, ...]:
    """``(B,)`` spectral norms of ``H``, its Gauss-Newton part and the rest; a network a sample."""

    def loss(theta: Tensor, x: Tensor, label: Tensor) -> Tensor:
        return -_logits(theta, shapes, x).log_softmax(0).gather(0, label[None])[0]

    whole = vmap(jacrev(jacrev(loss)))(theta, x, label)
    jacobian = vmap(jacrev(lambda t, x: _logits(t, shapes, x)))(theta, x)
    q = vmap(lambda t, x: _logits(t, shapes, x))(theta, x).softmax(dim=1)
    curvature = torch.diag_embed(q) - q[:, :, None] * q[:, None, :]
    gauss_newton = jacobian.mT @ curvature @ jacobian
    matrices = (whole, gauss_newton, whole - gauss_newton)
    return tuple(torch.linalg.eigvalsh(m).abs().amax(dim=1) for m in matrices)


def _random_networks(
    widths: list[int], has_bias: list[bool], count: int, seed: int
) -> tuple[Shapes, Tensor]:
    """Layers whose scales differ by up to two hundred, within a network and between networks."""
    generator = _seeded(seed)
    shapes: Shapes = []
    blocks = []
    for p, (before, after) in enumerate(itertools.pairwise(widths)):
        for shape in [(after, before)] + [(after,)] * has_bias[p]:
            scale = 10 ** (2.3 * torch.rand(count, 1, generator=generator) - 1.5)
            block = torch.randn(count, math.prod(shape), generator=generator)
            shapes.append(shape)
            blocks.append(scale * block)
    return shapes, torch.cat(blocks, dim=1).double()


def _bounds(theta: Tensor, shapes: Shapes, x: Tensor, label: Tensor) -> ReluMlpBounds:
    weights: list[Tensor] = []
    biases: list[Tensor | None] = []
    for part, shape in zip(theta.split([math.prod(s) for s in shapes]), shapes, strict=True):
        if len(shape) == 2:
            weights.append(part.view(shape))
            biases.append(None)
        else:
            biases[-1] = part
    return relu_mlp_bounds(weights, x, label, biases)


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("widths", "has_bias"),
    [
        ([4, 3], [False]),
        ([4, 3], [True]),
        ([3, 4, 2], [False, False]),
        ([3, 4, 3], [True, True]),
        ([2, 5, 3], [True, False]),
        ([3, 3, 3, 3], [False] * 3),
        ([4, 2, 5, 2], [True] * 3),
        ([2, 3, 3, 4], [False, True, False]),
        ([3, 3, 2, 3, 2], [False] * 4),
        ([2, 3, 3, 3, 3, 2], [True] * 5),
    ],
    ids=lambda value: "-".join(str(int(v)) for v in value),
)
def test_no_random_network_violates_a_bound(widths: list[int], has_bias: list[bool]) -> None:
    # ten architectures, a hundred networks each, every one with a sample of its own
    count = 100
    shapes, theta = _random_networks(widths, has_bias, count, seed=len(widths))
    generator = _seeded(sum(widths))
    x = torch.randn(count, widths[0], generator=generator, dtype=torch.float64)
    x = x * 10 ** (2 * torch.rand(count, 1, generator=generator) - 1)
    label = torch.randint(0, widths[-1], (count,), generator=generator)
    whole, gauss_newton, residual = _norms(theta, shapes, x, label)
    told_exactly = 0
    for i in range(count):
        found = _bounds(theta[i], shapes, x[i], label[i])
        exact, rest, scale = float(gauss_newton[i]), float(residual[i]), float(whole[i])
        # the dense matrices lose the digits of 1 - q: they are as wrong as a wrong label is large
        wrong = _bounds(theta[i], shapes, x[i], (label[i] + 1) % widths[-1])
        slack = 1e-13 * float(found.weight_bound + found.residual_bound + wrong.residual_bound)
        assert float(found.gauss_newton_norm) == pytest.approx(exact, rel=1e-8, abs=slack)
        told_exactly += slack < 1e-8 * exact
        assert float(found.gauss_newton_norm) <= float(found.layer_bound) * ROUNDING + slack
        assert float(found.layer_bound) <= float(found.weight_bound) * ROUNDING
        assert rest <= float(found.residual_bound) * ROUNDING + slack
        assert scale <= float(found.hessian_bound) * ROUNDING + slack
        if not any(has_bias):
            norms = [torch.linalg.matrix_norm(w, ord=2) for w in _weights(theta[i], shapes)]
            largest = float(torch.stack(norms).max())
            theorem = corrected_theorem_bound(len(norms), largest, float(x[i].norm()))
            assert float(found.weight_bound) <= theorem * ROUNDING
    assert told_exactly > count / 4  # the others' labels are almost certain


def _weights(theta: Tensor, shapes: Shapes) -> list[Tensor]:
    parts = theta.split([math.prod(s) for s in shapes])
    return [p.view(s) for p, s in zip(parts, shapes, strict=True) if len(s) == 2]


def test_bounds_are_reached() -> None:
    # one layer, two classes equally likely, p (1 - p) = 1/4: the Gershgorin bound is the norm
    x = torch.tensor([3.0, 4.0])
    found = relu_mlp_bounds([torch.zeros(2, 2)], x, torch.tensor(0))
    assert float(found.gauss_newton_norm) == pytest.approx(0.5 * 25)
    assert float(found.weight_bound) == pytest.approx(0.5 * 25)
    assert float(found.residual_bound) == 0
    # one unit a layer: the residual part is one number off the diagonal of each pair of layers
    weights = [torch.tensor([[2.0]]), torch.tensor([[3.0], [0.0]])]
    found = relu_mlp_bounds(weights, torch.tensor([1.5]), torch.tensor(1))
    q = torch.tensor([9.0, 0.0]).softmax(0)
    assert float(found.residual_bound) == pytest.approx(1.5 * float(q[0]) * math.sqrt(2), rel=1e-6)


def _small_norm_networks(
    num_layers: int, norm: float, length: float, count: int = 24
) -> tuple[Shapes, Tensor, Tensor, Tensor]:
    """Networks of width 12 with all layers' norms and samples' lengths equal, ten classes."""
    generator = _seeded(3)
    widths = [12] * num_layers + [10]
    shapes: Shapes = [(b, a) for a, b in itertools.pairwise(widths)]
    blocks = []
    for shape in shapes:
        w = torch.randn(count, *shape, generator=generator, dtype=torch.float64)
        w = norm * w / torch.linalg.matrix_norm(w, ord=2)[:, None, None]
        blocks.append(w.flatten(1))
    x = torch.randn(count, 12, generator=generator, dtype=torch.float64)
    x = length * x / x.norm(dim=1, keepdim=True)
    return shapes, torch.cat(blocks, 1), x, torch.randint(0, 10, (count,), generator=generator)


def test_printed_theorem_fails_for_a_single_layer_of_zeros() -> None:
    x = torch.zeros(1, 3, dtype=torch.float64)
    x[0, 0] = 1
    theta, label = torch.zeros(1, 30, dtype=torch.float64), torch.tensor([4])
    whole, *_ = _norms(theta, [(10, 3)], x, label)
    found = _bounds(theta[0], [(10, 3)], x, label)
    assert float(whole) == pytest.approx(0.1)
    assert found.printed_bound == 0
    assert float(found.gauss_newton_norm) == pytest.approx(0.1)
    assert float(found.layer_bound) == pytest.approx(0.18)
    assert corrected_theorem_bound(1, 0.0, 1.0) == 0.5


def test_printed_theorem_bounds_the_gauss_newton_part_of_large_weights() -> None:
    edge = (2 * math.sqrt(2)) ** -0.5
    for depth in (1, 2, 5):
        for length in (0.1, 1.0, 30.0):
            for norm in (edge, 1.0, 3.0):
                printed = printed_theorem_bound(depth, norm, length)
                assert printed >= corrected_theorem_bound(depth, norm, length)
    # below the edge long samples exceed it, whatever the second term
    assert printed_theorem_bound(2, 0.9 * edge, 30.0) < corrected_theorem_bound(2, 0.9 * edge, 30.0)


def test_printed_theorem_fails_on_images_under_small_weights() -> None:
    # 28 x 28 pixels in [-1, 1] have a length near 26: the layer's input is no unit vector
    shapes, theta, x, label = _small_norm_networks(2, 0.03, 26.0)
    whole, gauss_newton, _ = _norms(theta, shapes, x, label)
    printed = printed_theorem_bound(2, 0.03, 26.0)
    assert printed == pytest.approx(0.0028, abs=5e-5)
    assert bool((gauss_newton > printed).all())
    assert bool((whole > printed).all())
    assert corrected_theorem_bound(2, 0.03, 26.0) == pytest.approx(0.6084)
    for i in range(len(x)):
        found = _bounds(theta[i], shapes, x[i], label[i])
        assert float(whole[i]) <= float(found.hessian_bound)
        # a = 0.18 for ten equally likely classes in the place of 1/2, and actual inputs
        assert float(found.layer_bound) < 0.5 * corrected_theorem_bound(2, 0.03, 26.0)


def test_printed_theorem_fails_where_the_residual_part_is_nearly_all() -> None:
    shapes, theta, x, label = _small_norm_networks(3, 0.3, 4.0)
    whole, gauss_newton, residual = _norms(theta, shapes, x, label)
    assert float((residual / gauss_newton).median()) > 20
    assert bool((whole > printed_theorem_bound(3, 0.3, 4.0)).all())
    assert float(gauss_newton.max()) < printed_theorem_bound(3, 0.3, 4.0)
    for i in range(len(x)):
        assert float(whole[i]) <= float(_bounds(theta[i], shapes, x[i], label[i]).hessian_bound)


@pytest.mark.parametrize("norm", [1.0, 2.0])
def test_bounds_are_tighter_than_the_printed_theorem(norm: float) -> None:
    shapes, theta, x, label = _small_norm_networks(3, norm, 4.0)
    found = [_bounds(theta[i], shapes, x[i], label[i]) for i in range(len(x))]
    mean = {
        name: float(torch.stack([getattr(f, name) for f in found]).mean())
        for name in ("gauss_newton_norm", "layer_bound", "weight_bound", "hessian_bound")
    }
    printed = found[0].printed_bound
    assert mean["gauss_newton_norm"] < mean["layer_bound"] < mean["weight_bound"]
    # sqrt2 L M_x^2 M_W^{2L} over L M_x^2 M_W^{2(L-1)} / 2, and the geometric sum beside
    assert printed / mean["weight_bound"] > 2 * math.sqrt(2) * norm**2
    assert printed / mean["hessian_bound"] > 10 * norm**2
    assert mean["hessian_bound"] < 4 * float(_norms(theta, shapes, x, label)[0].mean())


def test_batches_are_bounded_as_each_sample_alone() -> None:
    generator = _seeded(1)
    weights = [torch.randn(4, 3, generator=generator), torch.randn(5, 4, generator=generator)]
    x, label = torch.randn(6, 3, generator=generator), torch.tensor([0, 1, 2, 3, 4, 0])
    together = relu_mlp_bounds(weights, x, label, [torch.ones(4), None])
    for i in range(6):
        alone = relu_mlp_bounds(weights, x[i], label[i], [torch.ones(4), None])
        for name in ("gauss_newton_norm", "layer_bound", "weight_bound", "residual_bound"):
            torch.testing.assert_close(getattr(together, name)[i], getattr(alone, name)[0])
    assert together.layer_bound.dtype == torch.float64


def test_layers_of_a_sequential_network_are_its_own() -> None:
    network = nn.Sequential(
        nn.Flatten(), nn.Linear(4, 3, bias=False), nn.ReLU(), nn.Linear(3, 2), nn.ReLU(),
        nn.Linear(2, 2),
    )  # fmt: skip
    weights, biases = layers_of(network)
    assert [tuple(w.shape) for w in weights] == [(3, 4), (2, 3), (2, 2)]
    assert biases[0] is None
    images = torch.rand(5, 2, 2, generator=_seeded())
    found = relu_mlp_bounds(weights, images.flatten(1), torch.zeros(5, dtype=torch.long), biases)
    assert found.hessian_bound.shape == (5,)
    assert not found.hessian_bound.requires_grad


@pytest.mark.parametrize(
    "network",
    [
        nn.Linear(3, 2),
        nn.Sequential(),
        nn.Sequential(nn.Flatten()),
        nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 2)),
        nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2)),
        nn.Sequential(nn.Linear(3, 3), nn.ReLU()),
        nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Dropout(), nn.Linear(3, 2)),
    ],
    ids=["no sequence", "empty", "no layer", "tanh", "no ReLU", "ReLU last", "dropout"],
)
def test_other_networks_are_refused(network: nn.Module) -> None:
    with pytest.raises(ValueError, match=r"`network` must be an `nn.Sequential` of `Flatten`, and"):
        layers_of(network)


def test_shapes_that_do_not_fit_are_refused() -> None:
    fitting, x, label = [torch.zeros(4, 3), torch.zeros(2, 4)], torch.zeros(5, 3), torch.zeros(5)
    for weights, biases in (
        ([], None),
        ([torch.zeros(4)], None),
        (fitting[::-1], None),
        (fitting, [None]),
        (fitting, [torch.zeros(3), None]),
    ):
        with pytest.raises(ValueError, match=r"`weights` must be matrices, .* each fitting"):
            relu_mlp_bounds(weights, x, label.long(), biases)
    for inputs, labels in ((torch.zeros(5, 4), label), (x, label[:3]), (x[:, None], label)):
        with pytest.raises(ValueError, match=r"`inputs` must be \(B, 3\) with `labels` \(B,\)"):
            relu_mlp_bounds(fitting, inputs, labels.long())
