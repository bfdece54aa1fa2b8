"""Handwritten digits, standardised, as every test of truth uses them."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import TensorDataset


@pytest.fixture(scope="session")
def digits() -> TensorDataset:
    """161 images of 64 pixels: batches of 32 leave a last batch of one."""
    load_digits = pytest.importorskip("sklearn.datasets").load_digits
    inputs, targets = load_digits(return_X_y=True)
    images = torch.from_numpy(inputs[:161]).float() / 8 - 1
    return TensorDataset(images, torch.from_numpy(targets[:161]).long())
