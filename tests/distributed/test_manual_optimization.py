"""Two processes agree on a loss of manual optimisation, and measure what one measures."""

from __future__ import annotations

import torch

from lightning_hessian import HessianSpectrum, Krylov, Loss
from tests.helpers.adversarial import Accumulates
from tests.helpers.fitting import loader, trainer
from tests.helpers.processes import ddp_trainer, in_processes


def seeded() -> Accumulates:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return Accumulates()


def spectrum() -> HessianSpectrum:
    return HessianSpectrum(
        every_n_epochs=None,
        max_overhead=None,
        on_error="raise",
        loss=Loss(which=1),
        solver=Krylov(max_hvps=16),
    )


def test_which_optimiser_steps_may_be_seen_by_one_process_only() -> None:
    """Of the two batches, the second one steps, and it is the second process's."""

    def part(rank: int) -> dict[str, object]:
        callback = spectrum()
        fit = ddp_trainer(callback, max_steps=1, ddp={"find_unused_parameters": True})
        fit.fit(seeded(), loader(batch_size=13))
        return callback.reports[0].to_dict()

    first, second = in_processes(part)
    callback = spectrum()
    trainer(callback, max_steps=1).fit(seeded(), loader(batch_size=13))
    alone = callback.reports[0].to_dict()
    assert repr(first) == repr(second)
    assert first["loss_name"] == "manual_backward 1"
    assert first["num_parameters"] == 19  # of the discriminator
    for name in ("largest", "loss", "gradient_norm", "trace"):
        assert first[name] == alone[name]
