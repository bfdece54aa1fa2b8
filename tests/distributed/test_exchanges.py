"""A step that exchanges tensors between processes, as in training: the loss is of all of them."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed.nn.functional as exchange
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_hessian import Krylov, Loss
from lightning_hessian.errors import ProcessFailedError, RefusedError
from lightning_hessian.processes import any_process, on_all_or_none, processes_of
from tests.helpers.fitting import Classifier, loader, trainer
from tests.helpers.hard_modules import seeded
from tests.helpers.processes import ddp_trainer, in_processes
from tests.helpers.spectrum import spectrum


class Centred(Classifier):
    """Subtracts the mean over the batches of all processes, as synchronised normalisation does."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        hidden = self.network[0](batch[0])
        mean = hidden.mean(dim=0)
        if self.trainer.world_size > 1:
            mean = exchange.all_reduce(mean) / self.trainer.world_size
        loss = F.cross_entropy(self.network[2]((2 * (hidden - mean)).tanh()), batch[1])
        self.log("loss", loss, sync_dist=True)
        return loss


def centred() -> Centred:
    network = seeded(lambda: nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))).network
    return Centred(network)


def test_the_hessian_goes_through_differentiable_exchanges() -> None:
    # two batches of 13 with one mean over both are one batch of 26
    def part(rank: int) -> Any:
        callback = spectrum(num_eigenvalues=51, loss=Loss(precision=64), solver=Krylov(max_hvps=51))
        ddp_trainer(callback, max_steps=1).fit(centred(), loader(batch_size=13))
        return callback.reports[0].largest.values.tolist(), callback.reports[0].notes

    (first, notes), (second, _) = in_processes(part)
    assert first == second
    assert [note.code for note in notes] == ["sampling-errors-unknown", "depends-on-batches"]
    callback = spectrum(num_eigenvalues=51, loss=Loss(precision=64), solver=Krylov(max_hvps=51))
    trainer(callback, max_steps=1).fit(centred(), loader(batch_size=26))
    alone = callback.reports[0].largest.values
    torch.testing.assert_close(torch.tensor(first, dtype=torch.float64), alone, rtol=0, atol=1e-12)


def test_a_step_is_called_equally_often_by_all_where_batches_do_not_divide() -> None:
    # one batch for the second process, which exchanges in a repeat of it; else this would hang
    def part(rank: int) -> Any:
        callback = spectrum(num_samples=20)
        ddp_trainer(callback, max_steps=1).fit(centred(), loader(batch_size=8))
        return [report.to_dict() for report in callback.reports]

    first, second = in_processes(part, seconds=30)
    assert repr(first) == repr(second)
    assert [report["num_samples"] for report in first] == [20, 20]


def test_processes_of_fabric_sum_send_and_agree() -> None:
    def part(rank: int) -> Any:
        fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp")
        fabric.launch()
        processes = processes_of(fabric)

        def refuse() -> int:
            if processes.rank == 1:
                raise RefusedError("no")
            return 7

        def stop() -> None:
            raise TimeoutError(f"late {processes.rank}")

        errors: list[str] = []
        for function in (refuse, stop):
            try:
                on_all_or_none(processes, function)
            except (RefusedError, ProcessFailedError) as error:
                errors.append(f"{type(error).__name__}: {error}")
        return (
            (processes.rank, processes.size),
            processes.sum(torch.tensor([1.0, rank])).tolist(),
            processes.broadcast({"from": rank}, 1),
            on_all_or_none(processes, lambda: rank),
            (any_process(processes, rank == 1), any_process(processes, False)),
            errors,
        )

    for rank, found in enumerate(in_processes(part)):
        assert found == (
            (rank, 2),
            [2.0, 1.0],
            {"from": 1},
            rank,
            (True, False),
            ["RefusedError: no", "ProcessFailedError: TimeoutError on process 0: late 0"],
        )


def test_one_process_is_alone() -> None:
    processes = processes_of(trainer())
    assert (processes.rank, processes.size, processes.broadcast("x", 0)) == (0, 1, "x")
    ones = torch.ones(2)
    assert processes.sum(ones) is ones
