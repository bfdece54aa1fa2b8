"""Parameters that FSDP2 shards are made whole: the bits of one process, the run untouched."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn import functional as F

from lightning_hessian import HessianSpectrum, Loss
from lightning_hessian.errors import RefusedError
from tests.distributed.test_equality import (
    batch_norm,
    main_numbers,
    measured_by_one,
    plain,
    spectrum,
)
from tests.helpers.fitting import Classifier, loader, trainer
from tests.helpers.hard_modules import Checkpointed, seeded
from tests.helpers.processes import in_processes


class Sharded(Classifier):
    """Each linear layer in two halves; what is left, by the network."""

    def configure_model(self) -> None:
        mesh = self.device_mesh["data_parallel"]
        for layer in self.network.modules():
            if isinstance(layer, nn.Linear):
                fully_shard(layer, mesh=mesh)
        fully_shard(self.network, mesh=mesh)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        # no backward follows: FSDP leaves the root's parameters whole
        self.log("val_loss", F.cross_entropy(self.network(batch[0]), batch[1]), sync_dist=True)


def fitted(
    module: Classifier, callback: HessianSpectrum | None = None, *, size: int = 2, **options: Any
) -> list[tuple[list[dict[str, Any]], dict[str, Any]]]:
    """Each process's reports of a fit, and the whole state at its end."""

    def part(rank: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        network = Sharded(copy.deepcopy(module.network))
        strategy = ModelParallelStrategy(data_parallel_size=size, tensor_parallel_size=1)
        callbacks = [callback] if callback else []
        extra = options.pop("callbacks", [])
        fit = trainer(*callbacks, *extra, devices=size, strategy=strategy, **options)
        fit.fit(network, loader(), loader())
        whole = {
            name: (t.full_tensor() if hasattr(t, "full_tensor") else t).tolist()
            for name, t in network.state_dict().items()
        }
        return [report.to_dict() for report in callback.reports] if callback else [], whole

    return in_processes(part, size=size)


def test_two_processes_measure_the_same_bits_as_one_and_change_nothing() -> None:
    module = seeded(plain)
    options: dict[str, Any] = {"max_epochs": 2, "num_sanity_val_steps": 0}
    first, second = fitted(module, spectrum(every_n_epochs=1), **options)
    (_, weights), _ = fitted(module, **options)
    reports, state = first
    assert repr(first) == repr(second)
    assert state == weights
    assert [(report["global_step"], report["products"]["method"]) for report in reports] == [
        (0, "exact"),
        (2, "exact"),
        (4, "exact"),
    ]
    for report, at in ((reports[0], None), (reports[-1], state)):
        wanted = measured_by_one(module, at, every_n_epochs=1)
        del wanted["edge"]  # of shards each process has a part of the optimiser's state only
        assert {key: report[key] for key in wanted} == wanted


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("make", "options"),
    [
        (batch_norm, {"mode": "train"}),
        (plain, {"loss": Loss(precision=64), "trace": False, "density": False}),
        (plain, {"loss": Loss(parameters=["network.2.*"])}),
    ],
)
def test_they_do_so_in_other_modes(make: Any, options: dict[str, Any]) -> None:
    module = seeded(make)
    (reports, _), _ = fitted(module, spectrum(**options), max_steps=1)
    wanted = measured_by_one(module, None, **options)
    for found, same in zip(main_numbers(reports[0]), main_numbers(wanted), strict=True):
        torch.testing.assert_close(found, same, rtol=1e-12, atol=1e-14)


@pytest.mark.slow
def test_differences_of_gradients_are_those_of_one_process_to_their_error() -> None:
    module = seeded(lambda: Checkpointed(use_reentrant=True))
    (reports, _), _ = fitted(module, spectrum(), max_steps=1)
    alone = measured_by_one(module, None)
    assert reports[0]["products"]["method"] == "finite_difference"
    found, wanted = (torch.tensor(r["largest"]["values"]).double() for r in (reports[0], alone))
    assert bool(((found - wanted).abs() <= 2 * alone["products"]["error"]).all())


def test_a_report_travels_in_a_checkpoint_of_shards(tmp_path: Path) -> None:
    saver = ModelCheckpoint(tmp_path, filename="sharded", every_n_train_steps=2)
    callback = spectrum(at_checkpoints=True)
    (reports, _), _ = fitted(
        seeded(plain), callback, callbacks=[saver], max_steps=2, enable_checkpointing=True
    )
    assert [report["global_step"] for report in reports] == [0, 2]
    meta = torch.load(tmp_path / "sharded.ckpt" / "meta.pt", weights_only=True)
    (state,) = (s for key, s in meta["callbacks"].items() if "HessianSpectrum" in key)
    assert [report["global_step"] for report in state["reports"]] == [0, 2]
    assert (tmp_path / "sharded.ckpt.hessian.json").is_file()


@pytest.mark.slow
def test_a_run_with_gradients_of_several_batches_between_its_steps_is_untouched() -> None:
    module = seeded(plain)
    options: dict[str, Any] = {"max_epochs": 2, "accumulate_grad_batches": 3}
    measured = fitted(module, spectrum(every_n_train_steps=1), **options)
    plainly = fitted(module, **options)
    assert [state for _, state in measured] == [state for _, state in plainly]
    assert [report["failure"] for report in measured[0][0]] == [None] * len(measured[0][0])
    assert len(measured[0][0]) >= 3


def test_layers_that_compute_in_parts_are_refused() -> None:
    class InParts(Sharded):
        def configure_model(self) -> None:
            """Leave it to the strategy's sizes."""

    def part(rank: int) -> str:
        strategy = ModelParallelStrategy(data_parallel_size=1, tensor_parallel_size=2)
        callback = spectrum()
        try:
            trainer(callback, devices=2, strategy=strategy).fit(InParts(plain()), loader())
        except RefusedError as error:
            return str(error)
        return ""

    for reason in in_processes(part):
        assert "`ModelParallelStrategy(tensor_parallel_size=...)` must be 1" in reason
