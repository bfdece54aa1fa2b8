"""A number with its error."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from lightning_hessian.records.output import shown
from lightning_hessian.statistics import root_with_error

ERRORS_OF_BAND = 2
"""Standard errors from a value to either end of its band."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number with its standard error.

    Attributes:
        value: The estimate.
        standard_error: Of it; ``nan`` where it is unknown.

    Example:
        >>> Estimate(value=4.0, standard_error=0.4).root
        Estimate(value=2.0, standard_error=0.1)
    """

    value: float = field(metadata=shown(""))
    standard_error: float = field(
        default=math.nan,
        metadata=shown("_standard_error", error_of="value", doc="standard error"),
    )

    @property
    def root(self) -> Estimate:
        """Its root, to first order in the error."""
        value, error = root_with_error(self.value, self.standard_error)
        return Estimate(value=value, standard_error=error)

    @property
    def with_band(self) -> EstimateWithBand:
        """The same with the ends of its band, two standard errors to each side."""
        margin = ERRORS_OF_BAND * self.standard_error
        return EstimateWithBand(
            value=self.value,
            standard_error=self.standard_error,
            interval=(self.value - margin, self.value + margin),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimateWithBand:
    """A number with its standard error and the ends of a band around it.

    Attributes:
        value: The estimate.
        standard_error: Of it.
        interval: Two standard errors below and above.
    """

    value: float = field(metadata=shown(""))
    standard_error: float = field(
        metadata=shown("_standard_error", error_of="value", doc="standard error")
    )
    interval: tuple[float, float] = field(
        metadata=shown("_lower", "_upper", error_of="value", doc="two standard errors")
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundedEstimate:
    """A number and how far the true one may be.

    Attributes:
        value: The estimate.
        bound: Of its distance to a true value.
    """

    value: float = field(metadata=shown(""))
    bound: float = field(metadata=shown("_bound", error_of="value", doc="bound of the distance"))
