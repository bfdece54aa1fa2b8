"""From a report to the disk."""

from lightning_hessian.writers.loss_difference_writer import LossDifferenceWriter
from lightning_hessian.writers.sidecar import (
    read_sidecar,
    sidecar_ending,
    sidecar_path,
    write_sidecar,
)
from lightning_hessian.writers.spectrum_writer import SpectrumWriter
from lightning_hessian.writers.table import loss_difference_table, spectrum_table

__all__ = [
    "LossDifferenceWriter",
    "SpectrumWriter",
    "loss_difference_table",
    "read_sidecar",
    "sidecar_ending",
    "sidecar_path",
    "spectrum_table",
    "write_sidecar",
]
