"""The losses of single samples against a loop over samples in plain torch, and by which route."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchmetrics
from torch import Tensor, nn
from torch.nn import functional as F

from tests.helpers.sample_losses import assert_losses, by_hand, measured, regression_data

CLASS_WEIGHTS = torch.tensor([0.5, 1.0, 2.5])


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


def sum_by_number(m: Any, batch: Any) -> Tensor:
    return F.cross_entropy(m.network(batch[0]), batch[1], reduction="sum") / len(batch[0])


def sum_by_entries(m: Any, batch: Any) -> Tensor:
    error = m.network(batch[0]) - batch[2]
    total = error.square().sum()
    total /= error.numel()
    return total + F.cross_entropy(m.network(batch[0]), batch[1]) / 8


def penalty_first(m: Any, batch: Any) -> Tensor:
    total = 0.01 * m.network[0].weight.square().sum()
    total += F.cross_entropy(m.network(batch[0]), batch[1])
    return total / 2


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
    sum_by_number,
    sum_by_entries,
    penalty_first,
]


@pytest.mark.parametrize("step", BATCHED)
def test_a_mean_over_samples_is_read_off_whole_batches(step: Any) -> None:
    assert_losses(step, "batched", "mean")


def test_a_sum_over_samples_is_read_off_too() -> None:
    step = cross_entropy(reduction="sum")
    assert_losses(step, "batched", "sum")
    (note,) = measured(by_hand(step), regression_data()).notes
    assert note.startswith("The loss of a batch is the sum of its samples' losses")


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_class_weights_make_a_weighted_mean(smoothing: float) -> None:
    step = cross_entropy(weight=CLASS_WEIGHTS, label_smoothing=smoothing)
    assert_losses(step, "batched", "weighted mean")
    (note,) = measured(by_hand(step), regression_data()).notes
    assert note.startswith("Training weighs samples within a batch")


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


def time_major(m: Any, batch: Any) -> Tensor:
    # entries of a sample are not next to each other
    out = m.network(batch[0])
    return F.mse_loss(out.T.reshape(-1), batch[2].T.reshape(-1))


def over_the_classes_first(m: Any, batch: Any) -> Tensor:
    return (m.network(batch[0]) - batch[2]).square().mean(dim=0).mean()


@pytest.mark.parametrize("step", [einsum, dot, time_major, over_the_classes_first])
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
