"""The curvature of single steps along their own gradients, beside where it is said to settle."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from lightning_hessian.records.estimate import Estimate
from lightning_hessian.records.output import derived, shown
from lightning_hessian.records.spectrum_parts import PER_SQUARED_PARAMETER


@dataclass(frozen=True, slots=True, kw_only=True)
class MinibatchLines:
    """Where batch sharpness was seen to settle in trainings by SGD; no thresholds of stability.

    Attributes:
        small: ``2 (1 - b) / lr``, with small batches, momentum ``b``.
        large: ``2 (1 + b) / lr``, with large ones, as on full batches.
        optimizer: Its kind and settings, in words.
    """

    small: float = field(
        metadata=shown(
            "_small_batch_line",
            doc="`2 (1 - b) / lr` of SGD, momentum `b`: where small batches were seen to settle",
            unit=PER_SQUARED_PARAMETER,
        )
    )
    large: float = field(
        metadata=shown(
            "_large_batch_line",
            doc="`2 (1 + b) / lr`: where large batches were seen to settle",
            unit=PER_SQUARED_PARAMETER,
        )
    )
    optimizer: str = ""

    @property
    def words(self) -> str:
        """Both, or the one that they are without momentum."""
        if self.small == self.large:
            return f"2 / lr = {self.small:.4g} ({self.optimizer})"
        return (
            f"2 (1 - b) / lr = {self.small:.4g} and 2 (1 + b) / lr = {self.large:.4g} "
            f"({self.optimizer})"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSharpness:
    """Curvature ``g_B . H_B g_B`` of steps ``B`` along their own gradients, in two means.

    Attributes:
        mean_of_ratios: ``E[g_B . H_B g_B / |g_B|^2]``, each step alike; its standard error is that
            over steps.
        ratio_of_means: ``E[g_B . H_B g_B] / E[|g_B|^2]``, long gradients before short ones; its
            standard error is by the jackknife.
        lines: Where it was seen to settle; None where that is not known.
        num_steps: That were measured.
        step_size: Samples of each, of all processes and all batches of an accumulation.
        cost: Sample gradients that it came to.
    """

    mean_of_ratios: Estimate = field(
        metadata=shown(
            "",
            doc=(
                "curvature of a step along its own gradient, `g.Hg / g.g` with `H` and `g` of one "
                "batch: the mean over steps"
            ),
            unit=PER_SQUARED_PARAMETER,
        )
    )
    ratio_of_means: Estimate = field(
        metadata=shown(
            "_ratio_of_means",
            doc="the same as the mean of `g.Hg` over the mean of `g.g`",
            unit=PER_SQUARED_PARAMETER,
        )
    )
    lines: MinibatchLines | None = field(default=None, metadata=shown(""))
    num_steps: int = field(
        default=0,
        metadata=shown(
            "_num_steps", doc="steps that it is a mean over", unit="steps", group="cost"
        ),
    )
    step_size: int = field(
        default=0,
        metadata=shown(
            "_step_size", doc="how many such a step takes", unit="samples", group="cost"
        ),
    )
    cost: float = 0.0

    @derived(shown("_verdict", doc="both means beside the lines, in words", kind="text"))
    def verdict(self) -> str:
        """In words; neither mean is a threshold."""
        steps = "step" if self.num_steps == 1 else "steps"
        text = (
            f"Batch sharpness over {self.num_steps:,} {steps} of {self.step_size:,} samples: "
            f"{_words(self.mean_of_ratios)} as the mean of ratios, "
            f"{_words(self.ratio_of_means)} as the ratio of means"
        )
        if self.lines is None:
            return f"{text}."
        return (
            f"{text}, beside {self.lines.words}. A heuristic: mini-batches were seen to hover "
            "there, and neither mean has a threshold of stability."
        )


def _words(estimate: Estimate) -> str:
    error = estimate.standard_error
    return f"{estimate.value:.4g}" + ("" if math.isnan(error) else f" +- {error:.2g}")
