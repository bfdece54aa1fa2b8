"""Moments over samples from disjoint random batches, with their errors."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_hessian.hvp import BatchGradients, PerBatch
from lightning_hessian.statistics import widening

MOMENTS = ("gradient_variance", "hessian_variance", "loss_trace_covariance", "trace_variance")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MomentCovariance:
    """Covariance of the estimates of the four moments, in the order of ``MOMENTS``.

    Attributes:
        batches: ``(4, 4)`` over draws of the samples in the batches. The samples count as drawn
            from a population: the same ones dealt into other batches would scatter by less.
        probes: ``(4, 4)`` over draws of the probes, widened for their small number.
        both: ``(4, 4)`` what is particular to a probe in a batch, held by each of the other two.
    """

    batches: Tensor
    probes: Tensor
    both: Tensor

    def standard_error(self, weights: Tensor) -> float:
        """Of a sum of the moments with weights ``(4,)``.

        The root of the batches' part and the probes', what they share being counted once.
        """
        batches, probes, both = (
            float(weights @ part @ weights) for part in (self.batches, self.probes, self.both)
        )
        return math.sqrt(max(batches + probes - both, batches, probes))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BatchMoments:
    r"""How ``B`` batches lie around the mean of all their ``N`` samples.

    For disjoint random batches of sizes ``n_b``, whatever these are, and any quantity ``x_i`` with
    a scalar product, ``E |x_b - x|^2 = S^2 (1/n_b - 1/N)`` (a mean of draws without replacement),
    so that

        ``sum_b n_b |x_b - x|^2 / (B - 1)``

    is an unbiased estimate of ``S^2 = sum_i |x_i - x|^2 / (N - 1)``, and likewise of a covariance.
    With batches of one sample it is ``S^2`` itself.

    Attributes:
        num_samples: ``(B,)`` float64, ``n_b``.
        losses: ``(B,)`` mean loss of each batch.
        gradients: ``(B,)`` squared distance of the batch's gradient to the mean.
        hessians: ``(B,)`` squared distance of its Hessian, as far as it is known exactly.
        hessian_probes: ``(B, p)`` whose mean over probes estimates the rest of that.
        traces: ``(B,)`` trace of its Hessian, as far as it is known exactly.
        trace_probes: ``(B, p)`` whose mean over probes estimates the rest of that.
    """

    num_samples: Tensor
    losses: Tensor
    gradients: Tensor
    hessians: Tensor
    hessian_probes: Tensor
    traces: Tensor
    trace_probes: Tensor

    @classmethod
    def of(cls, table: PerBatch, count: int) -> BatchMoments:
        """Of gradients and Hessians over all parameters.

        Args:
            table: With gradients, along vectors of which the first ``count`` are orthonormal, and
                the others Rademacher probes less their part in the span of these.
            count: Number of orthonormal vectors.
        """
        gradients, hessians, traces = _gradients(table), table.along.distances, table.along.forms
        return cls(
            num_samples=table.num_samples,
            losses=gradients.losses,
            gradients=gradients.distances,
            hessians=hessians[:, :count].sum(dim=1),
            hessian_probes=hessians[:, count:],
            traces=traces[:, :count].sum(dim=1),
            trace_probes=traces[:, count:],
        )

    @classmethod
    def within(cls, table: PerBatch, count: int) -> BatchMoments:
        """Of gradients and Hessians projected onto a subspace; no probe enters.

        Args:
            table: With gradients, along vectors of which the first ``count`` are orthonormal.
            count: Dimensions of the subspace, which these span.
        """
        sizes = table.num_samples
        shares = sizes / sizes.sum()
        # of one layout however many vectors there are, on which the sums' rounding depends
        gradients = _gradients(table).projections[:, :count].contiguous()
        hessians = table.forms[:, :count, :count].contiguous()
        none = torch.empty(len(sizes), 0, dtype=torch.float64)
        mean_hessian = torch.einsum("b,bij->ij", shares, hessians)
        return cls(
            num_samples=sizes,
            losses=_gradients(table).losses,
            gradients=(gradients - shares @ gradients).square().sum(dim=1),
            hessians=(hessians - mean_hessian).square().sum(dim=(1, 2)),
            hessian_probes=none,
            traces=hessians.diagonal(dim1=1, dim2=2).sum(dim=1),
            trace_probes=none,
        )

    def moments(self) -> Tensor:
        """``(4,)`` unbiased estimates, in the order of ``MOMENTS``; needs two batches.

        A square of a trace is taken as the product of two independent probes' estimates, averaged
        over all pairs, since the square of one would hold its noise.
        """
        return self._sums(self._all_probes) / (len(self.num_samples) - 1)

    def covariance(self) -> MomentCovariance:
        """How the estimates would differ with other samples in the batches, and other probes.

        From a delete-one jackknife over the batches, over the probes and over both; all ``nan``
        with fewer than three batches, and where one or two probes leave no pair without one.
        """
        count, probes = len(self.num_samples), self._all_probes
        size = len(MOMENTS)
        nothing = torch.zeros(size, size, dtype=torch.float64)
        if count < 3:
            unknown = nothing.fill_(torch.nan)
            return MomentCovariance(batches=unknown, probes=unknown, both=unknown)
        whole, without_batch = self.moments(), self._without_each_batch(probes)
        if not len(probes):
            return MomentCovariance(batches=_jackknife(without_batch), probes=nothing, both=nothing)
        others = [probes[probes != j] for j in range(len(probes))]
        without_probe = torch.stack([self._sums(o) / (count - 1) for o in others])
        without_both = torch.stack([self._without_each_batch(o) for o in others])
        crossed = whole - without_batch - without_probe[:, None] + without_both
        cells = crossed.reshape(-1, size)
        freedom = (1 - 1 / count) * (1 - 1 / len(probes))
        return MomentCovariance(
            batches=_jackknife(without_batch),
            probes=widening(len(probes)) ** 2 * _jackknife(without_probe),
            both=freedom * cells.T @ cells,
        )

    def _without_each_batch(self, probes: Tensor) -> Tensor:
        """``(B, 4)`` the estimates from all batches but one."""
        total = self.num_samples.sum()
        # the mean moves with the batch left out, by which that one counts for more
        shares = self.num_samples * total / (total - self.num_samples)
        rest = self._sums(probes) - shares[:, None] * self._contributions(probes)
        return rest / (len(self.num_samples) - 2)

    @property
    def _all_probes(self) -> Tensor:
        return torch.arange(self.trace_probes.shape[1])

    def _sums(self, probes: Tensor) -> Tensor:
        return self.num_samples @ self._contributions(probes)

    def _contributions(self, probes: Tensor) -> Tensor:
        """``(B, 4)`` squared deviations and products of each batch, as some of the probes tell."""
        hessians, traces = self.hessians, self._centred(self.traces)
        squares, num_probes = traces.square(), len(probes)
        if num_probes:
            hessians = hessians + self.hessian_probes[:, probes].mean(dim=1)
            each = traces[:, None] + self._centred(self.trace_probes[:, probes])
            traces = each.mean(dim=1)
            pairs = each.sum(dim=1).square() - each.square().sum(dim=1)
            # nan for a single probe
            squares = pairs / torch.tensor(num_probes * (num_probes - 1), dtype=torch.float64)
        products = self._centred(self.losses) * traces
        return torch.stack([self.gradients, hessians, products, squares], dim=1)

    def _centred(self, values: Tensor) -> Tensor:
        """Less the mean over all samples, column by column."""
        weights = self.num_samples / self.num_samples.sum()
        return values - weights @ values


def _gradients(table: PerBatch) -> BatchGradients:
    assert table.gradients is not None
    return table.gradients


def _jackknife(without: Tensor) -> Tensor:
    """Covariance of an estimate from its values with one of ``m`` parts left out, ``(m, 4)``."""
    spread = without - without.mean(dim=0)
    return (len(without) - 1) / len(without) * spread.T @ spread
