"""What fails on one process fails on all, with one reason, and none of them hangs."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable
from typing import Any, NoReturn

import pytest
import torch
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from lightning_hessian import HessianSpectrum, Loss
from tests.helpers.fitting import Classifier, classification_data, loader
from tests.helpers.hard_modules import mlp, seeded
from tests.helpers.processes import ddp_trainer, in_processes
from tests.helpers.spectrum import spectrum as cheap_spectrum

# calls of the step on each of two processes, which have two batches each: noise (0, 1), loss in
# both modes (2, 3), graph search (4), check (5 to 11), gradient (12, 13), whose graphs serve the
# products
FIRST, IN_CHECK, FIRST_OF_GRADIENT, LAST_OF_GRADIENT = 0, 7, 12, 13
NUM_CALLS, LATER = 14, 2  # of the first measurement, and of each after the second


def spectrum(**options: Any) -> HessianSpectrum:
    """Of the training's own batches, no others being tried where their weights are given."""
    weighted = Loss(batch_size=8, weight_fn=lambda batch: len(batch[0]))
    return cheap_spectrum(loss=weighted, **options)


class Fails(Classifier):
    """At one call of its step on process 1 it fails; each call exchanges tensors if told to."""

    # of the class: what the module holds itself is put back after each call
    calls, at = 0, -1
    fail: Callable[[Classifier, Tensor], Tensor]
    exchanges = False

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = F.cross_entropy(self.network(batch[0]), batch[1])
        if self.exchanges:
            self.all_gather(loss.detach())
        Fails.calls += 1
        if self.global_rank == 1 and Fails.calls - 1 == self.at:
            return Fails.fail(self, loss)
        return loss


def raises(error: Exception) -> Callable[[Classifier, Tensor], Tensor]:
    def fail(module: Classifier, loss: Tensor) -> NoReturn:
        raise error

    return fail


def raises_in_backward(error: Exception) -> Callable[[Classifier, Tensor], Tensor]:
    def hook(gradient: Tensor) -> NoReturn:
        raise error

    def fail(module: Classifier, loss: Tensor) -> Tensor:
        loss.register_hook(hook)
        return loss

    return fail


def is_nan(module: Classifier, loss: Tensor) -> Tensor:
    return loss * math.nan


def curves_without_bound(module: Classifier, loss: Tensor) -> Tensor:
    weight = module.network[0].weight
    return loss + (weight - weight.detach()).abs().pow(1.5).sum()


def is_a_vector(module: Classifier, loss: Tensor) -> Tensor:
    return loss.expand(2)


def fit(at: int, fail: Any, callback: HessianSpectrum | None, exchanges: bool = False) -> Any:
    """One process's weights and buffers after two steps."""
    Fails.calls, Fails.at, Fails.fail, Fails.exchanges = 0, at, fail, exchanges
    network = Fails(seeded(mlp).network)
    ours = [] if callback is None else [callback]
    ddp_trainer(*ours, max_epochs=2, max_steps=2).fit(network, loader())
    return [t.tolist() for t in network.state_dict().values()]


NO_MEMORY = torch.OutOfMemoryError("no memory")
OOM = "ProcessFailedError: OutOfMemoryError on process 1: no memory"
NAN = "NonFiniteError: the training loss must be finite, got nan on frozen batch"
CURVED = "NonFiniteError: a Hessian-vector product holds NaN or infinity"
CASES: dict[str, tuple[int, Any, bool, str]] = {
    "at the first call": (FIRST, raises(KeyError("x")), False, "KeyError on process 1: 'x'"),
    "in the check": (IN_CHECK, is_nan, False, f"{NAN} 1."),
    "in the gradient": (LAST_OF_GRADIENT, raises(ValueError("no")), True, "ValueError on"),
    "out of memory": (FIRST_OF_GRADIENT, raises_in_backward(NO_MEMORY), True, OOM),
    "loss not a number": (LAST_OF_GRADIENT, is_nan, True, f"{NAN} 3."),
    "product not a number": (LAST_OF_GRADIENT, curves_without_bound, True, CURVED),
}  # fmt: skip


@pytest.mark.sampled
@pytest.mark.parametrize("name", CASES)
def test_a_failure_of_one_is_recorded_by_all_and_training_goes_on(name: str) -> None:
    at, fail, exchanges, reason = CASES[name]

    def part(rank: int) -> Any:
        bare = fit(-1, fail, None, exchanges)
        callback = spectrum(on_error="warn", every_n_epochs=None)
        measured = fit(at, fail, callback, exchanges)
        return bare == measured, [report.to_dict() for report in callback.reports]

    (is_same, first), (other_is_same, second) = in_processes(part, seconds=30)
    assert is_same
    assert other_is_same
    assert repr(first) == repr(second)
    assert reason in first[0]["failure"]
    assert [report["failure"] for report in first[1:]] == [None]


