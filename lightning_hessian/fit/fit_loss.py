"""The training loss of a running fit, ready to be measured as often as it is due."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from lightning_hessian.data import FrozenBatches, StepBatches, pad_to_equal_count
from lightning_hessian.errors import RefusedError
from lightning_hessian.fit.averages import Averages, lend_average
from lightning_hessian.fit.batching import Batching, choose_batching
from lightning_hessian.fit.frozen_sample import FrozenSample
from lightning_hessian.fit.noise import PASSES, is_noisy
from lightning_hessian.fit.other_function import Flags, compare_with_training
from lightning_hessian.fit.standing import Standing
from lightning_hessian.fit.untaken import WholeBatches, explain_failure
from lightning_hessian.hvp import ExactProducts, GraphTrust, ProductChoice
from lightning_hessian.loss import (
    Clipping,
    LossProducts,
    ManualBackwardLoss,
    ParameterSelection,
    Trained,
    TrainingLoss,
    as_outside,
    module_loss,
)
from lightning_hessian.options import LossSetup
from lightning_hessian.processes import enter_on_all, on_all_or_none, processes_of
from lightning_hessian.records import Note
from lightning_hessian.sandbox import Sandbox, fast_float32_is_exact, share_state

CHECK = 10
"""Gradients of the smallest batch that looking for wrong products comes to, in float64."""
SHARDING = frozenset({"FSDPStrategy", "DeepSpeedStrategy", "XLAStrategy", "XLAFSDPStrategy"})


def _refuse_sharded(trainer: Trainer) -> None:
    """Refuse parameters in parts: to autograd their curvature would be zero in silence.

    Those of FSDP2 are made whole; but where a layer computes in parts, its code expects parts.
    """
    for base in type(trainer.strategy).__mro__:
        if base.__name__ in SHARDING:
            raise RefusedError(
                "`Trainer(strategy=...)` must keep whole parameters on each device or shard them "
                f"by FSDP2 (`ModelParallelStrategy`), got a {base.__name__}. Train under one of "
                "these or DDP, or analyse the consolidated checkpoint there."
            )
    mesh = getattr(trainer.strategy, "_device_mesh", None)
    names = getattr(mesh, "mesh_dim_names", None) or ()
    if mesh is not None and "tensor_parallel" in names and mesh["tensor_parallel"].size() > 1:
        raise RefusedError(
            "`ModelParallelStrategy(tensor_parallel_size=...)` must be 1 for a measurement, got "
            f"{mesh['tensor_parallel'].size()}: layers that compute in parts cannot do so with "
            "whole parameters. Analyse the consolidated checkpoint on a single device."
        )


def _clipping_of(trainer: Trainer) -> Clipping | None:
    value, algorithm = trainer.gradient_clip_val, trainer.gradient_clip_algorithm
    if not value:
        return None
    return Clipping(float(value), "norm" if algorithm is None else algorithm.value)


def _training_flags(module: nn.Module) -> dict[nn.Module, bool]:
    """Of the module and all parts; after each batch, so five times as fast as by `modules()`."""
    flags = {module: module.training}
    waiting = [module]
    for part in waiting:
        for child in part._modules.values():
            if child is not None and child not in flags:
                flags[child] = child.training
                waiting.append(child)
    return flags


class FitLoss:
    """Keeps what stays the same during one fit: the frozen batches, the self-check, the flags.

    The self-check is made again where the first one found something, and whenever training has
    begun since, or the module's parts or its trainable parameters are others.

    Several processes of a fit share the batches, and fail together. :attr:`sample` is where the
    batches come from; it must see each batch that training takes. :attr:`has_products` tells
    whether the loss can be differentiated, as far as it was asked to; :attr:`setup_cost` what it
    took to find out, in sample gradients. ``poll``, called before each batch, raises if the
    measurement is to be abandoned.
    """

    def __init__(
        self,
        setup: LossSetup,
        trainer: Trainer,
        module: LightningModule,
        *,
        poll: Callable[[], None] | None = None,
        num_samples: int | None = None,
        trains: bool = True,
    ) -> None:
        self._setup = setup
        self._trains = trains
        self._trainer = trainer
        self._module = module
        self._poll = poll
        self._train_flags: dict[nn.Module, bool] = {}
        self._batching: Batching | None = None
        self._whole: WholeBatches | None = None
        self._held_out: FrozenBatches | None = None
        self._steps: StepBatches | RefusedError | None = None
        self._per_process = 0
        self._products: ProductChoice | None = None
        self._checked: Standing | None = None
        self._num_checks = 0
        self._is_compared = setup.mode == "train"
        self._mode_notes: tuple[Note, ...] = ()
        self.has_products = False
        self.setup_cost = 0.0
        self._sandboxes: list[Sandbox] = []
        self._trust = GraphTrust()
        self._products_notes: tuple[Note, ...] = ()
        self._parameter_notes: tuple[Note, ...] = ()
        self.processes = processes_of(trainer)
        share = (self.processes.rank, self.processes.size)
        self.averages = Averages(trainer, module)
        self.sample = FrozenSample(setup, trainer, module, share, num_samples)

    @property
    def notes(self) -> tuple[Note, ...]:
        """What to say of the loss in a report."""
        batching, whole = self._batching, self._whole
        own = (*self._mode_notes, *self._parameter_notes)
        left_out = () if whole is None else (whole.note,)
        of_batches = () if batching is None else batching.notes
        return (*own, *left_out, *of_batches, *self._products_notes)

    def remember_flags(self) -> None:
        """Remember which submodules are in train mode; called while the fit trains."""
        if self._setup.mode == "train" or not self._is_compared:
            self._train_flags = _training_flags(self._module)

    def grow(self, num_samples: int) -> bool:
        """Measure on so many samples in all from now on; False where there are no more."""
        batching = self._batching
        if batching is None or batching.population is None or not batching.frozen.are_drawn:
            return False
        present = batching.frozen.num_samples
        if num_samples <= present or present >= batching.population:
            return False
        if not self.sample.grow(num_samples):
            return False
        self._batching = self._checked = None
        return True

    def leave_out(self) -> bool:
        """Do without smaller batches than the training's, if these are what the step has failed on.

        Raises:
            UntakenBatchError: If it fails on a batch as training has it, each time alike.
        """
        if self._whole is not None:
            return False
        open_loss = partial(self._open, dtype=self._dtype)
        self._whole = explain_failure(open_loss, self._frozen_in(None), self._setup.mode)
        if self._whole is None:
            return False
        self._batching = self._checked = None
        return True

    def prepare(self) -> None:
        """Fetch the batches and choose the kind of products, the first time in a fit."""
        if self._batching is None:
            _refuse_sharded(self._trainer)
            self._choose_batching()
            assert self._batching is not None
            if self._setup.held_out is not False:
                held_out = on_all_or_none(self.processes, self._freeze_held_out)
                self._held_out = pad_to_equal_count(held_out, self.processes)
            self._compare_modes(self._batching)
            self._steps = None
        standing = Standing.of(self._trainer, self._module)
        if self._setup.derivatives != "none" and self._must_check(standing):
            assert self._batching is not None
            if self._num_checks and self._has_become_noisy(self._batching):
                self._choose_batching()
            self._choose_products(self._batching)
            self._checked = standing
            self._num_checks += 1
        if self._setup.step_batches:
            self._choose_steps()

    @contextmanager
    def opened(self) -> Iterator[TrainingLoss]:
        """The loss at the present parameters, inside a sandbox; not to be used after the block."""
        self.prepare()
        if self._products is not None:
            with self._products.opened() as loss:
                yield loss
        else:
            assert self._batching is not None
            with self._open(self._batching.frozen, self._dtype) as loss:
                yield loss

    def close(self) -> None:
        """Leave what a fault has kept from being left; called after each measurement."""
        for sandbox in reversed(self._sandboxes):
            sandbox.close()
        self._sandboxes.clear()

    def _must_check(self, standing: Standing) -> bool:
        is_doubtful = self._products is None or self._products.is_doubtful
        return standing != self._checked or (is_doubtful and self._num_checks == 1)

    def _has_become_noisy(self, batching: Batching) -> bool:
        """Noise may set in with training, and be none of the loss before its first step."""
        if not batching.may_become_noisy:
            return False
        self.setup_cost += PASSES * self._on_all(batching.frozen.batches[0].num_samples)
        return is_noisy(partial(self._open, dtype=self._dtype), batching.frozen)

    def _compare_modes(self, batching: Batching) -> None:
        """Once in a fit: whether the module has, in eval mode, the loss that is trained."""
        if self._is_compared:
            return
        frozen, flags = batching.specimen, self._train_flags or _training_flags(self._module)
        samples = self._on_all(frozen.batches[0].num_samples)

        def spend(gradients: float) -> None:
            self.setup_cost += gradients * samples

        def opened(flags: Flags | None) -> AbstractContextManager[TrainingLoss]:
            return self._open(frozen, self._dtype, flags=flags)

        note = compare_with_training(opened, frozen, flags, spend)
        self._is_compared = True
        if note is not None:
            self._mode_notes = (note,)
            if note.code == "other-function-in-eval":
                rank_zero_warn(note)

    def _choose_products(self, batching: Batching) -> None:
        """Unless the losses alone are worth measuring, what has no products is refused."""
        self._products, self.has_products = None, True
        try:
            self.setup_cost += CHECK * self._on_all(batching.specimen.batches[0].num_samples)
            self._products = ProductChoice.made(
                self._setup, self._open, self._dtype, batching.frozen, batching.specimen
            )
            self._products_notes = self._products.notes
        except RefusedError as error:
            if self._setup.derivatives == "required":
                raise
            self.has_products = False
            text = f"Nothing was measured of gradients and Hessians: {error}"
            self._products_notes = (Note("no-derivatives", text),)

    def _on_all(self, number: float) -> float:
        """The sum over processes."""
        mine = torch.tensor([number], dtype=torch.float64, device=self.processes.device)
        return float(self.processes.sum(mine))

    @contextmanager
    def _open(
        self,
        frozen: FrozenBatches,
        dtype: torch.dtype,
        *,
        products: Callable[[TrainingLoss], LossProducts] | None = None,
        copies: bool = False,
        flags: Flags | None = None,
    ) -> Iterator[TrainingLoss]:
        trained = Trained(
            tuple(map(as_outside, self._trainer.optimizers)),
            dict(self._module.named_parameters(remove_duplicate=False)),
            holds_average=self._setup.loss.weights == "averaged",
            clipping=_clipping_of(self._trainer),
            is_as_configured=not self._trains,
        )
        with self._entered(dtype, copies=copies, flags=flags) as sandbox:
            loss = self._loss(frozen, sandbox, products)
            loss.trained = trained
            if self._batching is not None and frozen is self._batching.frozen:
                fresh = partial(ExactProducts, graph_memory=0, trust=self._trust)
                redrawn = self._batching.redrawn
                loss.redrawn = tuple(self._loss(other, sandbox, fresh) for other in redrawn)
                loss.step_batches = self._steps
                if isinstance(self._steps, StepBatches):
                    loss.in_steps = self._loss(self._steps.frozen, sandbox, fresh)
            if self._held_out is not None:
                loss.held_out = self._loss(self._held_out, sandbox, products)
            yield loss

    @contextmanager
    def _entered(
        self, dtype: torch.dtype, *, copies: bool = False, flags: Flags | None = None
    ) -> Iterator[Sandbox]:
        """A sandbox on each process, with the first one's weights, or its average, in all."""
        own = self._sandbox(dtype, copies=copies, flags=flags)
        average = on_all_or_none(self.processes, self._averaged_state)
        with enter_on_all(self.processes, own) as sandbox:
            share_state(sandbox, self.processes)
            if average is not None:
                lend_average(sandbox, average, self.processes)
            yield sandbox

    def _averaged_state(self) -> Mapping[str, Tensor] | None:
        is_wanted = self._setup.loss.weights == "averaged"
        return self.averages.state(self._setup.mode) if is_wanted else None

    @property
    def _dtype(self) -> torch.dtype:
        precision = self._setup.loss.precision
        if precision is None:
            double = (torch.float64, torch.complex128)
            in_double = any(p.dtype in double for p in self._module.parameters())
            precision = 64 if in_double else 32
        return torch.float64 if precision == 64 else torch.float32

    def _sandbox(
        self,
        dtype: torch.dtype,
        *,
        copies: bool = False,
        data: Sequence[object] = (),
        flags: Flags | None = None,
    ) -> Sandbox:
        trainer = self._trainer
        settings = [optimizer.param_groups for optimizer in trainer.optimizers]
        schedules = [vars(config.scheduler) for config in trainer.lr_scheduler_configs]
        sandbox = Sandbox(
            self._module,
            mode=self._setup.mode if flags is None else "train",
            seed=self._setup.seed,
            dtype=dtype,
            train_flags=self._train_flags if flags is None else flags,
            trainer=trainer,
            foreign=[
                *self.sample.contents,
                *data,
                trainer.datamodule,  # type: ignore[attr-defined]
                *settings,
                *schedules,
            ],
            copies=copies,
            fast_float32=self._settle_fast_float32(),
        )
        self._sandboxes.append(sandbox)
        return sandbox

    def _settle_fast_float32(self) -> bool:
        """Find out whether faster float32 products, where asked for, lose nothing here."""
        if self._setup.sweep_precision != "fast_float32":
            return False
        return fast_float32_is_exact(next(self._module.parameters()).device)

    def _loss(
        self,
        frozen: FrozenBatches,
        sandbox: Sandbox,
        products: Callable[[TrainingLoss], LossProducts] | None,
    ) -> TrainingLoss:
        setup, low_precision = self._setup, None
        if products is None:
            products = partial(ExactProducts, graph_memory=setup.graph_memory, trust=self._trust)
            if setup.sweep_precision == "bfloat16":
                low_precision = partial(products, autocast=torch.bfloat16)
        step = on_all_or_none(
            self.processes,
            lambda: module_loss(
                self._module,
                self._trainer,
                sandbox.dtype,
                setup.loss.which,
                are_transferred=frozen.are_transferred,
            ),
        )
        trainable: frozenset[str] | None = None
        if isinstance(step, ManualBackwardLoss):
            # from all batches even where only some are asked for: not each may show the steps
            every = self._batching.frozen if self._batching else frozen
            trainable = step.parameters(every, sandbox, self.processes)

        def build() -> TrainingLoss:
            parameters = ParameterSelection.of(self._module, setup.loss.parameters, trainable)
            self._parameter_notes = parameters.notes
            return TrainingLoss(
                step,
                frozen,
                parameters,
                sandbox,
                products=products,
                low_precision=low_precision,
                poll=self._poll,
                processes=self.processes,
                name=step.name,
            )

        return on_all_or_none(self.processes, build)

    def _choose_batching(self) -> None:
        batching = choose_batching(
            self._setup,
            self._frozen_in,
            partial(self._open, dtype=self._dtype),
            # other samples than those of whole batches would be another sample
            trained=None if self._whole else self.sample.trained_batch_size,
            processes=self.processes,
        )
        self.setup_cost += self._on_all(batching.cost) + batching.shared_cost
        batching = self._weighed(batching)
        pad = partial(pad_to_equal_count, processes=self.processes)
        self._batching = replace(batching, redrawn=tuple(map(pad, batching.redrawn)))

    def _weighed(self, batching: Batching) -> Batching:
        """All samples by their weights in place of as many draws, where it is the same loss."""
        is_plain = batching.is_mean and self.sample.trained_batch_size is not None
        if not (is_plain and batching.frozen.may_be_weighed):
            return batching
        return replace(batching, frozen=self._frozen_in(None, weighs=True))

    def _frozen_in(self, batch_size: int | None, *, weighs: bool = False) -> FrozenBatches:
        """The samples in batches of a size, on each process equally many."""

        def freeze() -> FrozenBatches:
            frozen = self.sample.freeze(
                lambda data: self._sandbox(self._dtype, data=data),
                batch_size=batch_size,
                weighs=weighs,
            )
            return frozen if self._whole is None else self._whole.of(frozen)

        return pad_to_equal_count(on_all_or_none(self.processes, freeze), self.processes)

    def _choose_steps(self) -> None:
        """Fetch the batches of some steps, anew where a step takes another number of them."""
        per_process = int(self._trainer.accumulate_grad_batches)
        if self._steps is not None and per_process == self._per_process:
            return
        self._per_process = per_process

        def freeze() -> StepBatches:
            return self.sample.freeze_steps(
                lambda data: self._sandbox(self._dtype, data=data), per_process
            )

        try:
            found = on_all_or_none(self.processes, freeze)
            ranks = range(self.processes.size)
            fewest = min(self.processes.broadcast(found.num_steps, rank) for rank in ranks)
            self._steps = found.first(fewest)
        except RefusedError as error:
            self._steps = error

    def _freeze_held_out(self) -> FrozenBatches:
        return self.sample.freeze_held_out(lambda data: self._sandbox(self._dtype, data=data))
