"""The Gauss-Newton and residual parts of a Hessian, against derivatives made by hand."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from lightning_hessian.data import FrozenBatch, FrozenBatches
from lightning_hessian.errors import NoExactProductsError, RefusedError
from lightning_hessian.hvp import (
    GaussNewtonOperator,
    LossOutputs,
    ResidualOperator,
    as_outputs,
    find_outputs,
    open_loss,
)
from lightning_hessian.loss import TrainingLoss, measure_on_first
from tests.helpers.fitting import loader, trainer
from tests.helpers.networks import Supervised, ask
from tests.helpers.processes import ddp_trainer, in_processes
from tests.helpers.sample_losses import AtStart
from tests.helpers.tanh_network import TanhNetwork
from tests.objective.test_per_batch import linear

Parts = tuple[LossOutputs, Tensor, Tensor]
NETWORK = TanhNetwork.random(11, 4, 5, 3)
GENERATOR = torch.Generator().manual_seed(5)
TARGETS = torch.randn(11, 3, generator=GENERATOR, dtype=torch.float64)
CLASSES = torch.randint(0, 3, (11,), generator=GENERATOR)
# sums of some hundred terms of order one
CLOSE = {"rtol": 0, "atol": 1e-12}


def parts(loss: TrainingLoss) -> Parts:
    """Both parts as matrices."""
    outputs = find_outputs(loss)
    eye = torch.eye(loss.size, dtype=torch.float64)
    operators = (GaussNewtonOperator(loss, outputs), ResidualOperator(loss, outputs))
    assert all(
        (o.size, o.dtype, o.device) == (loss.size, loss.dtype, loss.device) for o in operators
    )
    first, second = (operator.matmat(eye) for operator in operators)
    return outputs, first, second


def in_fit(criterion: Any, targets: Tensor, network: TanhNetwork = NETWORK) -> Parts:
    """The parts of a module's training loss, 11 samples in batches of 4, 4 and 3."""
    data = TensorDataset(network.inputs, targets)
    return ask(network.module(criterion), data, parts, batch_size=4)


def in_batches(criterion: Any, targets: Tensor, question: Any = parts) -> Any:
    """The same, without a Trainer."""
    network = NETWORK.module(criterion).network
    pairs = zip(NETWORK.inputs.split(4), targets.split(4), strict=True)
    batches = tuple(
        FrozenBatch(pair, len(pair[0]), i, len(pair[0])) for i, pair in enumerate(pairs)
    )

    def step(batch: Any, _: int) -> Tensor:
        return criterion(network(batch[0]), batch[1])

    frozen = FrozenBatches(batches, len(targets), "given")
    with open_loss(network, step, frozen, dtype=torch.float64) as loss:
        return question(loss)


def by_step(step: Callable[[nn.Module, Any], Tensor], network: nn.Module | None = None) -> Parts:
    """The parts of a loss over the samples at once, without a Trainer."""
    own = network or NETWORK.module(F.mse_loss).network
    with open_loss(
        own, lambda batch, _: step(own, batch), [NETWORK.inputs], dtype=torch.float64
    ) as loss:
        return parts(loss)


def gram(curvature: Tensor) -> Tensor:
    """``(1/N) sum J^T C J`` of ``(N, k, k)`` curvatures."""
    jacobian = NETWORK.jacobian()
    return torch.einsum("nkp,nkl,nlq->pq", jacobian, curvature, jacobian) / len(curvature)


def softmax_curvature(logits: Tensor) -> Tensor:
    p = logits.softmax(dim=1)
    return torch.diag_embed(p) - p[:, :, None] * p[:, None, :]


def test_a_linear_model_under_mean_squares_has_no_residual_part() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(9, 4, generator=generator, dtype=torch.float64)
    targets = torch.randn(9, 2, generator=generator, dtype=torch.float64)
    module = Supervised(nn.Linear(4, 2, bias=False).double(), F.mse_loss)
    found, first, second = ask(module, TensorDataset(inputs, targets), parts, batch_size=4)
    wanted = torch.kron(torch.eye(2).double(), inputs.T @ inputs) * 2 / (9 * 2)
    torch.testing.assert_close(first, wanted, **CLOSE)
    torch.testing.assert_close(second, torch.zeros(8, 8).double(), **CLOSE)
    mean_square = (module.network(inputs) - targets).square().mean().item()
    assert found == LossOutputs(
        names=("mse_loss",),
        by_marks=False,
        num_outputs=18,
        mean_square=pytest.approx(mean_square, rel=1e-12),
        has_more=False,
    )


