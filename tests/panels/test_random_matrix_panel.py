"""What the figure of random matrices shows: every law with its numbers, and the shares at zero."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lightning_hessian.records import Note
from lightning_hessian.show import random_matrix_figure
from lightning_hessian.studies import compare_random_matrices
from tests.helpers.splits import drawn, split_of_matrices

SPLIT = split_of_matrices(*drawn(60, 0.5, 0.1, 1.0), energy=0.1, ratio=0.5)
SPLIT = replace(SPLIT, loss=0.2)
COMPARISON = compare_random_matrices(SPLIT, refined=True)


def test_each_law_is_drawn_with_its_parameters_distances_and_verdict() -> None:
    figure = random_matrix_figure(SPLIT, COMPARISON)
    (legend,) = figure.legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts[1:] == [str(COMPARISON.free), *map(str, COMPARISON.models)]
    assert len(COMPARISON.models) == 4
    mass = SPLIT.hessian.negative_mass
    assert texts[0].startswith(f"measured: share below zero {mass.fraction:.3f}")
    density, _ = figure.axes
    # all with the kernel of the measured one
    grid = density.lines[0].get_xdata()
    for line, law in zip(density.lines[1:], [COMPARISON.free, *COMPARISON.models], strict=True):
        assert law.density.bandwidth == SPLIT.hessian.density.bandwidth
        assert np.array_equal(line.get_xdata(), grid)
        assert line.get_ydata().max() == pytest.approx(float(law.density.evaluate(
            law.density.nodes.new_tensor(grid)).max()))  # fmt: skip


def test_shares_at_zero_are_those_of_the_legend() -> None:
    _, shares = random_matrix_figure(SPLIT, COMPARISON).axes
    low, high = shares.get_xlim()
    assert low == -high
    assert low < float(SPLIT.hessian.density.nodes[0]) < 0
    curves = [line for line in shares.lines if len(line.get_xdata()) > 2]
    assert len(curves) == 6
    for line, wanted in zip(
        curves,
        [COMPARISON.free.share.value, *(m.share for m in COMPARISON.models)],
        strict=False,
    ):
        x, y = line.get_data()
        # a cell that reaches over zero may hold some
        assert y[x < 0][-1] == pytest.approx(wanted, abs=0.02)
    x, y = curves[-1].get_data()
    assert y[x < 0][-1] == pytest.approx(SPLIT.hessian.negative_mass.fraction)


def test_notes_that_qualify_are_named() -> None:
    note = Note("ratio-above-one", "The ratio phi is above 1.")
    informing = Note("no-nominal-energy", "The energy is that of mean squares.")
    noted = replace(COMPARISON, notes=(informing, note))
    title = random_matrix_figure(SPLIT, noted).get_suptitle()
    assert "60 parameters, loss 0.2 (outputs of mse_loss)" in title
    assert title.endswith("Read with the notes: ratio above one")
    assert "Read with" not in random_matrix_figure(SPLIT, COMPARISON).get_suptitle()
