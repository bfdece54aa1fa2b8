"""What the self-check refuses, what it notes, and that it asks once per fit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.function import Function, once_differentiable
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from lightning_hessian import Loss
from lightning_hessian.errors import NonFiniteError, RefusedError
from lightning_hessian.hvp import choice as products
from lightning_hessian.hvp import open_loss
from lightning_hessian.hvp.agreement import Comparison
from lightning_hessian.hvp.self_check import STEPS
from lightning_hessian.linalg import rademacher
from lightning_hessian.loss import once_differentiable_functions
from lightning_hessian.sandbox import numerics
from tests.helpers import hard_modules as hard
from tests.helpers.fitting import Classifier, loader, trainer
from tests.helpers.spectrum import spectrum


class Square(Function):
    """Each of the following has a backward of its own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x


class SquareOnce(Square):
    """A right first derivative, and a promise that there is no second one."""

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return 2 * ctx.saved_tensors[0] * grad


class SquareDetached(Function):
    """Its backward is differentiable in the gradient, but not in the input."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.x = x.detach()
        return x * x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return 2 * ctx.x * grad


class WrongSecond(Function):
    """``2 x g`` whose own derivative is wrong in ``x``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, grad: Tensor) -> Tensor:
        ctx.save_for_backward(x, grad)
        return 2 * x * grad

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, Tensor]:
        x, grad = ctx.saved_tensors
        return (outer * grad).flip(-1), 2 * outer * x


class SquareWrong(Square):
    """A right first derivative with a wrong second one."""

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return WrongSecond.apply(ctx.saved_tensors[0], grad)


class SquareRight(Square):
    """Differentiable as often as you like."""

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return 2 * ctx.saved_tensors[0] * grad


