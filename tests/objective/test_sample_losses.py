"""The losses of single samples against a loop over samples in plain torch, and by which route."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torchmetrics
from torch import Tensor, nn
from torch.nn import functional as F

from tests.helpers.adversarial import Adversarial
from tests.helpers.fitting import classification_data
from tests.helpers.sample_losses import by_hand, loop, measured, network, regression_data

CLASS_WEIGHTS = torch.tensor([0.5, 1.0, 2.5])


def assert_losses(
    step: Any,
    method: str,
    separability: str,
    data: Any = None,
    *,
    own: nn.Module | None = None,
    batch_size: int = 8,
) -> None:
    """In single precision and in double, to a few roundings."""
    data = data or regression_data()
    for precision, allowed in ((32, 1e-6), (64, 1e-12)):
        module = by_hand(step, own)
        found = measured(module, data, batch_size=batch_size, precision=precision)
        wanted = loop(module, data, precision=precision)
        assert (found.method, found.separability) == (method, separability)
        scale = float(wanted.abs().mean())
        torch.testing.assert_close(found.values, wanted, rtol=0, atol=allowed * scale)


def cross_entropy(**options: Any) -> Any:
    def step(m: Any, batch: Any) -> Tensor:
        given = {k: v.to(batch[0]) if isinstance(v, Tensor) else v for k, v in options.items()}
        return F.cross_entropy(m.network(batch[0]), batch[1], **given)

    return step


def soft_targets(m: Any, batch: Any) -> Tensor:
    return F.cross_entropy(m.network(batch[0]), batch[2].softmax(-1))


def weighed_soft_targets(m: Any, batch: Any) -> Tensor:
    weight = CLASS_WEIGHTS.to(batch[0])
    return F.cross_entropy(m.network(batch[0]), batch[2].softmax(-1), weight)


def loss_object(m: Any, batch: Any) -> Tensor:
    return nn.CrossEntropyLoss()(m.network(batch[0]), batch[1])


def huber(m: Any, batch: Any) -> Tensor:
    return F.huber_loss(m.network(batch[0]), batch[2], delta=0.3)


def binary(m: Any, batch: Any) -> Tensor:
    return F.binary_cross_entropy_with_logits(m.network(batch[0]), batch[2].sigmoid())


def divergence(m: Any, batch: Any) -> Tensor:
    logs = m.network(batch[0]).log_softmax(-1)
    return F.kl_div(logs, batch[2].softmax(-1), reduction="batchmean")


def weighed_regression(m: Any, batch: Any) -> Tensor:
    error = m.network(batch[0]) - batch[2]
    return (batch[3][:, None] * error.square()).mean()


def own_log_likelihood(m: Any, batch: Any) -> Tensor:
    return -m.network(batch[0]).log_softmax(-1).gather(1, batch[1][:, None]).squeeze(1).mean()


def terms(m: Any, batch: Any) -> Tensor:
    out = m.network(batch[0])
    penalty = sum(p.square().sum() for p in m.parameters())
    return 0.7 * F.cross_entropy(out, batch[1]) + 0.2 * F.mse_loss(out, batch[2]) + 0.01 * penalty


def stacked(m: Any, batch: Any) -> Tensor:
    out = m.network(batch[0])
    penalty = torch.cat([p.flatten() for p in m.parameters()]).square().mean()
    return torch.stack([F.cross_entropy(out, batch[1]), out.square().mean(), penalty]).sum()


def accumulated(m: Any, batch: Any) -> Tensor:
    out = m.network(batch[0])
    total = torch.zeros((), dtype=out.dtype)
    total += F.cross_entropy(out, batch[1])
    total += 0.1 * out.abs().mean()
    return total


def python_sum(m: Any, batch: Any) -> Tensor:
    out = m.network(batch[0])
    total = sum([F.cross_entropy(out, batch[1]), F.l1_loss(out, batch[2]), out.exp().mean()])
    assert isinstance(total, Tensor)
    return total / 3


def as_dict(m: Any, batch: Any) -> dict[str, Any]:
    loss = F.cross_entropy(m.network(batch[0]), batch[1])
    return {"loss": loss, "log": loss.item()}


def with_metric(m: Any, batch: Any) -> Tensor:
    out = m.network(batch[0])
    metric = torchmetrics.MeanMetric()
    loss = F.cross_entropy(out, batch[1])
    metric.update(loss.detach())
    assert loss.item() >= 0
    return loss


def per_entry(m: Any, batch: Any) -> Tensor:
    # over all entries, in another order than samples first: equal numbers of each sample
    return F.mse_loss(m.network(batch[0]).reshape(-1), batch[2].reshape(-1))


BATCHED = [
    cross_entropy(),
    cross_entropy(label_smoothing=0.1),
    soft_targets,
    weighed_soft_targets,
    loss_object,
    huber,
    binary,
    divergence,
    weighed_regression,
    own_log_likelihood,
    terms,
    stacked,
    accumulated,
    python_sum,
    as_dict,
    with_metric,
    per_entry,
]


@pytest.mark.parametrize("step", BATCHED)
def test_a_mean_over_samples_is_read_off_whole_batches(step: Any) -> None:
    assert_losses(step, "batched", "mean")


def test_a_sum_over_samples_is_read_off_too() -> None:
    assert_losses(cross_entropy(reduction="sum"), "batched", "sum")


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_class_weights_make_a_weighted_mean(smoothing: float) -> None:
    step = cross_entropy(weight=CLASS_WEIGHTS, label_smoothing=smoothing)
    assert_losses(step, "batched", "weighted mean")


def test_weights_of_samples_in_the_denominator_cancel_for_a_sample_alone() -> None:
    def step(m: Any, batch: Any) -> Tensor:
        error = (m.network(batch[0]) - batch[2]).square().mean(dim=1)
        return (batch[3] * error).sum() / batch[3].sum()

    assert_losses(step, "batched", "weighted mean")


def einsum(m: Any, batch: Any) -> Tensor:
    error = m.network(batch[0]) - batch[2]
    return torch.einsum("ij,ij->", error, error) / len(error)


def dot(m: Any, batch: Any) -> Tensor:
    error = (m.network(batch[0]) - batch[2]).flatten()
    return error @ error / len(batch[0])


def gradient_penalty(m: Any, batch: Any) -> Tensor:
    with torch.enable_grad():
        inputs = batch[0].detach().clone().requires_grad_()
        out = m.network(inputs)
        (slope,) = torch.autograd.grad(out.logsumexp(1).sum(), inputs, create_graph=True)
    return F.cross_entropy(out, batch[1]) + slope.square().sum(dim=1).mean()


def by_length(m: Any, batch: Any) -> Tensor:
    return F.cross_entropy(m.network(batch[0]), batch[1], reduction="sum") / len(batch[0])


def time_major(m: Any, batch: Any) -> Tensor:
    # entries of a sample are not next to each other
    out = m.network(batch[0])
    return F.mse_loss(out.T.reshape(-1), batch[2].T.reshape(-1))


def over_the_classes_first(m: Any, batch: Any) -> Tensor:
    return (m.network(batch[0]) - batch[2]).square().mean(dim=0).mean()


@pytest.mark.parametrize("step", [einsum, dot, by_length, time_major, over_the_classes_first])
def test_what_cannot_be_read_off_is_computed_one_by_one(step: Any) -> None:
    assert_losses(step, "one by one", "mean")


def test_derivatives_inside_the_step_are_followed_past() -> None:
    assert_losses(gradient_penalty, "batched", "mean")


def test_a_penalty_with_as_many_rows_as_a_batch_is_the_same_for_all_samples() -> None:
    def step(m: Any, batch: Any) -> Tensor:
        return F.cross_entropy(m.network(batch[0]), batch[1]) + m.network[0].weight.square().mean()

    assert_losses(step, "batched", "mean", batch_size=6)


def test_a_table_with_as_many_rows_as_the_last_batch_is_noticed() -> None:
    # read off as though a part of the table belonged to each sample: wrong only in batches of two
    table = torch.arange(8.0).view(2, 4)

    def step(m: Any, batch: Any) -> Tensor:
        return F.cross_entropy(m.network(batch[0]), batch[1]) + table.to(batch[0]).mean()

    assert_losses(step, "one by one", "mean")


class Tokens(nn.Module):
    """A transformer layer over sequences of words, of which zero is padding."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(6, 4)
        layer = nn.TransformerEncoderLayer(4, 2, dim_feedforward=4, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.out = nn.Linear(4, 6)

    def forward(self, words: Tensor) -> Tensor:
        return self.out(self.encoder(self.words(words), src_key_padding_mask=words == 0))


def sentences() -> torch.utils.data.TensorDataset:
    generator = torch.Generator().manual_seed(2)
    words = torch.randint(1, 6, (26, 5), generator=generator)
    lengths = torch.randint(2, 6, (26, 1), generator=generator)
    return torch.utils.data.TensorDataset(words * (torch.arange(5) < lengths))


def ignored(m: Any, batch: Any) -> Tensor:
    (words,) = batch
    out, targets = m.network(words), words.roll(-1, 1)
    return F.cross_entropy(out.reshape(-1, 6), targets.reshape(-1), ignore_index=0)


def masked(m: Any, batch: Any) -> Tensor:
    (words,) = batch
    out, mask = m.network(words), (words != 0).to(m.network.out.weight.dtype)
    losses = F.cross_entropy(out.mT, words, reduction="none")
    return (losses * mask).sum() / mask.sum()


@pytest.mark.parametrize("step", [ignored, masked])
def test_tokens_that_are_ignored_make_a_weighted_mean_over_sentences(step: Any) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        own = Tokens()
    assert_losses(step, "batched", "weighted mean", sentences(), own=own)


def test_convolutions_with_statistics_of_training() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        own = nn.Sequential(
            nn.Unflatten(1, (1, 4)), nn.Conv1d(1, 3, 2), nn.BatchNorm1d(3), nn.ReLU(),
            nn.Dropout(0.3), nn.Flatten(), nn.Linear(9, 3),
        )  # fmt: skip
    own[2].running_mean.fill_(0.3)  # type: ignore[union-attr,operator]
    assert_losses(cross_entropy(), "batched", "mean", own=own)


def test_a_compiled_network_is_the_network() -> None:
    torch.compiler.reset()
    own = network()
    own[0] = torch.compile(own[0], backend="eager")  # type: ignore[operator]
    found = measured(by_hand(cross_entropy(), own), regression_data())
    wanted = loop(by_hand(cross_entropy()), regression_data(), precision=32)
    assert (found.method, found.separability) == ("batched", "mean")
    torch.testing.assert_close(found.values, wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("number", [0, 1])
def test_a_loss_of_manual_optimisation_is_read_off(number: int) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        module = Adversarial()
    found = measured(module, classification_data(), loss=number, precision=64)
    own = copy.deepcopy(module).double().eval()
    method = own.generator_loss if number == 0 else own.discriminator_loss
    inputs, targets = classification_data().tensors
    wanted = [method([inputs[i : i + 1].double(), targets[i : i + 1]]).item() for i in range(26)]
    assert (found.method, found.separability) == ("batched", "mean")
    torch.testing.assert_close(
        found.values, torch.tensor(wanted, dtype=torch.float64), rtol=1e-12, atol=0
    )
