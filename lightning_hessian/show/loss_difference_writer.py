"""Writes reports of loss differences to the loggers of a Trainer."""

from __future__ import annotations

from typing import Any

from typing_extensions import override

from lightning_hessian.records import LossDifferenceReport
from lightning_hessian.show.report_writer import ReportWriter
from lightning_hessian.show.scalars import loss_difference_scalars, neighbourhood_tag, size_tag
from lightning_hessian.show.tensorboard import Charts, lines, margin


class LossDifferenceWriter(ReportWriter[LossDifferenceReport]):
    """Adds a text that a person can act on to what every report gets."""

    title = "loss difference"

    @override
    def scalars(self, report: LossDifferenceReport) -> dict[str, float]:
        return loss_difference_scalars(report, prefix=self._prefix)

    @override
    def charts(self, report: LossDifferenceReport) -> Charts:
        prefix = self._prefix
        charts = {
            "mean absolute difference, the last sample's": margin(f"{prefix}/mean_abs_difference"),
            "spread of the losses: S and MAD": lines(
                f"{prefix}/deviation$", f"{prefix}/mean_absolute_deviation$"
            ),
            "loss of training and held-out samples": lines(
                f"{prefix}/loss$", f"{prefix}/held_out_loss$"
            ),
        }
        for threshold in report.thresholds:
            title = f"samples needed for a difference below {threshold:g}"
            charts[title] = margin(f"{prefix}/{size_tag(threshold)}")
        if report.neighbourhood:
            charts["variance of the loss around the weights"] = lines(
                *(f"{prefix}/{neighbourhood_tag(variance)}$" for variance in report.neighbourhood)
            )
        return charts

    @override
    def write_more(self, experiment: Any, report: LossDifferenceReport) -> None:
        # two line ends: the text is shown as Markdown
        text = "\n\n".join(report.sentences)
        experiment.add_text(f"{self._prefix}/summary", text, report.global_step)