class Applied(nn.Module):
    """A custom function as a layer."""

    def __init__(self, function: type[Function]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function.apply(x)  # type: ignore[no-any-return]


class SumsItsOutputs(Classifier):
    """Its loss hands a constant gradient to the last layer."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.network(batch[0]).sum(dim=1).mean()  # type: ignore[no-any-return]


def with_function(function: type[Function]) -> Classifier:
    return hard.seeded(lambda: hard.mlp(Applied(function)))


def test_a_custom_function_with_its_second_derivative_is_exact() -> None:
    measured = hard.measure(with_function(SquareRight))
    assert hard.off_by(measured.matrix, hard.hessian_by_differences(with_function(SquareRight))) < (
        3e-5
    )
    assert measured.notes == ()


def test_a_function_that_is_differentiable_once_is_refused_by_name() -> None:
    with pytest.raises(RefusedError, match="uses `SquareOnce`, which is differentiable once only"):
        hard.measure(with_function(SquareOnce))


def test_it_is_refused_also_where_its_gradient_is_constant_and_no_error_node_shows() -> None:
    module = SumsItsOutputs(nn.Sequential(nn.Linear(4, 3), Applied(SquareOnce)))
    weight = module.network[0].weight
    scalar = module.training_step([torch.ones(2, 4)], 0)
    (first,) = torch.autograd.grad(scalar, weight, create_graph=True)
    assert not first.requires_grad  # what autograd says: curvature zero; in truth 2 x x^T
    with pytest.raises(RefusedError, match="SquareOnce"):
        hard.measure(module)


def test_it_does_not_matter_behind_the_selected_parameters() -> None:
    selected = ["network.3.*"]
    measured = hard.measure(with_function(SquareOnce), parameters=selected)
    wanted = hard.measure(with_function(SquareRight), parameters=selected)
    assert measured.matrix.equal(wanted.matrix)
    leaf = torch.ones(2, requires_grad=True)
    assert once_differentiable_functions(SquareOnce.apply(leaf).sum(), [leaf]) == {"SquareOnce"}
    assert once_differentiable_functions(SquareOnce.apply(leaf).sum(), []) == set()


def test_an_operation_of_torch_without_second_derivative_is_refused() -> None:
    class Ctc(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            scores = self.network(batch[0]).log_softmax(-1)
            lengths = torch.tensor([len(scores)]), torch.tensor([2])
            return F.ctc_loss(scores[:, None], torch.tensor([[1, 2]]), *lengths)

    with pytest.raises(RefusedError, match="uses an operation, which is differentiable once only"):
        hard.measure(Ctc())


def test_reentrant_checkpointing_is_refused() -> None:
    module = hard.seeded(lambda: hard.Checkpointed(use_reentrant=True))
    with pytest.raises(RefusedError, match=r"reentrant activation checkpointing.*_reentrant=F"):
        hard.measure(module)


def test_a_wrong_second_derivative_is_refused_as_asymmetric() -> None:
    reason = r"not symmetric: .* where rounding allows 1e-06.*gradgradcheck"
    with pytest.raises(RefusedError, match=reason):
        hard.measure(with_function(SquareWrong))


def test_the_weight_norm_of_torch_is_caught_where_ours_is_taken_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    theirs = torch._weight_norm
    monkeypatch.setattr(numerics, "weight_norm", lambda *args: theirs(*args))
    normed = hard.seeded(lambda: hard.mlp(wrap=parametrizations.weight_norm))
    with pytest.raises(RefusedError, match="not symmetric"):
        hard.measure(normed)


def test_a_missing_second_derivative_is_refused_though_the_products_are_symmetric() -> None:
    reason = (
        r"are wrong: at 'network\.\d\.\w+' they are .*while the gradients agree .*gradgradcheck"
    )
    with pytest.raises(RefusedError, match=reason):
        hard.measure(with_function(SquareDetached))


def test_differences_take_its_place_and_say_why() -> None:
    measured = hard.measure(with_function(SquareDetached), products="auto")
    wanted = hard.hessian_by_differences(with_function(SquareRight))
    assert hard.off_by(measured.matrix, wanted) < 3e-5
    assert [note.code for note in measured.notes] == []


class SquareOff(Square):
    """Its second derivative is a little too large."""

    share = 1.0

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        # right in value, and off in its derivative
        return 2 * (x + SquareOff.share * (x - x.detach())) * grad


@pytest.mark.parametrize("share", [1e-3, 1e-2, 1.0])
@pytest.mark.parametrize("depth", [1, 8])
def test_one_layer_that_is_a_little_wrong_shows_among_many(
    share: float, depth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SquareOff, "share", share)
    deep = [layer for _ in range(depth - 1) for layer in (nn.Linear(5, 5), nn.Tanh())]
    module = hard.seeded(lambda: hard.mlp(*deep, Applied(SquareOff)))
    with pytest.raises(RefusedError, match="are wrong: at"):
        hard.measure(module)


class StraightThrough(nn.Module):
    """Rounds, and passes the gradient on as if it did not."""

    def forward(self, x: Tensor) -> Tensor:
        return x + (x.round() - x).detach()


class StopsGradient(nn.Module):
    """Scales by its own norm, taken as a constant."""

    def forward(self, x: Tensor) -> Tensor:
        return x / x.norm(dim=1, keepdim=True).detach()


@pytest.mark.parametrize("layer", [StraightThrough, StopsGradient])
def test_a_gradient_stopped_on_purpose_is_noted_not_refused(layer: type[nn.Module]) -> None:
    measured = hard.measure(hard.seeded(lambda: hard.mlp(layer())))
    (note,) = measured.notes
    assert "stopped or replaced on purpose" in note
    assert measured.matrix.isfinite().all()


class OwnPast(Classifier):
    """Zero wherever one looks, with a curvature all the same."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        scores = self.network(batch[0])
        return (scores - scores.detach()).square().mean()


def test_a_loss_of_its_own_constant_is_told_from_a_wrong_derivative() -> None:
    (note,) = hard.measure(OwnPast(hard.seeded(hard.mlp).network)).notes
    assert note.code == "stopped-gradients"


class Rounded(nn.Module):
    """Weights on a grid, by straight-through gradients, as in training for few bits."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        weight = self.layer.weight
        rounded = weight + ((16 * weight).round() / 16 - weight).detach()
        return F.linear(x, rounded, self.layer.bias)


def test_layers_on_a_grid_are_told_from_a_wrong_derivative() -> None:
    (note,) = hard.measure(hard.seeded(lambda: hard.mlp(wrap=Rounded))).notes
    assert note.code == "stopped-gradients"


def test_relus_at_exactly_zero_are_verified_nearby() -> None:
    class Empty(Classifier):
        """New biases at zero, and inputs that are empty."""

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return super().training_step([batch[0] * (batch[0][:, :1] > 0), batch[1]], batch_idx)

    def network(*last: nn.Module) -> nn.Module:
        layers = (nn.Linear(4, 20), nn.ReLU(), nn.Linear(20, 3), *last)
        nn.init.zeros_(layers[0].bias)
        return nn.Sequential(*layers)

    (note,) = hard.measure(Empty(hard.seeded(network).network)).notes
    assert note.code == "on-a-kink"
    with pytest.raises(RefusedError, match="are wrong"):
        hard.measure(Empty(hard.seeded(lambda: network(Applied(SquareDetached))).network))


class Jittery(Square):
    """Its gradient jumps by a ten millionth wherever one looks, as a noisy solver's does."""

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 2 * x * (1 + 1e-7 * (1e13 * x.detach()).sin()) * grad


def test_a_loss_too_rough_to_verify_is_refused() -> None:
    with pytest.raises(RefusedError, match=r"cannot be verified: at 'network\.0.*too rough or too"):
        hard.measure(with_function(Jittery))


def test_a_step_over_kinks_is_not_taken_for_a_stopped_gradient() -> None:
    class Large(Classifier):
        """Parameters of a length by which the first step is long for the others."""

        def __init__(self) -> None:
            layers = (nn.Linear(4, 20), nn.ReLU(), nn.Linear(20, 3))
            super().__init__(nn.Sequential(*layers))
            self.scale = nn.Parameter(torch.full((20,), 1e4))

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return super().training_step(batch, batch_idx) + (1e-4 * self.scale.mean() - 1) ** 2

    torch.manual_seed(3)
    assert hard.measure(Large()).notes == ()


def test_an_infinite_curvature_is_not_taken_for_a_passed_check() -> None:
    class Power(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return self.network[2].bias.abs().pow(1.5).sum()

    module = Power()
    nn.init.zeros_(module.network[2].bias)
    with pytest.raises(NonFiniteError, match="Hessian-vector product holds NaN or infinity"):
        hard.measure(module)


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The verdict of each comparison as it is made."""
    made = []
    original = products.compare_products

    def compared(*args: Any, **kwargs: Any) -> Any:
        made.append("refused")
        check = original(*args, **kwargs)
        made[-1] = check.verdict
        return check

    monkeypatch.setattr(products, "compare_products", compared)
    return made


def test_the_check_runs_before_training_and_once_it_has_begun(checks: list[str]) -> None:
    callback = spectrum()
    module = Classifier()
    for fits in (1, 2):
        trainer(callback, max_epochs=3).fit(module, loader())
        assert checks == 2 * fits * ["exact"]
    assert len(callback.reports) == 8


class FillsItself(Classifier):
    """Takes its first batch's statistics into its parameters, as ActNorm does."""

    def __init__(self) -> None:
        super().__init__(hard.seeded(hard.mlp).network)
        self.scale = nn.Parameter(torch.ones(4))
        self.register_buffer("is_filled", torch.tensor(False))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if not self.is_filled:
            with torch.no_grad():
                self.scale.copy_(1 / batch[0].std(0))
                self.is_filled.fill_(True)
        return super().training_step([self.scale * batch[0], batch[1]], batch_idx)


def test_what_is_found_before_a_module_has_filled_itself_is_no_note_of_later_reports(
    checks: list[str],
) -> None:
    callback = spectrum()
    trainer(callback, max_epochs=2).fit(FillsItself(), loader())
    codes = [[note.code for note in report.notes] for report in callback.reports]
    assert ["stopped-gradients" in found for found in codes] == [True, False, False]
    assert checks == ["surrogate", "exact"]


class UnfreezesLater(Classifier):
    """Its first layer is trained from the second epoch on."""

    def __init__(self, function: type[Function] = SquareRight) -> None:
        super().__init__(hard.mlp(Applied(function)))
        self.network[0].requires_grad_(False)

    def on_train_epoch_start(self) -> None:
        if self.current_epoch == 1:
            self.network[0].requires_grad_(True)


def test_parameters_that_are_unfrozen_are_checked_anew(checks: list[str]) -> None:
    callback = spectrum()
    module = UnfreezesLater(SquareDetached)
    trainer(callback, max_epochs=3).fit(module, loader())
    # frozen, there is nothing of the function to see; what was refused is looked at once more
    assert checks == ["exact", "exact", "refused"]
    ways = [report.products.method for report in callback.reports]
    assert ways == ["exact"] * 2 + ["finite_difference"] * 2


def test_what_cannot_be_measured_yet_is_measured_later() -> None:
    callback = spectrum(loss=Loss(parameters=["network.0.*"]), on_error="warn")
    with pytest.warns(UserWarning, match="will not be tried again while the module stays"):
        trainer(callback, max_epochs=4).fit(UnfreezesLater(), loader())
    assert [report.global_step for report in callback.reports] == [0, 8, 12, 16]
    assert [report.failure is None for report in callback.reports] == [False, True, True, True]


class InsistsOnFloat32(Classifier):
    """Refuses any other type, with an error of its own."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if batch[0].dtype != torch.float32:
            raise ValueError("only float32 is supported")
        return super().training_step(batch, batch_idx)


def test_a_step_that_insists_on_float32_is_checked_for_symmetry_there() -> None:
    right = InsistsOnFloat32(with_function(SquareRight).network)
    (note,) = hard.measure(right).notes
    assert "not possible in float64 (ValueError: only float32 is supported)" in note
    wrong = InsistsOnFloat32(with_function(SquareWrong).network)
    with pytest.raises(RefusedError, match="where rounding allows 1e-04"):
        hard.measure(wrong)


def test_the_first_batch_that_has_a_loss_is_checked() -> None:
    class SkipsTheFirst(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
            return super().training_step(batch, batch_idx) if batch_idx > 0 else None

    module = SkipsTheFirst(with_function(SquareWrong).network)
    with pytest.raises(RefusedError, match="not symmetric"):
        hard.measure(module)


def test_an_operation_of_torch_whose_backward_stops_at_once_is_refused() -> None:
    class Bag(Classifier):
        def __init__(self) -> None:
            super().__init__(nn.EmbeddingBag(8, 3, mode="sum"))

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            words = (batch[0] > 0).long() + 2 * torch.arange(4)
            return F.cross_entropy(self.network(words).tanh(), batch[1])

    with pytest.raises(RefusedError, match=r"without a second deriv.*_embedding_bag_ba"):
        hard.measure(Bag())


@pytest.mark.parametrize(("act", "depth", "seed"), [(nn.Tanh, 4, 1), (nn.ReLU, 8, 17)])
def test_a_step_too_short_to_tell_does_not_clear_what_a_longer_one_has_seen(
    act: type[nn.Module], depth: int, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a layer that is off by a thousandth, and has so little of the product that rounding of the
    # shortest step hides it
    monkeypatch.setattr(SquareOff, "share", 1e-3)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        hidden = [layer for _ in range(depth) for layer in (nn.Linear(5, 5), act())]
        layers = [nn.Linear(4, 5), act(), *hidden, Applied(SquareOff), nn.Linear(5, 3)]
    network = nn.Sequential(*layers).double()
    inputs, targets = loader().dataset.tensors

    def step(_batch: Any, _index: int) -> Tensor:
        return F.cross_entropy(network(inputs.double()), targets)

    with open_loss(network, step, [None], dtype=torch.float64) as loss:
        generator = torch.Generator().manual_seed(0)
        probes = rademacher(loss.size, 3, generator=generator, dtype=torch.float64)
        vectors = probes[:, :2] / loss.size**0.5
        images = loss.products.matmat(vectors)
        steps = [step * max(loss.parameters.norm(), 1.0) for step in STEPS]
        eps = torch.finfo(torch.float64).eps
        shortest = Comparison.of(loss, vectors, images, steps[-1:], eps)
        all_steps = Comparison.of(loss, vectors, images, steps, eps)
    assert shortest.agrees  # which tells nothing
    assert not all_steps.agrees
