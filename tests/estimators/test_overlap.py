"""Eigenvectors beside those of an earlier time: partners, signs, and the subspace they share."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lightning_hessian.linalg import align


def orthonormal(size: int, count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    gaussian = torch.randn(size, count, generator=generator, dtype=torch.float64)
    return torch.linalg.qr(gaussian)[0]


def rotation(size: int, plane: tuple[int, int], angle: float) -> Tensor:
    """Of all space, in the plane of two axes."""
    turned = torch.eye(size, dtype=torch.float64)
    i, j = plane
    turned[i, i] = turned[j, j] = math.cos(angle)
    turned[j, i], turned[i, j] = math.sin(angle), -math.sin(angle)
    return turned


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_vectors_that_stayed_have_their_signs_and_order(dtype: torch.dtype) -> None:
    earlier = orthonormal(50, 4).to(dtype)
    signs = torch.tensor([1, -1, -1, 1]).to(dtype)
    found = align(earlier * signs, earlier)
    assert found.vectors.dtype == dtype
    torch.testing.assert_close(found.vectors, earlier)
    assert found.partners.tolist() == [0, 1, 2, 3]
    torch.testing.assert_close(found.cosines, torch.ones(4).double(), rtol=0, atol=1e-6)
    assert float(found.cosines.max()) <= 1
    assert found.subspace == pytest.approx(1, abs=1e-6)


def test_vectors_whose_eigenvalues_crossed_keep_their_identity() -> None:
    earlier = orthonormal(50, 4)
    now = earlier[:, [2, 0, 1, 3]] * torch.tensor([-1.0, 1.0, -1.0, 1.0])
    found = align(now, earlier)
    assert found.partners.tolist() == [2, 0, 1, 3]
    torch.testing.assert_close(found.vectors, earlier[:, [2, 0, 1, 3]])
    assert found.subspace == pytest.approx(1)


@pytest.mark.parametrize("angle", [0.1, 0.7, 1.2, 1.5])
def test_a_turn_within_the_span_lowers_cosines_and_not_the_subspace(angle: float) -> None:
    earlier = torch.eye(6, 3, dtype=torch.float64)
    found = align(rotation(6, (0, 1), angle) @ earlier, earlier)
    # past 45 degrees the other one is nearer
    near = max(math.cos(angle), math.sin(angle))
    torch.testing.assert_close(found.cosines, torch.tensor([near, near, 1.0]).double())
    assert found.partners.tolist() == ([0, 1, 2] if angle < math.pi / 4 else [1, 0, 2])
    assert found.subspace == pytest.approx(1)


@pytest.mark.parametrize("angle", [0.1, 0.7, 1.5])
def test_a_turn_out_of_the_span_lowers_both_by_the_angle(angle: float) -> None:
    earlier = torch.eye(6, 3, dtype=torch.float64)
    found = align(rotation(6, (1, 5), angle) @ earlier, earlier)
    torch.testing.assert_close(found.cosines, torch.tensor([1, math.cos(angle), 1]).double())
    assert found.subspace == pytest.approx((2 + math.cos(angle) ** 2) / 3)


def test_of_unrelated_vectors_the_subspace_is_that_of_chance() -> None:
    # E ||U^T V||_F^2 / d = d / n for uniform spans
    shares = [
        align(orthonormal(40, 4, 2 * s), orthonormal(40, 4, 2 * s + 1)).subspace for s in range(100)
    ]
    mean = torch.tensor(shares)
    assert abs(float(mean.mean()) - 0.1) < 4 * float(mean.std()) / 10


def test_the_subspace_does_not_depend_on_the_basis_of_either_span() -> None:
    first, second = orthonormal(30, 4, 1), orthonormal(30, 4, 2)
    wanted = align(first, second).subspace
    assert align(first @ orthonormal(4, 4, 3), second).subspace == pytest.approx(wanted)
    assert align(first, second @ orthonormal(4, 4, 4)).subspace == pytest.approx(wanted)


def test_partners_are_found_by_the_largest_cosine_first_and_each_once() -> None:
    # the first vector is nearest to partner 1, but the second one is nearer to it still
    a = torch.tensor([0.6, 0.8, 0.0, 0.0]).double()
    b = torch.tensor([-0.1, 0.075, 0.9, 0.0]).double()
    now = torch.linalg.qr(torch.stack([b + 0.0 * a, a], dim=1))[0].flip(1)
    found = align(now, torch.eye(4, 3, dtype=torch.float64))
    products = now[:3].abs()
    assert sorted(found.partners.tolist()) == sorted(set(found.partners.tolist()))
    assert int(products.argmax()) in [
        2 * int(p) + column for column, p in enumerate(found.partners.tolist())
    ]
    for column, partner in enumerate(found.partners.tolist()):
        assert float(found.cosines[column]) == pytest.approx(float(products[partner, column]))
        assert float(found.vectors[partner, column]) >= 0


def test_vectors_without_an_earlier_one_have_no_partner() -> None:
    earlier = orthonormal(20, 2)
    fresh = orthonormal(20, 3, seed=1)
    fresh = torch.linalg.qr(torch.cat([earlier, fresh], dim=1))[0][:, 2:3]
    now = torch.cat([-earlier[:, 1:], fresh, earlier[:, :1]], dim=1)
    found = align(now, earlier)
    assert found.partners.tolist() == [1, -1, 0]
    assert found.cosines.isnan().tolist() == [False, True, False]
    torch.testing.assert_close(found.vectors[:, 0], earlier[:, 1])
    assert torch.equal(found.vectors[:, 1], now[:, 1])
    # two of three are in the earlier span
    assert found.subspace == pytest.approx(2 / 3)


def test_more_earlier_vectors_than_now_leave_some_without_a_partner() -> None:
    earlier = orthonormal(20, 4)
    found = align(earlier[:, [3, 1]], earlier)
    assert found.partners.tolist() == [3, 1]
    assert found.subspace == pytest.approx(2 / 4)
