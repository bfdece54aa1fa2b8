"""What computes the numbers, and how far it goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lightning_hessian.options.checks import check_choice, check_share, is_number, is_whole

SweepPrecision = Literal["full", "fast_float32", "bfloat16"]
"""``full``; ``fast_float32`` by faster kernels where these lose nothing; ``bfloat16`` in the sweep,
refined by exact products."""

BasisChoice = Literal["auto", "full", "bfloat16", "cpu"]
"""How the sweep's vectors are kept; ``auto`` is ``full``, and by restarts where memory ends."""

GIBIBYTE = 2**30
SMALLEST_SWEEP = 8
"""Two blocks of four."""


class Solver:
    """What computes the numbers of a spectrum: :class:`Krylov` or :class:`PyHessian`."""


@dataclass(frozen=True, kw_only=True)
class Krylov(Solver):
    """One block Lanczos sweep for everything, until its tolerances are met; the default.

    Args:
        rtol: Wanted bound of each eigenvalue, relative to the spectrum's range.
        trace_rtol: Wanted standard error of the trace on the frozen samples, relative to it or,
            where it cancels, to the sum of the eigenvalues' magnitudes. Not reached within
            `max_hvps` or what `max_overhead` pays for, a note says so.
        density_rtol: The density has come to rest when its Wasserstein distance over four products
            is below this share of the range.
        sampling_rtol: Wanted sampling error of the largest eigenvalue, the trace (relative) and the
            density (of the range), for num_samples="auto"; a note says where the trace's is larger.
        max_hvps: Bound on the Hessian-vector products of one measurement.
        probes_per_block: Probes in a block of the sweep; when None 1, or 4 below 500 parameters.
        precision: "full"; "fast_float32" by faster matrix products where these lose nothing;
            "bfloat16" for a sweep with few digits, its eigenvalues refined by exact products.
        memory_limit: GiB that gradient graphs kept between products, and the sweep's vectors, may
            hold, half each; when None up to a quarter of what is free, each. Where the sweep does
            not fit it is restarted, with narrower blocks and fewer eigenvalues if need be; less
            than 13 vectors' is refused.
        basis: How the sweep's vectors are kept: "full" in the arithmetic's type, "bfloat16" in 16
            bits with wider bounds, "cpu" in the host's memory; "auto" is "full".

    Raises:
        ValueError: If an option is out of its range.

    Example:
        >>> from lightning_hessian import HessianSpectrum, Krylov
        >>> callback = HessianSpectrum(solver=Krylov(rtol=1e-3, max_hvps=400))
    """

    rtol: float = 1e-2
    trace_rtol: float = 0.05
    density_rtol: float = 1e-3
    sampling_rtol: float = 0.05
    max_hvps: int = 200
    probes_per_block: int | None = None
    precision: SweepPrecision = "full"
    memory_limit: float | None = None
    basis: BasisChoice = "auto"

    def __post_init__(self) -> None:
        for name in ("rtol", "trace_rtol", "density_rtol", "sampling_rtol"):
            check_share(name, getattr(self, name))
        check_choice("precision", self.precision, ("full", "fast_float32", "bfloat16"))
        check_choice("basis", self.basis, ("auto", "full", "bfloat16", "cpu"))
        limit = self.memory_limit
        if limit is not None and not (is_number(limit) and limit > 0):
            raise ValueError(
                "`memory_limit` must be a positive number of GiB, or None for shares of what is "
                f"free, got {limit!r}."
            )
        if not is_whole(self.max_hvps, SMALLEST_SWEEP):
            raise ValueError(
                f"`max_hvps` must be a whole number of at least {SMALLEST_SWEEP}, two blocks of "
                f"four, got {self.max_hvps!r}."
            )
        width = self.probes_per_block
        if width is not None and not (is_whole(width, 1) and width <= self.max_hvps // 2):
            raise ValueError(
                "`probes_per_block` must be a whole number from 1 to half of `max_hvps`, or None "
                f"to choose it by the number of parameters, got {width!r}."
            )

    @property
    def memory_share(self) -> int | None:
        """Bytes for kept graphs, and as many for the basis: half of ``memory_limit`` each."""
        return None if self.memory_limit is None else int(self.memory_limit * GIBIBYTE / 2)