def test_both_parts_of_mean_squares_are_those_of_pennington_and_bahri() -> None:
    """``J J^T / m`` and ``(1/m) sum e d^2 yhat``, of which the Hessian of MSELoss is ``2 / n``."""
    _, first, second = in_fit(F.mse_loss, TARGETS)
    num_outputs = TARGETS.shape[1]
    torch.testing.assert_close(
        num_outputs / 2 * first, gram(torch.eye(3).double().expand(11, 3, 3)), **CLOSE
    )
    errors = NETWORK.outputs - TARGETS
    torch.testing.assert_close(
        num_outputs / 2 * second, NETWORK.curvature(errors) / len(errors), **CLOSE
    )


SOFTMAX_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": F.cross_entropy,
    "module": nn.CrossEntropyLoss(),
    "nll_loss": lambda z, y: F.nll_loss(F.log_softmax(z, dim=1), y),
    "in a view": lambda z, y: nn.NLLLoss()(nn.LogSoftmax(dim=-1)(z[:, None]).view(-1, 3), target=y),
    "logarithm": lambda z, y: F.nll_loss(z.softmax(1).log(), y),
    "kl_div": lambda z, y: F.kl_div(
        input=torch.log_softmax(z, 1), target=F.one_hot(y, 3).double(), reduction="batchmean"
    ),
    "distillation": lambda z, y: F.cross_entropy(z, F.one_hot(y, 3).double()),
    "summed": lambda z, y: F.cross_entropy(z, y, reduction="sum") / len(y),
}


@pytest.mark.parametrize("name", SOFTMAX_LOSSES)
def test_losses_of_a_soft_max_have_the_curvature_of_its_logits(name: str) -> None:
    found, first, second = in_batches(SOFTMAX_LOSSES[name], CLASSES)
    torch.testing.assert_close(first, gram(softmax_curvature(NETWORK.outputs)), **CLOSE)
    slopes = NETWORK.outputs.softmax(1) - F.one_hot(CLASSES, 3)
    torch.testing.assert_close(second, NETWORK.curvature(slopes) / 11, **CLOSE)
    assert (found.num_outputs, found.mean_square, found.has_more) == (33, None, False)


def test_a_loss_of_sigmoids_has_the_curvature_of_its_logits() -> None:
    wanted = gram(torch.diag_embed(NETWORK.outputs.sigmoid() * (-NETWORK.outputs).sigmoid())) / 3
    for criterion in (
        F.binary_cross_entropy_with_logits,
        lambda z, t: F.binary_cross_entropy(torch.sigmoid(z), t),
        lambda z, t: F.binary_cross_entropy(z.sigmoid().clamp(1e-9, 1).flatten(), t.flatten()),
    ):
        _, first, _ = in_batches(criterion, TARGETS.sigmoid())
        # torch adds 1e-12 to p (1 - p), which is above 1e-2 here
        torch.testing.assert_close(first, wanted, rtol=0, atol=1e-10)


def test_of_probabilities_that_no_sigmoid_made_they_are_themselves_the_outputs() -> None:
    targets = TARGETS.sigmoid()
    found, first, _ = in_batches(
        lambda z, t: F.binary_cross_entropy(0.5 + 0.4 * z.tanh(), t), targets
    )
    assert found.names == ("binary_cross_entropy",)
    p = 0.5 + 0.4 * NETWORK.outputs.tanh()
    bend = targets / p**2 + (1 - targets) / (1 - p) ** 2
    slope = 0.4 * (1 - NETWORK.outputs.tanh() ** 2)
    wanted = gram(torch.diag_embed(bend * slope**2)) / 3
    torch.testing.assert_close(first, wanted, rtol=0, atol=1e-10)


