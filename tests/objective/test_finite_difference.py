"""Differences of gradients against Hessians that are known by another route."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.function import Function, once_differentiable
from torch.nn import functional as F

from lightning_hessian.errors import NoExactProductsError, NonFiniteError, RefusedError
from lightning_hessian.hvp import DifferenceProducts, Probes
from lightning_hessian.hvp.difference_error import Quotient, kinked_operations
from lightning_hessian.loss import node_names
from tests.helpers import hard_modules as hard
from tests.helpers.fitting import Classifier, classification_data
from tests.helpers.networks import Supervised, ask, dense_hessian, mlp
from tests.objective.test_self_check import (
    SquareOnce,
    SquareRight,
    SquareWrong,
    StopsGradient,
    with_function,
)

# rounding of a float64 gradient, about 1e-16 of it, over a step of 1e-10
FINE = 1e-5


def products_of(module: Any, **options: Any) -> tuple[Tensor, Any]:
    """The whole matrix of differences, column by column, and what is said of its error."""
    data = options.pop("data", None) or classification_data()

    def question(loss: Any) -> tuple[Tensor, Any]:
        matrix = loss.products.matmat(torch.eye(loss.size, dtype=loss.dtype)).double()
        return matrix, loss.products.quality

    defaults = {"products": "finite_difference", "precision": None}
    return ask(module, data, question, **(defaults | options))  # type: ignore[arg-type]


def norm_of(matrix: Tensor) -> float:
    return float(torch.linalg.matrix_norm(matrix, 2))


@pytest.mark.sampled
@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU])
@pytest.mark.parametrize("batch_size", [26, 7])
def test_float64_differences_are_the_hessian_whatever_the_batches(
    activation: type[nn.Module], batch_size: int
) -> None:
    module = Supervised(hard.seeded(lambda: mlp(4, 8, 6, 3, activation=activation)).network)
    data = classification_data()
    matrix, products = products_of(module, data=data, batch_size=batch_size)
    wanted = dense_hessian(module, data)
    assert hard.off_by(matrix, wanted) < FINE
    assert products.method == "finite_difference"
    assert 0 < products.error < FINE * norm_of(wanted)


@pytest.mark.sampled
@pytest.mark.parametrize(("activation", "least"), [(nn.Tanh, 0.0), (nn.ReLU, 0.01)])
def test_float32_differences_say_by_how_much_they_are_off(
    activation: type[nn.Module], least: float
) -> None:
    data = classification_data(256, features=8)
    module = Supervised(hard.seeded(lambda: mlp(8, 32, 24, 3, activation=activation)).network)

    def question(loss: Any) -> tuple[Tensor, Any]:
        return loss.products.matmat(top[:, None]).double()[:, 0], loss.products.quality

    wanted = dense_hessian(module, data)
    values, vectors = torch.linalg.eigh(wanted)
    top = vectors[:, -1]
    product, products = ask(
        module, data, question, products="finite_difference", precision=32, batch_size=128
    )
    error = float((product - values[-1] * top).norm())
    assert error <= products.error
    assert error >= least * float(values[-1])  # kinks: what float32 cannot do
    if activation is nn.Tanh:
        assert products.error < 2e-3 * float(values[-1])


class Ctc(Classifier):
    """Samples as frames, a target of two labels; alignments summed by torch or by hand."""

    written_out = False

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        scores = self.network(batch[0]).log_softmax(-1)
        if self.written_out:
            return -log_probability(scores, [0, 1, 0, 2, 0]) / 2  # `reduction="mean"` by length
        lengths = torch.tensor([len(scores)]), torch.tensor([2])
        return F.ctc_loss(scores[:, None], torch.tensor([[1, 2]]), *lengths)


class WrittenOutCtc(Ctc):
    written_out = True


def log_probability(scores: Tensor, states: list[int]) -> Tensor:
    """Forward algorithm over the states blank, 1, blank, 2, blank (Graves et al. 2006, eq. 6-8)."""
    nothing = scores.new_full((), -1e4)
    alpha = [scores[0, states[0]], scores[0, states[1]]] + [nothing] * (len(states) - 2)
    for frame in scores[1:]:
        alpha = [
            torch.stack(
                [
                    alpha[s],
                    alpha[s - 1] if s > 0 else nothing,
                    alpha[s - 2] if s > 1 and states[s] not in (0, states[s - 2]) else nothing,
                ]
            ).logsumexp(0)
            + frame[states[s]]
            for s in range(len(states))
        ]
    return torch.stack(alpha[-2:]).logsumexp(0)


class Bag(Classifier):
    """Sums the words of a sample, by the fused operation or by hand."""

    def __init__(self, fused: bool) -> None:
        super().__init__(nn.EmbeddingBag(8, 3, mode="sum") if fused else nn.Embedding(8, 3))
        torch.nn.init.normal_(self.network.weight, generator=torch.Generator().manual_seed(0))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        words = (batch[0] > 0).long() + 2 * torch.arange(4)
        scores = self.network(words)
        scores = scores.sum(dim=1) if scores.dim() == 3 else scores
        return F.cross_entropy(scores.tanh(), batch[1])


def checkpointed(use_reentrant: bool) -> Classifier:
    return hard.seeded(lambda: hard.Checkpointed(use_reentrant=use_reentrant))


def ctc(kind: type[Ctc]) -> Classifier:
    return kind(hard.seeded(hard.mlp).network)


Make = Callable[[], Any]

WITHOUT_EXACT: dict[str, tuple[Make, Make, str]] = {
    "ctc": (lambda: ctc(Ctc), lambda: ctc(WrittenOutCtc), "an operation, which is diff"),
    "reentrant": (lambda: checkpointed(True), lambda: checkpointed(False), "reentrant activation"),
    "once": (lambda: with_function(SquareOnce), lambda: with_function(SquareRight), "`SquareOnce`"),
    "wrong": (
        lambda: with_function(SquareWrong),
        lambda: with_function(SquareRight),
        "are not symmetric",
    ),
    "bag": (lambda: Bag(True), lambda: Bag(False), "operation of torch without a second"),
}


@pytest.mark.sampled
@pytest.mark.parametrize("name", WITHOUT_EXACT)
def test_they_take_the_place_of_exact_products_that_do_not_exist(name: str) -> None:
    make, same, reason = WITHOUT_EXACT[name]
    matrix, products = products_of(make(), products="auto")
    wanted = hard.measure(same(), precision=64, batch_size=8).matrix
    assert hard.off_by(matrix, wanted) < FINE
    assert products.method == "finite_difference"
    assert products.error < FINE * norm_of(wanted)
    (note,) = products.notes
    assert "central differences of gradients (float64), off by about" in note
    assert reason in note.partition("Reason: ")[2]
    with pytest.raises(NoExactProductsError, match=reason):
        hard.measure(make())


def test_exact_products_are_taken_where_they_exist() -> None:
    matrix, products = products_of(hard.seeded(hard.mlp), products="auto")
    assert (products.method, products.error, products.notes) == ("exact", 0.0, ())
    assert hard.off_by(matrix, hard.hessian_by_differences(hard.seeded(hard.mlp))) < 3e-5


def test_twice_the_same_vector_gives_twice_the_same_bits_and_nothing_gives_nothing() -> None:
    def question(loss: Any) -> list[Tensor]:
        v = torch.linspace(-1, 1, loss.size, dtype=torch.float64)
        block = torch.stack([v, torch.zeros_like(v), -4 * v], dim=1)
        return [loss.products.matmat(block), loss.products.matmat(v[:, None])]

    block, again = ask(
        hard.seeded(hard.mlp), classification_data(), question, products="finite_difference"
    )
    assert block[:, 0].equal(again[:, 0])
    assert not block[:, 1].any()
    assert torch.allclose(block[:, 2], -4 * block[:, 0])


class OneParameter(Classifier):
    """``w^2 + jump(w - 1)`` at ``w = 1``: curvature 2 but for what happens at a kink."""

    def __init__(self, kink_at: float, jump: float = 0.0) -> None:
        super().__init__(nn.Linear(1, 1, bias=False))
        nn.init.ones_(self.network.weight)
        self.kink_at, self.jump = kink_at, jump

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        w = self.network.weight.squeeze()
        return w**2 + self.jump * (w - 1 - self.kink_at).abs()


class FloatInside(Function):
    """Squares in float32, as a kernel that knows nothing else."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x.float() * x.float()).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return (2 * ctx.saved_tensors[0].float() * grad.float()).to(grad.dtype)


