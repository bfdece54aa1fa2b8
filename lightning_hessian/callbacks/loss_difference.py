"""The callback that a user adds to a Trainer for the loss's change when samples are added."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from torch.utils.data import DataLoader

from lightning_hessian.callbacks.callback import MeasuringCallback, OnError
from lightning_hessian.fit import Pace, Recorder, Schedule, settings_text
from lightning_hessian.options import (
    DifferenceOptions,
    Krylov,
    Loss,
    LossSetup,
    Perturbations,
    Surface,
    refuse_auto_samples,
)
from lightning_hessian.records import LossDifferenceReport
from lightning_hessian.show import Amount, loss_difference_figures
from lightning_hessian.studies import LossDifferenceStudy


class LossDifference(MeasuringCallback[LossDifferenceReport]):
    """How much the training loss moves when one more sample is added, in TensorBoard.

    Takes the loss that ``training_step`` gives for each of a fixed sample of ``N`` training samples
    alone, in eval mode, at the start and the end of the fit and at about eight points between, or
    as told, for ``max_overhead`` of the training's work: a forward pass of each, which counts a
    third of a gradient, and another in the first report, which verifies that a batch's loss is
    made of its samples'. From them follow, for every ``k`` below ``N``, the root mean square
    (exact) and the mean of ``|L_{k+1} - L_k|`` over the orders in which the samples may come,
    ``L_k`` being the mean loss of the first ``k``, and from how many samples on the difference
    stays below a threshold. The run is left bit-identical. Every number carries its error. Reports
    (:class:`~lightning_hessian.LossDifferenceReport`) are kept in :attr:`reports` and logged at
    the step of the same weights' own loss under ``loss_difference/``; the documentation lists the
    tags.

    A loss that is not a mean over samples (contrastive, of batch statistics) is refused.

    Args:
        num_samples: Training samples, drawn once; None for as many as max_overhead pays for, from
            128 to 2,048; "all" for the whole set.
        sample_sizes: How many sizes k, evenly spaced in their logarithm; or a list of sizes.
        thresholds: Of the difference, for which the number of samples needed is told.
        num_orders: Random orders to simulate beside the closed form.
        samples_per_step: Samples added at once, beside one.
        held_out: Samples to set beside those of the training: True for the validation set, or a
            loader.
        keep_losses: Keep the loss of each sample in the report.
        derivatives: Measure the spread over samples of gradients and Hessians too.
        num_probes: Random probes of the spread of Hessians.
        hessian_differences: Samples of which the Hessian's distance to the mean of the others is
            measured.
        perturbations: Of the parameters, at which the variance over samples is measured; or None.
        surface: A plane through the weights, to show the loss on; or None.
        every_n_epochs: Measure at the end of every n-th epoch; None for never; "auto" for about ten
            points spread over the fit, closer together at its start (for every epoch, where there
            is no max_overhead).
        every_n_train_steps: Measure after every n-th optimiser step; None for never.
        at_checkpoints: Measure whenever a checkpoint is saved.
        max_overhead: Share of the training's work that the callback may cost, counted in sample
            gradients and never by a clock; of short fits more, but at most half, up to 20,000.
            With None all that is due is measured in full precision.
        loss: Which loss, by which parameters, on which batches, in which arithmetic. Every sample
            counts alike: it takes no weight_fn, and only sampling="uniform".
        solver: Of eigenvectors, and of each difference of Hessians; its max_hvps bounds each.
        seed: Of the samples, the probes and perturbations, and the random numbers inside the step.
        name: First part of all tags, and what tells two of these callbacks apart.
        scalars: How many numbers go to the loggers: "few" for what one looks at, with its
            intervals, or "all", every error and cost too. Reports hold them all.
        custom_scalars: Add charts to TensorBoard's Custom Scalars page, behind those that are
            there.
        monitor: Put the numbers into ``trainer.callback_metrics`` under their tags, each until the
            next is measured, for EarlyStopping, ModelCheckpoint and ReduceLROnPlateau.
        verbose: Tell the numbers of each report in a line on the terminal.
        on_error: "warn" records why a measurement failed and goes on; "raise" ends the fit.

    Raises:
        ValueError: If an option is out of its range.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> from lightning_hessian import LossDifference
        >>> callback = LossDifference(thresholds=[1e-4], held_out=True)
        >>> trainer = Trainer(callbacks=[callback], accelerator="cpu", logger=False)
    """

    def __init__(
        self,
        num_samples: int | Literal["all"] | None = None,
        sample_sizes: int | list[int] = 40,
        thresholds: Sequence[float] = (),
        num_orders: int = 0,
        samples_per_step: int = 1,
        # bare, as jsonargparse makes no objects of an `Iterable` or of a type with a parameter
        held_out: bool | DataLoader | Iterable[Any] = False,  # type: ignore[type-arg]
        keep_losses: bool = False,
        derivatives: bool = False,
        num_probes: int = 4,
        hessian_differences: int = 0,
        perturbations: Perturbations | None = None,
        surface: Surface | None = None,
        every_n_epochs: int | Literal["auto"] | None = "auto",
        every_n_train_steps: int | None = None,
        at_checkpoints: bool = False,
        max_overhead: float | None = 0.1,
        # instances, and not None, so that the command line knows what is in them
        loss: Loss = Loss(),  # noqa: B008
        solver: Krylov = Krylov(max_hvps=100),  # noqa: B008
        seed: int = 0,
        name: str = "loss_difference",
        scalars: Amount = "few",
        custom_scalars: bool = True,
        monitor: bool = False,
        verbose: bool = False,
        on_error: OnError = "warn",
    ) -> None:
        options = DifferenceOptions(
            sample_sizes=sample_sizes,
            num_orders=num_orders,
            samples_per_step=samples_per_step,
            thresholds=thresholds,
            derivatives=derivatives,
            num_probes=num_probes,
            perturbations=perturbations,
            hessian_differences=hessian_differences,
            surface=surface,
            keep_losses=keep_losses,
            solver=solver,
        )
        refuse_auto_samples("LossDifference", num_samples)
        setup = LossSetup(
            loss=loss,
            num_samples=num_samples,
            seed=seed,
            derivatives="optional" if options.needs_products else "none",
            held_out=held_out,
            graph_memory=solver.memory_share,
        )
        if loss.weight_fn is not None:
            raise ValueError(
                "`loss` of `LossDifference` must have no `weight_fn`, as every sample counts "
                f"alike, got {loss.weight_fn!r}. Leave it out."
            )
        if loss.sampling != "uniform":
            raise ValueError(
                "`loss` of `LossDifference` must have `sampling='uniform'`, as every sample is "
                f"added once and counts alike, got {loss.sampling!r}. Leave it out."
            )
        schedule = Schedule.of(
            every_n_epochs=every_n_epochs,
            every_n_train_steps=every_n_train_steps,
            at_checkpoints=at_checkpoints,
            has_limit=max_overhead is not None,
        )
        study = LossDifferenceStudy(
            options,
            seed,
            has_held_out=held_out is not False,
            may_regroup=loss.batch_size is None,
        )
        recorder = Recorder(
            LossDifferenceReport,
            name=name,
            scalars=scalars,
            custom_scalars=custom_scalars,
            draw=loss_difference_figures,
            settings=f"{settings_text(options)} of {settings_text(setup)}",
            monitor=monitor,
            verbose=verbose,
        )
        pace = Pace(schedule, max_overhead, study)
        super().__init__(setup, study, pace, recorder, on_error)
