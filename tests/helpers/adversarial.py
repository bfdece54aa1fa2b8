"""A pair of adversarial networks, trained by hand in the manners that people write."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Adversarial(pl.LightningModule):
    """Non-saturating losses; the generator's is the first, the discriminator's the second.

    Its noise is the first half of a sample, so that a batch alone fixes both losses. A subclass
    says how it optimises.
    """

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 4))
        self.discriminator = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1))

    def generator_loss(self, batch: Any, batch_idx: int = 0) -> Tensor:
        fake = self.generator(batch[0][:, :2])
        return F.softplus(-self.discriminator(fake)).mean()

    def discriminator_loss(self, batch: Any) -> Tensor:
        real, fake = batch[0], self.generator(batch[0][:, :2]).detach()
        return (
            F.softplus(-self.discriminator(real)).mean()
            + F.softplus(self.discriminator(fake)).mean()
        )

    def training_step(self, batch: Any, batch_idx: int) -> None:
        first, second = self.optimizers()
        first.zero_grad()
        self.manual_backward(self.generator_loss(batch))
        first.step()
        second.zero_grad()
        self.manual_backward(self.discriminator_loss(batch))
        second.step()

    def configure_optimizers(self) -> Any:
        return [
            torch.optim.Adam(self.generator.parameters(), lr=0.01),
            torch.optim.SGD(self.discriminator.parameters(), lr=0.1, momentum=0.9),
        ]


class Toggles(Adversarial):
    """Switches the other's gradients off by Lightning's two methods."""

    def training_step(self, batch: Any, batch_idx: int) -> None:
        losses = (self.generator_loss, self.discriminator_loss)
        for optimizer, loss in zip(self.optimizers(), losses, strict=True):
            self.toggle_optimizer(optimizer)
            self.manual_backward(loss(batch))
            optimizer.step()
            optimizer.zero_grad()
            self.untoggle_optimizer(optimizer)


class StepsByClosures(Adversarial):
    """Gives a closure to each step, inside Lightning's context."""

    def training_step(self, batch: Any, batch_idx: int) -> None:
        losses = (self.generator_loss, self.discriminator_loss)
        for optimizer, loss in zip(self.optimizers(), losses, strict=True):

            def closure(optimizer: Any = optimizer, loss: Any = loss) -> Tensor:
                optimizer.zero_grad()
                value: Tensor = loss(batch)
                self.manual_backward(value)
                return value

            with optimizer.toggle_model():
                assert optimizer.step(closure=closure).item() > 0


class SwitchesFlags(Adversarial):
    """Sets `requires_grad` by hand, and leaves the generator's off."""

    def training_step(self, batch: Any, batch_idx: int) -> None:
        first, second = self.optimizers()
        self.generator.requires_grad_(True)
        self.discriminator.requires_grad_(False)
        self.manual_backward(self.generator_loss(batch))
        first.step()
        self.generator.requires_grad_(False)
        self.discriminator.requires_grad_(True)
        self.manual_backward(self.discriminator_loss(batch))
        second.step()


class NamesInputs(Adversarial):
    """Says at the backward pass who takes gradients; steps both at the end."""

    def training_step(self, batch: Any, batch_idx: int) -> None:
        first, second = self.optimizers()
        for network, loss in (
            (self.generator, self.generator_loss),
            (self.discriminator, self.discriminator_loss),
        ):
            self.manual_backward(loss(batch), inputs=list(network.parameters()))
        first.step()
        second.step()


class Accumulates(Adversarial):
    """Steps on every second batch only."""

    def training_step(self, batch: Any, batch_idx: int) -> None:
        losses = (self.generator_loss, self.discriminator_loss)
        for optimizer, loss in zip(self.optimizers(), losses, strict=True):
            self.manual_backward(loss(batch))
            if batch_idx % 2:
                optimizer.step()
                optimizer.zero_grad()


class ClipsWeights(Adversarial):
    """Clips the discriminator's weights in place, behind autograd's back, as of Wasserstein."""

    def training_step(self, batch: Any, batch_idx: int) -> None:
        super().training_step(batch, batch_idx)
        for parameter in self.discriminator.parameters():
            parameter.data.clamp_(-0.2, 0.2)


class DoesEverything(Adversarial):
    """Clips, anneals, looks at gradients, reads optimisers' state, steps bare optimisers."""

    def training_step(self, batch: Any, batch_idx: int) -> None:
        bare = self.optimizers(use_pl_optimizer=False)
        losses = (self.generator_loss, self.discriminator_loss)
        for k, (optimizer, loss) in enumerate(zip(self.optimizers(), losses, strict=True)):
            with self.toggled_optimizer(optimizer):
                optimizer.zero_grad()
                self.manual_backward(loss(batch))
                self.clip_gradients(optimizer, 0.1, "norm")
                group = optimizer.param_groups[0]
                norms = [p.grad.norm() for p in group["params"]]
                self.log(f"norm_{k}", torch.stack(norms).norm())
                self.log(f"moments_{k}", float(len(optimizer.state[group["params"][0]])))
                (optimizer if k else bare[0]).step()
            self.lr_schedulers()[k].step()

    def configure_optimizers(self) -> Any:
        optimizers = super().configure_optimizers()
        return optimizers, [torch.optim.lr_scheduler.ExponentialLR(o, 0.9) for o in optimizers]


MANNERS = (
    Adversarial,
    Toggles,
    StepsByClosures,
    SwitchesFlags,
    NamesInputs,
    Accumulates,
    ClipsWeights,
    DoesEverything,
)
