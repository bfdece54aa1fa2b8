"""Few products: errors read off the batches against dense Hessians, and intervals that cover."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_hessian.fit import FitLoss
from lightning_hessian.hvp import CrossedOperator, open_loss, per_batch_products
from lightning_hessian.loss import measure_on_first
from lightning_hessian.records import EXACT
from lightning_hessian.studies import QuickSpectrum, quick_spectrum
from lightning_hessian.studies.batch_statistics import variance
from tests.helpers.dense_samples import DenseSamples, random_hessians
from tests.helpers.fitting import loader, trainer
from tests.helpers.processes import ddp_trainer, in_processes
from tests.helpers.sample_losses import AtStart
from tests.objective.test_per_batch import linear

SIZE, POPULATION = 12, 600
HESSIANS = random_hessians(POPULATION, SIZE, spread=3.0)
TRUTH = torch.linalg.eigvalsh(HESSIANS.mean(dim=0)).flip(0)


def drawn(count: int, seed: int, num_batches: int = 12) -> Any:
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(POPULATION, generator=generator)[:count]
    return DenseSamples.dealt(HESSIANS, order, num_batches)


def measured(loss: Any, seed: int = 0, **options: Any) -> QuickSpectrum:
    generator = torch.Generator().manual_seed(seed)
    options = {"num_products": 5, "population": POPULATION} | options
    return quick_spectrum(loss, generator=generator, **options)


def codes(found: QuickSpectrum) -> list[str]:
    return [note.code for note in found.notes]


def unit(size: int, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    return torch.linalg.qr(torch.randn(size, count, generator=generator, dtype=torch.float64))[0]


def test_forms_between_all_vectors_are_those_of_each_batch() -> None:
    loss = drawn(60, 0, 5)
    vectors = unit(SIZE, 4)
    operator = CrossedOperator(loss)
    products = [operator.matmat(part) for part in (vectors[:, :2], vectors[:, 2:3], vectors[:, 3:])]
    torch.testing.assert_close(torch.cat(products, dim=1), loss.mean @ vectors)
    crossed = operator.take()
    exact = torch.stack([vectors.T @ mean @ vectors for mean in loss.means])
    torch.testing.assert_close(crossed.forms, exact)
    torch.testing.assert_close(crossed.along.forms, exact.diagonal(dim1=1, dim2=2))


def test_a_sketch_keeps_squared_norms_on_average_and_is_linear() -> None:
    size, hessians = 400, torch.eye(400).double().repeat(3, 1, 1)
    loss: Any = DenseSamples.dealt(hessians, torch.arange(3), 3)
    vectors = unit(size, 40)
    _, table = per_batch_products(loss, vectors, sketch=64)
    assert table.sketches is not None
    squares = table.sketches[0].square().sum(dim=0)
    # each within sqrt(2 / 64) of one; the 40 are nearly independent
    assert float(squares.mean()) == pytest.approx(1, abs=4 * math.sqrt(2 / 64 / 40))
    assert float(squares.std()) == pytest.approx(math.sqrt(2 / 64), rel=0.5)
    _, other = per_batch_products(loss, vectors @ torch.ones(40, 1).double(), sketch=64)
    assert other.sketches is not None
    torch.testing.assert_close(other.sketches[..., 0], table.sketches.sum(dim=2))


def test_products_with_tables_are_the_same_bits_as_without() -> None:
    loss = drawn(60, 0)
    vectors = unit(SIZE, 2)
    plain, table = per_batch_products(loss, vectors)
    more, _ = per_batch_products(loss, vectors, beside=unit(SIZE, 3), sketch=8)
    assert torch.equal(plain, more)
    assert table.beside is None
    assert table.sketches is None


def test_with_all_vectors_errors_are_those_of_dense_perturbation_theory() -> None:
    loss = drawn(120, 1)
    found = measured(loss, num_products=SIZE, num_eigenvalues=3)
    values, vectors = (x.flip(-1) for x in torch.linalg.eigh(loss.mean))
    torch.testing.assert_close(found.largest.values, values[:3])
    sizes = torch.tensor([b.weight for b in loss.sample.batches]).double()
    scatter = variance(sizes, torch.stack([vectors.T @ m @ vectors for m in loss.means]))
    share = 1 / 120 - 1 / POPULATION
    sampling = found.sampling
    assert sampling is not None
    torch.testing.assert_close(sampling.eigenvalue_errors, (share * scatter.diagonal()[:3]).sqrt())
    second = float((share * scatter[0, 1:] / (values[0] - values[1:])).sum())
    # repulsion bends the expansion down; the sketch of nothing left adds only its noise
    assert 0 < float(sampling.eigenvalue_biases[0]) < 2 * second
    traces = torch.stack([m.trace() for m in loss.means])
    wanted = math.sqrt(share * float(variance(sizes, traces)))
    assert sampling.trace_error == pytest.approx(wanted)
    assert found.trace is not None
    assert found.trace.value == pytest.approx(float(loss.mean.trace()))


@pytest.mark.slow
@pytest.mark.parametrize("count", [4, 6])
def test_intervals_along_a_tracking_cover_the_population(count: int) -> None:
    held, lengths, traces, total = 0, [], 0, 0
    for seed in range(60):
        loss, recycled, values = drawn(120, seed), None, None
        for step in range(3):
            found = measured(
                loss,
                10 * seed + step,
                num_products=count,
                recycled=recycled,
                recycled_values=values,
            )
            recycled, values = found.vectors, found.values
            assert found.num_hvps == count
        assert found.sampling is not None
        assert found.trace is not None
        low, high = found.sampling.largest_interval
        held += low <= float(TRUTH[0]) <= high
        lengths.append((high - low) / float(TRUTH[0]))
        away = abs(found.trace.value - float(TRUTH.sum()))
        probe = found.trace.interval[1] - found.trace.value
        traces += away <= math.hypot(probe, 2.2 * found.sampling.trace_error)
        total += 1
    # three deviations below 95 %
    assert held >= 0.86 * total
    assert traces >= 0.86 * total
    assert max(lengths) < 1


def test_over_the_whole_population_only_the_residual_is_left() -> None:
    loss: Any = DenseSamples.dealt(HESSIANS, torch.arange(POPULATION), 4)
    first = measured(loss, num_products=6)
    found = measured(loss, 1, num_products=6, recycled=first.vectors)
    assert found.sampling is not None
    low, high = found.sampling.largest_interval
    value, bound = float(found.largest.values[0]), float(found.largest.residual_bounds[0])
    assert (low, high) == pytest.approx((value, value + bound))
    assert low <= float(TRUTH[0]) * (1 + 1e-12)
    assert float(TRUTH[0]) <= high
    assert found.sampling.trace_error == 0


def test_a_vector_that_lost_the_lead_leaves_room_for_what_the_last_product_added() -> None:
    loss: Any = DenseSamples.dealt(HESSIANS, torch.arange(POPULATION), 4)
    trailing = torch.linalg.eigh(HESSIANS.mean(dim=0))[1][:, :1]
    found, before = (measured(loss, 1, num_products=count, recycled=trailing) for count in (6, 5))
    assert found.sampling is not None
    value, bound = float(found.largest.values[0]), float(found.largest.residual_bounds[0])
    added = value - float(before.largest.values[0])
    assert added > 0
    assert found.sampling.largest_interval[1] == pytest.approx(value + bound + added)


@pytest.mark.parametrize(("count", "is_recycled"), [(1, True), (3, True), (1, False), (5, False)])
def test_too_few_products_leave_the_upper_end_open(count: int, is_recycled: bool) -> None:
    vectors = unit(SIZE, 1) if is_recycled else None
    found = measured(drawn(120, 0), num_products=count, recycled=vectors)
    assert found.sampling is not None
    more = measured(drawn(120, 0), num_products=count + 1 + 2 * (count == 1), recycled=vectors)
    is_enough = more.num_hvps >= (4 if is_recycled else 6)
    assert more.sampling is not None
    assert math.isfinite(more.sampling.largest_interval[1]) == is_enough
    assert found.sampling.largest_interval[1] == math.inf
    assert found.num_hvps == count
    assert "largest-may-be-missed" in codes(found)


def test_one_product_goes_to_the_recycled_vector_and_none_to_the_trace() -> None:
    first = measured(drawn(120, 0), num_products=1)
    assert first.trace is not None
    then = measured(drawn(120, 0), num_products=1, recycled=first.vectors)
    assert then.trace is None
    assert "trace-not-measured" in codes(then)
    assert then.sampling is not None
    assert math.isnan(then.sampling.trace_error)


def test_what_was_not_found_is_absent() -> None:
    generator = torch.Generator().manual_seed(0)
    hessians = torch.randn(60, 200, 200, generator=generator).double()
    loss: Any = DenseSamples.dealt(hessians + hessians.mT, torch.arange(60), 6)
    found = measured(loss, num_products=4, population=None)
    # a semicircle has no outlier that four products could find
    assert len(found.largest.values) <= 1
    few = measured(loss, num_products=1, population=None)
    assert len(few.largest.values) == 0
    assert "eigenvalues-not-found" in codes(few)
    assert few.sampling is not None
    assert len(few.sampling.eigenvalue_errors) == 0
    assert few.vectors.shape == (200, 1)


def test_without_batches_or_exact_products_there_is_no_sampling_error_and_a_note() -> None:
    found = measured(drawn(120, 0, num_batches=2))
    assert found.sampling is None
    assert "sampling-errors-unknown" in codes(found)
    loss = drawn(120, 0)
    loss.quality = replace(EXACT, method="finite_difference", error=0.5)
    loss.matmat = lambda vectors: loss.mean @ vectors
    found = measured(loss)
    assert found.sampling is None
    assert "sampling-errors-unknown" in codes(found)
    assert float(found.largest.residual_bounds[0]) >= 0.5


def test_of_a_network_the_numbers_are_those_of_its_dense_hessian() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
        inputs, labels = torch.randn(48, 5).double(), torch.randint(0, 3, (48,))
    batches = list(zip(inputs.split(8), labels.split(8), strict=True))

    def batch_loss(batch: Any, _: int) -> Tensor:
        return F.cross_entropy(network(batch[0]), batch[1])

    with open_loss(network, batch_loss, batches, dtype=torch.float64) as loss:
        dense = loss.products.matmat(torch.eye(loss.size, dtype=torch.float64))
        found = quick_spectrum(loss, num_products=13, generator=torch.Generator().manual_seed(0))
    value, bound = float(found.largest.values[0]), float(found.largest.residual_bounds[0])
    truth = float(torch.linalg.eigvalsh(dense)[-1])
    assert value <= truth + 1e-12
    assert truth - value <= bound
    assert found.trace is not None
    assert found.trace.interval[0] <= float(dense.trace()) <= found.trace.interval[1]


def followed(loss: Any) -> dict[str, Any]:
    """Two reports, the second from the vectors of the first."""
    first = quick_spectrum(loss, num_products=4, generator=torch.Generator().manual_seed(0))
    then = quick_spectrum(
        loss,
        num_products=4,
        recycled=first.vectors,
        recycled_values=first.values,
        generator=torch.Generator().manual_seed(1),
        population=100,
    )
    assert then.sampling is not None
    return {
        "largest": then.largest.values.tolist(),
        "vectors": then.vectors.tolist(),
        "trace": repr(then.trace),
        "sampling": repr([then.sampling.largest_interval, then.sampling.trace_error]),
    }


class Conducted(AtStart):
    """Computes on the first process with the others' help."""

    def take(self, fit_loss: FitLoss) -> None:
        with fit_loss.opened() as loss:
            self.found = measure_on_first(loss, loss.processes, self.compute)


