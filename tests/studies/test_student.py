"""Errors from few values cover like known ones."""

from __future__ import annotations

import math

import pytest
import torch

from lightning_hessian.statistics import widening


def test_widening_is_students_quantile_over_the_normals() -> None:
    # 12.7062, 3.1824 and 1.9623 of Student's tables, for 1, 3 and 999 degrees of freedom
    found = [widening(count) for count in (2, 4, 1000)]
    assert found == pytest.approx([12.7062 / 1.95996, 3.1824 / 1.95996, 1.9623 / 1.95996], rel=1e-4)


@pytest.mark.parametrize("count", [2, 4, 8])
def test_errors_from_few_normal_values_cover_95_percent(count: int) -> None:
    generator = torch.Generator().manual_seed(count)
    values = torch.randn(10_000, count, generator=generator, dtype=torch.float64)
    errors = widening(count) * values.std(dim=1) / math.sqrt(count)
    covered = float((values.mean(dim=1).abs() <= 1.959964 * errors).double().mean())
    assert abs(covered - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 10_000)
