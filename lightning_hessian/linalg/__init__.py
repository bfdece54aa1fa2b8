"""Symmetric operators, known by their products, and their eigenvalues, trace and density."""

from lightning_hessian.linalg.basis import inner_products
from lightning_hessian.linalg.block_operator import BlockOperator
from lightning_hessian.linalg.counting_operator import CountingOperator
from lightning_hessian.linalg.dense_operator import DenseOperator
from lightning_hessian.linalg.density import quadrature_weights, spectral_density
from lightning_hessian.linalg.eigenvalues import (
    end_vectors,
    ends_have_converged,
    largest_eigenvalues,
    smallest_eigenvalues,
)
from lightning_hessian.linalg.eigenvectors import Eigenpairs, leading_eigenvectors
from lightning_hessian.linalg.kolmogorov import kolmogorov_distance
from lightning_hessian.linalg.krylov import KrylovSpace, RitzPairs, block_lanczos
from lightning_hessian.linalg.lanczos_short import Recurrence, lanczos_recurrence
from lightning_hessian.linalg.negative_mass import negative_mass
from lightning_hessian.linalg.operator import SymmetricOperator, check_block
from lightning_hessian.linalg.overlap import align
from lightning_hessian.linalg.probes import rademacher
from lightning_hessian.linalg.quadratic_model import QuadraticModel
from lightning_hessian.linalg.share_below import brackets_below
from lightning_hessian.linalg.spectral_norm import SpectralNorm, spectral_norm
from lightning_hessian.linalg.spectrum import measure_spectrum
from lightning_hessian.linalg.thick_restart import ExtremePairs, extreme_eigenpairs
from lightning_hessian.linalg.trace import estimate_trace, trace_of_start
from lightning_hessian.linalg.tracking import TrackedSpace, tracked_space, tracked_trace
from lightning_hessian.linalg.vector_room import least_memory, room_for
from lightning_hessian.linalg.wasserstein import wasserstein_distance

__all__ = [
    "BlockOperator",
    "CountingOperator",
    "DenseOperator",
    "Eigenpairs",
    "ExtremePairs",
    "KrylovSpace",
    "QuadraticModel",
    "Recurrence",
    "RitzPairs",
    "SpectralNorm",
    "SymmetricOperator",
    "TrackedSpace",
    "align",
    "block_lanczos",
    "brackets_below",
    "check_block",
    "end_vectors",
    "ends_have_converged",
    "estimate_trace",
    "extreme_eigenpairs",
    "inner_products",
    "kolmogorov_distance",
    "lanczos_recurrence",
    "largest_eigenvalues",
    "leading_eigenvectors",
    "least_memory",
    "measure_spectrum",
    "negative_mass",
    "quadrature_weights",
    "rademacher",
    "room_for",
    "smallest_eigenvalues",
    "spectral_density",
    "spectral_norm",
    "trace_of_start",
    "tracked_space",
    "tracked_trace",
    "wasserstein_distance",
]
