"""The trace: exact on a Krylov space, estimated by fresh probes on its complement."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy import stats
from torch import Tensor

from lightning_hessian.linalg.block_traces import BlockTraceSums
from lightning_hessian.linalg.density import quadrature_weights, simple_eigenvalues
from lightning_hessian.linalg.krylov import KrylovSpace, RitzPairs
from lightning_hessian.linalg.operator import SymmetricOperator
from lightning_hessian.linalg.probes import signs_for
from lightning_hessian.records import Estimate, TraceEstimate

NUM_PILOT = 8
NORMAL = 2.2
"""Standard errors to the ends of an interval whose error is itself read off few probes."""


def estimate_trace(
    operator: SymmetricOperator,
    *,
    rtol: float,
    floor: float = 0.0,
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

    The same products give the squared Frobenius norm, with ``A Q = Q T + F``: ``||A||_F^2 =
    ||T||_F^2 + ||F||_F^2 + E |A (I - QQ^T) z|^2``.

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
            magnitudes of the eigenvalues, as far as the space tells (a trace may cancel to
            nothing).
        floor: Standard error that is enough in any case.
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

    Example:
        >>> from lightning_hessian.linalg import DenseOperator
        >>> operator = DenseOperator(torch.diag(torch.arange(100.0)))
        >>> generator = torch.Generator().manual_seed(0)
        >>> found = estimate_trace(operator, rtol=0.05, max_num_probes=100, generator=generator)
        >>> round(found.value), found.num_probes  # signs measure a diagonal exactly
        (4950, 8)
    """
    if space is not None and space.is_whole:
        return _exact_trace(space, blocks)
    if max_num_probes < 1:
        raise ValueError(
            f"`max_num_probes` must be at least 1, got {max_num_probes}. Raise `max_hvps`, or set "
            "`trace=False`."
        )
    probes = ComplementProbes(operator, space, generator, probes_per_block, blocks)
    known = float(space.projection.trace()) if space is not None else 0.0
    probes.draw(min(NUM_PILOT, max_num_probes))
    pilot = len(probes)
    if pilot == 1:
        return TraceEstimate(
            value=known + float(probes.forms[0]),
            standard_error=math.nan,
            interval=(-math.inf, math.inf),
            num_probes=1,
            converged=False,
            blocks=probes.blocks.estimate(),
            squares=_sum_of_squares(space, probes.squares),
        )
    magnitudes = _magnitudes(space) if space else 0.0
    target = max(rtol * max(abs(known + float(probes.forms.mean())), magnitudes), floor)
    while (more := _missing_probes(probes.forms, target, max_num_probes)) > 0:
        probes.draw(more)
    value = known + float(probes.forms.mean())
    error = float(probes.forms.std()) / math.sqrt(len(probes))
    margin = float(stats.t.ppf(0.975, pilot - 1)) * error
    return TraceEstimate(
        value=value,
        standard_error=error,
        interval=(value - margin, value + margin),
        num_probes=len(probes),
        converged=error <= target,
        blocks=probes.blocks.estimate(),
        squares=_sum_of_squares(space, probes.squares),
    )


