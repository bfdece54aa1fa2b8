"""The trace: exact on a Krylov space, estimated by fresh probes on its complement."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from scipy import stats
from torch import Tensor

from lightning_hessian.linalg.block_traces import BlockTraceSums
from lightning_hessian.linalg.krylov import KrylovSpace
from lightning_hessian.linalg.operator import SymmetricOperator
from lightning_hessian.linalg.probes import rademacher
from lightning_hessian.records import TraceEstimate

NUM_PILOT = 8


def estimate_trace(
    operator: SymmetricOperator,
    *,
    rtol: float,
    max_num_probes: int,
    generator: torch.Generator,
    space: KrylovSpace | None = None,
    probes_per_block: int = 4,
    blocks: Sequence[Tensor] = (),
) -> TraceEstimate:
    """Estimate ``tr A = tr(Q^T A Q) + tr((I - QQ^T) A (I - QQ^T))``.

    The first term is known from the sweep. The second is the mean over fresh Rademacher probes
    ``z`` of ``z^T (I - QQ^T) A (I - QQ^T) z``, whose variance ``2 (||B||_F^2 - sum B_ii^2)`` holds
    only what the sweep has not found. The estimate is unbiased for any basis, converged or not,
    because the probes are independent of it.

    The number of probes is settled from the variance of a pilot of 8 (Stein's two-stage procedure),
    and raised where all probes together show a larger one. The error bar is the deviation of all
    probes, its interval Student's with the pilot's 7 degrees of freedom: it stays calibrated, where
    stopping as soon as the running error looks small would not. The pilot's variance alone (Stein)
    is not enough on spectra with outliers left, whose probes are skewed: it is small together with
    the pilot's mean, and intervals of 95 % cover the truth in 83 %.

    Costs one product for each probe.

    Args:
        operator: Symmetric.
        rtol: Wanted standard error, relative to the larger of ``|tr A|`` and the sum of the
            magnitudes of the Ritz values (a trace may cancel to nothing).
        max_num_probes: Bound on the products.
        generator: Source of the probes, on the CPU.
        space: From the sweep; None for plain Hutchinson.
        probes_per_block: Probes multiplied at a time.
        blocks: Positions of parameters, each ``(m,)``, whose diagonal block's trace is estimated
            from the same products.

    Returns:
        The estimate with its error. With one probe the error is unknown: ``nan``.

    Raises:
        ValueError: If no probe is allowed and the space is not the whole of R^n.

    References:
        M. F. Hutchinson (1989); R. A. Meyer et al. (2021), "Hutch++", algorithm 1 (with a Krylov
        basis in place of the sketch); C. Stein (1945), Ann. Math. Statist. 16, 243-258.
    """
    sums = BlockTraceSums(blocks, space)
    known = float(space.projection.trace()) if space is not None else 0.0
    if space is not None and space.is_whole:
        rounding = space.noise * math.sqrt(space.dimension)
        interval = (known - 2 * rounding, known + 2 * rounding)
        return TraceEstimate(
            value=known,
            standard_error=rounding,
            interval=interval,
            num_probes=0,
            converged=True,
            blocks=sums.estimate(),
        )
    if max_num_probes < 1:
        raise ValueError(
            f"`max_num_probes` must be at least 1, got {max_num_probes}. Raise `max_hvps`, or set "
            "`trace=False`."
        )

    def draw(count: int) -> Tensor:
        return _quadratic_forms(operator, space, sums, count, generator, probes_per_block)

    values = draw(min(NUM_PILOT, max_num_probes))
    pilot = len(values)
    if pilot == 1:
        value = known + float(values[0])
        return TraceEstimate(
            value=value,
            standard_error=math.nan,
            interval=(-math.inf, math.inf),
            num_probes=1,
            converged=False,
            blocks=sums.estimate(),
        )
    deviation = float(values.std())
    magnitudes = float(torch.linalg.eigvalsh(space.projection).abs().sum()) if space else 0.0
    target = rtol * max(abs(known + float(values.mean())), magnitudes)
    while (more := _missing_probes(deviation, target, len(values), max_num_probes)) > 0:
        values = torch.cat([values, draw(more)])
        deviation = float(values.std())
    value = known + float(values.mean())
    error = deviation / math.sqrt(len(values))
    margin = float(stats.t.ppf(0.975, pilot - 1)) * error
    return TraceEstimate(
        value=value,
        standard_error=error,
        interval=(value - margin, value + margin),
        num_probes=len(values),
        converged=error <= target,
        blocks=sums.estimate(),
    )


def _missing_probes(deviation: float, target: float, count: int, most: int) -> int:
    """How many more probes bring ``deviation / sqrt(count)`` to the target."""
    if deviation <= target * math.sqrt(count):
        return 0
    wanted = (deviation / target) ** 2 if target > 0 else math.inf
    return math.ceil(min(wanted, most)) - count


def _quadratic_forms(
    operator: SymmetricOperator,
    space: KrylovSpace | None,
    sums: BlockTraceSums,
    count: int,
    generator: torch.Generator,
    probes_per_block: int,
) -> Tensor:
    """``(count,)`` float64 values of ``z^T P A P z`` for fresh probes ``z``."""
    parts = []
    for start in range(0, count, probes_per_block):
        width = min(probes_per_block, count - start)
        probes = rademacher(
            operator.size,
            width,
            generator=generator,
            device=operator.device,
            dtype=operator.dtype,
        )
        whole = probes if sums.has_blocks else None  # else let go of before the products
        if space is not None:
            probes = space.remove_from(probes)
        images = operator.matmat(probes)
        if whole is not None:
            sums.add(whole, images)
        parts.append(_column_products(probes, images).cpu())
    return torch.cat(parts)


def _column_products(left: Tensor, right: Tensor) -> Tensor:
    """``(b,)`` float64, column by column: two vectors in double at a time, not two blocks."""
    pairs = zip(left.T, right.T, strict=True)
    return torch.stack([x.double() @ y.double() for x, y in pairs])