def test_huber_losses_are_curved_near_their_targets_only() -> None:
    misses = (NETWORK.outputs - TARGETS).abs()
    for criterion, reach, height in (
        (lambda z, t: F.huber_loss(z, t, delta=2.0), 2.0, 1.0),
        (lambda z, t: F.smooth_l1_loss(z, t, beta=0.5), 0.5, 2.0),
    ):
        assert 0 < int((misses < reach).sum()) < 33
        _, first, _ = in_batches(criterion, TARGETS)
        wanted = gram(torch.diag_embed(height * (misses < reach).double())) / 3
        torch.testing.assert_close(first, wanted, **CLOSE)


def test_losses_of_several_outputs_count_together_and_a_penalty_is_residual() -> None:
    def step(network: nn.Module, inputs: Tensor) -> Tensor:
        z = network(inputs)
        penalty = sum(p.square().sum() for p in network.parameters())
        return F.cross_entropy(z, CLASSES) + 0.3 * F.mse_loss(2 * z, TARGETS) + 0.05 * penalty

    found, first, second = by_step(step)
    assert found.names == ("cross_entropy", "mse_loss")
    assert (found.num_outputs, found.has_more, found.mean_square) == (66, True, None)
    squares = 0.3 * 2 * 4 / 3 * torch.eye(3).double()
    wanted = gram(softmax_curvature(NETWORK.outputs) + squares)
    torch.testing.assert_close(first, wanted, **CLOSE)
    z = NETWORK.outputs
    slopes = z.softmax(1) - F.one_hot(CLASSES, 3) + 0.3 * 4 / 3 * (2 * z - TARGETS)
    residual = NETWORK.curvature(slopes) / 11 + 0.1 * torch.eye(NETWORK.size).double()
    torch.testing.assert_close(second, residual, **CLOSE)


def test_outputs_that_a_step_marks_take_the_place_of_those_of_known_losses() -> None:
    def step(network: nn.Module, inputs: Tensor) -> Tensor:
        z = as_outputs(network(inputs))
        return (z**4).mean() + F.mse_loss(z.tanh(), TARGETS)

    found, first, _ = by_step(step)
    assert (found.names, found.by_marks, found.num_outputs) == (("as_outputs",), True, 33)
    z = NETWORK.outputs
    t = z.tanh()
    slope = 1 - t**2
    bend = 12 * z**2 + 2 * slope**2 - 4 * (t - TARGETS) * t * slope
    torch.testing.assert_close(first, gram(torch.diag_embed(bend)) / 3, **CLOSE)


def test_only_a_multiple_of_the_mean_square_has_an_energy() -> None:
    mean_square = float((NETWORK.outputs - TARGETS).square().mean())
    for criterion, wanted in (
        (lambda z, t: 0.5 * F.mse_loss(z, t, reduction="sum") / len(z), mean_square),
        (lambda z, t: F.mse_loss(z, t).sqrt(), None),
        (lambda z, t: F.mse_loss(z, t) + 0.1, None),
        (lambda z, t: F.mse_loss(z, t) + 1e-3 * z.abs().mean(), None),
    ):
        found = in_batches(criterion, TARGETS, find_outputs)
        assert found.mean_square == (wanted and pytest.approx(wanted, rel=1e-12))
    # of a single batch everything is a multiple
    found, _, _ = by_step(lambda network, x: F.mse_loss(network(x), TARGETS).sqrt())
    assert found.mean_square is None


def test_batches_that_training_skips_and_metrics_do_not_count() -> None:
    network = NETWORK.module(F.mse_loss).network
    batches = [NETWORK.inputs, NETWORK.inputs[:0]]

    def step(batch: Tensor, _: int) -> Tensor | None:
        z = network(batch)
        F.mse_loss(z, torch.zeros_like(z))  # logged
        with torch.no_grad():
            F.cross_entropy(network(NETWORK.inputs), CLASSES)
        return F.huber_loss(z, TARGETS, delta=100.0) if len(batch) else None

    with open_loss(network, step, batches, dtype=torch.float64) as loss:
        found, first, _ = parts(loss)
    assert (found.names, found.num_outputs) == (("huber_loss",), 33)
    torch.testing.assert_close(first, gram(torch.eye(3).double().expand(11, 3, 3)) / 3, **CLOSE)


