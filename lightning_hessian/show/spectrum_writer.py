"""Writes spectrum reports to the loggers of a Trainer."""

from __future__ import annotations

from typing import Any

from typing_extensions import override

from lightning_hessian.records import SpectrumReport
from lightning_hessian.show.report_writer import ReportWriter
from lightning_hessian.show.scalars import spectrum_scalars
from lightning_hessian.show.tensorboard import Charts, lines, margin, write_density


class SpectrumWriter(ReportWriter[SpectrumReport]):
    """Adds the density's histograms to what every report gets."""

    title = "Hessian of the training loss"

    @override
    def scalars(self, report: SpectrumReport) -> dict[str, float]:
        return spectrum_scalars(report, prefix=self._prefix)

    @override
    def charts(self, report: SpectrumReport) -> Charts:
        prefix = self._prefix
        return {
            "largest eigenvalues": lines(rf"{prefix}/eig_\d+$"),
            "most negative eigenvalues": lines(rf"{prefix}/eig_min_\d+$"),
            "trace and its 95 % interval": margin(f"{prefix}/trace"),
            "share of negative eigenvalues": margin(f"{prefix}/negative_fraction"),
        }

    @override
    def write_more(self, experiment: Any, report: SpectrumReport) -> None:
        if report.density is not None:
            write_density(
                experiment,
                report.density,
                prefix=self._prefix,
                size=report.num_parameters,
                step=report.global_step,
            )
