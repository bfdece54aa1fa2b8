"""Where PyHessian's numbers are not what the same fields of a report hold otherwise."""

from __future__ import annotations

from typing import Literal

from lightning_hessian.records import Note

Quantity = Literal["eigenvalues", "trace", "density"]

KNOWN_DIFFERENCES: dict[Quantity, tuple[Note, ...]] = {
    "eigenvalues": (
        Note(
            "pyhessian-largest-by-magnitude",
            "Eigenvalues are the largest by magnitude. A positive one is among the largest, a "
            "negative one among the smallest; more of either are not looked for.",
        ),
        Note(
            "pyhessian-no-error-bound",
            "Power iteration stops when two successive Rayleigh quotients differ by less than "
            "`tol` of their value. That is no error bound (at 1e-3 errors of 0.1 % to 1 % are "
            "common), and no residual is computed: bounds are nan, and no eigenvalue counts as "
            "converged.",
        ),
        Note(
            "pyhessian-opposite-signs",
            "Between two eigenvalues of opposite sign and about the same magnitude power "
            "iteration stops at a value that is not an eigenvalue.",
        ),
        Note(
            "pyhessian-absolute-tolerance",
            "1e-6 is added to every norm and to the stopping rule's denominator, whatever the "
            "loss's units. Eigenvalues of about 1e-6 and less are taken too early, below 1e-9 as "
            "the first quotient of a random vector. Deflation is exact to 1e-6 only: where the "
            "rest is smaller than that share of an eigenvalue already found, a part of that one "
            "comes out again.",
        ),
    ),
    "trace": (
        Note(
            "pyhessian-trace-stops-by-chance",
            "The trace stops at the first probe that moves the running mean by less than `tol` of "
            "it, which happens by chance and says nothing of the error. The standard error is of "
            "the probes' scatter, as if their number had been settled beforehand: where the first "
            "few agree by chance, it is far too small.",
        ),
        Note(
            "pyhessian-negative-trace-stops-early",
            "That rule divides by the mean with its sign: a negative trace stops at the second "
            "probe.",
        ),
    ),
    "density": (
        Note(
            "pyhessian-kernel-of-fixed-width",
            "The density's kernel has the variance 1e-5 (`density_sigma_squared`) times the "
            "larger of 1 and the range: an absolute width for a spectrum narrower than 1, and one "
            "that grows as the square root of the range beyond.",
        ),
        Note(
            "pyhessian-distorted-density",
            "1e-6 is added to the norms of Lanczos vectors: the density of a spectrum not much "
            "wider than 1e-6 is distorted.",
        ),
        Note(
            "pyhessian-density-without-bounds",
            "The density's nodes are Ritz values without bounds, isolated eigenvalues carry the "
            "probes' scattered weight, and no share of negative eigenvalues is claimed.",
        ),
    ),
}
"""For each quantity, sentences for the notes of a report that has it from PyHessian 0.1."""
