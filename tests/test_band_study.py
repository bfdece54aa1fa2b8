"""What the study of widths concludes, on inputs whose answer is known, and how it trains."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch.nn import functional as F

from examples.band_claims import (
    Interval,
    bad_share,
    bootstrap,
    correlation,
    is_one_power,
    local_slopes,
    mean,
    steps,
    variance,
)
from examples.band_figures import band_figure
from examples.band_networks import Images, Networks, train
from examples.band_runs import Band, Point, point
from examples.demo import digits
from lightning_hessian.hvp import open_loss
from lightning_hessian.options import Krylov, PointOptions
from lightning_hessian.studies import CriticalPointStudy

WIDTHS = (5, 10, 20, 40)


def quantiles(count: int, scale: float = 1.0) -> np.ndarray:
    """A sample whose moments are those of a normal law, but for its ends."""
    return norm.ppf((np.arange(count) + 0.5) / count) * scale


def test_bad_runs_are_those_above_one_and_a_half_medians() -> None:
    losses = np.array([1.0] * 60 + [1.5] * 10 + [1.51] * 10 + [8.0] * 20)
    share = bad_share(losses)
    assert share.value == 0.3
    # Clopper and Pearson's for 30 of 100, from their table
    assert (share.low, share.high) == pytest.approx((0.2124, 0.3998), abs=1e-4)


def test_no_bad_run_of_a_hundred_leaves_room_for_some() -> None:
    share = bad_share(np.ones(100))
    assert (share.value, share.low) == (0, 0)
    assert share.high == pytest.approx(1 - 0.025 ** (1 / 100))


def test_the_bootstrap_of_a_mean_is_the_normal_interval() -> None:
    losses = quantiles(400)
    found = bootstrap(losses, mean)
    width = 1.96 * losses.std() / math.sqrt(400)
    # percentiles of 4,000 draws are off by some 4 % of the width
    assert (found.low, found.high) == pytest.approx((-width, width), abs=0.1 * width)


def test_the_bootstrap_of_a_variance_is_that_of_normal_samples() -> None:
    losses = quantiles(400, scale=3.0)
    found = bootstrap(losses, variance)
    error = 1.96 * found.value * math.sqrt(2 / 399)
    assert found.value == pytest.approx(9, rel=0.02)
    assert (found.low, found.high) == pytest.approx(
        (found.value - error, found.value + error), abs=0.15 * error
    )


def test_the_bootstrap_of_a_correlation_is_fishers_interval() -> None:
    generator = np.random.default_rng(0)
    pairs = generator.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], size=300)
    found = bootstrap(pairs, correlation)
    assert found.value == pytest.approx(np.corrcoef(pairs.T)[0, 1])
    middle, error = math.atanh(found.value), 1.96 / math.sqrt(297)
    fisher = (math.tanh(middle - error), math.tanh(middle + error))
    assert (found.low, found.high) == pytest.approx(fisher, abs=0.02)


def test_slopes_of_a_power_law_are_its_exponent() -> None:
    losses = [quantiles(100, scale=width**-1.5) for width in WIDTHS]
    slopes = local_slopes(WIDTHS, losses)
    assert [each.value for each in slopes] == pytest.approx([-3, -3, -3])
    assert all(each.low < -3 < each.high for each in slopes)
    assert is_one_power(slopes)


def test_a_law_that_bends_is_no_power_law() -> None:
    scales = (1.0, 0.1, 0.07, 0.05)
    slopes = local_slopes(WIDTHS, [quantiles(100, scale=s) for s in scales])
    exact = [2 * math.log2(after / before) for before, after in pairwise(scales)]
    assert [each.value for each in slopes] == pytest.approx(exact)
    assert not is_one_power(slopes)
    assert is_one_power([Interval(-2, -3, -1), Interval(0, -1, 1)])


def test_steps_say_what_falls_what_rises_and_what_is_open() -> None:
    losses = [quantiles(100) + shift for shift in (2.0, 0.0, 0.05, 3.0)]
    assert steps(losses, mean) == ["falls", "open", "rises"]


@pytest.fixture
def images() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(60, 6, generator=generator), torch.arange(60) % 10


def test_a_third_of_the_digits_is_held_out_and_no_image_is_in_both() -> None:
    data = Images.read(None, 1200)
    assert [len(labels) for _, labels in (data.train, data.test)] == [1200, 597]
    rows = torch.cat([data.train[0], data.test[0]])
    assert rows.sum() == digits().dataset.tensors[0].sum()


def test_images_of_mnists_format_are_shrunk(tmp_path: Path) -> None:
    for part, count in (("train", 3), ("t10k", 2)):
        pixels = np.full((count, 28, 28), 51, dtype=np.uint8)
        for name, values in (("images-idx3", pixels), ("labels-idx1", np.arange(count))):
            head = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, dtype=">u4").tobytes()
            (tmp_path / f"{part}-{name}-ubyte").write_bytes(head + values.astype("u1").tobytes())
    data = Images.read(str(tmp_path), 2)
    assert data.train[0].numpy() == pytest.approx(np.full((2, 100), 0.2))
    assert data.test[0].numpy() == pytest.approx(np.full((2, 100), 0.2))
    assert data.test[1].tolist() == [0, 1]


def test_networks_side_by_side_are_those_of_linear_layers(
    images: tuple[torch.Tensor, torch.Tensor],
) -> None:
    inputs, labels = images
    networks = Networks.drawn(3, 4, 6, torch.Generator().manual_seed(1))
    losses = networks.losses(inputs[None], labels[None])
    alone = [F.cross_entropy(networks.module(i)(inputs), labels) for i in range(3)]
    assert losses.tolist() == pytest.approx([float(each.detach()) for each in alone], rel=1e-6)


def test_no_network_is_trained_by_the_losses_of_others(
    images: tuple[torch.Tensor, torch.Tensor],
) -> None:
    networks = Networks.drawn(2, 4, 6, torch.Generator().manual_seed(1))
    inputs, labels = images
    networks.losses(inputs[None], labels[None])[0].backward()
    assert all(p.grad is not None and not p.grad[1].any() for p in networks.parameters)
    assert all(p.grad is not None and p.grad[0].any() for p in networks.parameters)


def test_one_epoch_of_one_batch_is_a_step_of_descent(
    images: tuple[torch.Tensor, torch.Tensor],
) -> None:
    inputs, labels = images
    trained = train(images, width=4, count=2, epochs=1, rate=0.3, seed=5)
    start = Networks.drawn(2, 4, 6, torch.Generator().manual_seed(5))
    start.losses(inputs[None], labels[None]).sum().backward()
    for after, before in zip(trained.parameters, start.parameters, strict=True):
        assert before.grad is not None
        # the order of the batch is another, and so are roundings
        assert torch.allclose(after, before - 0.3 * before.grad, atol=1e-6)


def test_the_index_that_is_counted_is_that_of_a_sweep_to_the_end(
    images: tuple[torch.Tensor, torch.Tensor],
) -> None:
    inputs, labels = images
    network = train(images, width=4, count=1, epochs=3, rate=0.3, seed=0).module(0)
    found = point(network, images, most_counted=100)

    def step(batch: tuple[torch.Tensor, torch.Tensor], _index: int) -> torch.Tensor:
        return F.cross_entropy(network(batch[0]), batch[1])

    options = PointOptions(escape=False, solver=Krylov(max_hvps=100))
    with open_loss(network, step, [(inputs.double(), labels)], dtype=torch.float64) as loss:
        report = CriticalPointStudy(options, seed=0).measure(loss)
    assert found.is_counted
    assert found.num_parameters == 78
    for each in report.indices[::2]:  # the second is at the size of roundings
        assert found.index[each.name] == pytest.approx(each.bracket)
        assert 0 < each.fraction < 1


def test_points_of_more_parameters_have_brackets(
    images: tuple[torch.Tensor, torch.Tensor],
) -> None:
    network = train(images, width=40, count=1, epochs=3, rate=0.3, seed=0).module(0)
    found = point(network, images, most_counted=100)
    low, high = found.index["relative_1e-3"]
    assert not found.is_counted
    assert 0 <= low < high <= 1


def test_the_figure_shows_what_was_found() -> None:
    def band(width: int) -> Band:
        losses = 1 + quantiles(20, scale=0.1 / width)
        names = ("relative_1e-3", "relative_1e-6", "absolute_1e-3")
        where = Point(
            num_parameters=9,
            loss=1.0,
            gradient_norm=0.1,
            gradient_left=0.5 / width,
            index=dict.fromkeys(names, (0.1 / width, 0.1 / width)),
            is_counted=True,
        )
        return Band(width=width, epochs=7, train=losses, test=losses**2, points=[where])

    figure = band_figure([[band(1), band(2)], [band(1), band(2)]])
    _, variances, shares, correlations, index, nearness = figure.axes
    assert variances.lines[0].get_ydata() == pytest.approx(
        [float(variance(band(width).train)) for width in (1, 2)]
    )
    assert shares.lines[0].get_ydata() == pytest.approx([0, 0])
    assert correlations.lines[0].get_ydata() == pytest.approx([1, 1], abs=0.01)
    assert len(index.lines) == 6
    assert index.lines[0].get_ydata() == pytest.approx([0.1, 0.05])
    assert nearness.lines[2].get_ydata() == pytest.approx([0.5, 0.25])
    texts = [text.get_text() for text in nearness.get_legend().get_texts()]
    assert texts == ["7 epochs", "7 epochs", "near one: below"]
