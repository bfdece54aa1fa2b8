"""Hessian-vector products by central differences of gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lightning_hessian.hvp.casts import CastWatch
from lightning_hessian.hvp.difference_error import Probes, Quotient, kinked_operations
from lightning_hessian.linalg import check_block, rademacher
from lightning_hessian.loss import TrainingLoss, is_custom, node_names
from lightning_hessian.processes import any_process, enter_on_all
from lightning_hessian.records import Note, ProductQuality

FINE_STEPS = (1e-10, 1e-11, 1e-12, 1e-9)
"""Steps relative to the parameters' norm, in float64, in the order in which they are tried."""

COARSE_STEP = math.sqrt(torch.finfo(torch.float32).eps)
"""The step where gradients carry roundings of float32."""

ENOUGH = 1e-5
COARSE_LIMIT = 1e-2
SMALLEST_PARAMETER = 1e-3


class DifferenceProducts:
    """``H v ~ |v| (g(w + h u) - g(w - h u)) / 2h`` with ``u = v / |v|`` and gradients ``g``.

    For losses without a second derivative by autograd. Gradients of the loss are then taken by
    ``backward()``, which is right also for reentrant checkpointing; so the sandbox must compute
    with copies, or the user's own ``.grad`` would be written to.

    In float64 (*fine*) the step is 1e-10 of the parameters' norm. Truncation is then far below
    rounding, which is about 1e-7 of the product, and no more than a few samples come to the other
    side of a kink of a ReLU or a maximum, mostly none. Each product shows by itself whether one
    did: the gradient at ``w`` is known, and ``(g(w + h u) + g(w - h u) - 2 g(w)) / 2h`` vanishes
    but for rounding, truncation and kinks, of which it holds as much as the product does or more.
    A product that is off is taken again with another step.

    In float32 (*coarse*) the step, 3e-4 of the norm, crosses thousands of kinks. Their part of the
    difference does not shrink with the step (it is the curvature of the kinks themselves, which the
    Hessian does not have), so comparing steps does not show all of it. The two sides of a
    difference do as long as kinks are few, and a product in float64 always. A step that computes in
    float32 inside, whatever it is given, is treated in the same way.

    A product costs two gradients, and one more pair for each further step.

    Args:
        loss: Whose Hessian; to be calibrated before any product.
    """

    def __init__(self, loss: TrainingLoss) -> None:
        self._loss = loss
        self._operations: set[str] = set()
        self._base: Tensor | None = None
        self._is_fine = loss.dtype == torch.float64
        self._limit = 0.0
        self._largest_error = 0.0
        self._probes: Probes | None = None
        self._notes: tuple[Note, ...] = ()

    @property
    def size(self) -> int:
        """Number of parameters, ``n``."""
        return self._loss.size

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return self._loss.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the products."""
        return self._loss.dtype

    @property
    def graph_bytes(self) -> int:
        """None: no graph is kept."""
        return 0

    @property
    def quality(self) -> ProductQuality:
        """By differences, off by the largest error that was seen so far."""
        if self._probes is None:
            raise RuntimeError("`DifferenceProducts` must be calibrated before they are asked.")
        return ProductQuality(
            method="finite_difference",
            error=self._largest_error,
            trace_error=self._probes.trace_error(self._largest_error),
            notes=self._notes,
        )

    def calibrate(
        self, *, generator: torch.Generator, reason: str, reference: Probes | None = None
    ) -> Probes:
        """Find out what the products are off by; called once, before any product.

        Costs a gradient and about six products.

        Args:
            generator: Source of a random direction, on the CPU.
            reason: Why there are no exact products, for the notes.
            reference: Products in float64, against which coarse ones are held.

        Returns:
            The products along a few directions.

        Raises:
            RefusedError: If the products are not symmetric, or there is no loss.
            NonFiniteError: If the loss or the gradient is not finite.
        """
        self._base = self._loss.gradient().vector
        self._is_fine = self._is_fine and not self._find_casts()
        probes = self._probe(generator, reference)
        if self._is_fine and probes.error > COARSE_LIMIT * probes.scale:
            # gradients noisier than float64, or a Hessian of zero
            self._is_fine = False
            probes = self._probe(generator, reference)
        probes.refuse_asymmetry()
        self._probes = probes
        self._limit = max(ENOUGH * probes.scale, 4 * probes.error)
        self._largest_error = probes.error
        self._notes = self._describe(probes, reason, is_measured=reference is not None)
        return probes

    def matmat(self, vectors: Tensor) -> Tensor:
        """Multiply a block ``(n, b)``; two gradients each, and two more for each further step."""
        check_block(vectors, self.size)
        columns = []
        for vector in vectors.T.contiguous().double():
            norm = float(vector.norm())
            if norm == 0:
                columns.append(torch.zeros_like(vector))
                continue
            quotient = self._quotient(vector / norm)
            if self._shows_its_error:
                self._largest_error = max(self._largest_error, quotient.is_off_by)
            columns.append(norm * quotient.product)
        return torch.stack(columns).to(self.dtype).T

    def forget(self) -> None:
        """Nothing: the gradient at ``w`` is that of the parameters as they will be put back."""

    @property
    def _shows_its_error(self) -> bool:
        """Whether the two sides of a difference disagree by what it is off by, not by far more.

        In float32 a smooth function's sides disagree in proportion to the step, while the errors of
        their mean go with its square.
        """
        return self._is_fine or bool(kinked_operations(self._operations))

    def _probe(self, generator: torch.Generator, reference: Probes | None) -> Probes:
        if self._is_fine or reference is None:
            start = rademacher(self.size, 1, generator=generator, dtype=torch.float64)[:, 0]
            return Probes.along_powers(self._checked_quotient, start.to(self.device))
        return reference.compared_with(tuple(map(self._quotient, reference.directions)))

    def _quotient(self, direction: Tensor) -> Quotient:
        if not self._is_fine:
            return self._difference(direction, COARSE_STEP)
        best = self._difference(direction, FINE_STEPS[0])
        for step in FINE_STEPS[1:]:
            if best.is_off_by <= (self._limit or ENOUGH * float(best.product.norm())):
                break
            best = min(best, self._difference(direction, step), key=_length_of_error)
        return best

    def _checked_quotient(self, direction: Tensor) -> Quotient:
        """A quotient whose error is also looked for by another step."""
        quotient = self._quotient(direction)
        if self._is_fine:
            # at a kink that passes through `w` itself the two sides agree, but on 1/h
            other = self._difference(direction, FINE_STEPS[0] / 2)
            moved = replace(quotient, error=quotient.product - other.product)
            is_explained = moved.is_off_by <= 4 * (quotient.is_off_by + other.is_off_by)
            return quotient if is_explained else moved
        other = self._difference(direction, 2 * COARSE_STEP)
        # twice, as two steps have some of the kinks and roundings in common
        moved = replace(quotient, error=2 * (quotient.product - other.product))
        return max(moved, quotient, key=_length_of_error) if self._shows_its_error else moved

    def _difference(self, direction: Tensor, relative_step: float) -> Quotient:
        """The central difference, and as its error the disagreement of its two sides."""
        step = relative_step * self._length_of_parameters()
        ahead, behind = (self._gradient_at(direction, sign * step) for sign in (1, -1))
        assert self._base is not None
        eps = torch.finfo(torch.float64 if self._is_fine else torch.float32).eps
        return Quotient(
            product=(ahead - behind) / (2 * step),
            error=(ahead + behind - 2 * self._base) / (2 * step),
            # entries of `w` and of the gradients are rounded by up to half their last digit
            rounding=eps * float(ahead.norm() + behind.norm()) / (4 * step),
            lost_share=eps / (2 * relative_step),
        )

    def _gradient_at(self, direction: Tensor, step: float) -> Tensor:
        with enter_on_all(self._loss.processes, self._loss.displaced(direction, step)):
            return self._loss.gradient().vector

    def _find_casts(self) -> bool:
        """Find out if the step computes in a lower type, to whose digits a fine step is nothing.

        What happens inside a custom function leaves no node: then a gradient is taken and watched.
        """
        processes, operations = self._loss.processes, self._operations
        if any_process(processes, any("ToCopy" in name for name in operations)):
            return True
        if not any_process(processes, any(map(is_custom, operations))):
            return False
        watch = CastWatch()
        with watch:
            self._loss.gradient()
        return any_process(processes, watch.has_seen)

    def _length_of_parameters(self) -> float:
        # parameters at zero have no scale of their own
        return max(self._loss.parameters.norm(), SMALLEST_PARAMETER * math.sqrt(self.size))

    def sum_over_batches(self, length: int, add: Callable[[Tensor, int], None]) -> Tensor:
        """Sum a vector over the batches of all processes."""
        return self._loss.sum_over_batches(length, add)

    def differentiate(
        self,
        index: int,  # noqa: ARG002
        weighted: Tensor,
    ) -> Sequence[Tensor | None]:
        """By ``backward()``; the first time the operations behind the loss are looked at."""
        if self._base is None:
            self._operations |= node_names([weighted])
        tensors = self._loss.parameters.tensors
        for tensor in tensors:
            tensor.grad = None
        if any("CheckpointFunction" in name for name in self._operations):
            # refuses `inputs`
            weighted.backward()
        else:
            weighted.backward(inputs=list(tensors))
        return [tensor.grad for tensor in tensors]

    def _describe(self, probes: Probes, reason: str, *, is_measured: bool) -> tuple[Note, ...]:
        share = probes.error / probes.scale if probes.scale > 0 else 0.0
        by_differences = Note(
            "products-by-differences",
            "Hessian-vector products are central differences of gradients "
            f"({'float64' if self._is_fine else 'roundings of float32'}), off by about {share:.1e} "
            f"of the largest; every bound includes it. Reason: {reason}",
        )
        kinked = kinked_operations(self._operations)
        if not kinked or self._is_fine or is_measured:
            return (by_differences,)
        lower_bound = Note(
            "difference-error-is-lower-bound",
            f"The error of the differences is a lower bound: the loss has kinks "
            f"({', '.join(kinked)}), whose part of a difference in float32 is not a part of "
            "the Hessian and shows only against float64.",
        )
        return by_differences, lower_bound


def _length_of_error(quotient: Quotient) -> float:
    return quotient.is_off_by
