"""SGD by mini-batches: where batch sharpness and the largest eigenvalue stand beside 2 / lr."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import lightning.pytorch as pl

from examples.data import FewDigits
from examples.networks import TanhRegressor
from lightning_hessian import HessianSpectrum

SETTINGS = tuple((parts, momentum) for momentum in (0.0, 0.9) for parts in (50, 10, 1))
"""Batches to an epoch, and momenta; the rate is ``1 - momentum``, so that steps are as long."""


@dataclass(frozen=True, kw_only=True)
class MinibatchCourse:
    """One training by mini-batches; all curvatures in units of ``2 / lr``.

    Attributes:
        batch_size: Its samples to a step.
        momentum: Of SGD.
        rate: Its learning rate.
        steps: At which was measured.
        losses: There, over all samples.
        ratios: Batch sharpness there as the mean of ratios.
        errors: Standard errors of these.
        means: Batch sharpness there as the ratio of means.
        largest: The largest eigenvalue there, over all samples.
    """

    batch_size: int
    momentum: float
    rate: float
    steps: list[int]
    losses: list[float]
    ratios: list[float]
    errors: list[float]
    means: list[float]
    largest: list[float]

    def second_half(self, values: Sequence[float]) -> tuple[float, float]:
        """The least and the largest over the second half of the training."""
        half = values[len(values) // 2 :]
        return min(half), max(half)


def minibatch_course(
    parts: int, momentum: float, *, samples: int, steps: int, every: int, seed: int
) -> MinibatchCourse:
    """Train on the first of the digits, in so many shuffled batches, and measure on the way."""
    callback = HessianSpectrum(
        num_eigenvalues=1,
        num_smallest=0,
        trace=False,
        density=False,
        batch_sharpness=True,
        num_samples="all",
        every_n_epochs=None,
        every_n_train_steps=every,
        max_overhead=None,
        on_error="raise",
    )
    pl.seed_everything(seed, verbose=False)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=steps,
        max_epochs=-1,
        callbacks=[callback],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    rate, batch_size = round(1 - momentum, 6), samples // parts
    module = TanhRegressor("SGD", rate, momentum=momentum)
    trainer.fit(module, FewDigits(samples, batch_size=batch_size))
    found = [(r, r.batch_sharpness) for r in callback.reports if r.batch_sharpness]
    unit = 2 / rate
    return MinibatchCourse(
        batch_size=batch_size,
        momentum=momentum,
        rate=rate,
        steps=[report.global_step for report, _ in found],
        losses=[report.loss for report, _ in found],
        ratios=[sharp.mean_of_ratios.value / unit for _, sharp in found],
        errors=[sharp.mean_of_ratios.standard_error / unit for _, sharp in found],
        means=[sharp.ratio_of_means.value / unit for _, sharp in found],
        largest=[float(report.largest.values[0]) / unit for report, _ in found],
    )


def minibatch_table(courses: Sequence[MinibatchCourse]) -> str:
    """A line for each training: its curvatures over the second half, in units of 2 / lr."""
    lines = [
        f"{'batch':>5} {'momentum':>8} {'rate':>5} {'lines':>10} {'loss':>8}  "
        "second half, in 2 / lr: mean of ratios, ratio of means, largest eigenvalue"
    ]
    for each in courses:
        spans = [each.second_half(v) for v in (each.ratios, each.means, each.largest)]
        told = ", ".join(f"{low:.3f} to {high:.3f}" for low, high in spans)
        both = sorted({1 - each.momentum, 1 + each.momentum})
        shown = " and ".join(f"{line:.3g}" for line in both)
        lines.append(
            f"{each.batch_size:>5} {each.momentum:>8g} {each.rate:>5.2g} {shown:>10} "
            f"{each.losses[-1]:>8.4f}  {told}"
        )
    return "\n".join(lines)
