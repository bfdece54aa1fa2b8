"""Handwritten digits, standardised, as every test of truth uses them."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import TensorDataset


@pytest.fixture(scope="session")
def all_digits() -> TensorDataset:
    """All 1,797 images of 64 pixels."""
    load_digits = pytest.importorskip("sklearn.datasets").load_digits
    inputs, targets = load_digits(return_X_y=True)
    return TensorDataset(torch.from_numpy(inputs).float() / 8 - 1, torch.from_numpy(targets).long())


@pytest.fixture(scope="session")
def digits(all_digits: TensorDataset) -> TensorDataset:
    """161 of them: batches of 32 leave a last batch of one."""
    return TensorDataset(*all_digits[:161])
