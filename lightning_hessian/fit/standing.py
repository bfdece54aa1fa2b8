"""What the answers to questions about a loss stand on, which are asked once in a fit."""

from __future__ import annotations

from dataclasses import dataclass

from lightning.pytorch import LightningModule, Trainer


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether training has begun, what the module is made of, and what of it is trained.

    A module may initialise itself from its first batch, be unfrozen later, or exchange its parts:
    what was refused or found of its derivatives before need not be so any more.

    Attributes:
        has_begun: Whether a batch was trained on.
        parts: Names and types of all modules.
        trained: Names of the parameters that are differentiated by.
    """

    has_begun: bool
    parts: tuple[tuple[str, type], ...]
    trained: tuple[str, ...]

    @classmethod
    def of(cls, trainer: Trainer, module: LightningModule) -> Standing:
        """As things are now."""
        batches = trainer.fit_loop.epoch_loop.batch_progress.total.ready
        return cls(
            has_begun=trainer.global_step > 0 or batches > 0,
            parts=tuple((name, type(part)) for name, part in module.named_modules()),
            trained=tuple(name for name, p in module.named_parameters() if p.requires_grad),
        )
