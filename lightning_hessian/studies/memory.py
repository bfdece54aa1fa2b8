"""What a report of a spectrum leaves to the next one, in a fit and over a resume."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Memory:
    """What a report leaves to the next one.

    Attributes:
        names: Of the parameters.
        vectors: ``(n, d)`` of its largest eigenvalues, on the CPU.
        count: Reports so far, so that probes are fresh in each.
        error: Sampling error of its largest eigenvalue; ``nan`` where it is unknown.
    """

    names: tuple[str, ...]
    vectors: Tensor
    count: int
    error: float

    def fits(self, names: tuple[str, ...], size: int) -> bool:
        """Whether the vectors are of these parameters."""
        return self.names == names and self.vectors.shape[0] == size

    def state(self) -> dict[str, Any]:
        """For a checkpoint: the leading vector only, which has the size of the weights."""
        leading = self.vectors[:, :1].clone()
        return {
            "names": list(self.names),
            "vectors": leading,
            "count": self.count,
            "error": self.error,
        }

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Memory:
        """From a checkpoint."""
        return cls(
            names=tuple(state["names"]),
            vectors=state["vectors"],
            count=state["count"],
            error=state["error"],
        )
