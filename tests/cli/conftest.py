"""Command lines inside the tests' own process."""

from __future__ import annotations

import sys

import pytest


@pytest.fixture(autouse=True)
def as_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the arguments of pytest, and without what Lightning's use of jsonargparse is told."""
    monkeypatch.setattr(sys, "argv", ["program"])
    monkeypatch.setenv("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
