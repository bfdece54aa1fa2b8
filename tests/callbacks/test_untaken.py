"""Fits of steps that take batches of some sizes only: measured, or refused once with the reason."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import default_collate

from lightning_hessian import Krylov, Loss, Perturbations, Surface
from lightning_hessian.errors import UntakenBatchError
from tests.helpers.choosy import BATCH, choosy, even, full, mean, weighted
from tests.helpers.difference import difference
from tests.helpers.fitting import Classifier, classification_data, loader, trainer
from tests.helpers.spectrum import spectrum


class By(Classifier):
    """The same weights each time, under a step that is given."""

    def __init__(self, step: Any) -> None:
        super().__init__()
        self.step = step
        with torch.no_grad():
            for number, parameter in enumerate(self.parameters()):
                generator = torch.Generator().manual_seed(number)
                parameter.copy_(torch.randn(parameter.shape, generator=generator))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss: Tensor = self.step(self, batch)
        return loss


def anything(_: Any) -> None:
    """Takes every batch."""


def fitted(step: Any, callback: Any, count: int = 3 * BATCH, **options: Any) -> Any:
    """The last report of a fit whose training sees whole batches only."""
    module = By(step)
    batches = loader(classification_data(count), batch_size=BATCH, drop_last=True)
    trainer(callback, **{"max_epochs": 2, **options}).fit(module, batches)
    return callback.reports[-1]


def fails_in_eval(module: Any, batch: Any) -> Tensor:
    if not module.training:
        _, _ = 1, 2, 3  # type: ignore[misc]
    return mean(module.network(batch[0]), batch)


@pytest.mark.parametrize("make", [spectrum, difference])
def test_a_step_that_fails_in_eval_mode_is_refused_once(make: Any) -> None:
    callback = make(on_error="warn", every_n_epochs=1)
    with pytest.warns(UserWarning, match="has no numbers at step 0") as warned:
        fitted(fails_in_eval, callback, max_epochs=3)
    (ours,) = [str(w.message) for w in warned if "has no numbers" in str(w.message)]
    assert "fails on a batch of 8 samples, as many as in training, each time alike, in eval" in ours
    assert "ValueError: too many values to unpack (expected 2" in ours
    assert "Define `hessian_loss(self, batch, batch_idx)`" in ours
    assert [report.step for report in callback.reports] == [0]


def test_the_steps_error_is_the_cause() -> None:
    with pytest.raises(UntakenBatchError) as refused:
        fitted(fails_in_eval, spectrum())
    assert isinstance(refused.value.__cause__, ValueError)


@pytest.mark.slow
@pytest.mark.parametrize("takes", [even, full])
def test_all_that_is_asked_for_is_that_of_a_step_that_takes_any_batch(takes: Any) -> None:
    def report(step: Any) -> Any:
        callback = difference(
            num_samples="all",
            hessian_differences=2,
            derivatives=True,
            perturbations=Perturbations(sigmas=[0.1], count=4),
            surface=Surface(directions="random", points=3),
            loss=Loss(precision=64),
            every_n_epochs=None,
        )
        return fitted(step, callback, max_epochs=1)

    found, wanted = report(choosy(takes, mean)), report(choosy(anything, mean))
    assert found.notes == wanted.notes == ()
    assert found.spread.variance.value == pytest.approx(wanted.spread.variance.value, rel=1e-9)
    torch.testing.assert_close(found.hessian_differences.norms, wanted.hessian_differences.norms)
    (one,), (other,) = found.neighbourhood, wanted.neighbourhood
    assert one.variance == pytest.approx(other.variance, rel=1e-9)
    torch.testing.assert_close(found.surface.loss, wanted.surface.loss)
    assert found.hessian.norm == pytest.approx(wanted.hessian.norm, rel=1e-6)


@pytest.mark.parametrize("make", [spectrum, difference])
def test_a_rest_that_the_step_does_not_take_is_left_out(make: Any) -> None:
    found = fitted(choosy(full, mean), make(num_samples=13))
    wanted = fitted(choosy(anything, mean), make(num_samples=BATCH))
    assert found.loss == pytest.approx(wanted.loss, rel=1e-6)
    assert found.num_samples == BATCH
    assert found.data.endswith(
        "samples of the training set (TensorDataset), but for 1 smaller batch"
    )
    note = next(note for note in found.notes if note.code == "small-batch-left-out")
    assert "does not take the frozen batch of less than 8 samples (RuntimeError: shape" in note
    assert not note.qualifies


def test_a_loss_is_compared_in_batches_of_the_one_size_that_the_step_takes() -> None:
    enough: dict[str, Any] = {"num_samples": "all", "every_n_epochs": None}
    enough["solver"] = Krylov(max_hvps=60)
    plain = spectrum(**enough)
    fitted(choosy(full, mean), plain)
    assert plain.reports[0].notes == ()
    callback = spectrum(**enough)
    fitted(choosy(full, weighted), callback)
    report = callback.reports[0]
    assert [note.code for note in report.notes] == ["weighted-mean"]
    inputs, labels = classification_data(3 * BATCH).tensors
    whole = weighted(By(None).network(inputs), (inputs, labels))
    assert report.loss == pytest.approx(whole.item(), rel=1e-6)


def test_a_step_of_which_nothing_can_be_compared_is_measured_with_a_note() -> None:
    # a single batch has none to exchange samples with
    report = fitted(
        choosy(full, mean), spectrum(num_samples=BATCH, every_n_epochs=None), count=3 * BATCH
    )
    note = next(note for note in report.notes if note.code == "batches-of-one-size")
    assert note.qualifies
    assert "If it does, the numbers are those of one partition of the samples" in note
    assert report.largest.values[0] > 0


def test_batches_that_cannot_be_cut_are_measured_with_a_note() -> None:
    def with_pairs(items: Any) -> Any:
        return (*default_collate(items), torch.zeros(3))

    def step(module: Any, batch: Any) -> Tensor:
        return mean(module.network(batch[0]), batch[:2])

    callback = spectrum(num_samples="all", every_n_epochs=None)
    batches = loader(classification_data(3 * BATCH), BATCH, collate_fn=with_pairs)
    trainer(callback).fit(By(step), batches)
    (note,) = [note for note in callback.reports[-1].notes if note.code == "batches-not-cut"]
    assert note.qualifies
    assert "It was not seen whether the loss depends on who shares a batch, as a batch" in note
    assert "Tensor of shape (3,)" in note
    assert "If it does, the numbers are those of one partition of the samples" in note


class Mixup(By):
    """Mixes mirror images by a drawn weight."""

    def __init__(self) -> None:
        super().__init__(None)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        even(batch)
        share = 0.5 + 0.5 * torch.rand(())
        x, y = batch
        outputs = self.network(share * x + (1 - share) * x.flip(0))
        return share * F.cross_entropy(outputs, y) + (1 - share) * F.cross_entropy(
            outputs, y.flip(0)
        )


class Noisy(By):
    """Adds noise to each sample of an even batch."""

    def __init__(self) -> None:
        super().__init__(None)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        even(batch)
        return F.cross_entropy(self.network(batch[0] + 0.1 * torch.randn_like(batch[0])), batch[1])


@pytest.mark.parametrize("kind", [Mixup, Noisy])
def test_noise_in_a_step_that_takes_even_batches_costs_no_numbers(kind: Any) -> None:
    # twelve groups would be of three samples
    callback = spectrum(num_samples="all", every_n_epochs=None)
    batches = loader(classification_data(26), batch_size=BATCH)
    trainer(callback, max_epochs=1).fit(kind(), batches)
    report = callback.reports[0]
    assert report.largest.values[0] > 0
    assert "noisy-step" in [note.code for note in report.notes]


def test_mixup_is_refused_once_for_its_noise_in_words() -> None:
    callback = difference(on_error="warn", every_n_epochs=1)
    with pytest.warns(UserWarning, match="the step draws random numbers in eval mode"):
        trainer(callback, max_epochs=3).fit(
            Mixup(), loader(classification_data(24), batch_size=BATCH)
        )
    assert len(callback.reports) == 1


class Store:
    """Holds parameters for all modules, as pyro's does."""

    parameters: dict[str, nn.Parameter] = {}  # noqa: RUF012

    def __getstate__(self) -> None:
        raise TypeError("not to be copied")


