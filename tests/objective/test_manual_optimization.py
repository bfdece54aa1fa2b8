"""One loss of several that a step optimises by hand: which one, over what, and at which weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_hessian import Krylov, Loss
from lightning_hessian.errors import RefusedError
from tests.helpers import hard_modules as hard
from tests.helpers.adversarial import MANNERS, Adversarial, SwitchesFlags
from tests.helpers.fitting import Classifier, loader, trainer
from tests.helpers.recording import spectrum

LOSSES = [
    pytest.param(0, "generator_loss", "generator", id="generator"),
    pytest.param(1, "discriminator_loss", "discriminator", id="discriminator"),
]


def seeded(kind: type[Adversarial] = Adversarial) -> Adversarial:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return kind()


class OneLoss(Classifier):
    """One of the two losses as that of an ordinary module, over one of the two networks."""

    def __init__(self, method: str, network: str) -> None:
        super().__init__()
        self.network = seeded()
        self.network.requires_grad_(False)
        getattr(self.network, network).requires_grad_(True)
        self.method = method

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return getattr(self.network, self.method)(batch)


@pytest.mark.parametrize(("number", "method", "network"), LOSSES)
def test_a_captured_loss_has_its_own_hessian_over_its_own_parameters(
    number: int, method: str, network: str
) -> None:
    measured = hard.measure(seeded(), which=number, precision=64, batch_size=13)
    assert measured.names == tuple(
        f"{network}.{name}" for name, _ in getattr(seeded(), network).named_parameters()
    )
    wanted = hard.hessian_by_differences(OneLoss(method, network))
    assert hard.off_by(measured.matrix, wanted) < 1e-8
    assert measured.matrix[:, :4].equal(measured.again)
    # the step itself detaches what is not differentiated, so there is nothing to beware of
    assert measured.notes == ()


@pytest.mark.sampled
@pytest.mark.parametrize("kind", MANNERS)
@pytest.mark.parametrize(("number", "method", "network"), LOSSES)
def test_it_does_not_matter_how_the_step_is_written(
    kind: type[Adversarial], number: int, method: str, network: str
) -> None:
    wanted = hard.measure(seeded(), which=method, parameters=[f"{network}.*"])
    measured = hard.measure(seeded(kind), which=number)
    assert measured.names == wanted.names
    assert measured.loss == wanted.loss
    assert measured.matrix.equal(wanted.matrix)


def test_patterns_choose_among_the_parameters_of_the_loss() -> None:
    measured = hard.measure(seeded(), which=1, parameters=["*.bias"])
    assert measured.names == ("discriminator.0.bias", "discriminator.2.bias")
    with pytest.raises(RefusedError, match=r"'generator.*' matches none. Names look like discrim"):
        hard.measure(seeded(), which=1, parameters=["generator.*"])


def test_flags_that_a_step_left_behind_do_not_hide_its_parameters() -> None:
    module = seeded(SwitchesFlags)
    module.requires_grad_(False)
    assert hard.measure(module, which=0).names[0] == "generator.0.weight"


class StepsTwiceOnOne(Adversarial):
    """An encoder and a decoder, each with an optimiser, under one loss."""

    def training_step(self, batch: Any, batch_idx: int) -> None:
        self.manual_backward(self.generator_loss(batch))
        for optimizer in self.optimizers():
            optimizer.step()
            optimizer.zero_grad()


class NeverSteps(Adversarial):
    """Accumulates for longer than there are frozen batches."""

    def training_step(self, batch: Any, batch_idx: int) -> None:
        self.discriminator[0].requires_grad_(False)
        self.manual_backward(self.generator_loss(batch))


def test_a_single_call_needs_no_number_and_all_that_step_on_it_count() -> None:
    measured = hard.measure(seeded(StepsTwiceOnOne))
    wanted = hard.measure(seeded(), which="generator_loss")
    assert measured.names == wanted.names
    assert len(measured.names) == 8
    assert measured.matrix.equal(wanted.matrix)
    assert hard.measure(seeded(StepsTwiceOnOne), which=0).matrix.equal(wanted.matrix)


def test_without_any_step_all_that_is_trainable_at_the_call_counts() -> None:
    measured = hard.measure(seeded(NeverSteps))
    wanted = ("discriminator.2.weight", "discriminator.2.bias")
    assert measured.names[4:] == wanted
    assert len(measured.names) == 6


class Scales(Adversarial):
    """Overrides `manual_backward`, and hands a factor to the backward pass."""

    def manual_backward(self, loss: Tensor, *arguments: Any, **options: Any) -> None:
        super().manual_backward(loss / 2, *arguments, **options)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        self.manual_backward(self.generator_loss(batch), torch.tensor(0.5))
        self.optimizers()[0].step()


def test_the_loss_is_the_one_that_reaches_the_backward_pass() -> None:
    measured = hard.measure(seeded(Scales))
    wanted = hard.measure(seeded(), which=0)
    assert hard.off_by(4 * measured.matrix, wanted.matrix.double()) < 1e-6
    assert measured.loss == pytest.approx(wanted.loss / 4, rel=1e-6)


class SecondAtTimes(Adversarial):
    """Its second loss exists on every second batch only."""

    def training_step(self, batch: Any, batch_idx: int) -> None:
        first, second = self.optimizers()
        self.manual_backward(self.generator_loss(batch))
        first.step()
        if batch_idx % 2 == 0:
            self.manual_backward(self.discriminator_loss(batch))
            second.step()


def test_batches_without_the_call_have_no_weight() -> None:
    measured = hard.measure(seeded(SecondAtTimes), which=1, batch_size=8, precision=64)
    first, second, third, fourth = measured.batches
    assert [batch.weight for batch in (first, second, third, fourth)] == [8, 8, 8, 2]
    wanted = hard.hessian_by_differences(
        OneLoss("discriminator_loss", "discriminator"), [first.data, third.data]
    )
    assert hard.off_by(measured.matrix, wanted) < 1e-8


class Swaps(Adversarial):
    """Begins with the other loss on the second batch."""

    def training_step(self, batch: Any, batch_idx: int) -> None:
        pairs = list(
            zip(self.optimizers(), (self.generator_loss, self.discriminator_loss), strict=True)
        )
        for optimizer, loss in pairs if batch_idx != 1 else pairs[::-1]:
            self.manual_backward(loss(batch))
            optimizer.step()


class CallsBackward(Adversarial):
    def training_step(self, batch: Any, batch_idx: int) -> None:
        self.generator_loss(batch).backward()
        self.optimizers()[0].step()


class CallsNothing(Adversarial):
    def training_step(self, batch: Any, batch_idx: int) -> None:
        return None


class WithThing(Classifier):
    thing = 3


class ReturnsWrong(Classifier):
    def mistaken(self, batch: Any, batch_idx: int) -> Any:
        return 3.0

    def misnamed(self, batch: Any, batch_idx: int) -> Any:
        return {"objective": 3.0}


@pytest.mark.parametrize(
    ("kind", "loss", "reason"),
    [
        (Adversarial, None, r"training_step` makes 2 .* `Loss\(which=0\)` to `Loss\(which=1\)`"),
        (Adversarial, 2, r"`which` must be below 2, the number of `manual_backward`.*, got 2"),
        (CallsNothing, None, r"made no `manual_backward` call on the frozen.*Define `hessian_loss"),
        (CallsNothing, 0, r"made no `manual_backward` call"),
        (CallsBackward, 0, r"calls `backward\(\)` itself, past `self.manual_backward`"),
        (Swaps, 0, r"call 0 of `Swaps.training_step` is followed by the steps of other optimisers"),
        (Classifier, 0, r"only where a module optimises by hand, got 0 for Classifier with"),
        (Classifier, "other", r"name a method .* of Classifier, got 'other', which it does not"),
        (WithThing, "thing", r"name a method .* of WithThing, got 'thing', a int"),
        (ReturnsWrong, "mistaken", r"`mistaken` must return a tensor, .* got float"),
        (ReturnsWrong, "misnamed", r"a dictionary returned by `misnamed` must hold 'loss'"),
    ],
)
def test_a_loss_that_is_not_there_or_not_one_is_refused(
    kind: type[Any], loss: Any, reason: str
) -> None:
    with pytest.raises(RefusedError, match=reason):
        hard.measure(kind(), which=loss)


class SharpnessAware(Classifier):
    """Moves the weights up along the gradient, and back, around a second backward pass."""

    def __init__(self, past_autograd: bool) -> None:
        super().__init__(hard.seeded(hard.mlp).network)
        self.automatic_optimization = False
        self.past_autograd = past_autograd

    def plain(self, batch: Any, batch_idx: int) -> Tensor:
        return F.cross_entropy(self.network(batch[0]), batch[1])

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(self.plain(batch, batch_idx))
        parameters = list(self.parameters())
        norm = torch.stack([p.grad.norm() for p in parameters]).norm() + 1e-12  # type: ignore[union-attr]
        ascent = [0.05 * p.grad / norm for p in parameters]  # type: ignore[operator]
        self.move(parameters, ascent, 1.0)
        optimizer.zero_grad()
        self.manual_backward(self.plain(batch, batch_idx))
        self.move(parameters, ascent, -1.0)
        optimizer.step()

    def move(self, parameters: list[nn.Parameter], by: list[Tensor], sign: float) -> None:
        with torch.no_grad():
            for parameter, step in zip(parameters, by, strict=True):
                (parameter.data if self.past_autograd else parameter).add_(sign * step)


@pytest.mark.parametrize("past_autograd", [True, False])
def test_the_loss_before_weights_are_moved_by_hand_is_the_plain_one(past_autograd: bool) -> None:
    first, plain = (
        hard.measure(SharpnessAware(past_autograd), which=which, precision=64)
        for which in (0, "plain")
    )
    assert first.names == plain.names
    assert first.matrix.equal(plain.matrix)
    with pytest.raises(RefusedError, match="must be at the module's weights, but the step has mov"):
        hard.measure(SharpnessAware(past_autograd), which=1)


def test_an_error_in_the_step_leaves_no_stand_in_behind() -> None:
    class Breaks(Adversarial):
        is_broken = True

        def training_step(self, batch: Any, batch_idx: int) -> None:
            super().training_step(batch, batch_idx)
            if self.is_broken:
                raise KeyError("broken")

    module, backward = Breaks(), torch.autograd.backward
    callback = spectrum(every_n_train_steps=None, on_error="warn", loss=Loss(which=0))
    fit = trainer(callback, max_steps=4)
    module.on_train_batch_start = lambda *_: setattr(module, "is_broken", False)  # type: ignore[method-assign]
    with pytest.warns(UserWarning, match="KeyError: 'broken'"):
        fit.fit(module, loader())
    assert torch.autograd.backward is backward
    things = [fit.strategy, fit.precision_plugin, *fit.optimizers, *module.optimizers()]
    names = ("backward", "clip_gradients", "step")
    assert not [name for thing in things for name in names if name in vars(thing)]
    assert fit.global_step == 4
    assert callback.reports[-1].failure is None


def test_two_callbacks_measure_one_network_each_and_say_which() -> None:
    pair = [
        spectrum(
            name=f"of loss {k}",
            every_n_train_steps=None,
            num_samples="all",
            loss=Loss(which=k),
            solver=Krylov(rtol=1e-4, max_hvps=40),
        )
        for k in (0, 1)
    ]
    trainer(*pair, max_steps=2).fit(seeded(), loader(batch_size=13))
    for callback, network in zip(pair, ("generator", "discriminator"), strict=True):
        report = callback.reports[0]
        dense = hard.hessian_by_differences(OneLoss(f"{network}_loss", network))
        assert report.num_parameters == len(dense)
        largest = float(torch.linalg.eigvalsh(dense)[-1])
        # beside the bound, the rounding of float32
        bound = float(report.largest.residual_bounds[0]) + 1e-5
        assert abs(float(report.largest.values[0]) - largest) <= bound


class OwnLoss(Adversarial):
    def hessian_loss(self, batch: Any, batch_idx: int) -> Tensor:
        return self.generator_loss(batch)


@pytest.mark.parametrize(
    ("kind", "loss", "name"),
    [
        (Classifier, None, None),
        (OwnLoss, None, "hessian_loss"),
        (OwnLoss, "discriminator_loss", "discriminator_loss"),
        (OwnLoss, 1, "manual_backward 1"),
    ],
)
def test_reports_name_the_loss_and_none_for_the_steps_own(
    kind: type[Any], loss: Any, name: str | None
) -> None:
    callback = spectrum(every_n_train_steps=None, loss=Loss(which=loss))
    trainer(callback, max_steps=1).fit(kind(), loader())
    assert callback.reports[0].loss_name == name
