"""Several processes measure the first one's average, whose buffers differ from the others'."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from lightning_hessian import Krylov, Loss
from tests.helpers.averages import Averages, averaging
from tests.helpers.fitting import Classifier, classification_data, loader
from tests.helpers.networks import measured
from tests.helpers.processes import ddp_trainer, in_processes
from tests.helpers.spectrum import spectrum

EXACT = Krylov(rtol=1e-6, max_hvps=60)


def normalised() -> Classifier:
    torch.manual_seed(0)
    return Classifier(nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)))


@pytest.mark.slow
def test_two_processes_measure_the_average_of_the_first() -> None:
    loss = Loss(weights="averaged", precision=64)

    def fit(_rank: int) -> tuple[float, list[float], dict[str, Any]]:
        averager = averaging()
        kept = Averages(averager)
        callback = spectrum(
            loss=loss,
            num_samples="all",
            solver=EXACT,
            every_n_train_steps=2,
            every_n_epochs=None,
        )
        ddp_trainer(averager, kept, callback, max_epochs=1).fit(normalised(), loader())
        report = callback.reports[0]
        state = {name: value.tolist() for name, value in kept.states[2].items()}
        return report.loss, report.largest.values.tolist(), state

    (first, top, state), (second, other_top, other_state) = in_processes(fit)
    assert (first, top) == (second, other_top)
    assert state != other_state  # running statistics are of each process's own batches
    module = normalised()
    module.load_state_dict({name: torch.tensor(value) for name, value in state.items()})
    options = {"num_eigenvalues": 1, "trace": False, "density": False, "solver": EXACT}
    expected = measured(module, classification_data(), loss=Loss(precision=64), **options)
    assert first == pytest.approx(expected.loss, rel=1e-12)
    assert top[0] == pytest.approx(float(expected.largest.values[0]), rel=1e-6)