class FromStore(Classifier):
    """Computes with the parameters of the store, which are the module's own."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(4, 3, bias=False))
        Store.parameters["weight"] = self.network.weight

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return (batch[0].to(torch.float32) @ Store.parameters["weight"].T).square().mean()


def test_parameters_that_a_store_holds_too_are_measured_without_copies() -> None:
    callback = spectrum(num_samples="all", every_n_epochs=None, solver=Krylov(max_hvps=24))
    data = classification_data(24)
    trainer(callback, max_epochs=1).fit(FromStore(), loader(data, batch_size=BATCH))
    report = callback.reports[0]
    inputs = data.tensors[0].double()
    wanted = torch.linalg.eigvalsh(2 * inputs.T @ inputs / (3 * len(inputs)))[-1]
    assert float(report.largest.values[0]) == pytest.approx(float(wanted), rel=1e-5)
    note = next(note for note in report.notes if note.code == "self-check-in-place")
    assert "something outside of the module holds too, as pyro's store does" in note


def test_copies_that_a_step_does_not_use_are_named_in_the_refusal() -> None:
    callback = spectrum(loss=Loss(precision=64))
    reason = "parameters that something outside of the module holds, when copies took their place"
    with pytest.raises(RuntimeError, match=reason):
        trainer(callback, max_epochs=1).fit(FromStore(), loader(batch_size=BATCH))
