"""The leading eigenvalue and the trace by a handful of products, following a matrix that moves."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from scipy import stats
from torch import Tensor

from lightning_hessian.errors import NonFiniteError
from lightning_hessian.linalg.basis import FullBasis, inner_products
from lightning_hessian.linalg.operator import SymmetricOperator
from lightning_hessian.linalg.orthogonalization import orthonormal_rows
from lightning_hessian.linalg.probes import signs_for
from lightning_hessian.records import TraceEstimate

SHORTEST_PROBE = 0.1
"""Of a probe's length, what at least is left of it on a complement; else there is none."""
FREEDOM = (1, 2, 4)
"""Degrees of freedom of the trace's error after 0, 1, 2 steps from its probe; known from 3 on."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Probe:
    """What of the trace's probe ``z`` is known besides the space that it is in.

    Attributes:
        length: ``|P z|`` of its part on the complement of the recycled vectors ``V``.
        controls: ``(c,)`` numbers ``c_i``, chosen without the probe, about ``u_i . A u_i`` of
            further vectors ``u_i``, orthonormal to each other and to ``V``.
        overlaps: ``(c,)`` ``u_i . z``.
        couplings: ``(c,)`` ``u_i . A P z``.
        inside: ``(k, c)`` ``Q^T u_i``.
    """

    length: float
    controls: Tensor
    overlaps: Tensor
    couplings: Tensor
    inside: Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrackedSpace:
    """A few orthonormal vectors ``Q`` and their products, found by :func:`tracked_space`.

    Attributes:
        basis: Of ``k`` vectors; each cost one product.
        images: Their products ``A Q``, in the same order.
        projection: ``(k, k)`` ``T = Q^T A Q``, float64 on the CPU.
        gram: ``(k, k)`` ``F^T F`` of ``F = (I - Q Q^T) A Q``, float64 on the CPU.
        num_recycled: How many vectors ``V`` of them, the first, were given.
        probe: The direction ``P z / |P z|`` of which, ``P = I - V V^T``, is the vector after these;
            None without a probe.
    """

    basis: FullBasis
    images: FullBasis
    projection: Tensor
    gram: Tensor
    num_recycled: int
    probe: Probe | None

    @property
    def dimension(self) -> int:
        """Number of vectors ``k``."""
        return len(self.projection)

    @property
    def is_whole(self) -> bool:
        """Whether the space is the whole of R^n."""
        return self.dimension == self.basis.size

    def residuals(self, coordinates: Tensor, values: Tensor) -> Tensor:
        """``(d,)`` ``|A y - theta y|`` of Ritz pairs with coordinates ``(k, d)``, and rounding."""
        squares = (coordinates * (self.gram @ coordinates)).sum(dim=0).clamp_min(0)
        scale = float(values.abs().max()) if len(values) else 0.0
        return squares.sqrt() + 8 * torch.finfo(self.basis.dtype).eps * scale

    def ritz(self) -> tuple[Tensor, Tensor, Tensor]:
        """Ritz values ``(k,)`` descending, coordinates ``(k, k)`` in columns, residuals."""
        values, coordinates = torch.linalg.eigh(self.projection)
        values, coordinates = values.flip(0), coordinates.flip(1)
        return values, coordinates, self.residuals(coordinates, values)

    def followed(self, coordinates: Tensor) -> Tensor:
        """Vectors ``Q c`` one power step on, free of charge: ``(n, d)`` orthonormal columns.

        The step turns the first towards the eigenvector of the largest magnitude; the others follow
        in their order.

        Args:
            coordinates: ``(k, d)``, the first vector's in the first column.

        Returns:
            In the basis's type, on its device.
        """
        rows = self.images.combine(coordinates).T.double()
        # products of a vanishing operator leave the vectors where they are
        lengths = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
        rows = torch.where(lengths > 0, rows, self.basis.combine(coordinates).T.double())
        rows = rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True)
        turned: Tensor = torch.linalg.qr(rows.T)[0]
        return turned.to(self.basis.dtype)


def tracked_space(
    operator: SymmetricOperator,
    *,
    num_products: int,
    recycled: Tensor | None = None,
    recycled_values: Tensor | None = None,
    num_recycled: int = 1,
    generator: torch.Generator,
    on_products: Callable[[int], None] | None = None,
) -> TrackedSpace:
    r"""Find the leading eigenpair from that of a matrix a little different, in a few products.

    The first block holds the recycled vectors ``V`` and a Rademacher probe's part ``P z`` on their
    complement. From there on one vector a product, a Krylov sequence started from the mixture
    ``sum_i v_i + P z / |P z|``, each new vector orthogonal to all before. The recycled vector alone
    would follow its eigenvector even where another one has overtaken it; the probe, in which every
    eigenvector has a part, finds that one at the rate of a fresh start.

    Costs ``num_products`` HVPs, fewer only where an invariant space ends the sequence.

    Args:
        operator: Symmetric.
        num_products: At least one. A single one goes to a recycled vector, if there is any.
        recycled: ``(n, d)`` guesses of leading eigenvectors, independent of the generator.
        recycled_values: ``(d,)`` their eigenvalues then: those vectors that get no product serve
            the trace's probe, see :func:`tracked_trace`.
        num_recycled: How many of the vectors, the first, get a product each.
        generator: Source of the probe, on the CPU.
        on_products: Told the number of products after each block.

    Returns:
        The space.

    Raises:
        ValueError: If no product is allowed, or the vectors do not fit.
        NonFiniteError: If a product is not finite.

    References:
        K. Wu, H. Simon (2000), SIAM J. Matrix Anal. Appl. 22, 602-616 (starting from Ritz vectors);
        A. Stathopoulos, K. Orginos (2010), SIAM J. Sci. Comput. 32, 439-462 (recycling them).

    Example:
        >>> from lightning_hessian.linalg import DenseOperator
        >>> generator = torch.Generator().manual_seed(0)
        >>> values = 1 / torch.arange(1.0, 501)
        >>> first = tracked_space(
        ...     DenseOperator(torch.diag(values)), num_products=6, generator=generator
        ... )
        >>> leading = first.followed(first.ritz()[1][:, :1])
        >>> moved = DenseOperator(torch.diag(1.1 * values))
        >>> then = tracked_space(moved, num_products=6, recycled=leading, generator=generator)
        >>> abs(float(then.ritz()[0][0]) - 1.1) < 0.02
        True
    """
    if num_products < 1:
        raise ValueError(f"`num_products` must be at least 1, got {num_products}.")
    known = _usable(recycled, operator)
    start, further = known.tensor_split([min(num_recycled, num_products)])
    builder = _Builder(operator, min(num_products, operator.size), on_products)
    signs = direction = start[:0]
    length = 0.0
    if builder.room > len(start):
        signs = signs_for(operator, 1, generator).T
        direction, length = _off(signs, start)
    builder.multiply(torch.cat([start, direction]))
    weights = torch.ones(len(builder.basis), 1, dtype=torch.float64)
    while builder.room and len(new := builder.outside(weights)):
        builder.multiply(new)
        weights = torch.zeros(len(builder.basis), 1, dtype=torch.float64)
        weights[-1] = 1
    probe = None
    if len(direction):
        image = builder.images.rows()[len(start) : len(start) + 1]
        values = torch.zeros(0) if recycled_values is None else recycled_values[len(start) :]
        further = further[: len(values)]
        probe = Probe(
            length=length,
            controls=values[: len(further)].double().cpu(),
            overlaps=inner_products(further, signs).cpu()[:, 0],
            couplings=length * inner_products(further, image).cpu()[:, 0],
            inside=inner_products(builder.basis.rows(), further).cpu(),
        )
    return builder.finished(num_recycled=len(start), probe=probe)


def tracked_trace(space: TrackedSpace, *, rtol: float) -> TraceEstimate:
    r"""Estimate the trace from the one probe in a space, without further products.

    ``tr A = tr V^T A V + tr B`` with ``B = P A P``, and ``E z^T B z = tr B``. Of the vectors
    ``u_i`` recycled without a product, with values ``c_i`` as of then, ``sum c_i ((u_i . z)^2 -
    1)`` is taken away, whose mean is zero. The estimate is unbiased whatever they are, because the
    probe is independent of them; its variance is at most ``2 (||D||_F^2 - (tr D)^2 / n)``, where
    ``D = B - sum c_i u_i u_i^T`` is small if they are still about right. (What the steps from the
    probe have found cannot be taken out so: it depends on the probe.)

    ``|D z|^2`` is unbiased for ``||D||_F^2``, but a single number, too small just where the probe
    has little of an outlier. So each Ritz pair of ``D`` counts at least once in full, and before
    three steps from the probe have been made, the interval is Student's with few degrees of
    freedom.

    Args:
        space: With a probe, or everything.
        rtol: Wanted standard error, relative to the larger of ``|tr A|`` and the sum of the
            magnitudes of the Ritz values.

    Returns:
        The estimate.

    Raises:
        ValueError: If the space holds no probe and is not everything.

    References:
        M. F. Hutchinson (1989), Commun. Stat. Simul. Comput. 18, 1059-1076; A. S. Gambhir, A.
        Stathopoulos, K. Orginos (2017), SIAM J. Sci. Comput. 39, A532-A558 (deflation).

    Example:
        >>> from lightning_hessian.linalg import DenseOperator
        >>> operator = DenseOperator(torch.diag(torch.linspace(0, 1, 300).double()))
        >>> generator = torch.Generator().manual_seed(0)
        >>> space = tracked_space(operator, num_products=4, generator=generator)
        >>> abs(tracked_trace(space, rtol=0.05).value - 150) < 20
        True
    """
    matrix, count = space.projection, space.num_recycled
    scale = float(torch.linalg.eigvalsh(matrix).abs().sum())
    freedom = math.inf
    if space.is_whole:
        value = float(matrix.trace())
        error = space.dimension * torch.finfo(space.basis.dtype).eps * scale
    elif space.probe is None:
        raise ValueError("without a probe there is no trace: allow one more product.")
    else:
        value = float(matrix[:count, :count].trace()) + _on_the_complement(space, space.probe)
        error = math.sqrt(2 * _squares_left(space, space.probe))
        steps = space.dimension - count - 1
        freedom = FREEDOM[steps] if steps < len(FREEDOM) else math.inf
    margin = float(stats.t.ppf(0.975, freedom)) * error
    return TraceEstimate(
        value=value,
        standard_error=error,
        interval=(value - margin, value + margin),
        num_probes=int(not space.is_whole),
        converged=error <= rtol * max(abs(value), scale),
    )


def _on_the_complement(space: TrackedSpace, probe: Probe) -> float:
    """The estimate of ``tr B``."""
    position = space.num_recycled
    form = probe.length**2 * float(space.projection[position, position])
    return form - float(probe.controls @ (probe.overlaps.square() - 1))


def _squares_left(space: TrackedSpace, probe: Probe) -> float:
    """The estimate of ``||D||_F^2 - (tr D)^2 / n``."""
    first, controls = space.num_recycled, probe.controls
    column = space.projection[first:, first]
    squares = probe.length**2 * float(column.square().sum() + space.gram[first, first])
    # |D z|^2 by its terms, of which that of `P A z` and those of `u_i` may cancel
    squares -= 2 * float(controls @ (probe.overlaps * probe.couplings))
    squares += float(controls.square() @ probe.overlaps.square())
    # signs do not see the diagonal, of which the mean is known
    form = probe.length**2 * float(column[0]) - float(controls @ probe.overlaps.square())
    squares -= (form / probe.length) ** 2
    beyond = probe.inside[first:]
    inner = space.projection[first:, first:] - beyond @ (controls[:, None] * beyond.T)
    values, vectors = torch.linalg.eigh(inner)
    shares = (probe.length * vectors[0]).square()
    return max(squares, 0.0) + float(values.square() @ (1 - shares).clamp_min(0))


def _usable(recycled: Tensor | None, operator: SymmetricOperator) -> Tensor:
    """Orthonormal rows in the operator's type and place."""
    if recycled is None or recycled.shape[1:] == (0,):
        return torch.zeros(0, operator.size, device=operator.device, dtype=operator.dtype)
    if recycled.dim() != 2 or recycled.shape[0] != operator.size:
        raise ValueError(
            f"`recycled` must have shape ({operator.size}, d), got {tuple(recycled.shape)}. Start "
            "afresh where the parameters are others than before."
        )
    columns = recycled.to(operator.device, torch.float64)
    orthonormal: Tensor
    orthonormal, lengths = torch.linalg.qr(columns)
    if not float(lengths.diagonal().abs().min()) > 1e-3 * float(lengths.abs().max()):
        raise ValueError("`recycled` must be linearly independent vectors of finite numbers.")
    return orthonormal.T.to(operator.dtype).contiguous()


