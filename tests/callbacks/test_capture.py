"""Batches of a training stream: those that training saw, and what is measured on them when."""

from __future__ import annotations

import copy
import itertools
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from lightning_hessian import HessianSpectrum
from lightning_hessian.data import FrozenBatch
from lightning_hessian.errors import RefusedError
from lightning_hessian.fit import FitLoss
from tests.helpers import hard_modules as hard
from tests.helpers.fitting import Classifier, loader, trainer
from tests.helpers.recording import spectrum
from tests.objective.test_combined_data import SumsParts
from tests.objective.test_given_data import Batches
from tests.objective.test_training_data import IteratesItself, Numbered


class Endless(IterableDataset[Any]):
    """Random samples without an end, or up to a length that it does not tell."""

    def __init__(self, length: int | None = None) -> None:
        self.length, self.generator = length, torch.Generator().manual_seed(3)

    def __iter__(self) -> Iterator[Any]:
        for number in itertools.count() if self.length is None else range(self.length):
            yield torch.randn(4, generator=self.generator), torch.tensor(number % 3)


class Sees(Classifier):
    """Keeps copies of the batches that it trains on, and spoils the originals."""

    def __init__(self) -> None:
        super().__init__(hard.seeded(lambda: hard.mlp()).network, lr=0.0)
        self.seen: list[Any] = []

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self.seen.append(copy.deepcopy(batch))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = super().training_step([batch[0].clone(), batch[1].clone()], batch_idx)
        batch[0].fill_(1e9)
        return loss


