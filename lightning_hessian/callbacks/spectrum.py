"""The callback that a user adds to a Trainer for the Hessian's spectrum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from lightning_hessian.callbacks.callback import MeasuringCallback, OnError
from lightning_hessian.fit import Pace, Recorder, Schedule, settings_text
from lightning_hessian.options import Krylov, Loss, LossSetup, Solver, SpectrumOptions
from lightning_hessian.records import Mode, SpectrumReport
from lightning_hessian.show import Amount, spectrum_figures
from lightning_hessian.studies import SpectrumStudy


class HessianSpectrum(MeasuringCallback[SpectrumReport]):
    """Top eigenvalues, trace and spectral density of the training loss's Hessian, in TensorBoard.

    Measures the loss that ``training_step`` returns, as a mean over a fixed sample of the training
    set, at the start and the end of the fit and at about eight points between, or as told, for a
    price that is known before: ``max_overhead`` of the training's work. The run is left
    bit-identical. Every number carries its error; what the price does not buy at a point is absent
    there. Reports (:class:`~lightning_hessian.SpectrumReport`) are kept in :attr:`reports` and
    logged at the step of the same weights' own loss under ``hessian/``; the documentation lists the
    tags.
    Processes that a Trainer spawns (``ddp_spawn``, ``ddp_fork``) keep :attr:`reports` to
    themselves: loggers and the files beside checkpoints have them.

    Args:
        num_eigenvalues: Number of largest eigenvalues.
        num_smallest: Number of smallest (most negative) eigenvalues.
        trace: Measure the trace, and with it the Frobenius norm.
        density: Measure the spectral density and the share of negative eigenvalues.
        parameter_blocks: Patterns of parameter names, such as ["encoder.*", "head.*"], to estimate
            the traces of their diagonal blocks from the same products; "modules" for one of each
            module.
        eigenvalues_per_block: Number of largest eigenvalues of each block.
        overlaps: Compare the eigenvectors with the last report's.
        edge: Measure how far the optimiser is from its edge of stability: the largest eigenvalue
            as its step sizes see it, beside the threshold that it has; "auto" where that takes no
            product, as with SGD of one learning rate; six products for others.
        batch_sharpness: Measure the curvature of single steps of the optimiser along their own
            gradients, over batches as training takes them, beside 2 / lr of SGD, where mini-batches
            were seen to hover; for about the price of a gradient and a product. In dropout and
            batch statistics it is that of training with mode="train" only.
        num_samples: Training samples that the loss averages, drawn once; None for as many as
            max_overhead pays for, from 48 to 2,048; "all" for the whole set; "auto" for so many
            that the sampling errors are within the solver's sampling_rtol.
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
        solver: What computes the numbers, and how far it goes: Krylov, or PyHessian for the numbers
            of PyHessian 0.1 itself.
        seed: Of the samples, the probes, and the random numbers inside the step.
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
        >>> from lightning_hessian import HessianSpectrum, Krylov, Loss
        >>> callback = HessianSpectrum(
        ...     num_samples=512, loss=Loss(parameters=["head.*"]), solver=Krylov(rtol=1e-3)
        ... )
        >>> trainer = Trainer(callbacks=[callback], accelerator="cpu", logger=False)
    """

    def __init__(
        self,
        num_eigenvalues: int = 5,
        num_smallest: int = 1,
        trace: bool = True,
        density: bool = True,
        parameter_blocks: Sequence[str] | Literal["modules"] = (),
        eigenvalues_per_block: int = 0,
        overlaps: bool = False,
        edge: bool | Literal["auto"] = "auto",
        batch_sharpness: bool = False,
        num_samples: int | Literal["all", "auto"] | None = None,
        mode: Mode = "eval",
        every_n_epochs: int | Literal["auto"] | None = "auto",
        every_n_train_steps: int | None = None,
        at_checkpoints: bool = False,
        max_overhead: float | None = 0.1,
        # instances, and not None, so that the command line knows what is in them
        loss: Loss = Loss(),  # noqa: B008
        solver: Solver = Krylov(),  # noqa: B008
        seed: int = 0,
        name: str = "hessian",
        scalars: Amount = "few",
        custom_scalars: bool = True,
        monitor: bool = False,
        verbose: bool = False,
        on_error: OnError = "warn",
    ) -> None:
        blocks = parameter_blocks
        options = SpectrumOptions(
            num_eigenvalues=num_eigenvalues,
            num_smallest=num_smallest,
            trace=trace,
            density=density,
            parameter_blocks=blocks if isinstance(blocks, str) else tuple(blocks or ()),
            eigenvalues_per_block=eigenvalues_per_block,
            overlaps=overlaps,
            edge=edge,
            batch_sharpness=batch_sharpness,
            solver=solver,
            grows=num_samples == "auto",
        )
        krylov = solver if isinstance(solver, Krylov) else Krylov()
        setup = LossSetup(
            loss=loss,
            num_samples=num_samples,
            mode=mode,
            seed=seed,
            graph_memory=krylov.memory_share,
            step_batches=batch_sharpness,
            sweep_precision=krylov.precision,
        )
        schedule = Schedule.of(
            every_n_epochs=every_n_epochs,
            every_n_train_steps=every_n_train_steps,
            at_checkpoints=at_checkpoints,
            has_limit=max_overhead is not None,
        )
        study = SpectrumStudy(options, seed)
        recorder = Recorder(
            SpectrumReport,
            name=name,
            scalars=scalars,
            custom_scalars=custom_scalars,
            draw=spectrum_figures,
            settings=f"{settings_text(options)} of {settings_text(setup)}",
            monitor=monitor,
            verbose=verbose,
        )
        pace = Pace(schedule, max_overhead, study)
        super().__init__(setup, study, pace, recorder, on_error)
