"""The spectra of a Hessian's two parts, against dense matrices made by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_hessian.errors import RefusedError
from lightning_hessian.hvp import ExactProducts, open_loss
from lightning_hessian.records import PartSpectrum, ProductQuality
from lightning_hessian.statistics import deviation_over_subspaces
from lightning_hessian.studies import gauss_newton_split
from tests.helpers.splits import split_of
from tests.helpers.tanh_network import TanhNetwork


def dense_parts(network: TanhNetwork, targets: Tensor) -> tuple[Tensor, Tensor]:
    jacobian = network.jacobian().flatten(0, 1)
    slopes = 2 * (network.outputs - targets) / targets.numel()
    return 2 * jacobian.T @ jacobian / targets.numel(), network.curvature(slopes)


def random_problem(*sizes: int) -> tuple[TanhNetwork, Tensor]:
    network = TanhNetwork.random(*sizes)
    generator = torch.Generator().manual_seed(1)
    return network, torch.randn(sizes[0], sizes[-1], generator=generator, dtype=torch.float64)


def test_of_small_networks_all_is_exact() -> None:
    network, targets = random_problem(11, 4, 5, 3)
    split = split_of(network, targets)
    first, second = dense_parts(network, targets)
    for part, matrix in (
        (split.hessian, first + second),
        (split.gauss_newton, first),
        (split.residual, second),
    ):
        values = torch.linalg.eigvalsh(matrix)
        scale = float(values.abs().max())
        close = {"rtol": 0, "atol": 1e-11 * scale}
        torch.testing.assert_close(part.density.nodes, values, **close)
        torch.testing.assert_close(part.density.weights, torch.full((35,), 1 / 35).double())
        assert part.trace.value == pytest.approx(float(matrix.trace()), abs=1e-11 * scale)
        below = float((values < -part.negative_mass.threshold).double().mean())
        assert part.negative_mass.bracket == pytest.approx((below, below))
        assert part.norm.value == pytest.approx(scale, rel=1e-10)
    norms = [float(torch.linalg.matrix_norm(m, 2)) for m in (second, first + second)]
    assert split.residual_share.value == pytest.approx(norms[0] / norms[1], rel=1e-10)
    assert (split.outputs, split.num_outputs, split.num_samples) == (("mse_loss",), 33, 1)
    mean_square = float((network.outputs - targets).square().mean())
    assert (split.loss, split.mean_square) == pytest.approx((mean_square, mean_square))
    assert split.notes == ()
    assert (split.num_hvps, split.num_probes) == (70, 4)
    assert 70 < split.num_gauss_newton_products <= 90


def alignment_by_hand(first: Tensor, second: Tensor) -> tuple[float, int]:
    values, vectors = torch.linalg.eigh(second)
    down = vectors[:, values < -0.3 * values.abs().max()][:, :20]
    return float((down.T @ first @ down).trace() / down.shape[1] / first.trace() * len(first)), (
        down.shape[1]
    )


def test_the_alignment_is_the_mean_curvature_along_the_residuals_negative_directions() -> None:
    network, targets = random_problem(11, 4, 5, 3)
    alignment = split_of(network, targets).alignment
    assert alignment is not None
    value, count = alignment_by_hand(*dense_parts(network, targets))
    assert (alignment.value, alignment.num_directions) == (pytest.approx(value, rel=1e-9), count)
    assert alignment.standard_error < 1e-9 * value


def test_of_larger_networks_the_truth_is_within_the_errors() -> None:
    network, targets = random_problem(40, 6, 14, 5)
    split = split_of(network, targets, num_probes=4, num_steps=26)
    first, second = dense_parts(network, targets)
    parts: list[tuple[PartSpectrum, Tensor]] = [
        (split.hessian, first + second),
        (split.gauss_newton, first),
        (split.residual, second),
    ]
    for part, matrix in parts:
        values = torch.linalg.eigvalsh(matrix)
        assert abs(part.trace.value - float(values.sum())) <= 4 * part.trace.standard_error
        low, high = part.negative_mass.bracket
        below = float((values < -part.negative_mass.threshold).double().mean())
        assert low <= below <= high
        assert abs(part.norm.value - float(values.abs().max())) <= part.norm.bound
    assert split.mean_eigenvalue(split.gauss_newton).value == split.gauss_newton.trace.value / 154
    assert split.alignment is not None
    value, count = alignment_by_hand(first, second)
    assert split.alignment.num_directions == count
    error = 4 * split.alignment.standard_error
    # the directions are those of Ritz pairs within a hundredth of the range
    assert split.alignment.value == pytest.approx(value, rel=2e-2, abs=error)
    assert (split.num_steps, split.num_hvps) == (26, 2 * (104 + 8))


def test_directions_turned_at_random_scatter_as_is_said() -> None:
    generator = np.random.default_rng(0)
    size, count, draws = 12, 3, 4000
    values = generator.standard_normal(size) ** 2
    found = []
    for _ in range(draws):
        basis = np.linalg.qr(generator.standard_normal((size, count)))[0]
        found.append((values @ basis**2).sum() / count / values.mean())
    spread = (values**2).mean() / values.mean() ** 2 - 1
    wanted = deviation_over_subspaces(spread, size, count)
    # a deviation's own relative error is about 1 / sqrt(2 draws), of tails like these twice that
    assert np.std(found) == pytest.approx(wanted, rel=4 * 2 / (2 * draws) ** 0.5)
    assert deviation_over_subspaces(spread, size, size) == 0
    assert deviation_over_subspaces(spread, 1, 1) == 0


def test_what_is_past_the_outputs_is_said_to_be_in_the_residual_part() -> None:
    network, targets = random_problem(11, 4, 5, 3)
    plain, with_penalty = (split_of(network, targets, penalty=p) for p in (0.0, 0.05))
    assert [note.code for note in with_penalty.notes] == ["residual-holds-more"]
    shifted = plain.residual.density.nodes + 0.1
    torch.testing.assert_close(with_penalty.residual.density.nodes, shifted, rtol=0, atol=1e-11)
    assert with_penalty.mean_square is None


def test_a_residual_part_of_roundings_has_no_directions() -> None:
    network = nn.Linear(4, 2).double()
    inputs = torch.randn(9, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def step(batch: Tensor, _: int) -> Tensor:
        return F.cross_entropy(network(batch), torch.arange(9) % 2)

    with open_loss(network, step, [inputs], dtype=torch.float64) as loss:
        split = gauss_newton_split(loss, generator=torch.Generator().manual_seed(0))
    assert split.residual_share.value < 1e-14
    assert split.alignment is None
    assert [note.code for note in split.notes] == ["alignment-not-measured"]
    assert not split.notes[0].qualifies


class ByDifferences(ExactProducts):
    @property
    def quality(self) -> ProductQuality:
        return ProductQuality(method="finite_difference")


def test_refuses_no_products_and_differences_of_gradients() -> None:
    network, targets = random_problem(11, 4, 5, 3)
    with pytest.raises(ValueError, match="`num_probes` must be at least 1, got 0"):
        split_of(network, targets, num_probes=0)
    with pytest.raises(ValueError, match="`num_steps` must be at least 1, got 0"):
        split_of(network, targets, num_steps=0)
    with pytest.raises(RefusedError, match="need exact products, got differences of gradients"):
        split_of(network, targets, products=ByDifferences)
