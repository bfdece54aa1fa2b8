"""The callback that a user adds to a Trainer for the loss's change when samples are added."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from lightning.pytorch import Trainer
from torch.utils.data import DataLoader
from typing_extensions import override

from lightning_hessian.callbacks.measurement import MeasurementCallback
from lightning_hessian.callbacks.measuring import OnError
from lightning_hessian.fit import Schedule
from lightning_hessian.loss import Conductor, TrainingLoss
from lightning_hessian.options import DifferenceOptions, LossOptions, Plane
from lightning_hessian.records import LossDifferenceReport
from lightning_hessian.show import ReportWriter, loss_difference_figures, rasterize, table
from lightning_hessian.studies import LossDifferenceStudy


class LossDifference(MeasurementCallback):
    """How much the training loss moves when one more sample is added, in TensorBoard.

    Takes the loss that ``training_step`` gives for each of a fixed sample of ``N`` training samples
    alone, in eval mode, at the end of the fit, and at its start and in between as told, as far as
    ``max_overhead`` allows. From them
    follow, for every ``k`` below ``N``, the root mean square (exact) and the mean of
    ``|L_{k+1} - L_k|`` over the orders in which the samples may come, ``L_k`` being the mean loss
    of the first ``k``, and from how many samples on the difference stays below a threshold. The run
    is left bit-identical. Every number carries its error. Reports are kept in :attr:`reports` and
    logged at ``trainer.global_step`` under ``loss_difference/``.

    A loss that is not a mean over samples (contrastive, of batch statistics) is refused.

    Args:
        num_samples: Training samples, drawn once; "all" for the whole set.
        batch_size: Samples per forward pass; as in training when None.
        sample_sizes: How many sizes k, evenly spaced in their logarithm; or a list of sizes.
        thresholds: Of the difference, for which the number of samples needed is told.
        num_orders: Random orders to simulate beside the closed form.
        block_size: Samples added at once, beside one.
        derivatives: Measure the spread over samples of gradients and Hessians too.
        num_probes: Random probes of the spread of Hessians.
        sigmas: Standard deviations of random perturbations of the parameters, at which the
            variance over samples is measured.
        num_perturbations: For each of these.
        subspace: Leading eigenvectors of the Hessian that span the space to perturb in; 0 for all
            parameters.
        hessian_differences: Samples of which the Hessian's distance to the mean of the others is
            measured.
        surface: Show the loss on a plane through the weights, along the two leading "eigenvectors"
            or two "random" directions.
        surface_points: Along each side of the plane.
        surface_span: From the weights to the plane's edge, relative to the parameters' norm.
        held_out: Samples to set beside those of the training: True for the validation set, or a
            loader.
        keep_losses: Keep the loss of each sample in the report.
        every_n_epochs: Measure at the end of every n-th epoch; None for never.
        every_n_train_steps: Measure after every n-th optimiser step; None for never.
        at_checkpoints: Measure whenever a checkpoint is saved.
        max_overhead: Share of the training's wall time that the callback may take. What is due is
            left out where it would take more; the end of the fit and checkpoints are measured in
            any case. With None nothing is left out, and when it is measured is reproducible.
        max_hvps: Bound on the Hessian-vector products of eigenvectors, and of each difference.
        parameters: Patterns of parameter names such as "encoder.*"; all trainable ones when None.
        precision: Bits of the arithmetic; 32 when None, or 64 where the module is in 64.
        seed: Of the samples, the probes and perturbations, and the random numbers inside the step.
        loss: None for the module's hessian_loss(batch, batch_idx) if it has one, else the loss of
            training_step; the name of another method; or the number (from 0) of a manual_backward
            call in the step.
        dataloader: Batches to measure on instead of samples of the training set.
        name: First part of all tags, and what tells two of these callbacks apart.
        custom_scalars: Write a Custom Scalars page into a sub-run of the given name.
        on_error: "warn" records why a measurement failed and goes on; "raise" ends the fit.

    Raises:
        ValueError: If an option is out of its range.
    """

    def __init__(
        self,
        num_samples: int | Literal["all"] = 2048,
        batch_size: int | None = None,
        sample_sizes: int | list[int] = 40,
        thresholds: Sequence[float] = (),
        num_orders: int = 0,
        block_size: int = 1,
        derivatives: bool = False,
        num_probes: int = 4,
        sigmas: Sequence[float] = (),
        num_perturbations: int = 16,
        subspace: int = 0,
        hessian_differences: int = 0,
        surface: Plane | None = None,
        surface_points: int = 15,
        surface_span: float = 0.1,
        # bare, as jsonargparse makes no objects of an `Iterable` or of a type with a parameter
        held_out: bool | DataLoader | Iterable[Any] = False,  # type: ignore[type-arg]
        keep_losses: bool = False,
        every_n_epochs: int | None = 1,
        every_n_train_steps: int | None = None,
        at_checkpoints: bool = False,
        max_overhead: float | None = 0.05,
        max_hvps: int = 100,
        parameters: Sequence[str] | None = None,
        precision: Literal[32, 64] | None = None,
        seed: int = 0,
        loss: str | int | None = None,
        dataloader: DataLoader | Iterable[Any] | None = None,  # type: ignore[type-arg]
        name: str = "loss_difference",
        custom_scalars: bool = True,
        on_error: OnError = "warn",
    ) -> None:
        self._wanted = DifferenceOptions(
            sample_sizes=sample_sizes,
            num_orders=num_orders,
            block_size=block_size,
            thresholds=thresholds,
            derivatives=derivatives,
            num_probes=num_probes,
            sigmas=sigmas,
            num_perturbations=num_perturbations,
            subspace=subspace,
            hessian_differences=hessian_differences,
            surface=surface,
            surface_points=surface_points,
            surface_span=surface_span,
            keep_losses=keep_losses,
            max_hvps=max_hvps,
        )
        if num_samples == "auto":  # type: ignore[comparison-overlap]
            raise ValueError(
                "`num_samples` of `LossDifference` must be a whole number of at least 1 or 'all', "
                "got 'auto', which `HessianSpectrum` has."
            )
        objective = LossOptions(
            num_samples=num_samples,
            batch_size=batch_size,
            mode="eval",
            precision=precision,
            parameters=parameters,
            seed=seed,
            loss=loss,
            dataloader=dataloader,
            products="wanted" if self._wanted.needs_products else "none",
            held_out=held_out,
        )
        super().__init__(
            name=name,
            report_type=LossDifferenceReport,
            objective=objective,
            schedule=Schedule(
                every_n_epochs=every_n_epochs,
                every_n_train_steps=every_n_train_steps,
                at_checkpoints=at_checkpoints,
            ),
            max_overhead=max_overhead,
            on_error=on_error,
            settings=f"{self._wanted} of {objective}",
        )
        self.reports: list[LossDifferenceReport] = []
        self._study = LossDifferenceStudy(self._wanted, seed)
        self._writer = ReportWriter(prefix=name, custom_scalars=custom_scalars)

    @property
    @override
    def expected_gradients(self) -> float:
        return self._study.expected_gradients

    @override
    def measure(self, loss: TrainingLoss | Conductor, trainer: Trainer) -> LossDifferenceReport:
        return self._study.measure(loss, has_products=self.has_products)

    @override
    def publish(self, trainer: Trainer, report: LossDifferenceReport) -> None:
        figures = loss_difference_figures(self.reports) if trainer.loggers else {}
        images = {name: rasterize(figure) for name, figure in figures.items()}
        self._writer.write(trainer.loggers, report, images)

    @override
    def table(self, reports: Sequence[LossDifferenceReport]) -> str:
        return table(LossDifferenceReport, reports)