@pytest.mark.parametrize("kink_at", [3e-11, -3e-11, 3e-12, -5e-10])
def test_a_kink_nearer_than_the_step_is_seen_and_stepped_around(kink_at: float) -> None:
    """A jump of the gradient by one, over a step of 1e-10, would count as 1e10."""
    matrix, products = products_of(OneParameter(kink_at, jump=1.0))
    # of a single number, not of a vector's length: the error may be low by chance
    assert abs(float(matrix) - 2) <= 2 * products.error < 1e-3


class KinkAside(Classifier):
    """A bowl with a kink across one axis, out of reach of the steps along random directions."""

    def __init__(self) -> None:
        super().__init__()
        del self.network
        self.w = nn.Parameter(torch.full((400,), 0.05, dtype=torch.float64))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return 0.5 * self.w.square().sum() + torch.relu(self.w[7] - 0.05 - 3e-11)


def test_a_kink_that_only_one_product_meets_is_stepped_around_too() -> None:
    def question(loss: Any) -> Tensor:
        axis = torch.zeros(400, 1, dtype=torch.float64)
        axis[7] = 1.0
        assert loss.products.quality.error < 1e-3
        return loss.products.matmat(axis)[7, 0]  # type: ignore[no-any-return]

    product = ask(KinkAside(), classification_data(), question, products="finite_difference")
    assert abs(float(product) - 1) < 1e-3


