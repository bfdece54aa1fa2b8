"""The callback that a user adds to a Trainer to see what kind of point the weights are at."""

from __future__ import annotations

from typing import Literal

from lightning_hessian.callbacks.callback import MeasuringCallback, OnError
from lightning_hessian.fit import Pace, Recorder, Schedule, settings_text
from lightning_hessian.options import (
    Krylov,
    Loss,
    LossSetup,
    PointOptions,
    WeightDecay,
    refuse_auto_samples,
)
from lightning_hessian.records import CriticalPointReport, Mode
from lightning_hessian.show import Amount, critical_point_figures
from lightning_hessian.studies import CriticalPointStudy


class CriticalPoint(MeasuringCallback[CriticalPointReport]):
    """How near the weights are to a critical point of the training loss, and of which kind.

    A gradient's norm cannot tell this: it is small on a plateau and large a step away from a sharp
    minimum. Measured is what is left of the gradient, to first order, within 0.1, 1 and 10 % of the
    weights' length, ``r(rho) = min |g + H s| / |g|``, near 0 at a critical point and 1 far from any
    whatever the scale of the loss; and how far the loss can fall there, to second order. Both come
    from one Krylov sweep that starts at the gradient, and so do the shares of negative eigenvalues
    by three thresholds, each with a bracket, and the most negative direction. Down that the loss
    itself is followed, beside what its derivatives foresee. The report says in a sentence which
    kind of point it is, and by which numbers.

    At the start and the end of the fit and at about eight points between, or as told, for
    ``max_overhead`` of the training's work. The run is left bit-identical. Reports
    (:class:`~lightning_hessian.CriticalPointReport`) are kept in :attr:`reports` and logged under
    ``critical_point/``; the documentation lists the tags.

    Args:
        escape: Follow the most negative direction, where there is one.
        weight_decay: What of weight decay is part of the loss: "none"; "optimizer" for what the
            optimiser adds to its gradients; or a number, ``w.w`` times half of which is added.
        num_samples: Training samples that the loss averages, drawn once; None for as many as
            max_overhead pays for, from 48 to 2,048; "all" for the whole set.
        mode: "eval" (dropout off, running statistics) or "train" (fixed masks, batch statistics).
        every_n_epochs: Measure at the end of every n-th epoch; None for never; "auto" for about ten
            points spread over the fit, closer together at its start (for every epoch, where there
            is no max_overhead).
        every_n_train_steps: Measure after every n-th optimiser step; None for never.
        at_checkpoints: Measure whenever a checkpoint is saved.
        max_overhead: Share of the training's work that the callback may cost, counted in sample
            gradients and never by a clock; of short fits more, but at most half, up to 20,000.
            With None all that is due is measured in full precision.
        loss: Which loss, by which parameters, on which batches, in which arithmetic.
        solver: Its max_hvps bounds the products of the sweep, its rtol says when the most negative
            eigenvalue is known.
        seed: Of the samples, the probe, and the random numbers inside the step.
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

    References:
        The rule of the kind and its numbers are those of :attr:`CriticalPointReport.kind`; flat
        points that are no critical ones: C. G. Frye et al. (2020), "Critical point-finding methods
        reveal gradient-flat regions of deep network losses", arXiv 2003.10397.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> from lightning_hessian import CriticalPoint
        >>> callback = CriticalPoint(weight_decay="optimizer")
        >>> trainer = Trainer(callbacks=[callback], accelerator="cpu", logger=False)
    """

    def __init__(
        self,
        escape: bool = True,
        weight_decay: WeightDecay = "none",
        num_samples: int | Literal["all"] | None = None,
        mode: Mode = "eval",
        every_n_epochs: int | Literal["auto"] | None = "auto",
        every_n_train_steps: int | None = None,
        at_checkpoints: bool = False,
        max_overhead: float | None = 0.1,
        # instances, and not None, so that the command line knows what is in them
        loss: Loss = Loss(),  # noqa: B008
        solver: Krylov = Krylov(max_hvps=100),  # noqa: B008
        seed: int = 0,
        name: str = "critical_point",
        scalars: Amount = "few",
        custom_scalars: bool = True,
        monitor: bool = False,
        verbose: bool = False,
        on_error: OnError = "warn",
    ) -> None:
        options = PointOptions(escape=escape, weight_decay=weight_decay, solver=solver)
        refuse_auto_samples("CriticalPoint", num_samples)
        setup = LossSetup(
            loss=loss,
            num_samples=num_samples,
            mode=mode,
            seed=seed,
            graph_memory=solver.memory_share,
            reads_scatter=False,
            sweep_precision=solver.precision,
        )
        schedule = Schedule.of(
            every_n_epochs=every_n_epochs,
            every_n_train_steps=every_n_train_steps,
            at_checkpoints=at_checkpoints,
            has_limit=max_overhead is not None,
        )
        study = CriticalPointStudy(options, seed)
        recorder = Recorder(
            CriticalPointReport,
            name=name,
            scalars=scalars,
            custom_scalars=custom_scalars,
            draw=critical_point_figures,
            settings=f"{settings_text(options)} of {settings_text(setup)}",
            monitor=monitor,
            verbose=verbose,
        )
        pace = Pace(schedule, max_overhead, study)
        super().__init__(setup, study, pace, recorder, on_error)
