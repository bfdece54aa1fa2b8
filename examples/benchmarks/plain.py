"""The gradient and the Hessian in plain torch: the unit of cost, and the independent route."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from examples.benchmarks.workloads import Workload


class PlainLoss:
    """Mean loss over a workload's samples, and its derivatives by ``torch.autograd.grad``.

    Args:
        workload: What is measured.
        dtype: To compute in; another one than float32 computes with copies.
        keep: Keep the gradient's graph for all products, or compute it for each anew.
    """

    def __init__(
        self, workload: Workload, *, dtype: torch.dtype = torch.float32, keep: bool = True
    ) -> None:
        network = workload.network
        if dtype != torch.float32:
            network = copy.deepcopy(network).to(dtype)
        self._network = network
        self._criterion = workload.criterion
        self._batches = [
            (inputs.to(dtype) if inputs.is_floating_point() else inputs, targets)
            for inputs, targets in workload.batches
        ]
        self._total = workload.num_samples
        self.parameters = list(network.parameters())
        self.size = sum(p.numel() for p in self.parameters)
        self.dtype = dtype
        self.num_products = 0
        self._kept = [self._first_derivatives(i) for i in range(len(self._batches))] if keep else []

    def loss(self) -> float:
        """The mean."""
        with torch.no_grad():
            return float(sum(self._batch_loss(i) for i in range(len(self._batches))))

    def gradient(self) -> list[Tensor]:
        """One forward and one backward pass over all batches: the gradient unit."""
        pieces = [
            torch.autograd.grad(self._batch_loss(i), self.parameters)
            for i in range(len(self._batches))
        ]
        return [torch.stack(parts).sum(dim=0) for parts in zip(*pieces, strict=True)]

    def product(self, vector: Tensor) -> Tensor:
        """``H v``, both ``(n,)``."""
        self.num_products += 1
        pieces = vector.split([p.numel() for p in self.parameters])
        shaped = [v.view_as(p) for v, p in zip(pieces, self.parameters, strict=True)]
        total = torch.zeros_like(vector)
        for index in range(len(self._batches)):
            first = self._kept[index] if self._kept else self._first_derivatives(index)
            second = torch.autograd.grad(
                first, self.parameters, shaped, retain_graph=bool(self._kept)
            )
            total += torch.cat([h.flatten() for h in second])
        return total

    def dense(self, chunk: int = 128) -> Tensor:
        """``(n, n)``, from the kept graph, some rows at once."""
        rows = []
        sizes = [p.numel() for p in self.parameters]
        for unit in torch.eye(self.size, dtype=self.dtype).split(chunk):
            shaped = [
                v.view(-1, *p.shape)
                for v, p in zip(unit.split(sizes, dim=1), self.parameters, strict=True)
            ]
            total = torch.zeros_like(unit)
            for first in self._kept:
                second = torch.autograd.grad(
                    first, self.parameters, shaped, retain_graph=True, is_grads_batched=True
                )
                total += torch.cat([h.flatten(1) for h in second], dim=1)
            rows.append(total)
        return torch.cat(rows)

    def _batch_loss(self, index: int) -> Tensor:
        inputs, targets = self._batches[index]
        share = len(targets) / self._total
        loss: Tensor = self._criterion(self._network(inputs), targets)
        return share * loss

    def _first_derivatives(self, index: int) -> tuple[Tensor, ...]:
        return torch.autograd.grad(self._batch_loss(index), self.parameters, create_graph=True)
