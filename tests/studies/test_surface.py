"""The loss on a plane, against quadratics, whose every point has a closed form."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_hessian.errors import NonFiniteError
from lightning_hessian.loss import TrainingLoss
from lightning_hessian.records import LossSurface
from lightning_hessian.sample_losses import sample_losses
from lightning_hessian.studies import loss_surface, parameter_norm, random_directions
from tests.helpers.networks import ask
from tests.helpers.quadratics import Quadratics

SIZE, COUNT = 5, 12
SAMPLES = Quadratics.random(COUNT, SIZE)
WEIGHTS = torch.linspace(-1, 1, SIZE).double()
PLANE = random_directions(SIZE, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def _surface(samples: Quadratics = SAMPLES, **options: Any) -> tuple[LossSurface, Tensor]:
    """The surface and the losses at its centre, in the order of the frozen samples."""
    module, data = samples.module_and_data(WEIGHTS)
    chosen: dict[str, Any] = {"u": PLANE[:, 0], "v": PLANE[:, 1], "span": 2.0, "num_points": 5}
    chosen |= {"method": "batched", "directions": "random"} | options

    def question(loss: TrainingLoss) -> tuple[LossSurface, Tensor]:
        losses = chosen.pop("losses", None)
        losses = sample_losses(loss).values if losses is None else losses
        return loss_surface(loss, losses, **chosen), losses

    return ask(module, data, question, batch_size=5)


def _closed_form(losses: Tensor) -> dict[str, Tensor]:
    """The three surfaces from every sample's expansion; ``losses`` tell the order."""
    order = (SAMPLES.losses - losses[:, None]).abs().argmin(dim=1)
    steps = torch.linspace(-2, 2, 5, dtype=torch.float64)
    u, v = PLANE.T
    there = torch.stack(
        [torch.stack([SAMPLES.at(x * u + y * v)[order] for x in steps]) for y in steps]
    )
    return {
        "loss": there.mean(dim=-1),
        "difference": there.mean(dim=-1) - there[..., :-1].mean(dim=-1),
        "rms_difference": (there.var(dim=-1) / (COUNT * (COUNT - 1))).sqrt(),
    }


def test_surfaces_of_quadratic_samples_are_the_closed_form() -> None:
    surface, losses = _surface()
    assert surface.x.tolist() == surface.y.tolist() == [-2, -1, 0, 1, 2]
    assert (surface.sample_size, surface.directions) == (COUNT - 1, "random")
    for name, expected in _closed_form(losses).items():
        assert torch.allclose(getattr(surface, name), expected, rtol=1e-9, atol=1e-12), name


def test_centre_is_the_mean_of_the_losses_given_to_the_bit() -> None:
    surface, losses = _surface()
    assert float(surface.loss[2, 2]) == float(losses.mean())


def test_turning_a_direction_mirrors_the_surface() -> None:
    surface, _ = _surface()
    mirrored, _ = _surface(u=-PLANE[:, 0])
    assert torch.allclose(surface.loss, mirrored.loss.flip(1), rtol=1e-12)
    swapped, _ = _surface(u=PLANE[:, 1], v=PLANE[:, 0])
    assert torch.allclose(surface.loss, swapped.loss.T, rtol=1e-12)


def test_an_even_loss_has_a_symmetric_surface() -> None:
    even = Quadratics(SAMPLES.losses, torch.zeros_like(SAMPLES.gradients), SAMPLES.hessians)
    surface, _ = _surface(even)
    for values in (surface.loss, surface.difference, surface.rms_difference):
        assert torch.allclose(values, values.flip(0, 1), rtol=1e-9, atol=1e-12)


def test_a_loss_that_is_not_finite_leaves_a_hole() -> None:
    surface, losses = _surface(span=1e200, num_points=3)
    for values in (surface.loss, surface.difference, surface.rms_difference):
        assert torch.equal(values.isfinite(), torch.arange(9).view(3, 3) == 4)
    assert float(surface.loss[1, 1]) == float(losses.mean())


def test_norm_of_the_parameters() -> None:
    module, data = SAMPLES.module_and_data(WEIGHTS)
    assert ask(module, data, parameter_norm) == pytest.approx(float(WEIGHTS.norm()), rel=1e-6)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"span": 0.0}, "`span` must be positive and finite, got 0"),
        ({"span": math.inf}, "`span` must be positive and finite, got inf"),
        ({"num_points": 1}, "`num_points` must be odd and at least 3, got 1"),
        ({"num_points": 10}, "`num_points` must be odd and at least 3, got 10"),
        ({"v": PLANE[:, 0]}, "the plane's `u` and `v` must be orthonormal, got .* up to 1"),
        ({"u": torch.ones(3), "v": torch.ones(3)}, r"`u` and `v` must have shape \(5, d\)"),
    ],
)
def test_refuses_arguments_that_make_no_plane(wrong: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        _surface(**wrong)


def test_refuses_a_centre_without_a_loss() -> None:
    with pytest.raises(NonFiniteError, match="1 of 2 `losses` are not finite at the present"):
        _surface(losses=torch.tensor([1.0, math.nan]))
