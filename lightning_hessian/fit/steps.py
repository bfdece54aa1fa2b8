"""Where a fit stands: in steps of optimisers, and on the axis of the loggers."""

from __future__ import annotations

from dataclasses import dataclass

from lightning.pytorch import Trainer


@dataclass(frozen=True, slots=True)
class Steps:
    """Both counts of a fit's steps.

    Attributes:
        global_step: ``trainer.global_step``, which checkpoints name: two a batch with two
            optimisers, and none where these are stepped past Lightning.
        logged_step: Batches that ended in a step, behind the present weights. Lightning logs
            ``self.log`` of a batch at the number of those before it, hence at this one the loss of
            the present weights.
    """

    global_step: int
    logged_step: int

    @classmethod
    def of(cls, trainer: Trainer) -> Steps:
        """As things are now, in any hook."""
        global_step = trainer.global_step
        if trainer.lightning_module.automatic_optimization:
            # one optimiser, which steps once where a batch does not accumulate
            return cls(global_step, global_step)
        # what the connector of loggers counts is behind by one until a batch's end is over; zero of
        # a checkpoint without the state of its loops
        batches = trainer.fit_loop.epoch_loop.batch_progress.total.processed  # type: ignore[attr-defined]
        return cls(global_step, batches or global_step)

    @property
    def counted(self) -> int:
        """What intervals of steps count: those of the optimisers, or batches where none is seen."""
        return self.global_step or self.logged_step