def trace_of_start(
    space: KrylovSpace, ritz: RitzPairs, *, rtol: float, floor: float = 0.0
) -> TraceEstimate:
    r"""Read the trace off the products of a sweep that started from Rademacher probes.

    With ``n`` dimensions, nodes ``theta_j`` and each probe's quadrature weights ``w_j``, ``z^T A z
    = n sum_j w_j theta_j``. Eigenvalues that have converged as simple ones ("locked", as in
    :func:`spectral_density`) are known, so that the probes' part along them need not be trusted:

        ``tr A ~ sum_locked theta_j + n sum_rest w_j theta_j``,

    whose variance is at most ``2 ||B||_F^2 / b``, ``B`` being what is left, with ``||B||_F^2 ~
    sum_rest max(n w_j, (n w_j + 1) / 2) theta_j^2``; likewise the squared Frobenius norm from
    ``theta_j^2``. A node with less weight than one eigenvalue has, ``n w_j < 1``, is an outlier on
    its way to being locked: a probe that holds little of it gives it too small a value, and must
    not give it a small error as well. Halfway to the weight of one is what covers.

    Costs no product.

    Args:
        space: Grown from Rademacher probes.
        ritz: Its Ritz pairs.
        rtol: Wanted standard error, relative to the larger of ``|tr A|`` and the sum of the
            eigenvalues' magnitudes, read off in the same way.
        floor: Standard error that is enough in any case.

    Returns:
        The estimate; ``num_probes`` is 0, as none is drawn for it.

    References:
        S. Ubaru, J. Chen, Y. Saad (2017), SIAM J. Matrix Anal. Appl. 38, 1075-1099 (quadrature); R.
        A. Meyer et al. (2021), "Hutch++" (splitting off what is known).

    Example:
        >>> from lightning_hessian.linalg import DenseOperator, block_lanczos, rademacher
        >>> operator = DenseOperator(torch.diag(torch.linspace(0, 1, 1000)))
        >>> generator = torch.Generator().manual_seed(0)
        >>> space = block_lanczos(
        ...     operator,
        ...     rademacher(1000, 1, generator=generator),
        ...     max_dimension=20,
        ...     generator=generator,
        ... )
        >>> found = trace_of_start(space, RitzPairs.of(space), rtol=0.05)
        >>> abs(found.value - 500) < 3 * found.standard_error, found.num_probes
        (True, 0)
    """
    if space.is_whole:
        return _exact_trace(space, ())
    means = _Locked.of(space, ritz)
    count = space.start.shape[1]
    value = means.total(ritz.values)
    error = math.sqrt(2 * means.spread(ritz.values.square()) / count)
    target = max(rtol * max(abs(value), means.total(ritz.values.abs())), floor)
    square_error = math.sqrt(2 * means.spread(ritz.values**4) / count)
    return TraceEstimate(
        value=value,
        standard_error=error,
        interval=(value - NORMAL * error, value + NORMAL * error),
        num_probes=0,
        converged=error <= target,
        squares=Estimate(value=means.total(ritz.values.square()), standard_error=square_error),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Locked:
    """Sums over all eigenvalues of a function of them, from a quadrature."""

    weights: Tensor  # (k,) mean over probes, in eigenvalues
    locked: Tensor  # (k,) bool

    @classmethod
    def of(cls, space: KrylovSpace, ritz: RitzPairs) -> _Locked:
        weights = quadrature_weights(space, ritz)
        locked = simple_eigenvalues(weights, ritz, space.size)
        return cls(space.size * weights.mean(dim=1), locked)

    def spread(self, values: Tensor) -> float:
        """Of what is not locked, light nodes being halfway to the weight of an eigenvalue."""
        weights = torch.maximum(self.weights, (self.weights + 1) / 2)
        return float((weights * values)[~self.locked].sum())

    def total(self, values: Tensor) -> float:
        """Of all."""
        rest = (self.weights * values)[~self.locked]
        return float(values[self.locked].sum()) + float(rest.sum())


def _magnitudes(space: KrylovSpace) -> float:
    """Sum of the magnitudes of all eigenvalues, as far as the space tells."""
    ritz = RitzPairs.of(space)
    inside = float(ritz.values.abs().sum())
    if not space.start.shape[1]:
        return inside
    return max(inside, _Locked.of(space, ritz).total(ritz.values.abs()))


def _exact_trace(space: KrylovSpace, blocks: Sequence[Tensor]) -> TraceEstimate:
    """Of a space that is everything: only rounding is left."""
    value, rounding = float(space.projection.trace()), space.noise * math.sqrt(space.dimension)
    return TraceEstimate(
        value=value,
        standard_error=rounding,
        interval=(value - 2 * rounding, value + 2 * rounding),
        num_probes=0,
        converged=True,
        blocks=BlockTraceSums(blocks, space).estimate(),
        squares=_sum_of_squares(space, torch.empty(0, dtype=torch.float64)),
    )


def _sum_of_squares(space: KrylovSpace | None, squares: Tensor) -> Estimate:
    """``||A||_F^2`` from the space and the probes' ``|A P z|^2``, in which ``F^T`` is, too."""
    known = rounding = 0.0
    if space is not None:
        known = float(space.projection.square().sum() + space.outflow.square().sum())
        rounding = 2 * math.sqrt(known * space.dimension) * space.noise
    if not len(squares):
        return Estimate(value=known, standard_error=rounding)
    error = float(squares.std()) / math.sqrt(len(squares)) if len(squares) > 1 else math.nan
    return Estimate(value=known + float(squares.mean()), standard_error=math.hypot(error, rounding))


def _missing_probes(forms: Tensor, target: float, most: int) -> int:
    """How many more probes bring their mean's error to the target."""
    deviation, count = float(forms.std()), len(forms)
    if deviation <= target * math.sqrt(count):
        return 0
    wanted = (deviation / target) ** 2 if target > 0 else math.inf
    return math.ceil(min(wanted, most)) - count


class ComplementProbes:
    """Fresh sign vectors ``z`` on a space's complement, multiplied: ``A P z`` block by block.

    Whatever is estimated from the trace's products is collected in :meth:`_take`, which sees each
    block of them once: quadratic forms, squares, and blocks' traces.
    """

    def __init__(
        self,
        operator: SymmetricOperator,
        space: KrylovSpace | None,
        generator: torch.Generator,
        probes_per_block: int,
        blocks: Sequence[Tensor],
    ) -> None:
        self._operator, self._space, self._generator = operator, space, generator
        self._width = probes_per_block
        self.blocks = BlockTraceSums(blocks, space)
        self.forms = torch.zeros(0, dtype=torch.float64)
        """``(len(self),)`` values of ``z^T P A P z``."""
        self.squares = torch.zeros(0, dtype=torch.float64)
        """``(len(self),)`` values of ``|A P z|^2``."""

    def __len__(self) -> int:
        return len(self.forms)

    def draw(self, count: int) -> None:
        """Multiply some more."""
        for start in range(0, count, self._width):
            probes = signs_for(self._operator, min(self._width, count - start), self._generator)
            whole = probes if self.blocks.has_blocks else None  # else let go of before the products
            if self._space is not None:
                probes = self._space.remove_from(probes)
            self._take(whole, probes, self._operator.matmat(probes))

    def _take(self, whole: Tensor | None, probes: Tensor, images: Tensor) -> None:
        if whole is not None:
            self.blocks.add(whole, images)
        self.forms = torch.cat([self.forms, _column_products(probes, images).cpu()])
        self.squares = torch.cat([self.squares, _column_products(images, images).cpu()])


def _column_products(left: Tensor, right: Tensor) -> Tensor:
    """``(b,)`` float64, column by column: two vectors in double at a time, not two blocks."""
    pairs = zip(left.T, right.T, strict=True)
    return torch.stack([x.double() @ y.double() for x, y in pairs])
