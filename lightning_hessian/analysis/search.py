"""``search``: from the weights of a checkpoint to a critical point of the training loss."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from tqdm.auto import tqdm

from lightning_hessian.analysis.at_checkpoint import loss_setup, one_checkpoint, with_loss_at
from lightning_hessian.analysis.found_file import FoundFile, found_path, state_in
from lightning_hessian.analysis.idle_fit import default_trainer
from lightning_hessian.analysis.summary import search_summary
from lightning_hessian.loss import TrainingLoss
from lightning_hessian.options import Loss, LossSetup, WeightDecay
from lightning_hessian.records import Mode, Weights
from lightning_hessian.studies import FoundPoint, SearchState, SearchTarget, find_critical_point


def search(
    model: LightningModule,
    checkpoint: str | os.PathLike[str],
    *,
    target: SearchTarget,
    datamodule: LightningDataModule | None = None,
    dataloaders: Any = None,
    weights: Weights = "current",
    weight_decay: WeightDecay = "none",
    tolerance: float = 1e-8,
    max_hvps: int = 10_000,
    num_samples: int | Literal["all"] | None = None,
    mode: Mode = "eval",
    loss: Loss = Loss(),  # noqa: B008
    seed: int = 0,
    trainer: Trainer | None = None,
    save: bool | str | os.PathLike[str] = True,
    weights_only: bool = True,
    verbose: bool = True,
) -> FoundPoint:
    """Search for a critical point of the training loss from the weights of a checkpoint.

    The checkpoint is loaded into a fit that takes no step, as by
    :func:`~lightning_hessian.analyze`, and the search of
    :func:`~lightning_hessian.studies.find_critical_point` goes on from there in float64, on a copy.
    After each of its steps the point is written as a checkpoint of its own,
    ``<target>-of-<checkpoint>``, which ``load_from_checkpoint`` and ``analyze`` read, and from
    which a search goes on: give that file as ``checkpoint``, with the same options. The report is
    written beside it as JSON. Ctrl-C and SIGTERM end the search with what it has.

    Costs ``max_hvps`` products at most, each over all ``num_samples``.

    Args:
        model: Of the class that was trained. Its weights are left as they are.
        checkpoint: A file of a training, or of a search to go on with.
        target: "minimum"; "nearest" for any critical point very near; or the index of a saddle.
        datamodule: Whose training set the loss is measured on.
        dataloaders: Training loader, in place of a datamodule.
        weights: "current", those that the optimiser moves, or "averaged", of a weight averaging.
        weight_decay: What of it is part of the loss: "none"; "optimizer" for what the optimiser
            adds to its gradients; or a number, ``w.w`` times half of which is added.
        tolerance: Norm of the gradient at which the search has converged.
        max_hvps: Products that may be spent, when it goes on too.
        num_samples: Training samples that the loss averages, drawn once; None for 2,048; "all" for
            the whole set, whose critical points are others.
        mode: "eval" (dropout off, running statistics) or "train" (fixed masks, batch statistics).
        loss: Which loss, by which parameters, on which batches; its precision is 64.
        seed: Of the samples and of random numbers inside the step.
        trainer: A fresh one with the accelerator to use, of one process; its callbacks stand aside.
        save: Where the point is kept: True for beside the checkpoint; a path that ends in .ckpt; or
            False.
        weights_only: Refuse files that hold more than tensors and primitives, since unpickling runs
            code. Give False only for files that you trust.
        verbose: Show a progress bar, and print what was found.

    Returns:
        The point, its report, and a state to go on from.

    Raises:
        ValueError: If an argument is out of its range, the checkpoint holds a search of another
            loss, or a file that would be written is there already.
        RefusedError: If there are several processes, or the loss cannot be measured or searched.
        UnreadableCheckpointError: If the checkpoint cannot be read, or is of another module.
        NonFiniteError: If the loss is not finite where the search begins.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from lightning.pytorch import LightningModule, Trainer
        >>> from lightning_hessian import search
        >>> class Line(LightningModule):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.line = torch.nn.Linear(1, 1)
        ...     def training_step(self, batch, batch_idx):
        ...         return (self.line(batch) - 2 * batch - 1).square().mean()
        ...     def configure_optimizers(self):
        ...         return torch.optim.SGD(self.parameters(), lr=0.1)
        >>> quiet = dict(accelerator="cpu", logger=False, max_epochs=1, enable_checkpointing=False,
        ...              enable_progress_bar=False, enable_model_summary=False)
        >>> data = torch.utils.data.DataLoader(torch.randn(8, 1), batch_size=8)
        >>> trainer, path = Trainer(**quiet), f"{tempfile.mkdtemp()}/last.ckpt"
        >>> trainer.fit(Line(), data)
        >>> trainer.save_checkpoint(path)
        >>> found = search(Line(), path, target="minimum", dataloaders=data,
        ...                trainer=Trainer(**quiet), verbose=False)
        >>> {name: round(value.item(), 6) for name, value in found.parameters.items()}
        {'line.weight': 2.0, 'line.bias': 1.0}
    """
    setup = loss_setup("search", loss, num_samples, mode, seed)
    if loss.precision == 32:
        raise ValueError(
            "`loss` of a search must have a precision of 64, got 32: in fewer digits the gradient "
            "comes to rest before it vanishes. Leave it out."
        )
    if not (save is False or save is True or isinstance(save, str | os.PathLike)):
        raise ValueError(f"`save` must be True, False or a path, got {save!r}.")
    path = one_checkpoint(checkpoint)
    trainer = trainer or default_trainer(model, logger=False)
    shows_progress = verbose and trainer.progress_bar_callback is not None
    started = _Search(
        path=path,
        weights=weights,
        setup=replace(setup, loss=replace(loss, precision=64)),
        save=save,
        find=partial(
            find_critical_point,
            target=target,
            weight_decay=weight_decay,
            tolerance=tolerance,
            max_hvps=max_hvps,
        ),
        target=f"index {target}" if type(target) is int else str(target),
        weight_decay=weight_decay,
        bar=partial(
            tqdm,
            total=max_hvps,
            desc="Search",
            unit="HVP",
            disable=None if shows_progress else True,
        ),
    )
    found, kept_at = with_loss_at(
        started.run,
        model,
        path,
        setup=started.setup,
        datamodule=datamodule,
        dataloaders=dataloaders,
        weights=weights,
        trainer=trainer,
        weights_only=weights_only,
    )
    if verbose:
        print(search_summary(found.report, kept_at))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Search:
    """A search from the weights of one file."""

    path: str
    weights: Weights
    setup: LossSetup
    save: bool | str | os.PathLike[str]
    find: Callable[..., FoundPoint]
    target: str
    weight_decay: WeightDecay
    bar: Callable[[], Any]

    def run(self, loss: TrainingLoss, content: Mapping[str, Any]) -> tuple[FoundPoint, str | None]:
        """Search, and keep what was found; the point, and the path where it is kept."""
        file, state = self._file(loss, content)
        keeper = _Keeper(file, loss)
        with self.bar() as bar:

            def on_step(state: SearchState) -> None:
                last = state.course[-1]
                bar.set_postfix_str(f"|g| {last.gradient_norm:.2g}, loss {last.loss:.6g}")
                keeper.keep(state, state.weights)

            found = self.find(loss, state=state, on_products=bar.update, on_step=on_step)
        keeper.keep(found.state, found.weights)
        keeper.keep_report(found)
        return found, keeper.path

    def _file(
        self, loss: TrainingLoss, content: Mapping[str, Any]
    ) -> tuple[FoundFile | None, SearchState | None]:
        """Where the point is kept, and from where the search goes on."""
        settings = {
            "target": self.target,
            "weights": self.weights,
            "weight_decay": self.weight_decay,
            "data": loss.sample.description,
            "mode": self.setup.mode,
            "seed": self.setup.seed,
            "loss": loss.name,
            "parameters": list(loss.parameters.names),
        }
        state = state_in(content, settings)
        if self.save is False:
            return None, state
        path = found_path(self.path, self.target, content)
        if self.save is not True:
            path = os.fspath(self.save)
        file = FoundFile.of(path, content, settings)
        file.refuse_others(self.path if state is not None else None)
        return file, state


class _Keeper:
    """Writes after each step; a disk that is full costs the file, and not the search."""

    def __init__(self, file: FoundFile | None, loss: TrainingLoss) -> None:
        self._file = file
        self._parameters = loss.parameters
        assert loss.trained is not None
        named = loss.trained.named
        # a tied tensor is in a state by each of its names
        self._aliases = {
            name: [other for other, tensor in named.items() if tensor is named[name]]
            for name in loss.parameters.names
        }

    @property
    def path(self) -> str | None:
        """Where the point is; None where it could not be written, or was not to be."""
        return None if self._file is None else self._file.path

    def keep(self, state: SearchState, weights: Tensor) -> None:
        """The point, and from where to go on."""
        if self._file is not None:
            parts = self._parameters.split(weights)
            named = {
                alias: part
                for name, part in zip(self._parameters.names, parts, strict=True)
                for alias in self._aliases[name]
            }
            self._try(partial(self._file.keep, state, named))

    def keep_report(self, found: FoundPoint) -> None:
        """What was found."""
        if self._file is not None:
            self._try(partial(self._file.keep_report, found))

    def _try(self, write: Callable[[], object]) -> None:
        try:
            write()
        except OSError as error:
            assert self._file is not None
            rank_zero_warn(
                f"The search could not write {self._file.path}: {error}. It goes on, and what it "
                "finds is returned. Give `save` a path that can be written."
            )
            self._file = None
