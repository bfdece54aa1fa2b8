"""The losses of single samples, against the step called on each in a plain loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchmetrics
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset

from lightning_hessian.errors import NonFiniteError, RefusedError
from lightning_hessian.objective import sample_losses, sample_losses_at
from tests.helpers.fitting import Classifier, classification_data, loader
from tests.helpers.hard_modules import seeded
from tests.helpers.sampled import asked, in_order_drawn, looped

GENERATOR = torch.Generator().manual_seed(4)
IMAGES = TensorDataset(
    torch.randn(22, 1, 6, 6, generator=GENERATOR), torch.randint(3, (22,), generator=GENERATOR)
)
TOKENS = TensorDataset(
    torch.randint(1, 9, (22, 7), generator=GENERATOR),
    torch.randint(1, 8, (22,), generator=GENERATOR),
)
REGRESSION = TensorDataset(
    torch.randn(22, 4, generator=GENERATOR),
    torch.randn(22, 3, generator=GENERATOR),
    torch.rand(22, generator=GENERATOR) + 0.2,
)


def by_tensor(batch: Any, row: int) -> Any:
    return [part[row : row + 1] for part in batch]


def by_double(batch: Any, row: int) -> Any:
    parts = by_tensor(batch, row)
    return [part.double() if part.is_floating_point() else part for part in parts]


class Images(Classifier):
    def __init__(self) -> None:
        super().__init__(
            nn.Sequential(
                nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.4), nn.Flatten(),
                nn.Linear(64, 3),
            )
        )  # fmt: skip


class Language(Classifier):
    """Predicts each token from those before; samples have lengths of their own."""

    def __init__(self, *, masked: bool = False) -> None:
        super().__init__(nn.Linear(8, 9))
        self.embedding = nn.Embedding(9, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.3, batch_first=True)
        self.masked = masked

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        tokens, lengths = batch
        padding = torch.arange(7) >= lengths[:, None]
        causal = torch.triu(torch.ones(7, 7, dtype=torch.bool), diagonal=1)
        hidden = self.block(self.embedding(tokens), src_mask=causal, src_key_padding_mask=padding)
        logits = self.network(hidden)
        if self.masked:
            each = F.cross_entropy(logits.transpose(1, 2), tokens, reduction="none")
            return (each * ~padding).sum() / (~padding).sum()
        targets = tokens.masked_fill(padding, -100)
        return F.cross_entropy(logits.view(-1, 9), targets.view(-1))


class Compiled(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.network = torch.compile(self.network, backend="eager")


class Of(Classifier):
    """A regression under any loss of predictions, targets and weights."""

    def __init__(self, loss: Callable[..., Any]) -> None:
        super().__init__(nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)))
        self.of = loss
        self.accuracy = torchmetrics.MeanSquaredError()

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        inputs, targets, weights = batch
        return self.of(self, self.network(inputs), targets, weights)


def mean_of_weighted(module: Of, y: Tensor, t: Tensor, w: Tensor) -> Tensor:
    return (w[:, None] * (y - t).square()).mean()


def normalised(module: Of, y: Tensor, t: Tensor, w: Tensor) -> Tensor:
    return (w[:, None] * (y - t).square()).sum() / w.sum()


def several_terms(module: Of, y: Tensor, t: Tensor, w: Tensor) -> Tensor:
    penalty = sum(p.square().sum() for p in module.parameters())
    ratio = F.kl_div(y.log_softmax(-1), t.softmax(-1), reduction="batchmean")
    return 0.3 * F.mse_loss(y, t) + 2 * ratio - F.huber_loss(y, t) / 4 + 0.01 * penalty


def stacked(module: Of, y: Tensor, t: Tensor, w: Tensor) -> Tensor:
    return torch.stack([F.mse_loss(y, t), nn.L1Loss()(y, t), (y * w[:, None]).mean()]).sum()


def added_up(module: Of, y: Tensor, t: Tensor, w: Tensor) -> Tensor:
    total = torch.zeros((), dtype=y.dtype)
    total += F.smooth_l1_loss(y, t)
    total = total + 1.0
    total *= 2
    total -= (y - t).abs().mean(dim=1).mean()
    return sum([total, F.binary_cross_entropy_with_logits(y, t.sigmoid())])  # type: ignore[return-value]


def with_metrics(module: Of, y: Tensor, t: Tensor, w: Tensor) -> dict[str, Any]:
    loss = F.mse_loss(input=y, target=t)
    module.accuracy.update(y.detach(), t)
    module.log("mse", loss.item() * 2)
    return {"loss": loss, "predictions": y.detach()}


def summed(module: Of, y: Tensor, t: Tensor, w: Tensor) -> Tensor:
    return F.mse_loss(y, t, reduction="sum")


def by_einsum(module: Of, y: Tensor, t: Tensor, w: Tensor) -> Tensor:
    return torch.einsum("ij,ij->", y - t, y - t) / len(y)


def time_major(module: Of, y: Tensor, t: Tensor, w: Tensor) -> Tensor:
    # the first dimension is as long as it should be, and runs over something else
    each = ((y - t).square() * torch.tensor([1.0, 5.0, 9.0], dtype=y.dtype)).T.reshape(-1)
    return each.mean()


def penalised(module: Of, y: Tensor, t: Tensor, w: Tensor) -> Tensor:
    (slope,) = torch.autograd.grad(y.sum(), module.network[0].bias, create_graph=True)
    return F.mse_loss(y, t) + 0.0 * slope.sum()


def weighted_classes(module: Of, y: Tensor, t: Tensor, w: Tensor) -> Tensor:
    weights = torch.tensor([1.0, 2.0, 7.0], dtype=y.dtype)
    return F.cross_entropy(y, t.argmax(dim=1), weight=weights, label_smoothing=0.1)


def soft_targets(module: Of, y: Tensor, t: Tensor, w: Tensor) -> Tensor:
    return F.cross_entropy(y, t.softmax(-1))


CASES: dict[str, tuple[Callable[[], Classifier], Any, str, str]] = {
    "classifier": (Classifier, classification_data(), "mean", "batched"),
    "convolutions": (Images, IMAGES, "mean", "batched"),
    "ignored tokens": (Language, TOKENS, "weighted mean", "batched"),
    "masked tokens": (lambda: Language(masked=True), TOKENS, "weighted mean", "batched"),
    "compiled": (Compiled,
                 classification_data(), "mean", "batched"),
    **{
        function.__name__: (lambda f=function: Of(f), REGRESSION, separability, method)
        for function, separability, method in (
            (mean_of_weighted, "mean", "batched"),
            (normalised, "weighted mean", "batched"),
            (several_terms, "mean", "batched"),
            (stacked, "mean", "batched"),
            (added_up, "mean", "batched"),
            (with_metrics, "mean", "batched"),
            (summed, "sum", "batched"),
            (weighted_classes, "weighted mean", "batched"),
            (soft_targets, "mean", "batched"),
            (by_einsum, "mean", "one by one"),
            (time_major, "mean", "one by one"),
            (penalised, "mean", "batched"),
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("precision", [32, 64])
def test_losses_are_those_of_a_loop(name: str, precision: Any) -> None:
    make, data, separability, method = CASES[name]
    with torch.random.fork_rng():
        torch.manual_seed(2)
        module = make()
    found, batches = in_order_drawn(module, data, precision=precision)
    wanted = looped(module, batches, by_double, torch.float64)
    # float32: of the size of the losses, as each is a sum with roundings of its own
    scale = float(wanted.abs().mean())
    limit = 1e-6 * scale if precision == 32 else 1e-12 * scale
    assert float((found.values - wanted).abs().max()) <= limit
    assert (found.separability, found.method) == (separability, method)
    assert bool(found.notes) == (separability != "mean")


def test_losses_at_moved_parameters_are_those_of_a_loop_there_and_nothing_stays_moved() -> None:
    module = seeded(lambda: nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)))
    before = [p.detach().clone() for p in module.parameters()]
    generator = torch.Generator().manual_seed(1)
    step = 0.3 * torch.randn(51, generator=generator, dtype=torch.float64)

    def ask(loss: Any) -> Any:
        return sample_losses_at(loss, step, method="batched"), loss.batches.batches

    values, batches = asked(module, classification_data(), ask, precision=64)
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))
    moved = seeded(lambda: nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))).double()
    nn.utils.vector_to_parameters(
        nn.utils.parameters_to_vector(moved.parameters()).detach() + step, moved.parameters()
    )
    torch.testing.assert_close(values, looped(moved, batches, by_double, torch.float64))


class Manual(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(F.cross_entropy(self.network(batch[0]), batch[1]))
        optimizer.step()


def test_of_a_manual_backward() -> None:
    module = Manual()
    found, batches = in_order_drawn(module, classification_data(), precision=64, loss=0)
    plain = Classifier(module.network)
    wanted = looped(plain, batches, by_double, torch.float64)
    torch.testing.assert_close(found.values, wanted)


class Ragged(Dataset[Any]):
    """Sets of different sizes, which no tensor holds side by side."""

    def __len__(self) -> int:
        return 9

    def __getitem__(self, index: int) -> Any:
        generator = torch.Generator().manual_seed(index)
        return torch.randn(2 + index % 3, 4, generator=generator), index % 3


def collate_sets(samples: list[Any]) -> dict[str, Tensor]:
    owner = torch.cat([torch.full((len(s[0]),), i) for i, s in enumerate(samples)])
    return {
        "points": torch.cat([s[0] for s in samples]),
        "owner": owner,
        "target": torch.tensor([s[1] for s in samples]),
    }


class Sets(Classifier):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        count = len(batch["target"])
        owner = F.one_hot(batch["owner"], count).to(batch["points"].dtype)
        pooled = owner.T @ batch["points"]
        return F.cross_entropy(self.network(pooled), batch["target"])


def test_what_cannot_be_cut_is_refused_and_works_in_batches_of_one() -> None:
    data = DataLoader(Ragged(), batch_size=4, collate_fn=collate_sets)
    with pytest.raises(RefusedError, match=r"cannot be cut .*: it holds a Tensor of shape"):
        asked(Sets(), data)
    module = Sets()
    found, batches = in_order_drawn(module, data, batch_size=1, precision=64)
    wanted = looped(
        module,
        batches,
        lambda b, _: {k: v.double() if v.is_floating_point() else v for k, v in b.items()},
        torch.float64,
    )
    torch.testing.assert_close(found.values, wanted)
    assert "could not be verified" in found.notes[0]


def test_a_sample_without_a_finite_loss_is_told() -> None:
    inputs, targets = classification_data().tensors
    broken = TensorDataset(inputs, targets.clone())
    broken.tensors[1][3:5] = -100  # ignored: alone, a mean over nothing
    with pytest.raises(NonFiniteError, match="NaN or infinite for 2 of 26"):
        asked(Classifier(), broken)


class Skips(Classifier):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return None if len(batch[0]) == 1 else super().training_step(batch, batch_idx)


def test_a_step_that_skips_single_samples_is_refused() -> None:
    with pytest.raises(RefusedError, match=r"returns None for 1 of the samples .*`hessian_loss"):
        asked(Skips(), classification_data())


def test_a_batch_size_of_one_needs_no_cutting_and_gives_the_same() -> None:
    module = Classifier()
    batched, _ = in_order_drawn(module, classification_data(), precision=64)
    single, _ = in_order_drawn(module, loader(batch_size=8), precision=64, batch_size=1)
    torch.testing.assert_close(batched.values, single.values)
    assert single.notes == ()


def test_the_answer_is_of_sample_losses() -> None:
    assert asked(Classifier(), classification_data(), sample_losses).values.shape == (26,)
