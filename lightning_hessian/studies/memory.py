"""What a report of a spectrum leaves to the next one, in a fit and over a resume."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from torch import Tensor

MOST = 2**31
"""Reports; their number is part of a seed."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Memory:
    """What a report leaves to the next one.

    Attributes:
        names: Of the parameters.
        vectors: ``(n, d)`` of its largest eigenvalues, on the CPU.
        count: Reports so far, so that probes are fresh in each.
        error: Sampling error of its largest eigenvalue; ``nan`` where it is unknown.
        edge: ``(n, 1)`` the leading vector as the optimiser's steps see it, on the CPU; None where
            it was not measured.
    """

    names: tuple[str, ...]
    vectors: Tensor
    count: int
    error: float
    edge: Tensor | None = None

    def fits(self, names: tuple[str, ...], size: int) -> bool:
        """Whether the vectors are of these parameters."""
        return self.names == names and self.vectors.shape[0] == size

    def state(self) -> dict[str, Any]:
        """For a checkpoint: the leading vector only, which has the size of the weights."""
        leading = self.vectors[:, :1].clone()
        edge = {} if self.edge is None else {"edge": self.edge.clone()}
        return {
            "names": list(self.names),
            "vectors": leading,
            "count": self.count,
            "error": self.error,
            **edge,
        }

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Memory:
        """From a checkpoint; a ``ValueError`` if it is not what :meth:`state` gave."""
        names, vectors = state.get("names"), state.get("vectors")
        if not _are_texts(names) or not _is_a_vector(vectors):
            raise ValueError("it remembers no eigenvector of named parameters.")
        count, error = state.get("count"), state.get("error")
        if type(count) is not int or not 0 <= count < MOST or type(error) is not float:
            raise ValueError("it remembers no number of reports and error of the last.")
        edge = state.get("edge")
        if edge is not None and not (_is_a_vector(edge) and edge.shape == vectors.shape):
            raise ValueError("it remembers no vector of the edge of stability.")
        return cls(
            names=tuple(names),
            vectors=vectors.detach(),
            count=count,
            error=error,
            edge=None if edge is None else edge.detach(),
        )


def _are_texts(names: Any) -> TypeGuard[list[str]]:
    return isinstance(names, list) and all(type(name) is str for name in names)


def _is_a_vector(vectors: Any) -> TypeGuard[Tensor]:
    """One of finite numbers or none, as :meth:`Memory.state` keeps it."""
    return (
        type(vectors) is Tensor
        and vectors.layout == torch.strided
        and vectors.device.type == "cpu"
        and vectors.is_floating_point()
        and vectors.dim() == 2
        and vectors.shape[1] <= 1
        and bool(vectors.isfinite().all())
    )