def test_a_kink_through_the_present_parameters_shows_in_the_error() -> None:
    matrix, products = products_of(OneParameter(0.0, jump=1.0))
    assert float(matrix) > 1e3
    assert products.error > 0.3 * float(matrix)


class CastsInside(Classifier):
    """Computes its first layer in float32, whatever it is given."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        first, *others = self.network
        hidden = F.linear(batch[0].float(), first.weight.float(), first.bias.float())
        for layer in others:
            hidden = layer(hidden.to(batch[0].dtype))
        return F.cross_entropy(hidden, batch[1])


def casts_in_the_open() -> Classifier:
    return CastsInside(hard.seeded(hard.mlp).network)


def casts_in_a_function() -> Classifier:
    return with_function(FloatInside)


@pytest.mark.parametrize(
    ("make", "same"),
    [
        (casts_in_the_open, lambda: hard.seeded(hard.mlp)),
        (casts_in_a_function, lambda: with_function(SquareRight)),
    ],
)
def test_a_step_that_casts_to_float32_inside_gets_a_longer_one(make: Make, same: Make) -> None:
    """Beside 1e-10 of it, a float32 parameter does not move at all: curvature zero."""
    matrix, products = products_of(make())
    wanted = hard.hessian_by_differences(same())
    assert norm_of(matrix - wanted) <= 2 * products.error
    assert products.error < 0.02 * norm_of(wanted)
    assert "(roundings of float32)" in products.notes[0]


class InsistsOnFloat32(Classifier):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if batch[0].dtype != torch.float32:
            raise ValueError("only float32 is supported")
        return super().training_step(batch, batch_idx)


@pytest.mark.sampled
@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU])
def test_without_float64_a_kinked_loss_is_said_to_be_off_by_more(
    activation: type[nn.Module],
) -> None:
    network = hard.seeded(lambda: mlp(4, 8, 3, activation=activation)).network
    measured = hard.measure(InsistsOnFloat32(network), products="finite_difference")
    assert "are in float32, as the step fails in float64 (ValueError: only" in measured.notes[-1]
    _, products = products_of(InsistsOnFloat32(network))
    assert products.error > 0
    lower = [note for note in products.notes if "is a lower bound: the loss has kinks" in note]
    assert len(lower) == (activation is nn.ReLU)
    assert all("(Relu)" in note for note in lower)


def test_float64_that_is_insisted_on_is_not_replaced() -> None:
    with pytest.raises(ValueError, match="only float32 is supported"):
        products_of(InsistsOnFloat32(), precision=64, products="finite_difference")


def test_kinked_operations_are_found_by_name() -> None:
    x = torch.randn(1, 1, 6, 6, requires_grad=True)
    smooth = F.gelu(F.avg_pool2d(x, 2)).mean() + x.norm() + F.cross_entropy(x[0, 0], x[0, 0])
    assert kinked_operations(node_names([smooth])) == ()
    kinked = [F.max_pool2d(x, 2), x.clamp(min=0), x.abs(), F.leaky_relu(x), F.relu6(x), x.amax(0)]
    found = kinked_operations(node_names([sum(k.sum() for k in kinked)]))  # type: ignore[list-item]
    assert found == ("Abs", "Amax", "Clamp", "Hardtanh", "LeakyRelu", "MaxPool2DWithIndices")


def test_a_gradient_that_is_the_gradient_of_nothing_is_refused() -> None:
    module = hard.seeded(lambda: hard.mlp(StopsGradient()))
    with pytest.raises(
        RefusedError, match=r"differences of .* are not symmetric.*products='exact'"
    ):
        products_of(module)


@pytest.mark.parametrize(("skew", "passes"), [(3e-4, True), (0.1, False)])
def test_a_slight_asymmetry_is_part_of_the_error(skew: float, passes: bool) -> None:
    matrix = torch.diag(torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64))
    matrix[0, 1] += skew
    matrix[1, 0] -= skew

    def quotient(u: Tensor) -> Quotient:
        return Quotient(product=matrix @ u, error=torch.zeros_like(u))

    probes = Probes.along_powers(quotient, torch.ones(3, dtype=torch.float64))
    assert 0.1 * skew < probes.error < 2 * skew
    if passes:
        probes.refuse_asymmetry()
        return
    with pytest.raises(RefusedError, match=r"of \|D\|, of which 1e-03 would pass"):
        probes.refuse_asymmetry()


def test_differences_that_are_asked_for_are_held_against_exact_products() -> None:
    class OwnPast(Classifier):
        """A square of which one factor is held constant; differences see both."""

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            scores = self.network(batch[0])
            return (scores * scores.detach()).mean()

    def module() -> OwnPast:
        return OwnPast(hard.seeded(hard.mlp).network)

    measured = hard.measure(module(), products="finite_difference")
    (note,) = measured.notes
    assert note.code == "stopped-gradients"
    assert "which `products='exact'` gives" in note
    assert hard.off_by(measured.matrix, hard.hessian_by_differences(module())) < FINE


def test_an_infinite_gradient_is_said_to_be_infinite() -> None:
    class Root(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return self.network[2].bias.abs().sqrt().sum()

    module = Root()
    nn.init.zeros_(module.network[2].bias)
    with pytest.raises(NonFiniteError, match="gradient of the training loss must be finite"):
        products_of(module)


class HasGradients(hard.DenseHessian):
    """Measures in the middle of a backward pass, so to say, and looks at what is left."""

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        parameters, fired = list(pl_module.parameters()), []
        for parameter in parameters:
            parameter.grad = torch.full_like(parameter, 0.5)
            parameter.register_post_accumulate_grad_hook(fired.append)
        before = [p.grad for p in parameters]
        super().on_train_start(trainer, pl_module)
        assert fired == []
        assert all(p.grad is grad for p, grad in zip(parameters, before, strict=True))
        assert all(bool((grad == 0.5).all()) for grad in before if grad is not None)


@pytest.mark.sampled
@pytest.mark.parametrize("use_reentrant", [True, False])
@pytest.mark.parametrize("precision", [None, 32])
def test_gradients_of_the_run_are_not_touched(use_reentrant: bool, precision: Any) -> None:
    probe = HasGradients(products="finite_difference", precision=precision)
    hard.trainer(probe, max_steps=1).fit(checkpointed(use_reentrant), hard.loader(batch_size=16))
    assert probe.matrix.any()


def test_products_before_any_calibration_have_no_known_error() -> None:
    def question(loss: Any) -> None:
        DifferenceProducts(loss).quality  # noqa: B018

    with pytest.raises(RuntimeError, match="must be calibrated"):
        ask(hard.seeded(hard.mlp), classification_data(), question, products="finite_difference")
