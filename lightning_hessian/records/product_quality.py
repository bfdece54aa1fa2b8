"""How Hessian-vector products are made, and what they are off by."""

from __future__ import annotations

from dataclasses import dataclass

from lightning_hessian.records.spectrum_report import HvpMethod


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
    error: float = 0.0
    trace_error: float = 0.0
    notes: tuple[str, ...] = ()


EXACT = ProductQuality()
