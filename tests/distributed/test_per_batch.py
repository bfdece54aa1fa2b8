"""Two processes see the table of all batches, as one does."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from lightning_hessian.fit import FitLoss
from lightning_hessian.hvp import PerBatchOperator
from lightning_hessian.loss import measure_on_first
from lightning_hessian.studies import sampling_error
from tests.helpers.fitting import loader, trainer
from tests.helpers.processes import ddp_trainer, in_processes
from tests.helpers.sample_losses import AtStart
from tests.objective.test_per_batch import SIZE, linear

VECTORS = torch.linalg.qr(torch.randn(SIZE, 3, generator=torch.Generator().manual_seed(0)))[0]


def measure(loss: Any) -> dict[str, Any]:
    operator = PerBatchOperator(loss)
    products = operator.matmat(VECTORS[:, :2])
    kept = operator.take()
    error = sampling_error(loss, VECTORS, num_largest=2, population=100)
    return {
        "products": products.tolist(),
        "kept": [kept.sizes.tolist(), kept.forms.tolist(), kept.distances.tolist()],
        "errors": repr([error.eigenvalue_errors, error.largest_interval, error.num_batches]),
    }


class Conducted(AtStart):
    """Computes on the first process with the others' help."""

    def take(self, fit_loss: FitLoss) -> None:
        with fit_loss.opened() as loss:
            self.found = measure_on_first(loss, loss.processes, self.compute)


# a last batch of two for the second process; a single batch, of which it has a repeat
@pytest.mark.parametrize("batch_size", [8, 26])
def test_two_processes_give_the_bits_of_one(batch_size: int) -> None:
    def part(rank: int) -> Any:
        probe, own = Conducted(measure), copy.deepcopy(linear())
        ddp_trainer(probe, max_steps=1).fit(own, loader(batch_size=batch_size))
        return probe.found

    first, second = in_processes(part)
    alone = AtStart(measure)
    trainer(alone, max_steps=1).fit(linear(), loader(batch_size=batch_size))
    assert first == second == alone.found
    assert len(first["kept"][0]) == -(-26 // batch_size)
