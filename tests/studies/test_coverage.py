"""How often do the stated errors hold the population's value, over 200 samples of it?

An interval of 1.96 errors is to hold it in 95 %, which is 190 of 200 with a deviation of 3. It does
for light tails. Of a skewed distribution the variance and its error are small together, and a heavy
tail is not seen in most samples at all: a known shortfall, here pinned to what it is (1000 other
samples of 500 losses), within four binomial deviations of 200 draws.
"""

from __future__ import annotations

import math

import pytest
import torch

from lightning_hessian.statistics import mean_abs_difference as mean_distance
from lightning_hessian.studies import OrderStatistics, order_statistics
from tests.helpers.orders import POPULATIONS, exponential_mean_distance

REPETITIONS, COUNT = 200, 500
GINI = {  # E |X - Y|, which is A_1
    "uniform": 1 / 3,
    "exponential": 1.0,
    "gamma": 2 * math.gamma(1) / (math.sqrt(math.pi) * math.gamma(0.5)),
    "lognormal": 2 * math.exp(0.5) * math.erf(0.5),
}
COVERAGE = {  # of S^2 and RMS; of MAD and the mean absolute difference at k = 1 and k = N - 1
    "uniform": (0.955, 0.955),
    "exponential": (0.93, 0.94),
    "gamma": (0.925, 0.94),
    "lognormal": (0.785, 0.915),
}


def _samples(name: str, sizes: list[int]) -> list[OrderStatistics]:
    generator = torch.Generator().manual_seed(2)
    return [
        order_statistics(
            POPULATIONS[name].draw(COUNT, generator=generator),
            sample_sizes=sizes,
            generator=generator,
        )
        for _ in range(REPETITIONS)
    ]


def _check(found: list[tuple[float, float]], truth: float, coverage: float) -> None:
    hits = sum(abs(value - truth) <= 1.96 * error for value, error in found)
    deviation = math.sqrt(coverage * (1 - coverage) * REPETITIONS)
    assert abs(hits - coverage * REPETITIONS) <= 4 * deviation, hits / REPETITIONS


@pytest.mark.parametrize("name", POPULATIONS)
def test_errors_cover_the_population_as_often_as_is_known(name: str) -> None:
    population, (of_squares, of_distances) = POPULATIONS[name], COVERAGE[name]
    samples = _samples(name, [1, COUNT - 1])
    variance, deviation = population.variance, population.mean_absolute_deviation
    _check(
        [(s.spread.variance.value, s.spread.variance.standard_error) for s in samples],
        variance,
        of_squares,
    )
    _check(
        [
            (float(s.differences.rms[0]), float(s.differences.rms_standard_error[0]))
            for s in samples
        ],
        math.sqrt(variance / 2),
        of_squares,
    )
    _check(
        [
            (
                s.spread.mean_absolute_deviation.value,
                s.spread.mean_absolute_deviation.standard_error,
            )
            for s in samples
        ],
        deviation,
        of_distances,
    )
    # at k = N - 1 the population's own A_k is MAD to 1/k, a fiftieth of the error
    for index, truth in ((0, GINI[name] / 2), (1, deviation / COUNT)):
        pairs = [
            (
                float(s.differences.mean_abs[index]),
                float(s.differences.mean_abs_standard_error[index]),
            )
            for s in samples
        ]
        _check(pairs, truth, of_distances)


def test_error_of_the_mean_absolute_difference_covers_at_every_sample_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mean_distance, "NUM_DRAWS", 2**14)  # an error still below the sampling's
    sizes = [1, 2, 3, 5, 20, 100, 240, 300]
    samples = _samples("exponential", sizes)
    for index, k in enumerate(sizes):
        pairs = [
            (
                float(s.differences.mean_abs[index]),
                float(s.differences.mean_abs_standard_error[index]),
            )
            for s in samples
        ]
        _check(pairs, exponential_mean_distance(k) / (k + 1), 0.942)
        # and the stated error is the scatter, which a normal gives to 1 / sqrt(2 * 199)
        values, errors = torch.tensor(pairs).T
        assert float(errors.mean() / values.std()) == pytest.approx(1, abs=4 / math.sqrt(398))