def _off(row: Tensor, known: Tensor) -> tuple[Tensor, float]:
    """Direction of a probe on the complement ``(1, n)`` and its length; none where it is short."""
    whole = float(torch.linalg.vector_norm(row, dtype=torch.float64))
    for _ in range(2):
        row = row - inner_products(row, known).to(row.dtype) @ known
    length = float(torch.linalg.vector_norm(row, dtype=torch.float64))
    if length < SHORTEST_PROBE * whole:
        return row[:0], 0.0
    return row / length, length


class _Builder:
    """Multiplies vectors once, and keeps them with their products."""

    def __init__(
        self,
        operator: SymmetricOperator,
        capacity: int,
        on_products: Callable[[int], None] | None,
    ) -> None:
        self._operator, self._capacity, self._told = operator, capacity, on_products
        device, dtype = operator.device, operator.dtype
        self.basis, self.images = (
            FullBasis(operator.size, capacity=capacity, dtype=dtype, device=device)
            for _ in range(2)
        )

    @property
    def room(self) -> int:
        """Products left."""
        return self._capacity - len(self.basis)

    def multiply(self, rows: Tensor) -> None:
        """Add orthonormal rows, orthogonal to the others, and their products."""
        images = self._operator.matmat(rows.T).T
        if not bool(torch.isfinite(images).all()):
            raise NonFiniteError(
                "a Hessian-vector product holds NaN or infinity, while loss and gradient are "
                "finite. Look for a square root, a norm or a power whose curvature is infinite."
            )
        self.basis.append(rows)
        self.images.append(images)
        if self._told is not None:
            self._told(len(rows))

    def outside(self, weights: Tensor) -> Tensor:
        """Direction of ``A Q w`` off the basis, ``(1, n)``; ``(0, n)`` if that is rounding."""
        row = self.images.combine(weights).T.clone(memory_format=torch.contiguous_format)
        scale = float(torch.linalg.vector_norm(row, dtype=torch.float64))
        if scale == 0:
            return row[:0]
        self.basis.project_out(row)
        return orthonormal_rows(row, self.basis, scale)[0]

    def finished(self, *, num_recycled: int, probe: Probe | None) -> TrackedSpace:
        """The space of all vectors multiplied."""
        vectors, images = self.basis.rows(), self.images.rows()
        inside = inner_products(vectors, images).cpu()
        rest = images.clone()
        self.basis.project_out(rest)
        return TrackedSpace(
            basis=self.basis,
            images=self.images,
            projection=0.5 * (inside + inside.T),
            gram=inner_products(rest, rest).cpu(),
            num_recycled=num_recycled,
            probe=probe,
        )
