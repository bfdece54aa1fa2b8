"""How Hessian-vector products are made, and what they are off by."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from lightning_hessian.records.note import Note
from lightning_hessian.records.output import shown

HvpMethod = Literal["exact", "finite_difference"]
"""``exact``: double backward. ``finite_difference``: central differences of gradients."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductQuality:
    """What is known of the products ``D v`` that stand for ``H v``.

    Attributes:
        method: How they are made.
        error: Estimate of ``max |D v - H v| / |v|``, in eigenvalue units. For symmetric ``D`` no
            eigenvalue is off by more (Weyl).
        trace_error: Estimate of ``|tr D - tr H|``.
        notes: What to say of it in the report.
    """

    method: HvpMethod = "exact"
    error: float = field(
        default=0.0,
        metadata=shown(
            "hvp_error",
            doc=(
                "where products are differences of gradients: what they are off by, part of every "
                "bound and of the trace's interval"
            ),
            unit="loss per squared parameter unit",
            group="errors",
        ),
    )
    trace_error: float = 0.0
    notes: tuple[Note, ...] = ()


EXACT = ProductQuality()
