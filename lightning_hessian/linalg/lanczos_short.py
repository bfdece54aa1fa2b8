"""The density from a three-term Lanczos recurrence that stores no basis."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_hessian.errors import NonFiniteError
from lightning_hessian.linalg.basis import Basis, inner_products
from lightning_hessian.linalg.krylov import ROUNDINGS
from lightning_hessian.linalg.operator import SymmetricOperator
from lightning_hessian.linalg.probes import signs_for
from lightning_hessian.linalg.wasserstein import wasserstein_distance
from lightning_hessian.records import SpectralDensity

CHECK_EVERY = 2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Recurrence:
    """Jacobi matrices of some probes on the complement of known eigenvectors.

    With ``P`` the projector onto the complement of ``d`` vectors, the measure of a probe ``z`` is
    that of ``P A P`` in ``P z``. Nodes and weights are those of its Gauss quadrature.

    Attributes:
        diagonal: ``(b, m)`` float64.
        off_diagonal: ``(b, m)``; the last column couples to what was not done any more.
        nodes: ``(b, m)`` ascending for each probe.
        weights: ``(b, m)``, rows sum to one.
        bounds: ``(b, m)``; an eigenvalue lies within this distance of each node.
        masses: ``(b,)`` squared norms ``||P z||^2``, in the mean ``n - d``.
        num_deflated: ``d``.
        size: ``n``.
        moved: Wasserstein distance between the last two tests, relative to the range.
        noise: Part of the bounds that is rounding and the products' own error.
    """

    diagonal: Tensor
    off_diagonal: Tensor
    nodes: Tensor
    weights: Tensor
    bounds: Tensor
    masses: Tensor
    num_deflated: int
    size: int
    moved: float
    noise: float

    @property
    def num_hvps(self) -> int:
        """Products spent."""
        return self.diagonal.numel()

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest node: inside the spectrum, at its ends as far as they converged."""
        return float(self.nodes.min()), float(self.nodes.max())

    def density(self, eigenvalues: Tensor, *, bandwidth: float) -> SpectralDensity:
        """The distribution of all eigenvalues, the deflated ones at their exact mass ``1/n``.

        Args:
            eigenvalues: ``(d,)`` of the deflated vectors.
            bandwidth: Standard deviation of the curve's kernel, in eigenvalue units.

        Returns:
            The density: each probe's own nodes carry ``(n - d) / n`` of its mass.

        Raises:
            ValueError: If there are not as many eigenvalues as deflated vectors.
        """
        if len(eigenvalues) != self.num_deflated:
            raise ValueError(
                f"`eigenvalues` must be those of the {self.num_deflated} deflated vectors, got "
                f"{len(eigenvalues)} of them."
            )
        count, steps = self.nodes.shape
        rest = torch.block_diag(*self.weights[:, :, None]) * (1 - self.num_deflated / self.size)
        exact = torch.full((len(eigenvalues), count), 1 / self.size, dtype=torch.float64)
        nodes = torch.cat([self.nodes.reshape(count * steps), eigenvalues.double().cpu()])
        probe_weights = torch.cat([rest, exact])
        order = nodes.argsort()
        return SpectralDensity(
            nodes=nodes[order],
            weights=probe_weights[order].mean(dim=1),
            probe_weights=probe_weights[order],
            bandwidth=bandwidth,
        )


