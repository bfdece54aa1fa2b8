"""Numbers with error bars from a symmetric operator; no network, no Lightning."""

from lightning_hessian.estimators.density import quadrature_weights, spectral_density
from lightning_hessian.estimators.eigenvalues import largest_eigenvalues, smallest_eigenvalues
from lightning_hessian.estimators.eigenvectors import Eigenpairs, leading_eigenvectors
from lightning_hessian.estimators.krylov import KrylovSpace, RitzPairs, block_lanczos
from lightning_hessian.estimators.negative_mass import negative_mass
from lightning_hessian.estimators.overlap import align
from lightning_hessian.estimators.recurrence import Recurrence, lanczos_recurrence
from lightning_hessian.estimators.spectral_norm import SpectralNorm, spectral_norm
from lightning_hessian.estimators.spectrum import measure_spectrum
from lightning_hessian.estimators.thick_restart import ExtremePairs, extreme_eigenpairs
from lightning_hessian.estimators.trace import estimate_trace

__all__ = [
    "Eigenpairs",
    "ExtremePairs",
    "KrylovSpace",
    "Recurrence",
    "RitzPairs",
    "SpectralNorm",
    "align",
    "block_lanczos",
    "estimate_trace",
    "extreme_eigenpairs",
    "lanczos_recurrence",
    "largest_eigenvalues",
    "leading_eigenvectors",
    "measure_spectrum",
    "negative_mass",
    "quadrature_weights",
    "smallest_eigenvalues",
    "spectral_density",
    "spectral_norm",
]