@pytest.mark.parametrize("batch_size", [5, 8])
def test_two_processes_give_the_bits_of_one(batch_size: int) -> None:
    def part(rank: int) -> Any:
        probe, own = Conducted(followed), copy.deepcopy(linear())
        ddp_trainer(probe, max_steps=1).fit(own, loader(batch_size=batch_size))
        return probe.found

    first, second = in_processes(part)
    alone = AtStart(followed)
    trainer(alone, max_steps=1).fit(linear(), loader(batch_size=batch_size))
    assert first == second == alone.found


@pytest.mark.parametrize("num_batches", [4, 12])
def test_the_interval_reaches_as_many_standard_errors_as_students_t_says(num_batches: int) -> None:
    found = measured(drawn(120, 0, num_batches), recycled=unit(SIZE, 1))
    assert found.sampling is not None
    theta = float(found.largest.values[0])
    error = float(found.sampling.eigenvalue_errors[0])
    bias = float(found.sampling.eigenvalue_biases[0])
    # 97.5 % points with 3 and with 11 degrees of freedom, from a table
    student = {4: 3.1824, 12: 2.2010}[num_batches]
    low, high = found.sampling.largest_interval
    lower_end = theta * math.exp(-student * error / theta) - 2 * bias
    assert low == pytest.approx(lower_end, rel=1e-4)
    assert high >= theta * math.exp(student * error / theta) * (1 - 1e-4)