def lanczos_recurrence(
    operator: SymmetricOperator,
    *,
    num_probes: int,
    max_steps: int,
    generator: torch.Generator,
    deflated: Basis | None = None,
    tolerance: float = 1e-3,
    extent: float | None = None,
    product_error: Callable[[], float] = lambda: 0.0,
) -> Recurrence:
    """Run Lanczos' recurrence side by side for some probes, keeping three vectors of each.

    ``b_{j+1} v_{j+1} = A v_j - a_j v_j - b_j v_{j-1}``, without reorthogonalisation. What this can
    and what it cannot tell:

    - Nodes with their weights stay the quadrature of the probe's measure to rounding: once an
      eigenvalue has converged, copies of it (ghosts) appear, whose weights together are that
      eigenvalue's (Greenbaum). Density, moments and trace are read off by weight and are not
      harmed.
    - Nodes at the ends are true: within ``b_m |s|`` of an eigenvalue (Paige).
    - The number of nodes near a value says nothing about its multiplicity: no eigenvalue is
      counted, and none is locked.

    Eigenvectors known beforehand are taken out exactly: probes start orthogonal to them, and every
    product is projected (else rounding would bring them back).

    It goes on until the distribution moves by less than the tolerance in Wasserstein distance,
    relative to its range, in two tests after another.

    Costs one product for each probe and step; memory is three blocks beyond the deflated vectors.

    Args:
        operator: Symmetric.
        num_probes: Probes ``b``, each a recurrence of its own; they share blocks of products.
        max_steps: Most steps.
        generator: Source of the probes, on the CPU.
        deflated: Orthonormal vectors to stay orthogonal to.
        tolerance: Share of the range by which the distribution may still move; 0 for all steps.
        extent: The range meant, in eigenvalue units; that of the nodes when None.
        product_error: Norm of what the products are off by, asked at the end.

    Returns:
        The Jacobi matrices and their quadratures.

    Raises:
        ValueError: If there is no probe, no step, or nothing left beside the deflated vectors.
        NonFiniteError: If a product holds NaN or infinity.

    References:
        C. C. Paige (1980), Linear Algebra Appl. 34, 235-258; A. Greenbaum (1989), Linear Algebra
        Appl. 113, 7-63; G. H. Golub, G. Meurant (2010), "Matrices, moments and quadrature",
        chapter 4; S. Ubaru, J. Chen, Y. Saad (2017), SIAM J. Matrix Anal. Appl. 38, 1075-1099.

    Example:
        >>> from lightning_hessian.linalg import DenseOperator
        >>> operator = DenseOperator(torch.diag(torch.linspace(0, 1, 1000)))
        >>> generator = torch.Generator().manual_seed(0)
        >>> found = lanczos_recurrence(operator, num_probes=4, max_steps=40, generator=generator)
        >>> density = found.density(torch.empty(0), bandwidth=0.01)
        >>> abs(density.mean - 0.5) < 0.05
        True
    """
    known = 0 if deflated is None else len(deflated)
    if num_probes < 1 or max_steps < 1:
        raise ValueError(
            f"`num_probes` and `max_steps` must be at least 1, got {num_probes} and {max_steps}."
        )
    if known >= operator.size:
        raise ValueError(
            f"`deflated` must leave something of the operator's {operator.size} dimensions, got "
            f"{known} vectors."
        )
    state = _ThreeTerms(operator, num_probes, generator, deflated)
    steps = min(max_steps, operator.size - known)
    watched = _Watch(tolerance, extent)
    while True:
        state.step()
        ended = state.num_steps == steps
        if not (ended or state.num_steps % CHECK_EVERY == 0):
            continue
        diagonal, off_diagonal = state.coefficients()
        nodes, vectors = _quadrature(diagonal, off_diagonal)
        weights = vectors[:, 0].square()
        # a recurrence that has ended goes on with zeros, which are no nodes of it
        nodes = torch.where(weights > 0, nodes, diagonal[:, :1])
        watched.watch(nodes.flatten(), weights.flatten() / num_probes)
        if watched.is_at_rest or ended:
            break
    noise = ROUNDINGS * torch.finfo(operator.dtype).eps * float(nodes.abs().max())
    noise += product_error()
    leaving = off_diagonal[:, -1:] * vectors[:, -1].abs()
    return Recurrence(
        diagonal=diagonal,
        off_diagonal=off_diagonal,
        nodes=nodes,
        weights=weights,
        bounds=leaving + noise,
        masses=state.masses,
        num_deflated=known,
        size=operator.size,
        moved=watched.moved,
        noise=noise,
    )


