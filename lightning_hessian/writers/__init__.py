"""From a report to the disk."""

from lightning_hessian.writers.spectrum_writer import SpectrumWriter

__all__ = ["SpectrumWriter"]
