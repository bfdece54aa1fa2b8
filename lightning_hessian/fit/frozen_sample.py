"""Where the frozen batches of a fit come from, and when they are all there."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.signature_utils import is_param_in_hook_signature

from lightning_hessian.data import (
    WAY_OUT,
    Drawing,
    FrozenBatches,
    Loaders,
    StepBatches,
    StreamedSample,
    draws_uniformly,
    fetch_batches,
    hook_owner,
    is_ordered,
    steps_of_stream,
    take_batches,
    validation_source,
)
from lightning_hessian.errors import RefusedError
from lightning_hessian.loss import OWN_LOSS
from lightning_hessian.options import LossSetup
from lightning_hessian.sandbox import Sandbox

FAST_DEV_RUN_SAMPLES = 8
USUAL = 2048
"""Samples where neither the user nor a plan says how many; where ``"auto"`` starts."""

OpenSandbox = Callable[[list[object]], Sandbox]
"""From further objects, whose state a fetch may change, to a sandbox."""


class FrozenSample:
    """Chooses, in this order: the given loader, the hook's, the training set, or captured batches.

    A loader whose samples can be fetched by position is not iterated: its samples are drawn by the
    seed, unless it is given by the option and keeps their order. Any other given loader is iterated
    inside the sandbox; the training's own stream never is, so its batches are captured as they come
    by, and its sampler, whose state may be out of sight, only where it has none. What goes wrong in
    looking for them, in user code perhaps, is kept for the measurement to report.
    """

    def __init__(
        self,
        setup: LossSetup,
        trainer: Trainer,
        module: LightningModule,
        share: tuple[int, int] = (0, 1),
        num_samples: int | None = None,
    ) -> None:
        self._setup = setup
        self._trainer = trainer
        self._module = module
        self._share = share
        wanted = setup.num_samples
        self._wanted: int | Literal["all"] = (
            (num_samples or USUAL) if wanted in (None, "auto") else wanted  # type: ignore[assignment]
        )
        self._capture: StreamedSample | None = None
        self._error: Exception | None = None
        try:
            self._find_source()
        except Exception as error:
            self._error = error

    @property
    def is_ready(self) -> bool:
        """Whether a measurement can be made, or would fail for a reason to be told."""
        return self._capture is None or self._capture.is_complete

    @property
    def contents(self) -> list[object]:
        """What a training step may reach of the training data."""
        names = ("dataset", "collate_fn")
        # asked anew each time: the Trainer may reload its loaders
        leaves = Loaders.of_training(self._trainer).leaves
        return [getattr(leaf, name, None) for leaf in leaves for name in names]

    @property
    def trained_batch_size(self) -> int | None:
        """Of a training set whose samples can be fetched in any batches; else None."""
        if self._error is not None:
            return None
        is_other = self._given is not None or self._hook_owner is not None
        # a step that optimises by hand may go by the number of its batch
        is_other = is_other or not self._module.automatic_optimization
        if is_other or self._capture is not None or len(self._training.leaves) > 1:
            return None
        if self._is_as_drawn and self._training.have_own_batches:
            return None
        return Drawing.of(self._training.leaves[0]).step_size

    def grow(self, num_samples: int) -> bool:
        """Draw more samples, the present ones among them; False for a stream or a trial run."""
        if self._capture is not None or self._trainer.fast_dev_run:  # type: ignore[attr-defined]
            return False
        self._wanted = num_samples
        return True

    def see(self, batch: Any) -> None:
        """Take a batch of the running training, if batches are captured."""
        if self._capture is not None:
            self._capture.add(batch)

    def close(self) -> None:
        """No more batches come: measure on those that there are."""
        if self._capture is not None:
            self._capture.close()

    def _find_source(self) -> None:
        self._training = Loaders.of_training(self._trainer)
        self._given = self._given_by_option()
        is_given = self._setup.loss.dataloader is not None
        self._hook_owner = None if is_given else hook_owner(self._trainer, self._module)
        streams = not self._training.are_indexable
        if not is_given and self._hook_owner is None and streams:
            self._capture = self._begin_capture()

    def freeze(
        self, open_sandbox: OpenSandbox, *, batch_size: int | None = None, weighs: bool = False
    ) -> FrozenBatches:
        """Fetch the batches of this process; all samples by their weights, where that can be."""
        if self._error is not None:
            raise self._error
        if self._capture is not None:
            return self._capture.take()
        loaders = self._given or self._training
        if self._hook_owner is not None:
            hook: Any = self._hook_owner
            structure = _called(hook.hessian_dataloader, open_sandbox)
            loaders = Loaders.of(structure, name="the loader of `hessian_dataloader`")
        return self._take(loaders, open_sandbox, batch_size, weighs=weighs)

    def freeze_held_out(self, open_sandbox: OpenSandbox) -> FrozenBatches:
        """Fetch samples that training does not see; as many as of those that it sees."""
        held_out, name = self._setup.held_out, "the loader given by `held_out`"
        if held_out is True:
            source, name = validation_source(self._trainer), "the validation set"
            held_out = _called(source, open_sandbox)
        return self._take(Loaders.of(held_out, name=name), open_sandbox)

    def freeze_steps(self, open_sandbox: OpenSandbox, per_process: int) -> StepBatches:
        """Fetch this process's batches of some steps of the optimiser, as training takes them.

        Of the frozen samples themselves where training shuffles; of a stream those captured.

        Args:
            open_sandbox: To fetch in.
            per_process: Batches that each process takes to a step.

        Raises:
            RefusedError: If it is not known which batches a step takes, or there are too few.
        """
        if self._error is not None:
            raise self._error
        self._refuse_other_steps()
        _, num_processes = self._share
        if self._capture is not None:
            return steps_of_stream(
                self._capture.take(),
                batch_size=self._capture.batch_size,
                per_process=per_process,
                num_processes=num_processes,
            )
        loaders = self._training
        with open_sandbox(loaders.contents) as sandbox:
            if self._is_as_drawn:
                self._refuse_parts(loaders)
                sandbox.reset(0)
            plan = loaders.plan_of_steps(
                num_samples=self._num_samples,
                per_step=per_process * num_processes,
                seed=self._setup.seed,
                as_drawn=self._is_as_drawn,
            )
            frozen = fetch_batches(
                plan.batches, reset=sandbox.reset, reseed=sandbox.reseed, share=self._share
            )
        return StepBatches(
            frozen=frozen,
            per_process=per_process,
            per_step=per_process * num_processes,
            step_size=plan.step_size,
            share=plan.share,
            are_halves=plan.are_halves,
        )

    def _refuse_other_steps(self) -> None:
        """Refuse a loss, or batches, that are none of those which the optimiser steps on."""
        module, which = self._module, self._setup.loss.which
        if not module.automatic_optimization:
            raise RefusedError(
                f"{type(module).__name__} optimises by hand, and may take any number of batches to "
                "a step. Only automatic optimisation tells."
            )
        if which is not None or hasattr(module, OWN_LOSS):
            raise RefusedError(
                f"the loss that is measured, `{OWN_LOSS if which is None else which}`, is not the "
                "one that training steps on. Measure that of `training_step`."
            )
        if self._given is not None or self._hook_owner is not None:
            raise RefusedError(
                "the samples come from a loader of their own, and not in the batches that training "
                "takes. Leave `dataloader` and `hessian_dataloader` out."
            )

    def _take(
        self,
        loaders: Loaders,
        open_sandbox: OpenSandbox,
        batch_size: int | None = None,
        *,
        weighs: bool = False,
    ) -> FrozenBatches:
        is_trained_on = loaders.draw_on(self._training)
        as_it_comes = loaders.are_indexable and self._is_as_it_comes(loaders)
        may_draw = loaders.are_indexable and (is_trained_on or self._may_draw_from(loaders))
        if may_draw and not as_it_comes:
            return self._fetch(loaders, open_sandbox, batch_size, weighs=weighs)
        if is_trained_on and not as_it_comes:
            raise RefusedError(
                f"{loaders.name} must not draw from the stream that training draws from, which "
                "would lose batches. Give a loader over a data set of its own, or none at all: "
                "then batches of the training are captured."
            )
        if self._setup.loss.batch_size is not None:
            raise RefusedError(self._no_batch_size(loaders.name))
        with open_sandbox(loaders.contents) as sandbox:
            sandbox.reset(0)
            return take_batches(
                loaders,
                num_samples=self._num_samples,
                weight_fn=self._setup.loss.weight_fn,
                share=self._share,
            )

    def _is_as_it_comes(self, loaders: Loaders) -> bool:
        """Whether a loader that can be indexed stands for its batches in their order."""
        if loaders is not self._given or self._setup.loss.batch_size is not None:
            return False
        return any(map(is_ordered, loaders.leaves))

    def _may_draw_from(self, loaders: Loaders) -> bool:
        """Whether another loader's samples are any, rather than those that its sampler takes."""
        if self._is_as_drawn:
            return not loaders.undrawn
        return all(map(draws_uniformly, loaders.leaves))

    @property
    def _is_as_drawn(self) -> bool:
        return self._setup.loss.sampling == "as_drawn"

    def _refuse_parts(self, loaders: Loaders) -> None:
        """Refuse samplers that may draw something else on each process."""
        undrawn, num_processes = loaders.undrawn, self._share[1]
        if undrawn and num_processes > 1:
            raise RefusedError(
                f"`sampling='as_drawn'` takes one process where a {undrawn[0]} has to draw to tell "
                f"what it draws, got {num_processes}, of which each may draw its own. Give a "
                "`WeightedRandomSampler`, whose weights are read, or leave the option out."
            )

    def _fetch(
        self, loaders: Loaders, open_sandbox: OpenSandbox, batch_size: int | None, *, weighs: bool
    ) -> FrozenBatches:
        with open_sandbox(loaders.contents) as sandbox:
            if self._is_as_drawn:
                self._refuse_parts(loaders)
                sandbox.reset(0)
            plan = loaders.plan(
                num_samples=self._num_samples,
                batch_size=batch_size or self._setup.loss.batch_size,
                seed=self._setup.seed,
                as_drawn=self._is_as_drawn,
                weighs=weighs,
            )
            return fetch_batches(
                plan,
                reset=sandbox.reset,
                reseed=sandbox.reseed,
                share=self._share,
                weight_fn=self._setup.loss.weight_fn,
            )

    def _given_by_option(self) -> Loaders | None:
        if self._setup.loss.dataloader is None:
            return None
        given = Loaders.of(self._setup.loss.dataloader, name="the loader given by `dataloader`")
        if given.structure is not self._training.structure:
            return given
        # samples of the training set, within the Trainer's limits, unless their order is meant
        return given if given.are_indexable and any(map(is_ordered, given.leaves)) else None

    def _begin_capture(self) -> StreamedSample:
        leaves = self._training.leaves
        kinds = ", ".join(type(getattr(leaf, "dataset", leaf)).__name__ for leaf in leaves)
        size = getattr(leaves[0], "batch_size", None) if len(leaves) == 1 else None
        capture = StreamedSample(
            self._trainer,
            description=f"the training stream ({kinds})",
            num_samples=self._num_samples,
            weight_fn=self._setup.loss.weight_fn,
            batch_size=size if isinstance(size, int) else None,
            share=self._share,
            refusal=self._reason_not_to_capture(),
        )
        if not capture.is_complete:
            wanted = self._num_samples
            first = "batches of the first epoch" if wanted == "all" else f"first {wanted:,} samples"
            rank_zero_info(
                f"Hessian: {capture.description} cannot be indexed, so the loss is measured on the "
                f"{first} that training sees. What is due before they have come by is left out. "
                "Give `dataloader=` to measure from the start."
            )
        return capture

    def _reason_not_to_capture(self) -> RefusedError | None:
        step = self._module.training_step
        if is_param_in_hook_signature(step, "dataloader_iter", explicit=True):
            return RefusedError(
                f"{type(self._module).__name__}.training_step takes a `dataloader_iter` and draws "
                f"its batches itself, so none can be captured from a stream. {WAY_OUT}"
            )
        if self._setup.loss.batch_size is not None:
            return RefusedError(self._no_batch_size("the training stream"))
        if self._num_samples == "all" and self._trainer.num_training_batches == math.inf:
            return RefusedError(
                "`num_samples` must be a number for a training stream without a length, got "
                f"'all'. {WAY_OUT}"
            )
        return None

    def _no_batch_size(self, source: str) -> str:
        return (
            f"`batch_size` must be None for {source}, which makes its batches itself, got "
            f"{self._setup.loss.batch_size}."
        )

    @property
    def _num_samples(self) -> int | Literal["all"]:
        in_dev_run = bool(self._trainer.fast_dev_run)  # type: ignore[attr-defined]
        return FAST_DEV_RUN_SAMPLES if in_dev_run else self._wanted


def _called(make: Callable[[], Any], open_sandbox: OpenSandbox) -> Any:
    """The loaders that a hook of the user's makes, always from the same state."""
    with open_sandbox([]) as sandbox:
        sandbox.reseed(0)
        return make()