def _quadrature(diagonal: Tensor, off_diagonal: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors of each probe's Jacobi matrix."""
    if not bool(off_diagonal.isfinite().all() & diagonal.isfinite().all()):
        raise NonFiniteError(
            "a Hessian-vector product holds NaN or infinity. Look for a square root, a norm or "
            "a power in the loss whose curvature is infinite."
        )
    upper = torch.diag_embed(off_diagonal[:, :-1], 1)
    nodes, vectors = torch.linalg.eigh(torch.diag_embed(diagonal) + upper + upper.mT)
    return nodes, vectors


class _Watch:
    """Follows a distribution until it has moved by less than the tolerance twice in a row."""

    def __init__(self, tolerance: float, extent: float | None) -> None:
        self._tolerance, self._extent = tolerance, extent
        self._last: tuple[Tensor, Tensor] | None = None
        self._quiet = 0
        self.moved = 1.0

    @property
    def is_at_rest(self) -> bool:
        return self._quiet >= 2

    def watch(self, nodes: Tensor, weights: Tensor) -> None:
        if self._last is not None:
            extent = self._extent or float(nodes.max() - nodes.min())
            distance = wasserstein_distance(*self._last, nodes, weights)
            self.moved = distance / extent if extent > 0 else 0.0
            self._quiet = self._quiet + 1 if self.moved < self._tolerance else 0
        self._last = nodes, weights


class _ThreeTerms:
    """Two blocks of vectors, and the coefficients so far, of some recurrences side by side.

    ``masses`` ``(b,)`` are the squared norms of the probes' part in the deflated complement.
    """

    def __init__(
        self,
        operator: SymmetricOperator,
        count: int,
        generator: torch.Generator,
        deflated: Basis | None,
    ) -> None:
        self._operator, self._deflated = operator, deflated
        self._now = signs_for(operator, count, generator).T
        self._project(self._now)
        norms = _norms(self._now)
        self.masses = norms.square().cpu()
        self._now.div_(norms[:, None])
        self._before: Tensor | None = None
        self._diagonal: list[Tensor] = []
        self._off_diagonal: list[Tensor] = []

    @property
    def num_steps(self) -> int:
        """Steps done."""
        return len(self._diagonal)

    def step(self) -> None:
        """One step of every recurrence, in the order of Paige; waits for nothing on the device."""
        images = self._operator.matmat(self._now.T).T
        if self._before is None:
            rows = images.clone(memory_format=torch.contiguous_format)
        else:
            rows = self._before.mul_(-self._off_diagonal[-1][:, None]).add_(images)
        del images
        pairs = zip(rows.split(1), self._now.split(1), strict=True)
        shared = torch.cat([inner_products(*pair)[0] for pair in pairs])
        rows.addcmul_(self._now, shared[:, None].to(rows.dtype), value=-1)
        self._project(rows)
        norms = _norms(rows)
        self._before, self._now = self._now, rows
        # an invariant space ends there: what follows is zero and has no weight
        rows.div_(norms.clamp_min(torch.finfo(rows.dtype).tiny)[:, None])
        self._diagonal.append(shared)
        self._off_diagonal.append(norms)

    def coefficients(self) -> tuple[Tensor, Tensor]:
        """Diagonals and off-diagonals, ``(b, m)`` float64, by the one transfer from the device."""
        both = torch.stack([torch.stack(self._diagonal), torch.stack(self._off_diagonal)]).cpu()
        return both[0].T, both[1].T

    def _project(self, rows: Tensor) -> None:
        if self._deflated is None:
            return
        moved = rows.to(self._deflated.device)
        self._deflated.project_out(moved)
        if moved is not rows:
            rows.copy_(moved)


def _norms(rows: Tensor) -> Tensor:
    """``(b,)`` in float64: squares of large float32 products would overflow."""
    return torch.stack([torch.linalg.vector_norm(row, dtype=torch.float64) for row in rows])