def test_a_target_with_a_graph_is_an_output_too() -> None:
    """Of ``(z - 2z)^2`` the curvature in both is that of ``z^2``: nothing is lost."""
    _, first, _ = by_step(lambda network, x: F.mse_loss(network(x), 2 * network(x)))
    wanted = gram(2 / 3 * torch.eye(3).double().expand(11, 3, 3))
    torch.testing.assert_close(first, wanted, **CLOSE)


def test_what_is_no_loss_of_known_outputs_is_refused() -> None:
    with pytest.raises(RefusedError, match=r"were not found: .* `logits = as_outputs\("):
        by_step(lambda network, x: network(x).square().mean())
    with pytest.raises(RefusedError, match="outputs behind `nll_loss` must go through a soft-max"):
        by_step(lambda network, x: F.nll_loss(network(x), CLASSES))

    def in_a_row(network: nn.Module, x: Tensor) -> Tensor:
        z = network(x)
        return F.mse_loss(z * F.huber_loss(z, TARGETS), TARGETS)

    with pytest.raises(RefusedError, match="do not make up the loss: cut off from them"):
        by_step(in_a_row)
    with pytest.raises(RefusedError, match=r"outputs must be real .* got torch\.complex128"):
        by_step(lambda network, x: as_outputs(network(x) * 1j).abs().mean())


class Detached(torch.autograd.Function):
    """Doubles, with a backward that autograd cannot follow."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return 2 * gradient.detach()


def test_a_backward_pass_that_cannot_be_differentiated_is_refused() -> None:
    class Doubled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = copy.deepcopy(NETWORK.module(F.mse_loss).network)

        def forward(self, x: Tensor) -> Tensor:
            z = self.network(x)
            return Detached.apply(z) + z

    with pytest.raises(RefusedError, match="do not agree with their transposes"):
        by_step(lambda network, x: F.mse_loss(network(x), TARGETS), Doubled())

    class Fused(nn.Module):
        """Its backward pass has no derivative in torch."""

        def __init__(self) -> None:
            super().__init__()
            self.lookup = nn.EmbeddingBag(4, 3, mode="max").double()

        def forward(self, x: Tensor) -> Tensor:
            return self.lookup(torch.arange(4)[:, None])

    with pytest.raises(NoExactProductsError, match="without a second derivative"):
        by_step(lambda network, _: F.mse_loss(network(None), TARGETS[:4]), Fused())


def test_a_marked_loss_that_cannot_be_differentiated_twice_is_refused() -> None:
    # torch says so by a plain RuntimeError
    lengths = torch.tensor([5]), torch.tensor([2])

    def step(network: nn.Module, _: Tensor) -> Tensor:
        rated = as_outputs(network(torch.ones(5, 1, 2, dtype=torch.float64))).log_softmax(-1)
        return F.ctc_loss(rated, torch.tensor([[1, 2]]), *lengths)

    with pytest.raises(NoExactProductsError, match="without a second derivative"):
        by_step(step, nn.Linear(2, 3).double())


def everything(loss: Any) -> Any:
    outputs = find_outputs(loss)
    vectors = torch.eye(loss.size, 3, dtype=loss.dtype)
    operators = (GaussNewtonOperator(loss, outputs), ResidualOperator(loss, outputs))
    return outputs, [operator.matmat(vectors) for operator in operators]


class Conducted(AtStart):
    """Computes on the first process with the others' help."""

    def take(self, fit_loss: Any) -> None:
        with fit_loss.opened() as loss:
            self.found = measure_on_first(loss, loss.processes, self.compute)


def test_two_processes_find_what_one_does() -> None:

    def part(_: int) -> Any:
        probe = Conducted(everything)
        # three batches: the second process has a repeat
        ddp_trainer(probe, max_steps=1).fit(copy.deepcopy(linear()), loader(batch_size=9))
        return probe.found

    first, second = in_processes(part)
    alone = AtStart(everything)
    trainer(alone, max_steps=1).fit(linear(), loader(batch_size=9))
    for found in (first, second):
        assert found[0] == alone.found[0]
        # sums in another order, in float64 of float32 products
        torch.testing.assert_close(found[1], alone.found[1], rtol=1e-6, atol=1e-7)
