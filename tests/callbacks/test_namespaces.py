"""The callback under both names of Lightning."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_hessian import Krylov
from tests.helpers.fitting import Classifier, loader, trainer
from tests.helpers.programs import run_program
from tests.helpers.spectrum import spectrum, steps

other = pytest.importorskip("pytorch_lightning")


class OtherClassifier(other.LightningModule):
    """The classifier of these tests as a module of the other package."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        inputs, targets = batch
        loss = F.cross_entropy(self.network(inputs), targets)
        self.log("train_loss", loss)
        return loss * (2.0 if self.trainer.validating else 1.0)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fitted(*callbacks: Any) -> OtherClassifier:
    torch.manual_seed(3)
    module = OtherClassifier()
    host = other.Trainer(
        accelerator="cpu",
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
    )
    host.fit(module, loader())
    return module


def test_it_is_a_callback_of_both_packages() -> None:
    assert isinstance(spectrum(), pl.Callback)
    assert isinstance(spectrum(), other.Callback)


def test_the_numbers_are_the_same_under_both_names() -> None:
    theirs, ours = spectrum(solver=Krylov(max_hvps=51)), spectrum(solver=Krylov(max_hvps=51))
    fitted(theirs)
    torch.manual_seed(3)
    trainer(ours, max_epochs=2).fit(Classifier(), loader())
    assert steps(theirs) == steps(ours) == [0, 4, 8]
    for one, two in zip(theirs.reports, ours.reports, strict=True):
        assert one.largest.values.equal(two.largest.values)
        assert one.loss == two.loss


def test_the_run_under_the_other_name_is_left_as_it_is() -> None:
    with_ours, without = fitted(spectrum(every_n_train_steps=1)), fitted()
    for one, two in zip(with_ours.parameters(), without.parameters(), strict=True):
        assert one.equal(two)
    metrics = [module.trainer.logged_metrics for module in (with_ours, without)]
    assert metrics[0] == metrics[1]


IMPORTS_IN_FORKS = """
import importlib, importlib.util, os, sys
# what both names import, once for all forks
import scipy.stats, torch._dynamo, torch.distributed.fsdp, torch.utils.tensorboard, torchmetrics
for order in sys.argv[1:]:
    if not os.fork():
        for name in order.split(","):
            importlib.util.find_spec(name)  # who asks, as many do, imports nothing
            importlib.import_module(name)
        from lightning_hessian import HessianSpectrum
        from lightning_utilities.core import rank_zero
        other = sys.modules.get("pytorch_lightning")
        joined = other and issubclass(HessianSpectrum, other.Callback)
        print(order, rank_zero.log.name.partition(".utilities")[0], joined, flush=True)
        os._exit(0)
    assert os.wait()[1] == 0, order
"""


@pytest.mark.slow
def test_the_other_name_is_served_in_every_order_of_imports_and_never_imported() -> None:
    """The logger of the name that came first is kept."""
    expected = {
        "lightning.pytorch": ("lightning.pytorch", None),
        "pytorch_lightning": ("pytorch_lightning", True),
        "pytorch_lightning,lightning.pytorch": ("pytorch_lightning", True),
        # which imports neither before it is asked for what is in it
        "lightning_hessian": ("lightning.pytorch", None),
        "lightning_hessian.callbacks": ("lightning.pytorch", None),
        "lightning_hessian,pytorch_lightning": ("pytorch_lightning", True),
        "lightning_hessian.callbacks,pytorch_lightning": ("pytorch_lightning", True),
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", IMPORTS_IN_FORKS, *expected],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [f"{order} {logger} {joined}" for order, (logger, joined) in expected.items()]
    assert done.stdout.splitlines() == lines


@pytest.mark.slow
def test_a_callback_that_was_there_first_becomes_one_of_the_other_name() -> None:
    """Bases that a class gets later are those of its instances too."""
    code = """
import sys
from lightning_hessian import HessianSpectrum
early = HessianSpectrum()
assert "pytorch_lightning" not in sys.modules
from pytorch_lightning import Trainer
Trainer(callbacks=[early], logger=False, accelerator="cpu")
"""
    ended = run_program("-c", code)
    assert ended.code == 0, ended.errors
