"""What is read off a step's scalars, each against the same computed from every sample's part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_hessian.sample_losses.reductions import Reductions

N = 4
GENERATOR = torch.Generator().manual_seed(3)
X = torch.randn(N, 3, generator=GENERATOR, dtype=torch.float64)
T = torch.randn(N, 3, generator=GENERATOR, dtype=torch.float64)
Y = torch.tensor([0, 2, 1, 2])
W = torch.tensor([0.3, 1.0, 2.0], dtype=torch.float64)
TABLE = nn.Parameter(torch.randn(N, 2, generator=GENERATOR, dtype=torch.float64))

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def read_off(compute: Loss) -> Tensor | None:
    reductions = Reductions(N)
    with reductions:
        loss = compute(X, T, Y)
    return reductions.by_sample(loss)


def alone(compute: Loss) -> Tensor:
    rows = [slice(i, i + 1) for i in range(N)]
    return torch.stack([compute(X[r], T[r], Y[r]).detach() for r in rows])


def in_place(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    total += F.mse_loss(x, t)
    total *= 3
    total -= x.abs().mean()
    total /= 2
    return total.add_(F.cross_entropy(x, y))


def in_a_penalty(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
    total = TABLE.square().sum()
    total += F.mse_loss(x, t)
    return total * 2


FOLLOWED: dict[str, Loss] = {
    "mean": lambda x, t, y: (x - t).square().mean(),
    "sum": lambda x, t, y: (x - t).square().sum(),
    "torch.mean": lambda x, t, y: torch.mean(input=(x - t).square()),
    "mean of one number each": lambda x, t, y: (x - t).norm(dim=1).mean(),
    "several entries of each": lambda x, t, y: (x - t).reshape(-1).square().mean(),
    "sum over number": lambda x, t, y: (x - t).square().sum() / len(x),
    "sum over entries": lambda x, t, y: torch.div((x - t).square().sum(), x.numel()),
    "mean over a number": lambda x, t, y: (x - t).square().mean() / N,
    "own mask": lambda x, t, y: (x * (t > 0)).sum() / (t > -9).sum(),
    "mse": lambda x, t, y: F.mse_loss(x, t),
    "mse, sum": lambda x, t, y: F.mse_loss(x, t, reduction="sum"),
    "smooth": lambda x, t, y: F.smooth_l1_loss(x, t, beta=0.2),
    "huber": lambda x, t, y: F.huber_loss(x, t, reduction="sum", delta=0.2),
    "bce": lambda x, t, y: F.binary_cross_entropy_with_logits(x, t.sigmoid(), weight=W),
    "poisson": lambda x, t, y: F.poisson_nll_loss(x, t.exp(), full=True),
    "gaussian": lambda x, t, y: F.gaussian_nll_loss(x, t, t.exp()),
    "nll, weights": lambda x, t, y: F.nll_loss(x.log_softmax(1), y, W),
    "ce, weights": lambda x, t, y: F.cross_entropy(x, y, W, label_smoothing=0.1),
    "ce, soft": lambda x, t, y: F.cross_entropy(x, t.softmax(1), W),
    "ce, sum": lambda x, t, y: F.cross_entropy(x, y, W, reduction="sum"),
    "kl, batchmean": lambda x, t, y: F.kl_div(
        x.log_softmax(1), t.softmax(1), reduction="batchmean"
    ),
    "kl, logs": lambda x, t, y: F.kl_div(x, t, reduction="sum", log_target=True),
    "cosine": lambda x, t, y: F.cosine_embedding_loss(x, t, (y > 0) * 2 - 1),
    "module": lambda x, t, y: nn.L1Loss()(x, t),
    "arithmetic": lambda x, t, y: 2 - (F.mse_loss(x, t) ** 2 + 1).sqrt() * x.mean().exp(),
    "of two reductions": lambda x, t, y: torch.maximum(F.mse_loss(x, t), x.abs().mean()),
    "clamped": lambda x, t, y: torch.clamp(F.mse_loss(x, t), max=1.0).log1p(),
    "reshaped": lambda x, t, y: F.mse_loss(x, t).reshape(1).squeeze(),
    "stacked": lambda x, t, y: torch.stack([x.mean(), torch.tensor(2.0).double(), t.sum()]).mean(),
    "added up": lambda x, t, y: torch.as_tensor(sum([x.mean(), F.mse_loss(x, t), 3.0])),
    "in place": in_place,
    "in a penalty": in_a_penalty,
    "parameters": lambda x, t, y: F.mse_loss(x, t) + torch.cat([TABLE, TABLE]).square().mean(),
    "weighed": lambda x, t, y: F.mse_loss(x, t) * TABLE[0, 0] + TABLE[0, 1],
}


@pytest.mark.parametrize("name", FOLLOWED)
def test_followed_scalars_are_those_of_each_sample(name: str) -> None:
    found = read_off(FOLLOWED[name])
    assert found is not None
    torch.testing.assert_close(found, alone(FOLLOWED[name]), rtol=1e-13, atol=1e-14)
    assert not found.requires_grad


UNKNOWN: dict[str, Loss] = {
    "matrix product": lambda x, t, y: (x @ t.T).trace(),
    "dot": lambda x, t, y: x.flatten() @ t.flatten(),
    "maximum": lambda x, t, y: x.max(),
    "old arguments": lambda x, t, y: F.mse_loss(x, t, size_average=False),
    "constant": lambda x, t, y: torch.tensor(1.0),
    "parameters alone": lambda x, t, y: TABLE.square().mean(),
    "unknown function of a mean": lambda x, t, y: torch.erf(x.mean()),
    "unknown in place": lambda x, t, y: x.mean().erf_(),
    "rows of another number": lambda x, t, y: x[:3].mean(),
    "vector of tasks": lambda x, t, y: torch.stack([x.mean(), t.mean()]) @ W[:2],
}


@pytest.mark.filterwarnings("ignore:size_average and reduce args:UserWarning")
@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_not_known_is_not_guessed(name: str) -> None:
    assert read_off(UNKNOWN[name]) is None


def test_tokens_ignored_have_no_part_in_the_mean() -> None:
    logits = torch.randn(N, 5, 6, generator=GENERATOR, dtype=torch.float64)
    targets = torch.randint(0, 3, (N, 5), generator=GENERATOR)
    weight = torch.rand(6, generator=GENERATOR, dtype=torch.float64)

    def flat(x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(x.reshape(-1, 6), y.reshape(-1), weight, ignore_index=0)

    def deep(x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(x.mT, y, weight, ignore_index=0)

    for compute in (flat, deep):
        reductions = Reductions(N)
        with reductions:
            loss = compute(logits, targets)
        found = reductions.by_sample(loss)
        assert found is not None
        wanted = [compute(logits[i : i + 1], targets[i : i + 1]) for i in range(N)]
        torch.testing.assert_close(found, torch.stack(wanted), rtol=1e-13, atol=0)


@pytest.mark.parametrize("name", [*FOLLOWED, "matrix product"])
def test_the_step_sees_nothing_of_it(name: str) -> None:
    compute: Any = (FOLLOWED | UNKNOWN)[name]
    x = X.clone().requires_grad_()
    with Reductions(N):
        followed = compute(x, T, Y)
    plain = compute(x, T, Y)
    assert followed.equal(plain)
    (one,), (other,) = (torch.autograd.grad(loss, x) for loss in (followed, plain))
    assert one.equal(other)
