"""From a report to the disk."""

from lightning_hessian.writers.sidecar import read_sidecar, write_sidecar
from lightning_hessian.writers.spectrum_writer import SpectrumWriter
from lightning_hessian.writers.table import spectrum_table

__all__ = ["SpectrumWriter", "read_sidecar", "spectrum_table", "write_sidecar"]