class Captured(hard.DenseHessian):
    """Takes the whole Hessian on captured batches at the end of the fit."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.fit_loss = FitLoss(self._setup, trainer, pl_module)
        self.fit_loss.remember_flags()
        self.ready: list[bool] = []

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        self.ready.append(self.fit_loss.sample.is_ready)
        self.fit_loss.sample.see(batch)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.fit_loss.sample.close()
        self.take(self.fit_loss)


def captured(
    train: Any, module: pl.LightningModule | None = None, fit: Any = None, **options: Any
) -> Captured:
    probe = Captured(**({"num_samples": 10} | options))
    trainer(probe, **({"max_steps": 5} | (fit or {}))).fit(module or Sees(), train)
    return probe


def endless(**options: Any) -> DataLoader[Any]:
    return DataLoader(Endless(), **({"batch_size": 4} | options))


@pytest.mark.parametrize(
    ("train", "sizes"),
    [
        (endless, [4, 4, 4]),
        (lambda: DataLoader(list(Batches(6, 6, 6)), batch_size=None), [6, 6]),
        (lambda: Batches(5, 5, 5, 5, 5), [5, 5]),
        (lambda: (batch for batch in Batches(9, 9, 9, 9, 9)), [9, 9]),
        (lambda: IteratesItself(Numbered(), batch_size=8), [8, 8]),
    ],
    ids=["stream", "no batching", "object", "generator", "own iteration"],
)
def test_the_first_batches_are_captured_as_training_saw_them(train: Any, sizes: list[int]) -> None:
    module = Sees()
    probe = captured(train(), module)
    assert [batch.weight for batch in probe.batches] == sizes
    assert all(
        mine.equal(its)
        for batch, seen in zip(probe.batches, module.seen, strict=False)
        for mine, its in zip(batch.data, seen, strict=True)
    )
    assert probe.num_samples == sum(sizes)
    assert probe.ready[: len(sizes) + 1] == [False] * len(sizes) + [True]


def test_the_hessian_is_that_of_the_batches_that_training_saw() -> None:
    module = Sees()
    probe = captured(endless(), module, precision=64)
    seen = module.seen[:3]
    wanted = hard.hessian_by_differences(Classifier(hard.seeded(lambda: hard.mlp()).network), seen)
    assert hard.off_by(probe.matrix, wanted) < 1e-8
    assert probe.matrix[:, :4].equal(probe.again)
    assert probe.notes == ()


class Hooked(Sees):
    """Its transfer hooks change the batch; once is right, twice is not."""

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return [batch[0] * 2, batch[1]]

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return [batch[0] + 1, batch[1]]


@pytest.mark.parametrize("precision", ["32-true", "64-true"])
def test_transfer_hooks_and_conversion_have_been_and_are_not_applied_again(precision: Any) -> None:
    module = Hooked()
    probe = captured(endless(), module, {"precision": precision}, precision=64)
    wanted = hard.hessian_by_differences(
        Classifier(hard.seeded(lambda: hard.mlp()).network), module.seen[:3]
    )
    assert hard.off_by(probe.matrix, wanted) < 1e-8
    first = next(iter(Endless()))[0]
    expected = first.to(module.seen[0][0].dtype) * 2 + 1
    assert probe.batches[0].data[0][0].equal(expected)


class LearnedTransfer(Sees):
    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return [batch[0] * self.network[0].bias.sum(), batch[1]]

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return Classifier.training_step(self, batch, batch_idx)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        return None


def test_a_batch_that_depends_on_parameters_is_refused() -> None:
    with pytest.raises(RefusedError, match=r"depends on parameters through its graph.*`dataloader"):
        captured(endless(), LearnedTransfer())


class WantsInputGradients(Sees):
    """Penalises the gradient by its inputs, as physics-informed networks do."""

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return [batch[0].requires_grad_(), batch[1]]

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = Classifier.training_step(self, batch, batch_idx)
        (slope,) = torch.autograd.grad(loss, batch[0], create_graph=True)
        return slope.square().sum()


def test_inputs_that_require_a_gradient_still_do() -> None:
    probe = captured(endless(), WantsInputGradients())
    assert probe.matrix.abs().max() > 0
    assert probe.batches[0].data[0].grad is None


def test_of_a_collection_with_a_stream_whole_steps_are_captured() -> None:
    train = {"a": DataLoader(Numbered(), batch_size=4), "b": endless(batch_size=2)}
    module = SumsParts(hard.seeded(lambda: hard.mlp()).network)
    probe = captured(train, module, weight_fn=lambda batch: len(batch["a"][1]))
    assert [len(batch.data["b"][1]) for batch in probe.batches] == [2, 2, 2]
    assert {batch.weight for batch in probe.batches} == {4}
    with pytest.raises(RefusedError, match=r"of the training stream \(Numbered, Endless\) is unkn"):
        captured(train, SumsParts())


def test_lightning_takes_a_list_of_batches_apart_and_its_rows_do_not_tell_their_weight() -> None:
    rows = [[torch.randn(3, 4), torch.zeros(3).long()]]

    class TakesRows(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            ((x, y),) = batch
            return super().training_step((x[None], y[None]), batch_idx)

    probe = captured(rows, TakesRows(), weight_fn=lambda _: 1)
    assert [tuple(b.data[0][0].shape) for b in probe.batches] == [(4,)] * 3
    with pytest.raises(RefusedError, match="first dimensions 4, none"):
        captured(rows, TakesRows())


def test_all_samples_of_a_stream_are_those_of_one_epoch() -> None:
    known = DataLoader(list(Batches(6, 6, 2)), batch_size=None)
    probe = captured(known, fit={"max_epochs": 2}, num_samples="all")
    assert [batch.weight for batch in probe.batches] == [6, 6, 2]
    assert probe.ready == [False, False, False, True, True]
    with pytest.raises(RefusedError, match=r"`num_samples` must be a number for .*'all'"):
        captured(endless(), num_samples="all")


class Repeating(IterableDataset[Any]):
    """The numbered samples in each epoch: in their order, shuffled, or with noise of its own."""

    def __init__(self, count: int = 26, *, shuffles: bool = False, noise: float = 0.0) -> None:
        self.count, self.shuffles, self.noise = count, shuffles, noise
        self.generator = torch.Generator().manual_seed(2)

    def __iter__(self) -> Iterator[Any]:
        order = torch.randperm(self.count, generator=self.generator).tolist()
        for index in order if self.shuffles else range(self.count):
            features, label = Numbered()[index]
            features[3] += self.noise * torch.rand((), generator=self.generator)
            yield features, label


def repeated(fit: Any = None, batch_size: int = 4, **options: Any) -> Captured:
    data = DataLoader(Repeating(**options), batch_size=batch_size)
    return captured(data, fit={"max_steps": -1, "max_epochs": 4} | (fit or {}), num_samples=99)


def rows_of(batches: Sequence[FrozenBatch]) -> list[int]:
    """The numbers of the samples in them."""
    return [int(row) for batch in batches for row in batch.data[0][:, 0]]


@pytest.mark.sampled
@pytest.mark.parametrize("shuffles", [True, False])
def test_a_stream_that_repeats_itself_is_held_once(shuffles: bool) -> None:
    probe = repeated(shuffles=shuffles)
    assert sorted(rows_of(probe.batches)) == list(range(26))
    assert probe.num_samples == 26
    # one epoch of seven batches, and one batch more to see that it repeats
    assert probe.ready == [False] * 8 + [True] * 20
    assert probe.description == (
        "the first 7 batches (26 samples of the 99 wanted, each once, as the stream repeats "
        "itself) of the training stream (Repeating) in this fit, captured as training saw them at "
        "steps 0 to 6, counted by the first dimension of their tensors"
    )


def test_of_shuffled_epochs_that_are_cut_short_only_new_rows_are_added() -> None:
    module = Sees()
    data = DataLoader(Repeating(shuffles=True), batch_size=4)
    fit = {"max_steps": -1, "max_epochs": 3, "limit_train_batches": 3}
    probe = captured(data, module, fit, num_samples=99, precision=64)
    seen = {int(row) for inputs, _ in module.seen for row in inputs[:, 0]}
    assert 12 < len(seen) < 26
    assert sorted(rows_of(probe.batches)) == sorted(seen)
    # a batch of which some rows are left out weighs as much as those that are not
    assert [batch.weight for batch in probe.batches] == [len(b.data[0]) for b in probe.batches]
    assert [batch.index for batch in probe.batches] == list(range(len(probe.batches)))
    wanted = hard.hessian_by_differences(
        Classifier(hard.seeded(lambda: hard.mlp()).network),
        [torch.utils.data.default_collate([Numbered()[index] for index in seen])],
    )
    assert hard.off_by(probe.matrix, wanted) < 1e-8


def test_rows_with_noise_of_their_own_are_new_in_each_epoch() -> None:
    probe = repeated({"max_epochs": 2}, noise=1.0)
    assert probe.num_samples == 26 * 2
    assert "repeats" not in probe.description


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks used to")
@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before")
@pytest.mark.sampled
@pytest.mark.parametrize("num_samples", ["all", 99])
def test_a_fit_resumed_within_an_epoch_holds_a_whole_one(tmp_path: Path, num_samples: Any) -> None:
    def stream() -> DataLoader[Any]:
        batches = list(DataLoader(Repeating(20), batch_size=6))
        return DataLoader(batches, batch_size=None)  # type: ignore[arg-type]

    saver = pl.callbacks.ModelCheckpoint(tmp_path, "saved", every_n_train_steps=2)
    trainer(saver, max_steps=2, enable_checkpointing=True).fit(Classifier(), stream())
    probe = Captured(num_samples=num_samples)
    fit = trainer(probe, max_epochs=4)
    fit.fit(Classifier(), stream(), ckpt_path=tmp_path / "saved.ckpt")
    assert sorted(rows_of(probe.batches)) == list(range(20))


@pytest.mark.filterwarnings("ignore:.*`dataloader_iter` step flavor.*")
@pytest.mark.filterwarnings("ignore:Found `dataloader_iter` argument")
def test_a_step_that_draws_its_batches_itself_cannot_be_captured_from_a_stream() -> None:
    class Draws(Classifier):
        def training_step(self, dataloader_iter: Any) -> Tensor:  # type: ignore[override]
            (inputs, targets), _, _ = next(dataloader_iter)
            return torch.nn.functional.cross_entropy(self.network(inputs), targets)

    with pytest.raises(RefusedError, match="takes a `dataloader_iter` and draws its batches its"):
        captured(endless(), Draws())


def test_before_any_batch_there_is_nothing_to_measure_on() -> None:
    with pytest.raises(RefusedError, match=r"\(Endless\) cannot be indexed, and training has seen"):
        trainer(hard.DenseHessian(num_samples=9), max_steps=1).fit(Classifier(), endless())


def reports(fit: dict[str, Any], train: Any = None, **options: Any) -> list[Any]:
    callback = spectrum(**({"num_samples": 10} | options))
    trainer(callback, **fit).fit(Classifier(), train or endless())
    return callback.reports


def test_measurements_begin_when_enough_is_captured_and_say_on_what(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO):
        found = reports({"max_steps": 5})
    assert [report.global_step for report in found] == [3, 4, 5]
    assert {report.num_samples for report in found} == {12}
    assert {report.data for report in found} == {
        "the first 3 batches (12 samples) of the training stream (Endless) in this fit, captured "
        "as training saw them at steps 0 to 2, counted by the first dimension of their tensors"
    }
    told = [record.message for record in caplog.records if "cannot be indexed" in record.message]
    assert len(told) == 1
    assert "on the first 10 samples that training sees. What is due before" in told[0]


def test_a_fit_that_is_too_short_is_measured_at_its_end_on_what_there_is() -> None:
    (report,) = reports({"max_steps": 2})
    assert report.global_step == 2
    assert report.failure is None
    assert "the first 2 batches (8 samples of the 10 wanted)" in report.data


def test_a_trial_run_measures_on_its_one_batch() -> None:
    (report,) = reports({"fast_dev_run": True})
    assert report.num_samples == 4


def test_a_second_fit_captures_anew() -> None:
    callback = spectrum(num_samples=10)
    fit = trainer(callback, max_epochs=1, limit_train_batches=4)
    fit.fit(Classifier(), endless())
    fit.fit_loop.max_epochs = 2
    fit.fit(Classifier(), endless(batch_size=5))
    assert [r.global_step for r in callback.reports] == [3, 4, 6, 7, 8]
    assert "the first 2 batches (10 samples)" in callback.reports[-1].data
    assert "at steps 4 to 5" in callback.reports[-1].data


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks used to")
def test_a_resumed_fit_says_that_its_batches_are_others(tmp_path: Path) -> None:
    saver = pl.callbacks.ModelCheckpoint(tmp_path, "saved", every_n_train_steps=2)
    trainer(saver, max_steps=2, enable_checkpointing=True).fit(Classifier(), endless())
    callback = spectrum(num_samples=10)
    trainer(callback, max_steps=6).fit(Classifier(), endless(), ckpt_path=tmp_path / "saved.ckpt")
    assert [report.global_step for report in callback.reports] == [5, 6]
    assert callback.reports[0].data.endswith("; captured anew after a resume")
    assert "at steps 2 to 4" in callback.reports[0].data


class Uncopyable(list[Any]):
    def __deepcopy__(self, memo: Any) -> Any:
        raise MemoryError("no second batch fits")


@pytest.mark.filterwarnings("ignore:HessianSpectrum has no numbers")
@pytest.mark.parametrize(
    ("collate", "reason", "tries"),
    [
        (lambda samples: Uncopyable(torch.utils.data.default_collate(samples)), "no second b", 5),
        (lambda samples: [torch.stack([s[0] for s in samples]), samples[0][1]], "dimensions 4", 1),
    ],
)
def test_a_batch_that_cannot_be_captured_is_a_failure_and_training_goes_on(
    collate: Any, reason: str, tries: int
) -> None:
    class Takes(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return super().training_step((batch[0], batch[1].expand(4)), batch_idx)

    callback = spectrum(num_samples=10, on_error="warn")
    fit = trainer(callback, max_steps=5)
    with pytest.warns(UserWarning, match=f"has no numbers at step 1.*{reason}.*goes on unchanged"):
        fit.fit(Takes(), endless(collate_fn=collate))
    assert fit.global_step == 5
    assert [reason in report.failure for report in callback.reports] == [True] * tries


def test_capturing_draws_no_random_number() -> None:
    class Draws(list[Any]):
        def __deepcopy__(self, memo: Any) -> Any:
            torch.rand(())
            return list(self)

    def collate(samples: Any) -> Any:
        return Draws(torch.utils.data.default_collate(samples))

    ends = []
    for callbacks in (
        [],
        [HessianSpectrum(num_samples=100, every_n_epochs=None, max_overhead=None)],
    ):
        torch.manual_seed(0)
        trainer(*callbacks, max_steps=2).fit(Classifier(), endless(collate_fn=collate))
        ends.append(torch.get_rng_state())
    assert ends[0].equal(ends[1])


def test_without_a_stream_nothing_is_captured() -> None:
    probe = captured(loader(), num_samples=5)
    assert probe.ready[0]
    assert probe.description == "5 of 26 samples of the training set (TensorDataset)"