@pytest.mark.sampled
@pytest.mark.parametrize("exchanges", [True, False])
def test_where_memory_runs_out_on_one_all_let_go_of_their_graphs(exchanges: bool) -> None:
    at, fail = LAST_OF_GRADIENT, raises_in_backward(NO_MEMORY)

    def part(rank: int) -> Any:
        callback = spectrum(on_error="warn", every_n_epochs=None)
        untroubled = spectrum(on_error="warn", every_n_epochs=None)
        return fit(-1, fail, untroubled, exchanges) == fit(at, fail, callback, exchanges), [
            (report.failure, report.largest.values.tolist(), report.notes)
            for report in (untroubled.reports[0], callback.reports[0])
        ]

    (is_same, found), (other_is_same, others) = in_processes(part, seconds=30)
    assert is_same
    assert other_is_same
    assert found == others
    (_, wanted, _), (failure, values, notes) = found
    assert failure is None
    assert values == wanted
    assert any("no memory" in note for note in notes)


def raises_a_signal(module: Classifier, loss: Tensor) -> Tensor:
    signal.raise_signal(signal.SIGUSR1)
    return loss


def test_a_signal_to_one_lets_all_abandon_the_measurement() -> None:
    def part(rank: int) -> Any:
        answered: list[int] = []
        signal.signal(signal.SIGUSR1, lambda number, _: answered.append(number))
        bare = fit(-1, raises_a_signal, None)
        callback = spectrum(on_error="raise", every_n_epochs=None)
        measured = fit(LAST_OF_GRADIENT, raises_a_signal, callback)
        assert bare == measured
        return len(answered), [report.global_step for report in callback.reports]

    assert in_processes(part, seconds=30) == [(0, [2]), (1, [2])]


class Terminated(Classifier):
    """All processes are told to end in the second measurement, as a cluster does."""

    calls = 0

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        Terminated.calls += 1
        # the first measurement and a step of training
        if Terminated.calls == NUM_CALLS + 1 + LATER:
            assert "log" in vars(self)  # shadowed inside measurements
            os.kill(os.getpid(), signal.SIGTERM)
        return F.cross_entropy(self.network(batch[0]), batch[1])


def test_a_termination_of_all_in_a_measurement_ends_the_run_of_all() -> None:
    def part(rank: int) -> Any:
        bare, module = seeded(mlp), Terminated(seeded(mlp).network)
        ddp_trainer(max_epochs=2, max_steps=1).fit(bare, loader())
        callback = spectrum(on_error="raise", every_n_train_steps=1)
        with pytest.raises(SIGTERMException):
            ddp_trainer(callback, max_epochs=2).fit(module, loader())
        pairs = zip(bare.parameters(), module.parameters(), strict=True)
        assert all(one.equal(other) for one, other in pairs)
        return [report.global_step for report in callback.reports], "log" in vars(module)

    assert in_processes(part, seconds=30) == [([0], False)] * 2


def test_all_check_in_float32_where_one_cannot_in_float64() -> None:
    def part(rank: int) -> Any:
        callback = spectrum(on_error="warn", every_n_epochs=None)
        fit(IN_CHECK, raises_in_backward(MemoryError("no memory")), callback)
        return [report.notes for report in callback.reports]

    first, second = in_processes(part, seconds=30)
    assert first == second
    assert "in float64 (ProcessFailedError: MemoryError on process 1: no memory)" in first[0][-1]


def test_all_give_up_together_after_one_refusal() -> None:
    def part(rank: int) -> Any:
        callback = spectrum(on_error="warn", every_n_train_steps=1)
        fit(FIRST, is_a_vector, callback)
        return [report.failure for report in callback.reports]

    first, second = in_processes(part, seconds=30)
    assert first == second
    assert first[0].startswith("RefusedError: the training loss must be a single number, got")
    # and look again together when training has begun
    assert first[1:] == [None, None]


def test_all_raise_together_where_asked() -> None:
    def part(rank: int) -> Any:
        failures = []
        for fail in (raises(MemoryError("no memory")), is_nan):
            try:
                fit(LAST_OF_GRADIENT, fail, spectrum(on_error="raise"))
            except Exception as error:
                failures.append(f"{type(error).__name__}: {error}")
        return failures

    first, second = in_processes(part, seconds=30)
    assert first == second
    assert first[0] == "ProcessFailedError: MemoryError on process 1: no memory"
    assert first[1].startswith(f"{NAN} 3.")


class FailsToFetch(Dataset[Any]):
    """Cannot be read on one process, until training reads it."""

    fails = False

    def __len__(self) -> int:
        return 26

    def __getitem__(self, index: int) -> Any:
        if FailsToFetch.fails:
            FailsToFetch.fails = False
            raise OSError("no such file")
        return classification_data()[index]


class FullDisk(DummyLogger):
    """Has no room for our numbers."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if any(key.startswith("hessian/") for key in metrics):
            raise OSError("disk full")


def test_what_fails_outside_the_step_fails_on_all() -> None:
    def part(rank: int) -> Any:
        FailsToFetch.fails = rank == 1
        callback = spectrum(on_error="warn", every_n_epochs=None)
        ddp_trainer(callback).fit(seeded(mlp), loader(FailsToFetch()))
        failures: list[Any] = [report.failure for report in callback.reports]
        publishing = spectrum(max_overhead=0.05)
        try:
            ddp_trainer(publishing, logger=FullDisk()).fit(seeded(mlp), loader())
        except RuntimeError as error:
            failures.append(str(error))
        return failures

    first, second = in_processes(part, seconds=30)
    assert first == second
    assert first == [
        "ProcessFailedError: OSError on process 1: no such file",
        None,
        "OSError on process 0: disk full",
    ]
